"""Collect invoices with Stripe: take the next step until there is none, and write down what Stripe shows.

Every call happens outside of transactions and carries a key made of our public id, so an answer that is lost costs a
repetition, never a second charge. Where Stripe itself failed, its answer is looked for before anything is asked again.
What a person or Stripe did meanwhile is seen at the next look: the present state decides, not what was planned.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

import structlog
from django.db import transaction
from django.db.models import F, Q

from billing_admin.flows.gate import collect as record_payment
from billing_admin.flows.stripe_account import connect, connected, failing, reached
from billing_admin.flows.stripe_customers import backoff, ensure, refresh_customer
from catalog.money import format_minor
from customers.journal import CLOCKWORK, Actor, record
from customers.models import Customer, Operation
from invoicing.models import BillingSettings, Invoice
from invoicing.states import InvoiceState
from payments.facts import InvoiceFacts
from payments.gateway import (
    Busy,
    Declined,
    Faltered,
    Gateway,
    Missing,
    NotAllowed,
    Refused,
    StripeTrouble,
    Unreachable,
    gateway,
)
from payments.lines import sent_lines
from payments.minor import NotInStripe
from payments.models import Method, StripeAccount, StripeCustomer, StripeInvoice
from payments.steps import Act, Owed, Step, meaning_of, next_step

log = structlog.get_logger("billing_admin.stripe")

STRIPE = "stripe"
BY_STRIPE = Actor("Stripe")
State = StripeInvoice.State
# More steps than any invoice needs: create, lines, finalise, charge, and what a change on either side adds.
MOST_STEPS = 10
MOST = 500
# A worker that dies lets go of its invoice after so long.
CLAIM = timedelta(minutes=10)
# A payment under way keeps Stripe's invoice open though ours is closed; should no event tell its end, a look does.
WHILE_MONEY_MOVES = timedelta(hours=1)
# Stripe's words never go back; an answer that is older than what is known is dropped.
BROKE = "Something went wrong here; the failures of the worker say what."
RANK = {"": 0, "draft": 1, "open": 2, "uncollectible": 3, "paid": 4, "void": 4}


@dataclass
class Collected:
    """What a pass did: rows brought on, rows that have to wait; by their documents' ids which went well, or broke."""

    done: int = 0
    waiting: int = 0
    away: bool = False
    well: list[str] = field(default_factory=list)
    failed: list[tuple[str, Exception]] = field(default_factory=list)


# Who is collected -----------------------------------------------------------------------------------------------------


def enqueue(now: datetime, only: int | None = None) -> int:
    """Rows for open invoices that have none, and a look at those that were settled here meanwhile. Returns how many.

    `only` is the key of the one invoice to hand over. What was issued before Stripe was connected waits for somebody
    to ask for it (`start`).
    """
    account = connected(now)
    if account is None:
        return 0
    new = Invoice.objects.unpaid().filter(stripe=None, issued_at__gte=account.connected_at)
    new = new.exclude(customer__stripe__method=Method.NONE)
    if account.method == Method.NONE:
        new = new.filter(customer__stripe__method__in=[Method.CHARGE, Method.SEND])
    outrun = StripeInvoice.objects.outrun()
    if only is not None:
        new, outrun = new.filter(pk=only), outrun.filter(invoice=only)
    rows = [_row(invoice, account, now) for invoice in new.select_related("customer__stripe")[:MOST]]
    StripeInvoice.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows) + outrun.update(next_attempt_at=now)


def start(invoice: Invoice, *, actor: Actor, now: datetime) -> StripeInvoice:
    """Collect one open invoice with Stripe, also one from before it was connected. Raises `StripeTrouble`."""
    return hand_over(invoice, connect(now), actor=actor, now=now)


def hand_over(invoice: Invoice, account: StripeAccount, *, actor: Actor, now: datetime) -> StripeInvoice:
    """The same for an account that is known; may be called inside a transaction."""
    with transaction.atomic():
        customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
        row = _row(Invoice.objects.select_related("customer__stripe").get(pk=invoice.pk), account, now)
        made, is_new = StripeInvoice.objects.get_or_create(
            invoice=invoice, defaults={"method": row.method, "queued_at": now, "next_attempt_at": now}
        )
        if is_new:
            record(
                customer,
                "collection.started",
                f"Handed {invoice} to Stripe",
                actor=actor,
                now=now,
                inputs={"invoice": invoice.public_id, "method": row.method},
            )
    return made


