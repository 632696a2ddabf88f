"""What a contract brings again and again, in minor units of its plan's currency. Pure.

It is the list of what was sold: fees, bought units and levels for the quantity, before coupons, special prices and use,
and at least what the contract commits to. Written with each phase (`Phase.monthly`, without any level) and with each
change of a level (`LevelRevenue.monthly`, what that adds), so that sums over time read columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import zip_longest

from catalog.money import to_minor
from catalog.periods import ONCE, Cadence
from catalog.terms import PlanTerms

MIRRORED = "stripe"


@dataclass(frozen=True, slots=True)
class Recurring:
    """`monthly` is normalised to a month; `fees` is what one renewal asks for; `fees_between` is what is asked for at
    the billing dates inside a period, where something is billed more often than the plan."""

    monthly: int = 0
    fees: int = 0
    fees_between: int = 0


def recurring(sold: PlanTerms) -> Recurring:
    """Of terms as one customer has them. What is assigned, or paid once, brings nothing; of a mirrored plan nothing is
    asked for here."""
    if sold.kind == MIRRORED:
        return Recurring(monthly=to_minor(sold.monthly(), sold.currency))
    if not sold.is_invoiced or sold.is_one_off:
        return Recurring()
    items = [item for item in (*sold.advance_items, *sold.arrears_fees) if sold.interval_of(item) != ONCE]
    shortest = [item for item in items if sold.interval_of(item) == sold.tick != sold.cadence]
    committed = Fraction(sold.commitment or 0) * Cadence.parse(sold.cadence).monthly_factor()
    return Recurring(
        monthly=to_minor(max(sold.monthly(), committed), sold.currency),
        fees=to_minor(sum((item.advance for item in items), Fraction(0)), sold.currency),
        fees_between=to_minor(sum((item.advance for item in shortest), Fraction(0)), sold.currency),
    )


# Levels ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """So many units of a level, from–until (None: still)."""

    slug: str
    units: Decimal
    starts_at: datetime
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What levels add from–until (None: still), a month."""

    starts_at: datetime
    ends_at: datetime | None
    monthly: int


def prices_levels(terms: PlanTerms) -> bool:
    return terms.is_invoiced and any(item.is_seats for item in terms.items)


def levels_add(terms: PlanTerms, quantity: int, bought: Mapping[str, Decimal], levels: Mapping[str, Decimal]) -> int:
    """What levels (units in use, by the slug of their feature) add to what the same terms bring without any, a month.

    Nothing below a commitment that is more in any case.
    """
    by_key = {
        item.key: levels[item.feature.slug]
        for item in terms.items
        if item.is_seats and item.feature and item.feature.slug in levels
    }
    without = recurring(terms.sold(quantity, bought)).monthly
    return recurring(terms.sold(quantity, {**bought, **by_key})).monthly - without


def pieces(terms: PlanTerms, quantity: int, bought: Mapping[str, Decimal], history: Iterable[Held]) -> list[Piece]:
    """A history of levels as what they add, in order; times without anything are left out, alike neighbours joined."""
    held = list(history)
    cuts = sorted({h.starts_at for h in held} | {h.ends_at for h in held if h.ends_at is not None})
    found: list[Piece] = []
    for at, until in zip_longest(cuts, cuts[1:]):
        levels = {h.slug: h.units for h in held if h.starts_at <= at and (h.ends_at is None or at < h.ends_at)}
        monthly = levels_add(terms, quantity, bought, levels)
        if found and (found[-1].ends_at, found[-1].monthly) == (at, monthly):
            found[-1] = replace(found[-1], ends_at=until)
        elif monthly:
            found.append(Piece(at, until, monthly))
    return found
