"""Meters against a slow recount from all events, in pure numbers and through rows, late events and voids."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.use import report_use
from billing_admin.flows.void_use import void_use
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.correct import CannotVoid
from entitlements.ledger import ledger
from entitlements.meters import Aggregation, Gauge, MeterTerms, asked, read, turned
from entitlements.models import Balance, UsageEvent
from entitlements.reset import reset_due
from tests import builders as a
from tests.entitlements.test_metered import metered
from tests.instants import APRIL_1, MARCH_1, MAY_1

HOUR = timedelta(hours=1)
VALUES = st.decimals(0, 1000, places=3)


@dataclass(frozen=True)
class Sent:
    at: datetime
    value: Decimal


def slowly(aggregation: str, events: Sequence[Sent]) -> Decimal:
    """What the events of one window come to, from the words of the rule."""
    if aggregation == "count":
        return Decimal(len(events))
    if aggregation == "sum":
        return sum((event.value for event in events), Decimal(0))
    if aggregation == "max":
        return max((event.value for event in events), default=Decimal(0))
    if aggregation == "unique_count":
        return Decimal(len({event.value for event in events}))
    latest = Sent(MARCH_1, Decimal(0))
    for event in events:
        latest = event if event.at >= latest.at else latest
    return latest.value


def averaged(events: Sequence[Sent], since: datetime, until: datetime, length: timedelta) -> Decimal:
    """The area under the levels between two instants, as a part of a window's length; second by second is exact."""
    ordered = sorted(events, key=lambda event: event.at)
    area = Fraction(0)
    for place, event in enumerate(ordered):
        stop = ordered[place + 1].at if place + 1 < len(ordered) else until
        start, stop = max(since, event.at), min(until, stop)
        if stop > start:
            area += Fraction(event.value) * Fraction((stop - start).total_seconds())
    units = area / Fraction(length.total_seconds())
    whole = Decimal(units.numerator * 10**12 // units.denominator) / 10**12
    return whole.quantize(Decimal("0.000001"), rounding=ROUND_HALF_UP)


EVENTS = st.lists(st.tuples(st.integers(0, 700), st.sampled_from([Decimal(n) for n in range(0, 60, 7)])), max_size=12)
WITHOUT_TIME = ["sum", "count", "max", "unique_count", "latest"]


@given(st.sampled_from(WITHOUT_TIME), st.lists(st.tuples(st.integers(0, 700), VALUES), max_size=20))
def test_what_events_ask_for_sums_to_the_recount(aggregation: str, found: list[tuple[int, Decimal]]):
    meter = MeterTerms("job", Aggregation(aggregation), "user" if aggregation == "unique_count" else "")
    gauge: Gauge | None = None
    met, total, sent = set(), Decimal(0), []
    for hours, value in found:
        event = Sent(MARCH_1 + hours * HOUR, value)
        reading = read(meter, {"user": str(value)}, value)
        total += asked(reading, gauge, event.at, is_new=reading.member not in met)
        gauge = turned(reading, gauge, event.at)
        met.add(reading.member)
        sent.append(event)

    assert total == slowly(aggregation, sent)


@given(st.lists(st.tuples(st.integers(1, 40_000_000), VALUES), min_size=1, max_size=30))
def test_pieces_of_a_level_round_once(pieces: list[tuple[int, Decimal]]):
    """Counting piece by piece, with what is due rounded each time, comes to the exact area rounded once."""
    length = sum(span for span, _ in pieces)
    gauge = Gauge(Decimal(0), MARCH_1, Decimal(0))
    for span, level in pieces:
        gauge = Gauge(level, gauge.at, gauge.units, gauge.counted).after(Fraction(span, length), gauge.at)
        gauge = Gauge(gauge.level, gauge.at, gauge.units, gauge.counted + gauge.due)

    exact = sum((Fraction(level) * span for span, level in pieces), Fraction(0)) / length
    assert abs(Fraction(gauge.counted) - exact) <= Fraction(1, 2_000_000)


# Through rows ---------------------------------------------------------------------------------------------------------


def total(who: Customer, window: datetime) -> Decimal:
    rows = Balance.objects.filter(customer=who, starts_at=window, source="plan_item")
    return sum((row.used for row in rows), Decimal(0))


def properties(aggregation: str, value: Decimal) -> dict[str, Any]:
    return {"user": str(value)} if aggregation == "unique_count" else {}


@pytest.mark.django_db
@pytest.mark.parametrize("aggregation", WITHOUT_TIME)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=EVENTS, late=st.lists(st.integers(0, 11), max_size=6), voids=st.lists(st.integers(0, 11), max_size=4))
def test_windows_count_what_their_events_come_to(
    aggregation: str, events: list[tuple[int, Decimal]], late: list[int], voids: list[int]
):
    """Events of March in any order, some reported only in April, some voided."""
    with transaction.atomic():
        metered(aggregation, by="user" if aggregation == "unique_count" else "")
        who = a.on(a.plan("pro", a.allowance(100, soft=True)))
        kept: dict[str, Sent] = {}
        order = [n for n in range(len(events)) if n not in late] + [n for n in late if n < len(events)]
        for n in dict.fromkeys(order):
            hours, value = events[n]
            at = MARCH_1 + hours * HOUR
            now = APRIL_1 + HOUR if n in late else at
            now = max(now, max((sent.at for sent in kept.values()), default=now))
            found = report_use(
                who,
                name="job",
                properties=properties(aggregation, value),
                value=value,
                at=at,
                now=now,
                mode=Mode.OVERFLOW,
            )
            kept[found.tracked[0].event.public_id] = Sent(at, value)
        voided = set()
        for n in dict.fromkeys(n for n in voids if n < len(kept)):
            public_id = list(kept)[n]
            event = UsageEvent.objects.filter(public_id=public_id).earliest("id")
            # What later events gave back already cannot be given back again: that is refused, and changes nothing.
            with suppress(CannotVoid), transaction.atomic():
                void_use(event, reason="wrong", actor=a.STAFF, now=APRIL_1 + 2 * HOUR)
                voided.add(n)
        sent = [one for n, one in enumerate(kept.values()) if n not in voided]
        note(f"{sent=}")

        assert total(who, MARCH_1) == slowly(aggregation, sent)
        rows = Balance.objects.filter(customer=who)
        assert all(ledger(row)[-1].after == row.left for row in rows)
        transaction.set_rollback(True)


