"""The passes of the clockwork that have to do with Stripe. Without keys none of them does anything.

Each asks the database what is due, and stops at the first call that Stripe does not answer. What came of each event,
invoice and customer stands on its own row, so a pass is recorded when it brought something on or failed.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial

from django.db import transaction

from billing_admin.flows import (
    stripe_collect,
    stripe_credits,
    stripe_customers,
    stripe_events,
    stripe_fetch,
    stripe_follow,
)
from billing_admin.runs import AGAIN, Pass, open_failures
from payments.gateway import enabled
from payments.models import StripeEvent

EVENTS, FETCH = "stripe_events", "stripe_fetch"
COLLECT, CUSTOMERS, FOLLOW = "stripe_collect", "stripe_customers", "stripe_follow"
NAMES = {
    EVENTS: "Stripe events",
    FETCH: "Stripe events that never came",
    COLLECT: "Collection with Stripe",
    CUSTOMERS: "Customers in Stripe",
    FOLLOW: "Subscriptions that follow Stripe",
}


def _collect(now: datetime, this: Pass) -> int:
    """Hand new invoices and refunds over, and take the next step of each that is due."""
    stripe_collect.enqueue(now)
    stripe_credits.enqueue_credits(now)
    parts = [stripe_collect.collect_due(now)]
    if not parts[0].away:
        parts.append(stripe_credits.credit_due(now))
    for document, error in (failure for part in parts for failure in part.failed):
        this.fail(document, error)
    _resolve(COLLECT, [document for part in parts for document in part.well], now)
    return sum(part.done for part in parts)


# Each commits by itself, row by row, and says how many it brought on; what broke on the way is told to the pass.
WORK: dict[str, Callable[[datetime, Pass], int]] = {
    FETCH: lambda now, _: stripe_fetch.fetch_due(now),
    COLLECT: _collect,
    CUSTOMERS: lambda now, _: stripe_customers.sync_due(now),
    FOLLOW: lambda now, _: stripe_follow.follow_due(now),
}


def work(task: str, *, now: datetime, asked_by: str = "") -> Pass:
    """One pass of one kind of work."""
    this = Pass(task, now, asked_by=asked_by)
    if not enabled():
        return this
    try:
        if done := WORK[task](now, this):
            this.wrote(done=done)
        _resolve(task, [task], now)
    except Exception as error:
        this.fail(task, error)
    return this


def events(*, now: datetime, only: Collection[int] | None = None, asked_by: str = "") -> Pass:
    """Process what Stripe told. The inbox says what came of each event, so a pass leaves a record of its own only
    when something failed, or somebody asked for it."""
    this = Pass(EVENTS, now, asked_by=asked_by)
    did = stripe_events.process(now, only=only)
    this.count([], done=len(did.done))
    if asked_by and did.done:
        this.begin()
    for stripe_id, error in did.failed:
        this.fail(stripe_id, error)
    _resolve(EVENTS, did.done, now)
    return this


def _resolve(task: str, what: Collection[str], now: datetime) -> None:
    if what:
        open_failures().filter(run__task=task, what__in=what).update(resolved_at=now)


# Failures that somebody tries again -----------------------------------------------------------------------------------


def _events_again(what: Collection[str], asked_by: str, now: datetime) -> Pass:
    with transaction.atomic():
        failed = StripeEvent.objects.filter(stripe_id__in=what, state=StripeEvent.State.FAILED)
        chosen = list(failed.select_for_update().values_list("pk", flat=True))
        stripe_events.process_again(StripeEvent.objects.filter(pk__in=chosen), now)
    return events(now=now, only=chosen, asked_by=asked_by)


def _work_again(task: str, what: Collection[str], asked_by: str, now: datetime) -> Pass:
    return work(task, now=now, asked_by=asked_by)


AGAIN[EVENTS] = _events_again
AGAIN.update({task: partial(_work_again, task) for task in WORK})
