"""Periods: half-open spans of time whose boundaries are counted from an anchor.

The n-th boundary is always anchor + n × cadence, with the day clamped to the month's end. Stepping from boundary to
boundary instead would turn 31 January, 28 February, 28 March … and lose the 31st for good.
"""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache, total_ordering

import isodate
from django.core.exceptions import ValidationError

ONCE = "P0D"
NEVER = "never"
PLAN_CADENCES = {"P1M": "monthly", "P3M": "quarterly", "P1Y": "yearly"}
FEE_CADENCES = {**PLAN_CADENCES, ONCE: "once"}
RESETS = {
    "PT1H": "hour",
    "P1D": "day",
    "P1W": "week",
    "P1M": "month",
    "P3M": "quarter",
    "P6M": "half-year",
    "P1Y": "year",
    NEVER: "never",
}
CALENDAR_WEEK_ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


class UnknownCadence(ValidationError):
    def __init__(self, text: str, allowed: Iterator[str] | list[str]):
        super().__init__(
            f"{text!r} is not a cadence that can be used here. Allowed: {', '.join(allowed)}.",
            code="unknown_cadence",
        )


class NaiveInstant(ValidationError):
    """Without a zone nobody can say which instant is meant, nor how long a day is."""

    def __init__(self, at: datetime):
        super().__init__(f"{at.isoformat()} has no time zone; instants are UTC.", code="naive_instant")


class DatesOutOfOrder(ValidationError):
    def __init__(self, starts_at: datetime, ends_at: datetime):
        super().__init__(
            f"A period cannot end ({ends_at.isoformat()}) before it starts ({starts_at.isoformat()}).",
            code="dates_out_of_order",
        )


@total_ordering
@dataclass(frozen=True, slots=True)
class Cadence:
    """So many months, or so much exact time; never both, since months have no fixed length."""

    months: int = 0
    span: timedelta = timedelta()

    @classmethod
    def parse(cls, text: str) -> "Cadence":
        return _parse(text)

    def __lt__(self, other: "Cadence") -> bool:
        return self.monthly_factor() > other.monthly_factor()

    def monthly_factor(self) -> Fraction:
        """What turns an amount per cadence into one per month: a year has 12 months and 52 weeks."""
        if self.months:
            return Fraction(1, self.months)
        seconds = Fraction(int(self.span.total_seconds()))
        return Fraction(52 * 7 * 86_400, 12) / seconds


@cache
def _parse(text: str) -> Cadence:
    try:
        found = isodate.parse_duration(text)
    except (isodate.ISO8601Error, TypeError):
        raise UnknownCadence(str(text), ["an ISO 8601 duration such as P1M"]) from None
    if isinstance(found, timedelta):
        if found <= timedelta():
            raise UnknownCadence(text, ["a duration longer than zero"])
        return Cadence(span=found)
    months = int(found.years * 12 + found.months)
    if months <= 0 or found.tdelta:
        raise UnknownCadence(text, ["whole months or years, not mixed with days"])
    return Cadence(months=months)


def boundary(anchor: datetime, cadence: Cadence, n: int) -> datetime:
    """The n-th boundary from the anchor (n may be negative)."""
    if not cadence.months:
        return anchor + n * cadence.span
    year, month0 = divmod(anchor.year * 12 + anchor.month - 1 + n * cadence.months, 12)
    day = min(anchor.day, calendar.monthrange(year, month0 + 1)[1])
    return anchor.replace(year=year, month=month0 + 1, day=day)


def count_until(anchor: datetime, cadence: Cadence, at: datetime) -> int:
    """The number n of the boundary with boundary(n) <= at < boundary(n + 1)."""
    if not cadence.months:
        return (at - anchor) // cadence.span
    n = ((at.year - anchor.year) * 12 + at.month - anchor.month) // cadence.months
    while boundary(anchor, cadence, n) > at:
        n -= 1
    while boundary(anchor, cadence, n + 1) <= at:
        n += 1
    return n


@dataclass(frozen=True, slots=True)
class Period:
    """`starts_at <= t < ends_at`; an `ends_at` of None never ends.

    Instants without a zone raise `NaiveInstant`, an end before the start `DatesOutOfOrder`.
    """

    starts_at: datetime
    ends_at: datetime | None

    def __post_init__(self) -> None:
        if self.starts_at.tzinfo is None:
            raise NaiveInstant(self.starts_at)
        if self.ends_at is not None and self.ends_at < self.starts_at:
            raise DatesOutOfOrder(self.starts_at, self.ends_at)

    def __contains__(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)

    @property
    def seconds(self) -> int:
        assert self.ends_at is not None, "a period without an end has no length"
        return _seconds(self.ends_at - self.starts_at)

    def left(self, at: datetime) -> Fraction:
        """The exact share of the period that lies at or after the instant, between 0 and 1."""
        assert self.ends_at is not None
        if at <= self.starts_at:
            return Fraction(1)
        return Fraction(max(0, _seconds(self.ends_at - at)), self.seconds)


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def period_containing(anchor: datetime, cadence: Cadence, at: datetime) -> Period:
    n = count_until(anchor, cadence, at)
    return Period(boundary(anchor, cadence, n), boundary(anchor, cadence, n + 1))


def is_boundary(anchor: datetime, cadence: Cadence, at: datetime) -> bool:
    return period_containing(anchor, cadence, at).starts_at == at


def calendar_anchor(cadence: Cadence, at: datetime) -> datetime:
    """Where calendar windows are counted from: midnight UTC, the first of January, weeks from Monday."""
    if cadence.months:
        return datetime(at.year - at.year % 4, 1, 1, tzinfo=UTC)
    return CALENDAR_WEEK_ORIGIN


def window(reset: str, anchor: datetime, at: datetime, *, on_calendar: bool = False) -> Period:
    """The window of a reset cadence that contains the instant; `never` gives one from the anchor without an end."""
    if reset == NEVER:
        return Period(min(anchor, at), None)
    cadence = Cadence.parse(reset)
    return period_containing(calendar_anchor(cadence, at) if on_calendar else anchor, cadence, at)


def plan_cadence(cadence: str | None = None, interval: str | None = None) -> str:
    """The cadence that was meant: ISO wins; the deprecated words monthly, quarterly, yearly (annual) are accepted."""
    if cadence:
        if cadence not in PLAN_CADENCES:
            raise UnknownCadence(cadence, list(PLAN_CADENCES))
        return cadence
    words = {word: code for code, word in PLAN_CADENCES.items()} | {"annual": "P1Y", "annually": "P1Y"}
    if interval and interval not in words:
        raise UnknownCadence(interval, list(words))
    return words[interval] if interval else "P1M"


def every(cadence: str) -> str:
    """For people: `month`, `quarter`, `year`, `once`."""
    return {"P1M": "month", "P3M": "quarter", "P1Y": "year", ONCE: "once"}.get(cadence, RESETS.get(cadence, cadence))
