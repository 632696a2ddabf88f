"""The collection of a subscription: pause it for a while, resume it."""

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_subscription
from billing_admin.api.operations import OperationOut
from billing_admin.api.shapes import Answer, Body, Id, Instant, Reason
from billing_admin.api.subscriptions import SubscriptionOut
from billing_admin.flows import collection as verbs
from customers.models import Operation

router = Router(tags=["Subscriptions"])
PAUSE = "customers.pause_collection"


class PauseIn(Body):
    behavior: str = Field(
        description="What becomes due meanwhile: `keep_as_draft`, `void` or `mark_uncollectible`.",
        examples=["keep_as_draft"],
    )
    resumes_at: Instant | None = Field(None, description="Empty: until somebody resumes it.")
    reason: Reason = ""


class ResumeIn(Body):
    reason: Reason = ""


class CollectionOut(Answer):
    operation: OperationOut
    subscription: SubscriptionOut


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/collection/pause",
    needs=PAUSE,
    gives=CollectionOut,
    also=ASKED,
    refuses=[404, 409],
    example={"behavior": "keep_as_draft", "resumesAt": "2026-06-01T00:00:00Z", "reason": "dispute about May"},
)
def pause_collection(request: ApiRequest, subscription_id: Id, body: PauseIn) -> CollectionOut:
    """Pause the collection. The plan runs on; nobody is reminded meanwhile."""
    operation = verbs.pause(
        find_subscription(subscription_id),
        behavior=body.behavior,
        resumes_at=body.resumes_at,
        reason=body.reason,
        actor=request.auth.actor,
        now=request.now,
    )
    return _out(operation, subscription_id, request)


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/collection/resume",
    needs=PAUSE,
    gives=CollectionOut,
    refuses=[404, 409],
    example={"reason": "settled"},
)
def resume_collection(request: ApiRequest, subscription_id: Id, body: ResumeIn | None = None) -> CollectionOut:
    """Resume the collection now; the days of reminders count from here."""
    operation = verbs.resume(
        find_subscription(subscription_id),
        reason=body.reason if body else "",
        actor=request.auth.actor,
        now=request.now,
    )
    return _out(operation, subscription_id, request)


def _out(operation: Operation, subscription_id: str, request: ApiRequest) -> CollectionOut:
    return CollectionOut(
        operation=OperationOut.of(operation),
        subscription=SubscriptionOut.of(find_subscription(subscription_id), request.now),
    )
