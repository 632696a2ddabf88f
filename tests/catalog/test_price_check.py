from decimal import Decimal

import pytest

from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, STAIRSTEP, VOLUME, Price, Tier
from catalog.price_check import check_price

D = Decimal
OPEN = Tier(None, D(1))


def refusals(price):
    found = []
    check_price(price, "USD", lambda field, message, code: found.append((field, code)))
    return found


@pytest.mark.parametrize(
    "price",
    [
        Price(),
        Price(rate=D("0.000000000001")),
        Price(PACKAGE, rate=D(10), pack=D(100)),
        Price(GRADUATED, tiers=(Tier(D(10), D(1)), OPEN)),
        Price(VOLUME, pack=D(10), tiers=(Tier(D(10), D(1), D(5)), OPEN)),
        Price(STAIRSTEP, tiers=(Tier(D(10), flat=D(5)), Tier(None, flat=D(8)))),
        Price(PERCENTAGE, percent=D("2.9"), fixed=D("0.3"), transaction_min=D(1), transaction_max=D(1)),
        Price(rate=D(1), line_min=D(0), line_max=D(10)),
    ],
)
def test_a_price_that_can_be_sold_passes(price):
    assert refusals(price) == []


@pytest.mark.parametrize(
    ("price", "field", "code"),
    [
        (Price("dynamic"), "model", "unknown_model"),
        (Price(rate=D(-1)), "rate", "negative_price"),
        (Price(rate=D("0.0000000000001")), "rate", "too_many_decimals"),
        (Price(rate=D("NaN")), "rate", "too_large"),
        (Price(rate=D("1e12")), "rate", "too_large"),
        (Price(rate=D(1), pack=D(10)), "pack", "foreign_price_field"),
        (Price(rate=D(1), tiers=(OPEN,)), "tiers", "foreign_price_field"),
        (Price(rate=D(1), percent=D(1)), "percent", "foreign_price_field"),
        (Price(PACKAGE, rate=D(1), transaction_min=D(1)), "transaction_min", "foreign_price_field"),
        (Price(GRADUATED, rate=D(1), tiers=(OPEN,)), "rate", "foreign_price_field"),
        (Price(STAIRSTEP, tiers=(OPEN,)), "tiers.0.unit", "foreign_price_field"),
        (Price(PACKAGE, rate=D(1), pack=D("0.5")), "pack", "bad_pack"),
        (Price(PACKAGE, rate=D(1), pack=D("NaN")), "pack", "bad_pack"),
        (Price(PERCENTAGE, percent=D(101)), "percent", "percent_out_of_range"),
        (Price(PERCENTAGE, percent=D(-1)), "percent", "negative_price"),
        (Price(PERCENTAGE, transaction_min=D(2), transaction_max=D(1)), "transaction_min", "min_above_max"),
        (Price(rate=D(1), line_min=D(2), line_max=D(1)), "line_min", "min_above_max"),
        (Price(VOLUME), "tiers", "no_tiers"),
        (Price(GRADUATED, tiers=(Tier(D(10), D(1)),)), "tiers.0.up_to", "tier_gap"),
        (Price(GRADUATED, tiers=(OPEN, OPEN)), "tiers.0.up_to", "tier_overlap"),
        (Price(GRADUATED, tiers=(Tier(D(10)), Tier(D(10)), OPEN)), "tiers.1.up_to", "tier_overlap"),
        (Price(GRADUATED, tiers=(Tier(D(10)), Tier(D(5)), OPEN)), "tiers.1.up_to", "tier_order"),
        (Price(GRADUATED, tiers=(Tier(D(0)), OPEN)), "tiers.0.up_to", "tier_order"),
        (Price(GRADUATED, tiers=(Tier(D("0.0000001")), OPEN)), "tiers.0.up_to", "bad_tier_bound"),
        (Price(GRADUATED, tiers=(Tier(D(1), D(-1)), OPEN)), "tiers.0.unit", "negative_price"),
        (Price(GRADUATED, tiers=(Tier(D(1)), Tier(None, flat=D(-1)))), "tiers.1.flat", "negative_price"),
    ],
)
def test_a_wrong_cell_is_named(price, field, code):
    """A-14"""
    assert refusals(price) == [(field, code)]


def test_all_wrong_cells_are_named_at_once():
    """A-14"""
    price = Price(VOLUME, pack=D(0), tiers=(Tier(D(10), D(-1)), Tier(D(5), D(1))))

    assert [field for field, _ in refusals(price)] == ["tiers.0.unit", "pack", "tiers.1.up_to", "tiers.1.up_to"]
