"""Give money back through Stripe: what a credit note of ours refunds of an invoice that was paid there.

Stripe makes the refund together with a credit note of its own. What is to be done are the refunds here that have none
there yet; once one is handed over it cannot be taken back here, because nobody can stop it there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from billing_admin.flows.stripe_account import failing, reached
from billing_admin.flows.stripe_collect import BY_STRIPE, CLAIM, STRIPE, Collected, refresh
from billing_admin.flows.stripe_customers import backoff
from catalog.money import format_minor
from customers.journal import CLOCKWORK, Actor, record
from customers.models import Customer, Operation
from invoicing.models import Invoice, Refund
from invoicing.providers import MANUAL
from invoicing.states import InvoiceState
from payments.facts import CreditFacts
from payments.gateway import Busy, Faltered, Gateway, NotAllowed, StripeTrouble, Unreachable, enabled, gateway
from payments.minor import NotInStripe
from payments.models import StripeAccount, StripeCredit, StripeInvoice
from payments.words import why_refund_failed

log = structlog.get_logger("billing_admin.stripe")

State = StripeCredit.State
BROKE = "Something went wrong here; the failures of the worker say what."
MOST = 200
# A refund under way is looked at so often, should no event tell its end.
LOOKS = timedelta(days=1)
ON_ITS_WAY = ("pending", "requires_action")
CAME_BACK = ("failed", "canceled")
UNDONE = (State.WAITING, State.PARKED, State.FAILED)
ASKS_CUSTOMER = "Stripe has asked the customer where to send the money."


class NotStuck(ValidationError):
    def __init__(self, credit: StripeCredit):
        super().__init__(f"The refund of {credit.note} does not wait for a person.", code="not_stuck")


class NoReference(ValidationError):
    def __init__(self) -> None:
        super().__init__(
            "Give the reference of the transfer, such as the bank's transaction number.", code="reference_required"
        )


# What is to be given back ---------------------------------------------------------------------------------------------


def enqueue_credits(now: datetime) -> int:
    """Rows for refunds that Stripe is to make and has none for. Returns how many.

    Those of a credit note that was voided meanwhile end with it.
    """
    void = StripeCredit.objects.filter(state__in=UNDONE, note__state=InvoiceState.VOID)
    void.update(state=State.CANCELED, next_attempt_at=None)
    known = StripeCredit.objects.filter(note=OuterRef("credit_note"), of__invoice=OuterRef("of"))
    waiting = Refund.objects.filter(~Exists(known), provider=STRIPE, reference="", sent_at=None)
    waiting = waiting.filter(credit_note__state=InvoiceState.PAID, of__stripe__stripe_id__isnull=False)
    rows = [
        StripeCredit(
            note_id=refund.credit_note_id,
            of=refund.of.stripe,
            amount=refund.amount,
            queued_at=now,
            next_attempt_at=now,
        )
        for refund in waiting.select_related("of__stripe")[:MOST]
    ]
    StripeCredit.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def credit_due(now: datetime, most: int = MOST) -> Collected:
    """Every refund whose next step is due. Where Stripe does not answer, one call is tried and the rest waits.

    One that breaks waits like the others and holds up none.
    """
    this = Collected()
    if StripeAccount.present() is None:
        return this
    for pk in list(StripeCredit.objects.due(now).order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:most]):
        row = StripeCredit.objects.select_related("note").get(pk=pk)
        try:
            row = credit_one(row, now)
        except Exception as error:
            log.exception("a refund could not be made", note=row.note.public_id)
            this.failed.append((row.note.public_id, error))
            _wait(row, now + backoff(row.attempts), BROKE)
            continue
        if row.attempts:
            this.waiting += 1
        else:
            this.done += 1
            this.well.append(row.note.public_id)
        account = StripeAccount.present()
        if row.attempts and (account is None or account.failing_since is not None):
            this.away = True
            break
    return this


def credit_document(public_id: str, now: datetime) -> None:
    """What one credit note gives back, a moment after it was written."""
    enqueue_credits(now)
    for row in StripeCredit.objects.due(now).filter(note__public_id=public_id):
        credit_one(row, now)


# One refund -----------------------------------------------------------------------------------------------------------


def credit_one(row: StripeCredit, now: datetime) -> StripeCredit:
    """Take the step that one refund needs. Does nothing while another worker is at it.

    The next attempt moves ahead while a worker is at it, so one that dies is followed by another.
    """
    if not StripeCredit.objects.due(now).filter(pk=row.pk).update(next_attempt_at=now + CLAIM):
        return StripeCredit.objects.get(pk=row.pk)
    row = StripeCredit.objects.select_related("note__customer", "of__invoice").get(pk=row.pk)
    try:
        if row.stripe_id is None and not _hand_over(row, now):
            return StripeCredit.objects.get(pk=row.pk)
        facts = _present(row, gateway())
        refresh(row.of, now)  # what went back shows on its invoice as well, should no event tell
        reached(now)
        return observe(row, facts, now)
    except (Unreachable, NotAllowed) as error:
        return _postpone(row, error, now)
    except StripeTrouble as error:
        return park(row, error.sentence, now)
    except NotInStripe as error:
        return park(row, error.messages[0], now)


def refresh_credit(row: StripeCredit, now: datetime) -> StripeCredit:
    """Write what Stripe shows of a refund now. Raises `StripeTrouble`."""
    if row.stripe_id is None:
        return row
    return observe(row, gateway().credit_note(row.stripe_id), now)


@transaction.atomic
def _hand_over(row: StripeCredit, now: datetime) -> bool:
    """From here on it cannot be taken back. False when it was taken back before, or sent another way."""
    Customer.objects.select_for_update().get(pk=row.note.customer_id)
    refund = _refund_of(row).filter(reference="").first()
    if refund is None or Invoice.objects.get(pk=row.note_id).state == InvoiceState.VOID:
        values = {"state": State.CANCELED, "next_attempt_at": None, "attempts": 0, "problem": ""}
        StripeCredit.objects.filter(pk=row.pk).update(**values)
        return False
    if refund.sent_at is None:
        refund.sent_at = now
        refund.save(update_fields=["sent_at"])
    return True


def _refund_of(row: StripeCredit) -> QuerySet[Refund]:
    return Refund.objects.select_for_update().filter(
        credit_note_id=row.note_id, of_id=row.of.invoice_id, provider=STRIPE
    )


def _present(row: StripeCredit, door: Gateway) -> CreditFacts:
    """What there is in Stripe; made there, where a look finds nothing."""
    if row.stripe_id:
        return door.credit_note(row.stripe_id)
    there = row.of.stripe_id or ""
    return door.find_credit(there, row.note.public_id) or door.credit(
        there,
        amount=row.amount,
        currency=row.note.currency,
        refund=True,
        memo=f"{row.note}: credit for {row.of.invoice}",
        reference=row.note.public_id,
        key=f"{row.note.public_id}:{row.of.invoice.public_id}:credit:{row.generation}",
    )


# What is written ------------------------------------------------------------------------------------------------------


@transaction.atomic
def observe(row: StripeCredit, facts: CreditFacts, now: datetime) -> StripeCredit:
    """Keep what Stripe shows of a refund: gone, on its way, or come back."""
    customer = Customer.objects.select_for_update().get(pk=row.note.customer_id)
    row = _locked(row)
    row.stripe_id, row.refund_id, row.attempts, row.problem = facts.id, facts.refund, 0, ""
    row.next_attempt_at = None
    if row.state == State.CANCELED:
        pass  # it was sent another way since
    elif facts.refund_status in CAME_BACK:
        _bring_back(customer, row, why_refund_failed(facts.refund_problem), now)
    elif facts.refund_status in ON_ITS_WAY:
        row.state, row.next_attempt_at = State.PENDING, now + LOOKS
        row.problem = ASKS_CUSTOMER if facts.refund_status == "requires_action" else ""
    else:
        _settle(customer, row, now)
    row.save()
    return row


def _locked(row: StripeCredit) -> StripeCredit:
    rows = StripeCredit.objects.select_for_update(of=("self",)).select_related("note__customer", "of__invoice")
    return rows.get(pk=row.pk)


def _settle(customer: Customer, row: StripeCredit, now: datetime) -> None:
    row.state = State.DONE
    if not _refund_of(row).filter(reference="").update(reference=row.refund_id or row.stripe_id, at=now):
        return
    record(
        customer,
        "refund.paid_out",
        f"{_money(row)} went back through Stripe for {row.note}",
        actor=BY_STRIPE,
        now=now,
        inputs={"creditNote": row.note.public_id, "reference": row.refund_id},
        effects={"invoice": row.of.invoice.public_id, "amount": row.amount},
    )


def _bring_back(customer: Customer, row: StripeCredit, why: str, now: datetime) -> None:
    """The money is with us again; what becomes of it is a person's to say."""
    was, row.state, row.problem = row.state, State.FAILED, why
    _refund_of(row).update(reference="", sent_at=None)
    if was == State.FAILED:
        return
    record(
        customer,
        "refund.failed",
        f"{_money(row)} for {row.note} came back: {why}",
        actor=BY_STRIPE,
        now=now,
        inputs={"creditNote": row.note.public_id, "reference": row.refund_id},
        effects={"amount": row.amount, "alert": True},
    )


