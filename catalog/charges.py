"""Charge models: what units cost. Pure, on exact numbers; nothing here rounds to money.

A price is a value that stands on an item and in its version's frozen JSON. Tier bounds include their upper end; only
packs of more than one unit round up, before the tier is found; what is given back mirrors what was used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from itertools import zip_longest
from math import inf
from typing import Any

from catalog.money import format_minor, format_rate, grouped, plain, to_minor

PER_UNIT, PACKAGE, PERCENTAGE = "per_unit", "package", "percentage"
GRADUATED, VOLUME, STAIRSTEP = "graduated", "volume", "stairstep"
TIERED = (GRADUATED, VOLUME, STAIRSTEP)
MODELS = (PER_UNIT, PACKAGE, PERCENTAGE, *TIERED)
ZERO = Decimal(0)
SMALLEST = Decimal("0.000001")  # quantities have six decimals


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


@dataclass(frozen=True, slots=True)
class Step:
    """One part of an amount: `quantity` units at `rate` for each `pack` of them, and `times` × `flat`.

    With a `percent` the quantity is a volume of money. `label` names the tier, or says what bounded the part.
    """

    amount: Fraction
    quantity: Decimal = ZERO
    rate: Decimal = ZERO
    flat: Decimal = ZERO
    times: int = 1
    percent: Decimal = ZERO
    pack: Decimal = Decimal(1)
    per: int = 1
    label: str = ""

    @property
    def is_back(self) -> bool:
        """Whether it gives back instead of charging."""
        return self.amount < 0 or (not self.amount and self.quantity < 0)

    def words(self, currency: str) -> str:
        """The part without its sign: `10,000 × $0.001`, `3 packs of 100 × $5.00 + $2.00 flat`, `2.9 % of $80.00`."""
        parts = []
        if self.percent:
            parts.append(f"{plain(self.percent)} % of {format_rate(abs(self.quantity), currency)}")
        elif self.rate or not (self.flat or self.label):
            parts.append(f"{self._count()} × {format_rate(self.rate * self.per, currency)}{self._per()}")
        if self.flat and self.times:
            times = f"{self.times} × " if self.times != 1 else ""
            flat = f"{times}{format_rate(abs(self.flat), currency)}"
            parts.append(flat if self.percent or self.label else f"{flat} flat")
        if not parts:
            parts.append(format_minor(abs(to_minor(self.amount, currency)), currency))
        return " + ".join(parts) + (f" ({self.label})" if self.label else "")

    def _count(self) -> str:
        if self.pack == 1:
            return grouped(abs(self.quantity))
        packs = round(abs(self.quantity) / self.pack, 6)
        return f"{grouped(packs)} {'pack' if packs == 1 else 'packs'} of {grouped(self.pack)}"

    def _per(self) -> str:
        return f" per {self.per:,}" if self.per != 1 else ""


@dataclass(frozen=True, slots=True)
class Rated:
    """An exact amount in major units, and the steps that sum to it."""

    amount: Fraction
    steps: tuple[Step, ...]

    def sum(self, currency: str) -> str:
        """For people: `10,000 × $0.001 + 2,000 × $0.0008 = $11.60`."""
        return f"{self.words(currency)} = {format_minor(to_minor(self.amount, currency), currency)}"

    def words(self, currency: str) -> str:
        """The steps alone: `10,000 × $0.001 + 2,000 × $0.0008`."""
        text = ""
        for step in self.steps:
            sign = "−" if step.is_back else "+"
            text += f" {sign} {step.words(currency)}" if text else ("−" if sign == "−" else "") + step.words(currency)
        return text


def rate(price: Price, units: Decimal, *, transactions: Sequence[Decimal] = (), before: Decimal = ZERO) -> Rated:
    """What units cost, exactly.

    `before` are units of the same window that were rated already (0: none were), so that tiers count on: what all of
    them cost minus what those did. `transactions` are the amounts that a percentage is taken of, each for itself;
    without them `units` are one amount.
    """
    if price.model == PERCENTAGE and transactions:
        steps = _transactions(price, transactions)
    elif before:
        steps = _counting_on(price, _steps(price, before + units), _steps(price, before))
    else:
        steps = _steps(price, units)
    told = [step for step in steps if step.amount or step.quantity] or steps[:1]
    return Rated(sum((step.amount for step in steps), Fraction(0)), tuple(told))


def rate_use(
    price: Price,
    used: Decimal,
    included: Decimal,
    *,
    transactions: Sequence[Decimal] = (),
    before: Decimal = ZERO,
) -> Rated:
    """What use costs where some of it is included: the total minus what is included is rated, under every model.

    The included units cover the earliest transactions; `before` are units beyond the included ones.
    """
    beyond = max(ZERO, used - included) if included else used
    return rate(price, beyond, transactions=_uncovered(transactions, included), before=before)


def _uncovered(transactions: Sequence[Decimal], included: Decimal) -> Sequence[Decimal]:
    if not included:
        return transactions
    found, total = [], ZERO
    for amount in transactions:
        part = max(ZERO, total + amount - included) - max(ZERO, total - included)
        total += amount
        if part:
            found.append(part)
    return found


def _steps(price: Price, units: Decimal) -> list[Step]:
    if units < 0:
        return [_mirrored(step) for step in _steps(price, -units)]
    if price.model == PERCENTAGE:
        return _transactions(price, [units] if units else [])
    if price.model in (GRADUATED, VOLUME):
        units = _whole_packs(price, units)
    if price.model == GRADUATED:
        return _slices(price, units)
    if price.model in TIERED:
        place = _place(price, units)
        return [_tier_step(price, place, units)]
    if price.model == PACKAGE:
        units = _whole_packs(price, units)
    amount = Fraction(price.rate) * Fraction(units) / Fraction(price.pack)
    return [Step(amount, units, price.rate, pack=price.pack, per=price.per)]


def _whole_packs(price: Price, units: Decimal) -> Decimal:
    return units if price.pack == 1 else _ceiling(units, price.pack) * price.pack


def _ceiling(units: Decimal, pack: Decimal) -> int:
    """How many packs hold so many units (not negative)."""
    whole, rest = divmod(units, pack)
    return int(whole) + (1 if rest else 0)


def _slices(price: Price, units: Decimal) -> list[Step]:
    found = []
    lower = ZERO
    for place, tier in enumerate(price.tiers):
        if place and units <= lower:
            break
        upper = units if tier.up_to is None else min(units, tier.up_to)
        found.append(_tier_step(price, place, upper - lower))
        lower = upper
    return found


def _place(price: Price, units: Decimal) -> int:
    """Which tier a quantity lies in; its upper bound belongs to it."""
    inside = (n for n, tier in enumerate(price.tiers) if tier.up_to is None or units <= tier.up_to)
    return next(inside, len(price.tiers) - 1)


def _tier_step(price: Price, place: int, units: Decimal) -> Step:
    tier = price.tiers[place]
    if price.model == STAIRSTEP:
        return Step(Fraction(tier.flat), units, flat=tier.flat, label=f"step {tier_words(price, place)}")
    amount = Fraction(tier.unit) * Fraction(units) / Fraction(price.pack) + Fraction(tier.flat)
    return Step(amount, units, tier.unit, flat=tier.flat, pack=price.pack, per=price.per)


def tier_words(price: Price, place: int) -> str:
    """Which quantities a tier holds: `up to 100`, `over 100 up to 500`, `over 500`; `any` where there is one tier."""
    upper = price.tiers[place].up_to
    lower = price.tiers[place - 1].up_to if place else None
    parts = [f"over {grouped(lower)}"] if lower is not None else []
    parts += [f"up to {grouped(upper)}"] if upper is not None else []
    return " ".join(parts) or "any"


def _counting_on(price: Price, after: list[Step], earlier: list[Step]) -> list[Step]:
    """What came on top of the earlier units: slice by slice where slices stay what they are."""
    if price.model in (VOLUME, STAIRSTEP, PERCENTAGE):
        return [*after, Step(-sum((step.amount for step in earlier), Fraction(0)), label="charged before")]
    return [_minus(now, then) for now, then in zip_longest(after, earlier)]


def _minus(now: Step | None, then: Step | None) -> Step:
    if then is None or now is None:
        return now or (_mirrored(then) if then else Step(Fraction(0)))
    return replace(
        now, amount=now.amount - then.amount, quantity=now.quantity - then.quantity, flat=now.flat - then.flat
    )


def _mirrored(step: Step) -> Step:
    return replace(step, amount=-step.amount, quantity=-step.quantity, flat=-step.flat)


def _transactions(price: Price, transactions: Iterable[Decimal]) -> list[Step]:
    """One step for all that lie between the bounds, one for those at the least and one for those at the most."""
    found: dict[tuple[str, bool], Step] = {}
    for volume in transactions:
        amount, bound = _transaction(price, abs(volume))
        step = _transaction_step(price, volume, amount, bound)
        if volume < 0:
            step = replace(_mirrored(step), quantity=volume)
        sofar = found.get((bound, volume < 0))
        found[bound, volume < 0] = step if sofar is None else _together(sofar, step)
    return list(found.values()) or [Step(Fraction(0), percent=price.percent, flat=price.fixed, times=0)]


def _transaction(price: Price, volume: Decimal) -> tuple[Fraction, str]:
    amount = Fraction(volume) * Fraction(price.percent) / 100 + Fraction(price.fixed)
    if price.transaction_max is not None and amount > Fraction(price.transaction_max):
        return Fraction(price.transaction_max), "at most"
    if price.transaction_min is not None and amount < Fraction(price.transaction_min):
        return Fraction(price.transaction_min), "at least"
    return amount, ""


def _transaction_step(price: Price, volume: Decimal, amount: Fraction, bound: str) -> Step:
    if not bound:
        return Step(amount, volume, flat=price.fixed, percent=price.percent)
    flat = price.transaction_max if bound == "at most" else price.transaction_min
    return Step(amount, volume, flat=flat or ZERO, label=bound)


def _together(one: Step, two: Step) -> Step:
    return replace(
        one, amount=one.amount + two.amount, quantity=one.quantity + two.quantity, times=one.times + two.times
    )


def packs(price: Price, total: Decimal, included: Decimal) -> int:
    """How many packs somebody pays for who wants `total` units, the included ones among them."""
    return _ceiling(max(ZERO, total - included), price.pack)


def prepaid_units(price: Price, total: Decimal, included: Decimal) -> Decimal:
    """What is granted: the included units and whole packs."""
    return included + packs(price, total, included) * price.pack


def prepaid(price: Price, total: Decimal, included: Decimal) -> Rated:
    """What those packs cost. Who buys none pays nothing, not even a first tier's flat fee."""
    units = packs(price, total, included) * price.pack
    if not units:
        return Rated(Fraction(0), (Step(Fraction(0), rate=first_tier(price), pack=price.pack, per=price.per),))
    return rate(price, units)


