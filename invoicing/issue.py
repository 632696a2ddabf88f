"""Verbs: lines become documents with gapless numbers; payments and account credit settle them; a void undoes one.

Callers hold the customer's row, which serialises the numbers and the account credit of one customer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from string import ascii_uppercase
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils.text import slugify

from catalog.money import format_minor
from customers.journal import CLOCKWORK, Actor, record, require_reason
from customers.models import Customer, Operation, Phase, Subscription
from invoicing.documents import Document
from invoicing.mail import mail_when_written
from invoicing.manual import attach_pending
from invoicing.models import CreditEntry, Deduction, Invoice, InvoiceLine, InvoiceSeries, Payment, Refund
from invoicing.pipeline import Drawn, DrawnLine
from invoicing.providers import MANUAL, tell_providers
from invoicing.readings import account_credit, given_back
from invoicing.refund import Part, parts_of
from invoicing.states import InvoiceState


class BadPayment(ValidationError):
    def __init__(self, why: str, code: str = "bad_payment"):
        super().__init__(why, code=code)


class CustomerNotLocked(TransactionManagementError):
    """A caller's mistake: outside a transaction nobody can hold the customer's row."""

    def __init__(self) -> None:
        super().__init__("Documents are issued under the lock of their customer's row, inside a transaction.")


@dataclass(frozen=True, slots=True)
class Issuing:
    """How documents come into the world. `phases` names the phase of a line by its item, where it is not `phase`.

    A draft waits until `draft_until` (None: until somebody issues it) and bills use until `boundary_at`; `gates` is the
    phase that its payment starts, `expires_at` how long it may stay unpaid. `refunds`: what credit notes give back is
    paid out, as far as money came in for it.
    """

    subscription: Subscription | None = None
    phase: Phase | None = None
    operation: Operation | None = None
    phases: Mapping[int, Phase] = field(default_factory=dict)
    net_terms_days: int = 0
    is_draft: bool = False
    draft_until: datetime | None = None
    boundary_at: datetime | None = None
    gates: Phase | None = None
    expires_at: datetime | None = None
    awaits_approval: bool = False
    refunds: bool = False


def issue(
    customer: Customer, documents: Sequence[Document], *, now: datetime, how: Issuing | None = None
) -> list[Invoice]:
    """Write and issue documents; a total below zero is a credit note. Raises `CustomerNotLocked`."""
    if not connection.in_atomic_block:
        raise CustomerNotLocked
    how = how or Issuing()
    issued = []
    for document in documents:
        invoice = write(customer, document, how=how)
        if not how.is_draft or invoice.kind == Invoice.Kind.CREDIT_NOTE:
            settle_issued(invoice, now=now, net_terms_days=how.net_terms_days, refunds=how.refunds)
        issued.append(invoice)
    return issued


def write(customer: Customer, document: Document, *, how: Issuing) -> Invoice:
    """A document as a draft, with its lines and deductions."""
    invoice = draft_of(customer, document, how=how)
    invoice.save()
    write_lines(invoice, document.drawn, how=how)
    return invoice


def draft_of(customer: Customer, document: Document, *, how: Issuing) -> Invoice:
    """The row of a document, not written yet."""
    return Invoice(
        kind=Invoice.Kind.CREDIT_NOTE if document.is_credit_note else Invoice.Kind.INVOICE,
        customer=customer,
        subscription=how.subscription,
        operation=how.operation,
        currency=document.currency,
        offsets_id=document.offsets_id,
        issues_at=how.draft_until,
        boundary_at=how.boundary_at if how.is_draft else None,
        gates=how.gates,
        expires_at=how.expires_at,
        awaits_approval=how.awaits_approval,
        **totals_of(document.drawn),
    )


def totals_of(drawn: Drawn) -> dict[str, Any]:
    """The columns of an invoice that are sums over its parts."""
    starts = [line.line.starts_at for line in drawn.lines if line.line.starts_at]
    ends = [line.line.ends_at for line in drawn.lines if line.line.ends_at]
    return {
        "subtotal": drawn.subtotal,
        "discount_total": drawn.discount_total,
        "credit_total": drawn.credit_total,
        "tax_added": drawn.tax_added,
        "tax_included": drawn.tax_included,
        "total": drawn.total,
        "covers_from": min(starts, default=None),
        "covers_until": max(ends, default=None),
    }


def write_lines(invoice: Invoice, drawn: Drawn, *, how: Issuing, kept: Mapping[int, InvoiceLine] | None = None) -> None:
    """The rows of what was drawn up: lines with their deductions and taxes, and who gave the deductions.

    `kept` are rows that are there already, by their place: they charge the same, less other deductions and taxes.
    """
    kept = kept or {}
    for position, row in kept.items():
        _draw_again(row, position, drawn.lines[position])
    InvoiceLine.objects.bulk_update(kept.values(), ["position", "discounted", "credited", "tax", "taxes"])
    attach_pending(
        InvoiceLine.objects.bulk_create(
            line_row(invoice, position, found, how)
            for position, found in enumerate(drawn.lines)
            if position not in kept
        )
    )
    Deduction.objects.bulk_create(
        Deduction(
            invoice=invoice,
            position=position,
            kind=found.kind,
            applied_coupon_id=found.source_id if found.kind == Deduction.Kind.DISCOUNT else None,
            invoice_credit_id=found.source_id if found.kind == Deduction.Kind.INVOICE_CREDIT else None,
            label=found.label,
            amount=found.amount,
            derivation={"sum": found.sum},
        )
        for position, found in enumerate(drawn.deductions)
    )


def _draw_again(row: InvoiceLine, position: int, drawn: DrawnLine) -> None:
    row.position, row.discounted, row.credited = position, drawn.discounted, drawn.credited
    row.tax, row.taxes = drawn.tax, [tax.to_json() for tax in drawn.taxes]


def line_row(invoice: Invoice, position: int, drawn: DrawnLine, how: Issuing) -> InvoiceLine:
    """The row of one line, not written yet."""
    line = drawn.line
    return InvoiceLine(
        invoice=invoice,
        position=position,
        kind=line.kind,
        subscription=how.subscription,
        phase=how.phases.get(line.item_id or 0, how.phase),
        item_id=line.item_id,
        balance_id=line.balance_id,
        source_id=line.source_id,
        override_id=line.override_id,
        key=line.key,
        description=line.description,
        quantity=line.quantity,
        rate=line.rate,
        starts_at=line.starts_at,
        ends_at=line.ends_at,
        amount=line.amount,
        discounted=drawn.discounted,
        credited=drawn.credited,
        tax=sum(tax.amount for tax in drawn.taxes),
        taxes=[tax.to_json() for tax in drawn.taxes],
        derivation=line.derivation,
    )


def settle_issued(invoice: Invoice, *, now: datetime, net_terms_days: int = 0, refunds: bool = False) -> Invoice:
    """Issue a draft: it gets its number and dates, and takes account credit; nothing of it changes afterwards."""
    open_as(invoice, next_number(invoice.customer, invoice.kind), now=now, net_terms_days=net_terms_days)
    invoice.save()
    mail_when_written(invoice)
    _settle_new(invoice, now, refunds=refunds)
    tell_providers(invoice)
    return invoice


def open_as(invoice: Invoice, number: str, *, now: datetime, net_terms_days: int) -> None:
    """Give a draft its number and dates; nothing is written yet."""
    invoice.number, invoice.issued_at, invoice.issues_at = number, now, None
    invoice.awaits_approval = False
    if invoice.kind == Invoice.Kind.INVOICE:
        invoice.due_at = now + timedelta(days=net_terms_days)
    invoice.move_to(InvoiceState.OPEN)


def next_number(customer: Customer, kind: str) -> str:
    """`ACME-0001`; credit notes have a series of their own. Counted in the transaction that issues, so without gaps."""
    series = InvoiceSeries.objects.select_for_update().filter(customer=customer).first()
    if series is None:
        series = _begin_series(customer)
    if kind == Invoice.Kind.CREDIT_NOTE:
        series.credit_notes += 1
        number = f"{series.prefix}-CN-{series.credit_notes:04}"
    else:
        series.invoices += 1
        number = invoice_number(series)
    series.save(update_fields=["invoices", "credit_notes"])
    return number


def invoice_number(series: InvoiceSeries) -> str:
    """The number of the newest invoice of a series."""
    return f"{series.prefix}-{series.invoices:04}"


def _begin_series(customer: Customer) -> InvoiceSeries:
    """A series under the first prefix that is free; the database decides, also between two who ask at once."""
    for prefix in _prefixes(customer):
        InvoiceSeries.objects.bulk_create([InvoiceSeries(customer=customer, prefix=prefix)], ignore_conflicts=True)
        if series := InvoiceSeries.objects.filter(customer=customer).first():
            return series
    raise AssertionError("the alphabet is longer than the names that look like another customer's numbers")


def _prefixes(customer: Customer) -> Iterator[str]:
    """`ACME`; with the row's own number where that is taken; with a letter where a name looks like that."""
    first_word = slugify(customer.name).split("-")[0] or slugify(customer.customer_id) or "customer"
    base = first_word.upper()[:8]
    yield base
    own = f"{base[:4]}{customer.pk}"[:11]
    yield own
    yield from (own + letter for letter in ascii_uppercase)


