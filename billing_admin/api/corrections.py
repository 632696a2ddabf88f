"""Corrections of invoices: credit notes, voids, new invoices in the place of old ones, write-offs; first invoices."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.asked import ASKED
from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_invoice
from billing_admin.api.invoices import InvoiceDetail, InvoiceOut
from billing_admin.api.operations import OperationOut
from billing_admin.api.refusals import NotFound
from billing_admin.api.shapes import Answer, Body, Id, MinorUnits, Money, Reason
from billing_admin.flows import corrections as verbs
from billing_admin.flows import gate
from invoicing.credit_note import CreditPreview, pay_out, preview_credit, void_credit_note
from invoicing.models import Invoice, Refund

router = Router(tags=["Invoices"])

CREDIT, VOID = "invoicing.credit_invoice", "invoicing.void_invoice"
EXAMPLE = {"amount": 2000, "settlement": "account_credit"}


class Why(Body):
    reason: Reason = ""


class CreditedLineIn(Body):
    line_id: int = Field(ge=1, le=2**63 - 1, description="The `id` of a line of the invoice.")
    amount: Annotated[MinorUnits, Field(ge=1)] = Field(description="Minor units, before tax on top.")


class CreditIn(Body):
    """Exactly one of `lines`, `amount` and `whole`."""

    lines: list[CreditedLineIn] | None = Field(None, max_length=1000)
    amount: Annotated[MinorUnits, Field(ge=1)] | None = Field(
        None, description="Minor units with tax, spread over all lines."
    )
    whole: bool = Field(default=False, description="All that is left.")
    settlement: Literal["refund", "account_credit", "offset"] = Field(
        description="Paid back, kept for the next invoices, or taken off what is still owed."
    )

    def asked(self) -> dict[str, Any]:
        lines = None if self.lines is None else [(line.line_id, line.amount) for line in self.lines]
        return {"lines": lines, "amount": self.amount, "whole": self.whole, "settlement": self.settlement}


class CreditConfirmed(CreditIn):
    reason: Reason = ""
    reference: str = Field(
        "", max_length=200, description="Of a refund's transfer; without one the transfer is still to be made."
    )


class PayOutIn(Body):
    reference: str = Field(
        max_length=200, pattern=r"\S", description="The bank's or provider's number of the transfer."
    )


class CreditLineOut(Answer):
    line_id: int | None = Field(description="The line that it gives back.")
    description: str
    amount: Money
    tax: Money
    sum: str


class CreditPreviewOut(Answer):
    settlement: str
    subtotal: Money
    tax_added: Money
    tax_included: Money
    total: Money = Field(description="Below zero: what the customer gets.")
    lines: list[CreditLineOut]
    sentence: str = Field(examples=["$20.00 becomes account credit."])
    limits: list[str] = Field(description="What holds a credit back, in sentences.")
    most: Money = Field(description="The largest credit that can be settled like this.")

    @classmethod
    def of(cls, preview: CreditPreview) -> Self:
        drawn, currency = preview.document.drawn, preview.document.currency
        return cls(
            settlement=preview.settlement,
            subtotal=Money.of(drawn.subtotal, currency),
            tax_added=Money.of(drawn.tax_added, currency),
            tax_included=Money.of(drawn.tax_included, currency),
            total=Money.of(drawn.total, currency),
            lines=[
                CreditLineOut(
                    line_id=each.line.source_id,
                    description=each.line.description,
                    amount=Money.of(each.line.amount, currency),
                    tax=Money.of(each.tax, currency),
                    sum=each.line.derivation["sum"],
                )
                for each in drawn.lines
            ],
            sentence=preview.sentence,
            limits=list(preview.limits),
            most=Money.of(preview.room.most(preview.settlement), currency),
        )


class RefundOut(Answer):
    id: str
    amount: Money
    reference: str | None
    provider: str
    actor: str
    at: datetime

    @classmethod
    def of(cls, refunds: Sequence[Refund], currency: str) -> Self:
        """Of what one transfer sent back."""
        refund = refunds[0]
        return cls(
            id=refund.public_id,
            amount=Money.of(sum(each.amount for each in refunds), currency),
            reference=refund.reference or None,
            provider=refund.provider,
            actor=refund.actor,
            at=refund.at,
        )


class ActivatedOut(Answer):
    operation: OperationOut
    invoice: InvoiceOut


def find_note(public_id: str) -> Invoice:
    found = Invoice.objects.filter(public_id=public_id, kind=Invoice.Kind.CREDIT_NOTE).first()
    if found is None:
        raise NotFound("credit_note", public_id)
    return found


def detail(invoice: Invoice) -> InvoiceDetail:
    return InvoiceDetail.of(find_invoice(invoice.public_id))


# Credit notes ---------------------------------------------------------------------------------------------------------


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/credit-notes/preview",
    needs=CREDIT,
    gives=CreditPreviewOut,
    refuses=[404, 409],
    example=EXAMPLE,
)
def preview_credit_note(request: ApiRequest, invoice_id: Id, body: CreditIn) -> CreditPreviewOut:
    """What a credit note would be: its lines, its taxes, its limits. Nothing is written."""
    return CreditPreviewOut.of(preview_credit(find_invoice(invoice_id), **body.asked()))


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/credit-notes",
    needs=CREDIT,
    gives=InvoiceDetail,
    status=201,
    also=ASKED,
    refuses=[404, 409],
    example={**EXAMPLE, "reason": "two days of downtime"},
)
def create_credit_note(request: ApiRequest, invoice_id: Id, body: CreditConfirmed) -> InvoiceDetail:
    """Correct an issued invoice by a credit note: whole, an amount, or line by line.

    Never more than was paid (refund, account credit) or is owed (offset). Taxes are those of the credited lines.
    """
    note = verbs.credit_invoice(
        find_invoice(invoice_id),
        **body.asked(),
        reason=body.reason,
        reference=body.reference,
        actor=request.auth.actor,
        now=request.now,
    )
    return detail(note)


@endpoint(
    router,
    "POST",
    "/credit-notes/{credit_note_id}/void",
    needs=CREDIT,
    gives=InvoiceDetail,
    refuses=[404, 409],
    example={"reason": "wrong customer"},
)
def void_a_credit_note(request: ApiRequest, credit_note_id: Id, body: Why) -> InvoiceDetail:
    """Undo a correction.

    Refused once its account credit is spent, its refund paid out, or its invoice settled.
    """
    note = find_note(credit_note_id)
    return detail(void_credit_note(note, reason=body.reason, actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "POST",
    "/credit-notes/{credit_note_id}/payout",
    needs=CREDIT,
    gives=RefundOut,
    refuses=[404, 409],
    example={"reference": "sepa 2026-03-14/7"},
)
def pay_out_refund(request: ApiRequest, credit_note_id: Id, body: PayOutIn) -> RefundOut:
    """Record the transfer of a refund that was still to be made."""
    note = find_note(credit_note_id)
    refunds = pay_out(note, reference=body.reference, actor=request.auth.actor, now=request.now)
    return RefundOut.of(refunds, note.currency)


# Void, anew, given up -------------------------------------------------------------------------------------------------


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/void",
    needs=VOID,
    gives=InvoiceDetail,
    also=ASKED,
    refuses=[404, 409],
    example={"reason": "goodwill"},
)
def void_an_invoice(request: ApiRequest, invoice_id: Id, body: Why) -> InvoiceDetail:
    """Void a draft or an open invoice; what was paid becomes account credit.

    Its period stays settled. A plan that waited for its payment is given up.
    """
    invoice = find_invoice(invoice_id)
    return detail(verbs.void_invoice(invoice, reason=body.reason, actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/reissue",
    needs=VOID,
    gives=InvoiceDetail,
    status=201,
    refuses=[404, 409],
    example={"reason": "wrong tax"},
)
def reissue_an_invoice(request: ApiRequest, invoice_id: Id, body: Why) -> InvoiceDetail:
    """Void an invoice and issue its lines anew, with the coupons, credits, taxes and terms of today."""
    invoice = find_invoice(invoice_id)
    return detail(verbs.reissue(invoice, reason=body.reason, actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/uncollectible",
    needs="invoicing.write_off_invoice",
    gives=InvoiceDetail,
    also=ASKED,
    refuses=[404, 409],
    example={"reason": "insolvent"},
)
def mark_as_uncollectible(request: ApiRequest, invoice_id: Id, body: Why) -> InvoiceDetail:
    """Give up an open invoice. Nobody is reminded any more; a payment is still taken."""
    invoice = find_invoice(invoice_id)
    return detail(verbs.mark_uncollectible(invoice, reason=body.reason, actor=request.auth.actor, now=request.now))


# First invoices -------------------------------------------------------------------------------------------------------


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/approve",
    needs="invoicing.approve_invoice",
    gives=InvoiceDetail,
    refuses=[404, 409],
)
def approve_invoice(request: ApiRequest, invoice_id: Id) -> InvoiceDetail:
    """Issue a first invoice that waited for an approval; its payment window begins."""
    return detail(gate.approve(find_invoice(invoice_id), actor=request.auth.actor, now=request.now))


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/activate",
    needs="customers.activate_unpaid",
    gives=ActivatedOut,
    also=ASKED,
    refuses=[404, 409],
    example={"reason": "purchase order 4711"},
)
def activate_unpaid(request: ApiRequest, invoice_id: Id, body: Why) -> ActivatedOut:
    """Begin the plan that waits for this invoice before it is paid; it stays open and no longer expires."""
    invoice = find_invoice(invoice_id)
    operation = gate.activate_now(invoice, reason=body.reason, actor=request.auth.actor, now=request.now)
    return ActivatedOut(operation=OperationOut.of(operation), invoice=InvoiceOut.of(find_invoice(invoice.public_id)))
