"""Withdraw a scheduled change; cancel a contract at the end of its cycle, on a day or now; take a cancellation back.

A cancellation is answered in four parts: when it is settled, whether open use is billed, what becomes of unused fees
and bought units, and until when access lasts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.drafts import as_if_issued, issue_drafts_of
from billing_admin.flows.gate import give_up_gate
from billing_admin.flows.renew import (
    add_ons_of,
    catch_up,
    closing_documents,
    end_contract,
    issue_closing,
    phase_at,
)
from catalog.money import format_minor
from customers import switch
from customers.journal import Actor, record, require_reason
from customers.mirrored import refuse_mirrored
from customers.models import Customer, Operation, Subscription
from customers.states import SubscriptionState
from invoicing.documents import Document
from invoicing.lines import UNUSED, Line
from invoicing.models import Invoice
from invoicing.pipeline import DrawnLine
from invoicing.readings import billed_fees
from invoicing.refund import money_for, refundable

Unused = Subscription.Unused


class AlreadyEnded(ValidationError):
    def __init__(self) -> None:
        super().__init__("This subscription has ended already.", code="already_ended")


class BadAccessEnd(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_access_end")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cancellation is answered with.

    `at_once` settles now; else at `ends_at`, or at the end of the cycle. `access_until` is for a contract that is
    settled now and keeps its access for what was paid.
    """

    at_once: bool = False
    ends_at: datetime | None = None
    bill_use: bool = True
    unused: str = Unused.ACCOUNT_CREDIT
    access_until: datetime | None = None

    def settle_now(self, subscription: Subscription) -> bool:
        """Also what has no period to come to the end of."""
        return self.ends_at is None and (self.at_once or subscription.period_ends_at is None)


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancellation does. `documents` are issued when it is settled: now, or then as far as known by now.

    `refund` is what of them is paid out, minor units; `gives_up` are first invoices that nobody paid.
    """

    ends_at: datetime
    settles_at: datetime
    at_once: bool
    documents: tuple[Document, ...]
    currency: str
    withdraws: str
    refund: int = 0
    gives_up: tuple[Invoice, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for document in self.documents for line in document.lines)

    @property
    def use_lines(self) -> tuple[Line, ...]:
        """What the end still charges: open use, elapsed fees, the rest of a minimum."""
        return tuple(line for line in self.lines if line.kind != UNUSED)

    @property
    def unused(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.kind == UNUSED)

    @property
    def use_total(self) -> int:
        """What open use and elapsed fees come to, after coupons and with tax."""
        return sum(_with_tax(drawn) for drawn in self._drawn if drawn.line.kind != UNUSED)

    @property
    def unused_total(self) -> int:
        """What unused fees and bought units come to, with tax; above zero."""
        return -sum(_with_tax(drawn) for drawn in self._drawn if drawn.line.kind == UNUSED)

    @property
    def _drawn(self) -> Iterator[DrawnLine]:
        return (drawn for document in self.documents for drawn in document.drawn.lines)

    @property
    def total(self) -> int:
        return sum(document.total for document in self.documents)

    @property
    def due_now(self) -> int:
        """What the act itself charges (below zero: gives back)."""
        return self.total if self.at_once else 0

    @property
    def sentence(self) -> str:
        """What will be true: when access ends, and the money of it."""
        is_now = self.ends_at == self.settles_at and self.at_once
        when = "at once" if is_now else f"on {self.ends_at:%-d %b %Y}"
        parts = [f"Access ends {when}.", self._money(), self.withdraws, *map(_given_up, self.gives_up)]
        return " ".join(part for part in parts if part)

    def _money(self) -> str:
        total, day = self.total, f"on {self.settles_at:%-d %b %Y}"
        if self.at_once:
            return f"{_owed(total, self.refund, self.currency)} now." if total else "Nothing is due now."
        then = f" {_owed(total, self.refund, self.currency)} {day}, as far as known by now." if total else ""
        return f"Nothing is due now.{then}"


def _with_tax(drawn: DrawnLine) -> int:
    return drawn.net + sum(tax.amount for tax in drawn.taxes if not tax.inclusive)


def _owed(total: int, refund: int, currency: str) -> str:
    if total > 0:
        return f"{format_minor(total, currency)} is charged"
    credit = -total - refund
    parts = [f"{format_minor(refund, currency)} is refunded"] if refund else []
    parts += [f"{format_minor(credit, currency)} is credited"] if credit else []
    return " and ".join(parts)


def _given_up(invoice: Invoice) -> str:
    return f"{invoice} is void: nobody paid it, and nothing was given for it."


@transaction.atomic
def withdraw(subscription: Subscription, *, reason: str = "", actor: Actor, now: datetime) -> Operation:
    """Take back the scheduled change (or cancellation) of a contract while its date has not come."""
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    _refuse_ended(subscription)
    refuse_mirrored(subscription)
    scheduled = subscription.next_phase(now)
    ends_later = subscription.ends_at is not None and subscription.ends_at > now
    if scheduled is None and not ends_later:
        late = subscription.phases.kept().filter(starts_at__lte=now, starts_at__gte=subscription.bills_at or now)
        raise switch.TooLateToWithdraw if late.exists() and subscription.bills_at else switch.NothingScheduled
    # Boundaries that nobody settled yet come first: afterwards the contract looks ahead from now.
    catch_up(customer, now=now)
    subscription.refresh_from_db()
    switch.refuse_parked(subscription)
    if scheduled is None:
        before = switch.planned_end(subscription)
        switch.uncancel(subscription, at=now)
        return record(
            customer,
            "cancellation.withdrawn",
            "Took back the cancellation",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"subscription": subscription.public_id},
            effects={"before": before},
        )
    before = switch.planned_end(subscription)
    later = len(subscription.later_phases(now))
    switch.withdraw_next(subscription, at=now, now=now)
    more = f", and {later} after it" if later else ""
    return record(
        customer,
        "change.withdrawn",
        f"Withdrew the change to {scheduled.version.plan.name} on {scheduled.starts_at:%-d %b %Y}{more}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id},
        effects={
            "plan": scheduled.version.plan.key,
            "startsAt": scheduled.starts_at,
            "phase": scheduled.pk,
            "before": before,
        },
    )


def _refuse_ended(subscription: Subscription) -> None:
    if subscription.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
        raise AlreadyEnded


def preview_cancel(
    subscription: Subscription,
    *,
    at_once: bool,
    ends_at: datetime | None = None,
    bill_use: bool = True,
    unused: str = Unused.ACCOUNT_CREDIT,
    access_until: datetime | None = None,
    now: datetime,
) -> Cancellation:
    """What cancelling would do: when access ends, what open use costs, what comes back; add-ons end with their plan.

    What is overdue is carried out first: nobody can say what is open while a period is not settled. Raises
    `AlreadyEnded`, `BadAccessEnd`, `ValidationError` for an end in the past.
    """
    answers = Answers(at_once, ends_at, bill_use, unused, access_until)
    catch_up(subscription.customer, now=now)
    subscription.refresh_from_db()
    with as_if_issued(_closed_now(subscription, answers), now=now):
        return _planned(subscription, answers, now)


def _closed_now(subscription: Subscription, answers: Answers) -> list[Subscription]:
    """The contracts whose account is closed at once, so that no draft of theirs can wait any longer."""
    return [subscription, *add_ons_of(subscription)] if answers.settle_now(subscription) else []


def _planned(subscription: Subscription, answers: Answers, now: datetime) -> Cancellation:
    _refuse(subscription, answers, now)
    at = now.replace(microsecond=0)
    gated = _gated(subscription)
    if subscription.state in (SubscriptionState.PENDING_PAYMENT, SubscriptionState.SCHEDULED):
        currency = phase_at(subscription, at).version.plan.currency
        return Cancellation(at, at, at_once=True, documents=(), currency=currency, withdraws="", gives_up=gated)
    at_once = answers.settle_now(subscription)
    settles_at = at if at_once else answers.ends_at or subscription.period_ends_at or at
    documents = _documents(subscription, answers, settles_at)
    scheduled = subscription.next_phase(at)
    return Cancellation(
        ends_at=answers.access_until or settles_at,
        settles_at=settles_at,
        at_once=at_once,
        documents=tuple(documents),
        currency=phase_at(subscription, at).version.plan.currency,
        withdraws=f"The change to {scheduled.version.plan.name} is withdrawn." if scheduled else "",
        refund=sum(map(refundable, documents)) if answers.unused == Unused.REFUND else 0,
        gives_up=gated,
    )


def refundable_unused(planned: Cancellation) -> int:
    """What of unused fees can be refunded: as much as came in as money for them."""
    credits = [line for document in planned.documents if document.offsets_id is None for line in document.lines]
    return money_for((line.source_id, -line.amount) for line in credits)


def _refuse(subscription: Subscription, answers: Answers, now: datetime) -> None:
    _refuse_ended(subscription)
    refuse_mirrored(subscription)
    if answers.ends_at is not None and answers.ends_at <= now:
        raise ValidationError("The end has to be in the future; to end at once, say so.", code="end_in_the_past")
    if answers.unused not in Unused.values:
        raise ValidationError(f"Unused fees become one of: {', '.join(Unused.values)}.", code="bad_unused")
    if subscription.settled_at is not None and not (answers.at_once and answers.access_until is None):
        raise switch.AlreadySettled
    until, paid_until = answers.access_until, subscription.period_ends_at
    if until is None:
        return
    if not answers.at_once or answers.ends_at is not None:
        raise BadAccessEnd("Only what is settled at once can keep its access for longer.")
    if paid_until is None or not now < until <= paid_until:
        last = f", {paid_until:%-d %b %Y}" if paid_until else ""
        raise BadAccessEnd(f"Access lasts at most until the end of the period that is paid for{last}.")


def _gated(subscription: Subscription) -> tuple[Invoice, ...]:
    """First invoices of this contract that wait for their payment; they are given up with it."""
    return tuple(Invoice.objects.gating().filter(gates__subscription=subscription).order_by("id"))


def _documents(subscription: Subscription, answers: Answers, settles_at: datetime) -> list[Document]:
    """What is settled at the instant. Periods that begin before it are billed first; nobody knows them yet."""
    starts_anew = subscription.period_ends_at is not None and settles_at > subscription.period_ends_at
    if subscription.settled_at is not None or starts_anew:
        return []
    return [
        document
        for each in [subscription, *add_ons_of(subscription)]
        if each.settled_at is None
        for document in _closing(each, settles_at, answers)
    ]


def _closing(subscription: Subscription, at: datetime, answers: Answers) -> list[Document]:
    fees = [] if answers.unused == Unused.NOTHING else billed_fees(subscription, at)
    return closing_documents(subscription, at, bill_use=answers.bill_use, fees=fees)


@transaction.atomic
def cancel(
    subscription: Subscription,
    *,
    at_once: bool = False,
    bill_use: bool = True,
    unused: str = Unused.ACCOUNT_CREDIT,
    ends_at: datetime | None = None,
    access_until: datetime | None = None,
    reason: str,
    actor: Actor,
    now: datetime,
) -> tuple[Operation, list[Invoice]]:
    """End a contract at the end of its cycle (or at another instant to come), or at once.

    When it is settled, open use is billed and unused fees become account credit, unless answered otherwise. A first
    invoice that nobody paid is given up. Raises `ReasonRequired`, `AlreadyEnded`, `BadAccessEnd`, `ApprovalNeeded` for
    a refund that takes a second person, `ValidationError` for an end in the past.
    """
    reason = require_reason(reason, "a cancellation")
    answers = Answers(at_once, ends_at, bill_use, unused, access_until)
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    catch_up(customer, now=now)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    for contract in _closed_now(subscription, answers):
        issue_drafts_of(contract, actor=actor, now=now)
    planned = _planned(subscription, answers, now)
    if planned.refund:
        asked = {"subscription": subscription, "answers": asdict(answers)}
        guard_as("subscription.canceled", actor=actor, now=now, reason=reason, **asked)
    if not planned.at_once:
        switch.refuse_parked(subscription)
    operation = _record(customer, subscription, answers, planned, reason=reason, actor=actor, now=now)
    _give_up(planned.gives_up, actor=actor, now=now)
    if subscription.state == SubscriptionState.SCHEDULED:
        switch.withdraw_start(subscription, now=now)
    subscription.refresh_from_db()
    if not subscription.is_live:
        return operation, []
    return operation, _carry_out(customer, subscription, answers, planned, operation, now)


def _record(
    customer: Customer,
    subscription: Subscription,
    answers: Answers,
    planned: Cancellation,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Operation:
    is_now = planned.at_once and planned.ends_at == planned.settles_at
    scheduled = subscription.next_phase(now)
    return record(
        customer,
        "subscription.canceled",
        f"Canceled {'at once' if is_now else f'for {planned.ends_at:%-d %b %Y}'}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={
            "subscription": subscription.public_id,
            "atOnce": planned.at_once,
            "billUse": answers.bill_use,
            "unused": answers.unused,
            "accessUntil": answers.access_until,
        },
        effects={
            "endsAt": planned.ends_at,
            "total": planned.due_now,
            "refund": planned.refund if planned.at_once else 0,
            "withdraws": planned.withdraws,
            "givesUp": [invoice.public_id for invoice in planned.gives_up],
            "before": {"next": scheduled.pk if scheduled else None, **switch.planned_end(subscription)},
        },
    )


def _give_up(invoices: Sequence[Invoice], *, actor: Actor, now: datetime) -> None:
    for invoice in invoices:
        give_up_gate(invoice, reason="The subscription was canceled.", end_reason="canceled", actor=actor, now=now)


def _carry_out(
    customer: Customer,
    subscription: Subscription,
    answers: Answers,
    planned: Cancellation,
    operation: Operation,
    now: datetime,
) -> list[Invoice]:
    at = now.replace(microsecond=0)
    if planned.at_once and answers.access_until is None:
        return end_contract(
            customer,
            subscription,
            at=at,
            reason="canceled",
            now=now,
            bill_use=answers.bill_use,
            unused=answers.unused,
        )
    if planned.at_once:
        return _settle(customer, subscription, answers, operation, until=planned.ends_at, now=now)
    switch.cancel_at(
        subscription,
        ends_at=planned.ends_at,
        reason="canceled",
        at=at,
        now=now,
        bill_use=answers.bill_use,
        unused=answers.unused,
    )
    return []


def _settle(
    customer: Customer,
    subscription: Subscription,
    answers: Answers,
    operation: Operation,
    *,
    until: datetime,
    now: datetime,
) -> list[Invoice]:
    """Make the final invoice now, of add-ons too; all of them keep their access until then."""
    at, invoices = now.replace(microsecond=0), []
    for each in [subscription, *add_ons_of(subscription)]:
        documents = _closing(each, at, answers)
        invoices += issue_closing(customer, each, documents, at=at, operation=operation, unused=answers.unused, now=now)
        switch.settle(each, ends_at=until, at=at, now=now)
    return invoices
