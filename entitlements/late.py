"""Verb: count use that is reported late, into the window in which it happened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q

from catalog.terms import ALLOCATED, METERED, FeatureTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import decide
from entitlements.aftermath import follow
from entitlements.allowances import contributions_of, sources_of
from entitlements.balances import Bucket, Kind, Mode, burn, fresh
from entitlements.check import UnknownFeature
from entitlements.events import first_event, write_event
from entitlements.models import Balance
from entitlements.provision import held_until, hold, row_of, settle
from entitlements.readings import bucket_of, find_feature, locked, open_rows, pool
from entitlements.track import SMALLEST, Asked, LimitReached, NotMetered, Tracked, repeated


class WindowBilled(ValidationError):
    def __init__(self, feature: FeatureTerms, at: datetime):
        super().__init__(
            f"{feature.name} of {at:%-d %b %Y} has been billed, so nothing can be counted there any more.",
            code="window_billed",
        )


class BadInstant(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_instant")


def track_late(
    customer: Customer,
    *,
    feature: str,
    amount: Decimal,
    at: datetime,
    now: datetime,
    is_billed: Callable[[Balance], bool],
    key: str | None = None,
    mode: Mode = Mode.REJECT,
    properties: Mapping[str, Any] | None = None,
) -> Tracked:
    """Count `amount` units as of an instant in the past, with the same events and ledger as use of now.

    `is_billed` says whether the use of a window is settled. Raises what `track` raises, `WindowBilled`, and
    `BadInstant` for the future, and for what has no past: levels, and use that is paid at once.
    """
    found = find_feature(feature)
    if found is None:
        raise UnknownFeature(feature)
    if found.type != METERED:
        raise NotMetered(found)
    refuse_untimely(found, at, now)
    amount = amount.quantize(SMALLEST)
    with transaction.atomic():
        hold(customer, alone=True)
        first = first_event(customer, key) if key else None
        if first is not None:
            return repeated(customer, first, found, amount, properties, now)
        return count_late_on(
            customer,
            found,
            Asked(amount),
            at=at,
            now=now,
            is_billed=is_billed,
            key=key,
            mode=mode,
            properties=properties,
        )


def refuse_untimely(feature: FeatureTerms, at: datetime, now: datetime) -> None:
    """Refuse what has not happened yet, and the past of what is a level now. Raises `BadInstant`."""
    if at > now:
        raise BadInstant("Use cannot be reported before it happens.")
    if feature.usage == ALLOCATED:
        raise BadInstant(f"{feature.name} is a level: report what it is now.")


def _rows_at(customer: Customer, feature: FeatureTerms, at: datetime, now: datetime) -> list[Balance]:
    """The buckets that held the instant, open ones brought up to date first; in id order, locked.

    Bonuses, rollovers and overrides are used late as they would have been in time.
    """
    present = held_until(customer, open_rows(customer, [feature.id or 0]), now, now=now)
    settle(customer, pool(customer, contracts_at(customer, now), present, now, feature.slug), present, now=now)
    held = Balance.objects.filter(customer=customer, feature_id=feature.id or 0, starts_at__lte=at)
    held = held.filter(Q(ends_at=None) | Q(ends_at__gt=at)).order_by("id")
    rows = locked(held.select_related("subscription", "grant"))
    owners = {_owner(row) for row in rows if row.is_promised}
    overrides = {row.override_id for row in rows}
    missed = [bucket for bucket in _missed(customer, feature, at) if bucket.owner not in owners]
    missed += [bucket for bucket in _added(customer, feature, at) if bucket.override_id not in overrides]
    return rows + [_open_closed(customer, bucket, now) for bucket in missed if bucket.ends_at and bucket.ends_at <= now]


def _owner(row: Balance) -> tuple[int | None, int | None]:
    return row.subscription_id, row.plan_id


def _missed(customer: Customer, feature: FeatureTerms, at: datetime) -> list[Bucket]:
    """The windows of the instant as they would have been opened: one that nobody used has no row."""
    contributions = contributions_of(contracts_at(customer, at), feature.slug)
    return [fresh(c, at, not_before=_since(c.contract)) for c in contributions]


def _added(customer: Customer, feature: FeatureTerms, at: datetime) -> list[Bucket]:
    """What overrides added at the instant, as it would have been opened."""
    there = pool(customer, contracts_at(customer, at), [], at, feature.slug)
    return [beside.bucket for beside in there.beside if beside.bucket.kind is Kind.OVERRIDE]


def _since(contract: Contract) -> datetime | None:
    return contract.phase_starts_at if contract.follows_contract else None


def _open_closed(customer: Customer, bucket: Bucket, now: datetime) -> Balance:
    row = row_of(customer, bucket, now=now)
    row.closed_at = now
    row.save(force_insert=True)
    return row


def count_late_on(
    customer: Customer,
    feature: FeatureTerms,
    asked: Asked,
    *,
    at: datetime,
    now: datetime,
    is_billed: Callable[[Balance], bool],
    key: str | None,
    mode: Mode,
    properties: Mapping[str, Any] | None,
) -> Tracked:
    """Count one event on the buckets of an instant in the past. The caller holds the customer alone.

    Raises `LimitReached`, `WindowBilled` and `BadInstant`.
    """
    assert feature.id is not None
    rows = _rows_at(customer, feature, at, now)
    if any(row.is_promised and row.closed_at is not None and is_billed(row) for row in rows):
        raise WindowBilled(feature, at)
    contracts = contracts_at(customer, at)
    sources, buckets = sources_of(contracts, feature.slug), [bucket_of(row) for row in rows]
    if any(bucket.item.is_instant for bucket in buckets):
        raise BadInstant(f"{feature.name} is paid at once, so it has to be reported at once.")
    main = main_of(rows, contracts, feature.slug)
    amount = asked.of(main, bucket_of(main) if main else None, at)
    burnt = burn(buckets, amount, mode)
    if burnt.refused or not buckets or (burnt.taken == 0 and amount != 0):
        raise LimitReached(decide(feature, sources, buckets, holds_plan=bool(contracts), required=amount))
    for place, part in burnt.parts:
        add(rows[place], part, at, now=now)
    event = write_event(
        customer,
        feature_id=feature.id,
        amount=amount,
        taken=burnt.taken,
        at=at,
        now=now,
        key=key,
        mode=mode,
        properties=properties,
        parts=[(rows[place].pk, part) for place, part in burnt.parts],
        name=asked.name,
        reported=asked.reported,
        public_id=asked.public_id,
        counts_key=asked.counts_key,
    )
    asked.keep(main, at, amount - burnt.taken)
    after = [replace(bucket, used=row.used) for bucket, row in zip(buckets, rows, strict=True)]
    return Tracked(applied=True, event=event, access=decide(feature, sources, after, holds_plan=bool(contracts)))


def main_of(rows: Sequence[Balance], contracts: Sequence[Contract], slug: str) -> Balance | None:
    """The row of the first contributor, over whose window a meter counts; the first row where none contributes."""
    owners = [contribution.owner for contribution in contributions_of(contracts, slug)]
    own = [row for row in rows if row.is_promised and _owner(row) in owners]
    return min(own, key=lambda row: owners.index(_owner(row)), default=rows[0] if rows else None)


def add(row: Balance, part: Decimal, at: datetime, *, now: datetime) -> None:
    """Count it where it was used: items that came into force later rate only what was used after them.

    What a window that has ended left to the next ones follows.
    """
    left = row.left
    row.used += part
    row.save(update_fields=["used"])
    follow(row, left, now=now)
    row.entries.filter(at__gt=at, rates_from__isnull=False).update(rates_from=F("rates_from") + part)
