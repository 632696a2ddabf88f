"""The acts on a customer, and taking one back."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self

from django.db.models import QuerySet
from ninja import Query, Router
from ninja.responses import Status
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, page_of
from billing_admin.api.operations import OperationOut
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, Page, Reason
from billing_admin.flows.undo import confirmation, look, may_be, permissions_for, taken_back_by, undo, why_not
from billing_admin.undoing import CannotTakeBack, TakenBack
from customers.models import Operation

router = Router(tags=["History"])
VIEW = "customers.view_operation"
EXAMPLE = {"reason": "given to the wrong customer", "dryRun": True}


class ActOut(OperationOut):
    """An act with what went in, what came of it, and what it is tied to."""

    customer_id: str | None
    inputs: dict[str, Any]
    effects: dict[str, Any]
    reverses: str | None = Field(description="The act that it takes back.")
    reversed_by: str | None = Field(description="The act that took it back.")
    can_be_undone: bool = Field(description="Whether acts of its kind can be; a dry run has the exact answer.")

    @classmethod
    def of(cls, operation: Operation) -> Self:
        by = taken_back_by(operation)
        return cls(
            **OperationOut.of(operation).model_dump(),
            customer_id=operation.customer.customer_id if operation.customer else None,
            inputs=operation.inputs,
            effects=operation.effects,
            reverses=operation.reverses.public_id if operation.reverses else None,
            reversed_by=by.public_id if by else None,
            can_be_undone=may_be(operation),
        )


class ActsOut(Page):
    data: list[ActOut]


class UndoIn(Body):
    reason: Reason = ""
    dry_run: bool = Field(default=False, description="Say what would happen; take nothing back.")
    confirmation: str | None = Field(
        default=None, max_length=2_000, description="Of a dry run: refused if anything of it has moved since."
    )


class EffectOut(Answer):
    label: str = Field(examples=["Credits"])
    before: str = Field(examples=["250 left, resets 1 Apr 2026"])
    after: str = Field(examples=["100 left of 100, resets 1 Apr 2026"])


class UndoTriedOut(Answer):
    """What taking an act back would do."""

    operation: str
    sentence: str
    effects: list[EffectOut]
    stays: list[str] = Field(description="What cannot be taken back, a sentence each.")
    confirmation: str = Field(description="Holds for 30 minutes.")

    @classmethod
    def of(cls, operation: Operation, taken: TakenBack, now: datetime) -> Self:
        return cls(
            operation=operation.public_id,
            sentence=taken.sentence,
            effects=[EffectOut(label=e.label, before=e.before, after=e.after) for e in taken.effects],
            stays=list(taken.stays),
            confirmation=confirmation(operation, taken, now),
        )


@endpoint(router, "GET", "/customers/{customer_id}/operations", needs=VIEW, gives=ActsOut, refuses=[404])
def list_operations(
    request: ApiRequest,
    customer_id: Id,
    verb: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ActsOut:
    """Every act on a customer, newest first: who, what, why."""
    rows = _joined().filter(customer=find_customer(customer_id))
    found, after = page_of(rows.filter(verb=verb) if verb else rows, cursor, limit)
    return ActsOut(data=[ActOut.of(row) for row in found], next_cursor=after)


@endpoint(router, "GET", "/operations/{operation_id}", needs=VIEW, gives=ActOut, refuses=[404])
def read_operation(request: ApiRequest, operation_id: Id) -> ActOut:
    """Read an act."""
    return ActOut.of(_find(operation_id))


TRIED: Mapping[int, Any] = {HTTPStatus.OK: UndoTriedOut}


@endpoint(
    router,
    "POST",
    "/operations/{operation_id}/undo",
    needs=VIEW,
    gives=ActOut,
    status=HTTPStatus.CREATED,
    also=TRIED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def undo_operation(request: ApiRequest, operation_id: Id, body: UndoIn) -> ActOut | Status[UndoTriedOut]:
    """Take an act back, as an act of its own.

    It takes the permissions of the act itself, too. With `dryRun` nothing is done: the answer says what would change,
    what stays, and has a `confirmation` to send along. What cannot be taken back is refused with the reason.
    """
    operation, now = _find(operation_id), request.now
    for permission in permissions_for(operation):
        request.auth.require(permission)
    if body.dry_run:
        if why := why_not(operation, now):
            raise CannotTakeBack(why)
        return Status(HTTPStatus.OK, UndoTriedOut.of(operation, look(operation, now), now))
    made = undo(operation, reason=body.reason, actor=request.auth.actor, now=now, confirmed=body.confirmation)
    return ActOut.of(_find(made.public_id))


def _joined() -> "QuerySet[Operation]":
    rows: QuerySet[Operation] = Operation.objects.select_related("customer", "reverses", "reversed_by")
    return rows


def _find(public_id: str) -> Operation:
    found = _joined().filter(public_id=public_id).first()
    if found is None:
        raise NotFound("operation", public_id)
    return found
