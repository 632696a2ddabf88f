"""Recurring revenue as bars: what came above the line, what went below it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing_admin.flows.revenue import Kind, Month
from catalog.money import format_minor

UP = (Kind.NEW, Kind.REACTIVATION, Kind.EXPANSION)
DOWN = (Kind.CONTRACTION, Kind.CHURN)
WORDS = {
    Kind.NEW: "New",
    Kind.REACTIVATION: "Reactivation",
    Kind.EXPANSION: "Expansion",
    Kind.CONTRACTION: "Contraction",
    Kind.CHURN: "Churn",
}


@dataclass(frozen=True, slots=True)
class Part:
    kind: str
    words: str
    share: int  # of the tallest side of all months, in percent


@dataclass(frozen=True, slots=True)
class Column:
    """One month. `words` say all of it, for who cannot see the bars."""

    first: datetime
    up: tuple[Part, ...]
    down: tuple[Part, ...]
    closing: str
    words: str


@dataclass(frozen=True, slots=True)
class RevenueChart:
    columns: tuple[Column, ...]
    top: str
    bottom: str
    closing: str
    change: str

    @property
    def legend(self) -> list[tuple[str, str]]:
        return [(kind, WORDS[kind]) for kind in (*UP, *DOWN)]

    @property
    def is_flat(self) -> bool:
        return not any(column.up or column.down for column in self.columns)


def draw(months: Sequence[Month], currency: str) -> RevenueChart:
    tallest = max((max(_side(month, UP), -_side(month, DOWN)) for month in months), default=0)
    last = months[-1]
    return RevenueChart(
        columns=tuple(_column(month, currency, tallest) for month in months),
        top=format_minor(max(_side(month, UP) for month in months), currency),
        bottom=format_minor(min(_side(month, DOWN) for month in months), currency),
        closing=format_minor(last.closing, currency),
        change=signed(last.closing - last.opening, currency),
    )


def _side(month: Month, kinds: Sequence[Kind]) -> int:
    return sum(month.amount(kind) for kind in kinds)


def _column(month: Month, currency: str, tallest: int) -> Column:
    told = [f"{WORDS[kind]} {signed(month.amount(kind), currency)}" for kind in Kind if month.amount(kind)]
    closing = format_minor(month.closing, currency)
    return Column(
        first=month.first,
        up=tuple(_parts(month, reversed_of(UP), currency, tallest)),
        down=tuple(_parts(month, DOWN, currency, tallest)),
        closing=closing,
        words=", ".join([f"{month.first:%b %Y}: {closing} a month at its end", *told]),
    )


def reversed_of(kinds: Sequence[Kind]) -> Sequence[Kind]:
    """From the top down, so that what is new stands on the line."""
    return tuple(reversed(kinds))


def _parts(month: Month, kinds: Sequence[Kind], currency: str, tallest: int) -> list[Part]:
    return [
        Part(kind, signed(amount, currency), max(1, round(abs(amount) * 100 / tallest)))
        for kind in kinds
        if (amount := month.amount(kind))
    ]


def signed(minor: int, currency: str) -> str:
    """`+$30.00`, `−$10.00`, `$0.00`."""
    return f"+{format_minor(minor, currency)}" if minor > 0 else format_minor(minor, currency)
