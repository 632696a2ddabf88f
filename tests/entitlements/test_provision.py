"""What a change of plan does to buckets, and what their ledgers say of it."""

from decimal import Decimal

import pytest

from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from catalog.models import Plan
from entitlements.edit import edit_balance
from entitlements.ledger import ledger
from tests.builders import (
    STAFF,
    access,
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    left,
    on,
    pro,
    team,
    use,
)
from tests.instants import APRIL_16, MARCH_16

pytestmark = pytest.mark.django_db


def named(key):
    return Plan.objects.get(key=key)


def meanwhile(who, proposal, act, *, now=MARCH_16):
    """Preview, let something happen, confirm."""
    confirmed = confirmation(preview_plan(who, proposal, now=now))
    act()
    who.refresh_from_db()
    return enable_plan(who, proposal, reason="agreed", actor=STAFF, now=now, confirmed=confirmed)


def test_use_counted_between_preview_and_act_belongs_to_the_fresh_window():
    """A-11: nothing that was used is lost or counted twice."""
    acme = on(pro(50))
    use(acme, 30)

    meanwhile(acme, propose(acme, team()), lambda: use(acme, 20, now=MARCH_16))

    assert left(acme, now=MARCH_16) == 480


def test_use_given_back_between_preview_and_act_adds_nothing_to_the_fresh_window():
    """A-22: the fresh grant is what the plan includes."""
    acme = on(pro(50))
    use(acme, 30)

    meanwhile(acme, propose(acme, team()), lambda: use(acme, -20, now=MARCH_16))

    assert left(acme, now=MARCH_16) == 500


def test_the_ledger_of_a_balance_that_was_unlimited_for_a_while_sums_to_what_is_left():
    """A-37"""
    acme = on(pro(50))
    use(acme, 30)
    enable(acme, named("pro"), fee(50), allowance(None), now=MARCH_16)
    enable(acme, named("pro"), fee(50), allowance(60), now=MARCH_16)

    lines = ledger(acme.balances.get())

    assert lines[-1].after == left(acme, now=MARCH_16) == 30


def test_the_first_plan_of_a_customer_shows_access_without_the_default_product():
    """P-16"""
    default(allowance(5))
    acme = customer()
    use(acme, 3)

    [change] = enable(acme, pro(50, credits=100)).change.access

    assert (change.before.limit, change.after.limit) == (5, 100)
    assert left(acme) == 100


def test_features_of_an_assigned_plan_change_without_moving_a_reset_date_that_was_edited():
    """Design 4: reset dates are kept."""
    acme = customer()
    enable(acme, assigned("partner", allowance(100)))
    edit_balance(acme, feature="credits", to=Decimal(40), reset_at=APRIL_16, reason="gift", actor=STAFF, now=MARCH_16)

    enable(acme, named("partner"), allowance(200), now=MARCH_16)

    assert (left(acme, now=MARCH_16), access(acme, now=MARCH_16).next_reset_at) == (140, APRIL_16)
