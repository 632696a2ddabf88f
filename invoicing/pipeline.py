"""The way from lines to what is due, always in one order. Pure.

Lines, coupons, line bounds, commitment, invoice credits, tax, account credit. Whatever comes later sees what the
former left. Amounts are whole minor units of the document's currency.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from catalog.money import format_minor
from invoicing.bounds import Bound, bound_lines
from invoicing.commitment import Commitment, true_up_line
from invoicing.discounts import DISCOUNT, INVOICE_CREDIT, Deduction, DiscountTerms, discount
from invoicing.grants import MoneyGrant, spend
from invoicing.lines import Line
from invoicing.taxes import LineTax, TaxTerms, TaxTotal, tax_line, tax_totals


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A line with its parts of the deductions and its taxes."""

    line: Line
    discounted: int = 0
    credited: int = 0
    taxes: tuple[LineTax, ...] = ()

    @property
    def net(self) -> int:
        """What it charges in the end, before tax on top."""
        return self.line.amount - self.discounted - self.credited

    @property
    def tax(self) -> int:
        return sum(tax.amount for tax in self.taxes)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A document as it would be issued: total = subtotal − discounts − invoice credits + tax on top.

    The deductions' parts point into `lines`. `account_credit` is what is taken of it.
    """

    lines: tuple[DrawnLine, ...]
    deductions: tuple[Deduction, ...]
    tax_totals: tuple[TaxTotal, ...]
    currency: str
    account_credit: int = 0

    @property
    def subtotal(self) -> int:
        return sum(drawn.line.amount for drawn in self.lines)

    @property
    def discount_total(self) -> int:
        return sum(deduction.amount for deduction in self.deductions if deduction.kind == DISCOUNT)

    @property
    def credit_total(self) -> int:
        return sum(deduction.amount for deduction in self.deductions if deduction.kind == INVOICE_CREDIT)

    @property
    def tax_added(self) -> int:
        """Tax on top of the prices."""
        return sum(total.amount for total in self.tax_totals if not total.inclusive)

    @property
    def tax_included(self) -> int:
        """Tax inside the prices."""
        return sum(total.amount for total in self.tax_totals if total.inclusive)

    @property
    def tax_total(self) -> int:
        return self.tax_added + self.tax_included

    @property
    def total(self) -> int:
        return self.subtotal - self.discount_total - self.credit_total + self.tax_added

    @property
    def is_credit_note(self) -> bool:
        return self.total < 0

    @property
    def due(self) -> int:
        """What is to be paid; nothing on a credit note."""
        return max(0, self.total - self.account_credit)

    @property
    def sum(self) -> str:
        """`$20.00 − $6.00 discounts + $2.80 tax = $16.80`, and what account credit pays of it."""
        words = format_minor(self.subtotal, self.currency)
        parts = ((-self.discount_total, "discounts"), (-self.credit_total, "credits"), (self.tax_added, "tax"))
        for amount, name in parts:
            if amount:
                words += f" {'−' if amount < 0 else '+'} {format_minor(abs(amount), self.currency)} {name}"
        words += f" = {format_minor(self.total, self.currency)}"
        if self.account_credit:
            taken, due = (format_minor(amount, self.currency) for amount in (self.account_credit, self.due))
            words += f"; − {taken} account credit = {due} due"
        return words


def draw_up(
    lines: Sequence[Line],
    *,
    currency: str | None = None,
    discounts: Iterable[DiscountTerms] = (),
    plan_of: Callable[[Line], int | None] | None = None,
    beside: Sequence[Line] = (),
    bounds: Iterable[Bound] = (),
    commitment: Commitment | None = None,
    grants: Iterable[MoneyGrant] = (),
    taxes: Callable[[Line], Sequence[TaxTerms]] | None = None,
    account_credit: int = 0,
) -> Drawn:
    """The document that these lines make.

    `currency` is needed where neither lines nor a commitment name it; `plan_of` where a discount is limited to plans.
    `taxes` names the rates of each line, also of those that bounds and commitment add here; of a credit it names
    those of its source. `beside` is what else is paid for the same time. A second currency raises `ValueError`.
    """
    currency = _one_currency(lines, commitment, currency)
    deductions = discount(lines, discounts, plan_of, beside)
    every = [*lines, *bound_lines(lines, _parts(deductions, lines), bounds, currency)]
    if commitment and (missing := true_up_line(commitment, every, _parts(deductions, every))):
        every.append(missing)
    discounted = _parts(deductions, every)
    nets = [line.amount - off for line, off in zip(every, discounted, strict=True)]
    credits = spend(grants, nets, currency)
    drawn = tuple(
        DrawnLine(line, off, credited, tax_line(line.amount - off - credited, taxes(line)) if taxes else ())
        for line, off, credited in zip(every, discounted, _parts(credits, every), strict=True)
    )
    totals = tax_totals(tax for line in drawn for tax in line.taxes)
    document = Drawn(drawn, (*deductions, *credits), totals, currency)
    return replace(document, account_credit=max(0, min(account_credit, document.total)))


def _one_currency(lines: Sequence[Line], commitment: Commitment | None, currency: str | None) -> str:
    found = {line.currency for line in lines} | {c for c in (currency, commitment and commitment.currency) if c}
    if len(found) != 1:
        raise ValueError(f"A document has one currency, not {', '.join(sorted(found)) or 'none'}.")
    return found.pop()


def _parts(deductions: Iterable[Deduction], lines: Sequence[Line]) -> list[int]:
    """What the deductions take off each line."""
    taken = [0] * len(lines)
    for deduction in deductions:
        for index, part in deduction.parts:
            taken[index] += part
    return taken
