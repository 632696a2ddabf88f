"""What comes with a deal beside its items, a line each, as typed: coupons, other values of features, special prices."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from billing_admin.typed import Wrong, major, number
from catalog.models import Feature
from catalog.money import exponent, grouped, to_major, to_minor
from catalog.terms import BOOLEAN, METERED
from deals.terms import SCOPES, SUBSCRIPTION, DealCoupon, DealOverride, DealPrice
from invoicing.special import FIXED, MODES, REPLACE, BadComponent, BadRule, Rule, read_components

COUPON, OVERRIDE, PRICE = KINDS = ("coupon", "override", "price")
FIELDS = {
    COUPON: ("code", "scope"),
    OVERRIDE: ("feature", "value", "from", "until"),
    PRICE: ("item", "label", "amount", "every", "mode", "cycles"),
}
# What makes a line one that somebody wrote into.
WRITTEN = {COUPON: ("code",), OVERRIDE: ("feature", "value"), PRICE: ("item", "label", "amount")}
# A field of the deal → the control that it is typed into.
CONTROL = {
    "from_month": "from",
    "until_month": "until",
    "item_key": "item",
    "components": "amount",
    "amount_cents": "amount",
    "recurrence_rule": "every",
}
EVERY = {
    "RRULE:FREQ=MONTHLY;INTERVAL=1": "every month",
    "RRULE:FREQ=MONTHLY;INTERVAL=3": "every 3 months",
    "RRULE:FREQ=MONTHLY;INTERVAL=6": "every 6 months",
    "RRULE:FREQ=YEARLY;INTERVAL=1": "every year",
    "RRULE:FREQ=YEARLY;INTERVAL=1;COUNT=1": "once",
}
UNLIMITED = "unlimited"
ON_WORDS, OFF_WORDS = ("on", "yes"), ("no access", "off", "no")


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    typed: str
    error: str


@dataclass
class Line:
    kind: str
    id: str
    typed: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def is_blank(self) -> bool:
        return not any(self.typed[name] for name in WRITTEN[self.kind])

    @property
    def cells(self) -> dict[str, Cell]:
        return {
            name: Cell(self.control(name), self.typed[name], self.errors.get(name, "")) for name in FIELDS[self.kind]
        }

    def control(self, name: str) -> str:
        return f"{self.kind}-{self.id}-{name}"

    def refused(self, name: str, message: str) -> None:
        """What the deal said of a field of its own, at the control of it."""
        own = CONTROL.get(name, name)
        self.errors[own if own in FIELDS[self.kind] else FIELDS[self.kind][0]] = message

    @property
    def everies(self) -> list[tuple[str, str]]:
        """How often a special price falls due; one that was said in other words stays as it is."""
        own = self.typed.get("every", "")
        if not own or own in EVERY:
            return list(EVERY.items())
        try:
            return [*EVERY.items(), (own, Rule.parse(own).words)]
        except BadRule:
            return list(EVERY.items())


# Coupons --------------------------------------------------------------------------------------------------------------


def typed_coupon(coupon: DealCoupon) -> dict[str, str]:
    return {"code": coupon.code, "scope": coupon.scope}


def read_coupon(line: Line) -> DealCoupon:
    """Which coupon that is, and what it is called, is for the verb to find."""
    scope = line.typed["scope"] or SUBSCRIPTION
    if scope not in SCOPES:
        raise Wrong("scope", f"Allowed: {', '.join(SCOPES)}.")
    return DealCoupon(line.typed["code"], scope)


# Other values of features ---------------------------------------------------------------------------------------------


def typed_override(override: DealOverride) -> dict[str, str]:
    """Months as people count them: the first is 1, and the last one counts."""
    return {
        "feature": override.feature,
        "value": value_words(override.value),
        "from": str(override.from_month + 1),
        "until": "" if override.until_month is None else str(override.until_month),
    }


def value_words(value: bool | Decimal | str) -> str:
    if isinstance(value, bool):
        return "on" if value else "no access"
    return grouped(value) if isinstance(value, Decimal) else value


def read_override(line: Line, features: Mapping[str, Feature]) -> DealOverride:
    feature = features.get(line.typed["feature"])
    if feature is None:
        raise Wrong("feature", "Choose a feature.")
    since, until = _month(line, "from"), _month(line, "until")
    return DealOverride(feature.slug, _value(line, feature), (since or 1) - 1, until)


def _month(line: Line, name: str) -> int | None:
    text = line.typed[name]
    if text and (not re.fullmatch(r"[0-9]{1,3}", text) or int(text) < 1):
        raise Wrong(name, "A month of the term: 1 or more.")
    return int(text) if text else None


def _value(line: Line, feature: Feature) -> bool | Decimal | str:
    text = line.typed["value"]
    if text.lower() in OFF_WORDS:
        return False
    if feature.type == BOOLEAN:
        if text.lower() not in ON_WORDS:
            raise Wrong("value", "Write “on” or “no access”.")
        return True
    if not text:
        raise Wrong("value", "Say how many units." if feature.type == METERED else "Say the number or the text.")
    if text.lower() == UNLIMITED:
        return UNLIMITED
    if feature.type == METERED:
        units = number(text, "value", decimals=6)
        assert units is not None, "text that is there is a number or wrong"
        return units
    return text


# Special prices -------------------------------------------------------------------------------------------------------


def typed_prices(price: DealPrice, currency: str) -> Iterator[dict[str, str]]:
    """A line for each of its components."""
    for component in price.components:
        yield {
            "item": price.item_key,
            "label": component.label,
            "amount": major(to_major(component.amount, currency), currency),
            "every": str(component.rule),
            "mode": price.mode,
            "cycles": str(price.cycles or ""),
        }


def read_prices(lines: Iterable[Line], currency: str) -> list[DealPrice]:
    """Lines of one item that are of one kind and last as long are components of one special price. What cannot be
    says so at its line."""
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        typed = line.typed
        groups.setdefault((typed["item"], typed["mode"] or REPLACE, typed["cycles"]), []).append(line)
    return [price for asked, group in groups.items() if (price := _price(*asked, group, currency))]


def _price(item: str, mode: str, cycles: str, lines: Sequence[Line], currency: str) -> DealPrice | None:
    raw = []
    for line in lines:
        try:
            raw.append(_component(line, currency))
        except Wrong as wrong:
            line.errors[wrong.field] = wrong.message
    if len(raw) < len(lines):
        return None
    try:
        components = read_components(raw, mode=mode, currency=currency)
    except BadComponent as refused:
        lines[refused.row].refused(refused.name, " ".join(refused.messages))
        return None
    return DealPrice(item, components, mode, int(cycles) if cycles else None)


def _component(line: Line, currency: str) -> dict[str, object]:
    """What a line says, as callers of the API would. Raises `Wrong`."""
    typed = line.typed
    if not typed["item"]:
        raise Wrong("item", "Choose what it is the price of.")
    if typed["mode"] not in ("", *MODES):
        raise Wrong("mode", f"Allowed: {', '.join(MODES)}.")
    if typed["cycles"] and not re.fullmatch(r"[0-9]{1,4}", typed["cycles"]):
        raise Wrong("cycles", "Billing periods: a whole number, or empty.")
    amount = number(typed["amount"], "amount", decimals=exponent(currency))
    if amount is None:
        raise Wrong("amount", "Give an amount; 0 is allowed.")
    return {
        "type": FIXED,
        "label": typed["label"],
        "amount_cents": to_minor(amount, currency),
        "recurrence_rule": typed["every"] or next(iter(EVERY)),
    }
