"""Drafts: what waits for late use or for a person, and lines that are added by hand."""

from datetime import datetime
from typing import Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.corrections import detail
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_invoice, find_subscription
from billing_admin.api.invoices import InvoiceDetail
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, MinorUnits, Money
from billing_admin.flows import drafts as verbs
from invoicing.models import InvoiceLine, PendingLine

router = Router(tags=["Invoices"])

VIEW, EDIT = "invoicing.view_invoice", "invoicing.edit_draft"
EXAMPLE = {"description": "Two days of training", "amount": 120000, "currency": "USD"}


class ManualLineIn(Body):
    description: str = Field(max_length=300, pattern=r"\S")
    amount: MinorUnits = Field(description="Minor units; below zero for a credit.")
    currency: str = Field("", max_length=3, description="When given, it has to be the invoice's or subscription's.")


class PendingLineOut(Answer):
    id: int
    description: str
    amount: Money
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: PendingLine) -> Self:
        return cls(
            id=row.pk,
            description=row.description,
            amount=Money.of(row.amount, row.currency),
            created_by=row.created_by,
            created_at=row.created_at,
        )


class PendingLinesOut(Answer):
    data: list[PendingLineOut]


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/lines",
    needs=EDIT,
    gives=InvoiceDetail,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def add_line_to_draft(request: ApiRequest, invoice_id: Id, body: ManualLineIn) -> InvoiceDetail:
    """Add a line to a draft. Credits do not take it below zero."""
    draft = find_invoice(invoice_id)
    verbs.add_line(draft=draft, **body.model_dump(), actor=request.auth.actor, now=request.now)
    return detail(draft)


@endpoint(
    router, "DELETE", "/invoices/{invoice_id}/lines/{line_id}", needs=EDIT, gives=InvoiceDetail, refuses=[404, 409]
)
def remove_line_of_draft(request: ApiRequest, invoice_id: Id, line_id: int) -> InvoiceDetail:
    """Remove a line that was added by hand from a draft."""
    draft = find_invoice(invoice_id)
    line = InvoiceLine.objects.filter(invoice=draft, pk=line_id).first()
    if line is None:
        raise NotFound("line", str(line_id))
    verbs.remove_line(line, actor=request.auth.actor, now=request.now)
    return detail(draft)


@endpoint(router, "POST", "/invoices/{invoice_id}/refresh", needs=EDIT, gives=InvoiceDetail, refuses=[404, 409])
def refresh_draft(request: ApiRequest, invoice_id: Id) -> InvoiceDetail:
    """Draw a draft up anew: its use, and coupons, credits and taxes as they are now."""
    return detail(verbs.refresh(find_invoice(invoice_id), now=request.now))


@endpoint(router, "POST", "/invoices/{invoice_id}/issue", needs=EDIT, gives=InvoiceDetail, refuses=[404, 409])
def issue_draft(request: ApiRequest, invoice_id: Id) -> InvoiceDetail:
    """Issue a draft before its grace is over. It is drawn up anew a last time."""
    return detail(verbs.issue_draft(find_invoice(invoice_id), actor=request.auth.actor, now=request.now))


@endpoint(router, "GET", "/subscriptions/{subscription_id}/lines", needs=VIEW, gives=PendingLinesOut, refuses=[404])
def list_pending_lines(request: ApiRequest, subscription_id: Id) -> PendingLinesOut:
    """Lines that wait for the next invoice of a subscription."""
    rows = PendingLine.objects.filter(subscription=find_subscription(subscription_id), line=None)
    return PendingLinesOut(data=[PendingLineOut.of(row) for row in rows])


@endpoint(
    router,
    "POST",
    "/subscriptions/{subscription_id}/lines",
    needs=EDIT,
    gives=PendingLineOut,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example=EXAMPLE,
)
def add_line_to_subscription(request: ApiRequest, subscription_id: Id, body: ManualLineIn) -> PendingLineOut:
    """Add a line to the next invoice of a subscription."""
    row = verbs.add_line(
        subscription=find_subscription(subscription_id),
        **body.model_dump(),
        actor=request.auth.actor,
        now=request.now,
    )
    assert isinstance(row, PendingLine)
    return PendingLineOut.of(row)


@endpoint(
    router,
    "DELETE",
    "/subscriptions/{subscription_id}/lines/{line_id}",
    needs=EDIT,
    gives=PendingLinesOut,
    refuses=[404, 409],
)
def remove_pending_line(request: ApiRequest, subscription_id: Id, line_id: int) -> PendingLinesOut:
    """Remove a line that waits. Answers with those that are left."""
    subscription = find_subscription(subscription_id)
    row = PendingLine.objects.filter(subscription=subscription, pk=line_id, line=None).first()
    if row is None:
        raise NotFound("line", str(line_id))
    verbs.remove_line(row, actor=request.auth.actor, now=request.now)
    return list_pending_lines(request, subscription_id)
