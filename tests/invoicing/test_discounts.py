"""What coupons and invoice credits take off the lines of a document. No database."""

from decimal import Decimal

import pytest

from invoicing.discounts import DiscountTerms, discount
from invoicing.grants import MoneyGrant, spend
from invoicing.lines import FEE, UNUSED, USAGE, Line
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MAY_1

PRO, SCALE = 1, 2


def charge(amount, key="base", *, kind=FEE, currency="USD"):
    return Line(kind, key, key, amount, currency)


def half_period(amount, key="base"):
    return Line(FEE, key, key, amount, "USD", derivation={"share": "1/2"})


def charges(*amounts):
    return [charge(amount, f"item-{n}") for n, amount in enumerate(amounts)]


def percent(value, id=1, **limits):
    return DiscountTerms(id, f"{value} off", percent=Decimal(value), **limits)


def fixed(amount, id=2, **limits):
    return DiscountTerms(id, f"{amount} less", amount=amount, **limits)


def grant(left, *, id=1, priority=0, expires_at=None, created=MARCH_1):
    return MoneyGrant(id, f"credit {id}", left, expires_at, priority, created)


def amounts(deductions):
    return [deduction.amount for deduction in deductions]


def given(deductions):
    return [(deduction.source_id, deduction.amount) for deduction in deductions]


@pytest.mark.parametrize(
    ("subtotal", "discounts", "taken"),
    [
        (2000, [percent(20), fixed(200)], [400, 200]),
        (2000, [fixed(200), percent(20)], [400, 200]),  # fixed amounts wait for the percents
        (2000, [percent(10, 1), percent(20, 2), fixed(300, 3)], [200, 360, 300]),
        (2000, [percent(20, 2), percent(10, 1)], [400, 160]),
        (10_000, [percent(10, 1), percent(10, 2)], [1000, 900]),  # 19 %, not 20
        (10_000, [fixed(1000, 1), fixed(11_000, 2)], [1000, 9000]),
        (2000, [percent(100), fixed(500)], [2000]),
        (1, [percent(50, 1), percent(50, 2)], [1]),  # half a cent goes away from zero
        (1001, [percent("33.3333")], [334]),
    ],
)
def test_percents_come_one_after_the_other_and_then_fixed_amounts(subtotal, discounts, taken):
    """A-40"""
    assert amounts(discount([charge(subtotal)], discounts)) == taken


def test_the_same_coupon_twice_counts_once_at_its_first_place():
    """A-40"""
    ten, twenty = percent(10, 1), percent(20, 2)

    assert given(discount([charge(2000)], [ten, twenty, ten])) == [(1, 200), (2, 360)]


def test_a_credit_is_not_discounted():
    """A-41"""
    lines = [charge(-2000, kind=UNUSED), charge(5000)]

    [found] = discount(lines, [percent(20)])

    assert (found.amount, found.parts) == (1000, ((1, 1000),))


@pytest.mark.parametrize("coupon", [fixed(3000), percent(100)])
def test_a_discount_takes_no_more_than_the_charges(coupon):
    """A-42"""
    assert amounts(discount([charge(2000), charge(-500, kind=UNUSED)], [coupon])) == [2000]


@pytest.mark.parametrize(
    ("lines", "coupon", "parts"),
    [
        ([200, 100], fixed(12 - 6), (4, 2)),  # a part of it was given before
        ([200, 100], fixed(12), (8, 4)),
        ([200, 100], percent(20), (40, 20)),
        ([1000, 1000], fixed(2500), (1000, 1000)),
        ([100, 200], fixed(100), (33, 67)),
        ([333, 333, 333], percent(10), (34, 33, 33)),  # rounded once on 99.9, not three times
    ],
)
def test_a_discount_is_rounded_once_and_spread_over_its_lines(lines, coupon, parts):
    [found] = discount(charges(*lines), [coupon])

    assert found.parts == tuple(enumerate(parts))
    assert found.amount == sum(parts)


@pytest.mark.parametrize("lines", [[], [0, 0], [-100]])
def test_a_discount_that_finds_nothing_to_take_is_left_out(lines):
    assert discount(charges(*lines), [fixed(12), percent(10)]) == []


