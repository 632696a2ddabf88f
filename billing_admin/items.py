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
from dataclasses import replace
from itertools import zip_longest

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import QueryDict
from django.urls import reverse
from django.utils.text import slugify

from billing_admin.item_prices import (
    TypedTier,
    typed_tiers,
)
from billing_admin.item_rows import FIELDS, LEFT_OUT, MOST_TIERS, Choice, Gone, Row, read_allowance, read_fee, typed_of
from billing_admin.typed import Wrong, alike, major, number
from catalog.items import InvalidItems, check_conditions, check_items
from catalog.models import KEY, Feature, Plan
from catalog.periods import FEE_CADENCES, NEVER, ONCE, PLAN_CADENCES
from catalog.terms import (
    CANCEL,
    CHARGE,
    METERED,
    Conditions,
    FeatureTerms,
    ItemTerms,
    PlanTerms,
)


class ItemsForm:
    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        plan: Plan,
        items: Iterable[ItemTerms] = (),
        cadence: str = "P1M",
        conditions: Conditions | None = None,
        standard: PlanTerms | None = None,
        prefix: str = "items",
    ):
        self.plan, self.standard, self.prefix = plan, standard, prefix
        self.present = tuple(items)
        self.is_bound = data is not None and f"{prefix}-shown" in data
        self.cadence = cadence
        self.conditions = conditions or Conditions()
        self.typed = typed_conditions(self.conditions, plan.currency)
        self.items: list[ItemTerms] = []
        self.error = ""
        self.errors: dict[str, str] = {}  # of trial and commitment
        self.stored = digest_of(self.present, cadence, self.conditions, plan.currency)
        self.seen = self.stored
        self.acted = False
        self.moved = False  # what the editor started from was changed by somebody else meanwhile
        data = data if data is not None and self.is_bound else QueryDict()
        self._features = features_for(plan, self._slugs(data))
        if self.is_bound:
            self.cadence = data.get(f"{prefix}-cadence", cadence)
            self.typed = {name: data.get(f"{prefix}-{name}", was).strip() for name, was in self.typed.items()}
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
    def example_url(self) -> str:
        """Where a row's price is tried on a quantity."""
        return f"{reverse('admin:catalog_plan_example', args=[self.plan.pk])}?prefix={self.prefix}"

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
            bool(self.gone)
            or any(row.is_new or row.is_changed for row in self.rows)
            or self.cadence_differs
            or any(alike(text) != alike(self.standard_typed[name]) for name, text in self.typed.items())
        )

    @property
    def standard_typed(self) -> dict[str, str]:
        return typed_conditions(self.standard.conditions if self.standard else Conditions(), self.currency)

    @property
    def trial_ends(self) -> list[Choice]:
        return [Choice(CHARGE, "then the first period is billed"), Choice(CANCEL, "then it ends by itself")]

    @property
    def cadence_differs(self) -> bool:
        return bool(self.standard and self.cadence != self.standard.cadence)

    @property
    def has_errors(self) -> bool:
        return bool(self.error or self.errors) or any(row.errors for row in self.rows)

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
        self._read_conditions()
        try:
            check_items(self.plan, self.cadence, self.items)
        except InvalidItems as refused:
            for found in refused.errors:
                read[found.index][0].refused(found.field, found.message)
        return not self.has_errors

    def _read_conditions(self) -> None:
        try:
            self.conditions = read_conditions(self.typed)
            check_conditions(self.plan, self.conditions)
        except Wrong as wrong:
            self.errors[wrong.field] = wrong.message
        except ValidationError as refused:
            self.errors |= {name: " ".join(sentences) for name, sentences in refused.message_dict.items()}

    @property
    def proposal(self) -> PlanTerms:
        """The rate card that was typed, after `is_valid()`."""
        return PlanTerms(
            plan_id=self.plan.pk,
            currency=self.plan.currency,
            cadence=self.cadence,
            items=tuple(self.items),
            kind=self.plan.kind,
            billing_version=self.plan.billing_version,
            plan_name=self.plan.invoice_display_name,
        ).under(self.conditions)

    def refuse(self, refused: InvalidItems) -> None:
        """Put what a verb refused later (the catalog may have moved) at its cells."""
        for found in refused.errors:
            if found.index < len(self.rows):
                self.rows[found.index].refused(found.field, found.message)

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
        if own is None:
            return replace(item, price=None, term="", cadence="")
        return replace(item, price=own.price, term=own.term, cadence=own.cadence)

    # Rows -----------------------------------------------------------------------------------------------------------

    def _slugs(self, data: QueryDict) -> set[str]:
        slugs = {data.get(f"{self.prefix}-{row}-feature", "") for row in data.getlist(f"{self.prefix}-row")}
        return slugs | {i.feature.slug for i in (*self.present, *self._standard_items()) if i.feature}

    def _standard_items(self) -> tuple[ItemTerms, ...]:
        return self.standard.items if self.standard else ()

    def _typed_row(self, row_id: str, data: QueryDict) -> Row:
        own = f"{self.prefix}-{row_id}"
        typed = {name: data.get(f"{own}-{name}", LEFT_OUT.get(name, "")).strip() for name in FIELDS}
        columns = [data.getlist(f"{own}-{name}") for name in ("up_to", "unit", "flat")]
        lines = zip_longest(*columns, fillvalue="")
        tiers = [TypedTier(upper.strip(), unit.strip(), flat.strip()) for upper, unit, flat in lines]
        row = self._compared(row_id, typed, tiers[:MOST_TIERS] or typed_tiers(None, self.currency))
        row.was_unfolded = f"{own}-unfolded" in data
        row.quantity = data.get(f"{own}-for", "").strip()
        return row

    def _row(self, row_id: str, item: ItemTerms) -> Row:
        return self._compared(row_id, typed_of(item, self.currency), typed_tiers(item.price, self.currency))

    def _compared(self, row_id: str, typed: dict[str, str], tiers: list[TypedTier]) -> Row:
        feature = self._features.get(typed["feature"])
        standard = self.standard.item(typed["key"]) if self.standard and typed["key"] else None
        if standard and standard.price:
            for tier, was in zip(tiers, typed_tiers(standard.price, self.currency), strict=False):
                tier.standard = was
        return Row(
            id=row_id,
            typed=typed,
            currency=self.currency,
            tiers=tiers,
            feature=feature.terms() if feature else None,
            standard=standard,
            standard_typed=typed_of(standard, self.currency) if standard else {},
            compared=self.standard is not None,
            fixed_price=self._fixed_price(typed["key"]),
            is_legacy=self.plan.billing_version == Plan.BillingVersion.LEGACY,
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
        what, _, place = what.partition(".") if verb == "untier" else (what, "", "")
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
        elif verb == "tier":
            self._add_tier(self.rows[at])
        elif verb == "untier":
            self._remove_tier(self.rows[at], place)
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

    def _add_tier(self, row: Row) -> None:
        """A tier more, below the last one, which stays the one without end."""
        if len(row.tiers) < MOST_TIERS:
            row.tiers.insert(max(0, len(row.tiers) - 1), TypedTier(fresh=True))
        row.was_unfolded = True

    def _remove_tier(self, row: Row, place: str) -> None:
        if place.isdecimal() and int(place) < len(row.tiers) and len(row.tiers) > 1:
            del row.tiers[int(place)]
        row.was_unfolded = True

    def _put_back(self, key: str) -> None:
        item = self.standard.item(key) if self.standard else None
        if item and key not in {row.typed["key"] for row in self.rows}:
            self.rows.append(self._row(self._fresh_id(), item))

    def _back_to_standard(self) -> None:
        if self.standard:
            self.cadence = self.standard.cadence
            self.typed = self.standard_typed
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


def typed_conditions(conditions: Conditions, currency: str) -> dict[str, str]:
    commitment = conditions.commitment
    return {
        "trial_days": str(conditions.trial_days or ""),
        "trial_end": conditions.trial_end,
        "commitment": "" if commitment is None else major(commitment, currency),
    }


def read_conditions(typed: Mapping[str, str]) -> Conditions:
    days = number(typed["trial_days"], "trial_days", decimals=0, digits=6)
    return Conditions(
        trial_days=int(days or 0),
        trial_end=typed["trial_end"],
        commitment=number(typed["commitment"], "commitment", decimals=12),
    )


def digest_of(items: Iterable[ItemTerms], cadence: str, conditions: Conditions, currency: str) -> str:
    """Changes when the stored items change, so that nobody writes over what they have not seen."""
    stored = [
        (sorted(typed_of(i, currency).items()), [t.texts() for t in typed_tiers(i.price, currency)]) for i in items
    ]
    text = repr([cadence, sorted(typed_conditions(conditions, currency).items()), *stored])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
