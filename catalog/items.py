"""Which items can stand on a plan: every wrong cell is named at once, with a sentence and a code."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from django.core.exceptions import ValidationError

from catalog.models import Feature, Plan
from catalog.money import exponent
from catalog.periods import NEVER, ONCE, PLAN_CADENCES, RESETS, Cadence, UnknownCadence
from catalog.terms import BOOLEAN, METERED, STATIC, ItemTerms


@dataclass(frozen=True, slots=True)
class ItemError:
    """One refusal at one cell: the item's place in the table, the field, a sentence and its code."""

    index: int
    key: str
    field: str
    message: str
    code: str


class InvalidItems(ValidationError):
    """Items that cannot be sold; `errors` names each cell."""

    def __init__(self, errors: Sequence[ItemError]):
        self.errors = tuple(errors)
        super().__init__([ValidationError(f"{e.key}: {e.message}", code=e.code) for e in errors], code="invalid_items")


class Wrong(Protocol):
    """Notes one refusal at a cell of the item being checked."""

    def __call__(self, field: str, message: str, code: str) -> None: ...


def check_items(plan: Plan, cadence: str, items: Sequence[ItemTerms]) -> None:
    """Refuse items that cannot stand on this plan, with every wrong cell named at once."""
    errors: list[ItemError] = []
    features = Feature.objects.in_bulk([i.feature.slug for i in items if i.feature], field_name="slug")
    keys: set[str] = set()
    slugs: set[str] = set()
    for index, item in enumerate(items):

        def wrong(field: str, message: str, code: str, index: int = index, item: ItemTerms = item) -> None:
            errors.append(ItemError(index, item.key or item.label, field, message, code))

        if not item.key or item.key in keys:
            wrong("key", "Every item needs a key of its own.", "duplicate_key")
        keys.add(item.key)
        if item.is_fee:
            _check_fee(plan, cadence, item, wrong)
            continue
        assert item.feature is not None
        feature = features.get(item.feature.slug)
        if feature is None:
            wrong("feature", f"There is no feature {item.feature.slug!r}.", "unknown_feature")
            continue
        if feature.slug in slugs:
            wrong("feature", f"{feature.name} is on the plan already; change that line instead.", "feature_twice")
        slugs.add(feature.slug)
        if feature.archived_at:
            wrong("feature", f"{feature.name} is archived. Restore it, or take it off the plan.", "archived_feature")
        if feature.product_id and feature.product_id != plan.product_id:
            wrong("feature", f"{feature.name} is reserved for another product.", "foreign_feature")
        _check_allowance(plan, cadence, item, wrong)
    if errors:
        raise InvalidItems(errors)


def _check_fee(plan: Plan, cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    if item.amount is None:
        wrong("amount", "A fee needs an amount; 0 is allowed.", "item_without_content")
        return
    if item.amount < 0:
        wrong("amount", "A fee cannot be negative. Give a credit or a coupon instead.", "negative_amount")
    if _decimals(item.amount) > 12:
        wrong("amount", "At most 12 decimals.", "too_many_decimals")
    if plan.kind == Plan.Kind.ASSIGNED and item.amount:
        wrong("amount", "An assigned plan is never invoiced, so it cannot have a fee.", "price_on_assigned_plan")
    if item.quantity < 1:
        wrong("quantity", "The quantity is a whole number of 1 or more.", "bad_quantity")
    if item.cadence != ONCE:
        _check_interval(cadence, item.cadence, [*PLAN_CADENCES, ONCE], wrong)


def _check_interval(plan_cadence: str, interval: str, allowed: list[str], wrong: Wrong) -> None:
    if interval not in PLAN_CADENCES:
        wrong("cadence", UnknownCadence(interval, allowed).messages[0], "unknown_cadence")
    elif Cadence.parse(interval).months > Cadence.parse(plan_cadence).months:
        wrong("cadence", "An item cannot be billed less often than its plan.", "longer_than_plan")


def _check_allowance(plan: Plan, cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    assert item.feature is not None
    if item.amount is not None:
        wrong("amount", "A fee is a line of its own.", "fee_on_feature")
    if item.quantity != 1:
        wrong("quantity", "Only fees have a quantity.", "quantity_on_feature")
    if item.feature.type != METERED:
        if item.price is not None:
            wrong("price", "Only metered features can be priced by use.", "price_on_unmetered")
        if item.included is not None:
            wrong("included", "Only metered features include units.", "included_on_unmetered")
        if item.feature.type == STATIC and not item.value and not item.unlimited:
            wrong("value", "Give a number or a text, or tick unlimited.", "missing_value")
        if item.feature.type == BOOLEAN and (item.value or item.unlimited):
            wrong("value", "An on/off feature is on when it is on the plan; it takes no value.", "value_on_boolean")
        return
    if item.included is not None and item.included < 0:
        wrong("included", "The included amount cannot be below zero.", "negative_included")
    if item.unlimited and item.included is not None:
        wrong("included", "Either unlimited or a number, not both.", "unlimited_and_number")
    if item.reset not in RESETS:
        wrong("reset", f"Allowed: {', '.join(RESETS)}.", "unknown_cadence")
    if item.feature.is_allocated and item.reset != NEVER:
        wrong("reset", "An allocated feature is a level, so it never resets.", "allocated_resets")
    if item.max_overage is not None and item.max_overage < 0:
        wrong("max_overage", "The cap on overage cannot be below zero.", "negative_max_overage")
    if item.price is None:
        return
    if item.cadence and not (item.is_prepaid and item.cadence == ONCE):
        _check_interval(cadence, item.cadence, list(PLAN_CADENCES), wrong)
    if item.price.rate < 0:
        wrong("price", "A usage price cannot be negative.", "negative_price")
    if _decimals(item.price.rate) > 12:
        wrong("price", "At most 12 decimals per unit.", "too_many_decimals")
    if item.unlimited:
        wrong("price", "Unlimited usage has no overage to price.", "price_on_unlimited")
    if plan.kind == Plan.Kind.ASSIGNED and item.price:
        wrong("price", "An assigned plan is never invoiced, so usage cannot be priced.", "price_on_assigned_plan")
    if item.reset == NEVER and item.is_usage:
        wrong("reset", "Usage that is billed needs a reset, so that there is an end to bill at.", "priced_never_resets")


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def check_currency(currency: str, allowed: Sequence[str]) -> None:
    exponent(currency)
    if currency not in allowed:
        raise ValidationError(
            f"{currency} is not a currency of this account. Allowed: {', '.join(allowed)}.", code="foreign_currency"
        )
