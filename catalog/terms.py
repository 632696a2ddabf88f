"""Terms: what a plan version promises and costs, as values; and what kind of change lies between two of them.

Terms are built from a version's items (which are frozen once published, so they may be kept for ever) or from a form
that describes a custom plan that does not exist yet. Everything here is pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from catalog.charges import (
    Price,
    describe,
    differs_cheaper,
    first_tier,
    prepaid_amount,
    prepaid_units,
    rate,
    tier_lines,
)
from catalog.money import format_rate, grouped, plain
from catalog.periods import NEVER, ONCE, Cadence, every
from catalog.rollovers import Rollover

BOOLEAN, METERED, STATIC = "boolean", "metered", "static"
CONSUMABLE, ALLOCATED = "consumable", "allocated"
HARD, SOFT = "hard", "soft"
BILLING_PERIOD, CALENDAR = "billing_period", "calendar"
IN_ADVANCE, IN_ARREARS, INSTANT = "in_advance", "in_arrears", "instant"
# What a change of a level or of a prepaid quantity costs at once.
PRORATE, IN_FULL, NEXT_CYCLE = "prorate", "full", "next_cycle"
CHARGE, CANCEL = "charge", "cancel"


@dataclass(frozen=True, slots=True)
class FeatureTerms:
    """What code asks for. `usage` only matters for metered features."""

    slug: str
    name: str
    type: str
    usage: str = CONSUMABLE
    unit: str = ""
    id: int | None = field(default=None, compare=False)
    # Not part of what a plan promises, and read anew by whoever counts: it may change under a published version.
    meter_id: int | None = field(default=None, compare=False)

    @property
    def is_allocated(self) -> bool:
        return self.type == METERED and self.usage == ALLOCATED


@dataclass(frozen=True, slots=True)
class ItemTerms:
    """One line of a plan: a fee (`feature` is None), an allowance, or an allowance with a price.

    `amount` is a fee per unit and `cadence` in major units. `price` says what units beyond `included` cost (`None`
    together with `unlimited=False`: nothing is included). When it is asked for is the `term`: use is billed in arrears
    unless it is bought in advance (prepaid) or taken from the wallet at once (instant); a priced level (seats) is
    always billed in advance. A `cadence` on a priced allowance bills it more often than the plan. `value` is a static
    feature's number or text. `bought` is what one customer has: prepaid units including the included ones, or their
    level; None on a rate card.
    """

    key: str
    name: str = ""
    feature: FeatureTerms | None = None
    amount: Decimal | None = None
    cadence: str = ""
    quantity: int = 1
    included: Decimal | None = None
    unlimited: bool = False
    reset: str = NEVER
    reset_anchor: str = BILLING_PERIOD
    limit: str = HARD
    max_overage: Decimal | None = None
    price: Price | None = None
    term: str = ""
    on_increase: str = PRORATE
    on_decrease: str = PRORATE
    value: str = ""
    rollover: Rollover | None = None
    keeps_overage: bool = False
    bought: Decimal | None = None
    id: int | None = field(default=None, compare=False)

    @property
    def row(self) -> int:
        """The id of the item's row; a proposal has none yet."""
        assert self.id is not None, "only an item that was written has a row"
        return self.id

    @property
    def feature_row(self) -> int:
        assert self.feature is not None and self.feature.id is not None, "only a feature's item has a feature"
        return self.feature.id

    @property
    def is_fee(self) -> bool:
        return self.feature is None

    @property
    def is_metered(self) -> bool:
        return self.feature is not None and self.feature.type == METERED

    @property
    def is_recurring_fee(self) -> bool:
        return self.is_fee and self.cadence != ONCE

    @property
    def is_seats(self) -> bool:
        """A level of which every unit in use beyond the included ones is paid in advance."""
        allocated = self.feature is not None and self.feature.is_allocated
        return allocated and self.price is not None and self.term != IN_ADVANCE

    @property
    def is_prepaid(self) -> bool:
        """Units that the customer chooses and pays in advance."""
        return self.price is not None and self.term == IN_ADVANCE

    @property
    def is_instant(self) -> bool:
        """Use that the customer's wallet pays event by event."""
        return self.price is not None and self.term == INSTANT

    @property
    def usual_term(self) -> str:
        """When an item of this kind is asked for unless it says so: fees and levels in advance, use in arrears."""
        return IN_ADVANCE if self.feature is None or self.feature.is_allocated else IN_ARREARS

    @property
    def is_usage(self) -> bool:
        """Use that is billed after its window has ended."""
        return self.price is not None and not (self.is_prepaid or self.is_seats or self.is_instant)

    @property
    def in_advance(self) -> bool:
        """Whether its amount is asked for when a period begins (a one-time amount: when the plan does)."""
        return self.is_prepaid or self.is_seats or (self.is_fee and self.term != IN_ARREARS)

    @property
    def granted(self) -> Decimal | None:
        """Units of one window, bought packs included; None without a limit."""
        if self.unlimited:
            return None
        included = self.included or Decimal(0)
        if self.is_prepaid and self.price is not None and self.bought is not None:
            return prepaid_units(self.price, self.bought, included)
        return included

    @property
    def advance(self) -> Fraction:
        """What one whole interval costs in advance, in major units: a fee, bought packs, paid seats."""
        if self.is_fee:
            return self.fee
        included, bought = self.included or Decimal(0), self.bought
        if self.price is None or bought is None or not (self.is_prepaid or self.is_seats):
            return Fraction(0)
        if self.is_prepaid:
            return prepaid_amount(self.price, bought, included) * self.quantity
        return rate(self.price, max(Decimal(0), bought - included * self.quantity)).amount

    def interval(self, plan_cadence: str) -> str:
        """How often the item is billed."""
        return self.cadence or plan_cadence

    @property
    def fee(self) -> Fraction:
        """The whole fee of one cadence, in major units."""
        return Fraction(self.amount or 0) * self.quantity

    @property
    def is_free(self) -> bool:
        return not self.amount and not self.price

    @property
    def label(self) -> str:
        return self.name or (self.feature.name if self.feature else "Base fee")

    def access(self) -> tuple:
        """Everything about the item that is not money: equal when only prices differ."""
        return (
            self.feature and self.feature.slug,
            self.granted,
            self.reset,
            self.reset_anchor,
            self.limit,
            self.max_overage,
            self.value,
            self.rollover,
            self.keeps_overage,
        )

    def describe_allowance(self) -> str:
        if self.is_fee:
            return "—"
        assert self.feature is not None
        if self.feature.type == BOOLEAN:
            return "on"
        if self.unlimited:
            return "unlimited"
        if self.feature.type == STATIC:
            return self.value
        return grouped(self.granted or 0)

    def describe_price(self, currency: str) -> str:
        if self.is_fee:
            text = format_rate(self.amount or Decimal(0), currency)
            times = f"{self.quantity} × " if self.quantity != 1 else ""
            return f"{times}{text} once" if self.cadence == ONCE else f"{times}{text} / {every(self.cadence)}"
        if self.price is None:
            return "—"
        return describe(self.price, currency, self.unit)

    def describe_tiers(self, currency: str) -> list[str]:
        return [] if self.price is None else tier_lines(self.price, currency, self.unit)

    @property
    def unit(self) -> str:
        return (self.feature.unit if self.feature else "") or "unit"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a version says beside its items and cadence. `commitment` is what a period costs at least, in major units;
    `trial_end` is what happens after the free days: the first period is billed, or the subscription ends."""

    trial_days: int = 0
    trial_end: str = CHARGE
    commitment: Decimal | None = None

    def describe(self, currency: str) -> list[str]:
        """For people: `14 days free, then billed`, `at least $500.00 a period`."""
        found = []
        if self.trial_days:
            days = "1 day" if self.trial_days == 1 else f"{self.trial_days} days"
            found.append(f"{days} free, then {'billed' if self.trial_end == CHARGE else 'ended'}")
        if self.commitment:
            found.append(f"at least {format_rate(self.commitment, currency)} a period")
        return found


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """A rate card as a value. `version_id` is None while it is only a proposal."""

    plan_id: int
    currency: str
    cadence: str
    items: tuple[ItemTerms, ...]
    kind: str = "billed"
    billing_version: int = 1
    trial_days: int = 0
    trial_end: str = CHARGE
    commitment: Decimal | None = None
    plan_name: str = field(default="", compare=False)
    version_id: int | None = field(default=None, compare=False)

    @property
    def version(self) -> int:
        """The id of the version's row; a proposal has none yet."""
        assert self.version_id is not None, "only a version that was written has a row"
        return self.version_id

    @property
    def conditions(self) -> Conditions:
        return Conditions(self.trial_days, self.trial_end, self.commitment)

    def under(self, conditions: Conditions) -> "PlanTerms":
        return replace(
            self,
            trial_days=conditions.trial_days,
            trial_end=conditions.trial_end,
            commitment=conditions.commitment,
        )

    def item(self, key: str) -> ItemTerms | None:
        return next((item for item in self.items if item.key == key), None)

    def for_feature(self, slug: str) -> ItemTerms | None:
        return next((i for i in self.items if i.feature is not None and i.feature.slug == slug), None)

    @property
    def fees(self) -> list[ItemTerms]:
        return [item for item in self.items if item.is_fee]

    @property
    def recurring_fees(self) -> list[ItemTerms]:
        return [item for item in self.fees if item.is_recurring_fee]

    @property
    def advance_items(self) -> list[ItemTerms]:
        """What is paid when a period begins: recurring fees, prepaid units, seats."""
        return [item for item in self.items if item.in_advance and item.interval(self.cadence) != ONCE]

    @property
    def arrears_fees(self) -> list[ItemTerms]:
        return [item for item in self.recurring_fees if not item.in_advance]

    @property
    def once_items(self) -> list[ItemTerms]:
        """What is paid once: set-up fees, and prepaid units that last."""
        return [item for item in self.items if item.interval(self.cadence) == ONCE]

    @property
    def usage_items(self) -> list[ItemTerms]:
        return [item for item in self.items if item.is_usage]

    @property
    def metered(self) -> list[ItemTerms]:
        return [item for item in self.items if item.is_metered]

    @property
    def is_free(self) -> bool:
        return all(item.is_free for item in self.items) and not self.commitment

    @property
    def is_one_off(self) -> bool:
        """Only `P0D` amounts: it never renews and its balances last."""
        used = self.usage_items or any(item.is_instant for item in self.items)
        recurring = self.recurring_fees or used or self.advance_items or self.commitment
        return bool(self.once_items) and not recurring

    @property
    def is_invoiced(self) -> bool:
        return self.kind == "billed"

    @property
    def tick(self) -> str:
        """The shortest interval at which something of these terms is billed. Plan cadences divide each other."""
        intervals = [self.cadence, *(item.cadence for item in self.recurring_fees)]
        intervals += [self.interval_of(item) for item in (*self.usage_items, *self.advance_items)]
        return min(intervals, key=lambda code: Cadence.parse(code).months)

    def interval_of(self, item: ItemTerms) -> str:
        """How often an item is billed."""
        return item.interval(self.cadence)

    @property
    def longest_price_interval(self) -> int:
        """Months of the longest interval that carries an amount; 0 for a free plan."""
        months = [Cadence.parse(i.cadence).months for i in self.recurring_fees if i.amount]
        priced = [i for i in self.items if i.price and self.interval_of(i) != ONCE]
        return max(months + [Cadence.parse(self.interval_of(i)).months for i in priced], default=0)

    def monthly(self, *, listed: bool = False) -> Fraction:
        """In-advance amounts, normalised to a month: what "dearer" and "cheaper" are decided on.

        `listed` takes the first tier of what is prepaid instead of what this customer bought, and no seats: so are
        different plans compared.
        """
        total = Fraction(0)
        for item in self.recurring_fees if listed else [*self.advance_items, *self.arrears_fees]:
            total += item.advance * Cadence.parse(self.interval_of(item)).monthly_factor()
        if listed:
            for item in self.advance_items:
                if item.is_prepaid and item.price is not None:
                    total += Fraction(first_tier(item.price)) * Cadence.parse(self.interval_of(item)).monthly_factor()
        return total

    def sold(self, quantity: int = 1, bought: Mapping[str, Decimal] | None = None) -> "PlanTerms":
        """The rate card as one customer has it: fees for the quantity, units and levels by item key.

        Prepaid units that nobody chose are the included ones, so that none are paid.
        """
        found = bought or {}
        if quantity == 1 and not any(item.is_prepaid or item.is_seats for item in self.items):
            return self
        items = []
        for item in self.items:
            if item.is_prepaid or item.is_seats:
                least = Decimal(0) if item.is_seats else (item.included or Decimal(0))
                item = replace(item, bought=max(found.get(item.key, least), least))
            multiplied = item.is_fee or item.is_prepaid or item.is_seats
            items.append(replace(item, quantity=item.quantity * quantity) if multiplied else item)
        return replace(self, items=tuple(items))

    def content(self) -> tuple:
        """What makes two rate cards the same: cadence and the items by key, whatever their order or names."""
        items = frozenset(replace(item, name="") for item in self.items)
        return self.cadence, self.trial_days, self.trial_end, self.commitment, items

    def with_items(self, items: Iterable[ItemTerms]) -> "PlanTerms":
        return replace(self, items=tuple(items), version_id=None)


