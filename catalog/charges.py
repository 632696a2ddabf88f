"""Charge models: what units cost. Pure, on exact numbers; nothing here rounds to money.

A price is a value that stands on an item and in its version's frozen JSON. Tier bounds include their upper end; only
packs of more than one unit round up, before the tier is found; what is given back mirrors what was used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from catalog.money import plain

PER_UNIT, PACKAGE, PERCENTAGE = "per_unit", "package", "percentage"
GRADUATED, VOLUME, STAIRSTEP = "graduated", "volume", "stairstep"
TIERED = (GRADUATED, VOLUME, STAIRSTEP)
MODELS = (PER_UNIT, PACKAGE, PERCENTAGE, *TIERED)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: without end): `unit` for each of them (each pack, where units come in
    packs), `flat` once when the tier is entered; a stairstep has `flat` alone. Major units of the plan's currency."""

    up_to: Decimal | None
    unit: Decimal = ZERO
    flat: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Price:
    """How units are charged. Amounts are major units; `rate` is per unit (`package`: per pack of `pack` units).

    `percentage` takes `percent` of each transaction's amount plus `fixed`, within `transaction_min` and
    `transaction_max`. `line_min` and `line_max` bound the line of a whole period. `per` is only how a rate is shown.
    """

    model: str = PER_UNIT
    rate: Decimal = ZERO
    per: int = field(default=1, compare=False)
    pack: Decimal = Decimal(1)
    tiers: tuple[Tier, ...] = ()
    percent: Decimal = ZERO
    fixed: Decimal = ZERO
    transaction_min: Decimal | None = None
    transaction_max: Decimal | None = None
    line_min: Decimal | None = None
    line_max: Decimal | None = None

    def __bool__(self) -> bool:
        """Whether it can charge anything at all."""
        amounts = (self.rate, self.percent, self.fixed, self.transaction_min, self.line_min)
        return any(amounts) or any(tier.unit or tier.flat for tier in self.tiers)

    @property
    def charges_at_zero(self) -> bool:
        """Whether a window without any use costs something."""
        first_flat = self.model in TIERED and bool(self.tiers) and bool(self.tiers[0].flat)
        return first_flat or bool(self.line_min)

    @property
    def is_indivisible(self) -> bool:
        """Whether the whole volume of a window has one price, so that it cannot change in its middle."""
        return self.model in (PACKAGE, VOLUME, STAIRSTEP)

    def to_json(self) -> dict[str, Any]:
        """As stored: decimals as plain strings, what is not set left out."""
        found: dict[str, Any] = {"model": self.model}
        for name in ("rate", "percent", "fixed"):
            if value := getattr(self, name):
                found[name] = plain(value)
        for name in ("transaction_min", "transaction_max", "line_min", "line_max"):
            if (value := getattr(self, name)) is not None:
                found[name] = plain(value)
        if self.per != 1:
            found["per"] = self.per
        if self.pack != 1:
            found["pack"] = plain(self.pack)
        if self.tiers:
            found["tiers"] = [
                {"up_to": None if t.up_to is None else plain(t.up_to), "unit": plain(t.unit), "flat": plain(t.flat)}
                for t in self.tiers
            ]
        if self.charges_at_zero:
            found["at_zero"] = True  # what the database looks for: windows to bill although nothing was used
        return found

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Price":
        """The inverse of `to_json`, for what it wrote."""
        numbers = {
            name: Decimal(raw[name])
            for name in (
                "rate",
                "pack",
                "percent",
                "fixed",
                "transaction_min",
                "transaction_max",
                "line_min",
                "line_max",
            )
            if name in raw
        }
        tiers = tuple(
            Tier(None if t["up_to"] is None else Decimal(t["up_to"]), Decimal(t["unit"]), Decimal(t["flat"]))
            for t in raw.get("tiers", ())
        )
        return cls(model=raw["model"], per=raw.get("per", 1), tiers=tiers, **numbers)
