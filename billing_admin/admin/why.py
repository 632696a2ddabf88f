"""Why may they, or may they not: the story of an answer, now or at an earlier instant, with the rows behind it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.enable import ASSIGN, ENABLE
from billing_admin.admin.events import VIEW as SEE_EVENTS
from billing_admin.admin.links import customer_link, link
from billing_admin.api.upgrades import upgrade_to
from billing_admin.event_search import LONGEST
from billing_admin.flows.explain import Rows, explain_use, rows_behind
from billing_admin.pages import dress, render_page
from billing_admin.site import page
from catalog.models import Feature, Plan
from catalog.money import plain
from catalog.terms import METERED
from customers.contracts import Contract
from customers.models import Customer
from entitlements.access import INSUFFICIENT_FUNDS
from entitlements.explain import Applied, Contributor, Decider, Explanation, Given, Limit, Rule
from entitlements.models import UNITS

RULES = {
    Rule.NONE: "Nothing that is in force gives it.",
    Rule.ANY: "One that switches it on is enough.",
    Rule.LARGEST: "The largest number counts.",
    Rule.FIRST: "Texts cannot be added up: the main plan's counts, then the oldest one's.",
    Rule.SUM: "Balances are added up. A bonus stands beside the limit.",
    Rule.UNLIMITED: "One without a limit lifts it for all.",
    Rule.OVERRIDE: "An override has the last word.",
}
LIMITS = {
    Limit.HARD: "The limit is hard: what fits in no balance is refused.",
    Limit.SOFT: "The limit is soft: what fits in no balance is counted all the same.",
    Limit.PRICED: "Use beyond the balances is paid for.",
}
DECIDERS = {
    Decider.NOTHING: "Nothing gives it",
    Decider.OVERRIDE: "An override",
    Decider.MERGE: "What the plans say",
    Decider.UNLIMITED: "No limit",
    Decider.BALANCE: "What is left",
    Decider.BEYOND: "Use beyond what is left",
    Decider.LIMIT: "The limit",
    Decider.MAX_OVERAGE: "The most that may go beyond",
    Decider.WALLET: "The wallet",
}


class WhyForm(forms.Form):
    """What is asked; lives in the address."""

    feature = forms.ModelChoiceField(
        Feature.objects.all(),
        to_field_name="slug",
        empty_label="Choose a feature",
        widget=forms.Select(attrs={"aria-label": "Feature"}),
    )
    required = forms.DecimalField(
        required=False,
        min_value=Decimal(0),
        max_digits=UNITS["max_digits"],
        decimal_places=UNITS["decimal_places"],
        label="Units",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "size": 8}),
    )
    at = forms.DateTimeField(
        required=False,
        label="As of (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def __init__(self, asked: QueryDict) -> None:
        asked = asked.copy()
        if not asked.get("required"):
            asked["required"] = "1"
        super().__init__(asked)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan in force, with the page of its version."""

    contract: Contract
    name: str
    version: str
    url: str
    found: Contributor | None = None


