"""Documents drawn up from lines to what is due. No database."""

from decimal import Decimal

import pytest

from invoicing.bounds import Bound
from invoicing.commitment import Commitment
from invoicing.discounts import DiscountTerms
from invoicing.grants import MoneyGrant
from invoicing.lines import FEE, MAXIMUM, MINIMUM, TRUE_UP, UNUSED, USAGE, Line
from invoicing.pipeline import draw_up
from invoicing.taxes import TaxTerms
from tests.instants import MARCH_1

VAT_20 = TaxTerms(1, "VAT", Decimal(20))
HALF_OFF = DiscountTerms(1, "Half", percent=Decimal(50))


def line(amount, kind=FEE, key="base", source_id=None):
    return Line(kind, key, key, amount, "USD", source_id=source_id)


def percent(value, id=1):
    return DiscountTerms(id, f"{value} %", percent=Decimal(value))


def fixed(amount, id=2):
    return DiscountTerms(id, f"{amount} off", amount=amount)


def credit(left, id=1):
    return MoneyGrant(id, "Goodwill", left, None, 0, MARCH_1)


def at(rate):
    return lambda line: (rate,)


def vat(percent):
    return at(TaxTerms(1, "VAT", Decimal(percent)))


def test_coupons_make_twenty_dollars_fourteen():
    """A-40"""
    assert draw_up([line(2000)], discounts=[percent(20), fixed(200)]).total == 1400
    assert draw_up([line(2000)], discounts=[percent(10), percent(20, 2), fixed(300, 3)]).total == 1140


def test_a_coupon_added_with_an_upgrade_discounts_the_charge_alone():
    """A-41"""
    found = draw_up([line(-2000, UNUSED), line(5000)], discounts=[percent(20)])

    assert (found.subtotal, found.discount_total, found.total) == (3000, 1000, 2000)


def test_a_coupon_never_takes_an_invoice_below_zero():
    """A-42"""
    found = draw_up([line(10_000)], discounts=[fixed(1000, 1), fixed(11_000, 2)], taxes=vat(10))

    assert (found.discount_total, found.tax_total, found.total, found.is_credit_note) == (10_000, 0, 0, False)


def test_an_invoice_credit_shows_as_a_deduction_before_tax():
    """L-37"""
    found = draw_up([line(8000)], grants=[credit(5000)], taxes=vat(10))

    [deduction] = found.deductions
    assert (deduction.kind, deduction.amount) == ("invoice_credit", 5000)
    assert (found.credit_total, found.tax_total, found.total) == (5000, 300, 3300)
    assert draw_up([line(8000)], grants=[credit(5000)]).due == 3000
    assert draw_up([line(4000)], grants=[credit(5000)]).due == 0


def test_a_closed_period_below_its_commitment_is_topped_up():
    """Y-56"""
    found = draw_up([line(32_000, USAGE)], commitment=Commitment(50_000, "USD"))

    assert [(drawn.line.kind, drawn.line.amount) for drawn in found.lines] == [(USAGE, 32_000), (TRUE_UP, 18_000)]


def test_tiers_are_taxed_line_by_line():
    found = draw_up([line(amount, USAGE) for amount in (1000, 7200, 2500)], taxes=vat(8))

    assert (found.subtotal, found.tax_total, found.total) == (10_700, 856, 11_556)


@pytest.mark.parametrize(
    ("fee", "credit", "total", "left"), [(1429, 3900, 1772, 2128), (1427, 2128, 1769, 359), (10_000, 40, 12_400, 0)]
)
def test_account_credit_pays_what_is_due_after_tax(fee, credit, total, left):
    found = draw_up([line(fee)], taxes=vat(24), account_credit=credit)

    assert (found.total, credit - found.account_credit) == (total, left)
    assert found.due == total - found.account_credit


def test_each_step_sees_what_the_former_left():
    """Section by section: 100 − 50 % = 50, at least 60, committed 80, credit 30, tax 20 % on 50, account credit 15."""
    found = draw_up(
        [line(10_000, USAGE, "calls")],
        discounts=[HALF_OFF],
        bounds=[Bound("calls", minimum=6000)],
        commitment=Commitment(8000, "USD"),
        grants=[credit(3000)],
        taxes=at(VAT_20),
        account_credit=1500,
    )

    assert [(drawn.line.kind, drawn.line.amount) for drawn in found.lines] == [
        (USAGE, 10_000),
        (MINIMUM, 1000),
        (TRUE_UP, 2000),
    ]
    assert (found.subtotal, found.discount_total, found.credit_total) == (13_000, 5000, 3000)
    assert (found.tax_total, found.total, found.account_credit, found.due) == (1000, 6000, 1500, 4500)
    assert found.sum == (
        "$130.00 − $50.00 discounts − $30.00 credits + $10.00 tax = $60.00; − $15.00 account credit = $45.00 due"
    )


def test_a_line_knows_its_part_of_every_deduction():
    """Law 12"""
    found = draw_up([line(1000), line(2000, key="seats")], discounts=[fixed(300)], grants=[credit(900)])

    assert [(drawn.discounted, drawn.credited, drawn.net) for drawn in found.lines] == [
        (100, 300, 600),
        (200, 600, 1200),
    ]


def test_a_maximum_is_taken_off_before_tax():
    found = draw_up([line(5000, USAGE, "calls")], bounds=[Bound("calls", maximum=3000)], taxes=at(VAT_20))

    assert [(drawn.line.kind, drawn.net, drawn.tax) for drawn in found.lines] == [
        (USAGE, 5000, 1000),
        (MAXIMUM, -2000, -400),
    ]
    assert found.total == 3600


def test_an_inclusive_tax_leaves_the_total_as_it_is():
    found = draw_up([line(1200)], taxes=at(TaxTerms(1, "VAT", Decimal(20), inclusive=True)))

    assert (found.total, found.tax_included, found.tax_added, found.tax_total) == (1200, 200, 0, 200)


def test_a_credit_carries_the_tax_of_its_source():
    old = TaxTerms(2, "VAT", Decimal(19))
    found = draw_up(
        [line(-1000, UNUSED, source_id=5), line(3000)],
        taxes=lambda line: (old,) if line.source_id == 5 else (VAT_20,),
    )

    assert [(total.rate.percent, total.amount) for total in found.tax_totals] == [(19, -190), (20, 600)]
    assert found.total == 2410


def test_a_document_below_zero_is_a_credit_note_that_takes_no_credit():
    found = draw_up(
        [line(-5000, UNUSED), line(2000)], grants=[credit(900)], account_credit=700, discounts=[fixed(9000)]
    )

    assert (found.is_credit_note, found.total, found.due) == (True, -5000, 0)
    assert (found.discount_total, found.credit_total, found.account_credit) == (2000, 0, 0)


def test_a_commitment_alone_makes_a_document():
    """Y-56"""
    assert draw_up([], commitment=Commitment(50_000, "USD")).total == 50_000


def test_a_document_without_lines_is_nothing():
    found = draw_up([], currency="USD", account_credit=500)

    assert (found.total, found.due, found.account_credit, found.sum) == (0, 0, 0, "$0.00 = $0.00")


@pytest.mark.parametrize("currency", [None, "EUR"])
def test_a_document_has_exactly_one_currency(currency):
    with pytest.raises(ValueError, match="one currency"):
        draw_up([line(1)] if currency else [], currency=currency)
