"""Documents as values: how lines are split over them, and what holds for each. Pure.

The preview shows them, the act writes the same ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction

from catalog.money import to_minor
from catalog.terms import PlanTerms
from invoicing.bounds import Bound
from invoicing.commitment import Commitment
from invoicing.discounts import DISCOUNT, INVOICE_CREDIT, DiscountTerms
from invoicing.grants import MoneyGrant
from invoicing.lines import USAGE, Line
from invoicing.pipeline import Drawn, draw_up
from invoicing.taxes import TaxTerms


@dataclass(frozen=True, slots=True)
class BillingRules:
    """What holds for the documents of one contract at an instant: coupons, invoice credits, taxes, account credit.

    A credit keeps the taxes of the line that it gives back (`source_taxes`, by line id).
    """

    plan_id: int | None = None
    discounts: tuple[DiscountTerms, ...] = ()
    grants: tuple[MoneyGrant, ...] = ()
    taxes: tuple[TaxTerms, ...] = ()
    source_taxes: Mapping[int, tuple[TaxTerms, ...]] = field(default_factory=dict, compare=False)
    account_credit: int = 0

    def with_discounts(self, more: Iterable[DiscountTerms]) -> "BillingRules":
        return replace(self, discounts=(*self.discounts, *more))

    def taxes_of(self, line: Line) -> Sequence[TaxTerms]:
        return self.taxes if line.source_id is None else self.source_taxes.get(line.source_id, self.taxes)

    def after(self, documents: Sequence["Document"], *, began: datetime | None = None) -> "BillingRules":
        """What is left of them once these documents are issued; `began`: when the period did that they belong to."""
        spent: dict[tuple[str, int], int] = {}
        for document in documents:
            for taken in document.drawn.deductions:
                key = taken.kind, taken.source_id
                spent[key] = spent.get(key, 0) + taken.amount
        grants = [replace(g, left=g.left - spent.get((INVOICE_CREDIT, g.id), 0)) for g in self.grants]
        credit = self.account_credit - sum(document.drawn.account_credit for document in documents)
        given = sum(-d.total for d in documents if d.is_credit_note and d.offsets_id is None)
        used_up = {id_ for kind, id_ in spent if kind == DISCOUNT}
        discounts = tuple(kept for d in self.discounts if (kept := d.later(used=d.id in used_up, began=began)))
        return replace(
            self,
            discounts=discounts,
            grants=tuple(g for g in grants if g.left > 0),
            account_credit=max(0, credit) + given,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """One document: an invoice, or a credit note when it sums to less than zero. `offsets_id`: whose debt it cuts."""

    drawn: Drawn
    offsets_id: int | None = None

    @property
    def currency(self) -> str:
        return self.drawn.currency

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(drawn.line for drawn in self.drawn.lines)

    @property
    def total(self) -> int:
        return self.drawn.total

    @property
    def is_credit_note(self) -> bool:
        return self.total < 0

    def identity(self) -> tuple:
        """What makes two documents the same to whoever confirmed them."""
        lines = tuple(line.identity() for line in self.lines)
        deductions = tuple((d.kind, d.label, d.amount) for d in self.drawn.deductions)
        taxes = tuple((t.rate.label, t.inclusive, t.amount) for t in self.drawn.tax_totals)
        return lines, deductions, taxes, self.total, self.offsets_id

    def bound(
        self, items: Mapping[str, int], coupons: Mapping[int, int], specials: Mapping[int, int] | None = None
    ) -> "Document":
        """The same, pointing at rows that exist by now: items by key, applied coupons and special prices by the id of
        their terms."""
        lines = tuple(replace(drawn, line=_bound_line(drawn.line, items, specials or {})) for drawn in self.drawn.lines)
        deductions = tuple(
            replace(d, source_id=coupons.get(d.source_id, d.source_id)) if d.kind == DISCOUNT else d
            for d in self.drawn.deductions
        )
        return replace(self, drawn=replace(self.drawn, lines=lines, deductions=deductions))


def _bound_line(line: Line, items: Mapping[str, int], specials: Mapping[int, int]) -> Line:
    item_id = items.get(line.key) if line.item_id is None else line.item_id
    override_id = None if line.override_id is None else specials.get(line.override_id, line.override_id)
    return replace(line, item_id=item_id, override_id=override_id)


def draw(
    lines: Sequence[Line],
    rules: BillingRules,
    *,
    bounds: Sequence[Bound] = (),
    commitment: Commitment | None = None,
    currency: str = "",
    beside: Sequence[Line] = (),
) -> list[Document]:
    """The documents of these lines: one for what is charged and given back, one per open invoice that is offset.

    `beside` is what the customer pays for the same time on documents that exist.
    """
    found = []
    plain = [line for line in lines if line.offsets_id is None]
    if plain or (commitment and currency) or (bounds and currency):
        drawn = draw_up(
            plain,
            currency=currency or None,
            discounts=rules.discounts,
            plan_of=lambda line: rules.plan_id,
            beside=beside,
            bounds=bounds,
            commitment=commitment,
            grants=rules.grants,
            taxes=rules.taxes_of,
            account_credit=rules.account_credit,
        )
        if drawn.lines:
            found.append(Document(drawn))
    for offsets_id in dict.fromkeys(line.offsets_id for line in lines if line.offsets_id is not None):
        rows = [line for line in lines if line.offsets_id == offsets_id]
        found.append(Document(draw_up(rows, taxes=rules.taxes_of), offsets_id))
    return found


def nothing_due(currency: str) -> Document:
    """A first invoice without a line: it says that nothing is owed."""
    return Document(draw_up([], currency=currency))


def bounds_of(terms: PlanTerms, lines: Sequence[Line], share: Fraction = Fraction(1)) -> list[Bound]:
    """The least and the most that each used item of these terms costs in the period that the lines bill.

    `share` is the part of the period that has passed, where its account is closed before its end.
    """
    billed = {line.key for line in lines if line.kind == USAGE and line.override_id is None}
    found = []
    for item in terms.usage_items:
        price = item.price
        if price is None or item.key not in billed or (price.line_min is None and price.line_max is None):
            continue
        least = None if price.line_min is None else to_minor(price.line_min, terms.currency)
        most = None if price.line_max is None else to_minor(price.line_max, terms.currency)
        label = f"{terms.plan_name} · {item.label}"
        found.append(Bound(item.key, least, most, share=share, label=label, item_id=item.id))
    return found