@dataclass(frozen=True, slots=True)
class OverrideRow:
    applied: Applied
    level: str
    url: str

    @property
    def effect(self) -> str:
        """What it did: nothing to say where its value simply replaces another."""
        applied, override = self.applied, self.applied.override
        if applied.is_outvoted:
            return "has no say: the customer's override decides"
        if override.closes:
            return "closes it"
        if applied.adds is None:
            return "lifts the limit"
        if applied.adds:
            return f"adds {plain(applied.adds)}"
        if applied.takes or applied.limits:
            return f"takes {plain(applied.takes)}" if applied.takes else "sets a limit"
        if override.feature.type != METERED:
            return "replaces it"
        return (
            "changes nothing"
            if override.describe() == applied.instead_of
            else "takes nothing: no unused units are left"
        )


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A balance with its ledger, and the events that used it."""

    given: Given
    ledger_url: str
    events_url: str

    @property
    def by_hand(self) -> Decimal:
        """What was added or taken, without what an override withholds."""
        return self.given.bucket.adjusted + self.given.bucket.withheld


@dataclass(frozen=True, slots=True)
class UpgradeRow:
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Story:
    """An explanation as plain rows."""

    found: Explanation
    is_past: bool
    contributors: tuple[PlanRow, ...]
    silent: tuple[PlanRow, ...]
    overrides: tuple[OverrideRow, ...]
    buckets: tuple[BucketRow, ...]
    upgrades: tuple[UpgradeRow, ...]

    @property
    def is_metered(self) -> bool:
        return self.found.feature.type == METERED

    @property
    def decided_by(self) -> str:
        return DECIDERS[self.found.decided_by]

    @property
    def rule(self) -> str:
        return RULES[self.found.merge.rule]

    @property
    def limit(self) -> str:
        beyond = self.found.beyond
        return LIMITS[beyond.limit] if beyond else ""

    @property
    def is_of_wallet(self) -> bool:
        return self.found.reason == INSUFFICIENT_FUNDS


@page("customers/customer/<str:key>/why/", name="customer_why", methods=("GET",))
@requires("customers.view_customer")
def why(request: HttpRequest, key: str) -> HttpResponse:
    """A dialog where a script asked for it; else a page of its own."""
    customer, now = find_customer(key), moment(request)
    form = WhyForm(request.GET)
    is_asked = bool(request.GET.get("feature"))
    told = story(request, customer, form, now=now) if is_asked and form.is_valid() else None
    if not is_asked:
        form.errors.clear()
    dress(form)
    context: dict[str, Any] = {
        "customer": customer,
        "form": form,
        "story": told,
        "action": link("customer_why", customer.pk),
        "back": customer_link(customer.pk),
    }
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "customers/why_dialog.html", context | {"dialog": True})
    trail = [
        ("Customers", link("customers_customer_changelist")),
        (customer.name, customer_link(customer.pk)),
        (f"Why: {told.found.feature.name}" if told else "Why?", ""),
    ]
    return render_page(request, "customers/why.html", trail=trail, **context)


def story(request: HttpRequest, customer: Customer, form: WhyForm, *, now: datetime) -> Story | None:
    """None where nothing can be told; the form says why not."""
    said = form.cleaned_data
    at: datetime | None = said["at"]
    try:
        found = explain_use(customer, said["feature"].slug, now=now, required=said["required"], at=at)
    except ValidationError as refused:
        form.add_error("at", refused)
        return None
    rows, is_past = rows_behind(found), at is not None and at != now
    sees_events = allowed(request, SEE_EVENTS)
    return Story(
        found=found,
        is_past=is_past,
        contributors=tuple(plan_row(c.contract, rows, c) for c in found.contributors),
        silent=tuple(plan_row(contract, rows) for contract in found.silent),
        overrides=tuple(override_row(applied, customer, found) for applied in found.overrides),
        buckets=tuple(bucket_row(given, customer, found, sees_events=sees_events) for given in found.buckets),
        upgrades=() if is_past or found.allowed else upgrade_rows(request, customer, found, now=now),
    )


def plan_row(contract: Contract, rows: Rows, found: Contributor | None = None) -> PlanRow:
    version = rows.version(contract)
    name = found.name if found else contract.plan_name
    if version is None:
        return PlanRow(contract, name, "", "", found)
    query = {} if version.tailored else {"version": version.number}
    return PlanRow(contract, name, version.label, link("catalog_plan_change", version.plan_id, **query), found)


def override_row(applied: Applied, customer: Customer, found: Explanation) -> OverrideRow:
    contracts = [*(c.contract for c in found.contributors), *found.silent]
    names = {contract.subscription_id: contract.plan_name for contract in contracts}
    override = applied.override
    level = "of the customer" if override.is_of_customer else f"on {names.get(override.subscription_id, 'a plan')}"
    register = link("entitlements_featureoverride_changelist", customer=customer.pk, shown="all")
    return OverrideRow(applied, level, register)


def bucket_row(given: Given, customer: Customer, found: Explanation, *, sees_events: bool) -> BucketRow:
    bucket = given.bucket
    ledger_url = link("customer_ledger", customer.pk, bucket.id) if bucket.id else ""
    if not sees_events or not bucket.used:
        return BucketRow(given, ledger_url, "")
    until = min(found.at, bucket.ends_at - timedelta(microseconds=1) if bucket.ends_at else found.at)
    since = max(bucket.starts_at, until - LONGEST + timedelta(days=1))
    days = {"since": since.date().isoformat(), "until": until.date().isoformat()}
    return BucketRow(given, ledger_url, link("customer_events", customer.pk, feature=found.feature.slug, **days))


def upgrade_rows(
    request: HttpRequest, customer: Customer, found: Explanation, *, now: datetime
) -> tuple[UpgradeRow, ...]:
    if found.reason == INSUFFICIENT_FUNDS or customer.closed_at is not None:
        return ()

    def url(plan: Plan) -> str:
        needed = ENABLE if plan.kind == Plan.Kind.BILLED else ASSIGN
        return link("enable_plan", customer.pk, plan=plan.key) if allowed(request, needed) else ""

    return tuple(UpgradeRow(plan.name, url(plan)) for plan in upgrade_to(customer, found.access, now=now))
