"""What happened to a document: from its own rows, those that settled it, and the journal; oldest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_

from django.db.models import Q

from catalog.money import format_minor
from customers.models import Operation
from invoicing.models import Invoice
from invoicing.states import InvoiceState

# Acts that other rows of the document tell already.
TOLD = {
    "payment.received",
    "invoice.issued",
    "invoice.voided",
    "payment.expired",
    "invoice.credited",
    "credit_note.voided",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of an invoice's history."""

    at: datetime
    text: str
    actor: str = ""
    reason: str = ""


def history(invoice: Invoice) -> list[Moment]:
    """Reads prefetched payments, credit entries, reminders and notes; the journal in one query."""
    named = [Q(**{f"inputs__{name}": invoice.public_id}) for name in ("invoice", "creditNote", "on")]
    acts = list(Operation.objects.filter(reduce(or_, named), customer_id=invoice.customer_id).order_by("id"))
    found = [*_made(invoice, acts), *_settled(invoice), *_told(invoice, acts), *_ended(invoice, acts)]
    return sorted(found, key=lambda moment: moment.at)


def _made(invoice: Invoice, acts: list[Operation]) -> Iterator[Moment]:
    operation = invoice.operation
    who = (operation.actor, operation.reason) if operation else ("", "")
    if operation and (invoice.issued_at is None or operation.at < invoice.issued_at):
        yield Moment(operation.at, f"Drafted: {operation.summary}", *who)
    if invoice.issued_at:
        issuing = next((act for act in acts if act.verb == "invoice.issued"), None)
        yield Moment(invoice.issued_at, "Issued", *((issuing.actor, issuing.reason) if issuing else who))


def _settled(invoice: Invoice) -> Iterator[Moment]:
    """Money and credit that came and went, and what asked for it."""
    currency = invoice.currency
    for entry in invoice.credit_entries.all():
        yield Moment(entry.at, f"{entry.get_kind_display()}: {format_minor(abs(entry.amount), currency)}")
    for note in {*invoice.offset_by.all(), *invoice.credit_notes.all()}:
        if note.issued_at:
            who = (note.operation.actor, note.operation.reason) if note.operation else ("", "")
            undone = ", until it was voided" if note.state == InvoiceState.VOID else ""
            yield Moment(note.issued_at, f"{note} took {format_minor(-note.total, currency)} off{undone}", *who)
    for payment in invoice.payments.all():
        received = f"{format_minor(payment.amount, currency)} received"
        yield Moment(payment.at, received, payment.actor, f"Reference {payment.reference}")
    for reminder in invoice.sent_reminders.all():
        to = f" to {reminder.sent_to}" if reminder.sent_to else ", without an address to send it to"
        yield Moment(reminder.at, f"Reminder {reminder.number}{to}")
    if invoice.paid_at and invoice.kind == Invoice.Kind.INVOICE:
        yield Moment(invoice.paid_at, "Paid")


def _told(invoice: Invoice, acts: list[Operation]) -> Iterator[Moment]:
    for act in acts:
        if act.verb not in TOLD and act.pk != invoice.operation_id:
            yield Moment(act.at, act.summary, act.actor, act.reason)


def _ended(invoice: Invoice, acts: list[Operation]) -> Iterator[Moment]:
    if invoice.voided_at and invoice.state == InvoiceState.VOID:
        voiding = {"invoice.voided", "payment.expired", "credit_note.voided"}
        act = next((act for act in acts if act.verb in voiding), None)
        yield Moment(invoice.voided_at, "Voided", act.actor if act else "", invoice.void_reason)
