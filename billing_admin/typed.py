"""Numbers and days as people type them, and numbers as fields show them again."""

import re
from datetime import date
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.money import exponent, grouped, plain

NUMBER = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?", re.ASCII)


class Wrong(ValueError):
    """What was typed into a field cannot be read."""

    def __init__(self, field: str, message: str):
        self.field, self.message = field, message
        super().__init__(message)


def to_number(text: str) -> Decimal | None:
    """`10,000` or `−5.5` or `$50`; a comma only separates thousands. Nothing typed is None."""
    bare = text.replace("−", "-").replace(" ", "").lstrip("$€£¥")
    if not bare:
        return None
    if not NUMBER.fullmatch(bare) or not any(c.isdigit() for c in bare):
        raise ValueError(text)
    return Decimal(bare.replace(",", ""))


def in_calendar(day: date) -> None:
    """For fields of filters: the edges of the calendar have no day beside them. Raises `ValidationError`."""
    if not 1970 <= day.year < 2200:
        raise ValidationError("Give a day between 1970 and 2199.", code="invalid")


def row_number(text: str) -> int | None:
    """The number of a row in an address; None for what cannot be one."""
    return int(text) if text.isdecimal() and len(text) < 18 else None


def number(text: str, name: str, *, decimals: int, digits: int = 12) -> Decimal | None:
    """The number in a field of this name. Raises `Wrong`."""
    try:
        value = to_number(text)
    except ValueError:
        raise Wrong(name, f"“{text}” is not a number. Write it like 1,000 or 0.25.") from None
    if value is None:
        return None
    if abs(value) >= 10**digits:
        raise Wrong(name, "This number is too large.")
    if -int(value.normalize().as_tuple().exponent) > decimals:
        raise Wrong(name, f"At most {decimals} decimals.")
    return value


def alike(text: str) -> str:
    """Two spellings of one number are the same."""
    try:
        value = to_number(text)
    except ValueError:
        return text
    return text if value is None else plain(value)


def major(amount: Decimal, currency: str) -> str:
    """`50.00`, `0.002`: at least the currency's own decimals."""
    whole, _, rest = grouped(amount).partition(".")
    rest = rest.ljust(exponent(currency), "0")
    return f"{whole}.{rest}" if rest else whole
