"""How the documents of a contract are collected: terms, grace, pauses; and what a payment sets free."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from customers.models import Operation, Phase, Subscription
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
    )


def pauses(subscription: Subscription, at: datetime) -> bool:
    """Whether nothing is collected at the instant."""
    paused, resumes = subscription.collection_paused_at, subscription.collection_resumes_at
    return paused is not None and paused <= at and (resumes is None or at < resumes)


def finish(invoices: Sequence[Invoice], subscription: Subscription, *, now: datetime) -> list[Invoice]:
    """What a pause of collection makes of invoices that were just issued."""
    for invoice in invoices:
        if invoice.state == InvoiceState.OPEN and invoice.due and pauses(subscription, now):
            _give_up(invoice, subscription, now)
    return list(invoices)


def _give_up(invoice: Invoice, subscription: Subscription, now: datetime) -> None:
    if subscription.collection_behavior == Subscription.WhilePaused.VOID:
        annul(invoice, reason="Collection is paused.", now=now)
    elif subscription.collection_behavior == Subscription.WhilePaused.MARK_UNCOLLECTIBLE:
        invoice.move_to(InvoiceState.UNCOLLECTIBLE)
        invoice.save(update_fields=["state"])


def recover(invoice: Invoice, *, now: datetime) -> None:
    """A contract whose last overdue invoice is paid is active again."""
    subscription = invoice.subscription
    if subscription is None or subscription.state != SubscriptionState.PAST_DUE:
        return
    overdue = Invoice.objects.unpaid().filter(subscription=subscription, due_at__lt=now).exclude(pk=invoice.pk)
    if not overdue.exists():
        subscription.move_to(SubscriptionState.ACTIVE)
        subscription.save(update_fields=["state"])
