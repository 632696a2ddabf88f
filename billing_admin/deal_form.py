"""The deal builder's form: what a person types, and the `DealTerms` it means.

It keeps what was typed, puts each refusal at its cell, and stands beside the items editor: each phase has one, under
the phase's own prefix. Use:

    form = DealForm(request.POST or None, plan=plan, base=base, start=terms, features=features)
    if terms := form.read(): …       # a DealTerms, checked by the deal itself

Add, copy and remove are buttons named `do`; `form.acted` says that the form is only to be shown again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.functional import cached_property

from billing_admin.deal_extras import (
    COUPON,
    FIELDS,
    KINDS,
    OVERRIDE,
    PRICE,
    Line,
    read_coupon,
    read_override,
    read_prices,
    typed_coupon,
    typed_override,
    typed_prices,
)
from billing_admin.items import ItemsForm
from billing_admin.typed import Wrong, number
from catalog.models import Feature, Plan
from catalog.money import grouped
from catalog.periods import PLAN_CADENCES, Cadence
from catalog.terms import Conditions, ItemTerms, PlanTerms
from deals.terms import (
    ACTIVATIONS,
    CUSTOMER,
    MOST_MONTHS,
    MOST_NET_TERMS,
    SUBSCRIPTION,
    DealPhase,
    DealTerms,
    InvalidDeal,
    Problem,
    validate,
)
from invoicing.special import ADD, REPLACE

RENEWS, ENDS = "renews", "ends"
NUMBERED = re.compile(r"(.*?)(\d+)\s*")
DAY = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
# A problem of the deal → the field of the head that it stands at.
HEAD_FIELDS = {"starts_at": "starts_on"}


class HeadForm(forms.Form):
    """What is said of the whole deal."""

    name = forms.CharField(
        label="Name of the deal", max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    starts_on = forms.DateField(
        label="Starts on", required=False, widget=DAY, help_text="As this day begins (UTC). Empty: when it is executed."
    )
    term_months = forms.IntegerField(label="Term, months", min_value=1, max_value=MOST_MONTHS)
    cadence = forms.ChoiceField(
        label="Billed", choices=[(code, word.capitalize()) for code, word in PLAN_CADENCES.items()]
    )
    renews = forms.ChoiceField(
        label="After the term", choices=[(RENEWS, "goes on under the last phase"), (ENDS, "ends by itself")]
    )
    net_terms_days = forms.IntegerField(
        label="Net terms, days",
        min_value=0,
        max_value=MOST_NET_TERMS,
        required=False,
        help_text="Days to pay. Empty: as the account does.",
    )
    activation = forms.ChoiceField(
        label="Access begins", choices=list(ACTIVATIONS.items()), help_text="At once takes a permission of its own."
    )
    trial_days = forms.IntegerField(
        label="Trial days", min_value=0, max_value=730, required=False, help_text="Empty: as the plan has them."
    )
    expires_on = forms.DateField(
        label="Offer stands until",
        required=False,
        widget=DAY,
        help_text="Not later than this day (UTC). Empty: no end.",
    )
    introduction = forms.CharField(required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 3}))
    special_terms = forms.CharField(
        label="Terms on the order form",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="An empty line begins a new paragraph.",
    )


@dataclass
class TypedPhase:
    """One phase as typed; `id` is the prefix of its fields, those of its items among them."""

    id: str
    items: ItemsForm
    typed: dict[str, str]
    units: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.typed["label"] or "Phase"

    @property
    def is_wrong(self) -> bool:
        return bool(self.errors) or self.items.has_errors

    @cached_property
    def sold(self) -> list[ItemTerms]:
        """The items as far as they can be read."""
        return [item for row in self.items if (item := row.item)]


@dataclass(frozen=True, slots=True)
class UnitCell:
    name: str
    typed: str
    placeholder: str
    label: str
    applies: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class UnitRow:
    """Units of one feature in each phase: used as assumed, held, or bought."""

    key: str
    label: str
    what: str
    cells: tuple[UnitCell, ...]


class DealForm:
    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        plan: Plan,
        base: PlanTerms,
        start: DealTerms,
        features: Mapping[str, Feature],
        name: str = "",
        expires_at: datetime | None = None,
        named: bool = True,
    ):
        self.plan, self.base, self.start, self.features = plan, base, start, features
        self.is_bound = data is not None and "phase" in data
        self.error = ""
        self.acted = False
        typed = data.copy() if data is not None and self.is_bound else QueryDict(mutable=True)
        if do := typed.get("do", ""):
            self.acted = True
            rearrange(typed, do)
        initial = head_of(start) | {"name": name, "expires_on": expires_at.date() if expires_at else None}
        self.head = HeadForm(typed if self.is_bound else None, initial=initial)
        self.head.fields["name"].required = named
        self.cadence = typed.get("cadence", start.cadence)
        self.phases = self._typed_phases(typed) if self.is_bound else self._phases()
        self.lines = {kind: self._typed_lines(kind, typed) for kind in KINDS} if self.is_bound else self._lines()
        self.acted = self.acted or any(phase.items.acted for phase in self.phases)

    # What the template asks

    @property
    def coupons(self) -> list[Line]:
        return self.lines[COUPON]

    @property
    def overrides(self) -> list[Line]:
        return self.lines[OVERRIDE]

    @property
    def prices(self) -> list[Line]:
        return self.lines[PRICE]

    scopes = ((SUBSCRIPTION, "this contract"), (CUSTOMER, "all of the customer’s invoices"))
    modes = ((REPLACE, "instead of the price"), (ADD, "beside the price"))

    @property
    def features_offered(self) -> list[tuple[str, str]]:
        return [(slug, feature.name) for slug, feature in self.features.items() if feature.archived_at is None]

    @cached_property
    def priceable(self) -> list[tuple[str, str]]:
        """Items that a special price can be given for: key and label, over all phases."""
        found: dict[str, str] = {}
        for phase in self.phases:
            found |= {i.key: i.label for i in phase.sold if i.key and (i.is_fee or i.price is not None)}
        return list(found.items())

    @cached_property
    def units(self) -> list[UnitRow]:
        """A row for each feature whose units cost something in a phase."""
        found: dict[str, tuple[str, str]] = {}
        for phase in self.phases:
            for item in phase.sold:
                if key := units_key(item):
                    found.setdefault(key, (item.label, what_of(item)))
        return [self._unit_row(key, label, what) for key, (label, what) in found.items()]

    def _unit_row(self, key: str, label: str, what: str) -> UnitRow:
        first = next((phase.units[key] for phase in self.phases if phase.units.get(key)), "")
        cells = [
            UnitCell(
                name=f"{phase.id}-{key}",
                typed=phase.units.get(key, ""),
                placeholder=first if place and key.startswith(USE) else "0",
                label=f"{label}: {what}, {phase.label}",
                applies=any(units_key(item) == key for item in phase.sold),
                error=phase.errors.get(key, ""),
            )
            for place, phase in enumerate(self.phases)
        ]
        return UnitRow(key, label, what, tuple(cells))

    @property
    def units_shown(self) -> str:
        """Which cells the table of units has; another set means that it has to be drawn anew."""
        return " ".join(cell.name for row in self.units for cell in row.cells if cell.applies)

    @property
    def has_errors(self) -> bool:
        return bool(
            self.error or self.head.errors or list(self.field_errors) or any(p.items.has_errors for p in self.phases)
        )

    @property
    def field_errors(self) -> Iterator[tuple[str, str]]:
        """Every refused field beside the items: the name of its control, and the sentence."""
        if self.head.is_bound:
            yield from (
                (name, " ".join(map(str, found))) for name, found in self.head.errors.items() if name != "__all__"
            )
        for phase in self.phases:
            yield from ((f"{phase.id}-{name}", sentence) for name, sentence in phase.errors.items())
        for lines in self.lines.values():
            for line in lines:
                yield from ((line.control(name), sentence) for name, sentence in line.errors.items())

    # Reading

    def read(self) -> DealTerms | None:
        """What was typed; None while something cannot be, which then stands at its place."""
        if not self.is_bound:
            return self.start
        if self.acted:
            return None
        readable = [self.head.is_valid(), *(self._read_phase(phase) for phase in self.phases)]
        coupons, overrides, lines = (list(self._read_lines(kind)) for kind in KINDS)
        prices = read_prices(lines, self.start.currency)
        if not all(readable) or any(line.errors for lines in self.lines.values() for line in lines):
            return None
        said = self.head.cleaned_data
        terms = replace(
            self.start,
            cadence=said["cadence"],
            starts_at=midnight(said["starts_on"]),
            term_months=said["term_months"],
            renews=said["renews"] == RENEWS,
            net_terms_days=said["net_terms_days"],
            trial_days=said["trial_days"],
            activation=said["activation"],
            introduction=said["introduction"].strip(),
            special_terms=said["special_terms"].strip(),
            coupons=tuple(coupons),
            overrides=tuple(overrides),
            prices=tuple(prices),
            **self._phases_meant(),
        )
        try:
            validate(terms)
        except InvalidDeal as refused:
            self.refuse(refused.problems)
            return None
        return terms

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Put what the deal or a verb refused at its cells; what has no cell stands on top."""
        for problem in problems:
            if not self._placed(problem):
                self.error = f"{self.error} {problem.message}".strip()

    def _placed(self, problem: Problem) -> bool:
        match problem.field.split("."):
            case ["phases", place, "items", *rest] if rest and place.isdecimal():
                return self._placed_item(int(place), rest, problem.message)
            case ["phases", place, name, *rest] if place.isdecimal() and int(place) < len(self.phases):
                phase = self.phases[int(place)]
                if name == "commitment":
                    phase.items.errors[name] = problem.message
                elif name == "items":
                    phase.items.error = problem.message
                else:
                    phase.errors["-".join([name, *rest])] = problem.message
                return True
            case ["use", slug] if self.phases:
                self.phases[0].errors[f"{USE}{slug}"] = problem.message
                return True
            case [("coupons" | "overrides" | "prices") as name, place, *rest] if place.isdecimal():
                return self._placed_line(name.removesuffix("s"), int(place), rest, problem.message)
            case [name]:
                own = HEAD_FIELDS.get(name, name)
                if self.head.is_bound and own in self.head.fields:
                    self.head.add_error(own, problem.message)
                    return True
        return False

    def _placed_item(self, place: int, rest: Sequence[str], message: str) -> bool:
        rows = self.phases[place].items.rows if place < len(self.phases) else []
        row = int(rest[0]) if rest[0].isdecimal() else len(rows)
        if row >= len(rows):
            return False
        rows[row].refused(".".join(rest[1:]) or "name", message)
        return True

    def _placed_line(self, kind: str, place: int, rest: Sequence[str], message: str) -> bool:
        filled = [line for line in self.lines[kind] if not line.is_blank]
        if place >= len(filled):
            return False
        filled[place].refused(rest[0] if rest else "", message)
        return True

    # Phases

    def _phases(self) -> list[TypedPhase]:
        return [self._phase(f"p{n}", phase, first=not n) for n, phase in enumerate(self.start.phases)]

    def _phase(self, own: str, phase: DealPhase, *, first: bool) -> TypedPhase:
        used = self.start.use_in(phase) if first else dict(phase.use)
        units = {f"{USE}{slug}": grouped(n) for slug, n in used.items()}
        units |= {f"{BOUGHT}{key}": grouped(n) for key, n in phase.bought}
        typed = {"label": phase.label, "months": str(phase.months or ""), "quantity": str(phase.quantity)}
        return TypedPhase(own, self._items(own, phase=phase), typed, units)

    def _typed_phases(self, data: QueryDict) -> list[TypedPhase]:
        return [self._typed_phase(own, data) for own in data.getlist("phase")]

    def _typed_phase(self, own: str, data: QueryDict) -> TypedPhase:
        typed = {name: data.get(f"{own}-{name}", "").strip() for name in ("label", "months", "quantity")}
        units = {
            name.removeprefix(f"{own}-"): data.get(name, "").strip()
            for name in data
            if name.startswith((f"{own}-{USE}", f"{own}-{BOUGHT}"))
        }
        return TypedPhase(own, self._items(own, data), typed, units)

    def _items(self, own: str, data: QueryDict | None = None, phase: DealPhase | None = None) -> ItemsForm:
        items = ItemsForm(
            data,
            plan=self.plan,
            items=phase.items if phase else self.base.items,
            cadence=self.cadence,
            conditions=Conditions(commitment=phase.commitment if phase else self.base.commitment),
            standard=replace(self.base, cadence=self.cadence),
            prefix=own,
        )
        items.cadence = self.cadence  # said once for the whole deal
        return items

    def _read_phase(self, phase: TypedPhase) -> bool:
        """Whether everything in the phase can be read; what cannot says so at its cell."""
        wrong = self.cadence in PLAN_CADENCES and not phase.items.is_valid()
        for name in ("months", "quantity"):
            if phase.typed[name] and not re.fullmatch(r"[0-9]{1,6}", phase.typed[name]):
                phase.errors[name] = "A whole number of 1 or more."
        for key, text in phase.units.items():
            try:
                number(text, key, decimals=6)
            except Wrong as refused:
                phase.errors[key] = refused.message
        return not (wrong or phase.errors)

    def _phases_meant(self) -> dict[str, Any]:
        """The phases, with the use of the first one said for all of them, and of others where it differs."""
        everywhere = units_of(self.phases[0], USE, self.units) if self.phases else {}
        found = []
        for place, phase in enumerate(self.phases):
            own = units_of(phase, USE, self.units) if place else {}
            use = {slug: n for slug, n in own.items() if everywhere.get(slug) != n}
            found.append(
                DealPhase(
                    label=phase.typed["label"],
                    months=int(phase.typed["months"]) if phase.typed["months"] else None,
                    items=tuple(phase.items.items),
                    quantity=int(phase.typed["quantity"] or 1),
                    commitment=phase.items.conditions.commitment,
                    bought=tuple(sorted(units_of(phase, BOUGHT, self.units).items())),
                    use=tuple(sorted(use.items())),
                )
            )
        return {"phases": tuple(found), "use": tuple(sorted(everywhere.items()))}

    # Coupons, overrides, special prices

    def _lines(self) -> dict[str, list[Line]]:
        start = self.start
        typed = {
            COUPON: [typed_coupon(coupon) for coupon in start.coupons],
            OVERRIDE: [typed_override(override) for override in start.overrides],
            PRICE: [row for price in start.prices for row in typed_prices(price, start.currency)],
        }
        return {kind: [Line(kind, f"{kind[0]}{n}", row) for n, row in enumerate(rows)] for kind, rows in typed.items()}

    def _typed_lines(self, kind: str, data: QueryDict) -> list[Line]:
        return [
            Line(kind, own, {name: data.get(f"{kind}-{own}-{name}", "").strip() for name in FIELDS[kind]})
            for own in data.getlist(f"{kind}-row")
        ]

    def _read_lines(self, kind: str) -> Iterator[Any]:
        """Each line that somebody wrote into, as the deal says it; what cannot be read says so at its cell."""
        for line in self.lines[kind]:
            if line.is_blank:
                continue
            try:
                if kind == COUPON:
                    yield read_coupon(line)
                elif kind == OVERRIDE:
                    yield read_override(line, self.features)
                else:
                    yield line
            except Wrong as wrong:
                line.errors[wrong.field] = wrong.message


