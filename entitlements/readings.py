"""Rows as values: the open buckets of a customer, and what they will have been at an earlier ledger position."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial

from django.db.models import Max

from catalog.models import Feature, PlanItem
from catalog.periods import CALENDAR_WEEK_ORIGIN
from catalog.terms import FeatureTerms, ItemTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.accrual import accrued, dates_of, gauges_of, unwritten, with_gauges
from entitlements.allowances import contributions_of
from entitlements.balances import EXTRAS, Bucket, GrantTerms, Kind, Standing
from entitlements.meters import Gauge
from entitlements.models import Balance, BalanceQuerySet, FeatureOverride, Grant, UsageEvent
from entitlements.overrides import Override
from entitlements.pool import Pool, pool_of

_items: dict[int, ItemTerms] = {}
_features: dict[int, FeatureTerms] = {}


def item_terms(item_id: int) -> ItemTerms:
    """Terms of a published item; kept for ever, since it is frozen."""
    if item_id not in _items:
        _items[item_id] = PlanItem.objects.select_related("feature").get(pk=item_id).terms()
    return _items[item_id]


def remember_items(item_ids: Iterable[int]) -> None:
    """Read the items that this process has not met yet in one query instead of one each."""
    unknown = {item_id for item_id in item_ids if item_id not in _items}
    if unknown:
        found = {row.pk: row.terms() for row in PlanItem.objects.select_related("feature").filter(pk__in=unknown)}
        _items.update(found)
        _features.update((terms.feature_row, terms.feature) for terms in found.values() if terms.feature)


def forget_items() -> None:
    """For tests that roll the database back under a running process."""
    _items.clear()
    _features.clear()


def feature_terms(feature_ids: Iterable[int]) -> dict[int, FeatureTerms]:
    """Features by id; read once per process, as the items are that name them."""
    wanted = set(feature_ids)
    if unknown := wanted - _features.keys():
        _features.update((row.pk, row.terms()) for row in Feature.objects.filter(pk__in=unknown))
    return {pk: _features[pk] for pk in wanted}


KINDS = {
    Balance.Source.PLAN_ITEM: Kind.PLAN,
    Balance.Source.DEFAULT: Kind.PLAN,
    Balance.Source.BONUS: Kind.BONUS,
    Balance.Source.PURCHASE: Kind.PURCHASE,
    Balance.Source.ROLLOVER: Kind.ROLLOVER,
    Balance.Source.OVERRIDE: Kind.OVERRIDE,
}


def bucket_of(row: Balance) -> Bucket:
    """A row as a value; of a grant's window it reads `row.grant`, which should be joined already."""
    kind = KINDS[Balance.Source(row.source)]
    if row.item_id is None or kind not in (Kind.PLAN, Kind.ROLLOVER):
        feature = feature_terms([row.feature_id])[row.feature_id]
        item = ItemTerms(key=feature.slug, name=row.label, feature=feature, included=row.granted)
    else:
        item = item_terms(row.item_id)
    return Bucket(
        item=item,
        owner=(row.subscription_id, row.plan_id),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        granted=row.granted,
        adjusted=row.adjusted,
        used=row.used,
        priority=row.priority,
        since=row.starts_at if kind in EXTRAS else CALENDAR_WEEK_ORIGIN,
        kind=kind,
        label=row.label,
        withheld=row.withheld,
        withheld_by=row.withheld_by_id,
        override_id=row.override_id,
        grant=grant_terms(row.grant) if row.grant_id is not None and row.grant is not None else None,
        gauge=gauge_of(row),
        id=row.pk,
    )


def gauge_of(row: Balance) -> Gauge | None:
    """What a window keeps of its meter; nothing where none has read an event."""
    if row.level is None or row.level_at is None:
        return None
    return Gauge(row.level, row.level_at, row.level_units, row.level_counted or Decimal(0))


def grant_terms(grant: Grant) -> GrantTerms:
    """A row as a value; one that was voided ended then."""
    ends = [at for at in (grant.ends_at, grant.voided_at) if at is not None]
    return GrantTerms(grant.pk, grant.units, grant.starts_at, min(ends, default=None), grant.recurs)


def open_rows(customer: Customer, feature_ids: Iterable[int] | None = None) -> BalanceQuerySet:
    """Buckets that nobody closed yet, whatever they come from and whatever their dates, in id order (that of locks)."""
    rows = Balance.objects.filter(customer=customer, closed_at=None).select_related("grant").order_by("id")
    return rows if feature_ids is None else rows.filter(feature_id__in=list(feature_ids))


def locked(rows: BalanceQuerySet) -> list[Balance]:
    """The same rows, locked: only they, since what is joined to them is shared with others."""
    return list(rows.select_for_update(of=("self",)))


def came_back(row: Balance, at: datetime | None = None) -> bool:
    """Whether an override that took of this bucket was over by an instant (None: by the bucket's end), written or not.

    Reads `row.withheld_by`, which should be joined already.
    """
    stops_at = row.withheld_by.stops_at if row.withheld_by is not None else None
    if stops_at is None:
        return False
    return (row.ends_at is None or stops_at < row.ends_at) and (stops_at <= at if at else row.ends_at is not None)