class ChangeKind(StrEnum):
    NOTHING = "nothing"
    FIRST = "first"
    ADD_ON = "add_on"
    FEATURES = "features"
    UP = "up"
    DOWN = "down"


def compare(old: PlanTerms, new: PlanTerms) -> ChangeKind:
    """What kind of change it is to go from one to the other: the first rule that applies decides."""
    same_plan = old.plan_id == new.plan_id
    if same_plan and old.content() == new.content():
        return ChangeKind.NOTHING
    if same_plan and _same_money(old, new):
        return ChangeKind.FEATURES
    if old.is_free != new.is_free:
        return ChangeKind.UP if old.is_free else ChangeKind.DOWN
    if old.is_one_off or new.is_one_off:
        return ChangeKind.UP
    if not same_plan and _only_usage(old) and _only_usage(new):
        return ChangeKind.UP
    if new.longest_price_interval > old.longest_price_interval:
        return ChangeKind.UP
    before, after = old.monthly(listed=not same_plan), new.monthly(listed=not same_plan)
    if after != before:
        return ChangeKind.UP if after > before else ChangeKind.DOWN
    if same_plan and _usage_only_cheaper(old, new):
        return ChangeKind.DOWN
    return ChangeKind.UP


def _same_money(old: PlanTerms, new: PlanTerms) -> bool:
    same = _advances(old) == _advances(new) and old.cadence == new.cadence and old.commitment == new.commitment
    return same and _rates(old) == _rates(new)


