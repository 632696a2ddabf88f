"""Verb: count use, once per idempotency key, all or nothing over the sum of the open buckets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from catalog.terms import METERED, FeatureTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import Access, decide
from entitlements.accrual import main_place
from entitlements.allowances import sources_of
from entitlements.balances import Bucket, Mode, burn
from entitlements.check import UnknownFeature, check
from entitlements.events import first_event, write_event
from entitlements.levels import tell_levels
from entitlements.models import UNITS, Balance, UsageEvent
from entitlements.provision import held_until, hold, settle
from entitlements.readings import find_feature, locked, open_rows, pool

SMALLEST = Decimal(1).scaleb(-UNITS["decimal_places"])


class NotMetered(ValidationError):
    def __init__(self, feature: FeatureTerms):
        super().__init__(f"{feature.name} is not metered, so there is nothing to count.", code="not_metered")


class LimitReached(ValidationError):
    """The use does not fit and was not counted; `access` says what is left and when it resets."""

    def __init__(self, access: Access):
        self.access = access
        left = "nothing" if access.remaining is None else f"{access.remaining.normalize():f}"
        why = "is not in the customer's plan" if not access.has_access else f"has {left} left"
        super().__init__(f"{access.feature} {why}, so nothing was counted.", code="limit_reached")


class KeyReused(ValidationError):
    def __init__(self, key: str):
        super().__init__(f"The key {key!r} was used for another event.", code="idempotency_conflict")


@dataclass(frozen=True, slots=True)
class Tracked:
    """`applied` is false for a repeated key: then `event` is the first one, and `access` the present balance."""

    applied: bool
    event: UsageEvent
    access: Access


@dataclass(frozen=True, slots=True)
class Counted:
    """What an event did to the bucket of a contract."""

    contract: Contract
    before: Bucket
    after: Bucket


# What an event costs at once, in the transaction that counts it: a refusal there leaves nothing counted.
Charge = Callable[[UsageEvent, Sequence[Counted]], None]


def track(
    customer: Customer,
    *,
    feature: str,
    amount: Decimal = Decimal(1),
    at: datetime | None = None,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.REJECT,
    properties: Mapping[str, Any] | None = None,
    charge: Charge | None = None,
) -> Tracked:
    """Count `amount` units (negative: give back) of a metered feature; `charge` takes the money of an applied event.

    `at` is when it happened, within the open windows. Raises `UnknownFeature`, `NotMetered`, `LimitReached` (nothing
    counted, the key stays free), `KeyReused`, and `HappenedBefore` for what belongs to an earlier window or plan.
    """
    found = find_feature(feature)
    if found is None:
        raise UnknownFeature(feature)
    if found.type != METERED:
        raise NotMetered(found)
    amount = amount.quantize(SMALLEST)
    if key and (first := first_event(customer, key)):
        return repeated(customer, first, found, amount, properties, now)
    try:
        return _apply(
            customer, found, amount, at=at or now, now=now, key=key, mode=mode, properties=properties, charge=charge
        )
    except IntegrityError:
        first = first_event(customer, key) if key else None
        if first is None:
            raise
        return repeated(customer, first, found, amount, properties, now)


class HappenedBefore(Exception):
    """The use belongs to a window, or to a plan, that was in force before the present one."""


class WindowToOpen(Exception):
    """What was locked is not all there is: a window begins, and it has to be opened before it is counted on."""


def _apply(customer: Customer, feature: FeatureTerms, amount: Decimal, **event: Any) -> Tracked:
    """Beside others on open windows; alone when one has to be opened, so that nobody counts on one of their own."""
    try:
        with transaction.atomic():
            return _count(customer, feature, amount, alone=False, **event)
    except WindowToOpen:
        with transaction.atomic():
            return _count(customer, feature, amount, alone=True, **event)


def _count(
    customer: Customer,
    feature: FeatureTerms,
    amount: Decimal,
    *,
    alone: bool,
    at: datetime,
    now: datetime,
    key: str | None,
    mode: Mode,
    properties: Mapping[str, Any] | None,
    charge: Charge | None,
) -> Tracked:
    hold(customer, alone=alone)
    return count_on(
        customer,
        feature,
        Asked(amount),
        contracts=contracts_at(customer, now),
        alone=alone,
        at=at,
        now=now,
        key=key,
        mode=mode,
        properties=properties,
        charge=charge,
    )


class Asked:
    """What one event asks of a feature: units as they are. A meter's reading overrides all of it."""

    name = ""
    public_id: str | None = None
    counts_key = True
    reported: Decimal | None = None

    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def of(self, main: Balance | None, bucket: Bucket | None, at: datetime) -> Decimal:
        """Units asked for, given the main bucket of the window and its row, if it has one."""
        return self.amount

    def keep(self, main: Balance | None, at: datetime, short: Decimal) -> None:
        """Keep what the next event asks from; `short` units did not fit."""


