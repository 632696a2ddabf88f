"""Taxes of lines: on top, inside, several, and their totals. No database."""

from decimal import Decimal

import pytest

from invoicing.taxes import TaxTerms, tax_line, tax_totals


def rate(percent, *, id=1, inclusive=False, name="VAT"):
    return TaxTerms(id, name, Decimal(percent), inclusive)


@pytest.mark.parametrize(
    ("taxable", "percent", "tax"),
    [
        (9999, "20", 2000),
        (12_345, "7.25", 895),
        (999, "10.5", 105),
        (1000, "20", 200),
        (1429, "24", 343),
        (1427, "24", 342),
        (3871, "20", 774),
        (0, "10", 0),
        (5, "10", 1),  # half a cent goes away from zero
        (-5, "10", -1),
        (100, "0", 0),
    ],
)
def test_a_tax_on_top_is_rounded_per_line(taxable, percent, tax):
    """Law 2"""
    [found] = tax_line(taxable, [rate(percent)])

    assert (found.taxable, found.amount, found.inclusive) == (taxable, tax, False)


@pytest.mark.parametrize(
    ("price", "percent", "net", "tax"),
    [
        (1200, "20", 1000, 200),
        (299, "4", 287, 12),  # exactly 11.5
        (-1200, "20", -1000, -200),
        (0, "20", 0, 0),
    ],
)
def test_an_inclusive_tax_is_rounded_and_the_net_is_the_difference(price, percent, net, tax):
    [found] = tax_line(price, [rate(percent, inclusive=True)])

    assert (found.taxable, found.amount, found.inclusive) == (net, tax, True)


def test_two_rates_on_top_do_not_tax_each_other():
    found = tax_line(10_000, [rate("5", name="GST"), rate("9.975", id=2, name="QST")])

    assert [tax.amount for tax in found] == [500, 998]


def test_two_inclusive_rates_share_the_price():
    found = tax_line(11_500, [rate("10", inclusive=True), rate("5", id=2, inclusive=True)])

    assert [(tax.taxable, tax.amount) for tax in found] == [(10_000, 1000), (10_000, 500)]


def test_a_rate_on_top_applies_to_what_an_inclusive_one_leaves():
    on_top, inside = tax_line(1200, [rate("10"), rate("20", id=2, inclusive=True)])

    assert [(tax.taxable, tax.amount) for tax in (on_top, inside)] == [(1000, 100), (1000, 200)]


def test_a_credit_mirrors_the_tax_of_its_charge():
    """A credit gives back exactly what the charge cost, whatever the amount."""
    rates = [rate("7.7"), rate("3", id=2, inclusive=True)]

    for amount in range(1, 400):
        charged = [tax.amount for tax in tax_line(amount, rates)]
        assert [tax.amount for tax in tax_line(-amount, rates)] == [-tax for tax in charged]


def test_two_credits_of_one_invoice_give_its_tax_back_whole():
    first, second = tax_line(-72_686, [rate("20")]), tax_line(-4214, [rate("20")])

    assert [tax.amount for tax in (*first, *second)] == [-14_537, -843]
    assert -76_900 - 14_537 - 843 == -92_280


def test_a_line_without_rates_has_no_tax():
    assert tax_line(1000, []) == ()


def test_totals_are_the_sums_of_the_lines_per_rate():
    """Law 12"""
    vat, gst = rate("10"), rate("5", id=2, name="GST")
    taxes = [*tax_line(5, [vat]), *tax_line(5, [vat, gst])]

    assert [(total.rate, total.taxable, total.amount) for total in tax_totals(taxes)] == [(vat, 10, 2), (gst, 5, 0)]


def test_taxes_say_how_they_came_about():
    """Law 12"""
    [on_top] = tax_line(1000, [rate("7.70")])
    [inside] = tax_line(1200, [rate("20", inclusive=True)])

    assert on_top.sum("USD") == "VAT 7.7 % on $10.00 = $0.77"
    assert inside.sum("USD") == "VAT 20 % within the price, on $10.00 net = $2.00"
    assert tax_totals([on_top])[0].sum("USD") == "VAT 7.7 % on $10.00 = $0.77, rounded per line"


def test_a_line_keeps_its_rate_as_it_was():
    """Law 11"""
    [tax] = tax_line(1200, [rate("20.0000", inclusive=True)])

    assert tax.to_json() == {
        "id": 1,
        "name": "VAT",
        "percent": "20",
        "inclusive": True,
        "taxable": 1000,
        "amount": 200,
    }
