"""What a contract brings again and again, in minor units of its plan's currency. Pure.

It is the list of what was sold: fees and bought units for the quantity, before coupons, special prices and use, and at
least what the contract commits to. Written with each phase (`Phase.monthly`), so that sums over time read one column.
"""

from dataclasses import dataclass
from fractions import Fraction

from catalog.money import to_minor
from catalog.periods import ONCE, Cadence
from catalog.terms import PlanTerms


@dataclass(frozen=True, slots=True)
class Recurring:
    """`monthly` is normalised to a month; `fees` is what one renewal asks for; `fees_between` is what is asked for at
    the billing dates inside a period, where something is billed more often than the plan."""

    monthly: int = 0
    fees: int = 0
    fees_between: int = 0


def recurring(sold: PlanTerms) -> Recurring:
    """Of terms as one customer has them. What is never invoiced here, or only once, brings nothing."""
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
