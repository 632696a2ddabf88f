"""Which prices can be sold: every wrong cell is named at once, with a sentence and a code. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol

from catalog.charges import GRADUATED, MODELS, PACKAGE, PER_UNIT, PERCENTAGE, STAIRSTEP, TIERED, VOLUME, Price, Tier
from catalog.money import format_rate, grouped

LARGEST = Decimal(10) ** 12
WORDS = {
    PER_UNIT: "a price per unit",
    PACKAGE: "a package price",
    PERCENTAGE: "a percentage",
    GRADUATED: "a graduated price",
    VOLUME: "a volume price",
    STAIRSTEP: "a stairstep price",
}
# What each model is made of, beside the bounds of the whole line.
BELONGS = {
    PER_UNIT: {"rate"},
    PACKAGE: {"rate", "pack"},
    PERCENTAGE: {"percent", "fixed", "transaction_min", "transaction_max"},
    GRADUATED: {"pack", "tiers"},
    VOLUME: {"pack", "tiers"},
    STAIRSTEP: {"tiers"},
}


class Wrong(Protocol):
    """Notes one refusal at a cell: `rate`, `pack`, `tiers.2.up_to`."""

    def __call__(self, field: str, message: str, code: str) -> None: ...


def check_price(price: Price, currency: str, wrong: Wrong) -> None:
    """Note every cell of a price that cannot be sold."""
    if price.model not in MODELS:
        wrong("model", f"There is no charge model {price.model!r}. Allowed: {', '.join(MODELS)}.", "unknown_model")
        return
    _check_belongs(price, wrong)
    for field, value in _amounts(price):
        _check_amount(field, value, wrong)
    if not _is_quantity(price.pack) or price.pack < 1:
        wrong("pack", "A pack holds 1 unit or more, with at most 6 decimals.", "bad_pack")
    if not price.percent.is_finite() or price.percent > 100:
        wrong("percent", "A percentage lies between 0 and 100.", "percent_out_of_range")
    _check_bounds(price, "transaction", currency, wrong)
    _check_bounds(price, "line", currency, wrong)
    if price.model in TIERED:
        _check_tiers(price.tiers, wrong)


def _check_belongs(price: Price, wrong: Wrong) -> None:
    given = {
        "rate": bool(price.rate),
        "pack": price.pack != 1,
        "tiers": bool(price.tiers),
        "percent": bool(price.percent),
        "fixed": bool(price.fixed),
        "transaction_min": price.transaction_min is not None,
        "transaction_max": price.transaction_max is not None,
    }
    for field, is_given in given.items():
        if is_given and field not in BELONGS[price.model]:
            wrong(field, f"This does not belong to {WORDS[price.model]}.", "foreign_price_field")
    if price.model == STAIRSTEP:
        for place, tier in enumerate(price.tiers):
            if tier.unit:
                wrong(f"tiers.{place}.unit", "A step has one flat price and none per unit.", "foreign_price_field")


def _amounts(price: Price) -> Iterator[tuple[str, Decimal]]:
    for field in ("rate", "percent", "fixed", "transaction_min", "transaction_max", "line_min", "line_max"):
        value = getattr(price, field)
        if value is not None:
            yield field, value
    for place, tier in enumerate(price.tiers):
        yield f"tiers.{place}.unit", tier.unit
        yield f"tiers.{place}.flat", tier.flat


def _check_amount(field: str, value: Decimal, wrong: Wrong) -> None:
    if not value.is_finite() or abs(value) >= LARGEST:
        wrong(field, "Give a number below 1,000,000,000,000.", "too_large")
    elif value < 0:
        wrong(field, "A price cannot be negative.", "negative_price")
    elif decimals(value) > 12:
        wrong(field, "At most 12 decimals.", "too_many_decimals")


def decimals(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def _is_quantity(value: Decimal) -> bool:
    return value.is_finite() and abs(value) < LARGEST and decimals(value) <= 6


def _check_bounds(price: Price, what: str, currency: str, wrong: Wrong) -> None:
    least, most = getattr(price, f"{what}_min"), getattr(price, f"{what}_max")
    if least is None or most is None or not (least.is_finite() and most.is_finite()):
        return
    if least > most:
        sentence = f"The least ({format_rate(least, currency)}) is above the most ({format_rate(most, currency)})."
        wrong(f"{what}_min", sentence, "min_above_max")


def _check_tiers(tiers: tuple[Tier, ...], wrong: Wrong) -> None:
    if not tiers:
        wrong("tiers", "Give at least one tier.", "no_tiers")
        return
    lower = Decimal(0)
    for place, tier in enumerate(tiers):
        field, is_last = f"tiers.{place}.up_to", place == len(tiers) - 1
        if tier.up_to is None:
            if not is_last:
                wrong(field, "Only the last tier is without end; the tiers below would overlap it.", "tier_overlap")
        elif not _is_quantity(tier.up_to):
            wrong(field, "A bound is a number of units with at most 6 decimals.", "bad_tier_bound")
        else:
            _check_bound(field, tier.up_to, lower, place, wrong)
            lower = max(lower, tier.up_to)
            if is_last:
                sentence = f"Nothing says what more than {grouped(tier.up_to)} cost. Leave the last bound empty."
                wrong(field, sentence, "tier_gap")


def _check_bound(field: str, upper: Decimal, lower: Decimal, place: int, wrong: Wrong) -> None:
    if place == 0 and upper <= 0:
        wrong(field, "The first tier ends above 0.", "tier_order")
    elif place and upper == lower:
        wrong(field, f"The tier before ends at {grouped(lower)} too.", "tier_overlap")
    elif place and upper < lower:
        wrong(field, f"The tier before ends at {grouped(lower)}: put tiers in rising order.", "tier_order")
