"""Levels (seats) in recurring revenue: how many are in use, at the prices of the plan in force."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.revenue import INSTANT, Kind, by_currency, held, monthly_total, months
from billing_admin.flows.set_usage import set_use
from billing_admin.flows.void_use import void_use
from catalog.charges import GRADUATED, PACKAGE, Price, Tier
from catalog.models import Plan
from customers.models import Customer
from entitlements.models import UsageEvent
from tests.builders import (
    STAFF,
    customer,
    enable,
    feature,
    fee,
    on,
    paid_seats,
    pass_time,
    pay_all,
    plan,
    the_subscription,
    use,
)
from tests.flows.undo_world import last, take_back
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
APRIL = "2026-04"


def with_seats(price: str = "10", *, included: int = 2, base: int = 50, key: str = "pro") -> Plan:
    return plan(key, fee(base), paid_seats(included, price=price))


def brings(who: Customer, at: datetime) -> int:
    return dict(held("USD", at + INSTANT)).get(who.pk, 0)


def moved(now: datetime) -> dict[str, dict[str, int]]:
    return {f"{month.first:%Y-%m}": dict(month.moved) for month in months("USD", now=now, most=6) if month.moved}


def paying(what: Plan, *, since: datetime = MARCH_1) -> Customer:
    who = on(what, since=since)
    pay_all(who, now=since)
    return who


def test_seats_beyond_the_included_ones_count_from_when_they_are_in_use():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)

    assert [brings(who, at) for at in (MARCH_16 - INSTANT, MARCH_16)] == [5000, 8000]
    assert by_currency(MARCH_16) == {"USD": 8000}
    assert monthly_total("USD", MARCH_16 + INSTANT) == 8000


def test_more_seats_expand_and_fewer_contract():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    use(who, 3, of="seats", now=APRIL_16)
    set_use(who, feature="seats", value=Decimal(2), now=MAY_1)

    assert moved(MAY_1) == {
        "2026-03": {Kind.NEW: 8000},
        APRIL: {Kind.EXPANSION: 3000},
        "2026-05": {Kind.CONTRACTION: -6000},
    }


def test_seats_that_come_and_go_within_a_month_are_no_movement():
    who = paying(with_seats())
    use(who, 5, of="seats", now=APRIL_1)
    use(who, -5, of="seats", now=APRIL_16)

    assert APRIL not in moved(MAY_1)


def test_a_level_of_the_first_instant_of_a_month_belongs_to_that_month():
    who = paying(with_seats())
    use(who, 5, of="seats", now=APRIL_1)

    assert moved(APRIL_1)[APRIL] == {Kind.EXPANSION: 3000}


def test_an_upgrade_takes_the_seats_to_the_new_price():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    enable(who, with_seats("20", base=200, key="team"), now=APRIL_16)

    assert brings(who, APRIL_16) == 20_000 + 3 * 2000
    assert moved(APRIL_16)[APRIL] == {Kind.EXPANSION: 18_000}


def test_a_scheduled_change_takes_the_seats_of_its_day_along_whether_a_worker_was_there_or_not():
    who = paying(with_seats("20", base=200, key="team"))
    use(who, 5, of="seats", now=MARCH_1)
    enable(who, with_seats(), now=MARCH_16)
    use(who, 2, of="seats", now=MARCH_16)

    assert brings(who, APRIL_1 - INSTANT) == 20_000 + 5 * 2000
    assert brings(who, APRIL_1) == 5000 + 5 * 1000
    pass_time(who, to=APRIL_16)
    assert brings(who, APRIL_1) == 5000 + 5 * 1000


def test_a_plan_without_the_level_brings_none_of_it_and_coming_back_begins_with_what_is_in_use_then():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    enable(who, plan("team", fee(200)), now=APRIL_16)
    enable(who, Plan.objects.get(key="pro"), now=MAY_1, timing=Timing.NOW)

    assert (brings(who, APRIL_16), brings(who, MAY_1)) == (20_000, 5000)


def test_a_change_of_plan_that_is_taken_back_brings_the_seats_again():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    enable(who, plan("team", fee(200)), now=APRIL_1)
    without = brings(who, APRIL_1)
    take_back(last(who, "plan.enabled"), now=APRIL_16)

    assert (without, brings(who, APRIL_16)) == (20_000, 8000)


def test_a_contract_that_ends_takes_its_seats_with_it():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    cancel(the_subscription(who), reason="too dear", actor=STAFF, now=MARCH_16)
    pass_time(who, to=APRIL_1)

    assert moved(MAY_1) == {"2026-03": {Kind.NEW: 8000}, APRIL: {Kind.CHURN: -8000}}
    assert not the_contract_levels(who)


def the_contract_levels(who: Customer) -> list[Decimal]:
    return [row.units for contract in who.subscriptions.all() for row in contract.levels.filter(ends_at=None)]


def test_seats_used_in_a_trial_count_from_its_end():
    who = customer()
    enable(who, plan("pro", fee(50), paid_seats(2), trial_days=31))
    use(who, 5, of="seats", now=MARCH_16)

    assert (brings(who, MARCH_16), brings(who, APRIL_1)) == (0, 8000)


def test_a_voided_event_takes_its_seats_back_from_then_on():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    void_use(UsageEvent.objects.get(), reason="reported twice", actor=STAFF, now=APRIL_16)

    assert (brings(who, APRIL_1), brings(who, APRIL_16)) == (8000, 5000)


def test_seats_of_a_bonus_count_once_it_is_over():
    who = paying(with_seats(included=0))
    bonus = Wanted(feature("seats"), Decimal(3), APRIL_1, "Launch")
    give_units(who, bonus, reason="launch", actor=STAFF, now=MARCH_1)
    use(who, 5, of="seats", now=MARCH_16)
    in_march = brings(who, MARCH_16)
    pass_time(who, to=APRIL_1)

    assert in_march + 3000 == brings(who, APRIL_1) == 5000 + 5 * 1000


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (Price(rate=Decimal("7.50")), 6000),
        (Price(model=GRADUATED, tiers=(Tier(Decimal(5), Decimal(10)), Tier(None, Decimal(4)))), 6200),
        (Price(model=PACKAGE, rate=Decimal(30), pack=Decimal(5)), 6000),
    ],
    ids=["per unit", "graduated", "packages"],
)
def test_seats_cost_what_their_price_says(price, expected):
    """8 seats, none included, no fee."""
    who = paying(plan("pro", replace(paid_seats(0), price=price)))
    use(who, 8, of="seats", now=MARCH_16)

    assert brings(who, MARCH_16) == expected


def test_seats_of_a_year_are_a_twelfth_of_it_in_a_month():
    who = paying(plan("pro", fee(1200, cadence="P1Y"), paid_seats(0, price="120"), cadence="P1Y"))
    use(who, 5, of="seats", now=MARCH_16)

    assert brings(who, MARCH_16) == 10_000 + 5 * 1000


def test_seats_within_a_commitment_add_nothing():
    who = paying(plan("pro", fee(50), paid_seats(0), commitment="100"))
    use(who, 5, of="seats", now=MARCH_16)
    within = brings(who, MARCH_16)
    use(who, 2, of="seats", now=APRIL_16)

    assert (within, brings(who, APRIL_16)) == (10_000, 12_000)


def test_a_quantity_multiplies_what_is_included():
    who = customer()
    enable(who, with_seats(), quantity=3)
    pay_all(who)
    use(who, 7, of="seats", now=MARCH_16)

    assert brings(who, MARCH_16) == 3 * 5000 + (7 - 3 * 2) * 1000


def test_two_reports_within_a_second_leave_the_later_level():
    who = paying(with_seats())
    for units in (3, 4):
        use(who, units, of="seats", now=MARCH_16)

    assert brings(who, MARCH_16) == 5000 + 5 * 1000
    assert the_contract_levels(who) == [7]


def test_reporting_the_same_level_again_writes_nothing():
    who = paying(with_seats())
    use(who, 5, of="seats", now=MARCH_16)
    set_use(who, feature="seats", value=Decimal(5), now=APRIL_16)

    assert the_subscription(who).levels.count() == 1


def test_the_months_of_seats_end_with_what_is_in_force():
    who = paying(with_seats())
    for place, at in enumerate((MARCH_16, APRIL_1, APRIL_16, MAY_1), start=1):
        use(who, place, of="seats", now=at)

    for month in months("USD", now=JUNE_1, most=6):
        assert month.opening == monthly_total("USD", month.first)