def prepaid_amount(price: Price, total: Decimal, included: Decimal) -> Fraction:
    return prepaid(price, total, included).amount


def first_tier(price: Price) -> Decimal:
    """What the first unit (pack, step, transaction) costs: what different plans are compared by."""
    if price.model == STAIRSTEP:
        return price.tiers[0].flat
    if price.model in TIERED:
        return price.tiers[0].unit
    return price.fixed if price.model == PERCENTAGE else price.rate


def differs_cheaper(old: Price, new: Price) -> bool:
    """Whether a price is lower for some quantity or bound, and higher for none.

    Costs are compared wherever one of the two prices bends (at zero, at a pack, on either side of a tier's bound) and
    by what one more unit costs in the end. Two percentages are compared cell by cell.
    """
    pairs = _bounds(old, new)
    if old.model == new.model == PERCENTAGE:
        pairs += [(Fraction(old.percent), Fraction(new.percent)), (Fraction(old.fixed), Fraction(new.fixed))]
    else:
        pairs += [(rate(old, units).amount, rate(new, units).amount) for units in _bends(old, new)]
        pairs.append((_slope(old), _slope(new)))
    return any(after < before for before, after in pairs) and all(after <= before for before, after in pairs)


def _bounds(old: Price, new: Price) -> list[tuple[Fraction | float, Fraction | float]]:
    unset = {"line_min": 0.0, "transaction_min": 0.0, "line_max": inf, "transaction_max": inf}
    return [(_bound(old, name, without), _bound(new, name, without)) for name, without in unset.items()]


