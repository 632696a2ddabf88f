"""Two rate cards side by side: items in rows, their fields in columns, each cell as it was and as it is."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from billing_admin.item_rows import DECREASE_WORDS, INCREASE_WORDS, TERM_WORDS, rest_of
from billing_admin.plan_page import limit, resets
from catalog.money import to_minor
from catalog.periods import ONCE, every
from catalog.terms import CHARGE, Conditions, ItemTerms, PlanTerms

NONE = "—"
ADDED, REMOVED, CHANGED, SAME = "added", "removed", "changed", "same"


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of one item. Where it did not change, `before` and `after` are alike; a side that is not there is
    empty."""

    label: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    is_changed: bool = False
    is_number: bool = False

    @property
    def is_blank(self) -> bool:
        return {*self.before, *self.after} <= {NONE}


@dataclass(frozen=True, slots=True)
class Row:
    """`sign` is added, removed, changed or same; `is_ambiguous` where another item has the same name."""

    label: str
    key: str
    sign: str
    cells: tuple[Cell, ...]
    was_called: str = ""
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`about` is what a version says beside its items: cadence, trial, minimum."""

    about: tuple[Cell, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    @property
    def changed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.sign != SAME)

    @property
    def is_same(self) -> bool:
        return not self.changed and not any(cell.is_changed for cell in self.about)


def compare_table(before: PlanTerms, after: PlanTerms) -> Table:
    """Items in the order of the later card, those that it lacks last."""
    keys = [i.key for i in after.items] + [i.key for i in before.items if after.item(i.key) is None]
    rows = [_row(key, before, after) for key in keys]
    names = Counter(row.label for row in rows)
    return Table(
        about=tuple(about_cells(before, after)),
        rows=tuple(replace(row, is_ambiguous=names[row.label] > 1) for row in rows),
        columns=tuple(column.title for column in COLUMNS),
    )


# Beside the items -----------------------------------------------------------------------------------------------------


def about_cells(before: PlanTerms, after: PlanTerms) -> Iterable[Cell]:
    was, becomes = before.conditions, after.conditions
    pairs = [
        ("Billed", f"every {every(before.cadence)}", f"every {every(after.cadence)}"),
        ("Trial", _trial(was), _trial(becomes)),
        ("Minimum", _minimum(was, before), _minimum(becomes, after)),
    ]
    for label, old, new in pairs:
        yield Cell(label, (old,), (new,), is_changed=old != new)


def _trial(conditions: Conditions) -> str:
    if not conditions.trial_days:
        return "none"
    days = "1 day" if conditions.trial_days == 1 else f"{conditions.trial_days} days"
    return f"{days} free, then {'billed' if conditions.trial_end == CHARGE else 'ended'}"


def _minimum(conditions: Conditions, terms: PlanTerms) -> str:
    said = Conditions(commitment=conditions.commitment).describe(terms.currency)
    return said[0] if said else "none"


# Items ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """What of an item stands in a column, in words; which of its fields those words stand for."""

    title: str
    words: Callable[[ItemTerms, PlanTerms], Sequence[str]]
    fields: tuple[str, ...]
    is_number: bool = False


def _included(item: ItemTerms, _: PlanTerms) -> Sequence[str]:
    return [item.describe_allowance()]


def _resets(item: ItemTerms, _: PlanTerms) -> Sequence[str]:
    return [resets(item), *rest_of(item)]


def _limit(item: ItemTerms, _: PlanTerms) -> Sequence[str]:
    return [limit(item)]


def _price(item: ItemTerms, terms: PlanTerms) -> Sequence[str]:
    return [item.describe_price(terms.currency), *item.describe_tiers(terms.currency)]


def _billed(item: ItemTerms, terms: PlanTerms) -> Sequence[str]:
    """When the price is asked for, and what more and less of it mean."""
    if item.is_free and not item.is_fee:
        return [NONE]
    interval = item.interval(terms.cadence)
    often = "once" if interval == ONCE else f"every {every(interval)}"
    words = [f"{TERM_WORDS[item.term or item.usual_term]}, {often}"]
    if item.is_prepaid or item.is_seats:
        words += [f"More: {INCREASE_WORDS[item.on_increase].lower()}"]
        words += [f"Fewer: {DECREASE_WORDS[item.on_decrease].lower()}"]
    return words


COLUMNS = (
    Column("Included", _included, ("granted", "value"), is_number=True),
    Column("Resets", _resets, ("reset", "reset_anchor", "rollover", "keeps_overage")),
    Column("Limit", _limit, ("limit", "max_overage")),
    Column("Price", _price, ("amount", "quantity", "price"), is_number=True),
    Column("When", _billed, ("term", "cadence", "on_increase", "on_decrease")),
)


def _row(key: str, before: PlanTerms, after: PlanTerms) -> Row:
    old, new = before.item(key), after.item(key)
    cells = tuple(_cell(column, old, new, before, after) for column in COLUMNS)
    item = new or old
    assert item is not None
    renamed = old.label if old and new and old.label != new.label else ""
    return Row(item.label, key, _sign(old, new, cells, renamed), cells, was_called=renamed)


def _sign(old: ItemTerms | None, new: ItemTerms | None, cells: Sequence[Cell], renamed: str) -> str:
    if old is None or new is None:
        return ADDED if old is None else REMOVED
    return CHANGED if renamed or any(cell.is_changed for cell in cells) else SAME


def _cell(column: Column, old: ItemTerms | None, new: ItemTerms | None, before: PlanTerms, after: PlanTerms) -> Cell:
    was = tuple(column.words(old, before)) if old else ()
    becomes = tuple(column.words(new, after)) if new else ()
    # The words decide with the fields: two prices may be said alike, and a fee follows the cadence of its plan.
    differs = old is not None and new is not None and (was != becomes or _differ(old, new, column.fields))
    return Cell(column.title, was, becomes, is_changed=differs, is_number=column.is_number)


def _differ(old: ItemTerms, new: ItemTerms, fields: Iterable[str]) -> bool:
    return any(_field(old, name) != _field(new, name) for name in fields)


def _field(item: ItemTerms, name: str) -> Any:
    return (item.term or item.usual_term) if name == "term" else getattr(item, name)


# The list price -------------------------------------------------------------------------------------------------------


def list_price(terms: PlanTerms) -> int:
    """A month by list before anything is used, in minor units."""
    amount: Fraction = terms.monthly(listed=True)
    return to_minor(amount, terms.currency)