def _row(invoice: Invoice, account: StripeAccount, now: datetime) -> StripeInvoice:
    return StripeInvoice(invoice=invoice, method=method_of(invoice, account, now), queued_at=now, next_attempt_at=now)


def method_of(invoice: Invoice, account: StripeAccount, now: datetime) -> str:
    """Days to pay mean that an invoice is sent; else the customer's own choice holds, then the account's."""
    own = getattr(invoice.customer, "stripe", None)
    chosen = (own.method if own else "") or account.method
    later = invoice.due_at is not None and invoice.issued_at is not None and invoice.due_at > invoice.issued_at
    return Method.SEND if later or chosen == Method.SEND else Method.CHARGE


# The passes -----------------------------------------------------------------------------------------------------------


def collect_due(now: datetime, most: int = MOST) -> Collected:
    """Every invoice whose next step is due. Where Stripe does not answer, one call is tried and the rest waits.

    One that breaks waits like the others and holds up none.
    """
    this = Collected()
    if StripeAccount.present() is None:
        return this
    for pk in list(
        StripeInvoice.objects.due(now).order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:most]
    ):
        row = StripeInvoice.objects.due(now).select_related("invoice__customer").filter(pk=pk).first()
        if row is None:
            continue  # another worker was faster
        try:
            row = collect_one(row, now)
        except Exception as error:
            log.exception("an invoice could not be collected", invoice=row.invoice.public_id)
            this.failed.append((row.invoice.public_id, error))
            _wait(row, now + backoff(row.attempts), problem=BROKE)
            continue
        if row.attempts:
            this.waiting += 1
        else:
            this.done += 1
            this.well.append(row.invoice.public_id)
        if _asks_for_a_pause(row):
            this.away = True
            break
    return this


def _asks_for_a_pause(row: StripeInvoice) -> bool:
    account = StripeAccount.present()
    return account is None or account.failing_since is not None or (row.attempts > 0 and row.code == "rate_limit")


def collect_document(public_id: str, now: datetime) -> None:
    """The step that a document needs now: an invoice that was issued, paid or annulled a moment ago, or credited."""
    document = Invoice.objects.only("offsets_id").get(public_id=public_id)
    asked = document.offsets_id or document.pk
    enqueue(now, only=asked)
    row = StripeInvoice.objects.select_related("invoice__customer").filter(invoice=asked).first()
    if row is not None and row.next_attempt_at is not None and row.next_attempt_at <= now:
        collect_one(row, now)


def collect_one(row: StripeInvoice, now: datetime) -> StripeInvoice:
    """Take every step that one invoice needs; a look, where it needs none. Does nothing while another worker is at it.

    What cannot be done now is written down: when it is tried again, or what a person has to see to.
    """
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    row = StripeInvoice.objects.select_related("invoice__customer").get(pk=row.pk)
    if not StripeInvoice.objects.filter(free, pk=row.pk).update(claimed_until=now + CLAIM):
        return row
    # A claim that ran out was that of a worker who died, perhaps between a call and its answer.
    is_unsure = row.claimed_until is not None or row.attempts > 0 or row.generation > 0
    try:
        facts = _bring_on(row, gateway(), now, is_unsure=is_unsure)
        reached(now)
        return _finish(row, facts, now)
    except (Unreachable, NotAllowed) as error:
        return _postpone(row, error, now)
    except StripeTrouble as error:
        return park(row, error.sentence, error.code, now)
    except NotInStripe as error:
        return park(row, error.messages[0], error.code or "", now)
    finally:
        StripeInvoice.objects.filter(pk=row.pk).update(claimed_until=None)


def refresh(row: StripeInvoice, now: datetime) -> StripeInvoice:
    """Write what Stripe shows of an invoice now. Raises `Unreachable`."""
    if row.stripe_id is None:
        return row
    try:
        facts = gateway().invoice(row.stripe_id)
    except Missing as error:
        return park(row, f"Stripe has no such invoice any more: {error.sentence}", "resource_missing", now)
    return observe(row, facts, now)


