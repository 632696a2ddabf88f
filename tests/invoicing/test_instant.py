"""What use costs event by event, and what comes back."""

from decimal import Decimal
from fractions import Fraction

import pytest

from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, VOLUME, Price, Tier
from invoicing.instant import Span, exact, given_back

UNIT = Price(rate=Decimal("0.002"))
TIERS = Price(model=GRADUATED, tiers=(Tier(Decimal(5), unit=Decimal(3), flat=Decimal(1)), Tier(None, unit=Decimal(2))))
VOLUMES = Price(model=VOLUME, tiers=(Tier(Decimal(10), unit=Decimal(3)), Tier(None, unit=Decimal(1))))
CARD = Price(model=PERCENTAGE, percent=Decimal("2.9"), fixed=Decimal("0.3"))


def span(price, start, end):
    return Span(price, Decimal(start), Decimal(end))


@pytest.mark.parametrize(
    ("price", "start", "end", "cost"),
    [
        (UNIT, 0, 3, "0.006"),
        (TIERS, 0, 4, "13"),
        (TIERS, 4, 7, "7"),
        (Price(model=PACKAGE, rate=Decimal(7), pack=Decimal(3)), 0, 1, "7"),
        (Price(model=PACKAGE, rate=Decimal(7), pack=Decimal(3)), 1, 3, "0"),
        (VOLUMES, 10, 11, "-19"),
        (CARD, 100, 180, "2.62"),
    ],
)
def test_tiers_count_on_from_event_to_event(price, start, end, cost):
    """Y-31"""
    assert span(price, start, end).cost == Decimal(cost)


def test_an_amount_has_twelve_decimals_and_halves_go_away_from_zero():
    assert exact(Fraction(1, 3)) == Decimal("0.333333333333")
    assert exact(Fraction(-5, 10**13)) == Decimal("-0.000000000001")


def test_the_events_of_a_window_cost_together_what_its_units_cost():
    price = Price(model=GRADUATED, pack=Decimal(1), tiers=(Tier(None, unit=Decimal("0.000000000001")),))

    costs = [span(price, Decimal(n) / 2, Decimal(n + 1) / 2).cost for n in range(7)]

    assert sum(costs) == span(price, 0, Decimal("3.5")).cost


def test_a_span_says_how_it_came_about():
    assert span(UNIT, 2, 5).words("USD") == "3 × $0.002 = $0.006"
    assert span(CARD, 100, 180).words("USD") == "2.9 % of $80.00 + $0.30 = $2.62"


def test_what_is_given_back_returns_what_its_units_were_charged_at():
    assert given_back([span(TIERS, 4, 7), span(TIERS, 0, 4)], Decimal(7), Decimal(3)) == 10


def test_giving_everything_back_returns_a_first_tiers_flat_fee_too():
    assert given_back([span(TIERS, 0, 5)], Decimal(5), Decimal(0)) == span(TIERS, 0, 5).cost == 16


def test_units_charged_at_an_older_price_return_at_it():
    dearer = Price(rate=Decimal(1))

    assert given_back([span(dearer, 10, 12), span(UNIT, 0, 10)], Decimal(12), Decimal(9)) == Decimal("2.002")


def test_what_came_back_already_does_not_come_back_again():
    spans = [span(UNIT, 10, 4), span(UNIT, 0, 10)]

    assert given_back(spans, Decimal(10), Decimal(4)) == 0


def test_units_used_again_return_what_they_cost_the_second_time():
    spans = [span(Price(rate=Decimal(5)), 4, 8), span(UNIT, 10, 4), span(UNIT, 0, 10)]

    assert given_back(spans, Decimal(8), Decimal(2)) == Decimal("20.004")


def test_units_that_nobody_charged_return_nothing():
    assert given_back([span(UNIT, 0, 5)], Decimal(20), Decimal(10)) == 0


def test_a_part_of_a_transaction_returns_its_percentage_and_the_fixed_part_comes_last():
    charged = [span(CARD, 0, 100)]

    part = given_back(charged, Decimal(100), Decimal(60))
    rest = given_back([span(CARD, 100, 60), *charged], Decimal(60), Decimal(0))

    assert (part, part + rest) == (Decimal("1.16"), Decimal("3.20"))
