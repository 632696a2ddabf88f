"""Withdraw a scheduled change; cancel a contract at the end of its cycle or now; take a cancellation back."""

from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.renew import add_ons_of, catch_up, closing_documents, end_contract, phase_at
from catalog.money import format_minor
from customers import switch
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation, Subscription
from customers.states import SubscriptionState
from invoicing.documents import Document
from invoicing.lines import UNUSED, Line
from invoicing.models import Invoice


class AlreadyEnded(ValidationError):
    def __init__(self) -> None:
        super().__init__("This subscription has ended already.", code="already_ended")


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancellation does, each answer with its amount in minor units."""

    ends_at: datetime
    at_once: bool
    documents: tuple[Document, ...]
    currency: str
    withdraws: str

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
    def total(self) -> int:
        return sum(document.total for document in self.documents)

    @property
    def sentence(self) -> str:
        when = "at once" if self.at_once else f"on {self.ends_at:%-d %b %Y}"
        if not self.at_once or not self.total:
            return f"Access ends {when}. Nothing is due now."
        word = "charged" if self.total > 0 else "credited"
        return f"Access ends {when}. {format_minor(abs(self.total), self.currency)} is {word} now."


@transaction.atomic
def withdraw(subscription: Subscription, *, reason: str = "", actor: Actor, now: datetime) -> Operation:
    """Take back the scheduled change (or cancellation) of a contract while its date has not come."""
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    _refuse_ended(subscription)
    scheduled = subscription.phases.kept().filter(starts_at__gt=now).select_related("version__plan").first()
    ends_later = subscription.ends_at is not None and subscription.ends_at > now
    if scheduled is None and not ends_later:
        late = subscription.phases.kept().filter(starts_at__lte=now, starts_at__gte=subscription.bills_at or now)
        raise switch.TooLateToWithdraw if late.exists() and subscription.bills_at else switch.NothingScheduled
    # Boundaries that nobody settled yet come first: afterwards the contract looks ahead from now.
    catch_up(customer, now=now)
    subscription.refresh_from_db()
    switch.refuse_parked(subscription)
    if scheduled is None:
        switch.uncancel(subscription, at=now)
        return record(
            customer,
            "cancellation.withdrawn",
            "Took back the cancellation",
            actor=actor,
            now=now,
            reason=reason,
            inputs={"subscription": subscription.public_id},
        )
    switch.withdraw_next(subscription, at=now, now=now)
    return record(
        customer,
        "change.withdrawn",
        f"Withdrew the change to {scheduled.version.plan.name} on {scheduled.starts_at:%-d %b %Y}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id},
        effects={"plan": scheduled.version.plan.key, "startsAt": scheduled.starts_at},
    )


def _refuse_ended(subscription: Subscription) -> None:
    if subscription.state in (SubscriptionState.ENDED, SubscriptionState.WITHDRAWN):
        raise AlreadyEnded


def preview_cancel(
    subscription: Subscription, *, at_once: bool, bill_use: bool = True, credit_unused: bool = True, now: datetime
) -> Cancellation:
    """What cancelling would do: when access ends, what open use costs, what comes back; add-ons end with their plan.

    What is overdue is carried out first: nobody can say what is open while a period is not settled.
    """
    catch_up(subscription.customer, now=now)
    subscription.refresh_from_db()
    _refuse_ended(subscription)
    at = now.replace(microsecond=0)
    at_once = at_once or subscription.period_ends_at is None
    ends_at = at if at_once else subscription.period_ends_at or at
    ending = [subscription, *add_ons_of(subscription)] if at_once else []
    documents = [
        document
        for each in ending
        for document in closing_documents(each, at, bill_use=bill_use, credit_unused=credit_unused)
    ]
    scheduled = subscription.phases.kept().filter(starts_at__gt=at).select_related("version__plan").first()
    return Cancellation(
        ends_at=ends_at,
        at_once=at_once,
        documents=tuple(documents),
        currency=phase_at(subscription, at).version.plan.currency,
        withdraws=f"The change to {scheduled.version.plan.name} is withdrawn." if scheduled else "",
    )


@transaction.atomic
def cancel(
    subscription: Subscription,
    *,
    at_once: bool = False,
    bill_use: bool = True,
    credit_unused: bool = True,
    ends_at: datetime | None = None,
    reason: str,
    actor: Actor,
    now: datetime,
) -> tuple[Operation, list[Invoice]]:
    """End a contract at the end of its cycle (or at another instant to come), or at once.

    At once, open use is billed and unused fees become account credit, unless answered otherwise. Raises
    `ReasonRequired`, `AlreadyEnded`, `ValidationError` for an end in the past.
    """
    reason = require_reason(reason, "a cancellation")
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    catch_up(customer, now=now)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if ends_at is not None and ends_at <= now:
        raise ValidationError("The end has to be in the future; to end at once, say so.", code="end_in_the_past")
    planned = preview_cancel(subscription, at_once=at_once, bill_use=bill_use, credit_unused=credit_unused, now=now)
    at = now.replace(microsecond=0)
    at_once = planned.at_once and ends_at is None
    if not at_once:
        switch.refuse_parked(subscription)
    ends_at = ends_at or planned.ends_at
    operation = record(
        customer,
        "subscription.canceled",
        f"Canceled {'at once' if at_once else f'for {ends_at:%-d %b %Y}'}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={
            "subscription": subscription.public_id,
            "atOnce": at_once,
            "billUse": bill_use,
            "creditUnused": credit_unused,
        },
        effects={"endsAt": ends_at, "total": planned.total, "withdraws": planned.withdraws},
    )
    if at_once:
        invoices = end_contract(
            customer,
            subscription,
            at=at,
            reason="canceled",
            now=now,
            bill_use=bill_use,
            credit_unused=credit_unused,
        )
        return operation, invoices
    switch.cancel_at(subscription, ends_at=ends_at, reason="canceled", at=at, now=now)
    return operation, []
