"""Events as they are kept: written once per idempotency key, found again by it."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError

from customers.models import Customer
from entitlements.models import Balance, UsageEvent, UsageKey


class EventArchived(ValidationError):
    """The key counted once, so it counts nothing now; what it counted can only be read in the archive."""

    def __init__(self, key: str, recorded_at: datetime):
        super().__init__(
            f"The key {key!r} was counted on {recorded_at:%-d %b %Y}; that event is in the archive.",
            code="event_archived",
        )


def digest_of_key(key: str) -> UUID:
    """What stands for a key in the table of keys: the first 16 bytes of its SHA-256."""
    return UUID(bytes=hashlib.sha256(key.encode()).digest()[:16])


def write_event(
    customer: Customer,
    *,
    feature_id: int,
    amount: Decimal,
    taken: Decimal,
    at: datetime,
    now: datetime,
    key: str | None,
    mode: str,
    properties: Mapping[str, Any] | None,
    parts: Sequence[tuple[int, Decimal]],
    name: str = "",
    reported: Decimal | None = None,
    public_id: str | None = None,
    counts_key: bool = True,
) -> UsageEvent:
    """Keep one event with the units that each balance gave. Raises `IntegrityError` when its key counted already.

    Of an event that several features count, which is a row for each with one `public_id`, only one `counts_key`.
    """
    own = {"public_id": public_id} if public_id else {}
    event = UsageEvent.objects.create(
        customer=customer,
        feature_id=feature_id,
        name=name,
        amount=amount,
        taken=taken,
        reported=reported,
        at=at,
        recorded_at=now,
        key=key,
        mode=mode,
        properties=dict(properties or {}),
        balance_ids=[balance_id for balance_id, _ in parts],
        amounts=[part for _, part in parts],
        **own,
    )
    if key and counts_key:
        UsageKey(customer=customer, digest=digest_of_key(key), event_id=event.pk, recorded_at=now).save(
            force_insert=True
        )
    return event


def first_event(customer: Customer, key: str) -> UsageEvent | None:
    """The event that a key counted. Raises `EventArchived` when it is too old to be shown."""
    known = UsageKey.objects.filter(customer=customer, digest=digest_of_key(key)).first()
    if known is None:
        return None
    found = UsageEvent.objects.filter(pk=known.event_id, recorded_at=known.recorded_at).first()
    if found is None:
        raise EventArchived(key, known.recorded_at)
    return found


def opened_at(balance: Balance) -> datetime:
    """The earliest instant at which an event may have been counted on a balance."""
    return min(balance.starts_at, balance.opened_at)
