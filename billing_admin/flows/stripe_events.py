"""What Stripe's events lead to: a look at the objects that they name, as they are now.

An event's own account of what happened is never believed. So it does not matter in which order events come, how often,
or whether the next one overtook this one: whatever the last look saw is what is kept. Events wait as rows; a look at
an object settles all events about it that were there before.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from billing_admin.flows import stripe_collect
from billing_admin.flows.stripe_account import failing, reached
from billing_admin.flows.stripe_credits import refresh_credit
from billing_admin.flows.stripe_customers import backoff
from billing_admin.flows.stripe_mirror import (
    NOT_MIRRORED,
    is_mirroring,
    mirror_customer,
    mirror_price,
    mirror_product,
    mirror_subscription,
)
from payments import events
from payments.events import Subject, matters, subjects
from payments.gateway import Busy, StripeTrouble, Unreachable, WrongKey, enabled, gateway
from payments.inbox import forget
from payments.models import StripeCredit, StripeCustomer, StripeEvent, StripeEventQuerySet, StripeInvoice

log = structlog.get_logger("billing_admin.stripe")

State = StripeEvent.State
# So many are claimed at a time, and so many are settled in one pass at most.
BATCH, MOST = 100, 500
# Events of a worker that died are due again after so long.
CLAIM = timedelta(minutes=10)
# Another worker looks at the same object: its look may have come before our event.
BUSY = timedelta(seconds=5)
# After so many failures an event waits for a person.
PATIENCE = 5
NOTHING_DEPENDS = "Nothing here depends on it."
NAMES_NOTHING = "It names nothing that is looked at here."
LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"


class NotOurs(Exception):
    """The object has nothing to do with us; the text says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at one object came to. `customer` is Stripe's id of whom it belongs to, where that came out."""

    state: str
    outcome: str = ""
    customer: str = ""
    error: Exception | None = None
    pause: timedelta = timedelta()


@dataclass
class Processed:
    """What a pass did: events by their Stripe ids, and whether Stripe was away."""

    done: list[str] = field(default_factory=list)
    failed: list[tuple[str, Exception]] = field(default_factory=list)
    away: bool = False


# The pass -------------------------------------------------------------------------------------------------------------


def process(now: datetime, *, most: int = MOST, only: Collection[int] | None = None) -> Processed:
    """Settle the events that are due, or those `only`. At the first call without an answer the rest waits."""
    this = Processed()
    seen = 0
    while enabled() and seen < most and not this.away and (batch := _claim(now, only)):
        _settle(batch, this, now)
        seen += len(batch)
        if only is not None:
            break
    return this


def process_again(rows: StripeEventQuerySet, now: datetime) -> int:
    """Let events wait anew, whatever came of them. Returns how many."""
    return rows.update(state=State.WAITING, attempts=0, next_attempt_at=now, processed_at=None)


@transaction.atomic
def _claim(now: datetime, only: Collection[int] | None) -> list[StripeEvent]:
    """Some events that are due, and whatever else waits about the same objects; nobody else takes them meanwhile."""
    waiting = StripeEvent.objects.filter(state=State.WAITING).select_for_update(skip_locked=True)
    due = waiting.filter(pk__in=only) if only is not None else waiting.filter(next_attempt_at__lte=now)
    first = list(due.order_by("next_attempt_at", "id")[:BATCH])
    same = waiting.filter(object_id__in={event.object_id for event in first if event.object_id})
    batch = {event.pk: event for event in [*first, *same.exclude(pk__in=[event.pk for event in first])]}
    StripeEvent.objects.filter(pk__in=batch).update(next_attempt_at=now + CLAIM)
    return sorted(batch.values(), key=lambda event: (event.happened_at, event.pk))


def _settle(batch: list[StripeEvent], this: Processed, now: datetime) -> None:
    named = _subjects_of(batch)
    looks: dict[Subject, Look] = {}
    for event in batch:
        for subject in named[event.pk]:
            if subject not in looks and not this.away:
                looks[subject] = _look_at(subject, now)
                this.away = isinstance(looks[subject].error, Unreachable | WrongKey)
    if any(look.state == State.DONE for look in looks.values()) and not this.away:
        reached(now)
    _forget_the_erased(batch)
    for event in batch:
        _write(event, [looks.get(subject) for subject in named[event.pk]], this, now)


def _forget_the_erased(batch: list[StripeEvent]) -> None:
    """Stripe may go on telling of somebody whom we have erased: of that nothing stays either."""
    owners = StripeCustomer.objects.filter(stripe_id__in={event.customer for event in batch if event.customer})
    gone = set(owners.filter(customer__erased_at__isnull=False).values_list("stripe_id", flat=True))
    if gone:
        forget(StripeEvent.objects.filter(pk__in=[event.pk for event in batch if event.customer in gone]))


def _subjects_of(batch: list[StripeEvent]) -> dict[int, tuple[Subject, ...]]:
    """What to look at for each event. A payment for an invoice that we know is that invoice: one look serves."""
    found = {event.pk: subjects(event.type, event.payload) for event in batch}
    intents = {subject.id for named in found.values() for subject in named if subject.kind == events.INTENT}
    rows = StripeInvoice.objects.filter(payment_intent__in=intents).exclude(stripe_id=None) if intents else []
    known = {Subject(events.INTENT, row.payment_intent): Subject(events.INVOICE, row.stripe_id or "") for row in rows}
    return {pk: tuple(dict.fromkeys(known.get(s, s) for s in named)) for pk, named in found.items()}


# One object -----------------------------------------------------------------------------------------------------------


