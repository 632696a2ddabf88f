"""The items editor: rows that a person types, and the `ItemTerms` they mean.

A form for drafts of plans and for custom plans alike. It keeps what was typed, puts each refusal at its cell, and
marks each cell that differs from a `standard`. Use:

    form = ItemsForm(request.POST or None, plan=plan, items=terms.items, cadence=terms.cadence, standard=terms)
    if form.is_valid(): form.proposal        # a PlanTerms, checked by the catalog
    {% include "parts/items_editor.html" with items=form %}

Add, remove, move and "Back to standard" are buttons. With JavaScript they redraw the editor through its own
address; without, they submit the form, and `form.acted` says that it is only to be shown again.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from django.db.models import Q
from django.http import QueryDict
from django.urls import reverse
from django.utils.text import slugify

from catalog.charges import Price
from catalog.items import InvalidItems, check_items
from catalog.models import KEY, Feature, Plan
from catalog.money import exponent, grouped, plain
from catalog.periods import FEE_CADENCES, NEVER, ONCE, PLAN_CADENCES, RESETS
from catalog.terms import (
    BILLING_PERIOD,
    BOOLEAN,
    CALENDAR,
    HARD,
    METERED,
    SOFT,
    STATIC,
    FeatureTerms,
    ItemTerms,
    PlanTerms,
)

FIELDS = (
    *("key", "feature", "name", "included", "unlimited", "value", "reset", "limit", "max_overage"),
    *("amount", "cadence", "quantity", "price", "per"),
)
# What a field means that a row of its kind does not have.
LEFT_OUT = {"reset": NEVER, "limit": HARD, "quantity": "1", "per": "1"}
CELLS = {
    "name": ("name",),
    "included": ("included", "unlimited", "value"),
    "reset": ("reset",),
    "limit": ("limit", "max_overage"),
    "price": ("amount", "cadence", "quantity", "price", "per"),
}
CELL_OF = {name: cell for cell, names in CELLS.items() for name in names} | {"key": "name", "feature": "name"}
SCALES = (1, 1_000, 1_000_000)
RESET_WORDS = {
    "PT1H": "Hourly",
    "P1D": "Daily",
    "P1W": "Weekly",
    "P1M": "Monthly",
    "P3M": "Quarterly",
    "P6M": "Half-yearly",
    "P1Y": "Yearly",
}
NUMBER = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?", re.ASCII)


class Wrong(ValueError):
    """What was typed into a field cannot be read."""

    def __init__(self, field: str, message: str):
        self.field, self.message = field, message
        super().__init__(message)


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
    feature: FeatureTerms | None = None
    standard: ItemTerms | None = None
    standard_typed: dict[str, str] = field(default_factory=dict)
    compared: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    fixed_price: str = "—"

    @property
    def kind(self) -> str:
        return self.feature.type if self.feature else "fee"

    @property
    def label(self) -> str:
        return self.typed["name"] or (self.feature.name if self.feature else "Base fee")

    @property
    def is_new(self) -> bool:
        return self.compared and self.standard is None

    @property
    def changed(self) -> dict[str, bool]:
        """By cell: whether it says something else than the standard."""
        if not self.standard:
            return {}
        return {cell: any(self.differs(name) for name in names) for cell, names in CELLS.items()}

    def differs(self, name: str) -> bool:
        return alike(self.typed[name]) != alike(self.standard_typed[name])

    @property
    def was(self) -> dict[str, str]:
        """By cell: what the standard says, for people."""
        if not self.standard:
            return {}
        code, _, calendar = self.standard_typed["reset"].partition("/")
        cap = self.standard_typed["max_overage"]
        return {
            "included": self.standard.describe_allowance(),
            "reset": RESET_WORDS.get(code, code).lower() + (", calendar" if calendar else ""),
            "limit": self.standard.limit + (f", up to +{cap}" if cap else ""),
            "price": self.standard.describe_price(self.currency),
        }

    @property
    def is_changed(self) -> bool:
        return any(self.changed.values())

    @property
    def resets(self) -> list[Choice]:
        return [Choice(code, word) for code, word in RESET_WORDS.items()]

    @property
    def calendar_resets(self) -> list[Choice]:
        return [Choice(f"{code}/{CALENDAR}", f"{word}, calendar") for code, word in RESET_WORDS.items()]

    @property
    def scales(self) -> list[Choice]:
        own = int(self.typed["per"]) if self.typed["per"].isdecimal() else 1
        unit = (self.feature.unit if self.feature else "") or "unit"
        return [Choice(str(n), f"/ {unit}" if n == 1 else f"/ {n:,}") for n in sorted({*SCALES, own})]

    def wrong(self, name: str, message: str) -> None:
        cell = CELL_OF.get(name, "name")
        self.errors[cell] = f"{self.errors[cell]} {message}" if cell in self.errors else message


class ItemsForm:
    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        plan: Plan,
        items: Iterable[ItemTerms] = (),
        cadence: str = "P1M",
        standard: PlanTerms | None = None,
        prefix: str = "items",
    ):
        self.plan, self.standard, self.prefix = plan, standard, prefix
        self.present = tuple(items)
        self.is_bound = data is not None and f"{prefix}-shown" in data
        self.cadence = cadence
        self.items: list[ItemTerms] = []
        self.error = ""
        self.stored = digest_of(self.present, cadence, plan.currency)
        self.seen = self.stored
        self.acted = False
        self.moved = False  # what the editor started from was changed by somebody else meanwhile
        data = data if data is not None and self.is_bound else QueryDict()
        self._features = features_for(plan, self._slugs(data))
        if self.is_bound:
            self.cadence = data.get(f"{prefix}-cadence", cadence)
            self.rows = [self._typed_row(row_id, data) for row_id in data.getlist(f"{prefix}-row")]
            self.moved = data.get(f"{prefix}-seen", self.stored) != self.stored
            if act := data.get(f"{prefix}-act", ""):
                self.acted = True
                self.seen = data.get(f"{prefix}-seen", self.stored)
                self._do(act)
        else:
            self.rows = [self._row(f"r{n}", item) for n, item in enumerate(self.present)]

    # What the template asks -----------------------------------------------------------------------------------------

    @property
    def currency(self) -> str:
        return self.plan.currency

    @property
    def editor_url(self) -> str:
        """Where the editor redraws itself; the standard it is compared with goes along."""
        url = reverse("admin:catalog_plan_items", args=[self.plan.pk])
        standard = self.standard.version_id if self.standard else ""
        return f"{url}?prefix={self.prefix}&standard={standard or ''}"

    @property
    def is_priced(self) -> bool:
        """Assigned plans are never invoiced, so they have neither fees nor prices."""
        return self.plan.kind != Plan.Kind.ASSIGNED

    @property
    def prices_fixed(self) -> bool:
        return self.plan.is_read_only

    @property
    def cadences(self) -> list[Choice]:
        return [Choice(code, word) for code, word in PLAN_CADENCES.items()]

    @property
    def fee_cadences(self) -> list[Choice]:
        words = {"P1M": "/ month", "P3M": "/ quarter", "P1Y": "/ year", ONCE: "once"}
        return [Choice(code, words[code]) for code in FEE_CADENCES]

    @property
    def addable(self) -> list[FeatureTerms]:
        used = {row.feature.slug for row in self.rows if row.feature}
        return [f.terms() for f in self._features.values() if f.archived_at is None and f.slug not in used]

    @property
    def gone(self) -> list[Gone]:
        """Items of the standard that are not on this plan."""
        kept = {row.typed["key"] for row in self.rows}
        return [
            Gone(i.key, i.label, i.describe_price(self.currency) if i.is_fee else i.describe_allowance())
            for i in self._standard_items()
            if i.key not in kept
        ]

    @property
    def differs(self) -> bool:
        return bool(self.standard) and (
            bool(self.gone) or any(row.is_new or row.is_changed for row in self.rows) or self.cadence_differs
        )

    @property
    def cadence_differs(self) -> bool:
        return bool(self.standard and self.cadence != self.standard.cadence)

    @property
    def has_errors(self) -> bool:
        return bool(self.error) or any(row.errors for row in self.rows)

    # Reading --------------------------------------------------------------------------------------------------------

    def is_valid(self) -> bool:
        """Read the rows and let the catalog check them; every wrong cell then says what is wrong."""
        if not self.is_bound or self.acted:
            return False
        if self.cadence not in PLAN_CADENCES:
            self.error = f"{self.cadence!r} is not a cadence of a plan. Allowed: {', '.join(PLAN_CADENCES)}."
            return False
        read: list[tuple[Row, ItemTerms]] = []
        keys = {row.typed["key"] for row in self.rows if row.typed["key"]}
        for row in self.rows:
            if item := self._read(row, keys):
                read.append((row, item))
        self.items = [item for _row, item in read]
        try:
            check_items(self.plan, self.cadence, self.items)
        except InvalidItems as refused:
            for found in refused.errors:
                read[found.index][0].wrong(found.field, found.message)
        return not self.has_errors

    @property
    def proposal(self) -> PlanTerms:
        """The rate card that was typed, after `is_valid()`."""
        return PlanTerms(
            plan_id=self.plan.pk,
            currency=self.plan.currency,
            cadence=self.cadence,
            items=tuple(self.items),
            kind=self.plan.kind,
            plan_name=self.plan.invoice_display_name,
        )

    def refuse(self, refused: InvalidItems) -> None:
        """Put what a verb refused later (the catalog may have moved) at its cells."""
        for found in refused.errors:
            if found.index < len(self.rows):
                self.rows[found.index].wrong(found.field, found.message)

    def _read(self, row: Row, keys: set[str]) -> ItemTerms | None:
        if row.typed["feature"] and row.feature is None:
            row.wrong("feature", f"There is no feature {row.typed['feature']!r}.")
            return None
        key = row.typed["key"]
        if not key:
            key = free_key(row, keys)
            keys.add(key)
            row.typed["key"] = key
        elif not re.fullmatch(KEY.regex, key) or len(key) > 60:
            row.wrong("key", "This line's key cannot be used. Remove the line and add it again.")
            return None
        try:
            return self._fixed(replace(read_fee(row) if row.feature is None else read_allowance(row), key=key))
        except Wrong as wrong:
            row.wrong(wrong.field, wrong.message)
            return None

    def _fixed(self, item: ItemTerms) -> ItemTerms:
        """Prices of a mirrored plan are Stripe's: whatever came with the form, they stay as they are."""
        if not self.prices_fixed:
            return item
        own = next((i for i in self.present if i.key == item.key), None)
        if item.is_fee:
            if own is None:
                raise Wrong("amount", "Fees of this plan are set in Stripe.")
            return own
        return replace(item, price=own.price if own else None)

    # Rows -----------------------------------------------------------------------------------------------------------

    def _slugs(self, data: QueryDict) -> set[str]:
        slugs = {data.get(f"{self.prefix}-{row}-feature", "") for row in data.getlist(f"{self.prefix}-row")}
        return slugs | {i.feature.slug for i in (*self.present, *self._standard_items()) if i.feature}

    def _standard_items(self) -> tuple[ItemTerms, ...]:
        return self.standard.items if self.standard else ()

    def _typed_row(self, row_id: str, data: QueryDict) -> Row:
        typed = {name: data.get(f"{self.prefix}-{row_id}-{name}", LEFT_OUT.get(name, "")).strip() for name in FIELDS}
        return self._compared(row_id, typed)

    def _row(self, row_id: str, item: ItemTerms) -> Row:
        return self._compared(row_id, typed_of(item, self.currency))

    def _compared(self, row_id: str, typed: dict[str, str]) -> Row:
        feature = self._features.get(typed["feature"])
        standard = self.standard.item(typed["key"]) if self.standard and typed["key"] else None
        return Row(
            id=row_id,
            typed=typed,
            currency=self.currency,
            feature=feature.terms() if feature else None,
            standard=standard,
            standard_typed=typed_of(standard, self.currency) if standard else {},
            compared=self.standard is not None,
            fixed_price=self._fixed_price(typed["key"]),
        )

    def _fixed_price(self, key: str) -> str:
        own = next((item for item in self.present if item.key == key), None) if self.prices_fixed else None
        return own.describe_price(self.currency) if own else "—"

    def _fresh_id(self) -> str:
        taken = {row.id for row in self.rows}
        return next(name for n in range(len(self.rows) + 1_000) if (name := f"r{n}") not in taken)

    # Buttons --------------------------------------------------------------------------------------------------------

    def _do(self, act: str) -> None:
        verb, _, what = act.partition(":")
        at = next((n for n, row in enumerate(self.rows) if row.id == what), None)
        if verb == "add":
            self._add(what)
        elif verb == "restore":
            self._put_back(what)
        elif verb == "standard":
            self._back_to_standard()
        elif at is None:
            return
        elif verb == "remove":
            del self.rows[at]
        elif verb == "reset":
            self._reset(at)
        elif verb in ("up", "down"):
            to = max(0, min(len(self.rows) - 1, at + (1 if verb == "down" else -1)))
            self.rows.insert(to, self.rows.pop(at))

    def _add(self, slug: str) -> None:
        standard = self.standard.for_feature(slug) if self.standard and slug else None
        feature = self._features.get(slug)
        if standard:
            row = self._row(self._fresh_id(), standard)
        elif feature:
            row = self._row(self._fresh_id(), new_item(feature.terms(), self.cadence))
        elif not slug and self.is_priced and not self.prices_fixed:
            row = self._row(self._fresh_id(), ItemTerms(key="", cadence=self.cadence))
        else:
            return
        row.fresh = True
        self.rows.append(row)

    def _put_back(self, key: str) -> None:
        item = self.standard.item(key) if self.standard else None
        if item and key not in {row.typed["key"] for row in self.rows}:
            self.rows.append(self._row(self._fresh_id(), item))

    def _back_to_standard(self) -> None:
        if self.standard:
            self.cadence = self.standard.cadence
            self.rows = [self._row(f"r{n}", item) for n, item in enumerate(self.standard.items)]

    def _reset(self, at: int) -> None:
        if standard := self.rows[at].standard:
            self.rows[at] = self._row(self.rows[at].id, standard)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def features_for(plan: Plan, slugs: set[str]) -> dict[str, Feature]:
    """What may stand on the plan, and what stands there even if it may no longer."""
    offered = Q(archived_at=None) & (Q(product=None) | Q(product=plan.product_id))
    return {f.slug: f for f in Feature.objects.filter(offered | Q(slug__in=slugs - {""})).order_by("name")}


