from decimal import Decimal
from fractions import Fraction

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from catalog.money import (
    exponent,
    format_minor,
    format_rate,
    grouped,
    round_half_away,
    to_minor,
)


@pytest.mark.parametrize(("value", "rounded"), [("0.5", 1), ("-0.5", -1), ("1.49", 1), ("2.5", 3), ("-2.5", -3)])
def test_halves_are_rounded_away_from_zero(value, rounded):
    assert round_half_away(Fraction(value)) == rounded


@given(st.fractions())
def test_a_credit_mirrors_its_charge(value):
    assert round_half_away(-value) == -round_half_away(value)
    assert abs(round_half_away(value) - value) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("currency", "digits"), [("USD", 2), ("JPY", 0), ("KWD", 3), ("ISK", 0), ("UGX", 0), ("HUF", 2), ("TWD", 2)]
)
def test_currencies_have_the_digits_that_payments_use(currency, digits):
    assert exponent(currency) == digits


def test_an_unknown_currency_is_refused():
    with pytest.raises(ValidationError, match="not a currency"):
        exponent("ABC")


def test_amounts_become_minor_units_once():
    assert to_minor(Decimal("26.665"), "USD") == 2667
    assert to_minor(Decimal("1200.4"), "JPY") == 1200
    assert to_minor(Decimal("1.2345"), "KWD") == 1235


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(2667, "USD", "$26.67"), (-1000, "USD", "−$10.00"), (1200, "JPY", "¥1,200"), (1234567, "EUR", "€12,345.67")],
)
def test_money_is_shown_with_its_currency_and_a_real_minus(minor, currency, text):
    assert format_minor(minor, currency) == text


def test_rates_keep_all_their_digits():
    assert format_rate(Decimal("0.000002"), "USD") == "$0.000002"
    assert format_rate(Decimal("0.000002"), "USD", 1000) == "$0.002 per 1,000"
    assert format_rate(Decimal("50"), "USD") == "$50.00"


def test_quantities_are_grouped():
    assert [grouped(Decimal(text)) for text in ("10000", "12.50", "-3")] == ["10,000", "12.5", "−3"]
