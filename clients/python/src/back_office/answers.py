"""What the other calls answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

from back_office.access import Access, Bucket
from back_office.errors import BackOfficeError, Problem
from back_office.fields import Json, Units, instant_in, maybe_instant, maybe_units, units_in, value_in

Row = TypeVar("Row")
Mode: TypeAlias = Literal["reject", "cap", "overflow"]
GrantSource: TypeAlias = Literal["bonus", "purchase"]
OverrideState: TypeAlias = Literal["scheduled", "in_force", "expired", "superseded", "revoked"]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """A part of a list; pass `next_cursor` as `cursor` to get what follows, None is the end."""

    data: tuple[Row, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Event:
    """One act of use as a feature counted it: what was asked for (`value`) and what was counted.

    `name` is the event's, where a meter read it. The answer to a track does not repeat `name` and `recorded_at`.
    """

    id: str
    feature: str
    value: Decimal
    counted: Decimal
    at: datetime
    key: str | None
    mode: str
    properties: Mapping[str, Any]
    name: str = ""
    recorded_at: datetime | None = None
    voided_at: datetime | None = None

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            id=found["id"],
            feature=found["featureSlug"],
            value=units_in(found["value"]),
            counted=units_in(found["counted"]),
            at=instant_in(found["at"]),
            key=found.get("eventKey"),
            mode=found.get("mode", ""),
            properties=found.get("properties") or {},
            name=found.get("name", ""),
            recorded_at=maybe_instant(found.get("recordedAt")),
            voided_at=maybe_instant(found.get("voidedAt")),
        )


@dataclass(frozen=True)
class Used:
    """What an event took from one balance."""

    balance_id: int
    units: Decimal
    kind: str
    label: str
    starts_at: datetime
    ends_at: datetime | None

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            balance_id=found["balanceId"],
            units=units_in(found["units"]),
            kind=found["kind"],
            label=found["label"],
            starts_at=instant_in(found["startsAt"]),
            ends_at=maybe_instant(found.get("endsAt")),
        )


@dataclass(frozen=True)
class Counted:
    """What one feature counted of an event, and from which balances, in the order in which they were used."""

    feature: str
    value: Decimal
    counted: Decimal
    buckets: tuple[Used, ...]

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            feature=found["featureSlug"],
            value=units_in(found["value"]),
            counted=units_in(found["counted"]),
            buckets=tuple(Used.of(used) for used in found.get("buckets") or ()),
        )


@dataclass(frozen=True)
class EventDetail:
    """One event with every feature that counts it."""

    id: str
    customer: str
    name: str
    at: datetime
    recorded_at: datetime
    key: str | None
    mode: str
    properties: Mapping[str, Any]
    voided_at: datetime | None
    void_reason: str | None
    features: tuple[Counted, ...]

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            id=found["id"],
            customer=found["customerId"],
            name=found.get("name", ""),
            at=instant_in(found["at"]),
            recorded_at=instant_in(found["recordedAt"]),
            key=found.get("eventKey"),
            mode=found.get("mode", ""),
            properties=found.get("properties") or {},
            voided_at=maybe_instant(found.get("voidedAt")),
            void_reason=found.get("voidReason"),
            features=tuple(Counted.of(counted) for counted in found["features"]),
        )


@dataclass(frozen=True)
class Tracked:
    """`applied` is False when the event had been counted before: `event` is the first one, `access` the present state.

    Under a key that the client made for this call, only the call itself can have been first, so `applied` is True then.
    """

    applied: bool
    event: Event
    access: Access


@dataclass(frozen=True)
class Use:
    """One event of a batch. Without a key it gets one, and the batch may be repeated without counting it twice."""

    customer: str
    feature: str
    value: Units = 1
    key: str | None = None
    mode: Mode = "reject"
    at: datetime | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchItem:
    """What became of one event of a batch: counted, counted before, or not, with an `error`.

    `remaining` is None without a limit, and where nothing is known of the customer and feature. An event that was only
    accepted has an `accepted_id` to ask with. An `Unavailable` has the `key` to send it again with.
    """

    applied: bool
    event: Event | None = None
    error: BackOfficeError | None = None
    remaining: Decimal | None = None
    has_reached_limit: bool | None = None
    accepted_id: str | None = None


@dataclass(frozen=True)
class Accepted:
    """Use that the service keeps and counts soon: `waiting`, `counted`, `repeated` (counted before) or `refused`."""

    id: str
    state: Literal["waiting", "counted", "repeated", "refused"]
    customer: str
    feature: str
    key: str | None
    accepted_at: datetime
    settled_at: datetime | None
    event_id: str | None
    problem: Problem | None

    @classmethod
    def of(cls, found: Json) -> Self:
        error = found.get("error")
        return cls(
            id=found["id"],
            state=found["state"],
            customer=found["customerId"],
            feature=found["featureSlug"],
            key=found.get("eventKey"),
            accepted_at=instant_in(found["acceptedAt"]),
            settled_at=maybe_instant(found.get("settledAt")),
            event_id=found.get("eventId"),
            problem=Problem(error["code"], error["message"], error.get("field")) if error else None,
        )


@dataclass(frozen=True)
class CountedAccess:
    """What a reported event did to one feature: units by its meter, and how things stand."""

    feature: str
    value: Decimal
    counted: Decimal
    access: Access

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            feature=found["featureSlug"],
            value=units_in(found["value"]),
            counted=units_in(found["counted"]),
            access=Access.of(found["access"]),
        )


@dataclass(frozen=True)
class Reported:
    """What the meters made of an event: the features that count it, under one `id`; none, when no filter matches."""

    applied: bool
    id: str | None
    features: tuple[CountedAccess, ...]


@dataclass(frozen=True)
class UsagePoint:
    """What was counted in the hour, day or month that begins at `at`.

    `value` is the property's value where the usage was split by one; None stands for all less frequent ones.
    """

    at: datetime
    units: Decimal
    events: int
    value: str | None

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            at=instant_in(found["at"]),
            units=units_in(found["units"]),
            events=found["events"],
            value=found.get("value"),
        )


@dataclass(frozen=True)
class Grant:
    """Units of a customer's own, beside every plan: a bonus or a purchase, once or, with `recurs`, in each window.

    `units` are those of each window, `used` of all windows so far, `remaining` what may be used of it now.
    """

    id: str
    customer: str
    feature: str
    source: GrantSource
    state: Literal["scheduled", "active", "ended", "voided"]
    units: Decimal
    used: Decimal
    remaining: Decimal
    label: str
    priority: int
    starts_at: datetime
    ends_at: datetime | None
    recurs: str | None
    window_ends_at: datetime | None
    reason: str
    metadata: Mapping[str, Any]
    key: str | None
    created_by: str
    voided_at: datetime | None
    void_reason: str | None

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            id=found["id"],
            customer=found["customerId"],
            feature=found["featureSlug"],
            source=found["source"],
            state=found["state"],
            units=units_in(found["units"]),
            used=units_in(found["used"]),
            remaining=units_in(found["remaining"]),
            label=found["label"],
            priority=found.get("priority", 0),
            starts_at=instant_in(found["startsAt"]),
            ends_at=maybe_instant(found.get("endsAt")),
            recurs=found.get("recurs"),
            window_ends_at=maybe_instant(found.get("windowEndsAt")),
            reason=found.get("reason", ""),
            metadata=found.get("metadata") or {},
            key=found.get("idempotencyKey"),
            created_by=found.get("createdBy", ""),
            voided_at=maybe_instant(found.get("voidedAt")),
            void_reason=found.get("voidReason"),
        )


@dataclass(frozen=True)
class Override:
    """Another value of a feature, for a customer or (`subscription`) one of their contracts, from–until.

    `value` is as the feature's type: True or False, units, a text, "unlimited" or "no_access". `effective_until` is
    what was agreed (None: permanent), `stops_at` when it really ends.
    """

    id: str
    customer: str
    feature: str
    subscription: str | None
    value: bool | Decimal | str
    state: OverrideState
    effective_from: datetime
    effective_until: datetime | None
    stops_at: datetime | None
    both_levels: bool
    reason: str
    batch: str | None
    created_by: str
    revoked_at: datetime | None
    revoke_reason: str | None
    superseded_by: str | None

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            id=found["id"],
            customer=found["customerId"],
            feature=found["featureSlug"],
            subscription=found.get("subscriptionId"),
            value=value_in(found["value"]),
            state=found["state"],
            effective_from=instant_in(found["effectiveFrom"]),
            effective_until=maybe_instant(found.get("effectiveUntil")),
            stops_at=maybe_instant(found.get("stopsAt")),
            both_levels=found.get("bothLevels", False),
            reason=found["reason"],
            batch=found.get("batchId"),
            created_by=found.get("createdBy", ""),
            revoked_at=maybe_instant(found.get("revokedAt")),
            revoke_reason=found.get("revokeReason"),
            superseded_by=found.get("supersededBy"),
        )


@dataclass(frozen=True)
class LedgerLine:
    """One line behind a balance: what it adds (use is negative) and what was left after it; None is "no limit"."""

    at: datetime
    kind: str
    title: str
    amount: Decimal | None
    after: Decimal | None
    who: str
    why: str

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            at=instant_in(found["at"]),
            kind=found["kind"],
            title=found["title"],
            amount=maybe_units(found.get("amount")),
            after=maybe_units(found.get("after")),
            who=found.get("who", ""),
            why=found.get("why", ""),
        )


@dataclass(frozen=True)
class Balance:
    """An open balance, and what the next window starts with. `ledger` is None unless it was asked for."""

    feature: str
    bucket: Bucket
    plan: str
    is_default: bool
    resets: str
    next_granted: Decimal | None
    ledger: tuple[LedgerLine, ...] | None

    @classmethod
    def of(cls, found: Json) -> Self:
        ledger = found.get("ledger")
        return cls(
            feature=found["featureSlug"],
            bucket=Bucket.of(found),
            plan=found.get("plan", ""),
            is_default=found.get("isDefault", False),
            resets=found.get("resets", ""),
            next_granted=maybe_units(found.get("nextGranted")),
            ledger=None if ledger is None else tuple(LedgerLine.of(line) for line in ledger),
        )
