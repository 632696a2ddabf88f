"""Meters: what an event is worth by its rule, and what a window keeps of it. Pure.

A meter turns events into units of a feature. What an event asks for is the difference that it makes to the meter's
sum over the window (the window of the feature's main contribution):

- `sum`: the value; `count`: 1 for each event, −1 for one with a value below zero.
- `max`: what the value lies above the largest one so far (nothing, below it).
- `unique_count`: 1 for a value that the window has not met, else nothing.
- `latest`: the value less the latest one so far; nothing for an event from before that one.
- `time_average`: nothing at once. A level of `L` from `a` to `b` comes to `L × (b − a) / (length of the regular
  window)`, so 10 GB held for half a month are 5 GB-months; the level goes over into the next window.

Sums over a window of pieces of `time_average` are kept exactly and rounded once, half away from zero, to 6 decimals.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from enum import StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError

ZERO = Decimal(0)
SMALLEST = Decimal("0.000001")
LARGEST = Decimal(10) ** 18
# Decimals of what is kept of a running window, before it is rounded.
KEPT = Decimal(1).scaleb(-24)
MICROSECOND = timedelta(microseconds=1)


class Aggregation(StrEnum):
    SUM = "sum"
    COUNT = "count"
    MAX = "max"
    UNIQUE_COUNT = "unique_count"
    LATEST = "latest"
    TIME_AVERAGE = "time_average"


# Those that read a number, and those of which the number is a level that cannot be below nothing.
NUMERIC = (Aggregation.SUM, Aggregation.MAX, Aggregation.LATEST, Aggregation.TIME_AVERAGE)
LEVELS = (Aggregation.MAX, Aggregation.LATEST, Aggregation.TIME_AVERAGE)


class BadEvent(ValidationError):
    """An event that cannot be counted: `field` is what is wrong, as the caller wrote it."""

    def __init__(self, field: str, why: str, code: str = "bad_event"):
        self.field = field
        super().__init__(why, code=code)


@dataclass(frozen=True, slots=True)
class MeterTerms:
    """`filters`: by property, the texts of the values that count; all of them have to match."""

    event_name: str
    aggregation: Aggregation
    property: str = ""
    filters: tuple[tuple[str, frozenset[str]], ...] = ()

    def matches(self, properties: Mapping[str, Any]) -> bool:
        return all(name in properties and text_of(properties[name]) in values for name, values in self.filters)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter read off one event: a number, or the `member` that it counts once."""

    meter: MeterTerms
    value: Decimal | None = None
    member: UUID | None = None

    @property
    def aggregation(self) -> Aggregation:
        return self.meter.aggregation

    @property
    def keeps_state(self) -> bool:
        """Whether what an event asks for depends on those before it."""
        return self.aggregation not in (Aggregation.SUM, Aggregation.COUNT)


def read(meter: MeterTerms, properties: Mapping[str, Any], value: Decimal | None) -> Reading:
    """What the meter reads off an event. Raises `BadEvent` naming the property, or `value`."""
    field = f"properties.{meter.property}" if meter.property else "value"
    found = properties.get(meter.property) if meter.property else value
    if meter.aggregation is Aggregation.COUNT:
        return Reading(meter, Decimal(-1) if value is not None and value < 0 else Decimal(1))
    if found is None or found == "":
        raise BadEvent(field, f"{field} is required: the meter of {meter.event_name} reads it.", "missing_field")
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        return Reading(meter, member=digest_of(text_of(found)))
    number = number_of(found)
    if number is None:
        raise BadEvent(field, f"{field} has to be a number: the meter of {meter.event_name} reads it.")
    if number < 0 and meter.aggregation in LEVELS:
        raise BadEvent(field, f"{field} is a level, so it cannot be below zero.")
    return Reading(meter, number)


def number_of(value: Any) -> Decimal | None:
    """A number, or the text of one, with up to 6 decimals (more are rounded); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number) >= LARGEST:
        return None
    return number.quantize(SMALLEST, rounding=ROUND_HALF_UP)


def text_of(value: Any) -> str:
    """A value of JSON as the text that filters compare and members are known by: `true`, `12.5`, `eu-west`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        number = Decimal(str(value))
        return f"{number.normalize():f}" if number.is_finite() else str(number)
    if isinstance(value, list):
        return f"[{','.join(text_of(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{text_of(value[name])}' for name in sorted(value))}}}"
    return "" if value is None else str(value)


