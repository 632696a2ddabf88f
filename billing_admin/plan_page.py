"""What the plan page shows, read in a handful of queries however many versions and custom plans there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, QuerySet

from billing_admin.admin.links import customer_link
from billing_admin.item_rows import rest_of
from catalog.models import Plan, PlanVersion, read_terms
from catalog.periods import ONCE, every
from catalog.terms import CALENDAR, METERED, ItemDifference, ItemTerms, PlanTerms, differences
from customers.models import CustomPlan, Phase
from customers.states import LIVE

CUSTOM_PLANS_SHOWN = 50


@dataclass(frozen=True)
class VersionRow:
    version: PlanVersion
    customers: int
    is_current: bool
    is_chosen: bool


@dataclass(frozen=True)
class ItemRow:
    label: str
    kind: str
    slug: str
    included: str
    resets: str
    limit: str
    price: str
    details: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()


@dataclass(frozen=True)
class CustomRow:
    custom: CustomPlan
    differences: list[ItemDifference]
    sentences: list[tuple[str, str]]
    since: datetime
    url: str


def live_phases(now: datetime) -> "QuerySet[Phase]":
    return Phase.objects.in_force(now).filter(subscription__state__in=LIVE)


def customers_by_version(plan: Plan, *, now: datetime) -> dict[int, int]:
    counted = live_phases(now).filter(version__plan=plan).order_by().values("version_id")
    return dict(counted.annotate(n=Count("subscription__customer", distinct=True)).values_list("version_id", "n"))


def customers_by_plan(plans: Iterable[Plan], *, now: datetime) -> dict[int, int]:
    counted = live_phases(now).filter(version__plan__in=plans).order_by().values("version__plan_id")
    return dict(counted.annotate(n=Count("subscription__customer", distinct=True)).values_list("version__plan_id", "n"))


def version_rows(
    plan: Plan, versions: list[PlanVersion], chosen: PlanVersion | None, now: datetime
) -> list[VersionRow]:
    counts = customers_by_version(plan, now=now)
    return [
        VersionRow(v, counts.get(v.pk, 0), v.pk == plan.current_version_id, chosen is not None and v.pk == chosen.pk)
        for v in versions
    ]


def item_rows(terms: PlanTerms) -> list[ItemRow]:
    return [item_row(item, terms.currency) for item in terms.items]


def item_row(item: ItemTerms, currency: str) -> ItemRow:
    return ItemRow(
        label=item.label,
        kind=item.feature.type if item.feature else "fee",
        slug=item.feature.slug if item.feature else "",
        included=item.describe_allowance(),
        resets=resets(item),
        limit=limit(item),
        price=item.describe_price(currency),
        details=(*asked_for(item), *item.describe_tiers(currency)),
        rest=tuple(rest_of(item)),
    )


def asked_for(item: ItemTerms) -> list[str]:
    """When a price is asked for, where that is not the usual way."""
    found = []
    if item.is_prepaid:
        found.append("prepaid")
    elif item.term and item.term != item.usual_term:
        found.append("from the wallet, at once" if item.is_instant else item.term.replace("_", " "))
    if item.cadence and not item.is_fee:
        found.append("billed once" if item.cadence == ONCE else f"billed every {every(item.cadence)}")
    return found


def resets(item: ItemTerms) -> str:
    if item.feature is None or item.feature.type != METERED:
        return "—"
    if item.reset == "never":
        return "never"
    return f"every {every(item.reset)}" + (", calendar" if item.reset_anchor == CALENDAR else "")


def limit(item: ItemTerms) -> str:
    if item.feature is None or item.feature.type != METERED or item.unlimited:
        return "—"
    if item.max_overage is None:
        return item.limit
    return f"{item.limit}, up to +{item.max_overage.normalize():,f}"


def custom_rows(plan: Plan, *, now: datetime) -> tuple[list[CustomRow], int]:
    """Who runs on a version of their own, and how far it is from what is sold now (else from what it was made from)."""
    ahead = Q(version__phases__ends_at=None) | Q(version__phases__ends_at__gt=now)
    kept = Q(version__plan=plan, version__phases__withdrawn_at=None, version__phases__subscription__state__in=LIVE)
    found = CustomPlan.objects.filter(kept & ahead).distinct()
    customs = list(found.select_related("customer", "version", "base_version")[:CUSTOM_PLANS_SHOWN])
    total = found.count() if len(customs) == CUSTOM_PLANS_SHOWN else len(customs)
    terms = terms_by_version({c.version_id for c in customs} | {c.base_version_id for c in customs}, plan)
    rows = []
    for custom in customs:
        base = plan.current_version_id or custom.base_version_id
        found_differences = differences(terms[base], terms[custom.version_id])
        sentences = [(d.sign, d.sentence(plan.currency)) for d in found_differences]
        rows.append(
            CustomRow(custom, found_differences, sentences, custom.created_at, customer_link(custom.customer_id))
        )
    return rows, total


def terms_by_version(ids: set[int], plan: Plan) -> dict[int, PlanTerms]:
    """Many rate cards in one go, where `terms_of` would ask one by one."""
    if not ids:
        return {}
    wanted = ids | ({plan.current_version_id} if plan.current_version_id else set())
    return {v.pk: read_terms(v) for v in PlanVersion.objects.with_items().filter(pk__in=wanted)}
