"""Which price of a version becomes which of another. Pure.

Items keep their key from version to version, so most mappings follow by themselves. What is left over a person has to
say: each priced item of the old version is mapped, or dropped on purpose.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from django.core.exceptions import ValidationError

from catalog.terms import ItemTerms, PlanTerms, differences


@dataclass(frozen=True, slots=True)
class PriceMapping:
    """The item `old` of the old version becomes `new` of the new one; None: it is dropped on purpose."""

    old: str
    new: str | None

    def to_json(self) -> dict[str, str | None]:
        return {"from": self.old, "to": self.new}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        return cls(kept["from"], kept["to"])


@dataclass(frozen=True, slots=True)
class MappingProblem:
    """What is wrong with one mapping; `key` is that of the item, on the side that `side` names (`from` or `to`)."""

    key: str
    side: str
    message: str
    code: str


class BadMapping(ValidationError):
    """Mappings that cannot be used; `problems` names each item."""

    def __init__(self, problems: Sequence[MappingProblem]):
        self.problems = tuple(problems)
        errors = [ValidationError(problem.message, code=problem.code) for problem in problems]
        super().__init__(errors, code="bad_mapping")


@dataclass(frozen=True, slots=True)
class Proposed:
    """What follows by itself or by a good guess; `unmapped` are the keys that nobody can guess."""

    mappings: tuple[PriceMapping, ...]
    unmapped: tuple[str, ...] = ()


def priced(terms: PlanTerms) -> list[ItemTerms]:
    """The items that cost something."""
    return [item for item in terms.items if not item.is_free]


def propose_mappings(old: PlanTerms, new: PlanTerms) -> Proposed:
    """The same key becomes the same key; a key that is gone becomes the price of its feature, where there is one."""
    same = {item.key for item in priced(old) if new.item(item.key) is not None}
    free = {i.feature.slug: i.key for i in priced(new) if i.feature is not None and i.key not in same}
    found, unmapped = [], []
    for item in priced(old):
        guess = item.key if item.key in same else free.get(item.feature.slug) if item.feature else None
        if guess is None:
            unmapped.append(item.key)
        else:
            found.append(PriceMapping(item.key, guess))
    return Proposed(tuple(found), tuple(unmapped))


def check_mapping(old: PlanTerms, new: PlanTerms, mappings: Iterable[PriceMapping]) -> None:
    """Refuse mappings that leave a price of the old version open or name what there is not. Raises `BadMapping`."""
    given = list(mappings)
    problems = [*_unknown(old, new, given), *_twice(given)]
    said = {mapping.old for mapping in given}
    problems += [
        MappingProblem(
            item.key, "from", f"Say what {item.label} ({item.key}) becomes, or drop it on purpose.", "unmapped_price"
        )
        for item in priced(old)
        if item.key not in said
    ]
    if problems:
        raise BadMapping(problems)


def _unknown(old: PlanTerms, new: PlanTerms, given: Iterable[PriceMapping]) -> list[MappingProblem]:
    found = []
    for mapping in given:
        for side, key, terms in (("from", mapping.old, old), ("to", mapping.new, new)):
            if key is not None and terms.item(key) is None:
                version = "old" if side == "from" else "new"
                found.append(
                    MappingProblem(key, side, f"The {version} version has no item {key!r}.", "unknown_price_key")
                )
    return found


def _twice(given: Sequence[PriceMapping]) -> list[MappingProblem]:
    found = []
    sides = {"from": [m.old for m in given], "to": [m.new for m in given if m.new is not None]}
    for side, keys in sides.items():
        for key, times in Counter(keys).items():
            if times > 1:
                what = "is mapped" if side == "from" else "is mapped to"
                found.append(MappingProblem(key, side, f"{key!r} {what} more than once.", "mapped_twice"))
    return found


# What makes a price another price: for whoever holds it, it is asked for otherwise.
_MONEY = {"amount", "quantity", "cadence", "price", "term"}


def price_differences(old: PlanTerms, new: PlanTerms) -> tuple[str, ...]:
    """How the priced items of two versions differ, a sentence each; none: only features differ.

    Units included in what is paid ahead (packs, seats) are part of the price.
    """
    found = [
        difference.sentence(old.currency)
        for difference in differences(old, new)
        if _is_money(difference.before, difference.after, difference.fields)
    ]
    if old.cadence != new.cadence:
        found.append(f"Billed every {old.cadence} → {new.cadence}")
    if old.commitment != new.commitment:
        words = [terms.conditions.describe(terms.currency) for terms in (old, new)]
        found.append(
            f"Minimum: {words[0][-1] if old.commitment else 'none'} → {words[1][-1] if new.commitment else 'none'}"
        )
    return tuple(found)


def _is_money(before: ItemTerms | None, after: ItemTerms | None, fields: Iterable[str]) -> bool:
    if before is None or after is None:
        item = before or after
        return item is not None and not item.is_free
    if before.is_free and after.is_free:
        return False
    ahead = any(item.is_prepaid or item.is_seats for item in (before, after))
    return bool(_MONEY & set(fields)) or (ahead and "granted" in fields)