def _advances(terms: PlanTerms) -> set[tuple]:
    """Every amount that is asked for whatever is used; what units cost that nobody bought counts too."""
    return {(i.key, i.advance, terms.interval_of(i), i.term) for i in terms.items if i.advance}


def _rates(terms: PlanTerms) -> dict[str, Price]:
    return {i.feature.slug: i.price for i in terms.items if i.feature and i.price is not None and not i.is_prepaid}


def _only_usage(terms: PlanTerms) -> bool:
    return not terms.monthly()


def _usage_only_cheaper(old: PlanTerms, new: PlanTerms) -> bool:
    """A usage rate is lower and none is higher. A feature that is no longer priced counts as lower."""
    before, after = _rates(old), _rates(new)
    free = Price()
    pairs = [(before.get(slug, free), after.get(slug, free)) for slug in before | after]
    changed = [(b, a) for b, a in pairs if b != a]
    return bool(changed) and all(differs_cheaper(b, a) for b, a in changed)


@dataclass(frozen=True, slots=True)
class ItemDifference:
    """One line of "what differs": `before` or `after` is None for an item that was added or removed."""

    key: str
    before: ItemTerms | None
    after: ItemTerms | None
    fields: tuple[str, ...]

    @property
    def sign(self) -> str:
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    @property
    def label(self) -> str:
        item = self.after or self.before
        assert item is not None
        return item.label

    def sentence(self, currency: str) -> str:
        """For people: `Credits: 100 → 250`, `SSO: added`."""
        if self.before is None or self.after is None:
            item = self.after or self.before
            assert item is not None
            what = item.describe_price(currency) if item.is_fee else item.describe_allowance()
            return f"{self.label}: {self.sign} ({what})"
        parts = [_change(self.before, self.after, name, currency) for name in self.fields]
        return f"{self.label}: {', '.join(parts)}"


