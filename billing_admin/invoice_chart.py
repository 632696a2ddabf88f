"""Noun: invoices to come, by month, as bars. Pure; drawn as SVG by the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from catalog.money import format_minor

WIDTH, HEIGHT, GAP = 16, 120, 4
AIR = 4  # above the highest bar


@dataclass(frozen=True, slots=True)
class Billed:
    """One invoice: when, and how much of its total is use as it is assumed. Minor units."""

    at: datetime
    total: int
    use: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """One month: what is fixed below, what is use above it."""

    month: date
    x: int
    fixed_y: float
    fixed_height: float
    use_y: float
    use_height: float
    words: str
    begins_year: bool


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    top: str
    has_use: bool

    @property
    def width(self) -> int:
        return max(1, len(self.bars) * (WIDTH + GAP) - GAP)

    height, bar_width = HEIGHT, WIDTH

    @property
    def words(self) -> str:
        """What the picture says to whoever does not see it."""
        return f"Expected invoices by month, at most {self.top} in one; the table below has each of them"


def draw(invoices: Iterable[Billed], currency: str) -> Chart | None:
    """From the first month with an invoice to the last; None without any. A month of credits has no bar."""
    months: dict[date, list[int]] = {}
    for invoice in invoices:
        at = invoice.at.astimezone(UTC)
        sums = months.setdefault(date(at.year, at.month, 1), [0, 0])
        sums[0] += invoice.total
        sums[1] += invoice.use
    if not months:
        return None
    top = max(1, *(total for total, _use in months.values()), 1)
    found, month, place = [], min(months), 0
    while month <= max(months):
        total, use = months.get(month, [0, 0])
        found.append(_bar(month, place, total, min(max(0, use), max(0, total)), top, currency))
        month, place = _next(month), place + 1
    has_use = any(use > 0 for _total, use in months.values())
    return Chart(tuple(found), format_minor(top, currency), has_use)


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _bar(month: date, place: int, total: int, use: int, top: int, currency: str) -> Bar:
    scale = (HEIGHT - AIR) / top
    fixed_height, use_height = (max(0, total) - use) * scale, use * scale
    fixed_y = HEIGHT - fixed_height
    words = f"{month:%b %Y}: {format_minor(total, currency)}"
    if use:
        words += f", of it {format_minor(use, currency)} use as assumed"
    return Bar(
        month=month,
        x=place * (WIDTH + GAP),
        fixed_y=round(fixed_y, 2),
        fixed_height=round(fixed_height, 2),
        use_y=round(fixed_y - use_height, 2),
        use_height=round(use_height, 2),
        words=words,
        begins_year=month.month == 1 or place == 0,
    )
