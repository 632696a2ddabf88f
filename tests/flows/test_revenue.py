"""What acts on contracts do to recurring revenue."""

from datetime import datetime

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.plan_change import Activation, Timing
from billing_admin.flows.revenue import Kind, by_currency, month_of, months, movements
from customers.models import Customer
from tests.builders import STAFF, customer, enable, fee, free, on, pass_time, plan, pro, team, the_subscription
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def moved(now: datetime, *, most: int = 6) -> dict[str, dict[str, int]]:
    """By month, what moved in it."""
    return {f"{month.first:%Y-%m}": dict(month.moved) for month in months("USD", now=now, most=most) if month.moved}


def left(who: Customer, *, now: datetime) -> None:
    cancel(the_subscription(who), reason="too dear", actor=STAFF, now=now)


def test_a_first_plan_is_new_from_its_start():
    on(pro(50), since=MARCH_16)

    assert moved(APRIL_1) == {"2026-03": {Kind.NEW: 5000}}
    assert by_currency(MARCH_16) == {"USD": 5000}


def test_an_upgrade_expands_at_once():
    who = on(pro(50))
    enable(who, team(200), now=APRIL_16)

    assert moved(APRIL_16)["2026-04"] == {Kind.EXPANSION: 15_000}


def test_a_downgrade_contracts_when_it_comes_whether_a_worker_was_there_or_not():
    who = on(team(200))
    enable(who, pro(50), now=MARCH_16)

    assert moved(MARCH_16) == {"2026-03": {Kind.NEW: 20_000}}
    assert moved(APRIL_1)["2026-04"] == {Kind.CONTRACTION: -15_000}


def test_a_contract_that_ends_is_churn_and_one_that_comes_back_is_a_reactivation():
    who = on(pro(50))
    left(who, now=MARCH_16)
    pass_time(who, to=APRIL_1)
    enable(who, team(200), now=MAY_1)

    assert moved(JUNE_1) == {
        "2026-03": {Kind.NEW: 5000},
        "2026-04": {Kind.CHURN: -5000},
        "2026-05": {Kind.REACTIVATION: 20_000},
    }


def test_a_trial_brings_nothing_until_it_is_over():
    who = customer()
    enable(who, plan("pro", fee(50), trial_days=31))

    assert by_currency(MARCH_16) == {}
    assert moved(APRIL_1) == {"2026-04": {Kind.NEW: 5000}}


def test_a_plan_that_waits_for_its_payment_brings_nothing():
    enable(customer(), pro(50), activation=Activation.AFTER_PAYMENT)

    assert by_currency(MARCH_16) == {}
    assert moved(MARCH_16) == {}


def test_a_free_plan_brings_nothing_and_paying_for_it_is_new():
    who = on(free())
    enable(who, pro(50), now=MARCH_16)

    assert moved(MARCH_16) == {"2026-03": {Kind.NEW: 5000}}


def test_up_and_down_within_a_month_is_no_movement():
    small, large = pro(50), team(200)
    who = on(small)
    enable(who, large, now=day("2026-04-05"))
    enable(who, small, now=day("2026-04-20"), timing=Timing.NOW)

    assert moved(APRIL_16).get("2026-04") == {Kind.EXPANSION: 15_000}
    assert "2026-04" not in moved(MAY_1)


def test_currencies_are_told_apart():
    on(pro(50))
    on(plan("euro", fee(80), of="other", currency="EUR"), name="Globex")

    assert by_currency(MARCH_1) == {"EUR": 8000, "USD": 5000}
    assert [month.closing for month in months("EUR", now=MARCH_16, most=2)] == [0, 8000]


def test_a_movement_names_its_customer():
    who = on(pro(50))

    [row] = movements("USD", month_of(MARCH_1), Kind.NEW, now=MARCH_16)

    assert (row.customer_id, row.opening, row.closing) == (who.pk, 0, 5000)
