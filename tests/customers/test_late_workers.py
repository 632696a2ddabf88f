"""A worker that comes late, or not at all, changes when documents are written; never what is true or owed."""

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from entitlements.reset import reset_due
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    enable,
    fee,
    left,
    on,
    pass_time,
    plan,
    pro,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_16, day

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


def test_an_add_on_gives_nothing_after_its_main_plan_ended_although_nobody_noticed():
    """Law 7: an add-on ends with its main plan."""
    acme = on(pro(50))
    enable(acme, plan("boost", fee(10), allowance(1000, of="calls"), add_on=True))
    cancel(the_main_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)
    assert access(acme, of="calls", now=day("2026-03-31T23:59")).allowed

    assert access(acme, of="calls", now=APRIL_1).reason == "no_plan"


def test_an_add_on_without_a_main_plan_stands_by_itself():
    acme = customer()
    enable(acme, plan("boost", fee(10), allowance(1000, of="calls"), add_on=True))

    assert access(acme, of="calls", now=APRIL_1).allowed


def the_main_subscription(who):
    return who.subscriptions.live().get(add_on=False)


def test_use_of_the_last_week_is_billed_although_resets_ran_before_the_end_was_settled():
    """A-25: overage is billed at the close."""
    acme = on(plan("pro", fee(50), allowance(10, resets="P1W", price="1")))
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)
    use(acme, 25, now=day("2026-03-30"))

    reset_due(now=APRIL_8)
    pass_time(acme, to=APRIL_8)

    assert totals(acme) == [5000, 1500]


def test_use_before_a_switch_is_billed_with_it_although_use_after_it_came_first():
    """A-15, A-23"""
    acme = on(plan("team", fee(200), allowance(10, resets="P1W", price="1")))
    plan("pro", fee(50), allowance(10, resets="P1W"))
    enable(acme, Plan.objects.get(key="pro"))
    use(acme, 25, now=day("2026-03-30"))

    use(acme, 1, now=APRIL_8)
    pass_time(acme, to=APRIL_8)

    assert totals(acme) == [20000, 5000 + 1500]


def test_use_before_a_switch_is_billed_with_it_although_resets_ran_first():
    """A-15, A-23"""
    acme = on(plan("team", fee(200), allowance(10, resets="P1W", price="1")))
    plan("pro", fee(50), allowance(10, of="calls"))
    enable(acme, Plan.objects.get(key="pro"))
    use(acme, 25, now=day("2026-03-30"))

    reset_due(now=APRIL_8)
    pass_time(acme, to=APRIL_8)

    assert totals(acme) == [20000, 5000 + 1500]


def test_use_of_a_plan_that_began_unnoticed_survives_the_settling_of_what_came_before():
    """A-38, law 7"""
    acme = on(yearly_with_a_monthly_fee())
    plan("basic", fee(50), allowance(7, of="calls"))
    pass_time(acme, to=day("2027-01-15"))
    enable(acme, Plan.objects.get(key="basic"), now=day("2027-01-15"))
    late = day("2027-03-02")  # neither 1 February nor the switch on 1 March was settled
    use(acme, 3, of="calls", now=late)

    catch_up(acme, now=late)

    assert left(acme, of="calls", now=late) == 4


def test_many_contracts_of_one_customer_are_no_runaway():
    acme = on(pro(50))
    for number in range(6):
        enable(acme, plan(f"boost-{number}", fee(1), add_on=True))

    catch_up(acme, now=day("2026-09-02"))

    assert not acme.subscriptions.parked().exists()
    assert len(totals(acme)) == 7 + 6 * 7


def test_use_of_an_add_on_is_billed_at_its_end_although_resets_ran_first():
    """A-25"""
    acme = on(pro(50))
    enable(acme, plan("boost", fee(10), allowance(10, of="calls", resets="P1W", price="1"), add_on=True))
    cancel(the_main_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)
    use(acme, 25, of="calls", now=day("2026-03-30"))

    reset_due(now=APRIL_8)
    pass_time(acme, to=APRIL_8)

    assert totals(acme) == [5000, 1000, 1500]
