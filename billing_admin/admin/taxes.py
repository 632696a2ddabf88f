"""Taxes on the desk: the account's named rates, and which of them a customer or a plan has."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import CustomerAct, moment
from billing_admin.admin.links import link
from billing_admin.pages import ActPage, dress, render_page
from billing_admin.site import page
from catalog.models import Plan
from customers.journal import Actor
from invoicing.models import TaxAssignment, TaxExemption, TaxRate
from invoicing.tax import BadRate, archive_rate, create_rate, set_default, tax_customer, tax_plan, words

ADD = "invoicing.add_taxrate"
CHANGE = "invoicing.change_taxrate"
ASSIGN = "invoicing.change_taxassignment"


def at_its_field(refused: BadRate) -> ValidationError:
    field = "rates" if refused.field == "tax_rate_ids" else refused.field
    return ValidationError({field: refused.messages})


# The rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RateRow:
    rate: TaxRate
    kind: str
    customers: int
    plans: int
    default_url: str
    archive_url: str


SHOWN = {"": "In use", "archived": "Archived", "all": "All"}


class RateFilter(forms.Form):
    shown = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "Which"})
    )

    def narrowed(self, rates: QuerySet[TaxRate]) -> QuerySet[TaxRate]:
        shown = self.cleaned_data["shown"] if self.is_valid() else ""
        return rates if shown == "all" else rates.filter(archived_at__isnull=shown != "archived")


@requires("invoicing.view_taxrate")
def rate_list(request: HttpRequest) -> HttpResponse:
    form = RateFilter(request.GET)
    dress(form)
    rates = form.narrowed(TaxRate.objects.order_by("name", "percent", "id")).annotate(
        customers=Count("assignments", filter=Q(assignments__customer__isnull=False)),
        plans=Count("assignments", filter=Q(assignments__plan__isnull=False)),
    )
    may = allowed(request, CHANGE)
    rows = [
        RateRow(
            rate=rate,
            kind="within the price" if rate.inclusive else "on top of the price",
            customers=rate.customers,
            plans=rate.plans,
            default_url=link("tax_rate_default", rate.pk) if may and not rate.archived_at else "",
            archive_url=link("tax_rate_archive", rate.pk) if may and not rate.archived_at else "",
        )
        for rate in rates
    ]
    return render_page(
        request,
        "taxes/list.html",
        trail=[("Tax rates", "")],
        form=form,
        rows=rows,
        narrowed=bool(request.GET.get("shown")),
        new_url=link("tax_rate_add") if allowed(request, ADD) else "",
    )


class RateForm(forms.Form):
    name = forms.CharField(
        max_length=60,
        help_text="What customers read: VAT, Sales tax.",
        widget=forms.TextInput(attrs={"autofocus": True}),
    )
    percent = forms.DecimalField(max_digits=7, decimal_places=4, min_value=0, max_value=100)
    inclusive = forms.ChoiceField(
        label="How it counts",
        choices=[("", "On top of the prices"), ("yes", "Within the prices")],
        required=False,
        widget=forms.RadioSelect,
        initial="",
    )
    region = forms.CharField(max_length=60, required=False, help_text="For you; customers do not read it.")
    is_default = forms.BooleanField(label="For whoever has no rate of their own, nor their plan", required=False)


class RateAct(ActPage):
    def back(self) -> str:
        return link("invoicing_taxrate_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Tax rates", self.back()), (self.get_title(), "")]

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)


class NewRate(RateAct):
    permission = ADD
    form_class = RateForm
    title = "New tax rate"
    submit = "Create tax rate"
    outcome = "A rate is archived, not edited: documents keep the rate they were issued with."

    def act(self, form: RateForm) -> str:
        said = form.cleaned_data | {"inclusive": form.cleaned_data["inclusive"] == "yes"}
        try:
            rate = create_rate(**said, actor=self.actor, now=moment(self.request))
        except BadRate as refused:
            raise at_its_field(refused) from refused
        messages.success(self.request, f"{words(rate)} can be used now.")
        return self.back()


class OneRate(RateAct):
    permission = CHANGE

    @cached_property
    def rate(self) -> TaxRate:
        found = TaxRate.objects.filter(pk=self.kwargs["pk"]).first()
        if found is None:
            raise Http404("There is no such tax rate.")
        return found


class DefaultRate(OneRate):
    def get_title(self) -> str:
        return f"{words(self.rate)} for {'no longer everybody' if self.rate.is_default else 'everybody'}"

    def get_submit(self) -> str:
        return "Stop using it by default" if self.rate.is_default else "Use it by default"

    def get_outcome(self) -> str:
        who = "whoever has no rate of their own, nor their plan"
        verb = "no longer applies" if self.rate.is_default else "applies"
        return f"From the next document on it {verb} to {who}. What is issued stays."

    def act(self, form: forms.Form) -> str:
        set_default(self.rate, is_default=not self.rate.is_default, actor=self.actor, now=moment(self.request))
        return self.back()


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class ArchiveRate(OneRate):
    form_class = ReasonForm
    submit = "Archive tax rate"
    danger = True

    def get_title(self) -> str:
        return f"Archive {words(self.rate)}"

    def get_outcome(self) -> str:
        n = self.rate.assignments.count()
        held = (
            f" It is assigned {n} time{'s' if n != 1 else ''}; those get their plan's or the account's rates."
            if n
            else ""
        )
        return f"Documents from now on go without it. What is issued keeps it.{held}"

    def act(self, form: ReasonForm) -> str:
        archive_rate(self.rate, reason=form.cleaned_data["reason"], actor=self.actor, now=moment(self.request))
        return self.back()


@admin.register(TaxRate)
class TaxRateAdmin(ModelAdmin):
    """The frame around our own pages: the list, a new rate, its acts."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [
            path("", inside(rate_list), name="invoicing_taxrate_changelist"),
            path("add/", inside(NewRate.as_view()), name="tax_rate_add"),
            path("<int:pk>/default/", inside(DefaultRate.as_view()), name="tax_rate_default"),
            path("<int:pk>/archive/", inside(ArchiveRate.as_view()), name="tax_rate_archive"),
        ]