def test_a_discount_of_some_items_leaves_the_others_whole():
    lines = [charge(2000), charge(1000, "calls", kind=USAGE), charge(500, "seats")]

    [found] = discount(lines, [percent(10, keys=frozenset({"calls", "seats"}))])

    assert found.parts == ((1, 100), (2, 50))


def test_a_discount_of_some_plans_takes_only_the_lines_of_those():
    """A-43"""
    plans = {"base": PRO, "other": SCALE}
    lines = [charge(2000), charge(1000, "other")]
    coupon = percent(10, plans=frozenset({SCALE}))

    [found] = discount(lines, [coupon], lambda line: plans[line.key])

    assert found.parts == ((1, 100),)
    assert discount(lines, [coupon]) == []


def test_each_discount_says_how_it_came_about():
    """Law 12"""
    found = discount([charge(2000)], [percent(10), fixed(300, 3), fixed(5000, 4)])

    assert [deduction.sum for deduction in found] == [
        "10 off: 10 % of $20.00 = $2.00",
        "300 less: $3.00 off $18.00",
        "5000 less: $15.00 off $15.00 (up to $50.00)",
    ]


def test_discounts_of_a_currency_without_cents_are_whole():
    [found] = discount([charge(999, currency="JPY")], [percent("10.5")])

    assert (found.amount, found.sum) == (105, "10.5 off: 10.5 % of ¥999 = ¥105")


@pytest.mark.parametrize(
    "terms", [{}, {"percent": Decimal(5), "amount": 5}, {"percent": Decimal(101)}, {"percent": Decimal(-1)}]
)
def test_a_discount_is_one_percent_or_one_amount(terms):
    with pytest.raises(ValueError, match="percent"):
        DiscountTerms(1, "odd", **terms)


def test_an_invoice_credit_comes_off_as_far_as_it_goes():
    """L-37"""
    [found] = spend([grant(5000)], [8000], "USD")

    assert (found.kind, found.amount, found.sum) == ("invoice_credit", 5000, "credit 1: $50.00 off $80.00")


def test_an_invoice_credit_never_takes_a_document_below_zero():
    """L-37, A-42"""
    [found] = spend([grant(10_000)], [5000, -2000], "USD")

    assert (found.amount, found.parts) == (3000, ((0, 3000),))
    assert found.sum == "credit 1: $30.00 off $30.00 (up to $100.00)"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (grant(100, id=2, priority=1), grant(100, id=1, priority=2)),
        (grant(100, id=2, expires_at=MAY_1), grant(100, id=1, expires_at=JUNE_1)),
        (grant(100, id=2, expires_at=MAY_1), grant(100, id=1)),
        (grant(100, id=2, created=MARCH_1), grant(100, id=1, created=APRIL_1)),
        (grant(100, id=2, priority=-1), grant(100, id=1, expires_at=MAY_1)),
        (grant(100, id=1), grant(100, id=2)),
    ],
)
def test_credits_burn_by_priority_then_soonest_end_then_age(first, second):
    assert given(spend([second, first], [120], "USD")) == [(first.id, 100), (second.id, 20)]


def test_what_no_credit_covers_stays_due():
    assert spend([], [50], "USD") == []
    assert spend([grant(0)], [50], "USD") == []


def test_a_credit_is_spread_over_the_lines_that_charge():
    [found] = spend([grant(100)], [100, -50, 200], "USD")

    assert found.parts == ((0, 33), (2, 67))


def test_an_amount_off_every_period_takes_half_of_it_off_half_a_period():
    """A-40; what was given back with the old fee is not given again"""
    (deduction,) = discount([half_period(15_000, "a"), half_period(10_000, "b")], [fixed(9000)])

    assert (deduction.label, deduction.parts) == ("9000 less", ((0, 2700), (1, 1800)))
    assert deduction.sum == "9000 less, $90.00 for a whole period: $45.00 off $250.00"


def test_an_amount_is_shared_in_time_by_what_whole_periods_would_cost():
    """A-40"""
    (deduction,) = discount([charge(10_000), half_period(10_000, "b")], [fixed(3000)])

    assert deduction.amount == 2000  # 200 of 300 whole


def test_an_amount_off_once_is_taken_in_full_off_half_a_period():
    """A-42"""
    (deduction,) = discount([half_period(15_000)], [fixed(9000, once=True)])

    assert deduction.amount == 9000
