"""A worker that comes late, or not at all, changes when documents are written; never what is true or owed."""

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.change import Timing
from catalog.models import Plan
from tests.builders import (
    STAFF,
    allowance,
    enable,
    fee,
    on,
    pass_time,
    plan,
    pro,
    the_subscription,
    totals,
)
from tests.instants import APRIL_16, MARCH_16, day

pytestmark = pytest.mark.django_db

APRIL_2 = day("2026-04-02")
APRIL_8 = day("2026-04-08")


def yearly_with_a_monthly_fee():
    return plan("yearly", fee(600, cadence="P1Y"), fee(20, key="support"), allowance(100), cadence="P1Y")


def test_withdrawing_a_change_skips_no_boundary_that_nobody_settled():
    """A-15, law 7"""
    acme = on(yearly_with_a_monthly_fee())
    pro()
    enable(acme, Plan.objects.get(key="pro"), now=MARCH_16, timing=Timing.CYCLE_END)

    withdraw(the_subscription(acme), actor=STAFF, now=APRIL_2)
    pass_time(acme, to=APRIL_2)

    assert totals(acme) == [62000, 2000]


def test_taking_back_a_cancellation_skips_no_boundary_that_nobody_settled():
    """A-25, law 7"""
    acme = on(pro(50))
    cancel(the_subscription(acme), ends_at=APRIL_16, reason="leaves", actor=STAFF, now=MARCH_16)

    withdraw(the_subscription(acme), actor=STAFF, now=APRIL_2)
    pass_time(acme, to=APRIL_2)

    assert totals(acme) == [5000, 5000]
