"""How much of a credit can go back as money: what really came in for the lines that it gives back, and no more."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from django.db.models import Sum

from catalog.money import round_half_away
from invoicing.documents import Document
from invoicing.models import Invoice, InvoiceLine, Payment, Refund
from invoicing.providers import MANUAL
from invoicing.states import InvoiceState


def refundable(document: Document) -> int:
    """Of a previewed credit note, minor units; nothing of one that comes off an open invoice."""
    if not document.is_credit_note or document.offsets_id is not None:
        return 0
    return min(-document.total, money_for((drawn.line.source_id, -drawn.net) for drawn in document.drawn.lines))


def money_for(credits: Iterable[tuple[int | None, int]]) -> int:
    """What of these credits was paid with money, tax included; the rest was paid from account credit.

    A credit is the id of the line that it gives back of (None: of none), and an amount above zero.
    """
    return sum(amount for _, amount in _money_by_invoice(credits))


@dataclass(frozen=True, slots=True)
class Part:
    """What goes back of one invoice by one provider, minor units."""

    of: Invoice
    provider: str
    amount: int


def parts_of(note: Invoice) -> list[Part]:
    """How what a written credit note gives back came in as money, as far as the note is worth it."""
    left, parts = -note.total, []
    for invoice, amount in _money_by_invoice((line.source_id, -line.net) for line in note.lines.all()):
        parts += split(invoice, min(left, amount))
        left -= min(left, amount)
    return parts


def split(invoice: Invoice, amount: int) -> list[Part]:
    """What a provider took in goes back through it first; the rest staff sends by hand."""
    parts = []
    for provider, came in _came_by_provider(invoice):
        part = min(amount, max(0, came - _refunded(invoice, provider=provider)))
        if part:
            parts.append(Part(invoice, provider, part))
            amount -= part
    return [*parts, Part(invoice, MANUAL, amount)] if amount else parts


def refunded(invoice: Invoice) -> int:
    """What goes or went back of an invoice as money, minor units."""
    return _refunded(invoice)


def _money_by_invoice(credits: Iterable[tuple[int | None, int]]) -> list[tuple[Invoice, int]]:
    credited = {line_id: amount for line_id, amount in credits if line_id}
    lines = InvoiceLine.objects.filter(pk__in=credited).select_related("invoice").order_by("invoice_id", "id")
    by_invoice: dict[Invoice, int] = {}
    for line in lines:
        taxed = credited[line.pk] + _tax_of(line, credited[line.pk])
        by_invoice[line.invoice] = by_invoice.get(line.invoice, 0) + taxed
    return [(invoice, _money_of(invoice, amount)) for invoice, amount in by_invoice.items()]


def _tax_of(line: InvoiceLine, credited: int) -> int:
    """The tax on top that goes back with a part of a line."""
    added = sum(tax["amount"] for tax in line.taxes if not tax["inclusive"])
    return round_half_away(Fraction(added * credited, line.net)) if line.net else 0


def _money_of(invoice: Invoice, amount: int) -> int:
    came = invoice.paid + invoice.credit_applied
    if not came or invoice.state == InvoiceState.VOID:
        return 0
    return min(amount * invoice.paid // came, max(0, invoice.paid - refunded(invoice)))


def _came_by_provider(invoice: Invoice) -> list[tuple[str, int]]:
    payments = Payment.objects.filter(invoice=invoice).exclude(provider=MANUAL).order_by()
    return list(payments.values_list("provider").annotate(came=Sum("amount")).order_by("provider"))


def _refunded(invoice: Invoice, **by: str) -> int:
    live = Refund.objects.filter(of=invoice, **by).exclude(credit_note__state=InvoiceState.VOID)
    found: int = live.aggregate(sum=Sum("amount"))["sum"] or 0
    return found
