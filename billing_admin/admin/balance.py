"""The balance popup and the ledger of a balance.

The popup sets what is left of one bucket until its window ends; while somebody types, the sentence of what will be
true is asked from the same function that decides the edit.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.panels import balances_of
from billing_admin.flows.balances import Wanted, set_balance
from billing_admin.pages import render_page
from catalog.models import Feature, Plan
from catalog.money import grouped, plain
from customers.holdings import contracts_at
from customers.models import Customer, Subscription
from entitlements.balances import Bucket, Kind
from entitlements.edit import BadResetDate, BalanceEdit, NothingToEdit, plan_bucket, preview_edit
from entitlements.ledger import ledger
from entitlements.models import UNITS, Balance
from entitlements.pool import Pool
from entitlements.provision import hold, open_missing
from entitlements.readings import pool_at


@dataclass(frozen=True, slots=True)
class Choice:
    """One bucket that may be edited. `key` names its owner, so that it also holds for one that is not opened yet."""

    key: str
    place: int
    name: str
    bucket: Bucket

    @property
    def words(self) -> str:
        until = f", until {self.bucket.ends_at:%-d %b %Y}" if self.bucket.ends_at else ", never resets"
        return f"{self.name}: {grouped(self.bucket.left or 0)} left{until}"


def choices_of(there: Pool) -> list[Choice]:
    """The plans' own buckets first, then what stands beside them."""
    names = [standing.contribution.contract.plan_name for standing in there.standings]
    names += [beside.bucket.label or "Override" for beside in there.beside]
    return [
        Choice(key_of(bucket), place, name, bucket)
        for place, (name, bucket) in enumerate(zip(names, there.buckets, strict=True))
        if not bucket.unlimited
    ]


def key_of(bucket: Bucket) -> str:
    subscription_id, plan_id = bucket.owner
    if bucket.is_plan:
        return f"s{subscription_id}" if subscription_id else f"p{plan_id}"
    if bucket.kind is Kind.ROLLOVER:
        return f"r{subscription_id or plan_id}-{bucket.starts_at.timestamp():.0f}"
    return f"g{bucket.grant.id}" if bucket.grant else f"o{bucket.override_id}"