@pytest.mark.django_db
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events=st.lists(
        st.tuples(st.integers(0, 1400), st.sampled_from([Decimal(n) for n in range(0, 60, 7)])), min_size=1, max_size=8
    ),
    workers=st.lists(st.integers(0, 1463), max_size=4),
    void=st.booleans(),
)
def test_a_level_comes_to_the_area_below_it_whoever_writes_it_and_when(
    events: list[tuple[int, Decimal]], workers: list[int], void: bool
):
    """A-38: levels over March and April, with a worker that looks in at random."""
    with transaction.atomic():
        metered("time_average")
        who = a.on(a.plan("pro", a.allowance(10, soft=True)))
        sent: list[Sent] = []
        acts = sorted([(hours, value) for hours, value in events] + [(hours, None) for hours in workers], key=first)
        for hours, value in acts:
            at = MARCH_1 + hours * HOUR
            if value is None:
                reset_due(now=at)
                continue
            report_use(who, name="job", properties={}, value=value, at=at, now=at)
            sent.append(Sent(at, value))
        now = max(MAY_1 - HOUR, sent[-1].at)
        if void and sent[-1].at >= APRIL_1:
            void_use(UsageEvent.objects.filter(name="job").latest("id"), reason="wrong", actor=a.STAFF, now=now)
            sent.pop()
        read_before = a.access(who, now=now).used
        reset_due(now=MAY_1)

        april = averaged(sent, APRIL_1, now, timedelta(days=30))
        assert abs(read_before - april) <= Decimal("0.000001")
        assert abs(total(who, MARCH_1) - averaged(sent, MARCH_1, APRIL_1, timedelta(days=31))) <= Decimal("0.000001")
        rows = Balance.objects.filter(customer=who)
        assert all(ledger(row)[-1].after == row.left for row in rows)
        transaction.set_rollback(True)


def first(act: tuple[int, Decimal | None]) -> int:
    return act[0]
