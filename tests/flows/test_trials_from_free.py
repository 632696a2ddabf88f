"""A change from a free plan into a trial of a paid one: it begins, ends, is taken back, and debts come beside it."""

from datetime import timedelta

import pytest

from billing_admin.flows.dunning import collect_overdue
from tests import builders as a
from tests.flows.undo_world import last, take_back
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MARCH_8, MARCH_15, MARCH_22, APRIL_22 = (day(f"2026-{text}") for text in ("03-08", "03-15", "03-22", "04-22"))


def trial_plan():
    return a.plan("pro", a.fee(20), a.allowance(100, price="0.10"), trial_days=14)


def test_a_trial_of_a_paid_plan_begins_on_a_free_one():
    """A-27"""
    who = a.on(a.free())

    enabled = a.enable(who, trial_plan(), now=MARCH_8)

    assert (enabled.subscription.state, enabled.subscription.trial_ends_at) == ("trialing", MARCH_22)
    assert (a.totals(who), a.left(who, now=MARCH_8)) == ([], 100)


def test_the_paid_plan_is_billed_from_the_end_of_a_trial_that_began_on_a_free_plan():
    """A-27"""
    who = a.on(a.free())
    a.enable(who, trial_plan(), now=MARCH_8)

    a.pass_time(who, to=APRIL_22)

    assert (a.the_subscription(who).state, a.totals(who)) == ("active", [2000, 2000])


def test_a_trial_that_began_on_a_free_plan_is_taken_back_to_the_free_plan():
    """L-46"""
    who, pro = a.on(a.free()), trial_plan()
    a.use(who, 3)
    a.enable(who, pro, now=MARCH_8)
    a.use(who, 5, now=MARCH_8)

    take_back(last(who, "plan.enabled"), now=MARCH_15)

    contract = a.the_subscription(who)
    assert (contract.state, contract.trial_ends_at, contract.next_phase(MARCH_15)) == ("active", None, None)
    assert a.left(who, now=MARCH_15) == 2
    a.pass_time(who, to=APRIL_22)
    assert a.totals(who) == []
    assert a.enable(who, pro, now=APRIL_22, trial_days=14).subscription.state == "trialing"


def test_a_debt_stays_past_due_while_a_trial_begins_and_the_trial_goes_on_once_it_is_paid():
    """A-27"""
    who = a.customer()
    a.enable(who, a.pro(), net_terms_days=1)
    a.enable(who, a.free(), now=MARCH_1 + timedelta(hours=1), timing=a.Timing.WITHOUT_BILLING)
    collect_overdue(who, now=MARCH_8)
    assert a.the_subscription(who).state == "past_due"

    a.enable(who, a.plan("team", a.fee(20), a.allowance(100), trial_days=30), now=MARCH_8)
    assert a.the_subscription(who).state == "past_due"

    a.pay_all(who, now=MARCH_16)
    assert a.the_subscription(who).state == "trialing"
