"""Verbs: lines become documents with gapless numbers; payments and account credit settle them; a void undoes one.

Callers hold the customer's row, which serialises the numbers and the account credit of one customer.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from string import ascii_uppercase

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.text import slugify

from catalog.money import format_minor
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation, Phase, Subscription
from invoicing.lines import Document, Line, documents
from invoicing.models import CreditEntry, Invoice, InvoiceLine, InvoiceSeries, Payment
from invoicing.readings import account_credit
from invoicing.states import InvoiceState


class BadPayment(ValidationError):
    def __init__(self, why: str, code: str = "bad_payment"):
        super().__init__(why, code=code)


def issue(
    customer: Customer,
    lines: Sequence[Line],
    *,
    now: datetime,
    subscription: Subscription | None = None,
    phase: Phase | None = None,
    operation: Operation | None = None,
    phases: dict[int, Phase] | None = None,
) -> list[Invoice]:
    """Write and issue the documents of these lines; nothing for no lines. A sum below zero is a credit note.

    `phases` names the phase of a line by its item, where they differ from `phase`.
    """
    return [
        _issue_one(customer, document, now, subscription, phase, operation, phases or {})
        for document in documents(lines)
    ]


def _issue_one(
    customer: Customer,
    document: Document,
    now: datetime,
    subscription: Subscription | None,
    phase: Phase | None,
    operation: Operation | None,
    phases: dict[int, Phase],
) -> Invoice:
    starts = [line.starts_at for line in document.lines if line.starts_at]
    ends = [line.ends_at for line in document.lines if line.ends_at]
    kind = Invoice.Kind.CREDIT_NOTE if document.is_credit_note else Invoice.Kind.INVOICE
    invoice = Invoice(
        kind=kind,
        customer=customer,
        subscription=subscription,
        operation=operation,
        currency=document.currency,
        total=document.total,
        covers_from=min(starts, default=None),
        covers_until=max(ends, default=None),
        number=next_number(customer, kind),
        issued_at=now,
        due_at=now if kind == Invoice.Kind.INVOICE else None,
    )
    invoice.move_to(InvoiceState.OPEN)
    if document.offsets_id:
        invoice.offsets_id = document.offsets_id
    invoice.save()
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            position=position,
            kind=line.kind,
            subscription=subscription,
            phase=phases.get(line.item_id or 0, phase),
            item_id=line.item_id,
            balance_id=line.balance_id,
            source_id=line.source_id,
            key=line.key,
            description=line.description,
            quantity=line.quantity,
            rate=line.rate,
            starts_at=line.starts_at,
            ends_at=line.ends_at,
            amount=line.amount,
            derivation=line.derivation,
        )
        for position, line in enumerate(document.lines)
    )
    _settle_new(invoice, document, now)
    return invoice


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
        number = f"{series.prefix}-{series.invoices:04}"
    series.save(update_fields=["invoices", "credit_notes"])
    return number


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


def _settle_new(invoice: Invoice, document: Document, now: datetime) -> None:
    if document.offsets_id:
        target = Invoice.objects.select_for_update().get(pk=document.offsets_id)
        target.offset += -document.total
        target.save(update_fields=["offset"])
        _pay_if_settled(target, now)
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    elif invoice.kind == Invoice.Kind.CREDIT_NOTE:
        enter_credit(invoice.customer, CreditEntry.Kind.CREDIT_NOTE, -invoice.total, invoice=invoice, now=now)
        invoice.move_to(InvoiceState.PAID)
        invoice.paid_at = now
    else:
        available = min(account_credit(invoice.customer), invoice.total)
        if available > 0:
            enter_credit(invoice.customer, CreditEntry.Kind.APPLIED, -available, invoice=invoice, now=now)
            invoice.credit_applied = available
        _pay_if_settled(invoice, now)
    invoice.save()


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
def receive_payment(invoice: Invoice, *, amount: int, reference: str, actor: Actor, now: datetime) -> Payment:
    """Record money that arrived, in minor units. What exceeds the rest becomes account credit. Raises `BadPayment`."""
    if not reference.strip():
        raise BadPayment("Give the reference of the payment, such as the bank's transaction number.")
    if amount <= 0:
        raise BadPayment("A payment is more than zero.")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if invoice.kind != Invoice.Kind.INVOICE or invoice.state not in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE):
        why = f"{invoice} is {invoice.get_state_display().lower()}; there is nothing to pay."
        raise BadPayment(why, code="nothing_to_pay")
    counted = min(amount, invoice.due)
    payment = Payment.objects.create(
        invoice=invoice, amount=amount, reference=reference.strip(), actor=actor.name, at=now
    )
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
    return payment


@transaction.atomic
def void(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Invoice:
    """Cancel an open invoice: nothing is owed any more, what was paid or applied becomes account credit."""
    reason = require_reason(reason, "voiding an invoice")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update().get(pk=invoice.pk)
    if invoice.kind != Invoice.Kind.INVOICE:
        raise ValidationError("Only invoices can be voided.", code="not_an_invoice")
    invoice.move_to(InvoiceState.VOID)
    invoice.voided_at, invoice.void_reason = now, reason
    invoice.save(update_fields=["state", "voided_at", "void_reason"])
    returned = invoice.credit_applied + invoice.paid
    if returned:
        enter_credit(customer, CreditEntry.Kind.RETURNED, returned, invoice=invoice, now=now)
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