def _look_at(subject: Subject, now: datetime) -> Look:
    """Whatever goes wrong with one object holds up nothing else."""
    try:
        with _alone_with(subject) as free:
            return HANDLERS[subject.kind](subject.id, now) if free else Look(State.WAITING, pause=BUSY)
    except NotOurs as why:
        return Look(State.IGNORED, str(why))
    except (Unreachable, WrongKey) as error:
        if not isinstance(error, Busy):
            failing(error, now)
        pause = timedelta(seconds=getattr(error, "retry_after", 0))
        return Look(State.WAITING, error.sentence, error=error, pause=pause)
    except Exception as error:
        log.warning("a stripe event failed", subject=subject.id, exc_info=error)
        return Look(State.FAILED, _sentence(error), error=error)


@contextmanager
def _alone_with(subject: Subject) -> Iterator[bool]:
    """Two looks at one object at once might be written in the wrong order. The lock goes with a worker that dies."""
    key = f"stripe:{subject.kind}:{subject.id}"
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [key])
        [free] = cursor.fetchone()
    try:
        yield free
    finally:
        if free:
            with connection.cursor() as cursor:
                cursor.execute(UNLOCK, [key])


def _sentence(error: Exception) -> str:
    if isinstance(error, StripeTrouble):
        return error.sentence
    if isinstance(error, ValidationError):
        return " ".join(error.messages)
    return f"{type(error).__name__}: {error}"


def _invoice(stripe_id: str, now: datetime) -> Look:
    row = StripeInvoice.objects.select_related("invoice__customer__stripe").filter(stripe_id=stripe_id).first()
    if row is None:
        raise NotOurs("An invoice that was not made here.")
    row = stripe_collect.refresh(row, now)
    owner = getattr(row.invoice.customer, "stripe", None)
    return Look(State.DONE, f"{row.invoice}: {row.get_state_display()}.", owner.stripe_id if owner else "")


def _payment(intent: str, now: datetime) -> Look:
    """Only Stripe knows for which invoice an earlier attempt was."""
    invoice = gateway().invoice_of_intent(intent)
    if not invoice:
        raise NotOurs("A payment for no invoice.")
    return _invoice(invoice, now)


def _credit(stripe_id: str, now: datetime) -> Look:
    return _given_back(StripeCredit.objects.filter(stripe_id=stripe_id).first(), now)


def _refund(stripe_id: str, now: datetime) -> Look:
    return _given_back(StripeCredit.objects.filter(refund_id=stripe_id).first(), now)


def _given_back(row: StripeCredit | None, now: datetime) -> Look:
    if row is None:
        raise NotOurs("A refund that was not begun here.")
    row = refresh_credit(row, now)
    return Look(State.DONE, f"{row.note}: {row.get_state_display()}.")


def _customer(stripe_id: str, now: datetime) -> Look:
    if not is_mirroring() and not StripeCustomer.objects.filter(stripe_id=stripe_id).exists():
        raise NotOurs("A customer whom nobody here knows.")
    return Look(State.DONE, mirror_customer(stripe_id, now), stripe_id)


def _mirrored(mirror: Callable[[str, datetime], str], stripe_id: str, now: datetime) -> Look:
    if not is_mirroring():
        raise NotOurs(NOT_MIRRORED)
    return Look(State.DONE, mirror(stripe_id, now))


Handler = Callable[[str, datetime], Look]
HANDLERS: dict[str, Handler] = {
    events.INVOICE: _invoice,
    events.INTENT: _payment,
    events.CREDIT: _credit,
    events.REFUND: _refund,
    events.CUSTOMER: _customer,
    events.PRODUCT: partial(_mirrored, mirror_product),
    events.PRICE: partial(_mirrored, mirror_price),
    events.SUBSCRIPTION: partial(_mirrored, mirror_subscription),
}


# What is kept of it ---------------------------------------------------------------------------------------------------


def _write(event: StripeEvent, looks: list[Look | None], this: Processed, now: datetime) -> None:
    """One event, by what its objects came to: what is worst holds."""
    look = _together(event, looks)
    values: dict[str, object] = {"outcome": look.outcome[:300]}
    if look.customer and not event.customer:
        values["customer"] = look.customer
    if look.state in (State.DONE, State.IGNORED):
        values |= {"state": look.state, "processed_at": now, "next_attempt_at": None, "attempts": 0}
        this.done.append(event.stripe_id)
    elif look.error is None:
        values |= {"next_attempt_at": now + look.pause, "outcome": event.outcome}
    else:
        values |= {"attempts": event.attempts + 1, "next_attempt_at": now + max(backoff(event.attempts), look.pause)}
        if look.state == State.FAILED and event.attempts + 1 >= PATIENCE:
            values |= {"state": State.FAILED, "next_attempt_at": None}
            this.failed.append((event.stripe_id, look.error))
    StripeEvent.objects.filter(pk=event.pk, state=State.WAITING).update(**values)


def _together(event: StripeEvent, looks: list[Look | None]) -> Look:
    if not looks:
        return Look(State.IGNORED, NAMES_NOTHING if matters(event.type) else NOTHING_DEPENDS)
    found = [look for look in looks if look is not None]
    for state in (State.FAILED, State.WAITING):
        if worst := next((look for look in found if look.state == state), None):
            return worst
    if len(found) < len(looks):
        return Look(State.WAITING)  # Stripe went away before its turn came
    done = [look for look in found if look.state == State.DONE]
    customer = next((look.customer for look in done if look.customer), "")
    return Look(State.DONE if done else State.IGNORED, _sentences(done or found), customer)


def _sentences(looks: Iterable[Look]) -> str:
    return " ".join(dict.fromkeys(look.outcome for look in looks))
