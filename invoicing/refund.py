"""How much of a credit can go back as money: what really came in for the lines that it gives back, and no more."""

from collections.abc import Iterable
from fractions import Fraction

from django.db.models import Sum

from catalog.money import round_half_away
from invoicing.documents import Document
from invoicing.models import Invoice, InvoiceLine, Refund
from invoicing.states import InvoiceState


def refundable(document: Document) -> int:
    """Of a previewed credit note, minor units; nothing of one that comes off an open invoice."""
    if not document.is_credit_note or document.offsets_id is not None:
        return 0
    return min(-document.total, money_for((drawn.line.source_id, -drawn.net) for drawn in document.drawn.lines))


def refundable_of(note: Invoice) -> int:
    """The same of a credit note that was written."""
    return min(-note.total, money_for((line.source_id, -line.net) for line in note.lines.all()))


def money_for(credits: Iterable[tuple[int | None, int]]) -> int:
    """What of these credits was paid with money, tax included; the rest was paid from account credit.

    A credit is the id of the line that it gives back of (None: of none), and an amount above zero.
    """
    credited = {line_id: amount for line_id, amount in credits if line_id}
    lines = InvoiceLine.objects.filter(pk__in=credited).select_related("invoice")
    by_invoice: dict[Invoice, int] = {}
    for line in lines:
        taxed = credited[line.pk] + _tax_of(line, credited[line.pk])
        by_invoice[line.invoice] = by_invoice.get(line.invoice, 0) + taxed
    return sum(_money_of(invoice, amount) for invoice, amount in by_invoice.items())


def _tax_of(line: InvoiceLine, credited: int) -> int:
    """The tax on top that goes back with a part of a line."""
    added = sum(tax["amount"] for tax in line.taxes if not tax["inclusive"])
    return round_half_away(Fraction(added * credited, line.net)) if line.net else 0


def _money_of(invoice: Invoice, amount: int) -> int:
    came = invoice.paid + invoice.credit_applied
    if not came or invoice.state == InvoiceState.VOID:
        return 0
    notes = Invoice.objects.filter(lines__source__invoice=invoice).exclude(state=InvoiceState.VOID)
    returned = Refund.objects.filter(credit_note__in=notes.values("pk")).aggregate(sum=Sum("amount"))["sum"] or 0
    return min(amount * invoice.paid // came, max(0, invoice.paid - returned))
