"""Items as JSON and back, exactly: for what is kept before a version exists. Pure.

Decimals stand as text; what an item does not say is left out. A feature is kept with what it was called then; whoever
reads it back hands in the features as they are now, by slug.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from decimal import Decimal
from typing import Any

from catalog.charges import Price
from catalog.money import plain
from catalog.rollovers import Rollover
from catalog.terms import FeatureTerms, ItemTerms

DECIMALS = ("amount", "included", "max_overage", "bought")
LEFT_OUT = ("id", "feature", "price", "rollover")
PLAIN = tuple(f.name for f in fields(ItemTerms) if f.name not in (*DECIMALS, *LEFT_OUT))
DEFAULTS = {f.name: f.default for f in fields(ItemTerms) if f.default is not MISSING}


def item_to_json(item: ItemTerms) -> dict[str, Any]:
    """One item; its row's id is no part of what it says."""
    found: dict[str, Any] = {}
    for name in PLAIN:
        value = getattr(item, name)
        if name not in DEFAULTS or value != DEFAULTS[name]:
            found[name] = value
    for name in DECIMALS:
        if (number := getattr(item, name)) is not None:
            found[name] = plain(number)
    if item.feature is not None:
        own = item.feature
        found["feature"] = {"slug": own.slug, "name": own.name, "type": own.type, "usage": own.usage, "unit": own.unit}
    if item.price is not None:
        found["price"] = item.price.to_json()
    if item.rollover is not None:
        found["rollover"] = item.rollover.to_json()
    return found


def item_from_json(raw: Mapping[str, Any], features: Mapping[str, FeatureTerms] | None = None) -> ItemTerms:
    """The inverse of `item_to_json`, for what it wrote. A feature that is not handed in stays as it was kept."""
    values: dict[str, Any] = {name: raw[name] for name in PLAIN if name in raw}
    values |= {name: Decimal(raw[name]) for name in DECIMALS if name in raw}
    if "feature" in raw:
        kept = FeatureTerms(**raw["feature"])
        values["feature"] = (features or {}).get(kept.slug, kept)
    if "price" in raw:
        values["price"] = Price.from_json(raw["price"])
    if "rollover" in raw:
        values["rollover"] = Rollover.from_json(raw["rollover"])
    return ItemTerms(**values)


def items_to_json(items: Sequence[ItemTerms]) -> list[dict[str, Any]]:
    return [item_to_json(item) for item in items]


def items_from_json(
    raw: Sequence[Mapping[str, Any]], features: Mapping[str, FeatureTerms] | None = None
) -> tuple[ItemTerms, ...]:
    return tuple(item_from_json(row, features) for row in raw)