def _settle_new(invoice: Invoice, now: datetime, *, refunds: bool) -> None:
    if invoice.offsets_id:
        target = Invoice.objects.select_for_update().get(pk=invoice.offsets_id)
        target.offset += -invoice.total
        target.save(update_fields=["offset"])
        _pay_if_settled(target, now)
        invoice.settlement = Invoice.Settlement.OFFSET
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    elif invoice.kind == Invoice.Kind.CREDIT_NOTE:
        refunded = _refund(invoice, now) if refunds else 0
        rest = -invoice.total - refunded
        if rest:
            enter_credit(invoice.customer, CreditEntry.Kind.CREDIT_NOTE, rest, invoice=invoice, now=now)
        invoice.settlement = Invoice.Settlement.REFUND if refunded else Invoice.Settlement.ACCOUNT_CREDIT
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    else:
        available = min(account_credit(invoice.customer), invoice.total)
        if available > 0:
            enter_credit(invoice.customer, CreditEntry.Kind.APPLIED, -available, invoice=invoice, now=now)
            invoice.credit_applied = available
        _pay_if_settled(invoice, now)
    invoice.save()


def _refund(note: Invoice, now: datetime) -> int:
    """Pay out what came in as money for what a credit note gives back; staff adds the reference of the transfer."""
    by = note.operation.actor if note.operation else CLOCKWORK.name
    return write_refunds(note, parts_of(note), actor=by, now=now)


