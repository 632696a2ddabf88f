from decimal import Decimal
from fractions import Fraction

import pytest

from catalog.charges import (
    GRADUATED,
    PACKAGE,
    PERCENTAGE,
    STAIRSTEP,
    VOLUME,
    Price,
    Tier,
    describe,
    differs_cheaper,
    first_tier,
    packs,
    prepaid,
    prepaid_amount,
    prepaid_units,
    rate,
    rate_use,
    tier_lines,
)

D = Decimal


def tiers(*rows):
    """(up_to, unit[, flat]) as numbers or text; None is without end."""
    made = [(None if upper is None else D(str(upper)), *(D(str(n)) for n in rest)) for upper, *rest in rows]
    return tuple(Tier(*row) for row in made)


def tiered(model, *rows, pack=1):
    return Price(model, pack=D(pack), tiers=tiers(*rows))


def amount(price, units, **more):
    return rate(price, D(str(units)), **more).amount


FALLING = ((100, "0.1"), (500, "0.05"), (None, "0.02"))
WITH_FLATS = ((100, 2, 10), (200, 1, 0), (None, "0.5", 50))
FLAT_FIRST = ((5, 0, 100), (10, 0, 150), (15, 10, 0), (None, 5, 0))
PACKS_OF_100 = ((500, 10), (None, 5))


@pytest.mark.parametrize(("units", "cost"), [(0, 0), (50, 5), (-1000, -40), (100, 10), (101, "10.05")])
def test_a_graduated_price_takes_each_slice_at_its_own_rate(units, cost):
    assert amount(tiered(GRADUATED, *FALLING), units) == Fraction(str(cost))


@pytest.mark.parametrize(("units", "cost"), [(15, 2), (20, 2), (1, 1), (0, 0), (-15, -2)])
def test_units_in_packs_are_rounded_up_before_their_tier_is_found(units, cost):
    assert amount(tiered(GRADUATED, (None, 1), pack=10), units) == cost


@pytest.mark.parametrize(("units", "cost"), [(0, 100), (5, 100), (6, 150), (11, 155), (22, 182)])
def test_each_tier_that_is_reached_adds_its_flat_fee_and_the_first_one_always_does(units, cost):
    price = tiered(GRADUATED, (5, 0, 100), (10, 0, 50), (15, 5, 0), (None, 1, 0))

    assert amount(price, units) == cost


@pytest.mark.parametrize(("units", "cost"), [(50, 5), (101, "5.05"), (500, 25), (1000, 20)])
def test_a_volume_price_takes_all_units_at_the_rate_of_the_tier_they_end_in(units, cost):
    assert amount(tiered(VOLUME, *FALLING), units) == Fraction(str(cost))


@pytest.mark.parametrize(("units", "cost"), [(0, 10), (1, 12), (101, 101), (200, 200), (300, 200)])
def test_a_volume_price_adds_the_flat_fee_of_its_tier(units, cost):
    assert amount(tiered(VOLUME, *WITH_FLATS), units) == cost


@pytest.mark.parametrize(("units", "cost"), [(0, 100), (5, 100), (15, 150), (100, 500)])
def test_a_bound_belongs_to_the_tier_below_it(units, cost):
    assert amount(tiered(VOLUME, *FLAT_FIRST), units) == cost


@pytest.mark.parametrize(("units", "cost"), [(1500, 2), (99500, 100), (100001, "50.5")])
def test_volume_tiers_of_packs_are_found_with_whole_packs(units, cost):
    assert amount(tiered(VOLUME, (100000, 1), (None, "0.5"), pack=1000), units) == Fraction(str(cost))


@pytest.mark.parametrize(("units", "cost"), [(0, 50), (10, 50), (11, 100), (25, 150), (-25, -150)])
def test_a_stairstep_costs_the_one_price_of_its_step(units, cost):
    assert amount(tiered(STAIRSTEP, (10, 0, 50), (20, 0, 100), (None, 0, 150)), units) == cost


@pytest.mark.parametrize(("units", "cost"), [(0, 0), (1, 100), (121, 1300), (130, 1300), (-121, -1300)])
def test_a_package_price_counts_packs_that_were_begun(units, cost):
    assert amount(Price(PACKAGE, rate=D(100), pack=D(10)), units) == cost


def test_a_percentage_without_transactions_is_taken_of_one_amount_and_stays_exact():
    assert amount(Price(PERCENTAGE, percent=D("2.9")), 4) == Fraction("0.116")


def test_each_transaction_lies_between_the_least_and_the_most_fixed_part_included():
    price = Price(PERCENTAGE, percent=D("2.99"), fixed=D(2), transaction_min=D("1.75"), transaction_max=D(12))

    found = rate(price, D(0), transactions=[D(10), D(80), D(10000)])

    assert found.amount == Fraction("18.691")
    assert found.sum("USD") == "2.99 % of $90.00 + 2 × $2.00 + $12.00 (at most) = $18.69"