def _bound(price: Price, name: str, without: float) -> Fraction | float:
    value = getattr(price, name)
    return without if value is None else Fraction(value)


def _bends(*prices: Price) -> list[Decimal]:
    """Quantities at which one of the prices may turn or jump, each with the next larger quantity."""
    bounds = {tier.up_to for price in prices for tier in price.tiers if tier.up_to is not None}
    points = {ZERO, Decimal(1), *bounds}
    for price in prices:
        for bound in (ZERO, *bounds):
            whole = bound // price.pack * price.pack
            points |= {whole, whole + price.pack, whole + 2 * price.pack}
    return sorted(points | {point + SMALLEST for point in points})


def _slope(price: Price) -> Fraction:
    if price.model == STAIRSTEP:
        return Fraction(0)
    if price.model == PERCENTAGE:
        return Fraction(price.percent) / 100
    last = price.tiers[-1].unit if price.tiers else price.rate
    return Fraction(last) / Fraction(price.pack)


def describe(price: Price, currency: str, unit: str) -> str:
    """For people: `$0.002 / 1,000 tokens`, `from $0.10 / call, 3 tiers`, `2.9 % + $0.30 per transaction`."""
    text = _describe(price, currency, unit)
    if price.line_min is not None:
        text += f", at least {format_rate(price.line_min, currency)} a period"
    if price.line_max is not None:
        text += f", at most {format_rate(price.line_max, currency)} a period"
    return text


