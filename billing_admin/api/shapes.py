"""What goes in and out: camelCase words, exact numbers, instants in UTC, money with its currency."""

from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from catalog.money import format_minor, plain


class Body(BaseModel):
    """What callers send. Names may be written in camelCase or snake_case; a name that we do not know is refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Answer(BaseModel):
    """What callers get."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _utc(value: datetime) -> datetime:
    """Instants at the edges of the calendar cannot be counted with: no plan starts or ends there."""
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("an instant between 1970 and 2199 is expected") from None
    if not 1970 <= value.year < 2200:
        raise ValueError("an instant between 1970 and 2199 is expected")
    return value


def as_number(value: Decimal) -> int | float | str:
    """A JSON number where a double holds it to the last decimal, else the same digits as text."""
    number: int | float = int(value) if value == value.to_integral_value() else float(value)
    return number if Decimal(repr(float(value))) == value else plain(value)


def as_rate(value: Decimal) -> str:
    return plain(value)


Instant = Annotated[AwareDatetime, AfterValidator(_utc)]


# Units of a feature: six decimals, at most 10^18.
def _as_kept(value: Any) -> Any:
    """A value of JSON as a JSON column keeps it: numbers with a fraction in the common double precision."""
    if isinstance(value, Decimal):
        number = float(value)
        if not isfinite(number):
            raise ValueError(f"{value} is too large a number to keep")
        return number
    if isinstance(value, dict):
        return {key: _as_kept(inner) for key, inner in value.items()}
    return [_as_kept(inner) for inner in value] if isinstance(value, list) else value


# What callers write beside an event or a grant: any JSON, kept and given back.
Properties = Annotated[dict[str, Any], AfterValidator(_as_kept)]
Units = Annotated[Decimal, BeforeValidator(_no_boolean), Field(max_digits=24, decimal_places=6)]
# A price in major units of a currency ("0.002"): exact, up to twelve decimals.
Rate = Annotated[Decimal, BeforeValidator(_no_boolean), Field(max_digits=24, decimal_places=12)]
# An amount of money in major units as it comes: a float that leaked from a client has more digits than any currency.
Major = Annotated[Decimal, BeforeValidator(_no_boolean), Field(max_digits=60, ge=0)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=1_000_000)]
MinorUnits = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-(10**15), le=10**15)]
Id = Annotated[str, Field(min_length=1, max_length=120)]
Slug = Annotated[str, Field(min_length=1, max_length=60)]
Reason = Annotated[str, Field(max_length=2_000)]

Quantity = Annotated[
    Decimal, PlainSerializer(as_number), Field(json_schema_extra={"type": ["number", "string"]}, examples=[37])
]
ExactRate = Annotated[
    Decimal, PlainSerializer(as_rate), Field(json_schema_extra={"type": "string"}, examples=["0.002"])
]


class Money(Answer):
    """Whole minor units of a currency, and the same for people."""

    amount: int = Field(examples=[2667])
    currency: str = Field(examples=["USD"])
    formatted: str = Field(examples=["$26.67"])

    @classmethod
    def of(cls, minor: int, currency: str) -> Self:
        return cls(amount=minor, currency=currency, formatted=format_minor(minor, currency))


class Error(Answer):
    """Every refusal looks like this. `code` is for programs, `message` for people, `field` names what was wrong."""

    code: str = Field(examples=["limit_reached"])
    message: str = Field(examples=["credits has 0 left, so nothing was counted."])
    field: str | None = Field(default=None, examples=["customerId"])
    errors: list["Problem"] | None = Field(default=None, description="Every problem, where there may be several.")
    access: dict[str, Any] | None = Field(
        default=None, description="With `limit_reached`: what is left, and until when."
    )
    preview: dict[str, Any] | None = Field(default=None, description="With `preview_outdated`: what would happen now.")


class Problem(Answer):
    code: str
    message: str
    field: str | None = None


class Page(Answer):
    next_cursor: str | None = Field(None, description="Pass it as `cursor` to get what follows; null at the end.")
