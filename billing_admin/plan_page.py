"""What the plan page shows, read in a handful of queries however many versions and custom plans there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet

from billing_admin.admin.links import customer_link, link
from billing_admin.flows.override_outlook import SAME_ON, words_of
from billing_admin.item_rows import rest_of
from catalog.models import Plan, PlanVersion, read_terms
from catalog.money import format_minor, to_minor
from catalog.periods import ONCE, every
from catalog.terms import CALENDAR, METERED, ItemDifference, ItemTerms, PlanTerms, differences
from customers.models import CustomPlan, Phase
from customers.states import LIVE
from entitlements.models import FeatureOverride

CUSTOM_PLANS_SHOWN = 50
SENTENCES_SHOWN = 4
SUGGESTIONS_SHOWN = 3
# How an address names a custom version: `custom-3`.
CUSTOM = "custom-"
# What two overrides share that say the same.
SAME = ("feature", "on", "units", "text", "unlimited")


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
    """`price_difference` is what it costs more a month by list than what is sold now; `more` differences are not
    shown."""

    custom: CustomPlan
    differences: list[ItemDifference]
    sentences: list[tuple[str, str]]
    more: int
    since: datetime
    url: str
    price_difference: str
    costs_less: bool
    compare_url: str
    rebase_url: str


@dataclass(frozen=True)
class CustomRows:
    """One page of them; `older` is where the next one begins."""

    rows: list[CustomRow]
    total: int
    older: int | None
    first: bool


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


def custom_plans(plan: Plan, *, now: datetime) -> "QuerySet[CustomPlan]":
    """Those that somebody is on, or will be; the newest first."""
    ahead = Q(ends_at=None) | Q(ends_at__gt=now)
    held = Phase.objects.filter(ahead, version=OuterRef("version"), withdrawn_at=None, subscription__state__in=LIVE)
    return CustomPlan.objects.filter(Exists(held), version__plan=plan).order_by("-id")


def custom_rows(plan: Plan, *, now: datetime, before: int | None = None) -> CustomRows:
    """Who runs on a version of their own, and how far it is from what is sold now (else from what it was made from);
    `before` is the last key of the page before."""
    found = custom_plans(plan, now=now)
    after = found.filter(pk__lt=before) if before else found
    customs = list(after.select_related("customer", "version", "base_version")[: CUSTOM_PLANS_SHOWN + 1])
    more, customs = len(customs) > CUSTOM_PLANS_SHOWN, customs[:CUSTOM_PLANS_SHOWN]
    total = found.count() if more or before else len(customs)
    terms = terms_by_version({c.version_id for c in customs} | {c.base_version_id for c in customs}, plan)
    rows = [_custom_row(custom, plan, terms) for custom in customs]
    return CustomRows(rows, total, older=customs[-1].pk if more else None, first=not before)


def _custom_row(custom: CustomPlan, plan: Plan, terms: dict[int, PlanTerms]) -> CustomRow:
    base, own = terms[plan.current_version_id or custom.base_version_id], terms[custom.version_id]
    apart = differences(base, own)
    sentences = [(d.sign, d.sentence(plan.currency)) for d in apart]
    minor = to_minor(own.monthly(listed=True) - base.monthly(listed=True), plan.currency)
    return CustomRow(
        custom=custom,
        differences=apart,
        sentences=sentences[:SENTENCES_SHOWN],
        more=len(sentences) - SENTENCES_SHOWN,
        since=custom.created_at,
        url=customer_link(custom.customer_id),
        price_difference=signed_minor(minor, plan.currency),
        costs_less=minor < 0,
        compare_url=_compared_with(custom, plan),
        rebase_url=link("enable_plan", custom.customer_id, plan=plan.key, rebase=1) if _is_behind(custom, plan) else "",
    )


def _compared_with(custom: CustomPlan, plan: Plan) -> str:
    """Field by field beside what is sold now, else beside what it was made from."""
    beside = plan.current_version.number if plan.current_version else custom.base_version.number
    sides = {"from": beside, "to": f"{CUSTOM}{custom.version.number}"}
    return link("catalog_plan_compare", plan.pk, **sides)


def _is_behind(custom: CustomPlan, plan: Plan) -> bool:
    """Whether something else is sold now than what it was made from."""
    return plan.current_version_id is not None and plan.current_version_id != custom.base_version_id


def signed_minor(minor: int, currency: str) -> str:
    """`+$10.00`, `−$10.00`; nothing where there is no difference."""
    if not minor:
        return ""
    return f"+{format_minor(minor, currency)}" if minor > 0 else format_minor(minor, currency)


@dataclass(frozen=True)
class Suggestion:
    """The same override on several customers of the plan: what a new version would say once."""

    feature: str
    value: str
    customers: int
    url: str


def suggestions(plan: Plan, *, now: datetime) -> list[Suggestion]:
    """The widest spread first, in two queries. What the current version gives already is no suggestion."""
    held = live_phases(now).filter(version__plan=plan, subscription__customer=OuterRef("customer"))
    alike = FeatureOverride.objects.standing(now).filter(Exists(held)).order_by().values(*SAME)
    counted = alike.annotate(customers=Count("customer", distinct=True), one=Min("id"))
    spread = list(counted.filter(customers__gte=SAME_ON).order_by("-customers", "one")[:SUGGESTIONS_SHOWN])
    ones = FeatureOverride.objects.select_related("feature").in_bulk([group["one"] for group in spread])
    found = []
    for group in spread:
        one, words = ones[group["one"]], words_of(ones[group["one"]])
        item = plan.current_version.terms().for_feature(one.feature.slug) if plan.current_version else None
        if item is None or item.describe_allowance() != words:
            url = link("entitlements_featureoverride_changelist", like=one.public_id)
            found.append(Suggestion(one.feature.name, words, group["customers"], url))
    return found


def terms_by_version(ids: set[int], plan: Plan) -> dict[int, PlanTerms]:
    """Many rate cards in one go, where `terms_of` would ask one by one."""
    if not ids:
        return {}
    wanted = ids | ({plan.current_version_id} if plan.current_version_id else set())
    return {v.pk: read_terms(v) for v in PlanVersion.objects.with_items().filter(pk__in=wanted)}
