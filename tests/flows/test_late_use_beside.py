"""Use that is reported late is taken from the buckets that stood beside the plan's when it happened."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from catalog.rollovers import Rollover
from entitlements.grant import grant, void_grant
from entitlements.ledger import ledger
from entitlements.models import Balance
from entitlements.override import override
from entitlements.track import LimitReached
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

MARCH_5, MARCH_6 = day("2026-03-05"), day("2026-03-06")


def sources_of(tracked) -> list[str]:
    rows = Balance.objects.in_bulk(tracked.event.balance_ids)
    assert all(ledger(row)[-1].after == row.left for row in rows.values())
    return [rows[pk].source for pk in tracked.event.balance_ids]


@pytest.mark.parametrize("first", [100, 0])
def test_an_override_of_then_is_used_though_nobody_had_opened_its_bucket(first: int):
    """L-33"""
    who = a.on(a.pro(credits=100))
    override(who, a.feature(), 500, effective_until=APRIL_1, reason="launch", actor=a.STAFF, now=MARCH_1)
    if first:
        a.use(who, first, now=MARCH_5)
    a.pass_time(who, to=APRIL_16)

    tracked = a.use(who, 300, at=MARCH_6, now=APRIL_16)

    assert "override" in sources_of(tracked)


def test_an_override_of_then_that_was_never_written_is_used():
    """L-33"""
    who = a.on(a.pro(credits=100))
    override(
        who,
        a.feature(),
        500,
        effective_from=APRIL_1,
        effective_until=MAY_1,
        reason="launch",
        actor=a.STAFF,
        now=MARCH_1,
    )
    a.pass_time(who, to=MAY_1 + timedelta(days=1))

    tracked = a.use(who, 300, at=APRIL_16, now=MAY_1 + timedelta(days=1))

    assert sources_of(tracked) == ["plan_item", "override"]


def test_a_bonus_of_then_is_used_before_use_is_charged():
    """Y-42"""
    who = a.on(a.plan("metered", a.allowance(100, price="0.10")))
    grant(who, a.feature(), Decimal(50), ends_at=APRIL_1, label="Welcome", now=MARCH_1)
    a.use(who, 100, now=MARCH_5)

    tracked = a.use(who, 30, at=MARCH_6, now=MARCH_16)
    assert sources_of(tracked) == ["bonus"]


def test_a_bonus_that_was_taken_back_is_not_used():
    """P-38"""
    who = a.on(a.pro(credits=100))
    given = grant(who, a.feature(), Decimal(50), ends_at=None, label="Welcome", now=MARCH_1)
    void_grant(given, now=MARCH_16)
    a.pass_time(who, to=APRIL_16)

    a.use(who, 100, at=MARCH_6, now=APRIL_16)
    with pytest.raises(LimitReached):
        a.use(who, 1, at=MARCH_6, now=APRIL_16)


def test_a_rollover_of_then_is_used_first():
    """A-35"""
    item = replace(a.allowance(100), rollover=Rollover(lasts="P1M"))
    who = a.on(a.plan("rolls", a.fee(50), item))
    a.pass_time(who, to=APRIL_1)
    a.pass_time(who, to=MAY_1)

    tracked = a.use(who, 150, at=APRIL_16, now=MAY_1)

    assert sources_of(tracked) == ["rollover", "plan_item"]
