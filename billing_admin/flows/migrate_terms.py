"""What one card means beside another, in money and in words for people. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from catalog.money import grouped, to_minor
from catalog.periods import Cadence
from catalog.terms import BOOLEAN, HARD, METERED, ItemTerms, PlanTerms

# Why a contract is left alone, by code.
WHY = {
    "follows_stripe": "It follows a subscription in Stripe.",
    "custom_plan": "It is on a custom plan, which stays as it is.",
    "not_on_version": "It is not on {old} any more.",
    "parked": "It is parked: somebody has to look at it first.",
    "pending_payment": "A change of it waits for its first payment.",
    "scheduled_change": "A change is scheduled for {day}.",
    "end_planned": "It ends on {day}.",
    "on_trial": "It is on trial until {day}; move it afterwards.",
    "no_cycle": "It has no billing cycle to wait for.",
    "override_dropped": "A special price for {item} would have no item to follow to.",
    "prices_differ": "Its price would change, so it cannot be moved in the middle of a period.",
}


def price_of(terms: PlanTerms, cadence: str) -> int:
    """What terms as they were sold cost in a period of the cadence whatever is used, minor units."""
    whole = terms.monthly() / Cadence.parse(cadence).monthly_factor()
    if terms.commitment:
        own = Cadence.parse(terms.cadence).monthly_factor() / Cadence.parse(cadence).monthly_factor()
        whole = max(whole, Fraction(terms.commitment) * own)
    return to_minor(whole, terms.currency)


def lost_access(before: PlanTerms, after: PlanTerms, times: int = 1) -> Iterator[str]:
    """What goes away from one card to another, feature by feature, in words; allowances are for `times` contracts."""
    for item in before.items:
        if item.feature is None:
            continue
        new = after.for_feature(item.feature.slug)
        if new is None:
            yield f"{item.label}: goes away"
        elif words := _less(item, new, times):
            yield f"{item.label}: {words}"


def _less(item: ItemTerms, new: ItemTerms, times: int) -> str:
    """How an item gives less than before, in words; empty when it does not."""
    assert item.feature is not None
    if item.feature.type == BOOLEAN:
        return ""
    if item.feature.type != METERED:
        return "" if _is_as_good(item, new) else f"{item.describe_allowance()} → {new.describe_allowance()}"
    if new.granted is not None and (item.granted is None or new.granted < item.granted):
        was = "unlimited" if item.granted is None else grouped(item.granted * times)
        return f"{was} → {grouped(new.granted * times)}"
    return "use beyond the allowance is refused" if new.limit == HARD != item.limit and not new.unlimited else ""


def _is_as_good(item: ItemTerms, new: ItemTerms) -> bool:
    """Of static features: the same, unlimited, or a larger number."""
    if new.unlimited or (item.unlimited, item.value) == (new.unlimited, new.value):
        return True
    if item.unlimited:
        return False
    try:
        return Decimal(new.value) >= Decimal(item.value)
    except ArithmeticError:
        return False
