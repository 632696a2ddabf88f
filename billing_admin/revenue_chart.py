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
    share: int  # of the tallest column on its side, in percent


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
    above: int  # how much of the height stands above the line, in percent
    closing: str
    change: str

    @property
    def below(self) -> int:
        return 100 - self.above

    @property
    def legend(self) -> list[tuple[str, str]]:
        return [(kind, WORDS[kind]) for kind in (*UP, *DOWN)]

    @property
    def is_flat(self) -> bool:
        return not any(column.up or column.down for column in self.columns)


def draw(months: Sequence[Month], currency: str) -> RevenueChart:
    top = max(_side(month, UP) for month in months)
    bottom = -min(_side(month, DOWN) for month in months)
    last = months[-1]
    return RevenueChart(
        columns=tuple(_column(month, currency, top, bottom) for month in months),
        above=round(top * 100 / (top + bottom)) if top + bottom else 100,
        closing=format_minor(last.closing, currency),
        change=signed(last.closing - last.opening, currency),
    )


def _side(month: Month, kinds: Sequence[Kind]) -> int:
    return sum(month.amount(kind) for kind in kinds)


def _column(month: Month, currency: str, top: int, bottom: int) -> Column:
    told = [f"{WORDS[kind]} {signed(month.amount(kind), currency)}" for kind in Kind if month.amount(kind)]
    closing = format_minor(month.closing, currency)
    return Column(
        first=month.first,
        # From the top down, so that what is new stands on the line.
        up=tuple(_parts(month, UP[::-1], currency, top)),
        down=tuple(_parts(month, DOWN, currency, bottom)),
        closing=closing,
        words=", ".join([f"{month.first:%b %Y}: {closing} a month at its end", *told]),
    )


def _parts(month: Month, kinds: Sequence[Kind], currency: str, tallest: int) -> list[Part]:
    return [
        Part(kind, signed(amount, currency), max(1, round(abs(amount) * 100 / tallest)))
        for kind in kinds
        if (amount := month.amount(kind))
    ]


def signed(minor: int, currency: str) -> str:
    """`+$30.00`, `−$10.00`, `$0.00`."""
    return f"+{format_minor(minor, currency)}" if minor > 0 else format_minor(minor, currency)