# One invoice ----------------------------------------------------------------------------------------------------------


def _bring_on(row: StripeInvoice, door: Gateway, now: datetime, *, is_unsure: bool) -> InvoiceFacts | None:
    """Step by step; returns the last look. A step that has no effect is not taken for ever.

    `is_unsure`: an earlier call may have had its effect without our hearing of it.
    """
    facts = _look(row, door, is_unsure=is_unsure)
    for _ in range(MOST_STEPS):
        # Somebody may have stopped it meanwhile.
        row.refresh_from_db(fields=["method", "charge_asked"])
        step = next_step(read_owed(row, facts, now), facts)
        if step.act is Act.NOTHING:
            return facts
        if step.act is Act.PARK:
            raise Refused(step.why, step.code)
        try:
            facts = _take(step, row, facts, door, now, is_unsure=is_unsure)
        except Refused as refused:
            facts = _look_again(step, row, facts, door, now, refused)
    raise Refused("Stripe did not get any further with this invoice.", "no_progress")


def _look(row: StripeInvoice, door: Gateway, *, is_unsure: bool) -> InvoiceFacts | None:
    """What there is; where that is not sure, also what might have been made without our hearing of it."""
    if row.stripe_id:
        return _seen(row, door)
    known = StripeCustomer.objects.filter(customer=row.invoice.customer, deleted_at=None).first()
    if not is_unsure or known is None:
        return None
    found = door.find_invoice(known.stripe_id, row.invoice.public_id, since=_begun_at(row))
    # One that was thrown away or voided there to be made anew is not the one that is missing.
    if found is not None and found.status != "void":
        _remember(row, found.id)
        return found
    return None


def _seen(row: StripeInvoice, door: Gateway) -> InvoiceFacts | None:
    """What is not final can be deleted there, by us or by a person; then it is drawn up again."""
    try:
        return door.invoice(row.stripe_id or "")
    except Missing:
        if row.status != "draft":
            raise
        _forget(row)
        return None


def _look_again(
    step: Step, row: StripeInvoice, before: InvoiceFacts | None, door: Gateway, now: datetime, refused: Refused
) -> InvoiceFacts | None:
    """Stripe said no: somebody may have been faster. Where nothing changed, its no stands."""
    if before is None:
        raise refused
    if step.act is Act.CHARGE:
        refresh_customer(before.customer, now)
        if not _has_card(row):
            return before
    present = _seen(row, door)
    if present == before:
        raise refused
    return present


def _begun_at(row: StripeInvoice) -> datetime:
    """Before the first call for this invoice, by any clock."""
    return row.queued_at - timedelta(minutes=5)


def read_owed(row: StripeInvoice, facts: InvoiceFacts | None, now: datetime) -> Owed:
    """Our side, as it is in the database at this moment."""
    invoice = row.invoice
    invoice.refresh_from_db()
    drawn_up = facts is None or facts.status == "draft"
    lines = sent_lines(invoice, invoice.lines.all(), invoice.deductions.all()) if drawn_up else ()
    stopped = row.method == Method.NONE
    return Owed(
        invoice.state,
        invoice.due,
        invoice.currency,
        lines,
        may_charge=_may_charge(row, now),
        is_asked=row.charge_asked,
        stopped=stopped,
    )


def _may_charge(row: StripeInvoice, now: datetime) -> bool:
    if row.method != Method.CHARGE or not _has_card(row):
        return False
    if row.charge_asked or not row.charges:
        return True
    at = charged_again_at(row)
    return at is not None and at <= now


def _has_card(row: StripeInvoice) -> bool:
    known = StripeCustomer.objects.filter(customer=row.invoice.customer, deleted_at=None).first()
    return known is not None and known.default_method is not None


