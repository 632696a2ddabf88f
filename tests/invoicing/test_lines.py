"""Lines as values: shares of time, rounding, use rated by the price in force when it was used. No database."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from catalog.charges import Price
from catalog.periods import Period
from catalog.terms import METERED, ONCE, FeatureTerms, ItemTerms, PlanTerms
from invoicing.documents import BillingRules, draw
from invoicing.lines import (
    BilledFee,
    RatedUse,
    advance_line,
    one_time_line,
    opening_lines,
    renewal_lines,
    switch_lines,
    unused_lines,
    usage_lines,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

APRIL = Period(APRIL_1, MAY_1)
CALLS = FeatureTerms("calls", "Calls", METERED, id=1)


def base(amount, *, cadence="P1M", key="base", quantity=1):
    return ItemTerms(key=key, amount=Decimal(amount), cadence=cadence, quantity=quantity, id=1)


def fee_for(amount, since, *, period=APRIL, currency="USD", quantity=1):
    return advance_line(base(amount, quantity=quantity), period, since=since, plan_name="Pro", currency=currency)


@pytest.mark.parametrize(
    ("amount", "since", "currency", "due"),
    [
        ("30", APRIL_1, "USD", 3000),
        ("30", APRIL_16, "USD", 1500),
        ("0.01", APRIL_16, "USD", 1),  # half a cent goes away from zero
        ("1001", APRIL_16, "JPY", 501),
        ("10", APRIL_16, "KWD", 5000),
        ("30", day("2026-04-30T23:59:59"), "USD", 0),
    ],
)
def test_a_fee_is_the_exact_share_of_what_is_left_rounded_once(amount, since, currency, due):
    """Law 2"""
    assert fee_for(amount, since, currency=currency).amount == due


def test_a_share_of_a_leap_day_is_counted_in_seconds():
    """Law 2"""
    february = Period(day("2028-02-01"), day("2028-03-01"))

    line = fee_for("29", day("2028-02-29"), period=february)

    assert (line.amount, line.derivation["seconds"], line.derivation["periodSeconds"]) == (100, 86_400, 29 * 86_400)


def test_a_line_prints_its_sum():
    """Law 12"""
    assert fee_for("50", APRIL_16).derivation["sum"] == (
        "Pro, 15 of 30 days: $50.00 × 1,296,000 s / 2,592,000 s = $25.00"
    )


def test_a_fee_with_a_quantity_is_one_line():
    """Y-33"""
    line = fee_for("10", APRIL_1, quantity=5)

    assert (line.amount, line.quantity, line.rate) == (5000, 5, 10)


def billed(price="30", *, paid=1, due=0, net=None, since=APRIL_1, id=1, invoice=1):
    return BilledFee(
        line_id=id,
        key="base",
        label="Pro",
        currency="USD",
        price=Fraction(price),
        period=APRIL,
        net=int(Fraction(price) * 100) if net is None else net,
        ends_at=MAY_1,
        invoice_id=invoice,
        invoice_due=due,
        paid_share=Fraction(paid),
    )


def credits(*fees, at=APRIL_16):
    return [(line.amount, line.offsets_id) for line in unused_lines(fees, at)]


def test_unused_time_of_a_paid_fee_is_given_back():
    """A-04"""
    assert credits(billed()) == [(-1500, None)]


def test_unused_time_of_an_unpaid_fee_comes_off_its_invoice():
    """Design 4"""
    assert credits(billed(paid=0, due=3000)) == [(-1500, 1)]


def test_unused_time_of_a_fee_paid_in_part_is_split():
    """Design 4: only the paid share reduces the new invoice."""
    assert credits(billed(paid=Fraction(1, 3), due=2000)) == [(-500, None), (-1000, 1)]


def test_no_more_is_given_back_than_was_charged():
    """Design 4: credit per line ≤ net invoiced."""
    assert credits(billed(net=1000)) == [(-1000, None)]


def test_fees_of_one_invoice_together_offset_no_more_than_is_due():
    """Design 4"""
    fees = [billed(paid=0, due=2000, id=1), billed(paid=0, due=2000, id=2)]

    assert credits(*fees) == [(-1500, 1), (-1000, None), (-500, 1)]


def test_nothing_comes_back_at_the_very_end():
    assert credits(billed(), at=MAY_1) == []


def priced(price, *, id):
    return ItemTerms(key="calls", feature=CALLS, price=price and Price(rate=Decimal(price)), id=id)


def used(total, *segments, granted=100, adjusted=0):
    """Segments are (price, used up to which total)."""
    return RatedUse(
        balance_id=1,
        granted=Decimal(granted),
        adjusted=Decimal(adjusted),
        used=Decimal(total),
        segments=tuple((priced(price, id=place), Decimal(upto)) for place, (price, upto) in enumerate(segments, 1)),
        starts_at=MARCH_1,
        ends_at=APRIL_1,
    )


def rated(use):
    return [(int(line.quantity), line.amount) for line in usage_lines(use, plan_name="Pro", currency="USD")]


@pytest.mark.parametrize(
    ("use", "lines"),
    [
        (used(100, ("0.10", 100)), []),
        (used(130, ("0.10", 130)), [(30, 300)]),
        (used(150, ("0.10", 120), ("0.20", 150)), [(20, 200), (30, 600)]),
        (used(150, ("0.10", 80), ("0.20", 150)), [(50, 1000)]),
        (used(150, ("0.10", 80), (None, 150)), []),
        (used(150, (None, 120), ("0.20", 150)), [(30, 600)]),
        (used(90, ("0.10", 120), ("0.20", 90), granted=50), [(40, 400)]),
        (used(130, ("0.10", 130), granted=200), []),
        (used(0, ("0.10", 0), granted=0, adjusted=-25), [(25, 250)]),
        (used(125, ("0.10", 125), adjusted=-50), [(75, 750)]),
        (used(1, ("0.005", 1), granted=0), [(1, 1)]),
    ],
    ids=[
        "within the allowance",
        "beyond it",
        "at two prices",
        "the allowance covers the earliest use",
        "the price went away",
        "a price came",
        "use was given back after the change",
        "a larger allowance",
        "an edit below zero is charged",
        "an edit and use",
        "half a cent",
    ],
)
def test_use_beyond_the_newest_allowance_is_rated_by_the_price_in_force_when_it_was_used(use, lines):
    """Design 4, A-21, A-31"""
    assert rated(use) == lines


def test_tiny_rates_are_rounded_once_on_the_line():
    """Law 2: $0.002 per 1,000 tokens."""
    assert rated(used(2_600_000, ("0.000002", 2_600_000), granted=100_000)) == [(2_500_000, 500)]


def terms(*items, plan_id=1):
    return PlanTerms(plan_id, "USD", "P1M", items, plan_name="Pro")


SETUP = base("100", cadence=ONCE, key="setup")


def charged(lines):
    return [(line.key, line.amount) for line in lines]


def test_a_new_contract_is_charged_all_fees_that_are_not_free():
    """Y-32"""
    lines = opening_lines(terms(base("30"), base("0", key="free"), SETUP), APRIL_1, APRIL_16)

    assert charged(lines) == [("base", 1500), ("setup", 10000)]


def test_a_renewal_charges_the_fees_whose_period_begins():
    """L-21"""
    both = terms(base("30"), base("300", cadence="P1Y", key="yearly"), SETUP)

    assert charged(renewal_lines(both, day("2025-04-01"), MARCH_1)) == [("base", 3000)]
    assert charged(renewal_lines(both, day("2025-04-01"), APRIL_1)) == [("base", 3000), ("yearly", 30000)]


@pytest.mark.parametrize(("former", "setup"), [(1, []), (2, [("setup", 10000)])])
def test_a_scheduled_change_charges_one_time_fees_that_the_plan_did_not_have(former, setup):
    """Y-32"""
    lines = switch_lines(terms(base("50"), SETUP, plan_id=former), terms(base("30"), SETUP), MARCH_1, APRIL_1)

    assert charged(lines) == [("base", 3000), *setup]


def test_lines_that_offset_an_invoice_stand_on_a_credit_note_of_their_own():
    """Design 4"""
    charge = one_time_line(SETUP, at=APRIL_16, plan_name="Pro", currency="USD")
    offset = replace(charge, amount=-500, offsets_id=7)

    found = draw([charge, offset], BillingRules())

    assert [(d.total, d.offsets_id, d.is_credit_note) for d in found] == [(10000, None, False), (-500, 7, True)]


def test_lines_below_zero_together_are_a_credit_note():
    """Design 6"""
    charge = one_time_line(SETUP, at=MARCH_16, plan_name="Pro", currency="USD")

    [document] = draw([charge, replace(charge, amount=-20000)], BillingRules())

    assert (document.total, document.is_credit_note) == (-10000, True)