def _describe(price: Price, currency: str, unit: str) -> str:
    if price.model == PERCENTAGE:
        return _describe_percentage(price, currency)
    if price.model == STAIRSTEP:
        return f"from {format_rate(price.tiers[0].flat, currency)}, {_counted(price, 'step')}"
    if price.model in TIERED:
        first, kind = price.tiers[0], "volume tier" if price.model == VOLUME else "tier"
        parts = [_each(price, first.unit, currency, unit)] if first.unit or not first.flat else []
        parts += [format_rate(first.flat, currency)] if first.flat else []
        return f"from {' + '.join(parts)}, {_counted(price, kind)}"
    return _each(price, price.rate, currency, unit)


def _each(price: Price, amount: Decimal, currency: str, unit: str) -> str:
    if price.pack != 1:
        begun = "pack of " if price.model == PACKAGE else ""
        return f"{format_rate(amount, currency)} / {begun}{grouped(price.pack)} {_plural(unit)}"
    per = f"{price.per:,} {_plural(unit)}" if price.per != 1 else unit
    return f"{format_rate(amount * price.per, currency)} / {per}"


def tier_lines(price: Price, currency: str, unit: str) -> list[str]:
    """A line for each tier: `up to 10,000: $0.001 / call`, `over 10,000: $0.0008 / call + $5.00`."""
    return [
        f"{tier_words(price, place)}: {_tier(price, tier, currency, unit)}" for place, tier in enumerate(price.tiers)
    ]


def _tier(price: Price, tier: Tier, currency: str, unit: str) -> str:
    flat = format_rate(tier.flat, currency)
    if price.model == STAIRSTEP:
        return flat
    each = _each(price, tier.unit, currency, unit)
    return f"{each} + {flat}" if tier.flat else each


def _describe_percentage(price: Price, currency: str) -> str:
    fixed = f" + {format_rate(price.fixed, currency)}" if price.fixed else ""
    text = f"{plain(price.percent)} %{fixed} per transaction"
    if price.transaction_min is not None:
        text += f", at least {format_rate(price.transaction_min, currency)}"
    if price.transaction_max is not None:
        text += f", at most {format_rate(price.transaction_max, currency)}"
    return text


def _plural(unit: str) -> str:
    return unit if unit.endswith("s") else f"{unit}s"


def _counted(price: Price, what: str) -> str:
    number = len(price.tiers)
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
