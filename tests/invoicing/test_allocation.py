"""Amounts spread to the last minor unit, and the one rounding that money has. No database."""

from decimal import Decimal

import pytest

from catalog.money import to_minor
from invoicing.allocation import allocate, allocate_within


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (5, [1, 1, 1], [2, 2, 1]),  # ties go to the earlier
        (100, [100, 200], [33, 67]),  # the larger remainder first
        (100, [1, 1, 1], [34, 33, 33]),
        (-5, [1, 1, 1], [-2, -2, -1]),
        (7, [0, 1, 0, 1], [0, 4, 0, 3]),
        (1, [1, 2, 1], [0, 1, 0]),
        (0, [3, 4], [0, 0]),
        (0, [0, 0], [0, 0]),
        (0, [], []),
        (12, [5], [12]),
    ],
)
def test_parts_follow_the_weights_and_sum_exactly(amount, weights, parts):
    assert allocate(amount, weights) == parts


@pytest.mark.parametrize(("amount", "weights"), [(1, []), (1, [0, 0]), (1, [2, -1])])
def test_an_amount_needs_weights_to_carry_it(amount, weights):
    with pytest.raises(ValueError, match=r"nothing to spread|below zero"):
        allocate(amount, weights)


@pytest.mark.parametrize(
    ("amount", "limits", "parts"),
    [
        (2500, [1000, 1000], [1000, 1000]),
        (-2500, [1000, 1000], [-1000, -1000]),
        (12, [0, 0], [0, 0]),
        (3, [1, 1, 1], [1, 1, 1]),
        (2, [1, 1, 1], [1, 1, 0]),
        (100, [100, 200], [33, 67]),
    ],
)
def test_no_part_exceeds_its_limit(amount, limits, parts):
    assert allocate_within(amount, limits) == parts


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("10.278798", "USD", 1028),
        ("1023.45", "JPY", 1023),
        ("99.996", "EUR", 10_000),
        ("0.004", "USD", 0),
        ("0.005", "USD", 1),
        ("-0.005", "EUR", -1),
        ("123.425", "USD", 12_343),
        ("8.5", "JPY", 9),
        ("-8.5", "JPY", -9),
    ],
)
def test_money_is_rounded_half_away_from_zero(amount, currency, minor):
    """Law 2"""
    assert to_minor(Decimal(amount), currency) == minor


@pytest.mark.parametrize(
    ("amounts", "currency", "subtotal"),
    [
        (["10.333333", "10.333333", "10.333333"], "USD", 3099),
        (["33.333333", "33.333333", "33.333334"], "USD", 9999),
        (["100.4", "200.5", "300.6"], "JPY", 602),
    ],
)
def test_lines_are_rounded_one_by_one_and_then_summed(amounts, currency, subtotal):
    """Law 2"""
    assert sum(to_minor(Decimal(amount), currency) for amount in amounts) == subtotal
