"""Line bounds: the least and the most that an item costs in a period, after coupons. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from catalog.money import format_minor, round_half_away
from invoicing.lines import CORRECTION, MAXIMUM, MINIMUM, UNUSED, Line


@dataclass(frozen=True, slots=True)
class Bound:
    """The bounds of one item's lines, in minor units.

    `share` is the exact part of its period that the document covers: it prorates the minimum, never the maximum.
    `charged` is what earlier documents charged for the item and the same period, after coupons. Without a label or
    times of its own the line takes those of the item's lines.
    """

    key: str
    minimum: int | None = None
    maximum: int | None = None
    share: Fraction = Fraction(1)
    charged: int = 0
    label: str = ""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    item_id: int | None = None

    def __post_init__(self) -> None:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("A minimum is not above its maximum.")


def bound_lines(lines: Sequence[Line], discounted: Sequence[int], bounds: Iterable[Bound], currency: str) -> list[Line]:
    """A `minimum` line that tops an item up, or a negative `maximum` line that takes its excess off.

    `discounted` is what coupons took off each line. The credits of former charges are not the item's costs of this
    period and do not count.
    """
    found = []
    for bound in bounds:
        own = [
            (line, line.amount - off)
            for line, off in zip(lines, discounted, strict=True)
            if line.key == bound.key and line.kind not in (UNUSED, CORRECTION)
        ]
        if line := _bound(bound, [line for line, _ in own], sum(net for _, net in own), currency):
            found.append(line)
    return found


def _bound(bound: Bound, own: Sequence[Line], here: int, currency: str) -> Line | None:
    charged = here + bound.charged
    if bound.minimum is not None:
        minimum = round_half_away(bound.minimum * bound.share)
        if charged < minimum:
            words = f"minimum {prorated(bound.minimum, bound.share, currency)}"
            words += f" − {format_minor(charged, currency)} charged"
            return _line(bound, MINIMUM, own, minimum - charged, words, currency)
    if bound.maximum is not None and here > 0:
        excess = min(charged - bound.maximum, here)
        if excess > 0:
            words = f"maximum {format_minor(bound.maximum, currency)} − {format_minor(charged, currency)} charged"
            if charged - bound.maximum > excess:
                words += ", at most what stands here"
            return _line(bound, MAXIMUM, own, -excess, words, currency)
    return None


def prorated(amount: int, share: Fraction, currency: str) -> str:
    """`$500.00`, or for a part of the period `$500.00 × 1/2 = $250.00`."""
    whole = format_minor(amount, currency)
    if share == 1:
        return whole
    return f"{whole} × {share} = {format_minor(round_half_away(amount * share), currency)}"


def _line(bound: Bound, kind: str, own: Sequence[Line], amount: int, words: str, currency: str) -> Line:
    what = bound.label or (own[0].description if own else bound.key)
    starts = [line.starts_at for line in own if line.starts_at]
    ends = [line.ends_at for line in own if line.ends_at]
    return Line(
        kind,
        bound.key,
        f"{what} ({kind})",
        amount,
        currency,
        starts_at=bound.starts_at or min(starts, default=None),
        ends_at=bound.ends_at or max(ends, default=None),
        derivation={"sum": f"{what}, {words} = {format_minor(amount, currency)}"},
        item_id=bound.item_id or (own[0].item_id if own else None),
    )