# Units ----------------------------------------------------------------------------------------------------------------

USE, BOUGHT = "use-", "bought-"


def units_key(item: ItemTerms) -> str:
    """The cell that an item's units are typed into; nothing where units change no invoice."""
    if item.is_prepaid:
        return f"{BOUGHT}{item.key}" if item.key else ""
    if item.feature is not None and (item.is_usage or item.is_seats):
        return f"{USE}{item.feature.slug}"
    return ""


def what_of(item: ItemTerms) -> str:
    unit = f"{item.unit}s" if not item.unit.endswith("s") else item.unit
    if item.is_prepaid:
        return f"{unit} bought, in total"
    return f"{unit} held" if item.is_seats else f"{unit} used a month"


def units_of(phase: TypedPhase, kind: str, rows: Iterable[UnitRow]) -> dict[str, Decimal]:
    """What was typed into the cells of this kind that the phase has."""
    found = {}
    for row in rows:
        shown = any(cell.applies and cell.name == f"{phase.id}-{row.key}" for cell in row.cells)
        if shown and row.key.startswith(kind) and phase.units.get(row.key):
            units = number(phase.units[row.key], row.key, decimals=6)
            assert units is not None, "text that is there is a number by now"
            found[row.key.removeprefix(kind)] = units
    return found