def _money(row: StripeCredit) -> str:
    return format_minor(row.amount, row.note.currency)


def _wait(row: StripeCredit, until: datetime, problem: str, *, failures: int = 0) -> None:
    StripeCredit.objects.filter(pk=row.pk).update(
        attempts=F("attempts") + 1,
        generation=F("generation") + failures,
        next_attempt_at=until,
        problem=problem,
    )


def _postpone(row: StripeCredit, error: StripeTrouble, now: datetime) -> StripeCredit:
    pause = max(backoff(row.attempts), timedelta(seconds=getattr(error, "retry_after", 0)))
    _wait(row, now + pause, error.sentence[:500], failures=1 if isinstance(error, Faltered) else 0)
    if not isinstance(error, Busy):
        failing(error, now)
    row.refresh_from_db()
    return row


@transaction.atomic
def park(row: StripeCredit, why: str, now: datetime) -> StripeCredit:
    """Leave a refund to a person: Stripe would say no again. Nothing of it went, so it can be taken back."""
    customer = Customer.objects.select_for_update().get(pk=row.note.customer_id)
    row = _locked(row)
    is_news = row.state != State.PARKED or row.problem != why[:500]
    row.state, row.problem, row.next_attempt_at, row.attempts = State.PARKED, why[:500], None, 0
    row.save()
    if row.stripe_id is None:
        _refund_of(row).update(sent_at=None)
    if is_news:
        record(
            customer,
            "refund.parked",
            f"Stripe does not give back {_money(row)} for {row.note}: {why}"[:500],
            actor=CLOCKWORK,
            now=now,
            inputs={"creditNote": row.note.public_id},
            effects={"alert": True},
        )
    return row


