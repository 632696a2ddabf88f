"""Where a deal starts: from a version of a plan, or from a template; for a customer, or as a template itself."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import link
from billing_admin.deal_rights import ADD
from billing_admin.flows.deals import create_deal, create_from
from billing_admin.flows.enable_plan import offered_plans
from billing_admin.pages import ActPage
from catalog.models import Plan, PlanVersion
from customers.journal import Actor
from customers.models import Customer
from deals.models import Deal
from deals.terms import MOST_MONTHS

PLAN, TEMPLATE = "plan", "deal"
SUGGESTED = 8


class StartForm(forms.Form):
    """Who it is for, and what it starts from."""

    customer = forms.CharField(
        max_length=200,
        required=False,
        help_text="By how the name, the id or the e-mail begins. Empty: a template for other deals.",
    )
    start = forms.ChoiceField(label="Start from")
    version = forms.IntegerField(
        label="Version of the plan", required=False, min_value=1, help_text="Empty: the current one."
    )
    name = forms.CharField(
        label="Name of the deal", max_length=200, required=False, help_text="Empty: made from customer and plan."
    )
    term_months = forms.IntegerField(label="Term, months", min_value=1, max_value=MOST_MONTHS, initial=12)

    def __init__(self, *args: Any, copied: Deal | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        copies = [("Copy", [(f"{TEMPLATE}:{copied.public_id}", copied.name)])] if copied else []
        groups = [("", "Choose a plan or a template"), *copies, *choices()]
        self.fields["start"].choices = groups  # type: ignore[attr-defined]
        attrs = {"list": "deal-customers", "autocomplete": "off", "spellcheck": "false", "data-suggest": ""}
        self.fields["customer"].widget.attrs |= attrs

    def clean_customer(self) -> Customer | None:
        words = self.cleaned_data["customer"].strip()
        if not words:
            return None
        exact = Customer.objects.open().filter(customer_id=words).first()
        found = [exact] if exact else list(Customer.objects.open().matching(words)[:2])
        if len(found) != 1:
            why = "Several customers begin like this; choose one by its id." if found else "No open customer matches."
            raise ValidationError(why, code="no_customer")
        customer: Customer = found[0]
        return customer

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        kind, _, key = said.get("start", "").partition(":")
        if not key or self.errors:
            return said
        customer = said.get("customer")
        said["source"] = said["base"] = None
        if kind == TEMPLATE:
            said["source"] = Deal.objects.select_related("base_version__plan").get(public_id=key)
            plan = said["source"].base_version.plan
        else:
            plan = Plan.objects.get(key=key)
            said["base"] = self._version(plan, said.get("version"))
        if customer is not None and plan not in offered_plans(customer):
            self.add_error("start", f"{plan.name} is not offered to {customer.name}.")
        return said

    def _version(self, plan: Plan, number: int | None) -> PlanVersion | None:
        if number is None:
            return plan.current_version
        found: PlanVersion | None = PlanVersion.objects.standard().live().filter(plan=plan, number=number).first()
        if found is None:
            self.add_error("version", f"{plan.name} has no published version {number}.")
        return found


def choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Templates first, then the plans that are billed, by product."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for deal in Deal.objects.templates().exclude(state=Deal.State.VOID).order_by("name"):
        groups.setdefault("Templates", []).append((f"{TEMPLATE}:{deal.public_id}", deal.name))
    billed = Plan.objects.on_sale().filter(kind=Plan.Kind.BILLED, is_default=False).select_related("product")
    for plan in billed.order_by("product__name", "add_on", "name"):
        groups.setdefault(plan.product.name, []).append((f"{PLAN}:{plan.key}", plan.name))
    return list(groups.items())


class StartDeal(ActPage):
    permission = ADD
    form_class = StartForm
    title = "New deal"
    submit = "Begin the deal"
    outcome = (
        "A draft that says what the plan says begins; then you change its phases, items and terms. Nobody sees it."
    )
    act_template = "deals/start.html"

    def get_form_kwargs(self) -> dict[str, Any]:
        """With the deal that this one is copied from, when the page was opened with "Copy"."""
        copied = Deal.objects.filter(public_id=self.request.GET.get("from", ""), is_template=False).first()
        return {**super().get_form_kwargs(), "copied": copied}

    def get_initial(self) -> dict[str, Any]:
        asked = self.request.GET
        initial: dict[str, Any] = {"customer": asked.get("customer", ""), "term_months": asked.get("term", 12)}
        if asked.get("plan"):
            initial["start"] = f"{PLAN}:{asked['plan']}"
        if asked.get("from"):
            initial["start"] = f"{TEMPLATE}:{asked['from']}"
        return initial

    def extra(self) -> dict[str, Any]:
        return {"customers_url": link("deal_customers")}

    def act(self, form: StartForm) -> str:
        said, customer = form.cleaned_data, form.cleaned_data["customer"]
        common: dict[str, Any] = {"actor": Actor.of(self.request.user), "now": moment(self.request)}
        if said["source"]:
            source = said["source"]
            name = said["name"] or (f"{customer.name}: {source.name}" if customer else f"Copy of {source.name}")
            deal = create_from(source, customer, name=name[:200], **common)
        else:
            plan = said["base"].plan.name
            name = said["name"] or (f"{customer.name}: {plan}" if customer else f"Template: {plan}")
            deal = create_deal(customer, said["base"], name=name[:200], term_months=said["term_months"], **common)
        return link("deal_edit", deal.public_id)

    def back(self) -> str:
        return link("deals_deal_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Deals", self.back()), ("New deal", "")]


@requires(ADD, "customers.view_customer")
def suggest_customers(request: HttpRequest) -> HttpResponse:
    """Customers whose name, id or e-mail begins like what is typed, as choices of the field."""
    words = request.GET.get("customer", "").strip()
    found = Customer.objects.open().matching(words)[:SUGGESTED] if words else ()
    return TemplateResponse(request, "deals/customers.html", {"customers": found})
