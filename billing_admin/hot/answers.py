"""Answers as bytes, in the shape of the ordinary endpoints.

Written out by hand: building and dumping `AccessOut` takes four times as long as deciding. The tests hold every answer
against the endpoint's, name by name and type by type.
"""

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from billing_admin.api.shapes import as_number
from billing_admin.hot.asks import TrackBody
from catalog.terms import BOOLEAN
from customers.models import ALPHABET
from entitlements.access import Access
from entitlements.balances import Bucket

# Beyond it doubles leave whole numbers out.
MOST_EXACT = 2**53
# Every sign of the alphabet equally often: bytes from here on are thrown away.
_FAIR = 256 - 256 % len(ALPHABET)
_SIGNS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) if byte < _FAIR else 0 for byte in range(256))
_TOO_LARGE = bytes(range(_FAIR, 256))


def as_json(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)


def access_body(access: Access) -> dict[str, Any]:
    """As `AccessOut` without plans to upgrade to, which only a denied answer has."""
    value = access.value
    bonus = access.bonus
    return {
        "featureSlug": access.feature,
        "type": access.type,
        "hasAccess": access.has_access,
        "allowed": access.allowed,
        "reason": access.reason,
        "source": access.source,
        "value": number(value) if isinstance(value, Decimal) else (value or False) if access.type == BOOLEAN else value,
        "required": number(access.required),
        "unlimited": access.unlimited,
        "limit": number(access.limit),
        "used": number(access.used),
        "remaining": number(access.remaining),
        "overage": number(access.overage),
        "bonusGranted": number(bonus.granted) if bonus else 0,
        "bonusUsed": number(bonus.used) if bonus else 0,
        "bonusRemaining": number(bonus.remaining) if bonus else 0,
        "hasReachedLimit": access.has_reached_limit,
        "nextResetAt": instant(access.next_reset_at),
        "conflicts": access.conflicts,
        "sources": [{"name": s.name, "gives": s.gives, "isDefault": s.is_default} for s in access.sources],
        "buckets": [bucket_body(bucket) for bucket in access.buckets],
        "upgradeTo": [],
    }


def bucket_body(bucket: Bucket) -> dict[str, Any]:
    """As `BucketOut`."""
    return {
        "id": bucket.id,
        "kind": bucket.kind.value,
        "label": bucket.label or None,
        "startsAt": instant(bucket.starts_at),
        "endsAt": instant(bucket.ends_at),
        "unlimited": bucket.unlimited,
        "granted": number(bucket.granted),
        "adjusted": number(bucket.adjusted),
        "used": number(bucket.used),
        "remaining": number(bucket.remaining),
        "overage": number(bucket.overage),
    }


def event_body(
    event_id: str, feature: str, amount: Decimal, taken: Decimal, at: datetime, body: TrackBody
) -> dict[str, Any]:
    """As `EventOut`."""
    return {
        "id": event_id,
        "featureSlug": feature,
        "value": number(amount),
        "counted": number(taken),
        "at": instant(at),
        "eventKey": body.key,
        "mode": body.mode.value,
        "properties": body.properties,
    }


def number(value: Decimal | None) -> int | float | str | None:
    """As `as_number`; whole numbers that a double holds are most of them."""
    if value is None:
        return None
    whole = int(value)
    return whole if whole == value and -MOST_EXACT < whole < MOST_EXACT else as_number(value)


def instant(value: datetime | None) -> str | None:
    """As Django writes an instant in UTC: to the millisecond, and only where there are any."""
    if value is None:
        return None
    text = value.isoformat()
    return f"{text[:23]}Z" if value.microsecond else f"{text[:19]}Z"


def new_event_id() -> str:
    """As `customers.models.public_id` makes them, in one draw."""
    found = b""
    while len(found) < 16:
        found += secrets.token_bytes(24).translate(_SIGNS, _TOO_LARGE)
    return f"evt_{found[:16].decode()}"
