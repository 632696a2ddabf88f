"""How far terms are below a price list, in percent. Pure."""

from decimal import Decimal
from fractions import Fraction

from catalog.charges import Price, rate
from catalog.terms import ItemTerms, PlanTerms

WHOLE, NOTHING = Decimal(100), Decimal(0)
# Rates are compared on so many units: few, and so many that the cheap tiers count.
PROBES = (Decimal(1), Decimal(1_000), Decimal(1_000_000))


def percent_off(listed: PlanTerms, terms: PlanTerms) -> Decimal:
    """The largest of: what is asked for whatever is used, what is asked for once, the least of a period, any one rate.
    0 where nothing is cheaper; what costs something and is unlimited instead is 100."""
    found = [
        share_off(listed.monthly(listed=True), terms.monthly(listed=True)),
        share_off(_once(listed), _once(terms)),
        share_off(Fraction(listed.commitment or 0), Fraction(terms.commitment or 0)),
    ]
    found += [_rate_off(item, terms.item(item.key)) for item in listed.items if item.price is not None]
    return max(found)


def share_off(before: Fraction, after: Fraction) -> Decimal:
    """By how many percent one amount is below another, to a hundredth; 0 where it is not."""
    if before <= 0 or after >= before:
        return NOTHING
    off = (before - after) / before * 100
    return min(WHOLE, round(Decimal(off.numerator) / Decimal(off.denominator), 2))


def off_both(first: Decimal, second: Decimal) -> Decimal:
    """Two discounts one after the other: 20 and 10 are 28."""
    return WHOLE - (WHOLE - min(first, WHOLE)) * (WHOLE - min(second, WHOLE)) / WHOLE


def _once(terms: PlanTerms) -> Fraction:
    return sum((item.fee for item in terms.once_items if item.is_fee), Fraction(0))


def _rate_off(before: ItemTerms, after: ItemTerms | None) -> Decimal:
    """An item that is left out, or no longer sold beyond what it includes, gives nothing away."""
    if before.price is None or after is None:
        return NOTHING
    if after.unlimited:
        return WHOLE
    return NOTHING if after.price is None else max(_at(before.price, after.price, units) for units in PROBES)


def _at(before: Price, after: Price, units: Decimal) -> Decimal:
    return share_off(rate(before, units).amount, rate(after, units).amount)