def test_a_period_without_a_transaction_costs_no_fixed_part():
    assert amount(Price(PERCENTAGE, percent=D(1), fixed=D(2), transaction_min=D(1)), 0) == 0


def test_a_refunded_transaction_mirrors_a_charged_one():
    price = Price(PERCENTAGE, percent=D(1), fixed=D(2))

    assert rate(price, D(0), transactions=[D(100), D(-100)]).amount == 0


def test_a_tier_with_a_percentage_is_a_graduated_rate_of_the_volume():
    price = tiered(GRADUATED, (10, "0.01", 200), (20, "0.02", 300), (None, "0.03", 400))

    assert amount(price, 11) == Fraction("500.12")


@pytest.mark.parametrize(("used", "cost"), [(50, 0), (51, "0.1"), (120, 7), (200, "7.5"), (600, 11)])
def test_what_is_included_comes_off_before_a_volume_tier_is_found(used, cost):
    assert rate_use(tiered(VOLUME, *FALLING), D(used), D(50)).amount == Fraction(str(cost))


def test_included_units_come_off_before_packs_are_counted():
    assert rate_use(Price(PACKAGE, rate=D(100), pack=D(10)), D(121), D(10)).amount == 1200


def test_included_volume_covers_the_earliest_transactions():
    price = Price(PERCENTAGE, percent=D("1.3"), fixed=D(2))

    found = rate_use(price, D(800), D(400), transactions=[D(50), D(100), D(250), D(400)])

    assert found.amount == Fraction("7.2")


def test_a_graduated_price_counts_on_from_what_was_rated_before():
    price = tiered(GRADUATED, (10000, "0.001"), (None, "0.0008"))

    assert rate(price, D(12000)).sum("USD") == "10,000 × $0.001 + 2,000 × $0.0008 = $11.60"
    assert rate(price, D(5000), before=D(8000)).sum("USD") == "2,000 × $0.001 + 3,000 × $0.0008 = $4.40"


def test_a_volume_price_that_counts_on_shows_what_was_charged_before():
    price = tiered(VOLUME, *PACKS_OF_100, pack=100)

    found = rate(price, D(500), before=D(300))

    assert found.sum("USD") == "8 packs of 100 × $5.00 − $30.00 (charged before) = $10.00"


@pytest.mark.parametrize(
    ("price", "units", "words"),
    [
        (Price(rate=D("0.002"), per=1000), 2480, "2,480 × $2.00 per 1,000 = $4.96"),
        (Price(rate=D("0.5")), -3, "−3 × $0.50 = −$1.50"),
        (Price(rate=D("0.5")), 0, "0 × $0.50 = $0.00"),
        (Price(PACKAGE, rate=D(100), pack=D(10)), 1, "1 pack of 10 × $100.00 = $100.00"),
        (tiered(STAIRSTEP, (10, 0, 50), (None, 0, 150)), 25, "$150.00 (step over 10) = $150.00"),
        (tiered(GRADUATED, (5, 0, 100), (None, 1)), 7, "$100.00 flat + 2 × $1.00 = $102.00"),
        (tiered(VOLUME, *WITH_FLATS), 1, "1 × $2.00 + $10.00 flat = $12.00"),
        (tiered(VOLUME, (None, 0)), 7, "7 × $0.00 = $0.00"),
        (Price(PERCENTAGE, percent=D("2.9"), transaction_min=D(1)), 10, "$1.00 (at least) = $1.00"),
    ],
)
def test_an_amount_says_how_it_came_about(price, units, words):
    assert rate(price, D(units)).sum("USD") == words


@pytest.mark.parametrize(
    ("total", "included", "size", "number"),
    [(300, 0, 100, 3), (300, 100, 100, 2), (301, 0, 100, 4), (50, 100, 100, 0), (200, 100, 50, 2), (3, 1, 1, 2)],
)
def test_packs_are_counted_beyond_what_is_included_and_rounded_up(total, included, size, number):
    """A-24"""
    price = Price(PACKAGE, rate=D(10), pack=D(size))

    assert packs(price, D(total), D(included)) == number
    assert prepaid_units(price, D(total), D(included)) == included + number * size
    assert prepaid_amount(price, D(total), D(included)) == number * 10


@pytest.mark.parametrize(
    ("model", "total", "included", "cost"),
    [
        (GRADUATED, 300, 0, 30),
        (GRADUATED, 800, 0, 65),
        (VOLUME, 300, 0, 30),
        (VOLUME, 800, 0, 40),
        (VOLUME, 600, 0, 30),
        (VOLUME, 300, 100, 20),
        (VOLUME, 0, 0, 0),
    ],
)
def test_prepaid_packs_cost_what_their_tiers_say(model, total, included, cost):
    """A-24"""
    assert prepaid_amount(tiered(model, *PACKS_OF_100, pack=100), D(total), D(included)) == cost


def test_who_buys_no_pack_pays_no_first_step():
    found = prepaid(tiered(STAIRSTEP, (10, 0, 50), (None, 0, 80)), D(5), D(5))

    assert found.amount == 0


