"""The invoices to come, repeated from what bills them."""

from decimal import Decimal
from typing import Any

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.forecast import course_of, forecast, forecast_change
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from customers.models import Customer
from invoicing.overrides import specials_of
from invoicing.readings import rated_use, unbilled
from invoicing.rules import billing_rules
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    in_arrears,
    on,
    overuse,
    pass_time,
    plan,
    prepaid,
    preview,
    pro,
    team,
    the_subscription,
    totals,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
NOTHING: dict[str, Decimal] = {}


def dated(found: Any) -> list[tuple[str, int]]:
    return [(f"{expected.at:%Y-%m-%d}", expected.total) for expected in found]


def ahead(who: Customer, daily: dict[str, Decimal] = NOTHING, *, now=MARCH_16, most: int = 12) -> Any:
    subscription = the_subscription(who)
    phase = subscription.phase_at(now)
    course = course_of(
        subscription,
        at=now,
        rules=billing_rules(who, phase.version.plan, subscription, at=now),
        uses=[rated_use(row) for row in unbilled(subscription, None)],
        specials=specials_of(subscription),
    )
    return forecast(course, daily, most=most)


def test_a_fee_repeats_for_twelve_invoices():
    found = dated(ahead(on(pro())))

    assert len(found) == 12
    assert found[0] == ("2026-04-01", 5000)
    assert found[-1] == ("2027-03-01", 5000)


def test_use_is_assumed_at_the_daily_rate_of_today():
    """31 days of March and 30 of April at 10 a day, 100 of each included, at 0.10."""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))

    found = ahead(who, {"credits": Decimal(10)}, now=MARCH_1, most=2)

    assert dated(found) == [("2026-04-01", 5000 + 2100), ("2026-05-01", 5000 + 2000)]
    assert found[0].is_estimated


def test_what_was_used_already_counts_and_the_rest_of_the_window_grows():
    """150 used by the 16th, 16 days to come at 10 a day: 310 − 100 = 210 units."""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150, now=MARCH_1)

    [expected] = ahead(who, {"credits": Decimal(10)}, most=1)

    assert expected.total == 5000 + 2100


def test_the_forecast_without_more_use_is_what_the_renewals_write():
    who = on(plan("pro", fee(50), allowance(100, price="0.10"), in_arrears(7, key="support")))
    overuse(who, 150, now=MARCH_1)
    expected = [e.total for e in ahead(who, most=2)]

    pass_time(who, to=MAY_1)

    assert totals(who)[1:] == expected


def test_a_scheduled_downgrade_shows_from_its_date():
    who = on(pro())
    enable(who, pro_again(), fee(30), allowance(100), now=MARCH_16)

    assert dated(ahead(who, most=2)) == [("2026-04-01", 3000), ("2026-05-01", 3000)]


def pro_again() -> Plan:
    return Plan.objects.get(key="pro")


def test_a_contract_that_ends_has_no_invoice_after_its_end():
    who = on(plan("pro", fee(50), in_arrears(7, key="support")))
    cancel(the_subscription(who), reason="leaving", actor=STAFF, now=MARCH_16)

    assert dated(ahead(who)) == [("2026-04-01", 700)]


def test_a_trial_is_followed_by_what_is_paid():
    """A-27"""
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100, price="0.10"), trial_days=14))

    found = ahead(who, {"credits": Decimal(10)}, now=MARCH_1, most=2)

    assert dated(found) == [("2026-03-15", 2000), ("2026-04-15", 2000 + 2100)]


def test_a_plan_that_never_invoices_has_no_forecast():
    assert forecast_change(preview(customer(), plan("partner", allowance(100), kind="assigned")), NOTHING) == ()


@pytest.mark.parametrize("timing", [Timing.NOW, Timing.CYCLE_END])
def test_a_change_is_forecast_before_it_is_confirmed(timing):
    who = on(pro())

    change = preview(who, team(), now=MARCH_16, timing=timing)
    found = forecast_change(change, NOTHING, most=3)

    assert dated(found) == [("2026-04-01", 20000), ("2026-05-01", 20000), ("2026-06-01", 20000)]
    assert found[0].documents == change.next_invoice.documents


def test_the_first_forecast_of_a_change_without_more_use_is_its_next_invoice():
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150, now=MARCH_1)

    change = preview(who, pro_again(), fee(60), allowance(100, price="0.10"), now=MARCH_16)

    [expected] = forecast_change(change, NOTHING, most=1)
    assert (expected.at, expected.documents) == (APRIL_1, change.next_invoice.documents)


def test_quantities_multiply_fees_and_allowances():
    who = customer()

    change = preview(who, plan("pro", fee(50), allowance(100, price="0.10")), quantity=3)

    [expected] = forecast_change(change, {"credits": Decimal(10)}, most=1)
    assert expected.total == 15000 + 100  # 31 days × 10 = 310 of 300 included


def test_a_minimum_commitment_is_topped_up_in_each_period():
    """Y-56"""
    change = preview(customer(), plan("pro", fee(20), commitment=Decimal(50)))

    assert dated(forecast_change(change, NOTHING, most=2)) == [("2026-04-01", 5000), ("2026-05-01", 5000)]


def test_windows_shorter_than_the_period_count_one_by_one():
    """3 of 10 a day are beyond the 7 that each day includes: 31 days × 3 × 0.10."""
    change = preview(customer(), plan("pro", fee(50), allowance(7, price="0.10", resets="P1D")))

    [expected] = forecast_change(change, {"credits": Decimal(10)}, most=1)

    assert expected.total == 5000 + 930


def test_what_is_bought_is_no_assumption():
    change = preview(customer(), plan("pro", fee(20), prepaid()), bought={"credits": Decimal(300)})

    [expected] = forecast_change(change, {"credits": Decimal(10)}, most=1)

    assert (expected.total, expected.is_estimated) == (5000, False)