class BalanceForm(forms.Form):
    bucket = forms.ChoiceField(label="Which balance", widget=forms.RadioSelect)
    to = forms.DecimalField(
        label="New balance",
        max_digits=UNITS["max_digits"],
        decimal_places=UNITS["decimal_places"],
        help_text="Positive: more allowance. Negative: that much more to be charged.",
        widget=forms.TextInput(attrs={"inputmode": "text", "autocomplete": "off"}),
    )
    reset_at = forms.DateField(
        label="Reset date", required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(
        self, *args: Any, choices: list[Choice], chosen: Choice, priced: bool, reload_url: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        bucket = chosen.bucket
        self.fields["bucket"].choices = [(c.key, c.words) for c in choices]  # type: ignore[attr-defined]
        self.fields["bucket"].initial = chosen.key
        if len(choices) == 1:
            self.fields["bucket"].widget = forms.HiddenInput()
        elif reload_url:
            # Another bucket has other numbers: the dialog is asked for again.
            attrs = {"hx-get": reload_url, "hx-target": "#desk-dialog", "hx-trigger": "change"}
            self.fields["bucket"].widget.attrs |= attrs
        self.fields["to"].initial = plain(bucket.left or Decimal(0))
        if not priced:
            self.fields["to"].help_text = "Positive: more allowance. Negative: use is blocked; nothing is charged."
        if bucket.item.reset == "never":
            self.fields["reset_at"].widget = forms.HiddenInput()
        elif bucket.ends_at:
            self.fields["reset_at"].initial = bucket.ends_at.date()
            self.fields["reset_at"].help_text = f"As planned: {bucket.ends_at:%-d %b %Y, %H:%M} UTC."


def new_reset(bucket: Bucket, day: date | None) -> datetime | None:
    """The chosen day as an instant; the day that is planned already keeps its exact time."""
    if day is None or (bucket.ends_at and day == bucket.ends_at.astimezone(UTC).date()):
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def find(slug: str) -> Feature:
    feature = Feature.objects.filter(slug=slug).first()
    if feature is None:
        raise Http404("There is no such feature.")
    return feature


class EditBalance(CustomerAct):
    permission = "entitlements.change_balance"
    act_template = "customers/balance.html"
    form_class = BalanceForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._with_choices() or super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._with_choices() or super().post(request, *args, **kwargs)

    def _with_choices(self) -> HttpResponse | None:
        """Read the buckets there are; a sentence instead where none can be edited."""
        self.customer = find_customer(self.customer_key)
        self.feature = find(self.kwargs["feature"])
        self.there = pool_at(self.customer, moment(self.request), self.feature.slug)
        self.choices = choices_of(self.there)
        if not self.choices:
            return no_balance(self.request, self.customer, self.feature)
        asked = self.request.POST.get("bucket") or self.request.GET.get("bucket")
        self.chosen = next((c for c in self.choices if c.key == asked), None) or self._default()
        return None

    def _default(self) -> Choice:
        """The plan's own; where no plan promises any with a limit, the first there is."""
        if not any(choice.bucket.is_plan for choice in self.choices):
            return self.choices[0]
        place = plan_bucket(self.there.standings, self.feature.name)
        return next(choice for choice in self.choices if choice.place == place)

    def get_form_kwargs(self) -> dict[str, Any]:
        priced = False
        if self.chosen.bucket.is_plan:
            contract = self.there.standings[self.chosen.place].contribution.contract
            priced = self.chosen.bucket.item.price is not None and contract.terms.is_invoiced
        said = {"choices": self.choices, "chosen": self.chosen, "priced": priced}
        reload_url = link("customer_balance", self.customer.pk, self.feature.slug) if self.is_dialog else ""
        return {**super().get_form_kwargs(), **said, "reload_url": reload_url}

    def get_title(self) -> str:
        return f"{self.feature.name} balance"

    def act(self, form: BalanceForm) -> str:
        said, now = form.cleaned_data, moment(self.request)
        chosen = next(c for c in self.choices if c.key == said["bucket"])
        with transaction.atomic():  # it stays open where the edit has to be asked for
            row = opened(self.customer, chosen, self.feature, now=now)
        wanted = Wanted(
            self.feature.slug, said["to"], balance_id=row.pk, reset_at=new_reset(chosen.bucket, said["reset_at"])
        )
        try:
            set_balance(self.customer, wanted, reason=said["reason"], actor=self.actor, now=now)
        except BadResetDate as refused:
            raise ValidationError({"reset_at": refused.messages}) from refused
        return self.back()

    def extra(self) -> dict[str, Any]:
        bucket = self.chosen.bucket
        return {
            "customer": self.customer,
            "feature": self.feature,
            "bucket": bucket,
            "allowance": (bucket.granted or Decimal(0)) + bucket.adjusted,
            "bucket_name": self.chosen.name,
            "several": len(self.choices) > 1,
            "planned": planned(self.there, self.chosen, self.feature, self.request, self.request.POST),
            "preview_url": link("customer_balance_preview", self.customer.pk, self.feature.slug),
            "ledger_url": link("customer_ledger", self.customer.pk, bucket.id) if bucket.id else "",
            "custom_plan_url": custom_plan_url(self.customer, bucket)
            if allowed(self.request, "customers.enable_plan")
            else "",
        }


def opened(customer: Customer, chosen: Choice, feature: Feature, *, now: datetime) -> Balance:
    """The row of the chosen bucket; one that was only projected so far is opened now."""
    hold(customer)
    open_missing(customer, contracts_at(customer, now), now=now, merges=True)
    there = pool_at(customer, now, feature.slug)
    found = next((bucket for bucket in there.buckets if key_of(bucket) == chosen.key), None)
    if found is None or found.id is None:
        raise NothingToEdit(feature.name)
    return Balance.objects.get(pk=found.id)


def planned(there: Pool, chosen: Choice, feature: Feature, request: HttpRequest, said: Any) -> BalanceEdit | None:
    """What the numbers typed so far would make true; None while they are not numbers, or would be refused."""
    field = BalanceForm.base_fields
    try:
        to = field["to"].clean(said.get("to")) if said.get("to") else (chosen.bucket.left or Decimal(0))
        day = field["reset_at"].clean(said.get("reset_at"))
        return preview_edit(
            there,
            feature.name,
            to=to,
            now=moment(request),
            place=chosen.place,
            reset_at=new_reset(chosen.bucket, day),
        )
    except ValidationError:
        return None


@requires("entitlements.change_balance")
def preview(request: HttpRequest, key: str, feature: str) -> HttpResponse:
    """The sentence and the button for what has been typed so far."""
    customer = find_customer(key)
    asked = find(feature)
    there = pool_at(customer, moment(request), asked.slug)
    choices = choices_of(there)
    chosen = next((c for c in choices if c.key == request.GET.get("bucket")), None)
    if chosen is None:
        raise Http404("There is no such balance.")
    plan = planned(there, chosen, asked, request, request.GET)
    return TemplateResponse(
        request,
        "customers/balance_outcome.html",
        {"planned": plan, "customer": customer, "back": customer_link(customer.pk), "bucket": chosen.bucket},
    )


def no_balance(request: HttpRequest, customer: Customer, feature: Feature) -> HttpResponse:
    context = {
        "title": feature.name,
        "why": NothingToEdit(feature.name).messages[0],
        "customer": customer,
        "back": customer_link(customer.pk),
    }
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "customers/no_balance.html", context, status=404)
    trail = [(customer.name, customer_link(customer.pk)), (feature.name, "")]
    answer = render_page(request, "customers/no_balance_page.html", trail=trail, **context)
    answer.status_code = 404
    return answer


def custom_plan_url(customer: Customer, bucket: Bucket) -> str:
    """Where the allowance is changed for good: the enable page of the plan that grants it."""
    subscription_id, plan_id = bucket.owner
    if subscription_id:
        row = Subscription.objects.with_phases().get(pk=subscription_id)
        phases = row.kept_phases()
        return link("enable_plan", customer.pk, plan=phases[-1].version.plan.key, subscription=row.public_id)
    plan = Plan.objects.filter(pk=plan_id or 0, is_default=False).first()
    return link("enable_plan", customer.pk, plan=plan.key) if plan else ""


@requires("customers.view_customer")
def balance_ledger(request: HttpRequest, key: str, balance: int) -> HttpResponse:
    """Grant, edits, use per day and resets of one window: their sum is the number on the customer's page."""
    customer = find_customer(key)
    row = Balance.objects.filter(customer=customer, pk=balance).select_related("feature", "item__version__plan").first()
    if row is None:
        raise Http404("There is no such balance.")
    context = {"customer": customer, "balance": row, "lines": ledger(row), "back": customer_link(customer.pk)}
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "customers/ledger_dialog.html", context)
    trail = [
        ("Customers", link("customers_customer_changelist")),
        (customer.name, customer_link(customer.pk)),
        (f"{row.feature.name}: history of the balance", ""),
    ]
    windows = balances_of(customer, row.feature)
    return render_page(request, "customers/ledger.html", trail=trail, windows=windows, **context)
