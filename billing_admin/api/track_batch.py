"""Much use in one call, and what became of use that nobody waited for."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

import structlog
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError
from ninja import Router
from ninja.responses import Status
from pydantic import Field, SkipValidation
from pydantic import ValidationError as Malformed

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.errors import problem_of, refusal_of
from billing_admin.api.refusals import BadValue, NotFound
from billing_admin.api.shapes import Answer, Body, Error, Id, Problem, Quantity
from billing_admin.api.usage import TRACK, EventOut, TrackIn, chosen_key, count, found_or_created
from billing_admin.flows.accepted import Use, accept, refuse_uncountable
from customers.models import Customer
from entitlements.models import AcceptedEvent

log = structlog.get_logger("billing_admin.api")

router = Router(tags=["Access and use"])

MOST = 1_000
EXAMPLE = {
    "events": [
        {"customerId": "acme", "featureSlug": "credits", "value": 3, "eventKey": "job-4711"},
        {"customerId": "globex", "featureSlug": "credits", "value": 1, "eventKey": "job-4712"},
    ]
}


class TrackBatchIn(Body):
    # Each event is judged by itself, so that a bad one does not stop the good ones.
    events: Annotated[list[SkipValidation[TrackIn]], Field(min_length=1, max_length=MOST)]
    in_background: bool = Field(
        default=False, alias="async", description="Do not wait: the answer is 202, and the events are counted soon."
    )


class TrackedItemOut(Answer):
    """What became of one event: counted (`applied`), counted before (`event` is the first one), or `error`."""

    applied: bool
    event: EventOut | None = None
    error: Error | None = None
    remaining: Quantity | None = Field(default=None, description="Null without a limit, too.")
    has_reached_limit: bool | None = None
    accepted_id: str | None = Field(default=None, description="With `async`: where to ask what became of it.")


class TrackBatchOut(Answer):
    data: list[TrackedItemOut] = Field(description="In the order of the request.")


class AcceptedEventOut(Answer):
    """`waiting`, `counted`, `repeated` (its key had been counted before) or `refused` with the `error`."""

    id: str
    state: Literal["waiting", "counted", "repeated", "refused"]
    customer_id: str
    feature_slug: str
    event_key: str | None
    accepted_at: datetime
    settled_at: datetime | None
    event_id: str | None = Field(description="`GET /events/{id}` tells it.")
    error: Problem | None

    @classmethod
    def of(cls, row: AcceptedEvent) -> Self:
        state: Literal["waiting", "counted", "repeated", "refused"] = "waiting"
        if row.settled_at is not None:
            state = "refused" if row.error else "counted" if row.applied else "repeated"
        return cls(
            id=row.public_id,
            state=state,
            customer_id=row.customer.customer_id,
            feature_slug=row.asked["feature"],
            event_key=row.asked["key"],
            accepted_at=row.accepted_at,
            settled_at=row.settled_at,
            event_id=row.event_id or None,
            error=Problem(**row.error) if row.error else None,
        )


@endpoint(
    router,
    "POST",
    "/track/batch",
    needs=TRACK,
    gives=TrackBatchOut,
    also={HTTPStatus.ACCEPTED: TrackBatchOut},
    example=EXAMPLE,
)
def track_batch(request: ApiRequest, body: TrackBatchIn) -> TrackBatchOut | Status[TrackBatchOut]:
    """Count up to 1,000 events, each by itself.

    One that is refused has its `error` and stops no other. Events have keys of their own; of those without one the
    header `Idempotency-Key` makes keys by their place, so that the same call counts nothing twice.
    """
    batch = _Batch(request)
    if not body.in_background:
        items = [batch.counted(raw, place) for place, raw in enumerate(body.events)]
        if batch.away is not None and len(items) == batch.unanswered:
            raise batch.away
        return TrackBatchOut(data=items)
    return Status(HTTPStatus.ACCEPTED, TrackBatchOut(data=batch.accepted(list(body.events))))


@endpoint(router, "GET", "/events/accepted/{accepted_id}", needs=TRACK, gives=AcceptedEventOut, refuses=[404])
def read_accepted_event(request: ApiRequest, accepted_id: Id) -> AcceptedEventOut:
    """What became of use that was accepted; remembered for 30 days after it was counted or refused."""
    rows = AcceptedEvent.objects.filter(public_id=accepted_id, customer__closed_at=None)
    row = rows.select_related("customer").first()
    if row is None:
        raise NotFound("accepted_event", accepted_id)
    return AcceptedEventOut.of(row)


class _Batch:
    """The events of one call. Customers are looked up once, however many events are theirs."""

    def __init__(self, request: ApiRequest):
        self.request = request
        self.header = request.headers.get("Idempotency-Key")
        if self.header and (len(self.header) > 240 or not self.header.isprintable()):
            raise BadValue("Idempotency-Key", "Of a batch it has at most 240 printable characters.")
        self.customers: dict[str, Customer] = {}
        self.away: OperationalError | None = None
        self.unanswered = 0

    def counted(self, raw: Any, place: int) -> TrackedItemOut:
        try:
            customer, use = self._read(raw, place)
            tracked = count(customer, use, now=self.request.now)
        except OperationalError as away:
            self.away, self.unanswered = away, self.unanswered + 1
            return TrackedItemOut(applied=False, error=told(away))
        except Exception as error:
            return TrackedItemOut(applied=False, error=told(error))
        return TrackedItemOut(
            applied=tracked.applied,
            event=EventOut.of(tracked.event, use.feature),
            remaining=tracked.access.remaining,
            has_reached_limit=tracked.access.has_reached_limit,
        )

    def accepted(self, events: list[Any]) -> list[TrackedItemOut]:
        """Keep those that may be counted; one statement for all of them."""
        items: list[TrackedItemOut | None] = []
        uses: list[tuple[Customer, Use]] = []
        for place, raw in enumerate(events):
            try:
                customer, use = self._read(raw, place)
                refuse_uncountable(use)
            except OperationalError:
                raise  # nothing was kept
            except Exception as error:
                items.append(TrackedItemOut(applied=False, error=told(error)))
            else:
                uses.append((customer, use))
                items.append(None)
        rows = iter(accept(uses, now=self.request.now))
        return [item or TrackedItemOut(applied=False, accepted_id=next(rows).public_id) for item in items]

    def _read(self, raw: Any, place: int) -> tuple[Customer, Use]:
        body = TrackIn.model_validate(raw)
        by_place = f"{self.header}:{place}" if self.header else None
        use = body.use(chosen_key(body.event_key, by_place))
        if body.customer_id not in self.customers:
            found = found_or_created(self.request, body.customer_id, create=body.auto_create)
            self.customers[body.customer_id] = found
        return self.customers[body.customer_id], use


def told(error: Exception) -> Error:
    """A refusal of one event, in the shape in which the whole call would have been refused."""
    match error:
        case Malformed():
            problems = [problem_of({**found, "loc": ("event", *found["loc"])}) for found in error.errors()]
            more = [Problem(**problem) for problem in problems] if len(problems) > 1 else None
            return Error(**problems[0], errors=more)
        case ValidationError():
            return Error(**refusal_of(error)[1])
        case PermissionDenied():
            return Error(code="forbidden", message=str(error))
        case OperationalError():
            log.error("database unavailable", cause=str(error))
            return Error(code="unavailable", message="The database did not answer. Try again.")
        case _:
            log.exception("an event of a batch failed", exc_info=error)
            return Error(code="internal_error", message="Something went wrong on our side.")
