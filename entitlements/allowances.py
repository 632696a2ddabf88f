"""What is promised at an instant: the items of the plans in force, merged feature by feature. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from catalog.terms import METERED, ItemTerms
from customers.contracts import Contract
from entitlements.balances import Contribution


@dataclass(frozen=True, slots=True)
class Source:
    """Who says so: one contract's item, with the words to show for it."""

    contract: Contract
    item: ItemTerms

    @property
    def name(self) -> str:
        return f"{self.contract.plan_name}{' (custom)' if self.contract.is_custom else ''}"


def sources_of(contracts: Sequence[Contract], slug: str) -> list[Source]:
    """The items that mention a feature, main plans before add-ons, the oldest first."""
    found = []
    for contract in contracts:
        item = contract.terms.for_feature(slug)
        if item is not None:
            found.append(Source(contract, item))
    return found


def contributions_of(contracts: Sequence[Contract], slug: str | None = None) -> list[Contribution]:
    """The metered items in force: of one feature, or of all."""
    return [
        Contribution(contract, item)
        for contract in contracts
        for item in contract.terms.metered
        if item.feature is not None and (slug is None or item.feature.slug == slug)
    ]


def metered(source: Source) -> bool:
    return source.item.feature is not None and source.item.feature.type == METERED


@dataclass(frozen=True, slots=True)
class StaticValue:
    """A merged static value: the largest number, or the text of the first source; `conflicts` when texts differ."""

    value: str
    number: Decimal | None
    unlimited: bool = False
    conflicts: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """What one source says of a static feature."""

    text: str
    unlimited: bool = False


def static_value(values: Sequence[Value]) -> StaticValue:
    """Numbers take the maximum, unlimited beats them; other values are the main plan's, then the oldest one's."""
    if any(value.unlimited for value in values):
        return StaticValue("unlimited", None, unlimited=True)
    numbers = [as_number(value.text) for value in values]
    if all(number is not None for number in numbers):
        best = max(range(len(values)), key=lambda i: numbers[i] or Decimal(0))
        return StaticValue(values[best].text, numbers[best])
    texts = {value.text for value in values}
    return StaticValue(values[0].text, as_number(values[0].text), conflicts=len(texts) > 1)


def as_number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
