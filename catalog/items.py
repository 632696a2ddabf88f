"""Which items can stand on a plan: every wrong cell is named at once, with a sentence and a code."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.charges import PER_UNIT, PERCENTAGE
from catalog.models import Feature, Plan
from catalog.money import exponent
from catalog.periods import NEVER, ONCE, PLAN_CADENCES, RESETS, Cadence, UnknownCadence
from catalog.price_check import LARGEST, Wrong, check_price, decimals
from catalog.rollovers import LASTS
from catalog.terms import (
    BOOLEAN,
    CANCEL,
    CHARGE,
    IN_ADVANCE,
    IN_ARREARS,
    IN_FULL,
    INSTANT,
    METERED,
    NEXT_CYCLE,
    PRORATE,
    STATIC,
    Conditions,
    ItemTerms,
)

TERMS = (IN_ADVANCE, IN_ARREARS, INSTANT)
PRORATIONS = (PRORATE, IN_FULL, NEXT_CYCLE)
LONGEST_TRIAL = 730


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
    if decimals(item.amount) > 12:
        wrong("amount", "At most 12 decimals.", "too_many_decimals")
    if plan.kind == Plan.Kind.ASSIGNED and item.amount:
        wrong("amount", "An assigned plan is never invoiced, so it cannot have a fee.", "price_on_assigned_plan")
    if item.quantity < 1:
        wrong("quantity", "The quantity is a whole number of 1 or more.", "bad_quantity")
    if item.cadence != ONCE:
        _check_interval(cadence, item.cadence, [*PLAN_CADENCES, ONCE], wrong)
    _check_term(plan, item, wrong)
    if item.term == IN_ARREARS and item.cadence == ONCE:
        wrong("term", "What is paid once is paid when the plan begins.", "once_in_arrears")


def _check_term(plan: Plan, item: ItemTerms, wrong: Wrong) -> None:
    if item.term and item.term not in TERMS:
        wrong("term", f"Allowed: {', '.join(TERMS)}.", "unknown_term")
    elif item.term == INSTANT and plan.billing_version != Plan.BillingVersion.LEGACY:
        wrong("term", "Only plans of billing version 0 take use from the wallet at once.", "instant_needs_version_0")
    elif item.term == INSTANT and item.is_fee:
        wrong("term", "A fee is asked for in advance or in arrears; only use can be paid at once.", "instant_fee")
    elif item.term in (IN_ARREARS, INSTANT) and item.is_seats:
        wrong("term", "A level is paid in advance.", "level_in_advance")


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
    if plan.billing_version == Plan.BillingVersion.LEGACY:
        _check_legacy(item, wrong)
    if item.feature.type == METERED:
        _check_metered(item, wrong)
    else:
        _check_unmetered(item, wrong)
    if item.price is not None and item.feature.type == METERED:
        _check_priced(plan, cadence, item, wrong)
    elif item.price is None and item.term:
        wrong("term", "Only what has a price is asked for at some time.", "term_without_price")
    elif item.price is None and item.cadence:
        wrong("cadence", "Only what has a price is billed at intervals.", "cadence_without_price")


def _check_legacy(item: ItemTerms, wrong: Wrong) -> None:
    """Billing version 0 knows fees and priced use, and gives nothing away."""
    if item.price is None:
        wrong("feature", "A plan of billing version 0 has fees and priced use only.", "allowance_on_version_0")
    elif item.included or item.unlimited:
        wrong("included", "A plan of billing version 0 includes no units.", "allowance_on_version_0")


def _check_unmetered(item: ItemTerms, wrong: Wrong) -> None:
    assert item.feature is not None
    if item.rollover is not None or item.keeps_overage:
        wrong("rollover", "Only metered features have something that could roll over.", "rollover_on_unmetered")
    if item.price is not None:
        wrong("price", "Only metered features can be priced by use.", "price_on_unmetered")
    if item.included is not None:
        wrong("included", "Only metered features include units.", "included_on_unmetered")
    if item.feature.type == STATIC and not item.value and not item.unlimited:
        wrong("value", "Give a number or a text, or tick unlimited.", "missing_value")
    if item.feature.type == BOOLEAN and (item.value or item.unlimited):
        wrong("value", "An on/off feature is on when it is on the plan; it takes no value.", "value_on_boolean")


def _check_metered(item: ItemTerms, wrong: Wrong) -> None:
    assert item.feature is not None
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
    _check_rest(item, wrong)


def _check_rest(item: ItemTerms, wrong: Wrong) -> None:
    """What becomes of the rest of a window, and of what was used beyond it."""
    if item.keeps_overage and item.price is not None:
        wrong("keeps_overage", "Overage that is paid for cannot be taken from the next window.", "paid_overage_kept")
    rollover = item.rollover
    if (item.keeps_overage or rollover) and item.reset == NEVER:
        wrong("reset", "What never resets has no next window that anything could go over to.", "rollover_without_reset")
    if rollover is None:
        return
    if item.unlimited:
        wrong("rollover", "Unlimited units leave nothing to roll over.", "rollover_of_unlimited")
    if rollover.most is not None and rollover.most <= 0:
        wrong("rollover.most", "The cap of a rollover is above zero; leave it empty for none.", "bad_rollover_cap")
    if rollover.percent is not None and not 0 < rollover.percent <= 1000:
        wrong("rollover.percent", "The share that rolls over is above 0 and at most 1,000 %.", "bad_rollover_cap")
    if rollover.lasts not in LASTS:
        wrong("rollover.lasts", f"Allowed: {', '.join(LASTS)}.", "unknown_cadence")


def _check_priced(plan: Plan, cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    assert item.price is not None
    price = item.price

    def wrong_price(field: str, message: str, code: str) -> None:
        wrong("price" if (price.model, field) == (PER_UNIT, "rate") else f"price.{field}", message, code)

    check_price(price, plan.currency, wrong_price)
    if item.unlimited:
        wrong("price", "Unlimited usage has no overage to price.", "price_on_unlimited")
    if plan.kind == Plan.Kind.ASSIGNED and price:
        wrong("price", "An assigned plan is never invoiced, so usage cannot be priced.", "price_on_assigned_plan")
    if price.model == PERCENTAGE and (item.is_prepaid or item.is_seats):
        wrong(
            "price.model", "A percentage is taken of use; units that are bought need another price.", "percentage_ahead"
        )
    _check_term(plan, item, wrong)
    if item.is_instant and (price.line_min is not None or price.line_max is not None):
        wrong("price.line_min", "What is paid event by event has no line of a period to bound.", "instant_line_bounds")
    _check_rhythm(cadence, item, wrong)
    for field in ("on_increase", "on_decrease"):
        if getattr(item, field) not in PRORATIONS:
            wrong(field, f"Allowed: {', '.join(PRORATIONS)}.", "unknown_proration")


def _check_rhythm(cadence: str, item: ItemTerms, wrong: Wrong) -> None:
    """How often a price is billed, and whether there is an end of use to bill at."""
    if item.cadence == ONCE and item.is_prepaid:
        if item.reset != NEVER:
            wrong("reset", "Units that are bought once last: they never reset.", "once_resets")
    elif item.cadence:
        _check_interval(cadence, item.cadence, list(PLAN_CADENCES), wrong)
    if item.reset == NEVER and item.is_usage:
        wrong("reset", "Usage that is billed needs a reset, so that there is an end to bill at.", "priced_never_resets")


def check_conditions(plan: Plan, conditions: Conditions) -> None:
    """Refuse a trial or a commitment that this plan cannot have. Raises `ValidationError` naming each field."""
    wrong: dict[str, ValidationError] = {}
    if not 0 <= conditions.trial_days <= LONGEST_TRIAL:
        wrong["trial_days"] = ValidationError(f"A trial has 0 to {LONGEST_TRIAL} days.", code="bad_trial")
    if conditions.trial_end not in (CHARGE, CANCEL):
        wrong["trial_end"] = ValidationError(f"Allowed: {CHARGE}, {CANCEL}.", code="unknown_trial_end")
    if sentence := _wrong_commitment(conditions.commitment):
        wrong["commitment"] = ValidationError(sentence, code="bad_commitment")
    if plan.kind != Plan.Kind.BILLED:
        sentence = "Only plans that are billed here have a trial or a commitment."
        found = {"trial_days": conditions.trial_days, "commitment": conditions.commitment}
        wrong |= {field: ValidationError(sentence, code="not_billed") for field, value in found.items() if value}
    if wrong:
        raise ValidationError(wrong)


def _wrong_commitment(commitment: Decimal | None) -> str:
    if commitment is None:
        return ""
    if not commitment.is_finite() or not 0 <= commitment < LARGEST:
        return "A commitment is an amount of 0 or more, below 1,000,000,000,000."
    return "At most 12 decimals." if decimals(commitment) > 12 else ""


def check_currency(currency: str, allowed: Sequence[str]) -> None:
    exponent(currency)
    if currency not in allowed:
        raise ValidationError(
            f"{currency} is not a currency of this account. Allowed: {', '.join(allowed)}.", code="foreign_currency"
        )
