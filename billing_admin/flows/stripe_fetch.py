"""Fetch what we missed: events that Stripe sent in vain, or never. Stripe lists them for 30 days."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError

from billing_admin.flows.stripe_account import connected, failing, reached
from billing_admin.models import Heartbeat
from payments import inbox
from payments.gateway import Busy, Unreachable, enabled, gateway
from payments.models import StripeEvent

KEPT_BY_STRIPE = timedelta(days=30)
# So often, and so far back, events are looked for without anybody asking.
EVERY, BACK = timedelta(hours=1), timedelta(hours=2)
# How much two fetches overlap: an event may be listed later than it says it happened.
OVERLAP = timedelta(hours=1)
# Up to when all events were fetched without anybody asking.
FETCHED = "stripe_events_fetched"
# Pages of 100 events that a person waits for.
MOST_PAGES, ALL_PAGES = 50, 10_000


class BadRange(ValidationError):
    """`field` is what to change."""

    def __init__(self, field: str, sentence: str, code: str):
        super().__init__(sentence, code=code)
        self.field = field


@dataclass(frozen=True, slots=True)
class Fetched:
    """Events that Stripe listed, and how many of them were new here. `left_before`: where it stopped, if too early."""

    listed: int
    new: int
    left_before: datetime | None = None


def first_choice(now: datetime) -> datetime:
    """Since when to look, unless somebody says otherwise: an hour before the newest event that came."""
    newest = StripeEvent.objects.order_by("-happened_at", "-id").values_list("happened_at", flat=True).first()
    return max((newest or now) - OVERLAP, now - KEPT_BY_STRIPE)


def fetch(since: datetime, until: datetime, now: datetime, *, pages: int = MOST_PAGES) -> Fetched:
    """Keep every event of `[since, until]` that is new here, the newest first. Raises `BadRange`, `StripeTrouble`."""
    if since < now - KEPT_BY_STRIPE:
        raise BadRange("since", "Stripe lists the events of the last 30 days. Choose a later start.", "too_long_ago")
    if since >= until:
        raise BadRange("until", "The end is not after the start.", "bad_range")
    door, last, listed, new, oldest = gateway(), "", 0, 0, until
    for _ in range(pages):
        page = door.events(since=since, until=until, after=last)
        ours = [event for event in page.rows if not inbox.stranger(event)]
        new += len(inbox.keep(ours, now=now, fetched=True))
        listed, last = listed + len(page.rows), page.last
        if not last:
            return Fetched(listed, new)
        oldest = page.rows[-1].at
    return Fetched(listed, new, oldest)


def fetch_due(now: datetime) -> int:
    """Once an hour, and when Stripe answers again, fetch what did not come. Returns how many events were new.

    It begins where the former fetch ended, so whatever kept events away (Stripe, the network, our own workers), for
    however long, they are there an hour after it is over.
    """
    account = connected(now) if enabled() else None
    if account is None:
        return 0
    last = Heartbeat.objects.filter(name=FETCHED).values_list("at", flat=True).first()
    if last is not None and now - last < EVERY and account.failing_since is None:
        return 0
    missed = [at - OVERLAP for at in (last, account.failing_since) if at is not None]
    since = max(min(now - BACK, *missed), now - KEPT_BY_STRIPE) if missed else now - BACK
    try:
        found = fetch(since, now, now, pages=ALL_PAGES)
    except Unreachable as error:
        if not isinstance(error, Busy):
            failing(error, now)
        return 0
    reached(now)
    row = Heartbeat(name=FETCHED, at=now)
    Heartbeat.objects.bulk_create([row], update_conflicts=True, unique_fields=["name"], update_fields=["at"])
    return found.new
