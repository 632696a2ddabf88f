"""Events whose callers do not wait: kept at once as they came in, counted soon after, each exactly once.

What is left to count is a query. An event is counted and settled in one transaction, so that whoever counts may be
killed, doubled or late; what was not counted keeps its instant, and with it its window.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Q

from billing_admin.flows.customers import CustomerClosed
from billing_admin.flows.use import track_use
from catalog.money import plain
from catalog.terms import ALLOCATED, METERED
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.check import UnknownFeature
from entitlements.models import AcceptedEvent, Balance
from entitlements.provision import hold
from entitlements.readings import find_feature
from entitlements.track import NotMetered, Tracked

# Advisory locks on customers whose events are counted: their ids, far from whatever else anybody locks so.
COUNTED_BY = 7_200_000_000_000_000_000
MINE = "SELECT pg_try_advisory_xact_lock(%s)"
# So long one may ask what became of an event.
REMEMBERED = timedelta(days=30)
FORGOTTEN_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Use:
    """Use as it was reported. `at` None: when it was accepted, and of a level when it is counted."""

    feature: str
    amount: Decimal = Decimal(1)
    key: str | None = None
    mode: Mode = Mode.REJECT
    at: datetime | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "feature": self.feature,
            "amount": plain(self.amount),
            "key": self.key,
            "mode": self.mode.value,
            "at": self.at.isoformat() if self.at else None,
            "properties": dict(self.properties),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        at = datetime.fromisoformat(kept["at"]) if kept["at"] else None
        return cls(**{**kept, "amount": Decimal(kept["amount"]), "mode": Mode(kept["mode"]), "at": at})


def refuse_uncountable(use: Use) -> None:
    """What can be known to be wrong before anything is counted. Raises `UnknownFeature` and `NotMetered`."""
    found = find_feature(use.feature)
    if found is None:
        raise UnknownFeature(use.feature)
    if found.type != METERED:
        raise NotMetered(found)


def accept(uses: Sequence[tuple[Customer, Use]], *, now: datetime) -> list[AcceptedEvent]:
    """Keep use to be counted, in this order for each customer; one statement."""
    rows = [
        AcceptedEvent(customer=customer, revision=customer.revision, asked=use.to_json(), accepted_at=now)
        for customer, use in uses
    ]
    return AcceptedEvent.objects.bulk_create(rows)


def waiting(most: int) -> list[int]:
    """The customers with events to count, who waits longest first."""
    oldest = AcceptedEvent.objects.filter(settled_at=None).order_by("id")[:most]
    return list(dict.fromkeys(row.customer_id for row in oldest.only("customer")))


@transaction.atomic
def count_next(customer_id: int, *, after: int, skip: Collection[str] = (), now: datetime) -> AcceptedEvent | None:
    """Count a customer's next event after the given one; None when none is left, or somebody else counts theirs.

    The events of a customer are counted in their order. A refusal settles an event, too: it says why.
    """
    with connection.cursor() as cursor:
        cursor.execute(MINE, [COUNTED_BY + customer_id])
        [is_mine] = cursor.fetchone()
    if not is_mine:
        return None
    row = next_accepted(customer_id, after=after, skip=skip)
    if row is None:
        return None
    try:
        with transaction.atomic():
            tracked = _count(row, now)
    except ValidationError as refused:
        problem = refused.error_list[0]
        row.error = {"code": problem.code or "invalid", "message": problem.messages[0]}
    else:
        row.applied, row.event_id = tracked.applied, tracked.event.public_id
    row.settled_at = now
    row.save(update_fields=["applied", "event_id", "error", "settled_at"])
    return row


def next_accepted(customer_id: int, *, after: int, skip: Collection[str] = ()) -> AcceptedEvent | None:
    """The oldest event of a customer that waits, among those after the given one; `skip` are public ids."""
    rows = AcceptedEvent.objects.filter(customer=customer_id, settled_at=None, pk__gt=after)
    rows = rows.exclude(public_id__in=skip) if skip else rows
    return rows.select_related("customer").order_by("id").first()


def _count(row: AcceptedEvent, now: datetime) -> Tracked:
    """Count an event at the instant at which it was accepted, or, where time has gone on there, as use of the past."""
    use = Use.from_json(row.asked)
    known = find_feature(use.feature)
    is_level = known is not None and known.usage == ALLOCATED
    customer = _held(row.customer, is_level=is_level)
    if customer.closed_at is not None:
        raise CustomerClosed
    at = use.at
    if customer.revision == row.revision and not _windows_since(row, use.feature):
        now = row.accepted_at
    elif not is_level:
        at = use.at or row.accepted_at
    return track_use(
        customer,
        feature=use.feature,
        amount=use.amount,
        at=at,
        now=now,
        key=use.key,
        mode=use.mode,
        properties=use.properties,
    )


def _held(customer: Customer, *, is_level: bool) -> Customer:
    """The customer as they are, kept from changes of plan; a change of level writes documents, which need the row."""
    if is_level:
        return Customer.objects.select_for_update().get(pk=customer.pk)
    hold(customer)
    return Customer.objects.get(pk=customer.pk)


def _windows_since(row: AcceptedEvent, feature: str) -> bool:
    """Whether windows of the feature began or ended after the event was accepted."""
    balances = Balance.objects.filter(customer=row.customer_id, feature__slug=feature)
    return balances.filter(Q(starts_at__gt=row.accepted_at) | Q(closed_at__gt=row.accepted_at)).exists()


def forget(now: datetime) -> int:
    """Drop what was settled long ago; returns how many. The events themselves stay."""
    old = AcceptedEvent.objects.filter(settled_at__lte=now - REMEMBERED).order_by("settled_at")
    ids = list(old.values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE])
    return AcceptedEvent.objects.filter(pk__in=ids).delete()[0] if ids else 0
