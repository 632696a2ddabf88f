"""A row of the items editor: what a person typed, and the `ItemTerms` it means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from billing_admin.item_prices import (
    ASKED,
    LINE,
    MODEL_HINTS,
    MODEL_WORDS,
    Example,
    TypedTier,
    example_of,
    example_quantity,
    filled,
    quantity_of,
    read_price,
    typed_price,
    typed_tiers,
)
from billing_admin.typed import Wrong, alike, major, number
from catalog.charges import PER_UNIT, PERCENTAGE
from catalog.items import PRORATIONS
from catalog.money import grouped
from catalog.periods import FEE_CADENCES, NEVER, ONCE, PLAN_CADENCES, RESETS
from catalog.price_check import check_price
from catalog.rollovers import LASTS, Rollover, duration
from catalog.terms import (
    BILLING_PERIOD,
    BOOLEAN,
    CALENDAR,
    HARD,
    IN_ADVANCE,
    IN_ARREARS,
    IN_FULL,
    INSTANT,
    NEXT_CYCLE,
    PRORATE,
    SOFT,
    STATIC,
    FeatureTerms,
    ItemTerms,
)

# What becomes of the rest of a window, and of what was used beyond it: folded away in the cell of the reset.
REST = ("rolls", "roll_most", "roll_percent", "keeps_overage")
FIELDS = (
    *("key", "feature", "name", "included", "unlimited", "value", "reset", "limit", "max_overage"),
    *("amount", "cadence", "quantity", "price", "per", "model", "tier_per", "pack", "percent", "fixed"),
    *("transaction_min", "transaction_max", "line_min", "line_max", "term", "on_increase", "on_decrease"),
    *REST,
)
# What a field means that a row of its kind does not have.
LEFT_OUT = {
    "reset": NEVER,
    "limit": HARD,
    "quantity": "1",
    "per": "1",
    "tier_per": "1",
    "pack": "1",
    "model": PER_UNIT,
    "on_increase": PRORATE,
    "on_decrease": PRORATE,
}
CELLS = {
    "name": ("name",),
    "included": ("included", "unlimited", "value"),
    "reset": ("reset", *REST),
    "limit": ("limit", "max_overage"),
    "price": ("amount", "quantity", "price", "per"),
    # Folded away below the row:
    "more": (
        *("model", "cadence", "tier_per", "pack", "percent", "fixed", "transaction_min", "transaction_max"),
        *("line_min", "line_max", "term", "on_increase", "on_decrease"),
    ),
}
# Refusals stand at these cells; those of the folded part at the very field.
CELL_OF = {
    **{name: cell for cell, names in CELLS.items() if cell != "more" for name in names},
    **{name: name for name in REST},
    "rollover": "rolls",
    "rollover.lasts": "rolls",
    "rollover.most": "roll_most",
    "rollover.percent": "roll_percent",
    "key": "name",
    "feature": "name",
    "rate": "price",
}
SCALES = (1, 1_000, 1_000_000)
MOST_TIERS = 50
RESET_WORDS = {
    "PT1H": "Hourly",
    "P1D": "Daily",
    "P1W": "Weekly",
    "P1M": "Monthly",
    "P3M": "Quarterly",
    "P6M": "Half-yearly",
    "P1Y": "Yearly",
}
INCREASE_WORDS = {
    PRORATE: "Charge the rest of the period",
    IN_FULL: "Charge a whole period",
    NEXT_CYCLE: "Charge from the next period",
}
DECREASE_WORDS = {
    PRORATE: "Credit the rest of the period",
    IN_FULL: "Credit a whole period",
    NEXT_CYCLE: "From the next period, no credit",
}
# The usual ones; another that an item has is offered as well.
ROLLS = ("P7D", "P30D", "P90D", "P1M", "P2M", "P3M", "P6M", "P1Y", NEVER)
TERM_WORDS = {IN_ADVANCE: "In advance", IN_ARREARS: "In arrears", INSTANT: "At once, from the wallet"}


class Choice(NamedTuple):
    value: str
    label: str


class Gone(NamedTuple):
    key: str
    label: str
    text: str


@dataclass
class Row:
    """One line of the editor: what was typed, what it means, what it was, and what is wrong with it."""

    id: str
    typed: dict[str, str]
    currency: str
    tiers: list[TypedTier] = field(default_factory=list)
    feature: FeatureTerms | None = None
    standard: ItemTerms | None = None
    standard_typed: dict[str, str] = field(default_factory=dict)
    compared: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    fixed_price: str = "—"
    is_legacy: bool = False
    was_unfolded: bool = False
    quantity: str = ""

    @property
    def kind(self) -> str:
        return self.feature.type if self.feature else "fee"

    @property
    def label(self) -> str:
        return self.typed["name"] or (self.feature.name if self.feature else "Base fee")

    @property
    def unit(self) -> str:
        return (self.feature.unit if self.feature else "") or "unit"

    @property
    def units(self) -> str:
        return self.unit if self.unit.endswith("s") else f"{self.unit}s"

    @property
    def is_level(self) -> bool:
        return self.feature is not None and self.feature.is_allocated

    @property
    def is_new(self) -> bool:
        return self.compared and self.standard is None

    # Differences from the standard

    @property
    def changed(self) -> dict[str, bool]:
        """By cell: whether it says something else than the standard."""
        if not self.standard:
            return {}
        return {cell: any(self.differs(name) for name in self._names(cell)) for cell in CELLS}

    def _names(self, cell: str) -> tuple[str, ...]:
        """The fields of a cell that count for a row of this kind and charge model."""
        if self.kind == "fee":
            return {"price": ("amount", "cadence", "quantity"), "more": ("term",)}.get(cell, CELLS[cell])
        asked = ASKED.get(self.typed["model"], ())
        if cell == "price":
            return tuple(name for name in asked if name in ("price", "per"))
        if cell == "more":
            own = tuple(name for name in asked if name not in ("price", "per"))
            return ("model", "cadence", "term", "on_increase", "on_decrease", *LINE, *own)
        return CELLS[cell]

    def differs(self, name: str) -> bool:
        if name == "tiers":
            return [tier.texts() for _, tier in filled(self.tiers)] != self.standard_tiers
        return alike(self.typed[name]) != alike(self.standard_typed[name])

    @property
    def standard_tiers(self) -> list[tuple[str, str, str]]:
        standard = self.standard.price if self.standard else None
        return [tier.texts() for tier in typed_tiers(standard, self.currency) if not tier.is_blank]

    @property
    def was(self) -> dict[str, str]:
        """By cell: what the standard says, for people."""
        if not self.standard:
            return {}
        code, _, calendar = self.standard_typed["reset"].partition("/")
        cap = self.standard_typed["max_overage"]
        return {
            "included": self.standard.describe_allowance(),
            "reset": ", ".join(
                [RESET_WORDS.get(code, code).lower() + (", calendar" if calendar else ""), *rest_of(self.standard)]
            ),
            "limit": self.standard.limit + (f", up to +{cap}" if cap else ""),
            "price": self.standard.describe_price(self.currency),
            "tiers": "; ".join(self.standard.describe_tiers(self.currency)),
            "more": way_of(self.standard_typed, self.standard),
        }

    @property
    def is_changed(self) -> bool:
        return any(self.changed.values())

    # Choices

    @property
    def resets(self) -> list[Choice]:
        return [Choice(code, word) for code, word in RESET_WORDS.items()]

    @property
    def calendar_resets(self) -> list[Choice]:
        return [Choice(f"{code}/{CALENDAR}", f"{word}, calendar") for code, word in RESET_WORDS.items()]

    @property
    def rolls(self) -> list[Choice]:
        """How long what is left of a window lives on; the empty choice is the usual one."""
        own = self.typed["rolls"]
        codes = ROLLS if own in (*ROLLS, "") or own not in LASTS else (*ROLLS, own)
        lasting = (Choice(code, "for good" if code == NEVER else f"for {duration(code)}") for code in codes)
        return [Choice("", "not at all"), *lasting]

    @property
    def rest_words(self) -> str:
        """In a few words what becomes of the rest of a window; short, since its cell is narrow."""
        words = ["rest is gone" if not self.typed["rolls"] else "rolls over"]
        return ", ".join([*words, *(["overage kept"] if self.typed["keeps_overage"] else [])])

    @property
    def rest_open(self) -> bool:
        return any(self.typed[name] or name in self.errors for name in REST)

    @property
    def rest_errors(self) -> list[Choice]:
        """The refused fields of the rest, each with its sentence."""
        return [Choice(name, self.errors[name]) for name in REST if name in self.errors]

    @property
    def scales(self) -> list[Choice]:
        return self._scales("per")

    @property
    def tier_scales(self) -> list[Choice]:
        return self._scales("tier_per")

    def _scales(self, name: str) -> list[Choice]:
        own = int(self.typed[name]) if self.typed[name].isdecimal() else 1
        return [Choice(str(n), f"/ {self.unit}" if n == 1 else f"/ {n:,}") for n in sorted({*SCALES, own})]

    @property
    def models(self) -> list[Choice]:
        """A percentage is taken of what was used, so a level has none."""
        return [Choice(code, word) for code, word in MODEL_WORDS.items() if not (self.is_level and code == PERCENTAGE)]

    @property
    def model_hints(self) -> list[Choice]:
        return [Choice(code, MODEL_HINTS[code]) for code, _ in self.models]

    @property
    def terms(self) -> list[Choice]:
        """When it is asked for; the usual one is the empty choice."""
        if self.kind == "fee":
            return [Choice("", TERM_WORDS[IN_ADVANCE]), Choice(IN_ARREARS, TERM_WORDS[IN_ARREARS])]
        found = [Choice("", "In arrears, by use"), Choice(IN_ADVANCE, "In advance, prepaid")]
        instant = self.is_legacy or self.typed["term"] == INSTANT
        return [*found, Choice(INSTANT, TERM_WORDS[INSTANT])] if instant else found

    @property
    def intervals(self) -> list[Choice]:
        words = {"": "with the plan", **PLAN_CADENCES}
        return [Choice(code, word) for code, word in (words if self.is_level else words | {ONCE: "once"}).items()]

    @property
    def increases(self) -> list[Choice]:
        return [Choice(code, INCREASE_WORDS[code]) for code in PRORATIONS]

    @property
    def decreases(self) -> list[Choice]:
        return [Choice(code, DECREASE_WORDS[code]) for code in PRORATIONS]

    # The folded part

    @property
    def unfolded(self) -> bool:
        return self.was_unfolded or any(cell not in (*CELLS, *REST) for cell in self.errors)

    @property
    def way(self) -> str:
        """In a few words how it is charged: what the folded part says."""
        return way_of(self.typed, self.item)

    @property
    def item(self) -> ItemTerms | None:
        """What the row means; None while something in it cannot be read."""
        try:
            return read_fee(self) if self.feature is None else read_allowance(self)
        except Wrong:
            return None

    @property
    def sold(self) -> ItemTerms | None:
        """The same, where its price can be told and counted with."""
        item = self.item
        if item is None or item.price is None:
            return None
        wrong: list[str] = []
        check_price(item.price, self.currency, lambda field, message, code: wrong.append(field))
        return None if wrong else item

    @property
    def price_words(self) -> str:
        item = self.sold
        return item.describe_price(self.currency) if item else "to be filled in below"

    @property
    def example_quantity(self) -> str:
        item = self.sold
        return self.quantity or (grouped(example_quantity(item)) if item else "1,200")

    @property
    def example(self) -> Example | None:
        """The amount for the quantity that was typed beside it; None while either cannot be read."""
        item, quantity = self.sold, quantity_of(self.example_quantity)
        return example_of(item, quantity, self.currency) if item and quantity is not None else None

    def wrong(self, name: str, message: str) -> None:
        cell = self._cell_of(name)
        self.errors[cell] = f"{self.errors[cell]} {message}" if cell in self.errors else message
        if cell.startswith("tiers."):
            _, place, part = cell.split(".")
            self.tiers[int(place)].errors[part] = self.errors[cell]

    def _cell_of(self, name: str) -> str:
        name = name.removeprefix("price.")
        if name in CELL_OF:
            return CELL_OF[name]
        folded = name in CELLS["more"] or name.startswith("tiers")
        if not folded or self.kind == "fee":
            return "more" if name == "term" else "price" if name == "cadence" else "name"
        return name

    def refused(self, name: str, message: str) -> None:
        """A refusal of the catalog: it counts the tiers that were filled in, the table all of its rows."""
        if name.startswith("price.tiers."):
            _, _, nth, part = name.split(".")
            name = f"price.tiers.{filled(self.tiers)[int(nth)][0]}.{part}"
        self.wrong(name, message)


# Items as text, text as items -----------------------------------------------------------------------------------------


def typed_of(item: ItemTerms, currency: str) -> dict[str, str]:
    """An item as the editor's fields show it; the tiers of its price have rows of their own."""
    anchored = f"/{CALENDAR}" if item.reset_anchor == CALENDAR and item.reset != NEVER else ""
    return {
        "key": item.key,
        "feature": item.feature.slug if item.feature else "",
        "name": item.name,
        "included": "" if item.included is None else grouped(item.included),
        "unlimited": "on" if item.unlimited else "",
        "value": item.value,
        "reset": item.reset + anchored,
        "limit": item.limit,
        "max_overage": "" if item.max_overage is None else grouped(item.max_overage),
        "amount": "" if item.amount is None else major(item.amount, currency),
        "cadence": item.cadence,
        "quantity": str(item.quantity),
        "term": "" if item.term == item.usual_term else item.term,
        "on_increase": item.on_increase,
        "on_decrease": item.on_decrease,
        **typed_rest(item),
        **typed_price(item.price, currency),
    }


