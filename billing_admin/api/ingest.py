"""Events of an application, counted by the meters that read them; and events that are taken back."""

from typing import Annotated, Any, Literal, Self

from django.core.exceptions import PermissionDenied, ValidationError
from ninja import Router
from pydantic import AliasChoices, Discriminator, Field, RootModel, Tag
from pydantic import ValidationError as BadShape

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.errors import problem_of, refusal_of
from billing_admin.api.events import EventRowOut
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Instant, Problem, Properties, Quantity, Reason, Units
from billing_admin.api.track_batch import told
from billing_admin.api.usage import AccessOut, found_or_created
from billing_admin.flows.use import report_use
from billing_admin.flows.void_use import void_use
from entitlements.balances import Mode
from entitlements.metered import Reported
from entitlements.models import UsageEvent
from entitlements.track import Tracked

router = Router(tags=["Meters"])

TRACK = "entitlements.add_usageevent"
VOID = "entitlements.void_usageevent"
MOST = 1_000


class ReportIn(Body):
    customer_id: Id
    event_name: Annotated[str, Field(min_length=1, max_length=120)]
    properties: Properties = Field(default_factory=dict, max_length=50)
    value: Units | None = Field(None, description="What meters without a property read; negative gives back.")
    event_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        None,
        validation_alias=AliasChoices("eventKey", "event_key", "idempotencyKey", "idempotency_key"),
        description="Counted once per customer and key, for good.",
    )
    mode: Literal["reject", "cap", "overflow"] = Field(
        "reject", description="What to do with use that does not fit: refuse all, take what fits, or count everything."
    )
    at: Instant | None = Field(None, description="When it happened, if that is not now.")
    auto_create: bool = Field(default=False, description="Create an unknown customer first.")


class ReportsIn(Body):
    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST)] = Field(
        description="Up to 1,000 events, each as if it were sent alone."
    )


def _kind(body: Any) -> str:
    return MANY if isinstance(body, dict) and "events" in body else ONE


# In brackets, since they are no names that a caller wrote.
ONE, MANY = "one[event]", "many[events]"


OneOrMany = Annotated[Annotated[ReportIn, Tag(ONE)] | Annotated[ReportsIn, Tag(MANY)], Discriminator(_kind)]


class AnyReport(RootModel[OneOrMany]):
    """One event, or `{"events": […]}`."""


class CountedOnOut(Answer):
    """What an event did to one feature."""

    feature_slug: str
    value: Quantity = Field(description="Units that it asked for, by the meter.")
    counted: Quantity
    access: AccessOut

    @classmethod
    def of(cls, tracked: Tracked) -> Self:
        access = AccessOut.of(tracked.access)
        event = tracked.event
        return cls(feature_slug=access.feature_slug, value=event.amount, counted=event.taken, access=access)


class ReportOut(Answer):
    applied: bool = Field(description="False: the key was known, or the filters of all meters leave the event out.")
    id: str | None = Field(description="Of the event, which every feature shares.")
    features: list[CountedOnOut]

    @classmethod
    def of(cls, found: Reported) -> Self:
        return cls(
            applied=found.applied,
            id=found.tracked[0].event.public_id if found.tracked else None,
            features=[CountedOnOut.of(tracked) for tracked in found.tracked],
        )


class ResultOut(Answer):
    """What became of one event of several."""

    applied: bool
    id: str | None = None
    features: list[CountedOnOut] = Field(default_factory=list)
    error: Problem | None = None


class ResultsOut(Answer):
    data: list[ResultOut] = Field(description="In the order of the request.")


class VoidIn(Body):
    reason: Reason


class VoidedEventOut(Answer):
    data: list[EventRowOut] = Field(description="The event, as each feature had counted it.")
    operation_id: str
    reason: str


@endpoint(
    router,
    "POST",
    "/events",
    needs=TRACK,
    gives=ReportOut | ResultsOut,
    refuses=[404, 409],
    example={
        "customerId": "acme",
        "eventName": "completion",
        "properties": {"tokens": 1200, "model": "large"},
        "eventKey": "job-4711",
    },
)
def report_events(request: ApiRequest, body: AnyReport) -> ReportOut | ResultsOut:
    """Report an event, or up to 1,000 as `{"events": […]}`.

    Every feature whose meter reads the event's name, and whose filters match, counts it: all of them or none. Features
    that the customer does not have are left out. Of several events each is counted by itself: the answers come in the
    order of the request, and one that is refused stops no other. A value that a meter cannot read is refused with the
    name of its field.
    """
    sent = body.root
    if isinstance(sent, ReportsIn):
        return ResultsOut(data=_results(request, sent.events))
    return ReportOut.of(_reported(request, sent))


def _reported(request: ApiRequest, body: ReportIn) -> Reported:
    customer = found_or_created(request, body.customer_id, create=body.auto_create)
    return report_use(
        customer,
        name=body.event_name,
        properties=body.properties,
        value=body.value,
        at=body.at,
        now=request.now,
        key=body.event_key,
        mode=Mode(body.mode),
    )


def _results(request: ApiRequest, events: list[dict[str, Any]]) -> list[ResultOut]:
    """What became of each. Where something breaks in between, whoever sent them has to know which were counted."""
    results: list[ResultOut] = []
    for event in events:
        try:
            results.append(_result(request, event))
        except Exception as failed:
            if not any(result.applied for result in results):
                raise  # nothing was counted, so all of it can be sent again
            broken = told(failed)
            results.append(ResultOut(applied=False, error=Problem(code=broken.code, message=broken.message)))
    return results


def _result(request: ApiRequest, event: dict[str, Any]) -> ResultOut:
    """One event of several; what is refused says so in its place."""
    try:
        found = ReportOut.of(_reported(request, ReportIn.model_validate(event)))
    except BadShape as wrong:
        return ResultOut(applied=False, error=Problem(**problem_of(_located(wrong.errors()[0]))))
    except ValidationError as refused:
        _, said = refusal_of(refused)
        return ResultOut(
            applied=False, error=Problem(code=said["code"], message=said["message"], field=said.get("field"))
        )
    except PermissionDenied as refused:
        return ResultOut(applied=False, error=Problem(code="forbidden", message=str(refused)))
    return ResultOut(applied=found.applied, id=found.id, features=found.features)


def _located(found: Any) -> dict[str, Any]:
    return {**found, "loc": ("body", "event", *found["loc"])}


@endpoint(
    router,
    "POST",
    "/events/{event_id}/void",
    needs=VOID,
    gives=VoidedEventOut,
    refuses=[404, 409],
    example={"reason": "Reported twice by a retry"},
)
def void_reported_event(request: ApiRequest, event_id: Id, body: VoidIn) -> VoidedEventOut:
    """Void an event: give back what it took.

    Its balances get back what they gave, meters count their windows anew, and what was paid for it at once comes back.
    Use that has been billed stays (409 `window_billed`); voiding again changes nothing.
    """
    event = UsageEvent.objects.filter(public_id=event_id).select_related("customer").order_by("id").first()
    if event is None or event.customer.closed_at is not None:
        raise NotFound("event", event_id)
    voided = void_use(event, reason=body.reason, actor=request.auth.actor, now=request.now)
    return VoidedEventOut(
        data=[EventRowOut.of(row) for row in voided.events],
        operation_id=voided.operation.public_id,
        reason=voided.operation.reason,
    )
