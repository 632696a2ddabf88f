"""Verb: count an event on every feature whose meter reads it, all or nothing, once per idempotency key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from catalog.models import Feature, Meter
from catalog.terms import METERED, FeatureTerms
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.accrual import total_of
from entitlements.balances import ZERO, Bucket, Mode
from entitlements.check import check
from entitlements.events import first_event
from entitlements.late import BadInstant, count_late_on, refuse_untimely
from entitlements.meters import (
    Aggregation,
    Gauge,
    Happened,
    MeterTerms,
    Reading,
    asked,
    digest_of,
    read,
    text_of,
    turned,
)
from entitlements.models import Balance, MeterMember, UsageEvent, new_event_id
from entitlements.provision import ACCRUED, hold, keep
from entitlements.readings import gauge_of, locked, open_rows, pool_at
from entitlements.track import Asked, Charge, HappenedBefore, KeyReused, LimitReached, Tracked, WindowToOpen, count_on

# An event of the clockwork that brings what a window counted to what its events come to.
RECOUNT = "recount"


class UnknownEvent(ValidationError):
    field = "eventName"

    def __init__(self, name: str):
        super().__init__(f"No meter of a feature reads events named {name!r}.", code="unknown_event")


@dataclass(frozen=True, slots=True)
class Ask:
    """One feature that an event is counted on, with what its meter read."""

    feature: FeatureTerms
    reading: Reading


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of an event, feature by feature; nothing where the filters of all meters leave it out."""

    applied: bool
    tracked: tuple[Tracked, ...] = ()


def meter_terms(meter: Meter) -> MeterTerms:
    filters = tuple((name, frozenset(map(text_of, values))) for name, values in sorted(meter.filters.items()))
    return MeterTerms(meter.event_name, Aggregation(meter.aggregation), meter.property, filters)


def asks_of(name: str, properties: Mapping[str, Any], value: Decimal | None) -> list[Ask]:
    """The features that an event is counted on, in id order. Raises `UnknownEvent` and `BadEvent`."""
    features = Feature.objects.offered().filter(type=METERED, meter__event_name=name, meter__archived_at=None)
    found = [(row.terms(), meter_terms(row.meter)) for row in features.select_related("meter").order_by("id")]
    if not found:
        raise UnknownEvent(name)
    return [Ask(feature, read(meter, properties, value)) for feature, meter in found if meter.matches(properties)]


def ask_of(feature: FeatureTerms, properties: Mapping[str, Any], value: Decimal) -> Ask:
    """What use that is reported for one feature says to its meter. Raises `BadEvent`."""
    meter = meter_terms(Meter.objects.get(features=feature.id))
    if meter.property and meter.property not in properties and meter.aggregation is not Aggregation.UNIQUE_COUNT:
        meter = replace(meter, property="")
    return Ask(feature, read(meter, properties, value))


def report(
    customer: Customer,
    asks: Sequence[Ask],
    *,
    at: datetime,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.REJECT,
    properties: Mapping[str, Any] | None = None,
    charge: Charge | None = None,
    is_billed: Callable[[Balance], bool] | None = None,
) -> Reported:
    """Count an event on each feature that the customer has, or on none; features they do not have are left out.

    With `is_billed` it may belong to windows before the present ones. Raises what `track` raises, and `BadInstant`.
    """
    for ask in asks:
        refuse_untimely(ask.feature, at, now)
    if not asks:
        return Reported(applied=False)
    if key and (first := first_event(customer, key)):
        return _repeated(customer, first, asks, properties, now)
    event = {"at": at, "now": now, "key": key, "mode": mode, "properties": properties, "charge": charge}
    try:
        return _apply(customer, asks, is_billed, event)
    except IntegrityError:
        first = first_event(customer, key) if key else None
        if first is None:
            raise
        return _repeated(customer, first, asks, properties, now)


def _apply(
    customer: Customer, asks: Sequence[Ask], is_billed: Callable[[Balance], bool] | None, event: dict[str, Any]
) -> Reported:
    try:
        with transaction.atomic():
            return _count(customer, asks, is_billed, alone=is_billed is not None, event=event)
    except WindowToOpen:
        with transaction.atomic():
            return _count(customer, asks, is_billed, alone=True, event=event)