def typed_rest(item: ItemTerms) -> dict[str, str]:
    rule = item.rollover
    return {
        "rolls": rule.lasts if rule else "",
        "roll_most": grouped(rule.most) if rule and rule.most is not None else "",
        "roll_percent": grouped(rule.percent) if rule and rule.percent is not None else "",
        "keeps_overage": "on" if item.keeps_overage else "",
    }


def rest_of(item: ItemTerms) -> list[str]:
    """For people: what rolls over, and whether overage is kept; nothing where both are as usual."""
    return [*([item.rollover.describe()] if item.rollover else []), *(["overage kept"] if item.keeps_overage else [])]


def way_of(typed: Mapping[str, str], item: ItemTerms | None) -> str:
    """`per unit, in arrears`; `graduated tiers, prepaid, yearly`; nothing where nothing is charged."""
    if item is not None and not item.is_fee and item.price is None:
        return ""
    if item is not None and item.is_fee:
        return TERM_WORDS[typed["term"] or IN_ADVANCE].lower() if typed["term"] in (*TERM_WORDS, "") else ""
    words = [MODEL_WORDS.get(typed["model"], "").lower()]
    if typed["term"] == INSTANT:
        words.append("from the wallet")
    elif item is not None and item.is_seats:
        words.append("in advance")
    else:
        words.append("prepaid" if typed["term"] == IN_ADVANCE else "in arrears")
    if typed["cadence"]:
        words.append(FEE_CADENCES.get(typed["cadence"], ""))
    return ", ".join(word for word in words if word)


