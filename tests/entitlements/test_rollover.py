"""What of a window's rest lives on, what was used beyond it, and that a late worker leaves the same rows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from catalog.models import Plan
from catalog.rollovers import Rollover
from customers.models import Customer
from entitlements.edit import edit_balance
from entitlements.ledger import ledger
from entitlements.models import Balance
from entitlements.override import override
from entitlements.reset import reset_due
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
JULY_1 = day("2026-07-01")
BOUNDARIES = [APRIL_1, MAY_1, JUNE_1, JULY_1]


def rolling(
    included: int = 100, *, lasts: str = "P1M", most: int | None = None, percent: int | None = None, key: str = "pro"
) -> Plan:
    rule = Rollover(lasts, None if most is None else Decimal(most), None if percent is None else Decimal(percent))
    return a.plan(key, a.fee(10), replace(a.allowance(included), rollover=rule))


def keeping(included: int = 100) -> Plan:
    return a.plan("kept", a.fee(10), replace(a.allowance(included, soft=True), keeps_overage=True))


def remaining(who: Customer, now: datetime) -> Decimal | None:
    return a.access(who, now=now).remaining


def buckets(who: Customer) -> list[tuple]:
    """All that matters of the open rows, and whether each is the sum of its ledger."""
    rows = Balance.objects.filter(customer=who, closed_at=None).order_by("source", "starts_at")
    assert all(ledger(row)[-1].after == row.left for row in rows)
    return [(r.source, r.starts_at, r.ends_at, r.granted, r.adjusted, r.used) for r in rows]


def test_what_is_left_lives_on_beside_the_next_window_and_is_burnt_first():
    who = a.on(rolling())
    a.use(who, 30)

    a.use(who, 80, now=APRIL_1)

    rolled = Balance.objects.get(source="rollover")
    assert (rolled.granted, rolled.used, remaining(who, APRIL_1)) == (70, 70, 90)


def test_a_rollover_is_gone_when_it_ends():
    who = a.on(rolling())
    a.use(who, 30)

    found = [remaining(who, at) for at in (APRIL_1, MAY_1 - HOUR, MAY_1)]

    assert found == [170, 170, 200]


@pytest.mark.parametrize(("cap", "left"), [({"most": 40}, 140), ({"percent": 25}, 125), ({}, 300)])
def test_a_cap_bounds_all_that_lives_on_together(cap: dict[str, int], left: int):
    who = a.on(rolling(lasts="never", **cap))
    a.use(who, 0)

    assert remaining(who, MAY_1) == left


def test_a_cap_takes_from_the_oldest_first():
    who = a.on(rolling(lasts="P3M", most=120))
    for at in (MARCH_1, APRIL_1):
        a.use(who, 10, now=at)

    reset_due(now=MAY_1)

    rows = Balance.objects.filter(source="rollover", closed_at=None).order_by("starts_at")
    assert [row.left for row in rows] == [20, 100]


def test_overage_that_is_kept_is_taken_from_the_next_windows():
    who = a.on(keeping(100))
    a.overuse(who, 250)

    found = [a.access(who, now=at).remaining for at in (APRIL_1, MAY_1, JUNE_1)]

    assert found == [0, 50, 100]


def test_an_edit_at_the_end_of_a_window_rolls_over_with_it():
    who = a.on(rolling())
    edit_balance(who, feature="credits", to=Decimal(500), reason="a gift", actor=a.STAFF, now=MARCH_16)

    assert remaining(who, APRIL_1) == 600


def test_what_an_override_covers_does_not_roll_over():
    who = a.on(rolling())
    value = Decimal(400)
    override(who, a.feature(), value, effective_until=APRIL_1, reason="a launch", actor=a.STAFF, now=MARCH_1)

    assert (remaining(who, MARCH_16), remaining(who, APRIL_1)) == (400, 200)


# Late against punctual ------------------------------------------------------------------------------------------------


def used_little(who: Customer) -> None:
    a.use(who, 30)


def used_it_up(who: Customer) -> None:
    a.use(who, 100)


def used_none(who: Customer) -> None:
    a.use(who, 0)


def used_beyond(who: Customer) -> None:
    a.overuse(who, 330)


PLANS: dict[str, Callable[[], Plan]] = {
    "a month": rolling,
    "three months": lambda: rolling(lasts="P3M"),
    "for good": lambda: rolling(lasts="never"),
    "two weeks": lambda: rolling(lasts="P14D"),
    "at most 120": lambda: rolling(lasts="P3M", most=120),
    "at most half": lambda: rolling(lasts="never", percent=50),
    "kept overage": keeping,
}


@pytest.mark.parametrize("act", [used_little, used_it_up, used_none, used_beyond])
@pytest.mark.parametrize("plan", PLANS)
def test_a_late_worker_leaves_what_a_punctual_one_does(plan: str, act: Callable[[Customer], None]):
    """A-38"""
    sold = PLANS[plan]()
    punctual, late = a.on(sold, name="Punctual"), a.on(sold, name="Late")
    for who in (punctual, late):
        act(who)
    for boundary in BOUNDARIES:
        reset_due(now=boundary, skip=[late.pk])
    asked = a.access(late, now=JULY_1 + HOUR)

    reset_due(now=JULY_1 + HOUR)

    assert buckets(late) == buckets(punctual)
    present = a.access(punctual, now=JULY_1 + HOUR)
    assert (asked.remaining, asked.used, asked.limit) == (present.remaining, present.used, present.limit)


def test_use_in_between_is_counted_as_if_every_boundary_had_been_kept():
    """A-38"""
    sold = rolling(lasts="P3M", most=150)
    punctual, late = a.on(sold, name="Punctual"), a.on(sold, name="Late")
    for boundary, amount in ((MARCH_16, 40), (APRIL_16, 120), (JUNE_1 + HOUR, 170)):
        reset_due(now=boundary, skip=[late.pk])
        for who in (punctual, late):
            a.use(who, amount, now=boundary)
    reset_due(now=JULY_1, skip=[late.pk])

    reset_due(now=JULY_1)

    assert buckets(late) == buckets(punctual)