# What people ask for --------------------------------------------------------------------------------------------------


@transaction.atomic
def try_again(row: StripeCredit, *, actor: Actor, now: datetime) -> Operation:
    """Ask Stripe once more for a refund that it refused. What came back from the bank goes no second time."""
    customer = Customer.objects.select_for_update().get(pk=row.note.customer_id)
    row = _locked(row)
    if row.state != State.PARKED:
        raise NotStuck(row)
    # Stripe keeps its refusal under the old key.
    row.state, row.next_attempt_at, row.generation = State.WAITING, now, row.generation + 1
    row.save()
    return record(
        customer,
        "refund.retried",
        f"Asked Stripe again to give back {_money(row)} for {row.note}",
        actor=actor,
        now=now,
        inputs={"creditNote": row.note.public_id},
    )


@transaction.atomic
def pay_another_way(row: StripeCredit, *, reference: str, actor: Actor, now: datetime) -> Operation:
    """Record that a refund which Stripe could not make was sent by hand. Raises `NotStuck`, `NoReference`."""
    customer = Customer.objects.select_for_update().get(pk=row.note.customer_id)
    row = _locked(row)
    if row.state not in (State.PARKED, State.FAILED) or row.note.state == InvoiceState.VOID:
        raise NotStuck(row)
    if not reference.strip():
        raise NoReference
    _refund_of(row).update(provider=MANUAL, reference=reference.strip(), actor=actor.name, at=now, sent_at=None)
    row.state, row.next_attempt_at = State.CANCELED, None
    row.save()
    return record(
        customer,
        "refund.paid_out",
        f"Paid out {_money(row)} for {row.note} by hand, as Stripe could not",
        actor=actor,
        now=now,
        inputs={"creditNote": row.note.public_id, "reference": reference.strip()},
        effects={"amount": row.amount, "why": row.problem},
    )


# What the desk shows --------------------------------------------------------------------------------------------------


def stuck(rows: Iterable[StripeCredit]) -> list[StripeCredit]:
    """Those that wait for a person."""
    return [row for row in rows if row.state in (State.PARKED, State.FAILED) and row.note.state != InvoiceState.VOID]


@dataclass(frozen=True, slots=True)
class WayBack:
    """How money that was paid for an invoice goes back by itself: `words`; empty: somebody has to send it.

    `sent_there` went back in Stripe without a refund of ours, minor units.
    """

    words: str = ""
    sent_there: int = 0


def way_back(invoice: Invoice) -> WayBack:
    row = StripeInvoice.objects.filter(invoice=invoice, collected__gt=0).first() if enabled() else None
    if row is None:
        return WayBack()
    words = f"{row.paid_with or 'where it came from,'} through Stripe"
    live = Refund.objects.filter(of=invoice).exclude(credit_note__state=InvoiceState.VOID)
    told = sum(live.exclude(reference="", sent_at=None).values_list("amount", flat=True))
    return WayBack(words, max(0, row.refunded - told))
