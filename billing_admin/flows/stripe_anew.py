"""What people decide about the collection of one invoice: stop it, or begin it anew.

Either ends Stripe's invoice and keeps ours. Neither touches one for which a payment is under way.
"""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from billing_admin.flows.stripe_account import connect, failing, reached
from billing_admin.flows.stripe_collect import CLAIM, hand_over, method_of, observe, try_again, void_there
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from invoicing.models import Invoice
from invoicing.states import InvoiceState
from payments.facts import InvoiceFacts
from payments.gateway import Gateway, Missing, NotAllowed, Refused, StripeTrouble, Unreachable, gateway
from payments.models import Method, StripeAccount, StripeInvoice
from payments.steps import MONEY_MOVES

State = StripeInvoice.State


class NotCollected(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"{invoice} is not collected with Stripe.", code="not_collected")


class NotOwed(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"Nothing is due on {invoice}, so there is nothing to collect.", code="nothing_to_collect")


class AlreadyCollected(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"{invoice} is collected with Stripe already.", code="already_collected")


class NothingToRetry(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"{invoice} was neither declined nor parked.", code="nothing_to_retry")


class PaymentUnderWay(ValidationError):
    def __init__(self) -> None:
        super().__init__("A payment for it is under way. Wait until it came or failed.", code="payment_under_way")


class BeingCollected(ValidationError):
    def __init__(self) -> None:
        super().__init__("A worker is at it. Try again in a moment.", code="being_collected")


class StripeIsAway(ValidationError):
    """Stripe did not answer, or said no. Nothing changed here."""

    def __init__(self, trouble: StripeTrouble):
        code = "stripe_unreachable" if isinstance(trouble, Unreachable) else "stripe_refused"
        super().__init__(f"Stripe: {trouble.sentence} Nothing was changed here.", code=code)


def collect_with_stripe(
    invoice: Invoice, *, actor: Actor, now: datetime, account: StripeAccount | None = None
) -> StripeInvoice:
    """Hand an open invoice to Stripe; without `account` Stripe may be asked whose keys we have."""
    if invoice.kind != Invoice.Kind.INVOICE or invoice.state != InvoiceState.OPEN or not invoice.due:
        raise NotOwed(invoice)
    if StripeInvoice.objects.filter(invoice=invoice).exists():
        raise AlreadyCollected(invoice)
    try:
        return hand_over(invoice, account or connect(now), actor=actor, now=now)
    except StripeTrouble as trouble:
        raise StripeIsAway(trouble) from trouble


def can_be_retried(row: StripeInvoice) -> bool:
    """Somebody may ask for the next step before its time: a charge that was declined, or a cause that was mended."""
    if row.state == State.PARKED or row.attempts > 0:
        return True
    return row.state == State.DECLINED and row.invoice.state == InvoiceState.OPEN and row.method != Method.NONE


def retry(invoice: Invoice, *, actor: Actor, now: datetime) -> Operation:
    """Ask for the next step now; a worker takes it."""
    row = StripeInvoice.objects.select_related("invoice").filter(invoice=invoice).first()
    if row is None:
        raise NotCollected(invoice)
    if not can_be_retried(row):
        raise NothingToRetry(invoice)
    return try_again(row, actor=actor, now=now)