# Buttons --------------------------------------------------------------------------------------------------------------


def rearrange(data: QueryDict, do: str) -> None:
    """What a button does to what was typed: `phase:add`, `phase:copy:p0`, `phase:remove:p0`, `row:coupon`,
    `unrow:coupon:c0`."""
    verb, _, rest = do.partition(":")
    what, _, own = rest.partition(":")
    phases = data.getlist("phase")
    if verb == "phase" and what == "add" and phases:
        copy_phase(data, phases[-1])
    elif verb == "phase" and what == "copy" and own in phases:
        copy_phase(data, own)
    elif verb == "phase" and what == "remove" and own in phases and len(phases) > 1:
        data.setlist("phase", [phase for phase in phases if phase != own])
    elif verb == "row" and what in KINDS:
        data.appendlist(f"{what}-row", free(data.getlist(f"{what}-row"), what[0]))
    elif verb == "unrow" and what in KINDS:
        data.setlist(f"{what}-row", [row for row in data.getlist(f"{what}-row") if row != own])


def copy_phase(data: QueryDict, own: str) -> None:
    """The same phase once more, behind it. One that ran until the end is a year long from now on (or one period)."""
    phases = data.getlist("phase")
    new = free(phases, "p")
    for name in [name for name in data if name.startswith(f"{own}-")]:
        data.setlist(f"{new}-{name.removeprefix(f'{own}-')}", data.getlist(name))
    data[f"{new}-label"] = following(data.get(f"{own}-label", ""), len(phases))
    if not data.get(f"{own}-months"):
        data[f"{own}-months"] = str(shorter(data.get("term_months", ""), data.get("cadence", "P1M")))
    phases.insert(phases.index(own) + 1, new)
    data.setlist("phase", phases)


def shorter(term: str, cadence: str) -> int:
    """How long a phase is that another one follows: a year where the term has room for more, else a period."""
    step = Cadence.parse(cadence).months if cadence in PLAN_CADENCES else 1
    return 12 if term.isdecimal() and int(term) > 12 else step


def following(label: str, count: int) -> str:
    """`Year 1` → `Year 2`."""
    found = NUMBERED.fullmatch(label)
    return f"{found[1]}{int(found[2]) + 1}" if found else f"Phase {count + 1}"


def free(taken: Sequence[str], letter: str) -> str:
    return next(name for n in range(len(taken) + 1_000) if (name := f"{letter}{n}") not in taken)


def head_of(terms: DealTerms) -> dict[str, Any]:
    same = ("term_months", "cadence", "net_terms_days", "activation", "trial_days", "introduction", "special_terms")
    return {name: getattr(terms, name) for name in same} | {
        "starts_on": terms.starts_at.astimezone(UTC).date() if terms.starts_at else None,
        "renews": RENEWS if terms.renews else ENDS,
    }


def midnight(day: Any) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None
