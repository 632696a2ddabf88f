"""Verb: count use, once per idempotency key, all or nothing over the sum of the open buckets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from catalog.terms import METERED, FeatureTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import Access, decide
from entitlements.allowances import sources_of
from entitlements.balances import Bucket, Mode, burn
from entitlements.check import UnknownFeature, check
from entitlements.events import first_event, write_event
from entitlements.models import UNITS, UsageEvent
from entitlements.provision import hold, settle
from entitlements.readings import extras, find_feature, open_rows, standings

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


class _WindowToOpen(Exception):
    """What was locked is not all there is: a window begins, and it has to be opened before it is counted on."""


def _apply(customer: Customer, feature: FeatureTerms, amount: Decimal, **event: Any) -> Tracked:
    """Beside others on open windows; alone when one has to be opened, so that nobody counts on one of their own."""
    try:
        with transaction.atomic():
            return _count(customer, feature, amount, alone=False, **event)
    except _WindowToOpen:
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
    assert feature.id is not None
    hold(customer, alone=alone)
    contracts = contracts_at(customer, now)
    sources = sources_of(contracts, feature.slug)
    rows = list(open_rows(customer, [feature.id]).select_for_update())
    present = standings(contracts, rows, now, feature.slug)
    if not alone and any(s.needs_writing for s in present):
        raise _WindowToOpen
    if at < now and any(at < max(s.bucket.starts_at, s.contribution.contract.phase_starts_at) for s in present):
        raise HappenedBefore
    own = extras(rows, now, feature.id)
    buckets = [s.bucket for s in present] + own
    burnt = burn(buckets, amount, mode)
    if burnt.refused or not buckets or (burnt.taken == 0 and amount != 0):
        raise LimitReached(decide(feature, sources, buckets, holds_plan=bool(contracts), required=amount))
    by_id = {row.pk: row for row in rows}
    written = settle(customer, present, rows, now=now)
    written |= {len(present) + i: by_id[bucket.id or 0] for i, bucket in enumerate(own)}
    taken: list[tuple[int, Decimal]] = []
    for place, part in burnt.parts:
        row = written[place]
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
    )
    after = [replace(bucket, id=written[i].pk, used=written[i].used) for i, bucket in enumerate(buckets)]
    if charge:
        counted = zip(present, buckets, after, strict=False)  # bonuses stand behind what the plans promise
        charge(event, [Counted(s.contribution.contract, was, is_) for s, was, is_ in counted if was.used != is_.used])
    return Tracked(applied=True, event=event, access=decide(feature, sources, after, holds_plan=bool(contracts)))


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