def without_ended_override(row: Balance, at: datetime | None = None) -> Balance:
    """The row, in memory, as a punctual worker would have left it when the override that took of it was over."""
    if came_back(row, at):
        row.adjusted, row.withheld, row.withheld_by = row.adjusted + row.withheld, Decimal(0), None
        if row.item_id is not None and item_terms(row.item_id).granted is None:
            row.granted = None
    return row


def override_of(row: FeatureOverride) -> Override:
    """A row as a value; reads `row.feature`, which should be joined already."""
    return Override(
        id=row.pk,
        public_id=row.public_id,
        feature=row.feature.terms(),
        subscription_id=row.subscription_id,
        starts_at=row.effective_from,
        ends_at=row.stops_at,
        on=row.on,
        units=row.units,
        text=row.text,
        unlimited=row.unlimited,
        reason=row.reason,
    )


def overrides_of(customer: Customer, since: datetime) -> list[Override]:
    """The overrides of a customer that did not stop before an instant; one query."""
    return [override_of(row) for row in customer.feature_overrides.standing(since).select_related("feature")]


def pool(
    customer: Customer,
    contracts: Sequence[Contract],
    rows: Iterable[Balance],
    at: datetime,
    slug: str | None = None,
    *,
    merges: bool = True,
) -> Pool:
    """The buckets that count at the instant, from contracts and rows already read; one query for the overrides.

    Without `merges` the contracts are a part of those in force: see `pool_of`.
    """
    rows = list(rows)
    ends = [row.ends_at for row in rows if row.ends_at is not None]
    ends += [row.level_at for row in rows if row.level_units is not None and row.level_at is not None]
    overrides = overrides_of(customer, min([at, *ends]))
    earlier = partial(contracts_at, customer)
    return pool_under(overrides, contracts, rows, at, slug, merges=merges, earlier=earlier)


def pool_under(
    overrides: Sequence[Override],
    contracts: Sequence[Contract],
    rows: Iterable[Balance],
    at: datetime,
    slug: str | None = None,
    *,
    merges: bool = True,
    earlier: Callable[[datetime], Sequence[Contract]] | None = None,
) -> Pool:
    """The same with overrides already read: nothing is read but terms and features that this process never met.

    Levels that are averaged over time count up to the instant; `earlier` reads the contracts of an instant before the
    present phases, where one has been held since.
    """
    rows = list(rows)
    remember_items(row.item_id for row in rows if row.item_id)
    feature_terms({row.feature_id for row in rows})
    buckets = [bucket_of(row) for row in rows]

    def pool_at(then: datetime, found: Sequence[Bucket], name: str | None) -> Pool:
        began = then == at or all(contract.phase_starts_at <= then for contract in contracts)
        applying = contracts if began or earlier is None else earlier(then)
        return _pool(overrides, applying, found, then, name, merges=merges)

    if not gauges_of(buckets):
        return pool_at(at, buckets, slug)
    dates = dates_of(overrides, buckets) | {contract.phase_starts_at for contract in contracts}
    return unwritten(pool_at(at, accrued(buckets, at, pool_at, dates), slug))


def _pool(
    overrides: Sequence[Override],
    contracts: Sequence[Contract],
    buckets: Sequence[Bucket],
    at: datetime,
    slug: str | None,
    *,
    merges: bool,
) -> Pool:
    found = pool_of(
        contributions_of(contracts, slug),
        buckets,
        at,
        overrides=overrides,
        subscriptions=[contract.subscription_id for contract in contracts],
        slug=slug,
        merges=merges,
    )
    found = replace(found, standings=tuple(replace(s, bucket=_contributed(s)) for s in found.standings))
    return with_gauges(found, gauges_of(buckets))


def find_feature(slug: str) -> FeatureTerms | None:
    row = Feature.objects.filter(slug=slug).first()
    return row.terms() if row else None


def _contributed(standing: Standing) -> Bucket:
    """The bucket with what a row does not know: whose contribution it is."""
    contract = standing.contribution.contract
    return replace(standing.bucket, since=contract.since, add_on=contract.add_on, is_default=contract.is_default)


def pool_at(customer: Customer, at: datetime, slug: str | None = None) -> Pool:
    """The buckets that count at the instant, of one feature or of all."""
    return pool(customer, contracts_at(customer, at), open_rows(customer), at, slug)


def ledger_position(customer: Customer) -> int:
    """The newest event of the customer: what a preview has read up to."""
    return UsageEvent.objects.filter(customer=customer).aggregate(top=Max("id"))["top"] or 0


def used_since(customer: Customer, position: int) -> dict[int, Decimal]:
    """Units per balance that were counted after a ledger position, and still count."""
    used: dict[int, Decimal] = {}
    events = UsageEvent.objects.filter(customer=customer, pk__gt=position, voided_at=None)
    for balance_ids, amounts in events.values_list("balance_ids", "amounts"):
        for balance_id, amount in zip(balance_ids, amounts, strict=True):
            used[balance_id] = used.get(balance_id, Decimal(0)) + amount
    return used
