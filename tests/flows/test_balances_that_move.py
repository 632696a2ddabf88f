"""What is bought, rolled over or under an override when balances move: nothing is lost, and nothing counts twice."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing_admin.flows.customers import update_customer
from catalog.rollovers import Rollover
from customers.models import Customer
from entitlements.ledger import ledger
from entitlements.models import Balance
from entitlements.override import override
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def sums(who: Customer) -> bool:
    """Whether each balance is the sum of its ledger."""
    return all(ledger(row)[-1].after == row.left for row in Balance.objects.filter(customer=who))


def test_use_that_a_rollover_gave_stays_its_own_when_the_usage_anchor_moves():
    """P-29, A-35"""
    item = replace(a.allowance(100), rollover=Rollover())
    who = a.customer()
    a.enable(who, a.assigned("partner", item))
    a.use(who, 40)
    a.use(who, 30, now=APRIL_16)  # of the 60 that rolled over

    update_customer(who, usage_started_at=day("2026-04-10"), actor=a.STAFF, now=APRIL_16)

    assert a.left(who, now=APRIL_16) == 130 and sums(who)


def test_units_that_were_bought_once_can_be_bought_again_on_another_plan():
    """A-24"""
    assert bought_twice() == 700


def test_units_that_were_bought_once_outlive_an_override_that_took_them_for_a_while():
    """L-04"""
    assert bought_twice(most=100) == 700


def bought_twice(most: int | None = None) -> Decimal | None:
    """What is left on 1 April of 500 units and 200 on another plan; until 20 March there are `most`."""
    who = a.customer()
    lasting = a.prepaid(0, once=True)
    a.enable(who, a.plan("one", a.fee(10), lasting), bought={"credits": Decimal(500)})
    a.pay_all(who)
    if most is not None:
        until = day("2026-03-20")
        override(who, a.feature(), most, effective_until=until, reason="abuse", actor=a.STAFF, now=MARCH_1)
    a.enable(who, a.plan("other", a.fee(50), lasting), bought={"credits": Decimal(200)}, now=MARCH_16)
    a.pay_all(who, now=MARCH_16)
    assert sums(who)
    return a.left(who, now=APRIL_1)