def new_item(feature: FeatureTerms, cadence: str) -> ItemTerms:
    """Where a new line starts: used-up features reset with the plan, levels never do."""
    resets = feature.type == METERED and not feature.is_allocated
    return ItemTerms(key=feature.slug, feature=feature, reset=cadence if resets else NEVER)


def free_key(row: Row, taken: set[str]) -> str:
    base = row.feature.slug if row.feature else slugify(row.typed["name"])[:50] or "base-fee"
    return base if base not in taken else next(k for n in range(2, 10_000) if (k := f"{base}-{n}") not in taken)


def digest_of(items: Iterable[ItemTerms], cadence: str, currency: str) -> str:
    """Changes when the stored items change, so that nobody writes over what they have not seen."""
    text = repr([cadence, *(sorted(typed_of(item, currency).items()) for item in items)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Items as text, text as items -----------------------------------------------------------------------------------------


def typed_of(item: ItemTerms, currency: str) -> dict[str, str]:
    """An item as the editor's fields show it."""
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
        "price": "" if item.price is None else major(item.price.rate * item.price.per, currency),
        "per": str(item.price.per if item.price else 1),
    }


def major(amount: Decimal, currency: str) -> str:
    """`50.00`, `0.002`: at least the currency's own decimals."""
    whole, _, rest = grouped(amount).partition(".")
    rest = rest.ljust(exponent(currency), "0")
    return f"{whole}.{rest}" if rest else whole


def alike(text: str) -> str:
    """Two spellings of one number are the same."""
    try:
        number = to_number(text)
    except ValueError:
        return text
    return text if number is None else plain(number)


def to_number(text: str) -> Decimal | None:
    """`10,000` or `−5.5` or `$50`; a comma only separates thousands. Nothing typed is None."""
    bare = text.replace("−", "-").replace(" ", "").lstrip("$€£¥")
    if not bare:
        return None
    if not NUMBER.fullmatch(bare) or not any(c.isdigit() for c in bare):
        raise ValueError(text)
    return Decimal(bare.replace(",", ""))


def number(row: Row, name: str, *, decimals: int, digits: int = 12) -> Decimal | None:
    try:
        value = to_number(row.typed[name])
    except ValueError:
        raise Wrong(name, f"“{row.typed[name]}” is not a number. Write it like 1,000 or 0.25.") from None
    if value is None:
        return None
    if abs(value) >= 10**digits:
        raise Wrong(name, "This number is too large.")
    if -int(value.normalize().as_tuple().exponent) > decimals:
        raise Wrong(name, f"At most {decimals} decimals.")
    return value


def read_fee(row: Row) -> ItemTerms:
    quantity = row.typed["quantity"].replace(",", "") or "1"
    if not re.fullmatch(r"[0-9]{1,9}", quantity):
        raise Wrong("quantity", "The quantity is a whole number of 1 or more.")
    return ItemTerms(
        key="",
        name=named(row),
        amount=number(row, "amount", decimals=12),
        cadence=row.typed["cadence"],
        quantity=int(quantity),
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
    return replace(
        item,
        included=None if unlimited else number(row, "included", decimals=6),
        unlimited=unlimited,
        reset=reset,
        reset_anchor=CALENDAR if anchor else BILLING_PERIOD,
        limit=row.typed["limit"],
        max_overage=number(row, "max_overage", decimals=6) if soft else None,
        price=read_price(row),
    )


def read_price(row: Row) -> Price | None:
    """A price is typed per 1, 1,000 or 1,000,000 units, and kept per unit, exactly."""
    per = row.typed["per"] or "1"
    if not re.fullmatch(r"[0-9]{1,9}", per) or int(per) < 1:
        raise Wrong("per", "A price is per 1, 1,000 or 1,000,000 units.")
    typed = number(row, "price", decimals=12)
    return None if typed is None else Price(rate=typed / int(per), per=int(per))


def named(row: Row) -> str:
    if len(row.typed["name"]) > 120:
        raise Wrong("name", "At most 120 characters.")
    return row.typed["name"]


def items_shown(plan: Plan) -> tuple[tuple[ItemTerms, ...], str]:
    """What an editor of this plan starts from: its draft, else its current version; and the cadence."""
    version = plan.versions.filter(state="draft", tailored=False).first() or plan.current_version
    if version is None:
        return (), "P1M"
    terms = version.terms()
    return terms.items, terms.cadence


def bound_to(data: Mapping[str, str] | QueryDict, prefix: str = "items") -> bool:
    """Whether a request carries an items editor at all."""
    return f"{prefix}-shown" in data
