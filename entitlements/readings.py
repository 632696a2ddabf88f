"""Rows as values: the open buckets of a customer, and what they will have been at an earlier ledger position."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from django.db.models import Max

from catalog.models import Feature, PlanItem
from catalog.terms import FeatureTerms, ItemTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.allowances import contributions_of
from entitlements.balances import Bucket, Standing, extra, project
from entitlements.models import Balance, BalanceQuerySet, UsageEvent

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
        _items.update(
            (row.pk, row.terms()) for row in PlanItem.objects.select_related("feature").filter(pk__in=unknown)
        )


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


def bucket_of(row: Balance) -> Bucket:
    """A plan's bucket as a value."""
    return Bucket(
        item=item_terms(row.item_id or 0),
        owner=(row.subscription_id, row.plan_id),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        granted=row.granted,
        adjusted=row.adjusted,
        used=row.used,
        priority=row.priority,
        id=row.pk,
    )


def open_rows(customer: Customer, feature_ids: Iterable[int] | None = None) -> BalanceQuerySet:
    """Buckets that nobody closed yet, bonuses included, in id order (the order of locks), whatever their dates."""
    rows = Balance.objects.filter(customer=customer, closed_at=None).order_by("id")
    return rows if feature_ids is None else rows.filter(feature_id__in=list(feature_ids))


def extras(rows: Iterable[Balance], at: datetime, feature_id: int | None = None) -> list[Bucket]:
    """The bonuses and purchases in force at the instant, from rows already read: of one feature, or of all."""
    live = [
        row
        for row in rows
        if row.is_extra
        and row.closed_at is None
        and row.starts_at <= at
        and (row.ends_at is None or at < row.ends_at)
        and feature_id in (None, row.feature_id)
    ]
    features = feature_terms(row.feature_id for row in live)
    return [extra_of(row, features[row.feature_id]) for row in live]


def extra_of(row: Balance, feature: FeatureTerms) -> Bucket:
    """A bonus or a purchase as a value."""
    bucket = extra(
        feature,
        row.granted or Decimal(0),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        label=row.label,
        is_bonus=row.source == Balance.Source.BONUS,
    )
    return replace(bucket, adjusted=row.adjusted, used=row.used, priority=row.priority, id=row.pk)


def find_feature(slug: str) -> FeatureTerms | None:
    row = Feature.objects.filter(slug=slug).first()
    return row.terms() if row else None


def standings(
    contracts: list[Contract], rows: Iterable[Balance], at: datetime, slug: str | None = None
) -> list[Standing]:
    """The buckets that count at the instant, with who contributes them, from rows and contracts already read."""
    rows = [row for row in rows if not row.is_extra]
    remember_items(row.item_id for row in rows if row.item_id)
    found = project(contributions_of(contracts, slug), [bucket_of(row) for row in rows], at)
    return [replace(standing, bucket=_contributed(standing)) for standing in found]


def _contributed(standing: Standing) -> Bucket:
    """The bucket with what a row does not know: whose contribution it is."""
    contract = standing.contribution.contract
    return replace(standing.bucket, since=contract.since, add_on=contract.add_on, is_default=contract.is_default)


def standings_at(customer: Customer, at: datetime, slug: str | None = None) -> list[Standing]:
    return standings(contracts_at(customer, at), open_rows(customer), at, slug)


def ledger_position(customer: Customer) -> int:
    """The newest event of the customer: what a preview has read up to."""
    return UsageEvent.objects.filter(customer=customer).aggregate(top=Max("id"))["top"] or 0


def used_since(customer: Customer, position: int) -> dict[int, Decimal]:
    """Units per balance that were counted after a ledger position."""
    used: dict[int, Decimal] = {}
    events = UsageEvent.objects.filter(customer=customer, pk__gt=position).values_list("balance_ids", "amounts")
    for balance_ids, amounts in events:
        for balance_id, amount in zip(balance_ids, amounts, strict=True):
            used[balance_id] = used.get(balance_id, Decimal(0)) + amount
    return used