def _count(
    customer: Customer,
    asks: Sequence[Ask],
    is_billed: Callable[[Balance], bool] | None,
    *,
    alone: bool,
    event: dict[str, Any],
) -> Reported:
    hold(customer, alone=alone)
    contracts = contracts_at(customer, event["now"])
    # All buckets in one order, so that two who count several features cannot deadlock.
    locked(open_rows(customer, [ask.feature.id or 0 for ask in asks]))
    public_id = new_event_id()
    counted: list[Tracked] = []
    refused: list[LimitReached] = []
    for ask in asks:
        on = Read(customer, ask, public_id, counts_key=not counted)
        own = event | {"mode": on.mode(event["mode"])}
        try:
            tracked = count_on(customer, ask.feature, on, contracts=contracts, alone=alone, **own)
        except HappenedBefore:
            if is_billed is None:
                raise
            own.pop("charge")
            tracked = count_late_on(customer, ask.feature, on, is_billed=is_billed, **own)
        except LimitReached as found:
            if found.access.has_access:
                raise
            refused.append(found)
            continue
        if on.moves_in_time:
            tracked = replace(tracked, access=check(customer, ask.feature.slug, now=event["now"]))
        counted.append(tracked)
    if not counted:
        raise refused[0]
    return Reported(applied=True, tracked=tuple(counted))


def _repeated(
    customer: Customer, first: UsageEvent, asks: Sequence[Ask], properties: Mapping[str, Any] | None, now: datetime
) -> Reported:
    """The answer to a key that counted already. Raises `KeyReused` for another event."""
    rows = UsageEvent.objects.filter(public_id=first.public_id, recorded_at=first.recorded_at, customer=customer)
    found = list(rows.select_related("feature").order_by("feature_id"))
    read_now = {ask.feature.id: (ask.reading.meter.event_name, ask.reading.value) for ask in asks}
    read_then = {row.feature_id: (row.name, row.reported) for row in found}
    same = all(read_now.get(feature_id, read_then[feature_id]) == then for feature_id, then in read_then.items())
    if not same or first.properties != dict(properties or {}) or not read_then.keys() & read_now.keys():
        raise KeyReused(first.key or "")
    return Reported(
        applied=False,
        tracked=tuple(
            Tracked(applied=False, event=row, access=check(customer, row.feature.slug, now=now)) for row in found
        ),
    )


class Read(Asked):
    """What an event asks of a feature by its meter, and what the window keeps of it."""

    def __init__(self, customer: Customer, ask: Ask, public_id: str, *, counts_key: bool) -> None:
        super().__init__(ZERO)
        self.customer, self.feature, self.reading = customer, ask.feature, ask.reading
        self.name, self.reported = ask.reading.meter.event_name, ask.reading.value
        self.public_id, self.counts_key = public_id, counts_key
        self.gauge: Gauge | None = None
        self.counted: Decimal | None = None

    @property
    def moves_in_time(self) -> bool:
        return self.reading.aggregation is Aggregation.TIME_AVERAGE

    def mode(self, wanted: Mode) -> Mode:
        """A level is a fact: what it comes to is counted, however little is left."""
        return Mode.OVERFLOW if self.moves_in_time else wanted

    def of(self, main: Balance | None, bucket: Bucket | None, at: datetime) -> Decimal:
        self.gauge = bucket.gauge if bucket else None
        if self.moves_in_time:
            return self._by_time(main, bucket, at)
        is_new = True
        if self.reading.member is not None and main is not None:
            is_new = not MeterMember.objects.filter(balance=main, digest=self.reading.member).exists()
        return asked(self.reading, self.gauge, at, is_new=is_new)

    def _by_time(self, main: Balance | None, bucket: Bucket | None, at: datetime) -> Decimal:
        """Nothing, unless the level was another one before than was counted: then what that makes of the window."""
        if main is None or bucket is None or self.gauge is None or at >= self.gauge.at:
            return ZERO
        if main.closed_at is not None or at < bucket.starts_at:
            raise BadInstant(
                f"{self.feature.name} is averaged over time: a level can be reported until its window ends."
            )
        events = [*level_events(main), Happened(at, self.reading.value)]
        total = total_over(self.customer, self.feature, main, events, until=self.gauge.at)
        due = replace(total, counted=self.gauge.counted).due
        self.gauge, self.counted = replace(total, counted=self.gauge.counted + due), due
        return due

    def keep(self, main: Balance | None, at: datetime, short: Decimal) -> None:
        assert main is not None, "whoever counted has a bucket"
        if self.counted is not None:
            keep(main, self.gauge)
            return
        if self.reading.member is not None:
            MeterMember.objects.bulk_create(
                [MeterMember(balance=main, digest=self.reading.member)], ignore_conflicts=True
            )
        present = gauge_of(main)
        if self.moves_in_time and self.gauge is not None and (present is None or present.at < self.gauge.at):
            present = self.gauge
        after = turned(self.reading, present, at, short)
        if after is not None and after != gauge_of(main):
            keep(main, after)


