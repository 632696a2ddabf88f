"""A minimum commitment through changes in the middle of its period: it is owed once, for the whole of it."""

from decimal import Decimal

import pytest

from billing_admin.flows.courses import read_courses
from billing_admin.flows.forecast import forecast
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from catalog.terms import Conditions
from tests.builders import allowance, enable, fee, on, pass_time, plan, preview, switch, totals
from tests.instants import APRIL_1, day

pytestmark = pytest.mark.django_db
NOON_16 = day("2026-03-16T12:00")  # half of a month of 31 days
CALLS = {"of": "calls", "price": "1"}


def reserved(price):
    return on(plan("reserved", fee(price), allowance(0, **CALLS), commitment="500"))


def test_a_change_of_features_leaves_the_whole_period_to_its_minimum():
    """Y-56"""
    acme, what = reserved(100), (fee(100), allowance(0, **CALLS), switch("sso"))
    conditions = Conditions(commitment=Decimal(500))
    announced = preview(acme, Plan.objects.get(), *what, now=NOON_16, conditions=conditions).next_invoice.total

    enable(acme, Plan.objects.get(), *what, now=NOON_16, conditions=conditions)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [10000, 40000 + 10000]
    assert announced == 50000


def test_a_dearer_fee_in_the_middle_of_a_period_leaves_its_minimum_as_it_is():
    """Y-56"""
    acme, what = reserved(400), (fee(450), allowance(0, **CALLS))
    conditions = Conditions(commitment=Decimal(500))
    announced = preview(acme, Plan.objects.get(), *what, now=NOON_16, conditions=conditions).next_invoice.total

    enable(acme, Plan.objects.get(), *what, now=NOON_16, conditions=conditions)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [40000, -20000 + 22500, (50000 - 42500) + 45000]
    assert announced == 52500


def test_what_another_plan_gives_back_does_not_count_towards_the_minimum_that_it_closes():
    """Y-56"""
    acme = on(plan("reserved", fee(400), commitment="500"))

    enable(acme, plan("big", fee(600)), now=NOON_16)

    assert totals(acme) == [40000, 30000 - 20000 + (25000 - 20000)]


def test_the_minimum_of_another_plan_counts_from_the_change():
    """Y-56"""
    acme = on(plan("small", fee(100)))
    what = plan("big", fee(200), allowance(0, **CALLS), commitment="600")
    announced = preview(acme, what, now=NOON_16).next_invoice.total

    enable(acme, what, now=NOON_16)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [10000, 10000 - 5000, (30000 - 10000) + 20000]
    assert announced == 40000


def test_the_preview_of_a_scheduled_change_counts_what_was_charged_towards_the_minimum():
    """A-11"""
    acme, small = reserved(400), plan("small", fee(100))

    announced = preview(acme, small, now=NOON_16).next_invoice.total
    assert enable(acme, small, now=NOON_16).change.timing is Timing.CYCLE_END
    pass_time(acme, to=APRIL_1)

    assert (announced, totals(acme)[-1]) == (10000 + 10000, 10000 + 10000)


def test_the_forecast_of_a_running_contract_counts_what_was_charged_towards_its_minimum():
    """Y-56"""
    acme = reserved(400)
    acme.refresh_from_db()

    [(_, course)] = read_courses(acme, list(acme.subscriptions.live().with_phases()), now=NOON_16)
    announced = forecast(course, {}, most=1)[0].total
    pass_time(acme, to=APRIL_1)

    assert (announced, totals(acme)[-1]) == (10000 + 40000, 10000 + 40000)
