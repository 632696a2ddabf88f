"""How the documents of a contract are collected: terms, grace, pauses; and what a payment sets free."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from customers.journal import Actor, record, require_reason
from customers.mirrored import refuse_mirrored
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from invoicing.issue import Issuing, annul
from invoicing.models import BillingSettings, Invoice
from invoicing.states import InvoiceState


def net_terms_of(subscription: Subscription | None, account: BillingSettings) -> int:
    """Days to pay: the contract's own, else the account's."""
    if subscription is not None and subscription.net_terms_days is not None:
        return subscription.net_terms_days
    return account.net_terms_days


def issuing(
    subscription: Subscription,
    phase: Phase,
    *,
    operation: Operation | None,
    at: datetime,
    has_use: bool,
    phases: Mapping[int, Phase] | None = None,
) -> Issuing:
    """How documents of a boundary are issued: at once, or as drafts while late use or a pause holds them back."""
    account = BillingSettings.present()
    kept = pauses(subscription, at) and subscription.collection_behavior == Subscription.WhilePaused.KEEP_AS_DRAFT
    waits = has_use and account.grace_hours > 0 and not kept
    return Issuing(
        subscription=subscription,
        phase=phase,
        operation=operation,
        phases=phases or {},
        net_terms_days=net_terms_of(subscription, account),
        is_draft=kept or waits,
        draft_until=at + timedelta(hours=account.grace_hours) if waits else None,
        boundary_at=at,
    )


def pauses(subscription: Subscription, at: datetime) -> bool:
    """Whether nothing is collected at the instant."""
    paused, resumes = subscription.collection_paused_at, subscription.collection_resumes_at
    return paused is not None and paused <= at and (resumes is None or at < resumes)


def finish(invoices: Sequence[Invoice], subscription: Subscription, *, now: datetime) -> list[Invoice]:
    """What a pause of collection makes of invoices that were just issued."""
    for invoice in invoices:
        waited_for = invoice.gates_id is not None
        if invoice.state == InvoiceState.OPEN and invoice.due and not waited_for and pauses(subscription, now):
            _give_up(invoice, subscription, now)
    return list(invoices)


def _give_up(invoice: Invoice, subscription: Subscription, now: datetime) -> None:
    if subscription.collection_behavior == Subscription.WhilePaused.VOID:
        annul(invoice, reason="Collection is paused.", now=now)
    elif subscription.collection_behavior == Subscription.WhilePaused.MARK_UNCOLLECTIBLE:
        invoice.move_to(InvoiceState.UNCOLLECTIBLE)
        invoice.save(update_fields=["state"])


def recover(invoice: Invoice, *, now: datetime) -> None:
    """A contract whose last overdue invoice is paid is active again, or on its trial."""
    subscription = invoice.subscription
    if subscription is None or subscription.state != SubscriptionState.PAST_DUE:
        return
    overdue = Invoice.objects.unpaid().filter(subscription=subscription, due_at__lt=now).exclude(pk=invoice.pk)
    if not overdue.exists():
        subscription.recover(now)


class NotLive(ValidationError):
    def __init__(self) -> None:
        super().__init__("Only the collection of a plan that runs can be paused.", code="not_live")


class NotPaused(ValidationError):
    def __init__(self) -> None:
        super().__init__("The collection of this subscription is not paused.", code="not_paused")


@transaction.atomic
def pause(
    subscription: Subscription,
    *,
    behavior: str,
    resumes_at: datetime | None = None,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Operation:
    """Collect nothing for a while: what becomes due is kept as a draft, voided, or marked as uncollectible.

    The plan runs on and nobody is reminded. A second call changes how, or until when. Raises `ReasonRequired`,
    `NotLive`, `ApprovalNeeded`, `ValidationError` for an unknown behaviour or an end that is not to come.
    """
    reason = require_reason(reason, "pausing collection")
    if behavior not in Subscription.WhilePaused.values:
        allowed = ", ".join(Subscription.WhilePaused.values)
        raise ValidationError(f"Choose what becomes of invoices meanwhile: {allowed}.", code="bad_behavior")
    if resumes_at is not None and resumes_at <= now:
        raise ValidationError("Collection resumes at an instant to come.", code="resumes_in_the_past")
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if not subscription.is_live:
        raise NotLive
    refuse_mirrored(subscription)
    asked = {"subscription": subscription, "behavior": behavior, "resumes_at": resumes_at}
    guard_as("collection.paused", actor=actor, now=now, reason=reason, **asked)
    before = pause_of(subscription) if pauses(subscription, now) else {}
    if not before:
        subscription.collection_paused_at = now
    subscription.collection_resumes_at, subscription.collection_behavior = resumes_at, behavior
    subscription.save(update_fields=["collection_paused_at", "collection_resumes_at", "collection_behavior"])
    until = f" until {resumes_at:%-d %b %Y}" if resumes_at else ""
    return record(
        customer,
        "collection.paused",
        f"Paused collection{until}: {Subscription.WhilePaused(behavior).label.lower()}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id, "behavior": behavior, "resumesAt": resumes_at},
        effects={"before": before},
    )


def pause_of(subscription: Subscription) -> dict[str, Any]:
    """A pause as the journal keeps it, for whoever takes the act back that changed it."""
    return {"behavior": subscription.collection_behavior, "resumesAt": subscription.collection_resumes_at}


@transaction.atomic
def resume(subscription: Subscription, *, reason: str = "", actor: Actor, now: datetime) -> Operation:
    """Collect again from now on; the days of reminders count from here. Raises `NotPaused`."""
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if not pauses(subscription, now):
        raise NotPaused
    before = pause_of(subscription)
    subscription.collection_resumes_at = now
    subscription.save(update_fields=["collection_resumes_at"])
    return record(
        customer,
        "collection.resumed",
        "Resumed collection",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id},
        effects={"pausedSince": subscription.collection_paused_at, "before": before},
    )
