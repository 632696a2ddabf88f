"""A custom plan on a newer version of its base: what the customer has of their own stays, the rest follows the base.

A merge of three cards, cell by cell: the base it was made from, the base to come, the custom plan. Where both sides
changed the same cell the customer's own change wins, and it is said. Nobody is moved by it: its outcome is previewed
and enabled like any other change of plan.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from catalog.terms import ItemDifference, ItemTerms, PlanTerms, differences

# What only makes sense together is taken from one side together.
CELLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("name", ("name",)),
    ("quantity", ("quantity",)),
    ("allowance", ("included", "unlimited")),
    ("reset", ("reset", "reset_anchor")),
    ("limit", ("limit", "max_overage")),
    ("price", ("amount", "price", "term", "cadence")),  # $55 a month is not $55 a year
    ("proration", ("on_increase", "on_decrease")),
    ("value", ("value",)),
    ("rollover", ("rollover",)),
    ("overage", ("keeps_overage",)),
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A cell that the base and the customer both changed: the customer's own holds. `cell` is empty for a whole item;
    `own` and `base` are what each side says."""

    key: str
    label: str
    cell: str
    own: str
    base: str

    @property
    def sentence(self) -> str:
        what = f"{self.label}, {self.cell}" if self.cell else self.label
        return f"{what}: their own ({self.own}) stays; the base has {self.base}."


@dataclass(frozen=True, slots=True)
class Rebased:
    """The card that comes of it. `followed` is what it takes from the new base, `kept` how it differs from that."""

    terms: PlanTerms
    conflicts: tuple[Conflict, ...]
    followed: tuple[ItemDifference, ...]
    kept: tuple[ItemDifference, ...]

    @property
    def is_standard(self) -> bool:
        """Whether nothing of their own is left: they would be on the standard version again."""
        return not self.kept


def merge(base: PlanTerms, new: PlanTerms, own: PlanTerms) -> Rebased:
    """`own` was made from `base`; what of it on top of `new`. Pure."""
    conflicts: list[Conflict] = []
    items = [*_of_new(base, new, own, conflicts), *_of_own(base, new, own, conflicts)]
    card = replace(new, items=tuple(_once(items, conflicts)), version_id=None, **_conditions(base, new, own, conflicts))
    return Rebased(card, tuple(conflicts), tuple(differences(own, card)), tuple(differences(new, card)))


def _of_new(base: PlanTerms, new: PlanTerms, own: PlanTerms, conflicts: list[Conflict]) -> Iterator[ItemTerms]:
    """The items of the new base, with the customer's changes; those that they took off stay off."""
    for item in new.items:
        before, theirs = base.item(item.key), own.item(item.key)
        if theirs is None and before is None:
            yield replace(item, id=None)
        elif theirs is None:
            if before is not None and _differ(before, item):
                conflicts.append(Conflict(item.key, item.label, "", "taken off", _words(item, new)))
        else:
            yield _merged(before, item, theirs, new.currency, conflicts)


def _of_own(base: PlanTerms, new: PlanTerms, own: PlanTerms, conflicts: list[Conflict]) -> Iterator[ItemTerms]:
    """What the customer has that the new base has not: their own additions, and what the base gave up that they had
    changed."""
    for item in own.items:
        if new.item(item.key) is not None:
            continue
        before = base.item(item.key)
        if before is not None and not _differ(before, item):
            continue  # the base gave it up, and it was never theirs
        if before is not None:
            conflicts.append(Conflict(item.key, item.label, "", _words(item, own), "no such item any more"))
        yield replace(item, id=None)


def _once(items: Iterable[ItemTerms], conflicts: list[Conflict]) -> list[ItemTerms]:
    """Each feature stands on a plan once: where both sides added it under keys of their own, the customer's stays."""
    found: list[ItemTerms] = []
    for item in items:
        slug = item.feature.slug if item.feature else None
        other = next((o for o in found if slug is not None and o.feature and o.feature.slug == slug), None)
        if other is not None:
            found.remove(other)
            own, base = item.describe_allowance(), other.describe_allowance()
            conflicts.append(Conflict(item.key, item.label, "", own, base))
        found.append(item)
    return found


def _merged(
    before: ItemTerms | None, new: ItemTerms, own: ItemTerms, currency: str, conflicts: list[Conflict]
) -> ItemTerms:
    """One item, cell by cell. Without a common base (both added the key) every difference is a conflict."""
    made = replace(new, id=None)
    for cell, fields in CELLS:
        was, becomes, theirs = (_cells(item, fields) for item in (before, new, own))
        if theirs in (becomes, was):
            continue
        if was != becomes:
            said = (_cell_words(item, cell, currency) for item in (own, new))
            conflicts.append(Conflict(own.key, own.label, cell, *said))
        made = replace(made, **dict(zip(fields, theirs or (), strict=True)))
    return made


def _cells(item: ItemTerms | None, fields: tuple[str, ...]) -> tuple | None:
    return None if item is None else tuple(getattr(item, name) for name in fields)


def _differ(one: ItemTerms, other: ItemTerms) -> bool:
    return replace(one, id=None, name="") != replace(other, id=None, name="")


def _words(item: ItemTerms, terms: PlanTerms) -> str:
    return item.describe_price(terms.currency) if item.is_fee else item.describe_allowance()


def _cell_words(item: ItemTerms, cell: str, currency: str) -> str:
    match cell:
        case "price":
            return item.describe_price(currency)
        case "allowance" | "value":
            return item.describe_allowance()
        case "rollover":
            return "none" if item.rollover is None else item.rollover.describe()
    names = dict(CELLS)[cell]
    return ", ".join(str(getattr(item, name)).replace("_", " ") or "none" for name in names)


# A minimum is one of a period.
_SAID = (("cadence", "commitment"), ("trial_days",), ("trial_end",))


def _conditions(base: PlanTerms, new: PlanTerms, own: PlanTerms, conflicts: list[Conflict]) -> dict[str, Any]:
    """Cadence, trial and minimum: the same rule."""
    found: dict[str, Any] = {}
    for names in _SAID:
        was, becomes, theirs = ({name: getattr(terms, name) for name in names} for terms in (base, new, own))
        if theirs in (was, becomes):
            continue
        if was != becomes:
            for name in (name for name in names if theirs[name] != becomes[name]):
                label = name.replace("_", " ").capitalize()
                conflicts.append(Conflict(name, label, "", str(theirs[name]), str(becomes[name])))
        found |= theirs
    return found
