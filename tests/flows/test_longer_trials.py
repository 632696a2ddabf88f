"""A trial that is extended, or ended early, by a person."""

import pytest

from billing_admin.flows.cancel import withdraw
from billing_admin.flows.trials import BadTrialEnd, NotOnTrial, end_now, extend
from catalog.terms import CANCEL
from customers.journal import ReasonRequired
from customers.switch import NothingScheduled
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    default,
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
from tests.instants import APRIL_1, day

pytestmark = pytest.mark.django_db
MARCH_10, MARCH_15, MARCH_24, APRIL_9 = day("2026-03-10"), day("2026-03-15"), day("2026-03-24"), day("2026-04-09")


@pytest.fixture
def acme():
    """On a trial of 14 days from the first of March, 30 of 100 credits used."""
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100), trial_days=14))
    use(who, 30)
    return who


def extended(who, *, now=MARCH_10, **how):
    return extend(the_subscription(who), reason="needs more time", actor=STAFF, now=now, **how)


def test_extending_counts_from_now(acme):
    """A-27"""
    operation = extended(acme, days=14)

    assert operation.summary == "Extended the trial until 24 Mar 2026"
    assert the_subscription(acme).trial_ends_at == MARCH_24
    pass_time(acme, to=MARCH_15)
    assert totals(acme) == []
    pass_time(acme, to=MARCH_24)
    assert (totals(acme), the_subscription(acme).period_ends_at) == ([2000], day("2026-04-24"))


def test_the_open_window_lasts_as_long_as_the_trial(acme):
    """A-27"""
    extended(acme, days=14)

    assert access(acme, now=day("2026-03-20")).next_reset_at == MARCH_24
    assert left(acme, now=day("2026-03-20")) == 70
    assert left(acme, now=MARCH_24) == 100


def test_a_window_that_ends_before_the_new_end_keeps_its_own_date(acme):
    """A-27: the month of credits is over on 1 April; the trial goes on."""
    extended(acme, until=APRIL_9)

    assert access(acme, now=MARCH_15).next_reset_at == APRIL_1
    assert left(acme, now=APRIL_1) == 100
    assert access(acme, now=APRIL_1).next_reset_at == APRIL_9


@pytest.mark.parametrize("how", [{}, {"days": 0}, {"days": 3}, {"until": MARCH_15}, {"days": 5, "until": APRIL_9}])
def test_an_end_that_is_no_later_is_refused(acme, how):
    """A-27"""
    with pytest.raises(BadTrialEnd):
        extended(acme, **how)


def test_a_longer_trial_needs_a_reason(acme):
    with pytest.raises(ReasonRequired):
        extend(the_subscription(acme), days=14, reason=" ", actor=STAFF, now=MARCH_10)


def test_what_is_not_on_trial_cannot_be_extended():
    with pytest.raises(NotOnTrial):
        extended(on(pro()), days=14)


def test_a_trial_that_is_over_by_now_cannot_be_extended(acme):
    """The worker being late makes no trial longer."""
    with pytest.raises(NotOnTrial):
        extended(acme, days=14, now=MARCH_15)


def test_ending_a_trial_now_charges_the_first_period_from_now(acme):
    """A-27"""
    ended = end_now(the_subscription(acme), reason="wants to pay", actor=STAFF, now=MARCH_10)

    assert [invoice.total for invoice in ended.invoices] == [2000]
    assert (the_subscription(acme).state, the_subscription(acme).period_ends_at) == ("active", day("2026-04-10"))
    assert left(acme, now=MARCH_10) == 100


def test_ending_a_trial_that_ends_by_itself_ends_the_plan():
    """A-27"""
    default()
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100), trial_days=14, trial_end=CANCEL))

    end_now(the_subscription(who), reason="abuse", actor=STAFF, now=MARCH_10)

    assert totals(who) == []
    assert access(who, now=MARCH_10).limit == 5


def test_a_trial_that_ends_by_itself_is_extended_with_its_end():
    """A-27"""
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100), trial_days=14, trial_end=CANCEL))

    extended(who, days=14)

    assert the_subscription(who).ends_at == MARCH_24


def test_what_a_trial_was_begun_for_is_no_change_to_withdraw(acme):
    """A-15"""
    with pytest.raises(NothingScheduled):
        withdraw(the_subscription(acme), actor=STAFF, now=MARCH_10)