# Who has which --------------------------------------------------------------------------------------------------------


class RatesField(forms.ModelMultipleChoiceField):
    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Any) -> str:
        return f"{words(obj)}{f' · {obj.region}' if obj.region else ''}{' · default' if obj.is_default else ''}"


def rates_field(**initial: Any) -> RatesField:
    live = TaxRate.objects.filter(archived_at=None)
    return RatesField(queryset=live, required=False, label="Rates of their own", **initial)


def assigned(**whose: Any) -> list[TaxRate]:
    rows = TaxAssignment.objects.filter(**whose, rate__archived_at=None).select_related("rate").order_by("rate_id")
    return [row.rate for row in rows]


class CustomerTaxForm(forms.Form):
    rates = rates_field(help_text="None: those of the plan, else the account's.")
    exempt = forms.BooleanField(label="Exempt: no tax at all", required=False)
    reason = forms.CharField(
        label="Why they are exempt",
        required=False,
        max_length=500,
        help_text="An auditor will ask: reverse charge, a certificate and its number.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("exempt") and not (said.get("reason") or "").strip():
            self.add_error("reason", "Give the reason that an auditor will ask for.")
        return said


class TaxCustomer(CustomerAct):
    permission = ASSIGN
    form_class = CustomerTaxForm
    submit = "Save taxes"
    outcome = "It holds for documents from now on; what is issued keeps its taxes."

    def get_title(self) -> str:
        return f"Taxes of {self.customer.name}"

    def get_initial(self) -> dict[str, Any]:
        exemption = TaxExemption.objects.filter(customer=self.customer, ended_at=None).first()
        return {
            "rates": [rate.pk for rate in assigned(customer=self.customer)],
            "exempt": exemption is not None,
            "reason": exemption.reason if exemption else "",
        }

    def act(self, form: CustomerTaxForm) -> str:
        said = form.cleaned_data
        because = said["reason"] if said["exempt"] else None
        try:
            tax_customer(
                self.customer, said["rates"], exempt_because=because, actor=self.actor, now=moment(self.request)
            )
        except BadRate as refused:
            raise at_its_field(refused) from refused
        return self.back()


class PlanTaxForm(forms.Form):
    rates = rates_field(help_text="For whoever has no rates of their own. None: the account's.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rates"].label = "Rates of this plan"


class TaxPlan(ActPage):
    permission = ASSIGN
    form_class = PlanTaxForm
    submit = "Save taxes"
    outcome = "It holds for documents from now on; what is issued keeps its taxes."

    @cached_property
    def plan(self) -> Plan:
        found = Plan.objects.filter(pk=self.kwargs["pk"]).first()
        if found is None:
            raise Http404("There is no such plan.")
        return found

    def get_title(self) -> str:
        return f"Taxes of {self.plan.name}"

    def back(self) -> str:
        return link("catalog_plan_change", self.plan.pk)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Plans", link("catalog_plan_changelist")),
            (self.plan.name, self.back()),
            (self.get_title(), ""),
        ]

    def get_initial(self) -> dict[str, Any]:
        return {"rates": [rate.pk for rate in assigned(plan=self.plan)]}

    def act(self, form: PlanTaxForm) -> str:
        actor = Actor.of(self.request.user)
        try:
            tax_plan(self.plan, form.cleaned_data["rates"], actor=actor, now=moment(self.request))
        except BadRate as refused:
            raise at_its_field(refused) from refused
        return self.back()


page("taxes/customer/<str:key>/", name="customer_taxes")(TaxCustomer.as_view())
page("taxes/plan/<int:pk>/", name="plan_taxes")(TaxPlan.as_view())
