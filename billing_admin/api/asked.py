"""The answer to an act that a rule wants a second person for: asked, and not done."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, Self

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from pydantic import Field

from billing_admin.api.shapes import Answer
from billing_admin.flows.approvals import ApprovalNeeded, ask, asked_of
from billing_admin.models import ApprovalRequest

Name = Literal["waiting", "applied", "refused", "withdrawn", "expired", "outdated"]


class ApprovalBrief(Answer):
    id: str = Field(examples=["apr_4tZ0mW2kPq7LxV3s"])
    state: Name
    why: str = Field(examples=["A coupon with a discount above 20 % needs approval by Finance."])
    approver: str = Field(
        description="The role that can approve it; of several, somebody who has all.", examples=["Finance"]
    )
    expires_at: datetime
    url: str = Field(description="Where people of that role decide it.")

    @classmethod
    def of(cls, asked: ApprovalRequest, now: datetime) -> Self:
        """Reads `approver`, which should be joined."""
        return cls(**brief(asked, now))


class AskedOut(Answer):
    """Nothing was done: somebody else has to approve it. `GET /approvals/{id}` says what came of it."""

    approval: ApprovalBrief


# For endpoints: `also=ASKED`.
ASKED: dict[int, Any] = {HTTPStatus.ACCEPTED: AskedOut}


def brief(asked: ApprovalRequest, now: datetime) -> dict[str, Any]:
    return {
        "id": asked.public_id,
        "state": state_of(asked, now),
        "why": asked.why,
        "approver": asked_of(asked),
        "expires_at": asked.expires_at,
        "url": settings.PUBLIC_URL + reverse("admin:approval", args=[asked.public_id]),
    }


def state_of(asked: ApprovalRequest, now: datetime) -> str:
    """Also before the clockwork has said so."""
    is_over = asked.state == ApprovalRequest.State.WAITING and asked.expires_at <= now
    return ApprovalRequest.State.EXPIRED if is_over else asked.state


def answer_asked(request: HttpRequest, needed: ApprovalNeeded) -> HttpResponse:
    """Ask at once: the verb's own writes are rolled back by now. Raises what the act's preview refuses with."""
    caller, now = request.auth, request.now  # type: ignore[attr-defined]  # every endpoint has both
    asked = ask(needed, reason=needed.reason or _reason(request), actor=caller.actor, key=caller.key, now=now)
    body = AskedOut(approval=ApprovalBrief.of(asked, now)).model_dump(mode="json", by_alias=True)
    return JsonResponse(body, status=HTTPStatus.ACCEPTED)


def _reason(request: HttpRequest) -> str:
    """What the caller gave as the reason, for verbs that take one where they need it only."""
    try:
        found = json.loads(request.body).get("reason")
    except (ValueError, AttributeError):
        return ""
    return found[:2000] if isinstance(found, str) else ""