# Windows by all their events ------------------------------------------------------------------------------------------


def events_of(main: Balance) -> list[UsageEvent]:
    """The events that a meter read in the window of its main balance and that count, in the order of their instants."""
    return [row for row in _all_of(main) if row.voided_at is None]


def _all_of(main: Balance) -> list[UsageEvent]:
    """The same with those that were voided."""
    rows = UsageEvent.objects.since(main.starts_at).filter(customer_id=main.customer_id, feature_id=main.feature_id)
    if main.ends_at is not None:
        rows = rows.filter(at__lt=main.ends_at)
    return list(rows.exclude(name="", reported=None).order_by("at", "id"))


def happened(rows: Iterable[UsageEvent], meter: MeterTerms) -> list[Happened]:
    """Events as their meter read them, without those of the clockwork."""
    return [_happened(row, meter) for row in rows if row.mode not in (ACCRUED, RECOUNT)]


def _happened(row: UsageEvent, meter: MeterTerms) -> Happened:
    member = digest_of(text_of(row.properties.get(meter.property))) if meter.property else None
    short = row.amount - row.taken if meter.aggregation in (Aggregation.MAX, Aggregation.LATEST) else ZERO
    return Happened(row.at, row.reported, member, short)


def level_events(main: Balance) -> list[Happened]:
    """The levels of a window: that which it began with, and those that were reported."""
    rows = _all_of(main)
    reported = [row for row in rows if row.mode not in (ACCRUED, RECOUNT)]
    # What was counted after the first report follows from it, also where that is void by now.
    first = min(((row.at, row.pk) for row in reported), default=None)
    counted = [row for row in rows if row.mode == ACCRUED and row.voided_at is None]
    brought = [Happened(row.at, row.reported) for row in counted if first is None or (row.at, row.pk) < first][:1]
    if not brought and first is not None and first[0] == main.starts_at:
        brought = _level_before(main)
    return [*brought, *(Happened(row.at, row.reported) for row in reported if row.voided_at is None)]


def _level_before(main: Balance) -> list[Happened]:
    """The level that a window begins with, where a report at that very instant left nothing of it to be counted."""
    before = UsageEvent.objects.filter(
        customer_id=main.customer_id, feature_id=main.feature_id, at__lt=main.starts_at, voided_at=None
    ).exclude(name="", reported=None)
    last = before.exclude(mode=RECOUNT).order_by("-at", "-id").first()
    return [] if last is None else [Happened(main.starts_at, last.reported)]


def total_over(
    customer: Customer, feature: FeatureTerms, main: Balance, events: Iterable[Happened], *, until: datetime
) -> Gauge:
    """The gauge of an open window by all its levels up to an instant."""
    there = pool_at(customer, until, feature.slug)
    place = next((i for i, bucket in enumerate(there.buckets) if bucket.id == main.pk), 0)
    found = list(events)
    gauge = total_of(there, place, found, main.starts_at, until)
    last = max(found, key=lambda event: event.at, default=None)
    return replace(gauge, level=last.value or ZERO) if last is not None else gauge


def counted_of(rows: Iterable[UsageEvent]) -> Decimal:
    return sum((row.taken for row in rows), ZERO)
