"""Coupons on a customer: add one and see what the next invoices would be, take one off."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import F, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.flows.coupons import BEGINS, Begins, find_offer
from billing_admin.flows.rewards import apply_coupon, preview_coupon, remove
from billing_admin.reward_rows import rewards_of
from catalog.coupons import gives, lasts
from catalog.models import Coupon
from customers.models import AppliedCoupon, Customer, Subscription
from invoicing.rewards import DISCOUNTS

APPLY = "customers.apply_coupon"
MOST_OFFERED = 200


class AddCouponForm(forms.Form):
    code = forms.CharField(
        label="Coupon or promo code",
        max_length=60,
        help_text="Begin to type a name, or paste a code.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "list": "coupons-offered", "autofocus": True}
        ),
    )
    at = forms.ChoiceField(
        label="When", choices=list(BEGINS.items()), initial=Begins.NEXT_INVOICE, widget=forms.RadioSelect
    )
    subscription = forms.ChoiceField(label="For", required=False)
    reason = forms.CharField(
        label="Reason", required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, contracts: list[Subscription], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "Every product"), *((c.public_id, c.product.name) for c in contracts)]
        self.fields["subscription"].choices = choices  # type: ignore[attr-defined]
        if len(contracts) < 2:
            self.fields["subscription"].widget = forms.HiddenInput()

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        try:
            find_offer(code)
        except ValidationError as unknown:
            raise unknown from None
        return code


def contracts_of(customer: Customer) -> list[Subscription]:
    return list(customer.subscriptions.live().select_related("product"))


def offered(request: HttpRequest) -> list[dict[str, str]]:
    """What the field suggests: coupons that can be redeemed, the newest first."""
    now = moment(request)
    rows = Coupon.objects.offered().filter(Q(redeem_by=None) | Q(redeem_by__gt=now))
    rows = rows.select_related("free_plan__product", "feature").order_by(F("id").desc())[:MOST_OFFERED]
    return [{"code": row.code, "words": f"{row.name}: {gives(row)}, {lasts(row)}"} for row in rows]


class AddCoupon(CustomerAct):
    permission = APPLY
    title = "Add coupon"
    form_class = AddCouponForm
    act_template = "customers/coupon.html"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "contracts": contracts_of(self.customer)}

    def extra(self) -> dict[str, Any]:
        return {
            "customer": self.customer,
            "offered": offered(self.request),
            "preview_url": link("customer_coupon_preview", self.customer.pk),
            **shown(self.request, self.customer, self.request.POST),
        }

    def act(self, form: AddCouponForm) -> str:
        said = form.cleaned_data
        applied = apply_coupon(
            self.customer,
            said["code"],
            subscription=_contract(self.customer, said["subscription"]),
            at=said["at"],
            reason=said["reason"],
            actor=self.actor,
            now=moment(self.request),
        )
        messages.success(self.request, f"{self.customer.name} has {applied.coupon.name} now.")
        return self.back()


def _contract(customer: Customer, public_id: str) -> Subscription | None:
    return next((c for c in contracts_of(customer) if c.public_id == public_id), None)


def shown(request: HttpRequest, customer: Customer, said: Any) -> dict[str, Any]:
    """What the coupon typed so far would do: the next invoices without and with it, or why it is refused."""
    code = str(said.get("code", "")).strip()
    if not code:
        return {"asked": None}
    try:
        coupon = find_offer(code).coupon
        at = said.get("at") if said.get("at") in BEGINS else Begins.NEXT_INVOICE
        contract = _contract(customer, str(said.get("subscription", "")))
        found = preview_coupon(customer, code, subscription=contract, at=str(at), now=moment(request))
    except ValidationError as refused:
        return {"asked": code, "why_not": " ".join(refused.messages)}
    return {
        "asked": code,
        "coupon": coupon,
        "sentence": sentence(coupon, str(at), bool(found)),
        "invoices": found if coupon.kind in DISCOUNTS or coupon.kind == Coupon.Kind.INVOICE_CREDIT else [],
    }


def sentence(coupon: Coupon, at: str, bills: bool) -> str:
    """What will be true afterwards."""
    given = f"{gives(coupon)}, {lasts(coupon)}"
    if coupon.kind not in DISCOUNTS and coupon.kind != Coupon.Kind.INVOICE_CREDIT:
        return f"{given}, from now on. No invoice changes."
    if at == Begins.ENABLE:
        return f"{given}. It begins with the next plan that is enabled; invoices before it stay whole."
    if not bills:
        return f"{given}. No invoice is in sight; it comes off the next one."
    if coupon.kind in DISCOUNTS and coupon.duration == Coupon.Duration.ONCE:
        return f"{gives(coupon)} the next invoice."
    return f"{given}, from the next invoice on."


@requires(APPLY)
def preview(request: HttpRequest, key: str) -> HttpResponse:
    """The next invoices without and with the coupon typed so far, and the button."""
    customer = find_customer(key)
    context = {"back": customer_link(customer.pk), **shown(request, customer, request.GET)}
    return TemplateResponse(request, "customers/coupon_outcome.html", context)


class RemoveCoupon(CustomerAct):
    permission = APPLY
    danger = True

    class Form(forms.Form):
        reason = forms.CharField(
            label="Reason", required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
        )

    form_class = Form

    @property
    def applied(self) -> AppliedCoupon:
        rows = AppliedCoupon.objects.select_related("coupon").filter(customer=self.customer)
        found: AppliedCoupon | None = rows.filter(public_id=self.kwargs["applied"]).first()
        if found is None:
            raise Http404("There is no such coupon.")
        return found

    def get_title(self) -> str:
        return f"Remove {self.applied.coupon.name}"

    def get_outcome(self) -> str:
        kind = self.applied.coupon.kind
        if kind == Coupon.Kind.FREE_PRODUCT:
            return "The free product ends now."
        if kind == Coupon.Kind.FEATURE_GRANT:
            return "What is left of the units is gone; what was used stays used."
        if kind == Coupon.Kind.INVOICE_CREDIT:
            return "What is left of the money is gone. Invoices that had some of it keep it."
        return "The next invoice is whole again. Invoices that had the discount keep it."

    def act(self, form: Any) -> str:
        remove(self.applied, reason=form.cleaned_data["reason"], actor=self.actor, now=moment(self.request))
        return self.back()


def panel(request: HttpRequest, customer: Customer) -> list[dict[str, Any]]:
    """The rewards of the sidebar."""
    return [
        {"row": row, "remove_url": link("customer_coupon_remove", customer.pk, row.applied.public_id)}
        for row in rewards_of(customer, now=moment(request))
    ]
