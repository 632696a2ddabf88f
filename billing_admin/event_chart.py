"""Noun: events by day as bars, split by the values of a property. Pure; drawn as SVG by the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from billing_admin.event_search import Point, Search
from catalog.money import grouped

DAY = timedelta(days=1)
WIDTH, HEIGHT, GAP = 12, 120, 3


@dataclass(frozen=True, slots=True)
class Part:
    place: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A day: its parts from the bottom up, and what it says."""

    day: date
    x: int
    parts: tuple[Part, ...]
    words: str
    total: Decimal


@dataclass(frozen=True, slots=True)
class Series:
    place: int
    name: str
    total: Decimal


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars by day, drawn by the server; `series` are the values of a property, the most frequent first."""

    bars: tuple[Bar, ...]
    series: tuple[Series, ...]
    top: Decimal
    total: Decimal

    @property
    def width(self) -> int:
        return len(self.bars) * (WIDTH + GAP) - GAP

    height, bar_width = HEIGHT, WIDTH


def draw(points: Sequence[Point], search: Search, *, by_units: bool, split: bool) -> Chart:
    """Pure. What was given back counts against its day; a day below zero has no bar."""
    value_of = (lambda p: p.units) if by_units else (lambda p: Decimal(p.events))
    totals: dict[str | None, Decimal] = {}
    days: dict[date, dict[str | None, Decimal]] = {}
    for point in points:
        amount = value_of(point)
        totals[point.value] = totals.get(point.value, Decimal(0)) + amount
        parts = days.setdefault(point.at.date(), {})
        parts[point.value] = parts.get(point.value, Decimal(0)) + amount
    order = sorted(totals, key=lambda value: (value is None, -totals[value], value or ""))
    top = max((sum(max(Decimal(0), n) for n in parts.values()) for parts in days.values()), default=Decimal(0))
    first = search.since.date()
    bars = tuple(
        _bar(first + place * DAY, place, days.get(first + place * DAY, {}), order, top, split)
        for place in range((search.until - search.since).days)
    )
    named = tuple(Series(place, _named(value), totals[value]) for place, value in enumerate(order)) if split else ()
    return Chart(bars, named, Decimal(top), sum(totals.values(), Decimal(0)))


def _named(value: str | None) -> str:
    return "others" if value is None else value or "without it"


def _bar(
    day: date, place: int, parts: dict[str | None, Decimal], order: list[str | None], top: Decimal | int, split: bool
) -> Bar:
    drawn, y = [], float(HEIGHT)
    for number, value in enumerate(order):
        share = max(Decimal(0), parts.get(value, Decimal(0)))
        if share and top:
            height = max(1.0, float(share / top) * (HEIGHT - 4))
            y -= height
            drawn.append(Part(number, round(y, 2), round(height, 2)))
    total = sum(parts.values(), Decimal(0))
    split_words = ", ".join(f"{_named(value)} {grouped(parts[value])}" for value in order if value in parts)
    return Bar(day, place * (WIDTH + GAP), tuple(drawn), split_words if split else "", total)
