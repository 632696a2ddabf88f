"""Money: whole minor units of one currency, and the one place where amounts are rounded.

Rates stay exact (`Decimal`, `Fraction`) until a line is made; then they are rounded once, half away from zero.
"""

from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache

from babel.core import UnknownLocaleError
from babel.numbers import format_currency, get_currency_precision, is_currency
from django.core.exceptions import ValidationError

# Babel follows CLDR; these are the exponents that payment providers and invoices use instead.
EXPONENTS = {"ISK": 0, "UGX": 0, "HUF": 2, "TWD": 2}


@cache
def exponent(currency: str) -> int:
    """Digits of the minor unit: 2 for USD, 0 for JPY, 3 for KWD. Unknown codes raise `ValidationError`."""
    if currency in EXPONENTS:
        return EXPONENTS[currency]
    if not is_currency(currency):
        raise ValidationError(f"{currency!r} is not a currency code (ISO 4217).", code="unknown_currency")
    return get_currency_precision(currency)


def round_half_away(value: Fraction) -> int:
    """The nearest whole number; halves go away from zero, so that a credit mirrors its charge."""
    whole, rest = divmod(abs(value), 1)
    rounded = int(whole) + (1 if rest >= Fraction(1, 2) else 0)
    return rounded if value >= 0 else -rounded


def to_minor(amount: Decimal | Fraction | int | str, currency: str) -> int:
    """An exact amount in major units as minor units, rounded once."""
    return round_half_away(Fraction(amount) * 10 ** exponent(currency))


def to_major(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-exponent(currency))


def plain(value: Decimal | int) -> str:
    """A decimal without exponent and trailing zeros: `0.000002`, `100`, `12.5`."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def grouped(value: Decimal | int) -> str:
    """A quantity for people: `10,000`, `12.5`."""
    whole, _, rest = plain(value).partition(".")
    sign, digits = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}" + (f".{rest}" if rest else "")


@lru_cache(maxsize=4096)  # a billing run prints the same few prices over and over
def format_minor(minor: int, currency: str, locale: str = "en_US") -> str:
    """`$26.67`, `¥1,200`, and credits with a real minus: `−$10.00`."""
    try:
        text = format_currency(
            abs(to_major(minor, currency)),
            currency,
            locale=locale,
            currency_digits=False,
            format="¤#,##0" + ("." + "0" * exponent(currency) if exponent(currency) else ""),
        )
    except UnknownLocaleError:
        return format_minor(minor, currency)
    return f"−{text}" if minor < 0 else text


@lru_cache(maxsize=4096)
def format_rate(rate: Decimal, currency: str, per: int = 1) -> str:
    """A price per units, with all the digits it needs: `$0.002 per 1,000`, `$50.00`."""
    scaled = Decimal(rate) * per
    text = plain(scaled)
    digits = len(text.partition(".")[2])
    shown = format_currency(
        scaled,
        currency,
        locale="en_US",
        currency_digits=False,
        format="¤#,##0." + "0" * max(digits, exponent(currency)) if max(digits, exponent(currency)) else "¤#,##0",
        decimal_quantization=False,
    )
    return f"{shown} per {per:,}" if per != 1 else shown
