"""Where the periods of a first plan are counted from, what a short first one costs, and terms of payment."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.enable_plan import (
    AlreadyOnPlan,
    BadAnchor,
    PreviewOutdated,
    confirmation,
    enable_plan,
    preview_plan,
    propose,
)
from billing_admin.flows.plan_change import Activation, FirstPeriod
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    on,
    pass_time,
    plan,
    preview,
    pro,
    the_subscription,
    totals,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def test_an_anchor_in_the_past_ends_the_first_period_at_its_next_recurrence():
    """Y-21"""
    who = customer()

    enable(who, pro(), now=MARCH_16, anchor=day("2026-01-01"))

    assert the_subscription(who).period_ends_at == APRIL_1


def test_a_short_first_period_is_prorated_by_the_second():
    """Y-22: 16 of 31 days of $50.00."""
    change = preview(customer(), pro(), now=MARCH_16, anchor=day("2026-01-01"))

    assert (change.total, change.next_invoice.at, change.next_invoice.total) == (2581, APRIL_1, 5000)


def test_a_short_first_period_may_be_billed_in_full():
    """Y-22"""
    who = customer()

    enable(who, pro(), now=MARCH_16, anchor=day("2026-01-01"), first_period=FirstPeriod.FULL)

    pass_time(who, to=APRIL_1)
    assert totals(who) == [5000, 5000]


def test_what_was_billed_in_full_is_given_back_by_its_own_length():
    """Y-22: half of the 16 days that $50.00 were paid for."""
    who = customer()
    enable(who, pro(), now=MARCH_16, anchor=day("2026-01-01"), first_period=FirstPeriod.FULL)
    pass_time(who, to=MARCH_16)

    change = preview(who, plan("team", fee(200), allowance(500)), now=day("2026-03-24"))

    assert change.lines[0].amount == -2500


def test_an_anchor_to_come_is_refused():
    """Y-21"""
    with pytest.raises(BadAnchor):
        preview(customer(), pro(), anchor=APRIL_1)


def test_only_a_first_plan_has_an_anchor_of_its_own():
    """Y-21"""
    with pytest.raises(BadAnchor):
        preview(on(pro()), plan("team", fee(200)), now=MARCH_16, anchor=day("2026-01-01"))


def test_net_terms_of_one_contract_open_its_gate_and_date_its_invoices():
    """Y-54"""
    who = customer()

    enabled = enable(who, pro(), activation=Activation.AFTER_PAYMENT, net_terms_days=30)

    [invoice] = enabled.invoices
    assert (enabled.subscription.state, invoice.due_at) == ("active", MARCH_1 + timedelta(days=30))
    pass_time(who, to=APRIL_1, pays=False)
    assert who.invoices.order_by("-id")[0].due_at == APRIL_1 + timedelta(days=30)


def test_net_terms_have_a_limit():
    """Y-54"""
    with pytest.raises(ValidationError) as refused:
        preview(customer(), pro(), net_terms_days=-1)
    assert refused.value.code == "bad_net_terms"


def test_a_gated_plan_is_enabled_once_although_it_was_pressed_twice():
    """A-12"""
    who = customer()
    proposal = propose(who, pro())
    confirmed = confirmation(preview_plan(who, proposal, now=MARCH_1))
    first = enable_plan(who, proposal, reason="", actor=STAFF, now=MARCH_1, confirmed=confirmed)

    with pytest.raises((PreviewOutdated, AlreadyOnPlan)):
        enable_plan(who, proposal, reason="", actor=STAFF, now=MARCH_1, confirmed=confirmed)

    first.subscription.refresh_from_db()
    assert (first.subscription.state, who.invoices.count()) == ("pending_payment", 1)
