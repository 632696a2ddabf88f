"""The lines of a Stripe invoice: ours, one by one, then what came off, tax, and what is settled already. Pure.

Discounts, tax and account credit are lines of their own, because they are ours and Stripe must not compute any of
them. The sum is what is still due, to the cent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from invoicing.models import Deduction, Invoice, InvoiceLine

# Stripe takes 250 items on an invoice: what is beyond, together with the lines below it, must fit.
MOST = 200


@dataclass(frozen=True, slots=True)
class SentLine:
    """`key` is what the line is known by on the way; `amount` in minor units, below zero for what comes off."""

    key: str
    description: str
    amount: int
    period: tuple[datetime, datetime] | None = None


def sent_lines(invoice: Invoice, lines: Iterable[InvoiceLine], deductions: Iterable[Deduction]) -> tuple[SentLine, ...]:
    """What Stripe is to ask for: lines that sum to `invoice.due`."""
    lines = list(lines)
    own = [_of(line) for line in lines[:MOST]]
    if rest := lines[MOST:]:
        words = f"{len(rest)} more lines, see {invoice.number}"
        own.append(SentLine("more", words, sum(line.amount for line in rest)))
    off = [SentLine(f"deduction-{d.position}", d.label, -d.amount) for d in deductions]
    settled = (
        SentLine("account-credit", "Account credit", -invoice.credit_applied),
        SentLine("offset", "Credit notes", -invoice.offset),
        SentLine("paid", "Paid already", -invoice.paid),
    )
    return (*own, *off, *_taxes(lines), *(line for line in settled if line.amount))


def _of(line: InvoiceLine) -> SentLine:
    period = (line.starts_at, line.ends_at) if line.starts_at and line.ends_at else None
    return SentLine(f"line-{line.position}", line.description, line.amount, period)


def _taxes(lines: Iterable[InvoiceLine]) -> list[SentLine]:
    """What is added on top, a line per rate; what is inside the prices is in the lines."""
    sums: dict[str, int] = {}
    for line in lines:
        for tax in line.taxes:
            if not tax["inclusive"]:
                label = f"{tax['name']} {tax['percent']} %"
                sums[label] = sums.get(label, 0) + tax["amount"]
    return [SentLine(f"tax-{number}", label, amount) for number, (label, amount) in enumerate(sums.items())]
