"""Use that a wallet pays event by event: what it costs, and what comes back when it is given back. Pure.

A window's priced units stand in a row: the first one used is at 0, and each event takes a span of them. Its cost is
what all units up to the span's end cost less what those before it do, so that tiers count on and the events of a window
cost together what its units cost. Of a percentage each span is one transaction. Amounts are major units with twelve
decimals.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from catalog.charges import PERCENTAGE, Price, rate
from catalog.money import format_rate, round_half_away

ZERO = Decimal(0)
PLACES = 12


@dataclass(frozen=True, slots=True)
class Span:
    """Units from `start` to `end` at a price; backwards (`end` below `start`) where they were given back."""

    price: Price
    start: Decimal
    end: Decimal

    @property
    def is_back(self) -> bool:
        return self.end < self.start

    @property
    def cost(self) -> Decimal:
        """What the units of a span that was used cost. Below zero where more units make all of them cheaper."""
        return self.cost_until(self.end)

    def cost_until(self, end: Decimal) -> Decimal:
        """What its units up to there cost."""
        if end <= self.start:
            return ZERO
        if self.price.model == PERCENTAGE:
            return _total(self.price, end - self.start)
        return _total(self.price, end) - _total(self.price, self.start)

    def words(self, currency: str) -> str:
        """`3 × $0.002 = $0.006`, with all the digits that it takes."""
        before = ZERO if self.price.model == PERCENTAGE else self.start
        told = rate(self.price, self.end - self.start, before=before).words(currency)
        return f"{told} = {format_rate(self.cost, currency)}"


def _total(price: Price, units: Decimal) -> Decimal:
    """What a window's units cost; before the first one nothing does, whatever the first tier asks for."""
    return exact(rate(price, units).amount) if units > 0 else ZERO


def exact(amount: Fraction) -> Decimal:
    """With twelve decimals; halves go away from zero."""
    return Decimal(round_half_away(amount * 10**PLACES)).scaleb(-PLACES)


def given_back(spans: Iterable[Span], start: Decimal, end: Decimal) -> Decimal:
    """What giving back the units from `start` down to `end` returns: what they were charged at, 0 for others.

    `spans` are those of the window, the newest first; each unit still in use belongs to the newest one that has it.
    """
    found, top = ZERO, start
    for span in spans:
        if top <= end:
            break
        if not span.is_back and span.start < top:
            upper, lower = min(top, span.end), max(end, span.start)
            if lower < upper:
                found += span.cost_until(upper) - span.cost_until(lower)
        # What was used above here belongs to later spans, or was given back since.
        top = min(top, span.end if span.is_back else span.start)
    return found