@transaction.atomic
def stop_collecting(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Keep an invoice open here and let a worker void it in Stripe: it is collected by hand from now on."""
    reason = require_reason(reason, "stopping the collection")
    customer, row = _locked(invoice)
    if row.method == Method.NONE or row.state == State.VOID:
        raise NotCollected(invoice)
    if row.state == State.PROCESSING:
        raise PaymentUnderWay
    if row.invoice.state != InvoiceState.OPEN:
        raise NotOwed(row.invoice)
    row.method, row.charge_asked = Method.NONE, False
    row.parked_at, row.next_attempt_at, row.attempts = None, now, 0
    if row.state == State.PARKED:
        row.state, row.code, row.problem = State.WAITING, "", ""
    row.save()
    return record(
        customer,
        "collection.stopped",
        f"Stopped collecting {row.invoice} with Stripe",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": row.invoice.public_id, "stripeInvoice": row.stripe_id},
    )


def collect_anew(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> StripeInvoice:
    """Void what Stripe has of an open invoice and hand it over again, as it is now. Asks Stripe.

    A death between the two leaves an invoice that is void there and open here, where this can be done again.
    """
    reason = require_reason(reason, "collecting it anew")
    row = StripeInvoice.objects.select_related("invoice__customer").filter(invoice=invoice).first()
    if row is None:
        raise NotCollected(invoice)
    if row.invoice.state != InvoiceState.OPEN or not row.invoice.due:
        raise NotOwed(row.invoice)
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    if not StripeInvoice.objects.filter(free, pk=row.pk).update(claimed_until=now + CLAIM):
        raise BeingCollected
    try:
        _end_there(row, gateway(), now)
        account = connect(now)
        return _begin_again(row, account, reason=reason, actor=actor, now=now)
    except StripeTrouble as trouble:
        if isinstance(trouble, Unreachable | NotAllowed):
            failing(trouble, now)
        raise StripeIsAway(trouble) from trouble
    finally:
        StripeInvoice.objects.filter(pk=row.pk).update(claimed_until=None)


def _end_there(row: StripeInvoice, door: Gateway, now: datetime) -> None:
    """Nothing is left in Stripe that asks for it. What was paid meanwhile is recorded, and this is refused.

    What somebody there marked as paid without a payment asks for nothing.
    """
    seen = _seen(row, door)
    reached(now)
    if seen is None or seen.status == "void":
        return
    if any(payment.status in MONEY_MOVES for payment in seen.payments):
        raise PaymentUnderWay
    if seen.status == "draft":
        door.delete_draft(seen.id)
        return
    if seen.status == "paid":
        _take_in(row, seen, now)
        return
    try:
        void_there(row, seen, door)
    except Refused:
        # It may have been paid in this very moment.
        after = door.invoice(seen.id)
        if after.status != "paid":
            raise
        _take_in(row, after, now)


def _take_in(row: StripeInvoice, seen: InvoiceFacts, now: datetime) -> None:
    after = observe(row, seen, now)
    if after.state != State.OUTSIDE or after.invoice.state != InvoiceState.OPEN:
        raise NotOwed(row.invoice)


def _seen(row: StripeInvoice, door: Gateway) -> InvoiceFacts | None:
    try:
        return door.invoice(row.stripe_id) if row.stripe_id else None
    except Missing:
        return None


@transaction.atomic
def _begin_again(
    row: StripeInvoice, account: StripeAccount, *, reason: str, actor: Actor, now: datetime
) -> StripeInvoice:
    customer, present = _locked(row.invoice)
    before = present.stripe_id
    invoice = Invoice.objects.select_related("customer__stripe").get(pk=row.invoice_id)
    if invoice.state != InvoiceState.OPEN or not invoice.due:
        raise NotOwed(invoice)
    present.method = method_of(invoice, account, now)
    present.stripe_id, present.status, present.number = None, "", ""
    present.state, present.code, present.problem = State.WAITING, "", ""
    present.payment_intent = present.hosted_url = present.pdf_url = ""
    present.asked = present.collected = present.refunded = 0
    present.charges, present.charge_asked, present.attempts = 0, False, 0
    # Other keys: Stripe would answer the old ones with the invoice that is void.
    present.generation += 1
    present.queued_at = present.next_attempt_at = now
    present.parked_at = None
    present.save()
    record(
        customer,
        "collection.started",
        f"Handed {invoice} to Stripe anew",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id, "before": before},
    )
    return present


def _locked(invoice: Invoice) -> tuple[Customer, StripeInvoice]:
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    rows = StripeInvoice.objects.select_for_update(of=("self",)).select_related("invoice")
    row = rows.filter(invoice=invoice).first()
    if row is None:
        raise NotCollected(invoice)
    return customer, row
