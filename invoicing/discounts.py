"""Discounts: what coupons take off the charges of a document, before tax. Pure.

Percents come one after the other, each on what the former left; fixed amounts follow. A discount is rounded once, on
its total, and spread over its lines by largest remainder. It takes at most its charges: credits are money that was
really paid, so they are neither discounted nor eaten up.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from catalog.money import format_minor, plain, round_half_away
from invoicing.allocation import allocate_within
from invoicing.lines import OVERRIDE, Line

DISCOUNT, INVOICE_CREDIT = "discount", "invoice_credit"


@dataclass(frozen=True, slots=True)
class DiscountTerms:
    """A coupon as it holds for one customer: a percent (0–100), or an amount in minor units that is left to give.

    `keys` and `plans` limit it to items and to plans; None is every one. `once`: one document uses it up. Any other
    amount is that of a whole period; a document for a part of one gets that part of it. `periods` are those that it
    still takes part in (None: for ever), besides the one that is `running` where that counts already; `counted` are
    the starts of those that a forecast has counted.
    """

    id: int
    label: str
    percent: Decimal | None = None
    amount: int | None = None
    keys: frozenset[str] | None = None
    plans: frozenset[int] | None = None
    once: bool = False
    periods: int | None = None
    is_running: bool = False
    counted: frozenset[datetime] = frozenset()

    def __post_init__(self) -> None:
        if (self.percent is None) == (self.amount is None):
            raise ValueError("A discount is either a percent or an amount.")
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise ValueError("A percent lies between 0 and 100.")

    def later(self, *, used: bool, began: datetime | None = None) -> "DiscountTerms | None":
        """What is left of it for the periods after this one; `used`: the documents of this one took something.

        `began` is when the period did that those documents belong to: it counts once, however many there are.
        """
        if self.once and used:
            return None
        if self.periods is None:
            return self
        is_new = used and not self.is_running and (began is None or began not in self.counted)
        left = self.periods - is_new
        counted = self.counted | {began} if used and began is not None else self.counted
        return replace(self, periods=left, is_running=False, counted=counted) if left > 0 else None

    def covers(self, line: Line, plan_id: int | None) -> bool:
        return (self.keys is None or line.key in self.keys) and (self.plans is None or plan_id in self.plans)


@dataclass(frozen=True, slots=True)
class Deduction:
    """What one coupon or invoice credit takes off: `amount` (above zero), and its `parts` as (line index, amount)."""

    kind: str
    source_id: int
    label: str
    amount: int
    parts: tuple[tuple[int, int], ...]
    sum: str


def discount(
    lines: Sequence[Line],
    discounts: Iterable[DiscountTerms],
    plan_of: Callable[[Line], int | None] | None = None,
    beside: Sequence[Line] = (),
) -> list[Deduction]:
    """What each discount takes, in order; one that finds nothing to take is left out. The same id counts once.

    `plan_of` names the plan of a line; without it a discount that is limited to plans takes nothing. `beside` are
    what else the customer pays for the same time, on documents that exist: an amount off every period is spread over
    those too, so that they keep the part that they have.
    """
    every = [*lines, *beside]
    left = _charges(every)
    plans = [plan_of(line) if plan_of else None for line in every]
    found = []
    for terms in _in_order(discounts):
        limits = [
            rest if rest and terms.covers(line, plan_id) else 0
            for line, plan_id, rest in zip(every, plans, left, strict=True)
        ]
        if terms.percent is not None or terms.once:
            limits[len(lines) :] = [0] * len(beside)
        if deduction := _deduct(terms, limits, every):
            take(deduction, left)
            found.append(deduction)
    return [own for deduction in found if (own := _without(deduction, len(lines)))]


def _without(deduction: Deduction, lines: int) -> Deduction | None:
    """What is left of a deduction without the parts of what stands beside."""
    parts = tuple((index, part) for index, part in deduction.parts if index < lines)
    return replace(deduction, parts=parts, amount=sum(part for _, part in parts)) if parts else None


def _charges(lines: Sequence[Line]) -> list[int]:
    """What each line charges, after special prices that take off: of their own item first, then of the others."""
    left = [max(0, line.amount) for line in lines]
    for special in lines:
        if special.kind == OVERRIDE and special.amount < 0:
            own = [rest if line.key == special.key else 0 for line, rest in zip(lines, left, strict=True)]
            first = allocate_within(-special.amount, own)
            left = [rest - part for rest, part in zip(left, first, strict=True)]
            parts = allocate_within(-special.amount - sum(first), left)
            left = [rest - part for rest, part in zip(left, parts, strict=True)]
    return left


def _in_order(discounts: Iterable[DiscountTerms]) -> list[DiscountTerms]:
    once: dict[int, DiscountTerms] = {}
    for terms in discounts:
        once.setdefault(terms.id, terms)
    return sorted(once.values(), key=lambda terms: terms.percent is None)


def _deduct(terms: DiscountTerms, limits: Sequence[int], lines: Sequence[Line]) -> Deduction | None:
    charged = sum(limits)
    if not charged:
        return None
    currency = lines[0].currency
    if terms.percent is None:
        return _deduct_amount(terms, terms.amount or 0, charged, limits, lines)
    amount = round_half_away(Fraction(terms.percent) * charged / 100)
    words = f"{plain(terms.percent)} % of {format_minor(charged, currency)} = {format_minor(amount, currency)}"
    return _spread(DISCOUNT, terms.id, terms.label, amount, limits, words)


def _deduct_amount(
    terms: DiscountTerms, amount: int, charged: int, limits: Sequence[int], lines: Sequence[Line]
) -> Deduction | None:
    """An amount off; of one for every period, the part that these charges are of whole periods."""
    currency = lines[0].currency
    share = Fraction(1) if terms.once else _share_of(lines, limits)
    whole = "" if share == 1 else f", {format_minor(amount, currency)} for a whole period"
    to_give = round_half_away(amount * share)
    found = deduct(DISCOUNT, terms.id, f"{terms.label}{whole}", to_give, charged, limits, currency)
    return replace(found, label=terms.label) if found else None


def _share_of(lines: Sequence[Line], limits: Sequence[int]) -> Fraction:
    """Which part the charges are of what they would be for whole periods."""
    pairs = [(limit, line.share) for limit, line in zip(limits, lines, strict=True) if limit and line.share]
    whole = sum((limit / share for limit, share in pairs), Fraction(0))
    return Fraction(sum(limit for limit, _ in pairs)) / whole if whole else Fraction(1)


def deduct(
    kind: str, source_id: int, label: str, to_give: int, most: int, limits: Sequence[int], currency: str
) -> Deduction | None:
    """A fixed amount, as far as `most` lets it: spread over the lines, none beyond its limit."""
    amount = max(0, min(to_give, most))
    words = f"{format_minor(amount, currency)} off {format_minor(most, currency)}"
    if to_give > amount:
        words += f" (up to {format_minor(to_give, currency)})"
    return _spread(kind, source_id, label, amount, limits, words)


def _spread(kind: str, source_id: int, label: str, amount: int, limits: Sequence[int], words: str) -> Deduction | None:
    if amount <= 0:
        return None
    parts = tuple((index, part) for index, part in enumerate(allocate_within(amount, limits)) if part)
    return Deduction(kind, source_id, label, amount, parts, f"{label}: {words}")


def take(deduction: Deduction, left: list[int]) -> None:
    """Brings what is left of each line up to date, in place."""
    for index, part in deduction.parts:
        left[index] -= part