@pytest.mark.parametrize(
    ("price", "first"),
    [
        (Price(rate=D(2)), 2),
        (Price(PACKAGE, rate=D(10), pack=D(100)), 10),
        (tiered(VOLUME, *WITH_FLATS), 2),
        (tiered(STAIRSTEP, (10, 0, 50), (None, 0, 80)), 50),
    ],
)
def test_plans_are_compared_by_what_the_first_tier_costs(price, first):
    assert first_tier(price) == first


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (Price(rate=D("0.000002"), per=1000), "$0.002 / 1,000 tokens"),
        (Price(rate=D("0.1")), "$0.10 / token"),
        (Price(PACKAGE, rate=D(10), pack=D(100)), "$10.00 / pack of 100 tokens"),
        (tiered(GRADUATED, *FALLING), "from $0.10 / token, 3 tiers"),
        (tiered(VOLUME, *PACKS_OF_100, pack=100), "from $10.00 / 100 tokens, 2 volume tiers"),
        (tiered(GRADUATED, (None, 1, 5)), "from $1.00 / token + $5.00, 1 tier"),
        (tiered(STAIRSTEP, (10, 0, 50), (None, 0, 80)), "from $50.00, 2 steps"),
        (
            Price(PERCENTAGE, percent=D("2.9"), fixed=D("0.3"), transaction_min=D("0.5")),
            "2.9 % + $0.30 per transaction, at least $0.50",
        ),
        (
            Price(rate=D(1), line_min=D(5), line_max=D(50)),
            "$1.00 / token, at least $5.00 a period, at most $50.00 a period",
        ),
    ],
)
def test_a_price_is_told_in_a_few_words(price, words):
    assert describe(price, "USD", "token") == words


@pytest.mark.parametrize(
    ("old", "new", "cheaper"),
    [
        (Price(rate=D(2)), Price(rate=D(1)), True),
        (Price(rate=D(1)), Price(rate=D(2)), False),
        (Price(rate=D(1)), Price(rate=D(1), per=1000), False),
        (Price(rate=D(1)), Price(), True),
        (tiered(GRADUATED, *FALLING), tiered(GRADUATED, (100, "0.1"), (None, "0.02")), True),
        (tiered(GRADUATED, *FALLING), tiered(GRADUATED, (100, "0.2"), (None, "0.01")), False),
        (tiered(GRADUATED, *FALLING), tiered(GRADUATED, (50, "0.1"), (500, "0.05"), (None, "0.02")), True),
        (tiered(GRADUATED, *FALLING), tiered(VOLUME, *FALLING), True),
        (tiered(VOLUME, *FALLING), tiered(GRADUATED, *FALLING), False),
        (Price(PACKAGE, rate=D(10), pack=D(100)), Price(PACKAGE, rate=D(10), pack=D(150)), True),
        (Price(PACKAGE, rate=D(10), pack=D(100)), Price(PACKAGE, rate=D(10), pack=D(50)), False),
        (Price(PACKAGE, rate=D(10), pack=D(100)), Price(rate=D("0.1")), True),
        (Price(rate=D("0.1")), Price(PACKAGE, rate=D(10), pack=D(100)), False),
        (Price(PERCENTAGE, percent=D(3), fixed=D(1)), Price(PERCENTAGE, percent=D(2), fixed=D(1)), True),
        (Price(PERCENTAGE, percent=D(3)), Price(PERCENTAGE, percent=D(2), fixed=D(1)), False),
        (Price(PERCENTAGE, percent=D(3)), Price(PERCENTAGE, percent=D(3), transaction_max=D(9)), True),
        (tiered(VOLUME, (5, 0, "0.005"), (None, "0.004"), pack=2), Price(rate=D("0.002")), False),
        (Price(rate=D(1)), Price(rate=D(1), line_min=D(5)), False),
        (Price(rate=D(1)), Price(rate=D(1), line_max=D(5)), True),
    ],
)
def test_a_price_is_cheaper_when_nothing_about_it_is_dearer(old, new, cheaper):
    assert differs_cheaper(old, new) is cheaper


def test_a_price_survives_being_stored():
    price = Price(VOLUME, pack=D(100), tiers=tiers((500, "0.000001"), (None, 0, 3)), line_min=D(0), line_max=D("9.5"))

    assert Price.from_json(price.to_json()) == price


@pytest.mark.parametrize(
    ("price", "lines"),
    [
        (
            tiered(GRADUATED, (100, "0.1"), (None, "0.02", 5)),
            ["up to 100: $0.10 / call", "over 100: $0.02 / call + $5.00"],
        ),
        (
            tiered(STAIRSTEP, (10, 0, 50), (20, 0, 80), (None, 0, 90)),
            ["up to 10: $50.00", "over 10 up to 20: $80.00", "over 20: $90.00"],
        ),
        (tiered(VOLUME, (None, 10), pack=100), ["any: $10.00 / 100 calls"]),
        (Price(rate=D(1)), []),
    ],
)
def test_each_tier_is_told_in_a_line(price, lines):
    assert tier_lines(price, "USD", "call") == lines
