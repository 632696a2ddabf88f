"""Numbers and instants, on their way out and in: exact units, aware instants."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

Units: TypeAlias = Decimal | int | float
Json: TypeAlias = Mapping[str, Any]


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given; what is None is left out, because left out is not empty."""
    return {name: value for name, value in fields.items() if value is not None}


def encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, default=_plain, allow_nan=False, separators=(",", ":")).encode()


def decode(content: bytes) -> Any:
    """Every number is exact. Raises ValueError for what is not JSON."""
    return json.loads(content, parse_float=Decimal)


def _plain(value: object) -> Any:
    if isinstance(value, Decimal):
        return units_out(value)
    if isinstance(value, datetime):
        return instant_out(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON.")


def units_out(value: Units) -> int | float | str:
    """A whole number as a number, anything else of a Decimal as its digits, so that none is lost."""
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        raise ValueError(f"{value} is not a number of units.")
    return int(value) if value == value.to_integral_value() else f"{value:f}"


def exact(value: Units) -> Decimal:
    """The digits as they are written: 0.1 is a tenth."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def instant_out(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value} does not say its time zone.")
    return value.isoformat()


def maybe_instant_out(value: datetime | None) -> str | None:
    return None if value is None else instant_out(value)


def maybe_text(value: int | None) -> str | None:
    return None if value is None else str(value)


def units_in(value: Any) -> Decimal:
    return Decimal(value)


def maybe_units(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def value_in(value: Any) -> Any:
    """What a feature says: true or false, a text, or an exact number."""
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def instant_in(value: str) -> datetime:
    return datetime.fromisoformat(value)


def maybe_instant(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