def charged_again_at(row: StripeInvoice) -> datetime | None:
    """After a failed charge: the account's next day for retries; None where Stripe retries, or no day is left.

    The last of the days is the one on which an invoice is given up, so nothing is charged on it.
    """
    account = StripeAccount.present()
    due = row.invoice.due_at
    if account is None or account.auto_advance or due is None or not row.charges:
        return None
    days = sorted(BillingSettings.present().retry_days)[:-1]
    return due + timedelta(days=days[row.charges - 1]) if row.charges <= len(days) else None


def _take(
    step: Step, row: StripeInvoice, facts: InvoiceFacts | None, door: Gateway, now: datetime, *, is_unsure: bool
) -> InvoiceFacts | None:
    if step.act is Act.CREATE:
        return _create(row, door, now, is_unsure=is_unsure)
    assert facts is not None
    if step.act is Act.DISCARD:
        door.delete_draft(facts.id)
        _forget(row)
        return None
    if step.act is Act.CHARGE:
        _charge(row, facts, door, now)
    else:
        TAKEN[step.act](step, row, facts, door)
    return door.invoice(facts.id)


def _create(row: StripeInvoice, door: Gateway, now: datetime, *, is_unsure: bool) -> InvoiceFacts:
    """A draft. A customer who was deleted there without our hearing of it is made anew."""
    since = _begun_at(row) if is_unsure else None
    owner = ensure(row.invoice.customer, now, tries=row.generation, since=since)
    try:
        return _create_for(owner, row, door, now)
    except Missing:
        seen = refresh_customer(owner.stripe_id, now)
        if seen is None or seen.deleted_at is None:
            raise
        _forget(row)
        owner = ensure(row.invoice.customer, now, tries=row.generation)
        return _create_for(owner, row, door, now)


def _create_for(owner: StripeCustomer, row: StripeInvoice, door: Gateway, now: datetime) -> InvoiceFacts:
    invoice = row.invoice
    days = None
    if row.method == Method.SEND:
        due = invoice.due_at or now
        days = max(0, ceil((due - now) / timedelta(days=1)))
    made = door.create_invoice(
        customer=owner.stripe_id,
        currency=invoice.currency,
        reference=invoice.public_id,
        number=invoice.number or "",
        method=row.method,
        days_until_due=days,
        memo=invoice.memo,
        key=key_of(row, "create"),
    )
    _remember(row, made.id)
    return made


