"""Prices as a person types them, the `Price` they mean, and what it makes of a quantity."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from billing_admin.typed import Wrong, alike, major, number, to_number
from catalog.charges import (
    GRADUATED,
    MODELS,
    PACKAGE,
    PER_UNIT,
    PERCENTAGE,
    STAIRSTEP,
    VOLUME,
    ZERO,
    Price,
    Tier,
    prepaid,
    rate,
    rate_use,
)
from catalog.money import format_minor, format_rate, grouped, to_minor
from catalog.terms import ItemTerms

# What each model is typed with; the bounds of a period's line go with all of them.
ASKED = {
    PER_UNIT: ("price", "per"),
    PACKAGE: ("price", "pack"),
    GRADUATED: ("tier_per", "pack", "tiers"),
    VOLUME: ("tier_per", "pack", "tiers"),
    STAIRSTEP: ("tiers",),
    PERCENTAGE: ("percent", "fixed", "transaction_min", "transaction_max"),
}
LINE = ("line_min", "line_max")
NUMBERS = ("percent", "fixed", "transaction_min", "transaction_max", *LINE)
MODEL_WORDS = {
    PER_UNIT: "Per unit",
    PACKAGE: "Per pack",
    GRADUATED: "Graduated tiers",
    VOLUME: "Volume tiers",
    STAIRSTEP: "Stairsteps",
    PERCENTAGE: "Percentage",
}
MODEL_HINTS = {
    PER_UNIT: "Every unit costs the same.",
    PACKAGE: "Units come in packs; a pack that was begun is paid whole.",
    GRADUATED: "Units in each tier cost that tier's price.",
    VOLUME: "All units cost the price of the tier that the total falls into.",
    STAIRSTEP: "One flat price for the step that the total falls into.",
    PERCENTAGE: "A share of each transaction's amount, plus a fixed part.",
}


@dataclass
class TypedTier:
    """One line of the table of tiers, as typed."""

    up_to: str = ""
    unit: str = ""
    flat: str = ""
    standard: "TypedTier | None" = None
    errors: dict[str, str] = field(default_factory=dict)
    fresh: bool = False

    @property
    def is_blank(self) -> bool:
        return not (self.up_to or self.unit or self.flat)

    def texts(self) -> tuple[str, str, str]:
        return alike(self.up_to), alike(self.unit), alike(self.flat)


def typed_price(price: Price | None, currency: str) -> dict[str, str]:
    """A price as the editor's fields show it, its tiers left out."""
    given = price or Price()
    found = {name: _shown(given, name, currency) for name in NUMBERS}
    simple = given.model in (PER_UNIT, PACKAGE)
    return found | {
        "model": given.model,
        "price": major(given.rate * given.per, currency) if price and simple else "",
        "per": str(given.per if simple else 1),
        "tier_per": str(1 if simple else given.per),
        "pack": grouped(given.pack),
    }


def _shown(price: Price, name: str, currency: str) -> str:
    value = getattr(price, name)
    if value is None or (not value and name in ("percent", "fixed")):
        return ""
    return grouped(value) if name == "percent" else major(value, currency)


def typed_tiers(price: Price | None, currency: str) -> list[TypedTier]:
    """The rows of the table; one that is still to be filled has two."""
    if price is None or not price.tiers:
        return [TypedTier(), TypedTier()]
    per = price.per
    return [
        TypedTier(
            up_to="" if tier.up_to is None else grouped(tier.up_to),
            unit="" if price.model == STAIRSTEP else major(tier.unit * per, currency),
            flat=major(tier.flat, currency) if tier.flat or price.model == STAIRSTEP else "",
        )
        for tier in price.tiers
    ]


def read_price(typed: Mapping[str, str], tiers: Sequence[TypedTier]) -> Price | None:
    """What was typed for its model; what belongs to another model is left aside. None where nothing is charged.

    A price is typed per 1, 1,000 or 1,000,000 units, and kept per unit, exactly. Raises `Wrong` naming the field.
    """
    model = typed["model"]
    if model not in MODELS:
        raise Wrong("model", f"Allowed: {', '.join(MODELS)}.")
    asked = ASKED[model]
    amount = number(typed["price"], "price", decimals=12) if "price" in asked else None
    if model == PER_UNIT and amount is None and not any(typed[name] for name in (*LINE, "term", "cadence")):
        return None
    if "price" in asked and amount is None:
        raise Wrong("price", "Give a price; 0 is allowed.")
    per = next((_per(name, typed[name]) for name in ("per", "tier_per") if name in asked), 1)
    pack = _read(typed, "pack", asked, decimals=6) or Decimal(1)
    if model != PER_UNIT and pack != 1:
        per = 1
    return Price(
        model=model,
        rate=(amount or ZERO) / per,
        per=per,
        pack=pack,
        tiers=tuple(_tiers(tiers, model, per)) if "tiers" in asked else (),
        percent=_percent(typed) if model == PERCENTAGE else ZERO,
        fixed=_read(typed, "fixed", asked) or ZERO,
        transaction_min=_read(typed, "transaction_min", asked),
        transaction_max=_read(typed, "transaction_max", asked),
        line_min=_read(typed, "line_min", LINE),
        line_max=_read(typed, "line_max", LINE),
    )


