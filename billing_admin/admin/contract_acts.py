"""Extend a trial, end it, buy other numbers of prepaid units: dialogs, or pages of their own."""

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import cached_property

from billing_admin.access import require
from billing_admin.admin.cancel import SubscriptionAct
from billing_admin.admin.enable import ENABLE, EXTEND_TRIAL, permission, said
from billing_admin.admin.links import link
from billing_admin.change_rows import headline, money_of
from billing_admin.flows.enable_plan import PreviewOutdated, confirmation, enable_plan, preview_plan
from billing_admin.flows.plan_change import PlanChange, Proposal
from billing_admin.flows.trials import MOST_DAYS, end_now, extend
from billing_admin.flows.units import propose_units, reason_of
from billing_admin.site import page
from catalog.charges import describe
from catalog.money import plain
from catalog.terms import CANCEL as ENDS
from catalog.terms import ItemTerms
from customers.models import Customer


def reason_field(act: str) -> forms.CharField:
    return forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown in the history and wherever the effect shows.",
        error_messages={"required": f"Give a reason for {act}; it is shown wherever the effect shows."},
    )


class ExtendForm(forms.Form):
    days = forms.IntegerField(label="Days from now", min_value=1, max_value=MOST_DAYS, required=False, initial=14)
    until = forms.DateField(
        label="Or until",
        required=False,
        help_text="The trial ends as this day begins (UTC).",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    reason = reason_field("a longer trial")

    @property
    def end(self) -> dict[str, Any]:
        """A day that was typed counts before the number of days that stood there."""
        day = self.cleaned_data.get("until")
        if day:
            return {"until": datetime.combine(day, time(), UTC)}
        return {"days": self.cleaned_data.get("days")}


class ExtendTrial(SubscriptionAct):
    permission = EXTEND_TRIAL
    form_class = ExtendForm
    submit = "Extend trial"

    def get_title(self) -> str:
        return f"Extend the trial of {self.plan_name}"

    def get_outcome(self) -> str:
        ends = self.subscription.trial_ends_at
        until = f"It lasts until {ends:%-d %b %Y} now. " if ends else ""
        return f"{until}Extending counts from today; the first invoice moves to the new end, and use stays free."

    def act(self, form: ExtendForm) -> str:
        try:
            operation = extend(
                self.subscription, **form.end, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now
            )
        except ValidationError as refused:
            if refused.code != "bad_trial_end":
                raise
            raise ValidationError({"until" if "until" in form.end else "days": refused}) from refused
        messages.success(self.request, f"{operation.summary}.")
        return self.back()


class EndForm(forms.Form):
    reason = reason_field("the end of a trial")


class EndTrial(SubscriptionAct):
    permission = EXTEND_TRIAL
    form_class = EndForm
    submit = "End trial now"

    def get_title(self) -> str:
        return f"End the trial of {self.plan_name} now"

    def get_outcome(self) -> str:
        if self.phase and self.phase.terms().trial_end == ENDS:
            return f"{self.plan_name} ends at once, without an invoice."
        return f"The first period of {self.plan_name} begins now and is invoiced; allowances start afresh."

    def act(self, form: EndForm) -> str:
        ended = end_now(self.subscription, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now)
        numbers = ", ".join(str(invoice) for invoice in ended.invoices)
        messages.success(self.request, f"{ended.operation.summary}.{f' Issued {numbers}.' if numbers else ''}")
        return self.back()


class UnitsForm(forms.Form):
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, items: list[ItemTerms], present: dict[str, Decimal], currency: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.items = items
        for item in items:
            assert item.price is not None and item.feature is not None
            least = item.included or Decimal(0)
            self.fields[item.key] = forms.DecimalField(
                label=f"{item.label}, units in total",
                min_value=0,
                max_digits=18,
                decimal_places=6,
                initial=plain(max(present.get(item.key, least), least)),
                help_text=describe(item.price, currency, item.feature.unit or "unit"),
                widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
            )

    @property
    def bought(self) -> dict[str, Decimal]:
        return {item.key: self.cleaned_data[item.key] for item in self.items if item.key in self.cleaned_data}


class BuyUnits(SubscriptionAct):
    """Another number of prepaid units; it shows what that costs before it is done."""

    form_class = UnitsForm
    act_template = "enable/buy_units.html"
    submit = "Change units"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        assert self.phase is not None
        self.permission = ENABLE if self.phase.version.tailored else permission(self.phase.version.plan)
        return super().dispatch(request, *args, **kwargs)

    def get_title(self) -> str:
        return f"Prepaid units of {self.plan_name}"

    @cached_property
    def items(self) -> list[ItemTerms]:
        assert self.phase is not None
        return [item for item in self.phase.terms().items if item.is_prepaid and item.feature]

    def get_form_kwargs(self) -> dict[str, Any]:
        assert self.phase is not None
        present = self.phase.bought_units()
        more = {"items": self.items, "present": present, "currency": self.phase.version.plan.currency}
        return super().get_form_kwargs() | more

    def proposal(self, form: UnitsForm) -> Proposal:
        customer = Customer.objects.get(pk=self.customer.pk)
        return propose_units(customer, self.subscription, form.bought, now=self.now)

    def happens(self, form: UnitsForm) -> dict[str, Any]:
        """What the typed units come to; or why they cannot be."""
        if not form.is_bound or not form.is_valid():
            return {"happens": "Type how many units there are to be in total."}
        try:
            change = preview_plan(self.customer, self.proposal(form), now=self.now)
        except ValidationError as refused:
            return {"happens": said(refused)}
        return self.shown(change)

    def shown(self, change: PlanChange) -> dict[str, Any]:
        money = money_of(change.documents, change.currency)
        upcoming = money_of(change.next_invoice.documents, change.currency)
        return {
            "happens": f"{change.why}.",
            "money": money,
            "next_at": change.next_invoice.at,
            "upcoming": upcoming,
            "confirmed": confirmation(change),
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return context | self.happens(context["form"]) | {"preview_url": self._preview_url}

    @property
    def _preview_url(self) -> str:
        return link("buy_units_preview", self.subscription.public_id)

    def form_valid(self, form: UnitsForm) -> HttpResponse:
        if not form.cleaned_data.get("confirmed") or self.request.POST.get("act") == "preview":
            return self.render_to_response(self.get_context_data(form=form))
        return super().form_valid(form)

    def act(self, form: UnitsForm) -> str:
        proposal = self.proposal(form)
        try:
            enabled = enable_plan(
                self.customer,
                proposal,
                reason=reason_of(self.subscription, now=self.now),
                actor=self.actor,
                now=self.now,
                confirmed=form.cleaned_data["confirmed"],
            )
        except PreviewOutdated as outdated:
            raise ValidationError(said(outdated)) from outdated
        messages.success(self.request, headline(enabled.change, self.customer.name))
        return self.back()


class BuyUnitsPreview(BuyUnits):
    """What the typed units come to, alone: for the dialog while somebody types."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, *([self.permission] if isinstance(self.permission, str) else self.permission))
        return TemplateResponse(request, "enable/units_outcome.html", self.happens(self.get_form()))


page("subscriptions/<str:public_id>/trial/extend/", name="extend_trial")(ExtendTrial.as_view())
page("subscriptions/<str:public_id>/trial/end/", name="end_trial")(EndTrial.as_view())
page("subscriptions/<str:public_id>/units/", name="buy_units")(BuyUnits.as_view())
page("subscriptions/<str:public_id>/units/preview/", name="buy_units_preview")(BuyUnitsPreview.as_view())
