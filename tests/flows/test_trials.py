"""Trials: a free period of its own before the first one that is charged."""

from datetime import timedelta

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.plan_change import Timing
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    enable,
    fee,
    left,
    pass_time,
    plan,
    preview,
    the_subscription,
    totals,
    use,
)
from tests.instants import MARCH_1, day

pytestmark = pytest.mark.django_db
MARCH_8, MARCH_15 = day("2026-03-08"), day("2026-03-15")
APRIL_15 = day("2026-04-15")


def trial_plan(key="pro", price=20, days=14, **options):
    return plan(key, fee(price), allowance(100, price="0.10"), trial_days=days, **options)


def test_a_trial_costs_nothing_and_the_first_invoice_comes_at_its_end():
    """A-27"""
    acme = customer()

    change = preview(acme, trial_plan())

    assert (change.total, change.trial_ends_at, change.is_gated) == (0, MARCH_15, False)
    assert (change.next_invoice.at, change.next_invoice.total) == (MARCH_15, 2000)


def test_the_paid_cycle_counts_from_the_end_of_the_trial():
    """A-27"""
    acme = customer()
    enabled = enable(acme, trial_plan())
    assert (enabled.subscription.state, totals(acme)) == ("trialing", [])

    pass_time(acme, to=MARCH_15)

    subscription = the_subscription(acme)
    assert (subscription.state, totals(acme), subscription.period_ends_at) == ("active", [2000], APRIL_15)
    pass_time(acme, to=APRIL_15)
    assert totals(acme) == [2000, 2000]


def test_a_trial_has_its_own_allowance_which_starts_afresh_with_the_first_period():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan())
    use(acme, 40)
    assert access(acme).next_reset_at == MARCH_15

    pass_time(acme, to=MARCH_15)

    assert (left(acme, now=MARCH_15), access(acme, now=MARCH_15).next_reset_at) == (100, APRIL_15)


def test_use_in_a_trial_is_never_billed():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan())
    use(acme, 500)

    pass_time(acme, to=MARCH_15)
    pass_time(acme, to=APRIL_15)

    assert totals(acme) == [2000, 2000]


def test_a_late_worker_ends_the_trial_at_the_same_instant():
    """Law 7"""
    acme = customer()
    enable(acme, trial_plan())

    assert access(acme, now=MARCH_15 + timedelta(days=3)).next_reset_at == APRIL_15
    pass_time(acme, to=MARCH_15 + timedelta(days=3))

    assert the_subscription(acme).period_ends_at == APRIL_15


def test_a_trial_that_ends_by_itself_is_not_charged():
    """A-27"""
    acme = customer()
    enabled = enable(acme, trial_plan(trial_end="cancel"))

    pass_time(acme, to=MARCH_15)

    enabled.subscription.refresh_from_db()
    assert (enabled.subscription.state, enabled.subscription.end_reason, totals(acme)) == ("ended", "trial_ended", [])


def test_an_upgrade_out_of_a_trial_is_charged_now():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan())

    enable(acme, plan("premium", fee(50), allowance(500)), now=MARCH_8)

    assert (totals(acme), the_subscription(acme).state) == ([5000], "active")
    assert the_subscription(acme).period_ends_at == day("2026-04-08")


def test_a_downgrade_in_a_trial_waits_for_its_end_and_can_be_withdrawn():
    """A-27, A-15"""
    acme = customer()
    enable(acme, trial_plan("premium", price=50))
    basic = plan("basic", fee(20))

    change = preview(acme, basic, now=MARCH_8)
    assert (change.timing, change.starts_at) == (Timing.CYCLE_END, MARCH_15)
    enable(acme, basic, now=MARCH_8)
    withdraw(the_subscription(acme), actor=STAFF, now=MARCH_8)
    pass_time(acme, to=MARCH_15)

    assert totals(acme) == [5000]


def test_a_canceled_trial_ends_without_an_invoice_and_taking_it_back_restores_the_first_period():
    """A-25"""
    acme = customer()
    enable(acme, trial_plan())
    subscription = the_subscription(acme)
    cancel(subscription, reason="no need", actor=STAFF, now=MARCH_8)
    assert the_subscription(acme).ends_at == MARCH_15

    withdraw(subscription, actor=STAFF, now=MARCH_8)
    pass_time(acme, to=MARCH_15)

    assert totals(acme) == [2000]


def test_a_second_trial_of_a_product_is_none():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan(trial_end="cancel"))
    pass_time(acme, to=MARCH_15)

    change = preview(acme, trial_plan("again"), now=MARCH_15)

    assert (change.trial_ends_at, change.total) == (None, 2000)


def test_staff_may_give_another_trial():
    """L-48"""
    assert preview(customer(), trial_plan(), trial_days=30).trial_ends_at == MARCH_1 + timedelta(days=30)
    assert preview(customer(), trial_plan("other"), trial_days=0).total == 2000


def test_features_changed_in_a_trial_keep_it_running():
    """A-03"""
    acme = customer()
    made = trial_plan()
    enable(acme, made)
    use(acme, 40)

    enable(acme, made, fee(20), allowance(200, price="0.10"), now=MARCH_8)
    assert (left(acme, now=MARCH_8), the_subscription(acme).state) == (160, "trialing")
    pass_time(acme, to=MARCH_15)

    assert (totals(acme), left(acme, now=MARCH_15)) == ([2000], 200)
