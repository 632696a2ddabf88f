"""What follows a window that has ended, when its use is reported late or taken back."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from billing_admin.flows.void_use import void_use
from catalog.rollovers import Rollover
from customers.models import Customer
from entitlements.ledger import ledger
from entitlements.models import Balance
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def rolling(most: int | None = None) -> Customer:
    rule = Rollover(most=None if most is None else Decimal(most))
    return a.on(a.plan("rolls", a.fee(50), replace(a.allowance(100), rollover=rule)))


def keeping() -> Customer:
    return a.on(a.plan("kept", a.fee(50), replace(a.allowance(100, soft=True), keeps_overage=True)))


def void(tracked: Any, *, now: Any = APRIL_1) -> None:
    void_use(tracked.event, reason="counted twice", actor=a.STAFF, now=now)


def sums(who: Customer) -> bool:
    """Whether each balance is the sum of its ledger."""
    return all(ledger(row)[-1].after == row.left for row in Balance.objects.filter(customer=who))


@pytest.mark.parametrize(("used", "left"), [(60, 200), (100, 200)])
def test_what_is_taken_back_of_an_ended_window_rolls_over(used: int, left: int):
    """A-35"""
    who = rolling()
    tracked = a.use(who, used)
    a.pass_time(who, to=APRIL_1)

    void(tracked)

    assert a.left(who, now=APRIL_1) == left and sums(who)


def test_what_is_used_late_does_not_roll_over():
    """A-35"""
    who = rolling()
    a.use(who, 60)
    a.pass_time(who, to=APRIL_1)

    a.use(who, 30, at=MARCH_16, now=APRIL_1)

    assert a.left(who, now=APRIL_1) == 110 and sums(who)


@pytest.mark.parametrize(("late", "left"), [(30, 150), (70, 130)])
def test_what_a_cap_had_cut_off_is_used_late_first(late: int, left: int):
    """A-35"""
    who = rolling(most=50)
    a.pass_time(who, to=APRIL_1)

    a.use(who, late, at=MARCH_16, now=APRIL_1)

    assert a.left(who, now=APRIL_1) == left and sums(who)


def test_what_is_taken_back_rolls_over_as_far_as_the_cap():
    """A-35"""
    who = rolling(most=50)
    tracked = a.use(who, 60)
    a.pass_time(who, to=APRIL_1)

    void(tracked)

    assert a.left(who, now=APRIL_1) == 150 and sums(who)


def test_overage_that_was_kept_comes_back_with_what_is_taken_back():
    """Y-41"""
    who = keeping()
    tracked = a.use(who, 250)
    a.pass_time(who, to=APRIL_1)
    a.use(who, 1, now=APRIL_1)
    a.pass_time(who, to=MAY_1)
    assert a.left(who, now=MAY_1) == 49

    void(tracked, now=MAY_1)

    assert a.left(who, now=MAY_1) == 100 and sums(who)


def test_overage_of_late_use_is_kept():
    """Y-41"""
    who = keeping()
    a.use(who, 100, now=MARCH_1)
    a.pass_time(who, to=APRIL_1)

    a.use(who, 50, at=MARCH_16, now=APRIL_1)

    assert a.left(who, now=APRIL_1) == 50 and sums(who)