def read_fee(row: Row) -> ItemTerms:
    quantity = row.typed["quantity"].replace(",", "") or "1"
    if not re.fullmatch(r"[0-9]{1,9}", quantity):
        raise Wrong("quantity", "The quantity is a whole number of 1 or more.")
    return ItemTerms(
        key="",
        name=named(row),
        amount=number(row.typed["amount"], "amount", decimals=12),
        cadence=row.typed["cadence"],
        quantity=int(quantity),
        term=row.typed["term"],
    )


def read_allowance(row: Row) -> ItemTerms:
    assert row.feature is not None
    item = ItemTerms(key="", name=named(row), feature=row.feature)
    if row.feature.type == BOOLEAN:
        return item
    unlimited = bool(row.typed["unlimited"])
    if row.feature.type == STATIC:
        if len(row.typed["value"]) > 500:
            raise Wrong("value", "At most 500 characters.")
        return replace(item, unlimited=unlimited, value="" if unlimited else row.typed["value"])
    reset, _, anchor = row.typed["reset"].partition("/")
    if reset not in RESETS or anchor not in ("", CALENDAR):
        raise Wrong("reset", f"Allowed: {', '.join(RESETS)}.")
    if row.typed["limit"] not in (HARD, SOFT):
        raise Wrong("limit", "A limit is hard or soft.")
    soft = row.typed["limit"] == SOFT
    item = replace(
        item,
        included=None if unlimited else number(row.typed["included"], "included", decimals=6),
        unlimited=unlimited,
        reset=reset,
        reset_anchor=CALENDAR if anchor else BILLING_PERIOD,
        limit=row.typed["limit"],
        max_overage=number(row.typed["max_overage"], "max_overage", decimals=6) if soft else None,
        # What never resets has no next window, and its fields do not show.
        rollover=read_rollover(row) if reset != NEVER else None,
        keeps_overage=bool(row.typed["keeps_overage"]) and reset != NEVER,
    )
    return _priced(row, item)


def read_rollover(row: Row) -> Rollover | None:
    typed = row.typed
    most = number(typed["roll_most"], "roll_most", decimals=6)
    percent = number(typed["roll_percent"].removesuffix("%").strip(), "roll_percent", decimals=2)
    if not typed["rolls"]:
        if most is not None or percent is not None:
            raise Wrong("rolls", "Say how long the rest stays, or leave its cap empty.")
        return None
    return Rollover(typed["rolls"], most, percent)


def _priced(row: Row, item: ItemTerms) -> ItemTerms:
    """With the price, and with when it is asked for; what a change of quantity costs matters to what is bought."""
    price = read_price(row.typed, row.tiers)
    if price is None:
        return item
    term = "" if row.is_level else row.typed["term"]
    item = replace(item, price=price, term=term, cadence=row.typed["cadence"])
    if not (item.is_prepaid or item.is_seats):
        return item
    return replace(item, on_increase=row.typed["on_increase"], on_decrease=row.typed["on_decrease"])


def named(row: Row) -> str:
    if len(row.typed["name"]) > 120:
        raise Wrong("name", "At most 120 characters.")
    return row.typed["name"]
