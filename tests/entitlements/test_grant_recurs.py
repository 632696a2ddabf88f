"""Grants that come again: each window is a balance of its own, however late the worker is."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from customers.models import Customer
from entitlements.grant import BadGrant, change_grant, grant, void_grant
from entitlements.ledger import ledger
from entitlements.models import Balance, Grant
from entitlements.reset import reset_due
from tests import builders as a
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def given(who: Customer, units: int = 50, *, now: datetime = MARCH_1, **more: Any) -> Grant:
    wanted: dict[str, Any] = {"ends_at": None, "label": "Partner units", "recurs": "P1M"} | more
    return grant(who, a.feature(), Decimal(units), now=now, **wanted)


def remaining(who: Customer, now: datetime) -> Decimal | None:
    return a.access(who, now=now).remaining


def windows(made: Grant) -> list[tuple]:
    return [(row.starts_at, row.ends_at, row.granted, row.used) for row in made.balances.order_by("starts_at")]


def test_units_come_again_at_each_boundary_and_what_was_left_is_gone():
    """L-36"""
    who = a.customer()
    given(who)
    a.use(who, 20)

    assert [remaining(who, at) for at in (MARCH_16, APRIL_1, MAY_1)] == [30, 50, 50]


def test_the_boundaries_are_counted_from_the_start_with_the_ends_of_months():
    """L-36"""
    who = a.customer()
    made = given(who, starts_at=day("2026-03-31"))
    for at in (day("2026-04-30"), day("2026-05-31")):
        a.use(who, 1, now=at)

    assert [starts for starts, *_ in windows(made)][1:] == [day("2026-04-30"), day("2026-05-31")]


def test_units_come_with_another_rhythm_than_the_plan():
    """L-36"""
    who = a.on(a.pro(credits=100))
    given(who, 10, recurs="P1W")
    a.use(who, 105)

    assert remaining(who, day("2026-03-08")) == 15


def test_the_last_window_ends_with_the_grant():
    """L-36"""
    who = a.customer()
    given(who, ends_at=MAY_1 - 10 * HOUR)

    assert [remaining(who, at) for at in (APRIL_1, MAY_1 - 11 * HOUR)] == [50, 50]
    assert not a.access(who, now=MAY_1 - 10 * HOUR).has_access


def test_a_late_worker_leaves_what_a_punctual_one_does():
    """A-38"""
    punctual, late = a.customer("Punctual"), a.customer("Late")
    made = {who.pk: given(who) for who in (punctual, late)}
    for who in (punctual, late):
        a.use(who, 20)
    for boundary in (APRIL_1, MAY_1, JUNE_1):
        reset_due(now=boundary, skip=[late.pk])
    asked = remaining(late, JUNE_1 + HOUR)

    reset_due(now=JUNE_1 + HOUR)

    assert windows(made[late.pk])[-1] == windows(made[punctual.pk])[-1]
    assert asked == remaining(punctual, JUNE_1 + HOUR) == 50
    rows = Balance.objects.filter(closed_at=None)
    assert all(ledger(row)[-1].after == row.left for row in rows)


def test_use_after_missed_windows_opens_the_one_that_holds():
    """A-38"""
    who = a.customer()
    made = given(who)
    a.use(who, 20)

    a.use(who, 5, now=JUNE_1 + HOUR)

    assert windows(made)[-1] == (JUNE_1, day("2026-07-01"), 50, 5)


def test_a_grant_that_was_taken_back_does_not_come_again():
    """P-38"""
    who = a.customer()
    made = given(who)
    a.use(who, 20)

    void_grant(made, reason="contract ended", now=MARCH_16)

    assert not a.access(who, now=APRIL_1).has_access
    assert windows(made)[0][3] == 20


def test_a_change_before_any_use_holds_for_windows_to_come():
    """P-38"""
    who = a.customer()
    made = given(who)

    change_grant(made, units=Decimal(80), ends_at=None, now=MARCH_16)

    assert [remaining(who, at) for at in (MARCH_16, APRIL_1)] == [80, 80]


def test_a_rhythm_that_cannot_be_is_refused():
    with pytest.raises(BadGrant):
        given(a.customer(), recurs="P2D")