def digest_of(text: str) -> UUID:
    """What stands for a member: the first 16 bytes of the SHA-256 of its text."""
    return UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


# What a window keeps --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the main bucket of a window keeps of its meter: the largest value, the latest one (`at`), or a level.

    A level that is averaged over time accrues: `units` are those of the window up to `at`, exactly, and `counted` what
    buckets gave for them so far. Both are None for the others.
    """

    level: Decimal
    at: datetime
    units: Decimal | None = None
    counted: Decimal = ZERO

    @property
    def accrues(self) -> bool:
        return self.units is not None

    def after(self, share: Fraction, until: datetime) -> "Gauge":
        """The same level held for a share of the regular window more; what it comes to is not counted yet."""
        assert self.units is not None
        return replace(self, at=until, units=_kept(Fraction(self.units) + Fraction(self.level) * share))

    @property
    def due(self) -> Decimal:
        """Units that are to be counted beside those that were."""
        assert self.units is not None
        return rounded(self.units) - self.counted

    def carried(self, at: datetime) -> "Gauge":
        """The level at the start of another window."""
        return Gauge(self.level, max(self.at, at), ZERO)


def rounded(units: Decimal) -> Decimal:
    with localcontext(prec=60):
        return units.quantize(SMALLEST, rounding=ROUND_HALF_UP)


def _kept(units: Fraction) -> Decimal:
    with localcontext(prec=60):
        return (Decimal(units.numerator) / Decimal(units.denominator)).quantize(KEPT)


def asked(reading: Reading, gauge: Gauge | None, at: datetime, *, is_new: bool = True) -> Decimal:
    """Units that an event asks for; `is_new` says that the window has not met its member."""
    value = reading.value or ZERO
    match reading.aggregation:
        case Aggregation.SUM | Aggregation.COUNT:
            return value
        case Aggregation.MAX:
            return max(ZERO, value - (gauge.level if gauge else ZERO))
        case Aggregation.UNIQUE_COUNT:
            return Decimal(1) if is_new else ZERO
        case Aggregation.LATEST:
            return ZERO if gauge and at < gauge.at else value - (gauge.level if gauge else ZERO)
    return ZERO


def turned(reading: Reading, gauge: Gauge | None, at: datetime, short: Decimal = ZERO) -> Gauge | None:
    """What the window keeps after an event of which `short` units did not fit: they are asked for again."""
    value = (reading.value or ZERO) - short
    match reading.aggregation:
        case Aggregation.MAX:
            return gauge if gauge and gauge.level >= value else Gauge(value, at)
        case Aggregation.LATEST:
            return gauge if gauge and at < gauge.at else Gauge(value, at)
        case Aggregation.TIME_AVERAGE:
            return replace(gauge, level=value, at=at) if gauge and gauge.accrues else Gauge(value, at, ZERO)
    return gauge


# Counting anew --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a window, as it is kept: `short` units of it were not counted."""

    at: datetime
    value: Decimal | None = None
    member: UUID | None = None
    short: Decimal = ZERO


def recounted(aggregation: Aggregation, events: Iterable[Happened]) -> tuple[Decimal, Gauge | None]:
    """The sum of a window by all its events in the order of their instants, and what the window keeps then.

    Levels over time are counted by `held` instead.
    """
    found = sorted(events, key=lambda event: event.at)
    if aggregation is Aggregation.UNIQUE_COUNT:
        return Decimal(len({event.member for event in found})), None
    values = [((event.value or ZERO) - event.short, event.at) for event in found]
    if aggregation in (Aggregation.SUM, Aggregation.COUNT):
        return sum((value for value, _ in values), ZERO), None
    if not values:
        return ZERO, None
    level, at = max(values, key=lambda value: value[0]) if aggregation is Aggregation.MAX else values[-1]
    return max(ZERO, level), Gauge(level, at)


def held(events: Iterable[Happened], since: datetime, until: datetime) -> Iterable[tuple[Decimal, datetime, datetime]]:
    """The levels of a window with the time that each was held: (level, from, until); nothing before the first event."""
    level, start = ZERO, since
    for event in sorted(events, key=lambda event: event.at):
        if start < event.at <= until:
            yield level, start, event.at
            start = event.at
        level = event.value or ZERO
    if start < until:
        yield level, start, until
