"""Requests for approval: read them, withdraw one. Keys never approve: people do, in the desk."""

from datetime import datetime
from typing import Annotated, Self

from django.db.models import Q
from ninja import Query, Router
from pydantic import Field

from billing_admin.api.asked import ApprovalBrief, Name, brief
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, page_of
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Page, Reason
from billing_admin.flows import approvals as verbs
from billing_admin.models import ApprovalRequest, ApprovalRequestQuerySet

router = Router(tags=["Approvals"])

VIEW = "billing_admin.view_approvalrequest"
State = ApprovalRequest.State


class ApprovalEffectOut(Answer):
    label: str
    before: str
    after: str


class ApprovalOut(ApprovalBrief):
    act: str = Field(description="As in the history.", examples=["coupon.applied"])
    title: str
    customer_id: str | None
    reason: str
    requested_by: str
    requested_at: datetime
    effects: list[ApprovalEffectOut] = Field(description="What it would do, as it was shown when it was asked for.")
    warnings: list[str]
    decided_by: str | None
    decided_at: datetime | None
    answer: str | None = Field(description="Why it was refused or withdrawn, or what had moved.")
    operation_id: str | None = Field(description="The act that was carried out.")

    @classmethod
    def of(cls, asked: ApprovalRequest, now: datetime) -> Self:
        """Reads `approver`, `customer` and `operation`, which should be joined."""
        return cls(
            **brief(asked, now),
            act=asked.act,
            title=asked.title,
            customer_id=asked.customer.customer_id if asked.customer else None,
            reason=asked.reason,
            requested_by=asked.requested_by,
            requested_at=asked.requested_at,
            effects=[
                ApprovalEffectOut(label=e["label"], before=e["before"], after=e["after"])
                for e in asked.shown["effects"]
            ],
            warnings=asked.shown["warnings"],
            decided_by=asked.decided_by or None,
            decided_at=asked.decided_at,
            answer=asked.answer or None,
            operation_id=asked.operation.public_id if asked.operation else None,
        )


class ApprovalsOut(Page):
    data: list[ApprovalOut]


class WithdrawIn(Body):
    reason: Reason = ""


@endpoint(router, "GET", "/approvals", needs=VIEW, gives=ApprovalsOut, refuses=[404])
def list_approvals(
    request: ApiRequest,
    state: Annotated[Name | None, Query()] = None,
    customer_id: Annotated[Id | None, Query(alias="customerId")] = None,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ApprovalsOut:
    """What was asked for, newest first, by everybody."""
    rows = _rows()
    if state is not None:
        rows = _in_state(rows, state, request.now)
    if customer_id is not None:
        rows = rows.filter(customer=find_customer(customer_id, closed=True))
    found, after = page_of(rows, cursor, limit)
    return ApprovalsOut(data=[ApprovalOut.of(row, request.now) for row in found], next_cursor=after)


@endpoint(router, "GET", "/approvals/{approval_id}", needs=VIEW, gives=ApprovalOut, refuses=[404])
def read_approval(request: ApiRequest, approval_id: Id) -> ApprovalOut:
    """One request: whether it waits, and what came of it."""
    return ApprovalOut.of(_find(approval_id), request.now)


@endpoint(
    router,
    "POST",
    "/approvals/{approval_id}/withdraw",
    needs=VIEW,
    gives=ApprovalOut,
    refuses=[404, 409],
    example={"reason": "no longer needed"},
)
def withdraw_approval(request: ApiRequest, approval_id: Id, body: WithdrawIn | None = None) -> ApprovalOut:
    """Take back what this key asked for. Approving and refusing is for people, in the desk."""
    reason = body.reason if body else ""
    verbs.withdraw(_find(approval_id), reason=reason, actor=request.auth.actor, now=request.now)
    return ApprovalOut.of(_find(approval_id), request.now)


def _rows() -> ApprovalRequestQuerySet:
    rows: ApprovalRequestQuerySet = ApprovalRequest.objects.select_related("approver", "customer", "operation")
    return rows


def _in_state(rows: ApprovalRequestQuerySet, state: str, now: datetime) -> ApprovalRequestQuerySet:
    """By the state that is answered: what ran out has expired also before the clockwork has said so."""
    ran_out = Q(state=State.WAITING, expires_at__lte=now)
    if state == State.WAITING:
        return rows.filter(state=state).exclude(ran_out)
    return rows.filter(Q(state=state) | ran_out) if state == State.EXPIRED else rows.filter(state=state)


def _find(public_id: str) -> ApprovalRequest:
    found: ApprovalRequest | None = _rows().filter(public_id=public_id).first()
    if found is None:
        raise NotFound("approval", public_id)
    return found
