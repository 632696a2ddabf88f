"""What was reported: the events of a customer, one event with the balances it used, and sums over time."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.core.exceptions import ValidationError
from ninja import Query, Router
from pydantic import AliasChoices, Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer
from billing_admin.api.parser import is_storable
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Page, Quantity, Reason, Slug, Units
from billing_admin.api.usage import TRACK, AccessOut, EventKey, EventOut, TrackedOut, chosen_key
from billing_admin.event_search import LONGEST, PROPERTY, Cursor, Search, newest, parse_property, series, within
from billing_admin.flows.set_usage import set_use
from catalog.models import Feature
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.models import Balance, UsageEvent

router = Router(tags=["Events"])

VIEW = "entitlements.view_usageevent"
RECENTLY = timedelta(days=30)
SECONDS = 5
MOST_POINTS = 1_000
SPAN = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=28)}


class EventRowOut(Answer):
    """An event as one feature counted it: what several features count is a row for each, with one id."""

    id: str = Field(examples=["evt_5Vb2mZ8TqVbNc1R4"])
    feature_slug: str
    name: str = Field(description="The event's name, where a meter read it.")
    value: Quantity = Field(description="What was asked for.")
    counted: Quantity = Field(description="What was counted.")
    at: datetime = Field(description="When it happened.")
    recorded_at: datetime = Field(description="When it was reported.")
    event_key: str | None
    mode: str
    properties: dict[str, Any]
    voided_at: datetime | None

    @classmethod
    def of(cls, event: UsageEvent) -> Self:
        return cls(
            id=event.public_id,
            feature_slug=event.feature.slug,
            name=event.name,
            value=event.amount,
            counted=event.taken,
            at=event.at,
            recorded_at=event.recorded_at,
            event_key=event.key,
            mode=event.mode,
            properties=event.properties,
            voided_at=event.voided_at,
        )


class EventsOut(Page):
    data: list[EventRowOut]


class UsedOut(Answer):
    """What an event took from one balance."""

    balance_id: int
    units: Quantity
    kind: str = Field(examples=["plan_item"])
    label: str = Field(examples=["Pro"])
    starts_at: datetime
    ends_at: datetime | None


class CountedOut(Answer):
    feature_slug: str
    value: Quantity
    counted: Quantity
    buckets: list[UsedOut] = Field(description="In the order in which they were used.")


class EventDetailOut(Answer):
    """One event, with every feature that counts it and every balance that gave units."""

    id: str
    customer_id: str
    name: str
    at: datetime
    recorded_at: datetime
    event_key: str | None
    mode: str
    properties: dict[str, Any]
    voided_at: datetime | None
    void_reason: str | None
    features: list[CountedOut]

    @classmethod
    def of(cls, rows: Sequence[UsageEvent], balances: dict[int, Balance]) -> Self:
        """`rows` are the rows of one event, at least one; `balances` those that they used."""
        first = rows[0]
        return cls(
            id=first.public_id,
            customer_id=first.customer.customer_id,
            name=first.name,
            at=first.at,
            recorded_at=first.recorded_at,
            event_key=first.key,
            mode=first.mode,
            properties=first.properties,
            voided_at=first.voided_at,
            void_reason=first.void_operation.reason if first.void_operation else None,
            features=[
                CountedOut(
                    feature_slug=row.feature.slug,
                    value=row.amount,
                    counted=row.taken,
                    buckets=[used_of(balances[pk], units) for pk, units in parts_of(row) if pk in balances],
                )
                for row in rows
            ],
        )


class PointOut(Answer):
    at: datetime = Field(description="Where the hour, day or month begins (UTC).")
    value: str | None = Field(description="With `by`: the property's value. Null stands for all less frequent ones.")
    units: Quantity
    events: int


class UsageOut(Answer):
    feature_slug: str
    per: str
    data: list[PointOut] = Field(description="Spans in which nothing was counted are left out.")


def parts_of(event: UsageEvent) -> list[tuple[int, Decimal]]:
    return list(zip(event.balance_ids, event.amounts, strict=True))


def used_of(balance: Balance, units: Decimal) -> UsedOut:
    """Reads the balance's item with its plan, which should be joined."""
    return UsedOut(
        balance_id=balance.pk,
        units=units,
        kind=balance.source,
        label=balance.label or (balance.item.version.plan.name if balance.item else ""),
        starts_at=balance.starts_at,
        ends_at=balance.ends_at,
    )


def balances_of(rows: Iterable[UsageEvent]) -> dict[int, Balance]:
    """The balances that events used, with what `used_of` reads; one query."""
    wanted = {pk for row in rows for pk in row.balance_ids}
    return Balance.objects.select_related("item__version__plan").in_bulk(wanted)


def rows_of(public_id: str) -> list[UsageEvent]:
    """The rows of one event, one for each feature that counts it."""
    rows = UsageEvent.objects.filter(public_id=public_id).order_by("id")
    return list(rows.select_related("customer", "feature", "void_operation"))


class EventQuery(Body):
    """What to look for. Without `from` and `to` it is the last thirty days."""

    search: str = Field("", max_length=255, description="An event's whole id or key, or the value of a property.")
    feature_slug: Slug | None = None
    name: str = Field("", max_length=120, description="The event's name.")
    property: str = Field("", max_length=400, description="`model=large`")
    voided: bool | None = Field(None, description="Only events that were voided, or only others.")
    from_: Instant | None = Field(None, alias="from")
    to: Instant | None = None
    cursor: str | None = Field(None, max_length=60)
    limit: int = Field(50, ge=1, le=200)


