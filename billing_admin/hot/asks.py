"""What is asked, read from a request: only the plain case. Whatever else a caller sends is left to Django.

These readers refuse nothing: None means that the request is not of the plain kind, for whatever reason, and the
ordinary endpoint says what is wrong with it, if anything is.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from billing_admin.api.parser import exact
from billing_admin.hot.features import KnownFeature
from billing_admin.hot.holdings import Holding
from entitlements.balances import Mode
from entitlements.events import digest_of_key

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@|\-]{0,119}")
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,59}")
CUSTOMER, FEATURE = ("customerId", "customer_id"), ("featureSlug", "feature_slug")
KEY = ("eventKey", "event_key", "idempotencyKey", "idempotency_key")
CHECK_FIELDS = frozenset({*CUSTOMER, *FEATURE, "required"})
TRACK_FIELDS = frozenset({*CUSTOMER, *FEATURE, *KEY, "value", "mode", "properties"})
BATCH_FIELDS = frozenset({"events"})
MOST_EVENTS = 1_000
LONGEST_HEADER = 240
MODES = {"reject": Mode.REJECT, "cap": Mode.CAP, "overflow": Mode.OVERFLOW}
ONE = Decimal(1)
LARGEST = Decimal(10) ** 18
SMALLEST = -6  # the exponent of the last decimal that is kept
MOST_PROPERTIES = 50
# Properties that are written as they came; numbers with a fraction, lists and objects are for Django to judge.
PLAIN = (str, int, bool, type(None))


@dataclass(frozen=True, slots=True)
class CheckBody:
    customer: str
    feature: str
    required: Decimal = ONE


@dataclass(frozen=True, slots=True)
class TrackBody:
    customer: str
    feature: str
    amount: Decimal = ONE
    key: str | None = None
    mode: Mode = Mode.REJECT
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class CheckAsk:
    """A check on its way to the database; `answer` is what came of it."""

    key_id: int
    holding: Holding
    feature: KnownFeature
    required: Decimal
    now: datetime
    answer: "asyncio.Future[Any]"


@dataclass(slots=True, eq=False)
class TrackAsk:
    """An event on its way to the database; `digest` stands for its key."""

    key_id: int
    holding: Holding
    feature: KnownFeature
    body: TrackBody
    now: datetime
    answer: "asyncio.Future[Any]"
    digest: UUID | None = None

    def __post_init__(self) -> None:
        if self.body.key is not None:
            self.digest = digest_of_key(self.body.key)


@dataclass(slots=True, eq=False)
class BatchAsk:
    """Events that came in one call, to be kept together or left to Django together."""

    key_id: int
    events: list[TrackAsk]
    answer: "asyncio.Future[Any]"


def read_check(body: bytes) -> CheckBody | None:
    found = _object(body, CHECK_FIELDS)
    return None if found is None else _check(found)


def read_check_address(query: bytes) -> CheckBody | None:
    """The same from the query of an address, in which each name stands once."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
        found: dict[str, Any] = dict(pairs)
        if "required" in found:
            found["required"] = exact(found["required"])
    except ValueError:
        return None
    return _check(found) if len(found) == len(pairs) and found.keys() <= CHECK_FIELDS else None


def _check(found: dict[str, Any]) -> CheckBody | None:
    customer, feature = _named(found)
    required = units(found.get("required", 1))
    if customer is None or feature is None or required is None or required < 0:
        return None
    return CheckBody(customer, feature, required)


def read_track(body: bytes, header_key: str | None = None) -> TrackBody | None:
    found = _object(body, TRACK_FIELDS)
    return None if found is None else track_body(found, header_key)


def track_body(found: dict[str, Any], header_key: str | None = None) -> TrackBody | None:
    """One event, of a request or of a batch."""
    customer, feature = _named(found)
    amount = units(found.get("value", 1))
    mode = found.get("mode", "reject")
    properties = found.get("properties", {})
    keys = [found[name] for name in KEY if name in found]
    if len(keys) > 1:
        return None
    key = (keys[0] if keys else None) or header_key or None
    if customer is None or feature is None or amount is None or not isinstance(mode, str) or mode not in MODES:
        return None
    if key is not None and not (isinstance(key, str) and len(key) <= 255 and key.isprintable()):
        return None
    if keys and keys[0] == "":
        return None
    if not isinstance(properties, dict) or len(properties) > MOST_PROPERTIES:
        return None
    if not all(type(own) in PLAIN for own in properties.values()):
        return None
    return TrackBody(customer, feature, amount, key, MODES[mode], properties)


def read_batch(body: bytes, header_key: str | None = None) -> list[TrackBody] | None:
    """The events of a batch, which have keys by their place where the header bears one."""
    found = _object(body, BATCH_FIELDS)
    events = None if found is None else found.get("events")
    if not isinstance(events, list) or not 0 < len(events) <= MOST_EVENTS:
        return None
    if header_key and not (len(header_key) <= LONGEST_HEADER and header_key.isprintable()):
        return None
    read = []
    for place, event in enumerate(events):
        if not (isinstance(event, dict) and event.keys() <= TRACK_FIELDS):
            return None
        one = track_body(event, f"{header_key}:{place}" if header_key else None)
        if one is None:
            return None
        read.append(one)
    return read


def units(value: Any) -> Decimal | None:
    """A number of units: at most 18 digits before and six after the point."""
    if type(value) is int:
        amount = Decimal(value)
    elif type(value) is Decimal:
        amount = value
    else:
        return None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < SMALLEST or abs(amount) >= LARGEST:
        return None
    return amount


def _named(found: dict[str, Any]) -> tuple[str | None, str | None]:
    customers = [found[name] for name in CUSTOMER if name in found]
    features = [found[name] for name in FEATURE if name in found]
    if len(customers) != 1 or len(features) != 1:
        return None, None
    [customer], [feature] = customers, features
    if not (isinstance(customer, str) and NAME.fullmatch(customer)):
        return None, None
    return (customer, feature) if isinstance(feature, str) and SLUG.fullmatch(feature) else (None, None)


def _object(body: bytes, fields: frozenset[str]) -> dict[str, Any] | None:
    found = read_json(body)
    return found if isinstance(found, dict) and found.keys() <= fields else None


def read_json(body: bytes) -> Any:
    """JSON with exact numbers; None for what is not JSON, or that no database could keep."""
    if b"\\u0000" in body:
        return None
    try:
        found = orjson.loads(body)
        # A double has fewer digits than a caller may write; only the slower reader takes them one by one.
        return json.loads(body, parse_float=exact) if _has_fraction(found) else found
    except (ValueError, RecursionError):
        return None


def _has_fraction(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    events = found.get("events")
    if isinstance(events, list):
        return any(isinstance(event, dict) and type(event.get("value")) is float for event in events)
    return type(found.get("value")) is float or type(found.get("required")) is float
