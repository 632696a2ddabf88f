"""Verb: say what the use of the open windows is; the difference is counted as an event of its own."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction

from catalog.models import Meter
from catalog.terms import METERED, FeatureTerms
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.balances import ZERO, Bucket, Mode
from entitlements.check import UnknownFeature, check
from entitlements.events import first_event
from entitlements.models import CLOCKS_DIFFER, UsageEvent
from entitlements.pool import Pool
from entitlements.provision import held_until, hold, settle
from entitlements.readings import find_feature, open_rows, pool
from entitlements.track import SMALLEST, Asked, Charge, KeyReused, NotMetered, Tracked, count_on

SET_TO, WAS, REASON = "usageSetTo", "usageWas", "reason"
# Their meters add up, so a difference is an event like any other; what the rest keep does not follow from a sum.
ADDING = (Meter.Aggregation.SUM, Meter.Aggregation.COUNT)
_USED_SINCE = """
SELECT coalesce(sum(part.amount), 0)
  FROM entitlements_usageevent e CROSS JOIN unnest(e.balance_ids, e.amounts) AS part (balance_id, amount)
  WHERE e.customer_id = %s AND e.feature_id = %s AND e.at >= %s AND e.recorded_at >= %s AND e.voided_at IS NULL
    AND part.balance_id = ANY(%s)
"""


class MeterDecides(ValidationError):
    def __init__(self, feature: FeatureTerms):
        super().__init__(
            f"The use of {feature.name} follows from what its meter read. Report an event, or void one.",
            code="meter_decides",
        )


class BadUsage(ValidationError):
    field = "value"

    def __init__(self) -> None:
        super().__init__("Usage is 0 or more.", code="bad_usage")


def set_usage(
    customer: Customer,
    *,
    feature: str,
    value: Decimal,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.OVERFLOW,
    reason: str = "",
    charge: Charge | None = None,
) -> Tracked:
    """Make `value` the use of the open windows, by an event of the difference to what is counted in them.

    The difference is taken with the buckets locked, so what is tracked beside it is neither lost nor counted twice.
    Bonuses and rollovers count with what was used of them since the window began. Raises what `track` raises,
    `MeterDecides` and `BadUsage`.
    """
    found = find_feature(feature)
    if found is None:
        raise UnknownFeature(feature)
    if found.type != METERED:
        raise NotMetered(found)
    if found.meter_id and Meter.objects.get(pk=found.meter_id).aggregation not in ADDING:
        raise MeterDecides(found)
    if value < 0:
        raise BadUsage
    value = value.quantize(SMALLEST)
    with transaction.atomic():
        hold(customer, alone=True)
        if key and (first := first_event(customer, key)):
            return _repeated(customer, first, found, value, now)
        contracts, rows = contracts_at(customer, now), open_rows(customer, [found.id or 0])
        present = held_until(customer, rows, now, now=now)
        there = pool(customer, contracts, present, now, feature)
        settle(customer, there, present, now=now)
        was = used_in_windows(customer, found, there)
        return count_on(
            customer,
            found,
            Asked(value - was),
            contracts=contracts,
            alone=True,
            at=now,
            now=now,
            key=key,
            mode=mode,
            properties=_properties(value, was, reason),
            charge=charge,
        )


def used_in_windows(customer: Customer, feature: FeatureTerms, there: Pool) -> Decimal:
    """What was used of a feature in its open windows, from whatever bucket it came."""
    buckets = there.of(feature.slug)
    starts = [bucket.starts_at for bucket in buckets if bucket.is_plan]
    since = min(starts, default=None)
    if since is None:
        return sum((bucket.used for bucket in buckets), ZERO)
    older = [bucket for bucket in buckets if not bucket.is_plan and bucket.starts_at < since and bucket.used]
    within = sum((bucket.used for bucket in buckets if bucket not in older), ZERO)
    return within + (_used_since(customer, feature, older, since) if older else ZERO)


def _used_since(customer: Customer, feature: FeatureTerms, buckets: Sequence[Bucket], since: datetime) -> Decimal:
    """What these buckets gave to events since an instant."""
    ids = [bucket.id for bucket in buckets]
    with connection.cursor() as cursor:
        cursor.execute(_USED_SINCE, [customer.pk, feature.id, since, since - CLOCKS_DIFFER, ids])
        [used] = cursor.fetchone()
    return Decimal(used)


def _properties(value: Decimal, was: Decimal, reason: str) -> dict[str, Any]:
    said = {SET_TO: f"{value.normalize():f}", WAS: f"{was.normalize():f}"}
    return said | ({REASON: reason} if reason else {})


def _repeated(customer: Customer, first: UsageEvent, feature: FeatureTerms, value: Decimal, now: datetime) -> Tracked:
    """The answer to a key that was used before. Raises `KeyReused` when it said something else."""
    if first.feature_id != feature.id or first.properties.get(SET_TO) != f"{value.normalize():f}":
        raise KeyReused(first.key or "")
    return Tracked(applied=False, event=first, access=check(customer, feature.slug, now=now))
