"""Several of a plan at once: what it costs, what it grants, when it changes."""

import pytest

from catalog.models import Plan
from catalog.terms import ChangeKind
from tests.builders import (
    access,
    allowance,
    customer,
    enable,
    fee,
    lasting,
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


def three_of(*items, name="pro"):
    plan(name, *items)
    acme = customer()
    enable(acme, Plan.objects.get(key=name), quantity=3)
    return acme


def test_each_of_several_plans_is_charged_and_granted():
    """P-21, Y-33"""
    acme = three_of(fee(20), allowance(100))

    assert totals(acme) == [6000]
    assert left(acme) == 300


def test_more_of_a_plan_with_other_features_is_charged_and_not_taken_for_a_change_of_features():
    """A-04"""
    acme = on(pro(20, 100))

    enabled = enable(acme, Plan.objects.get(key="pro"), fee(20), allowance(50), quantity=2)

    assert (enabled.change.kind, enabled.change.total) == (ChangeKind.UP, 2000)


def test_whether_it_gets_dearer_is_decided_on_what_the_customer_pays():
    """Design 4, rule 7"""
    acme = on(pro(30, 100))

    enabled = enable(acme, Plan.objects.get(key="pro"), fee(20), allowance(100), quantity=2)

    assert (enabled.change.kind, enabled.change.total) == (ChangeKind.UP, 1000)


def test_fewer_of_a_plan_wait_for_the_end_of_the_cycle():
    """A-05"""
    acme = three_of(fee(20), allowance(100))
    change = enable(acme, Plan.objects.get(key="pro"), quantity=2).change
    assert (the_subscription(acme).quantity, left(acme, now=day("2026-03-31"))) == (3, 300)

    pass_time(acme, to=APRIL_1)

    assert totals(acme)[-1] == change.next_invoice.total == 4000
    assert (the_subscription(acme).quantity, left(acme, now=APRIL_1)) == (2, 200)


def test_fewer_of_a_plan_hold_at_their_date_although_the_worker_is_late():
    """Law 7"""
    acme = three_of(fee(20), allowance(100), lasting(50))
    use(acme, 40, of="tokens")

    enable(acme, Plan.objects.get(key="pro"), quantity=2)

    assert left(acme, now=APRIL_1) == 200
    assert left(acme, of="tokens", now=APRIL_1) == 60


def test_the_number_of_plans_does_not_multiply_what_is_assigned():
    """P-22"""
    plan("partner", allowance(100), kind=Plan.Kind.ASSIGNED)
    acme = customer()

    enable(acme, Plan.objects.get(key="partner"), quantity=3)

    assert access(acme).limit == 100
