"""An override that ended is over for money, too, whether or not anybody has written it; what was voided is not used."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel, preview_cancel
from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.void_use import void_use
from catalog.models import Plan
from customers.models import Customer
from entitlements.ledger import ledger
from entitlements.models import Balance
from entitlements.override import override
from invoicing.lines import USAGE
from invoicing.models import InvoiceLine
from invoicing.readings import billed_fees
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_16, day

pytestmark = pytest.mark.django_db

MARCH_5, MARCH_10, MARCH_11 = day("2026-03-05"), day("2026-03-10"), day("2026-03-11")
MINUTES = timedelta(minutes=5)


def paid_by_use(key: str = "metered", included: int = 100) -> Plan:
    return a.plan(key, a.fee(50), a.allowance(included, price="0.10"))


def under_fifty(*, until: datetime | None) -> Customer:
    """80 of 100 used under an override of 50: 30 are beyond it while it holds, none when it is over."""
    who = a.on(paid_by_use())
    override(who, a.feature(), 50, effective_until=until, reason="abuse", actor=a.STAFF, now=who.created_at)
    a.use(who, 80, now=MARCH_5)
    return who


def use_billed(who: Customer) -> list[int]:
    lines = InvoiceLine.objects.filter(invoice__customer=who, kind=USAGE)
    return list(lines.order_by("id").values_list("amount", flat=True))


def test_a_change_of_plan_bills_no_use_that_an_ended_override_had_put_beyond():
    """L-04"""
    who = under_fifty(until=MARCH_10)

    change = a.preview(who, a.plan("bigger", a.fee(100), a.allowance(500, price="0.10")), now=MARCH_16)

    assert [line.amount for line in change.lines if line.kind == USAGE] == []


@pytest.mark.parametrize("punctual", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_end_bills_no_use_that_an_ended_override_had_put_beyond(at_once: bool, punctual: bool):
    """L-04, A-25"""
    who = under_fifty(until=MARCH_10)
    if punctual:
        a.use(who, 1, now=MARCH_11)  # writes that the override is over

    seen = preview_cancel(a.the_subscription(who), at_once=at_once, now=MARCH_16)
    cancel(a.the_subscription(who), at_once=at_once, reason="moved", actor=a.STAFF, now=MARCH_16)
    a.pass_time(who, to=APRIL_16, pays=False)

    assert (list(seen.use_lines), use_billed(who)) == ([], [])
    [window] = Balance.objects.filter(customer=who)
    assert (window.withheld, ledger(window)[-1].after) == (0, window.left)


def test_use_beyond_an_override_that_holds_at_the_end_is_billed():
    """A-25"""
    who = under_fifty(until=None)

    cancel(a.the_subscription(who), at_once=True, reason="moved", actor=a.STAFF, now=MARCH_16)

    assert use_billed(who) == [300]


def test_units_that_an_override_takes_for_a_while_are_unused_when_they_are_given_back():
    """A-26"""
    who = a.customer()
    a.enable(who, a.plan("packs", a.fee(10), a.prepaid(0)), bought={"credits": Decimal(500)})
    a.pay_all(who)

    override(who, a.feature(), 100, effective_until=None, reason="abuse", actor=a.STAFF, now=who.created_at)

    fees = {fee.key: fee for fee in billed_fees(a.the_subscription(who), MARCH_16)}
    assert (fees["credits"].bought, fees["credits"].consumed) == (500, 0)


def test_use_that_was_counted_and_voided_after_the_preview_changes_nothing():
    """A-11"""
    who = a.on(paid_by_use())
    a.use(who, 120, now=MARCH_5)
    proposal = propose(who, a.plan("bigger", a.fee(100), a.allowance(500, price="0.10")))
    confirmed = confirmation(preview_plan(who, proposal, now=MARCH_16))
    tracked = a.use(who, 50, now=MARCH_16 + MINUTES)
    void_use(tracked.event, reason="counted twice", actor=a.STAFF, now=MARCH_16 + MINUTES)

    enable_plan(who, proposal, reason="", actor=a.STAFF, now=MARCH_16 + MINUTES, confirmed=confirmed)

    assert (use_billed(who), a.left(who, now=MARCH_16 + MINUTES)) == ([200], 500)
    assert a.access(who, now=MARCH_16 + MINUTES).next_reset_at == APRIL_1
