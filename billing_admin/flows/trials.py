"""Extend a trial, or end it now: what is charged after it moves along, and the windows that it cut short."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.renew import catch_up
from customers import switch
from customers.holdings import contracts_at
from customers.journal import Actor, record, require_reason
from customers.mirrored import refuse_mirrored
from customers.models import Customer, Operation, Subscription
from customers.states import SubscriptionState
from entitlements.allowances import contributions_of
from entitlements.readings import locked, open_rows
from invoicing.models import Invoice

MOST_DAYS = 730


class NotOnTrial(ValidationError):
    def __init__(self) -> None:
        super().__init__("This subscription is not on trial.", code="not_on_trial")


class BadTrialEnd(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_trial_end")


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """What came of ending a trial: the first period's documents, if any."""

    operation: Operation
    invoices: tuple[Invoice, ...]


def new_end(
    subscription: Subscription, *, until: datetime | None = None, days: int | None = None, now: datetime
) -> datetime:
    """When an extended trial would end: so many days from now, or the given instant. Raises `BadTrialEnd`."""
    if (until is None) == (days is None):
        raise BadTrialEnd("Say until when the trial lasts, or how many days from now.")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise BadTrialEnd(f"A trial is extended by 1 to {MOST_DAYS} days.")
    end = until or now.replace(microsecond=0) + timedelta(days=days or 0)
    present = subscription.trial_ends_at
    if present is not None and end <= present:
        raise BadTrialEnd(f"The trial lasts until {present:%-d %b %Y} already; extending counts from now.")
    if end > now + timedelta(days=MOST_DAYS):
        raise BadTrialEnd(f"A trial ends within {MOST_DAYS} days from now.")
    return end


@transaction.atomic
def extend(
    subscription: Subscription,
    *,
    until: datetime | None = None,
    days: int | None = None,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Operation:
    """Let a running trial last longer; the first period, and its invoice, begin at the new end.

    Raises `ReasonRequired`, `NotOnTrial`, `BadTrialEnd`, `ApprovalNeeded`.
    """
    reason = require_reason(reason, "a longer trial")
    customer, subscription = _running(subscription, now)
    before = subscription.trial_ends_at
    end = new_end(subscription, until=until, days=days, now=now)
    asked = {"subscription": subscription, "until": until, "days": days}
    guard_as("trial.extended", actor=actor, now=now, reason=reason, **asked)
    _move_end(customer, subscription, end, now)
    return record(
        customer,
        "trial.extended",
        f"Extended the trial until {end:%-d %b %Y}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id, "until": until, "days": days},
        effects={"was": before, "trialEndsAt": end},
    )


@transaction.atomic
def shorten(
    subscription: Subscription,
    *,
    until: datetime,
    reason: str,
    actor: Actor,
    now: datetime,
    reverses: Operation | None = None,
) -> Operation:
    """Let a running trial end sooner, at an instant to come. Raises `ReasonRequired`, `NotOnTrial`, `BadTrialEnd`."""
    reason = require_reason(reason, "a shorter trial")
    customer, subscription = _running(subscription, now)
    before = subscription.trial_ends_at
    if until <= now or before is None or until >= before:
        raise BadTrialEnd("A trial is shortened to an instant between now and its end.")
    _move_end(customer, subscription, until, now)
    return record(
        customer,
        "trial.shortened",
        f"Shortened the trial to {until:%-d %b %Y}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id, "until": until},
        effects={"was": before, "trialEndsAt": until},
        reverses=reverses,
    )


@transaction.atomic
def end_now(subscription: Subscription, *, reason: str, actor: Actor, now: datetime) -> EndedTrial:
    """End a running trial at this moment: its plan is charged from now on, or ends where its terms say so.

    Raises `ReasonRequired`, `NotOnTrial`.
    """
    reason = require_reason(reason, "the end of a trial")
    customer, subscription = _running(subscription, now)
    before, at = subscription.trial_ends_at, now.replace(microsecond=0)
    _move_end(customer, subscription, at, now)
    operation = record(
        customer,
        "trial.ended",
        "Ended the trial",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"subscription": subscription.public_id},
        effects={"was": before, "trialEndsAt": at},
    )
    return EndedTrial(operation, tuple(catch_up(customer, now=now)))


def _running(subscription: Subscription, now: datetime) -> tuple[Customer, Subscription]:
    """The locked rows of a trial that has not ended by now."""
    customer = Customer.objects.select_for_update().get(pk=subscription.customer_id)
    catch_up(customer, now=now)
    subscription = Subscription.objects.select_for_update().get(pk=subscription.pk)
    if subscription.state != SubscriptionState.TRIALING:
        raise NotOnTrial
    refuse_mirrored(subscription)
    switch.refuse_parked(subscription)
    return customer, subscription


def _move_end(customer: Customer, subscription: Subscription, end: datetime, now: datetime) -> None:
    """Move the trial's end, and that of every window which ended with it."""
    at, before = now.replace(microsecond=0), subscription.trial_ends_at
    switch.extend_trial(subscription, until=end, at=at)
    move_windows(customer, subscription, before, end, at)


def move_windows(
    customer: Customer, subscription: Subscription, before: datetime | None, end: datetime, at: datetime
) -> None:
    """Let the windows that ended with a trial end with its new end; the contract has it already."""
    regular = {
        c.item.feature.slug: c.window(at).ends_at
        for c in contributions_of(contracts_at(customer, at))
        if c.contract.subscription_id == subscription.pk and c.item.feature
    }
    rows = open_rows(customer).promised().filter(subscription=subscription, ends_at__isnull=False)
    for row in locked(rows.select_related("feature")):
        moved = min(end, regular.get(row.feature.slug) or end)
        if row.ends_at == before or (row.ends_at and row.ends_at > end):
            row.ends_at = max(moved, row.starts_at)
            row.save(update_fields=["ends_at"])
