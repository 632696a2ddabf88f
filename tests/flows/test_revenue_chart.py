"""The bars of recurring revenue: above the line what came, below it what went."""

from billing_admin.flows.revenue import Kind, Month
from billing_admin.revenue_chart import draw
from tests.instants import APRIL_1, MARCH_1

MARCH = Month(MARCH_1, 0, {Kind.NEW: 20_000})
APRIL = Month(APRIL_1, 20_000, {Kind.NEW: 5000, Kind.EXPANSION: 10_000, Kind.CHURN: -5000})


def test_each_side_has_the_height_that_its_tallest_month_needs():
    chart = draw([MARCH, APRIL], "USD")

    assert (chart.above, chart.below) == (80, 20)
    assert [(part.kind, part.share) for part in chart.columns[1].up] == [(Kind.EXPANSION, 50), (Kind.NEW, 25)]
    assert [(part.kind, part.share) for part in chart.columns[1].down] == [(Kind.CHURN, 100)]


def test_a_column_says_itself_in_words():
    column = draw([MARCH, APRIL], "USD").columns[1]

    assert column.words == ("Apr 2026: $300.00 a month at its end, New +$50.00, Expansion +$100.00, Churn −$50.00")


def test_the_head_says_where_the_last_month_stands():
    chart = draw([MARCH, APRIL], "USD")

    assert (chart.closing, chart.change, chart.is_flat) == ("$300.00", "+$100.00", False)


def test_months_without_movements_are_flat():
    chart = draw([Month(MARCH_1, 0), Month(APRIL_1, 0)], "USD")

    assert (chart.is_flat, chart.above, chart.closing) == (True, 100, "$0.00")
