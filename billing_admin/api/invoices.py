"""Invoices and credit notes, and money that arrived."""

from datetime import datetime
from typing import Annotated, Any, Self

from ninja import Query, Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_invoice, page_of
from billing_admin.api.lines import LineOut
from billing_admin.api.refusals import BadValue
from billing_admin.api.shapes import Answer, Body, Id, MinorUnits, Money, Page
from invoicing.issue import receive_payment
from invoicing.models import Invoice, Payment

router = Router(tags=["Invoices"])

VIEW = "invoicing.view_invoice"


class PaymentIn(Body):
    amount: Annotated[MinorUnits, Field(ge=1)] = Field(
        description="Minor units of the invoice's currency.", examples=[5000]
    )
    currency: str | None = Field(None, max_length=3, description="When given, it has to be the invoice's.")
    reference: str = Field(max_length=200, pattern=r"\S", description="The bank's or provider's number of the payment.")


class PaymentOut(Answer):
    id: str
    amount: Money
    reference: str
    provider: str
    actor: str
    at: datetime

    @classmethod
    def of(cls, payment: Payment, currency: str) -> Self:
        return cls(
            id=payment.public_id,
            amount=Money.of(payment.amount, currency),
            reference=payment.reference,
            provider=payment.provider,
            actor=payment.actor,
            at=payment.at,
        )


class InvoiceOut(Answer):
    id: str = Field(examples=["in_7bQ2mZ8TqVbNc1R4"])
    number: str | None = Field(examples=["ACME-0001"])
    kind: str = Field(description="`invoice` or `credit_note`")
    state: str = Field(examples=["open"])
    subscription_id: str | None
    currency: str
    total: Money
    credit_applied: Money = Field(description="Taken from account credit.")
    offset: Money = Field(description="Taken off by credit notes.")
    paid: Money
    due: Money
    covers_from: datetime | None
    covers_until: datetime | None
    issued_at: datetime | None
    due_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    void_reason: str | None

    @classmethod
    def values(cls, invoice: Invoice) -> dict[str, Any]:
        money = ("total", "credit_applied", "offset", "paid", "due")
        dates = ("covers_from", "covers_until", "issued_at", "due_at", "paid_at", "voided_at")
        return {
            "id": invoice.public_id,
            "number": invoice.number,
            "kind": invoice.kind,
            "state": invoice.state,
            "subscription_id": invoice.subscription.public_id if invoice.subscription else None,
            "currency": invoice.currency,
            "void_reason": invoice.void_reason or None,
            **{name: Money.of(getattr(invoice, name), invoice.currency) for name in money},
            **{name: getattr(invoice, name) for name in dates},
        }

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        return cls(**cls.values(invoice))


class InvoiceDetail(InvoiceOut):
    customer_id: str
    lines: list[LineOut]
    payments: list[PaymentOut]

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        return cls(
            **cls.values(invoice),
            customer_id=invoice.customer.customer_id,
            lines=[LineOut.of(line, invoice.currency) for line in invoice.lines.all()],
            payments=[PaymentOut.of(payment, invoice.currency) for payment in invoice.payments.all()],
        )


class InvoicesOut(Page):
    data: list[InvoiceOut]


class PaidOut(Answer):
    payment: PaymentOut
    invoice: InvoiceOut


@endpoint(router, "GET", "/customers/{customer_id}/invoices", needs=VIEW, gives=InvoicesOut, refuses=[404])
def list_invoices(
    request: ApiRequest,
    customer_id: Id,
    cursor: Annotated[str | None, Query(max_length=24)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> InvoicesOut:
    """The invoices and credit notes of a customer, the newest first."""
    rows = find_customer(customer_id).invoices.select_related("subscription")
    found, following = page_of(rows, cursor, limit)
    return InvoicesOut(data=[InvoiceOut.of(invoice) for invoice in found], next_cursor=following)


@endpoint(router, "GET", "/invoices/{invoice_id}", needs=VIEW, gives=InvoiceDetail, refuses=[404])
def read_invoice(request: ApiRequest, invoice_id: Id) -> InvoiceDetail:
    """Read an invoice with its lines, each with the sum that it comes from, and its payments."""
    return InvoiceDetail.of(find_invoice(invoice_id))


@endpoint(
    router,
    "POST",
    "/invoices/{invoice_id}/payments",
    needs="invoicing.pay_invoice",
    gives=PaidOut,
    status=201,
    refuses=[404, 409],
    example={"amount": 5000, "currency": "USD", "reference": "wire 2026-03-14/0815"},
)
def receive(request: ApiRequest, invoice_id: Id, body: PaymentIn) -> PaidOut:
    """Record money that arrived. What exceeds the rest becomes account credit."""
    invoice = find_invoice(invoice_id)
    if body.currency and body.currency != invoice.currency:
        raise BadValue("currency", f"{invoice} is in {invoice.currency}.", "currency_mismatch")
    payment = receive_payment(
        invoice, amount=body.amount, reference=body.reference, actor=request.auth.actor, now=request.now
    )
    return PaidOut(
        payment=PaymentOut.of(payment, invoice.currency), invoice=InvoiceOut.of(find_invoice(invoice.public_id))
    )