def _change(before: ItemTerms, after: ItemTerms, name: str, currency: str) -> str:
    was, becomes = _words(before, name, currency), _words(after, name, currency)
    if name == "price" and was == becomes:
        was, becomes = (_in_full(item, currency) for item in (before, after))
    return f"{was} → {becomes}"


def _in_full(item: ItemTerms, currency: str) -> str:
    """What tells two prices apart that are described in the same few words."""
    return "; ".join([item.describe_price(currency), *item.describe_tiers(currency)])


_SHOWN = (
    "amount",
    "quantity",
    "cadence",
    "granted",
    "value",
    "reset",
    "reset_anchor",
    "limit",
    "max_overage",
    "rollover",
    "keeps_overage",
    "price",
    "term",
    "on_increase",
    "on_decrease",
)


def _words(item: ItemTerms, name: str, currency: str) -> str:
    if name == "amount" or name == "price":
        return item.describe_price(currency)
    if name == "granted":
        return item.describe_allowance()
    if name == "term":
        return (item.term or item.usual_term).replace("_", " ")
    if name in ("cadence", "reset"):
        return every(getattr(item, name))
    value = getattr(item, name)
    if name == "rollover":
        return "no rollover" if value is None else value.describe()
    if name == "keeps_overage":
        return "overage kept" if value else "overage forgiven"
    if value is None:
        return "no cap"
    return plain(value) if isinstance(value, Decimal) else str(value).replace("_", " ")


def differences(old: PlanTerms, new: PlanTerms) -> list[ItemDifference]:
    """What differs between two rate cards, in the order of the new one, removals last."""
    keys = [i.key for i in new.items] + [i.key for i in old.items if new.item(i.key) is None]
    found = []
    for key in keys:
        before, after = old.item(key), new.item(key)
        fields: tuple[str, ...] = ()
        if before and after:
            fields = tuple(n for n in _SHOWN if getattr(before, n) != getattr(after, n))
            if not fields:
                continue
        found.append(ItemDifference(key, before, after, fields))
    return found
