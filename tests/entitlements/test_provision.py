"""What a change of plan does to buckets, and what their ledgers say of it."""

from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.plan_change import Timing
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
    lasting,
    left,
    on,
    pass_time,
    plan,
    pro,
    seats,
    team,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_16

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


def test_coming_back_to_an_assigned_plan_shows_what_is_left_of_its_window():
    """Design 5: buckets of assigned plans resume."""
    acme = customer()
    enable(acme, assigned("partner", allowance(100)))
    use(acme, 30)
    cancel(the_subscription(acme), at_once=True, reason="pause", actor=STAFF, now=MARCH_16)

    [change] = enable(acme, named("partner"), now=MARCH_16).change.access

    assert change.after.remaining == left(acme, now=MARCH_16) == 70


def test_features_of_an_assigned_plan_change_without_moving_a_reset_date_that_was_edited():
    """Design 4: reset dates are kept."""
    acme = customer()
    enable(acme, assigned("partner", allowance(100)))
    edit_balance(acme, feature="credits", to=Decimal(40), reset_at=APRIL_16, reason="gift", actor=STAFF, now=MARCH_16)

    enable(acme, named("partner"), allowance(200), now=MARCH_16)

    assert (left(acme, now=MARCH_16), access(acme, now=MARCH_16).next_reset_at) == (140, APRIL_16)


@pytest.mark.parametrize(("before", "after"), [("billed", "assigned"), ("assigned", "billed")])
def test_levels_and_lasting_balances_move_between_billed_and_assigned_plans(before, after):
    """Design 4: allocated, lasting and bought units are always carried."""
    fees = {"billed": [fee(50)], "assigned": []}
    plan("one", *fees[before], seats(5), lasting(50), kind=before)
    plan("two", *fees[after], seats(10), lasting(80), kind=after)
    acme = customer()
    enable(acme, named("one"))
    use(acme, 4, of="seats")
    use(acme, 20, of="tokens")

    change = enable(acme, named("two"), now=MARCH_16, timing=Timing.NOW).change

    assert {row.slug: row.after.remaining for row in change.access} == {"seats": 6, "tokens": 60}
    assert (left(acme, of="seats", now=MARCH_16), left(acme, of="tokens", now=MARCH_16)) == (6, 60)


def test_seats_keep_their_number_through_a_scheduled_move_to_an_assigned_plan():
    """A-23, law 7"""
    plan("one", fee(50), seats(5))
    plan("two", seats(10), kind="assigned")
    acme = customer()
    enable(acme, named("one"))
    use(acme, 4, of="seats")
    enable(acme, named("two"), now=MARCH_16)

    late = left(acme, of="seats", now=APRIL_1)
    pass_time(acme, to=APRIL_1)

    assert (late, left(acme, of="seats", now=APRIL_1)) == (6, 6)