def _read(typed: Mapping[str, str], name: str, asked: Iterable[str], decimals: int = 12) -> Decimal | None:
    return number(typed[name], name, decimals=decimals) if name in asked else None


def _per(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text or "1") or int(text or "1") < 1:
        raise Wrong(name, "A price is per 1, 1,000 or 1,000,000 units.")
    return int(text or "1")


def _percent(typed: Mapping[str, str]) -> Decimal:
    percent = number(typed["percent"].rstrip("% "), "percent", decimals=12)
    if percent is None and not typed["fixed"]:
        raise Wrong("percent", "Give a percentage; 0 is allowed.")
    return percent or ZERO


def _tiers(typed: Sequence[TypedTier], model: str, per: int) -> Iterable[Tier]:
    for place, tier in filled(typed):
        unit = ZERO if model == STAIRSTEP else number(tier.unit, f"tiers.{place}.unit", decimals=12)
        yield Tier(
            number(tier.up_to, f"tiers.{place}.up_to", decimals=6),
            (unit or ZERO) / per,
            number(tier.flat, f"tiers.{place}.flat", decimals=12) or ZERO,
        )


def filled(typed: Sequence[TypedTier]) -> list[tuple[int, TypedTier]]:
    """The rows that somebody wrote into, with their places in the table."""
    return [(place, tier) for place, tier in enumerate(typed) if not tier.is_blank]


@dataclass(frozen=True, slots=True)
class Example:
    """What a price makes of one quantity: `$38.00` = `10,000 × $0.003 + 2,000 × $0.004`, and what else to know."""

    total: str
    parts: str
    note: str = ""


def example_of(item: ItemTerms, quantity: Decimal, currency: str) -> Example:
    """The amount for a quantity, included units among it, with its sum."""
    price, included = item.price, item.included or ZERO
    assert price is not None, "only what has a price costs something"
    if item.is_prepaid:
        rated, included = prepaid(price, quantity, included), min(included, quantity)
    elif price.model == PERCENTAGE:
        rated, included = rate(price, quantity), ZERO
    else:
        rated = rate_use(price, quantity, included)
    notes = [f"{grouped(included)} included"] if included else []
    amount = _bounded(price, rated.amount, currency, notes)
    return Example(format_minor(to_minor(amount, currency), currency), rated.words(currency), ", ".join(notes))


def _bounded(price: Price, amount: Fraction, currency: str, notes: list[str]) -> Fraction:
    """An amount within the bounds of a period's line; notes say which of them it met."""
    if price.line_max is not None and amount > Fraction(price.line_max):
        notes.append(f"at most {format_rate(price.line_max, currency)} a period")
        return Fraction(price.line_max)
    if price.line_min is not None and amount < Fraction(price.line_min):
        notes.append(f"at least {format_rate(price.line_min, currency)} a period")
        return Fraction(price.line_min)
    return amount


def example_quantity(item: ItemTerms) -> Decimal:
    """A quantity that shows what the price does: beyond its last bound, a few packs, a hundred of money."""
    price = item.price or Price()
    bounds = [tier.up_to for tier in price.tiers if tier.up_to is not None]
    if price.model == PERCENTAGE:
        return Decimal(100)
    if bounds:
        beyond = max(bounds) * 6 / 5
    elif item.is_seats:
        beyond = Decimal(10)
    else:
        beyond = (price.pack if price.pack != 1 else Decimal(1000 * price.per)) * 12 / 10
    return (beyond + (item.included or ZERO)).to_integral_value(rounding="ROUND_CEILING")


def quantity_of(text: str) -> Decimal | None:
    """The quantity of an example, as typed; None where it cannot be read or is none."""
    try:
        found = to_number(text)
    except ValueError:
        return None
    return found if found is not None and 0 <= found < 10**15 else None