def write_refunds(note: Invoice, parts: Iterable[Part], *, reference: str = "", actor: str, now: datetime) -> int:
    """What goes back for a credit note; a `reference` says that it went already. Returns the sum."""
    rows = [
        Refund(
            credit_note=note,
            of=part.of,
            provider=part.provider,
            amount=part.amount,
            reference=reference,
            actor=actor,
            at=now,
        )
        for part in parts
    ]
    return sum(row.amount for row in Refund.objects.bulk_create(rows))


def _pay_if_settled(invoice: Invoice, now: datetime) -> None:
    if invoice.state in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE) and invoice.due == 0:
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
        if invoice.pk:
            invoice.save(update_fields=["state", "paid_at"])


def enter_credit(customer: Customer, kind: str, amount: int, *, invoice: Invoice, now: datetime) -> CreditEntry:
    """Append one line to the customer's account credit."""
    return CreditEntry.objects.create(
        customer=customer, currency=invoice.currency, kind=kind, amount=amount, invoice=invoice, at=now
    )


@transaction.atomic
def receive_payment(
    invoice: Invoice, *, amount: int, reference: str, provider: str = MANUAL, actor: Actor, now: datetime
) -> Payment:
    """Record money that arrived, in minor units. What exceeds the rest becomes account credit.

    What a provider took in is there whatever we think of the invoice: it is recorded once per `reference`, and for a
    document that is settled already it becomes account credit, with an alert. Raises `BadPayment`.
    """
    if not reference.strip():
        raise BadPayment("Give the reference of the payment, such as the bank's transaction number.")
    if amount <= 0:
        raise BadPayment("A payment is more than zero.")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update().get(pk=invoice.pk)
    paid = Payment(invoice=invoice, amount=amount, reference=reference.strip(), provider=provider, at=now)
    paid.actor = actor.name
    if provider != MANUAL and (known := Payment.objects.filter(provider=provider, reference=paid.reference).first()):
        return known
    closed = {InvoiceState.VOID} if provider == MANUAL else {InvoiceState.VOID, InvoiceState.PAID}
    if invoice.kind == Invoice.Kind.INVOICE and invoice.state in closed:
        return _keep_late_payment(customer, paid, actor=actor, now=now)
    if invoice.kind != Invoice.Kind.INVOICE or invoice.state not in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE):
        why = f"{invoice} is {invoice.get_state_display().lower()}; there is nothing to pay."
        raise BadPayment(why, code="nothing_to_pay")
    counted = min(amount, invoice.due)
    paid.save()
    invoice.paid += counted
    if invoice.due == 0:
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    invoice.save(update_fields=["paid", "state", "paid_at"])
    if amount > counted:
        enter_credit(customer, CreditEntry.Kind.OVERPAID, amount - counted, invoice=invoice, now=now)
    record(
        customer,
        "payment.received",
        f"{format_minor(amount, invoice.currency)} received for {invoice}",
        actor=actor,
        now=now,
        inputs={"invoice": invoice.public_id, "amount": amount, "reference": reference},
        effects={"state": invoice.state, "due": invoice.due, "toAccountCredit": amount - counted},
    )
    tell_providers(invoice)
    return paid


