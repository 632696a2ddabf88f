"""The inbox: what Stripe told us, each event once by its id, however often and by whichever way it came."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from payments.events import CUSTOMER, bare, named
from payments.facts import EventFacts
from payments.gateway import livemode
from payments.masking import masked
from payments.models import StripeAccount, StripeEventQuerySet, StripeRefusal

ROW = "(%s, %s, %s, %s, %s, %s, %s, %s::jsonb, 'waiting', '', 0, %s)"
KEEP = """
INSERT INTO payments_stripeevent (stripe_id, type, object_id, customer, happened_at, received_at, was_fetched,
                                  payload, state, outcome, attempts, next_attempt_at)
VALUES {} ON CONFLICT (stripe_id) DO NOTHING RETURNING id
"""
COUNT = """
INSERT INTO payments_striperefusal AS known (kind, number, since, last_at) VALUES (%(kind)s, 1, %(now)s, %(now)s)
ON CONFLICT (kind) DO UPDATE SET last_at = %(now)s,
  number = CASE WHEN known.last_at < %(old)s THEN 1 ELSE known.number + 1 END,
  since = CASE WHEN known.last_at < %(old)s THEN %(now)s ELSE known.since END
"""
# What was refused is told for so long after the last time.
REMEMBERED = timedelta(days=30)


def keep(events: Sequence[EventFacts], *, now: datetime, fetched: bool = False) -> list[int]:
    """Store what is new, to be processed at once; one statement. Returns the keys of the new rows."""
    if not events:
        return []
    values = [value for event in events for value in _row(event, now, fetched)]
    with connection.cursor() as cursor:
        cursor.execute(KEEP.format(", ".join([ROW] * len(events))), values)
        return [pk for (pk,) in cursor.fetchall()]


def _row(event: EventFacts, now: datetime, fetched: bool) -> list[Any]:
    # Stripe's library makes decimals of what is a text in a webhook.
    customer, payload = named(event.payload, CUSTOMER), json.dumps(masked(event.payload), default=str)
    ids = [event.id[:80], event.type[:100], event.object_id[:80], customer[:80]]
    return [*ids, event.at, now, fetched, payload, now]


def stranger(event: EventFacts) -> str:
    """Why an event is not for us, as a kind of `StripeRefusal`; empty when it is."""
    if event.livemode != livemode():
        return StripeRefusal.Kind.MODE
    if event.account:
        ours = StripeAccount.present()
        if ours is None or ours.stripe_id != event.account:
            return StripeRefusal.Kind.ACCOUNT
    return ""


def count_refusal(kind: str, now: datetime) -> None:
    """Of an event that is not for us nothing is kept but that there was one."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, {"kind": kind, "now": now, "old": now - REMEMBERED})


def forget(events: StripeEventQuerySet, scrub: Callable[[Any], Any] = str) -> None:
    """Leave of events only which objects they name, and take what `scrub` knows out of what is said of them."""
    for event in events.iterator(chunk_size=500):
        event.payload, event.outcome = bare(event.payload), scrub(event.outcome)[:300]
        event.save(update_fields=["payload", "outcome"])