class UsageQuery(Body):
    feature_slug: Slug
    per: Literal["hour", "day", "month"] = "day"
    by: str = Field("", max_length=60, description="A property whose most frequent values are told apart.")
    property: str = Field("", max_length=400, description="`model=large`")
    from_: Instant | None = Field(None, alias="from")
    to: Instant | None = None


class UsageIn(Body):
    feature_slug: Slug
    value: Annotated[Units, Field(ge=0)] = Field(description="What the use of the open windows is to be.")
    event_key: EventKey = Field(
        default=None,
        validation_alias=AliasChoices("eventKey", "event_key", "idempotencyKey", "idempotency_key"),
        description="Counted once per customer and key, for good.",
    )
    mode: Literal["reject", "cap", "overflow"] = Field(
        default="overflow", description="What to do with use that does not fit: it is a fact, so it is counted."
    )
    reason: Reason = ""


@endpoint(router, "GET", "/customers/{customer_id}/events", needs=VIEW, gives=EventsOut, refuses=[404])
def list_events(request: ApiRequest, customer_id: Id, asked: Query[EventQuery]) -> EventsOut:
    """The events of a customer, as they were reported, newest first.

    `from` and `to` are about when things happened. `search` finds an event by its id or key whenever that was.
    """
    customer = find_customer(customer_id)
    _require_storable(asked.search, asked.name, asked.property)
    search = Search(
        *_range(asked.from_, asked.to, request.now),
        customer=customer,
        feature=_feature(asked.feature_slug),
        words=asked.search.strip(),
        name=asked.name,
        property=_property(asked.property),
        voided=asked.voided,
    )
    with within(SECONDS):
        found = search.exact() if search.words and asked.cursor is None else []
        if found:
            return EventsOut(data=[EventRowOut.of(row) for row in found], next_cursor=None)
        rows, more = newest(search, after=Cursor.read(asked.cursor) if asked.cursor else None, limit=asked.limit)
    return EventsOut(data=[EventRowOut.of(row) for row in rows], next_cursor=str(more) if more else None)


@endpoint(router, "GET", "/events/{event_id}", needs=VIEW, gives=EventDetailOut, refuses=[404])
def get_event(request: ApiRequest, event_id: Id) -> EventDetailOut:
    """One event, with the balances it used."""
    rows = [row for row in rows_of(event_id) if row.customer.closed_at is None]
    if not rows:
        raise NotFound("event", event_id)
    return EventDetailOut.of(rows, balances_of(rows))


@endpoint(router, "GET", "/customers/{customer_id}/usage", needs=VIEW, gives=UsageOut, refuses=[404])
def get_usage(request: ApiRequest, customer_id: Id, asked: Query[UsageQuery]) -> UsageOut:
    """What was counted of a feature per hour, day or month (UTC), if you like by the values of a property.

    What was voided is left out.
    """
    customer: Customer = find_customer(customer_id)
    _require_storable(asked.by, asked.property)
    since, until = _range(asked.from_, asked.to, request.now)
    if (until - since) / SPAN[asked.per] > MOST_POINTS:
        raise BadValue("per", f"That is more than {MOST_POINTS:,} points. Ask for longer spans, or for less time.")
    if asked.by and not PROPERTY.fullmatch(asked.by):
        raise BadValue("by", "This cannot be the name of a property.")
    feature = _feature(asked.feature_slug)
    search = Search(since, until, customer=customer, feature=feature, property=_property(asked.property))
    with within(SECONDS):
        points = series(search, per=asked.per, by=asked.by)
    return UsageOut(
        feature_slug=asked.feature_slug,
        per=asked.per,
        data=[PointOut(at=p.at, value=p.value if asked.by else None, units=p.units, events=p.events) for p in points],
    )


@endpoint(
    router,
    "POST",
    "/customers/{customer_id}/usage",
    needs=TRACK,
    gives=TrackedOut,
    refuses=[404, 409],
    example={"featureSlug": "credits", "value": 1200, "eventKey": "sync-2026-03-01"},
)
def set_usage(request: ApiRequest, customer_id: Id, body: UsageIn) -> TrackedOut:
    """Say what the use of the open windows is.

    An event of the difference to what is counted is stored; what is tracked at the same moment is neither lost nor
    counted twice. Of levels it is the level. The use of a feature whose meter keeps a maximum, distinct values, the
    latest or a level over time follows from its events, and cannot be set.
    """
    tracked = set_use(
        find_customer(customer_id),
        feature=body.feature_slug,
        value=body.value,
        now=request.now,
        key=chosen_key(body.event_key, request.headers.get("Idempotency-Key")),
        mode=Mode(body.mode),
        reason=body.reason,
    )
    return TrackedOut(
        applied=tracked.applied,
        event=EventOut.of(tracked.event, body.feature_slug),
        access=AccessOut.of(tracked.access),
    )


def _range(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    until = until or (now if since is None else min(now, since + LONGEST)) + timedelta(microseconds=1)
    since = since or until - RECENTLY
    if until <= since:
        raise BadValue("to", "The time ends before it begins.")
    if until - since > LONGEST + timedelta(days=1):
        raise BadValue("to", f"Ask for {LONGEST.days} days at most.")
    return since, until


def _feature(slug: str | None) -> Feature | None:
    if slug is None:
        return None
    found: Feature | None = Feature.objects.filter(slug=slug).first()
    if found is None:
        raise NotFound("feature", slug)
    return found


def _property(text: str) -> tuple[str, str] | None:
    try:
        return parse_property(text) if text else None
    except ValidationError as refused:
        raise BadValue("property", refused.messages[0], "bad_property") from refused


def _require_storable(*texts: str) -> None:
    if not all(is_storable(text) for text in texts):
        raise BadValue("search", "A text with characters that cannot be stored finds nothing.")