def annul(invoice: Invoice, *, reason: str, now: datetime) -> int:
    """Make a draft or an open invoice void; what was paid or applied, and nobody gave back yet, becomes account credit.

    Returns that amount.
    """
    returned = max(0, invoice.credit_applied + invoice.paid - given_back(invoice))
    invoice.move_to(InvoiceState.VOID)
    invoice.voided_at, invoice.void_reason = now, reason
    invoice.next_reminder_at = invoice.expires_at = invoice.issues_at = None
    invoice.save(update_fields=["state", "voided_at", "void_reason", "next_reminder_at", "expires_at", "issues_at"])
    if returned:
        enter_credit(invoice.customer, CreditEntry.Kind.RETURNED, returned, invoice=invoice, now=now)
    tell_providers(invoice)
    return returned


def _keep_late_payment(customer: Customer, paid: Payment, *, actor: Actor, now: datetime) -> Payment:
    """Money for an invoice that is settled is the customer's: it becomes account credit, and somebody should know."""
    paid.save()
    invoice, amount = paid.invoice, paid.amount
    enter_credit(customer, CreditEntry.Kind.LATE, amount, invoice=invoice, now=now)
    record(
        customer,
        "payment.late",
        f"{format_minor(amount, invoice.currency)} came for {invoice}, which is "
        f"{invoice.get_state_display().lower()}: now account credit",
        actor=actor,
        now=now,
        inputs={"invoice": invoice.public_id, "amount": amount, "reference": paid.reference},
        effects={"toAccountCredit": amount, "alert": True},
    )
    return paid


@transaction.atomic
def void(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Cancel an open invoice: nothing is owed any more, what was paid or applied becomes account credit."""
    reason = require_reason(reason, "voiding an invoice")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if invoice.kind != Invoice.Kind.INVOICE:
        raise ValidationError("Only invoices can be voided.", code="not_an_invoice")
    returned = annul(invoice, reason=reason, now=now)
    record(
        customer,
        "invoice.voided",
        f"Voided {invoice}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id},
        effects={"returnedToAccountCredit": returned},
    )
    return invoice