def count_on(
    customer: Customer,
    feature: FeatureTerms,
    asked: Asked,
    *,
    contracts: Sequence[Contract],
    alone: bool,
    at: datetime,
    now: datetime,
    key: str | None,
    mode: Mode,
    properties: Mapping[str, Any] | None,
    charge: Charge | None,
) -> Tracked:
    """Count one event on the open buckets of a feature. The caller holds the customer, alone where it says so.

    Raises `LimitReached`, `HappenedBefore`, and `WindowToOpen` for what has to be done alone.
    """
    assert feature.id is not None
    sources = sources_of(contracts, feature.slug)
    rows = locked(open_rows(customer, [feature.id]))
    if any(row.level_units is not None for row in rows):
        if not alone:
            raise WindowToOpen
        rows = held_until(customer, open_rows(customer, [feature.id]), now, now=now)
    there = pool(customer, contracts, rows, now, feature.slug)
    if not alone and there.needs_writing:
        raise WindowToOpen
    present = there.standings
    if at < now and any(at < max(s.bucket.starts_at, s.contribution.contract.phase_starts_at) for s in present):
        raise HappenedBefore
    answer = partial(decide, feature, sources, holds_plan=bool(contracts), replaced=there.overrides(feature.slug))
    places, all_buckets = there.usable, there.buckets
    buckets = [all_buckets[place] for place in places]
    main = main_place(there, feature.slug)
    by_id = {row.pk: row for row in rows}
    bucket = None if main is None else all_buckets[main]
    amount = asked.of(by_id.get(bucket.id or 0) if bucket else None, bucket, at)
    burnt = burn(buckets, amount, mode)
    if burnt.refused or not buckets or (burnt.taken == 0 and amount != 0):
        raise LimitReached(answer(buckets, required=amount))
    written = settle(customer, there, rows, now=now)
    taken: list[tuple[int, Decimal]] = []
    for i, part in burnt.parts:
        row = written[places[i]]
        row.used += part
        row.save(update_fields=["used"])
        taken.append((row.pk, part))
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
        parts=taken,
        name=asked.name,
        reported=asked.reported,
        public_id=asked.public_id,
        counts_key=asked.counts_key,
    )
    asked.keep(None if main is None else written[main], at, amount - burnt.taken)
    if feature.is_allocated:
        counted = [written[places[i]] for i, _ in burnt.parts]
        tell_levels(customer, [row.subscription_id for row in counted if row.is_promised], now=now)
    after = [
        replace(bucket, id=written[place].pk, used=written[place].used)
        for place, bucket in zip(places, buckets, strict=True)
    ]
    if charge:
        charge(
            event,
            [
                Counted(present[place].contribution.contract, was, is_)
                for place, was, is_ in zip(places, buckets, after, strict=True)
                if place < len(present) and was.used != is_.used
            ],
        )
    return Tracked(applied=True, event=event, access=answer(after))


def repeated(
    customer: Customer,
    first: UsageEvent,
    feature: FeatureTerms,
    amount: Decimal,
    properties: Mapping[str, Any] | None,
    now: datetime,
) -> Tracked:
    """The answer to a key that was used before. Raises `KeyReused` for another event."""
    if (first.feature_id, first.amount, first.properties) != (feature.id, amount, dict(properties or {})):
        raise KeyReused(first.key or "")
    return Tracked(applied=False, event=first, access=check(customer, feature.slug, now=now))