def _add_lines(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    for line in step.lines:
        door.add_line(
            customer=facts.customer,
            invoice=facts.id,
            amount=line.amount,
            currency=row.invoice.currency,
            description=line.description,
            line=line.key,
            period=line.period,
            key=key_of(row, f"{facts.id}:{line.key}:{line.amount}"),
        )


def _finalize(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    account = StripeAccount.present()
    advances = account is not None and account.auto_advance
    door.finalize(facts.id, auto_advance=advances, key=key_of(row, f"{facts.id}:finalize"))


def _charge(row: StripeInvoice, facts: InvoiceFacts, door: Gateway, now: datetime) -> None:
    """Whether it went through shows in the next look; here only that Stripe has answered is counted.

    It stands for every day for retries that has passed: an invoice that comes late is not charged once for each.
    """
    try:
        door.pay(facts.id, key=key_of(row, f"{facts.id}:pay:{row.charges}"))
    except Declined as error:
        log.info("a charge did not go through", invoice=row.invoice.public_id, code=error.code)
    row.charges, row.charge_asked = max(row.charges, _retry_days_passed(row, now)) + 1, False
    StripeInvoice.objects.filter(pk=row.pk).update(charges=row.charges, charge_asked=False)


def _retry_days_passed(row: StripeInvoice, now: datetime) -> int:
    due = row.invoice.due_at
    days = sorted(BillingSettings.present().retry_days)[:-1]
    return sum(due + timedelta(days=day) <= now for day in days) if due is not None else 0


def _credit(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    left = facts.remaining - step.amount
    door.credit(
        facts.id,
        amount=step.amount,
        currency=row.invoice.currency,
        refund=False,
        memo=f"{row.invoice}: credited, or paid another way",
        reference=f"{row.invoice.public_id}:{left}",
        key=key_of(row, f"{facts.id}:credit:{left}"),
    )


def _settle_outside(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    door.settle_outside(facts.id, key=key_of(row, f"{facts.id}:outside"))


def _void(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    void_there(row, facts, door)


def void_there(row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    """Void an invoice; what was credited on it stands in the way, and goes first. Raises `Refused`."""
    try:
        door.void(facts.id, key=key_of(row, f"{facts.id}:void"))
    except Refused:
        door.void_credits(facts.id)
        # Stripe keeps its refusal under the first key.
        door.void(facts.id, key=key_of(row, f"{facts.id}:void-whole"))


def _give_up(step: Step, row: StripeInvoice, facts: InvoiceFacts, door: Gateway) -> None:
    door.mark_uncollectible(facts.id, key=key_of(row, f"{facts.id}:give-up"))


TAKEN: dict[Act, Callable[[Step, StripeInvoice, InvoiceFacts, Gateway], None]] = {
    Act.ADD_LINES: _add_lines,
    Act.FINALIZE: _finalize,
    Act.CREDIT: _credit,
    Act.SETTLE_OUTSIDE: _settle_outside,
    Act.VOID: _void,
    Act.GIVE_UP: _give_up,
}


def key_of(row: StripeInvoice, what: str) -> str:
    """The idempotency key of one call: the same for every repetition, another once Stripe has said that it failed."""
    return f"{row.invoice.public_id}:{what}:{row.generation}"


def _remember(row: StripeInvoice, stripe_id: str) -> None:
    StripeInvoice.objects.filter(pk=row.pk).update(stripe_id=stripe_id, status="draft")
    row.stripe_id, row.status = stripe_id, "draft"


def _forget(row: StripeInvoice) -> None:
    """Another draft is another invoice, so it gets other keys."""
    StripeInvoice.objects.filter(pk=row.pk).update(stripe_id=None, status="", generation=F("generation") + 1)
    row.stripe_id, row.status, row.generation = None, "", row.generation + 1


# What is written ------------------------------------------------------------------------------------------------------


@transaction.atomic
def observe(row: StripeInvoice, facts: InvoiceFacts, now: datetime) -> StripeInvoice:
    """Keep what Stripe shows: its payments are recorded, each once, and open what waits for them."""
    Customer.objects.select_for_update().get(pk=row.invoice.customer_id)
    row = StripeInvoice.objects.select_for_update(of=("self",)).select_related("invoice__customer").get(pk=row.pk)
    if row.stripe_id != facts.id:
        return row  # a late look at what was ended there to be collected anew
    if RANK.get(facts.status, 0) < RANK.get(row.status, 0):
        return row
    taken = [payment for payment in facts.payments if payment.status == "succeeded" and payment.received]
    for payment in taken:
        record_payment(
            row.invoice,
            amount=payment.received,
            reference=payment.intent,
            provider=STRIPE,
            actor=BY_STRIPE,
            now=now,
        )
    row.invoice.refresh_from_db()
    row.collected, row.refunded = sum(p.received for p in taken), sum(p.refunded for p in taken)
    row.stripe_id, row.status, row.number, row.asked = facts.id, facts.status, facts.number, facts.due
    row.hosted_url, row.pdf_url, row.seen_at = facts.hosted_url, facts.pdf_url, now
    if facts.payments:
        row.payment_intent = (taken or list(facts.payments))[-1].intent
    row.paid_with = taken[-1].paid_with[:60] if taken else ""
    _judge(row, facts, now)
    row.save()
    return row


def _judge(row: StripeInvoice, facts: InvoiceFacts, now: datetime) -> None:
    """What it means for people, and when there is something to do again."""
    step = next_step(read_owed(row, facts, now), facts)
    if step.act is Act.PARK:
        _set_parked(row, step.why, step.code, now)
        return
    meaning = meaning_of(facts, method=row.method, has_card=_has_card(row))
    row.state, row.code, row.problem = meaning.state, meaning.code, meaning.problem
    row.attempts, row.parked_at = 0, None
    row.next_attempt_at = now if step.act is not Act.NOTHING else _later(row, facts, now)


def _later(row: StripeInvoice, facts: InvoiceFacts, now: datetime) -> datetime | None:
    """When to look again, though there is nothing to do now."""
    is_closed = row.invoice.state in (InvoiceState.PAID, InvoiceState.VOID)
    # As `outrun` sees it, or that would ask for another look at once, again and again.
    if facts.status == "open" and (is_closed or row.asked > row.collected + row.invoice.due):
        return now + WHILE_MONEY_MOVES
    return charged_again_at(row) if row.state == State.DECLINED else None


def _finish(row: StripeInvoice, facts: InvoiceFacts | None, now: datetime) -> StripeInvoice:
    if facts is not None:
        return observe(row, facts, now)
    # Settled here, or stopped, before it ever came to Stripe.
    gone = row.invoice.state == InvoiceState.VOID or row.method == Method.NONE
    given_up = row.invoice.state == InvoiceState.UNCOLLECTIBLE
    state = State.VOID if gone else State.UNCOLLECTIBLE if given_up else State.OUTSIDE
    StripeInvoice.objects.filter(pk=row.pk).update(
        state=state, code="", problem="", next_attempt_at=None, attempts=0, seen_at=now
    )
    row.refresh_from_db()
    return row


def _wait(row: StripeInvoice, until: datetime, *, problem: str, code: str = "", failures: int = 0) -> None:
    StripeInvoice.objects.filter(pk=row.pk).update(
        attempts=F("attempts") + 1,
        generation=F("generation") + failures,
        next_attempt_at=until,
        code=code,
        problem=problem,
    )


def _postpone(row: StripeInvoice, error: StripeTrouble, now: datetime) -> StripeInvoice:
    """Nobody knows whether it went through, or Stripe is away: the row waits, longer every time."""
    pause = max(backoff(row.attempts), timedelta(seconds=getattr(error, "retry_after", 0)))
    failed = isinstance(error, Faltered)
    _wait(row, now + pause, code=error.code, problem=error.sentence[:500], failures=1 if failed else 0)
    if not isinstance(error, Busy):
        failing(error, now)
    row.refresh_from_db()
    return row


@transaction.atomic
def park(row: StripeInvoice, why: str, code: str, now: datetime) -> StripeInvoice:
    """Leave an invoice to a person: Stripe would say no again, or its numbers are not ours."""
    customer = Customer.objects.select_for_update().get(pk=row.invoice.customer_id)
    row = StripeInvoice.objects.select_for_update(of=("self",)).select_related("invoice").get(pk=row.pk)
    is_news = row.state != State.PARKED or row.problem != why[:500]
    _set_parked(row, why, code, now)
    row.parked_at = now
    row.save()
    if is_news:
        due = format_minor(row.invoice.due, row.invoice.currency)
        record(
            customer,
            "collection.parked",
            f"Stripe cannot collect {row.invoice} ({due}): {why}",
            actor=CLOCKWORK,
            now=now,
            inputs={"invoice": row.invoice.public_id},
            effects={"code": code, "stripeInvoice": row.stripe_id},
        )
    return row


def _set_parked(row: StripeInvoice, why: str, code: str, now: datetime) -> None:
    row.state, row.code, row.problem = State.PARKED, code[:60], why[:500]
    row.parked_at, row.next_attempt_at, row.attempts = row.parked_at or now, None, 0


# What people ask for --------------------------------------------------------------------------------------------------


@transaction.atomic
def try_again(row: StripeInvoice, *, actor: Actor, now: datetime) -> Operation:
    """Let the clockwork near a parked invoice again, or charge one that was declined before its next day."""
    customer = Customer.objects.select_for_update().get(pk=row.invoice.customer_id)
    row = StripeInvoice.objects.select_for_update(of=("self",)).select_related("invoice").get(pk=row.pk)
    # What is not known of the last attempt stays so: it is looked for first.
    row.parked_at, row.next_attempt_at, row.attempts, row.charge_asked = None, now, min(row.attempts, 1), True
    if row.state == State.PARKED:
        row.state, row.generation = State.WAITING, row.generation + 1
    row.save()
    return record(
        customer,
        "collection.retried",
        f"Asked Stripe to collect {row.invoice} again",
        actor=actor,
        now=now,
        inputs={"invoice": row.invoice.public_id},
    )
