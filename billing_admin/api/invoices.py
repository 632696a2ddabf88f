"""Invoices and credit notes, and money that arrived."""

from datetime import datetime
from typing import Annotated, Any, Self

from ninja import Query, Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_invoice, page_of, with_collection
from billing_admin.api.lines import LineOut
from billing_admin.api.refusals import BadValue
from billing_admin.api.shapes import Answer, Body, Id, MinorUnits, Money, Page
from billing_admin.flows.gate import collect
from invoicing.mail import document_link
from invoicing.models import Deduction, Invoice, InvoiceLine, Payment
from invoicing.states import InvoiceState
from payments.gateway import enabled
from payments.models import StripeInvoice

router = Router(tags=["Invoices"])

VIEW = "invoicing.view_invoice"
MONEY = (
    *("subtotal", "discount_total", "credit_total", "tax_added", "tax_included"),
    *("total", "credit_applied", "offset", "paid", "due"),
)
DATES = (
    *("covers_from", "covers_until", "issues_at", "issued_at", "expires_at"),
    *("due_at", "paid_at", "voided_at"),
)


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


class InvoiceCollectionOut(Answer):
    """Where its collection with Stripe stands."""

    state: str = Field(
        examples=["declined"],
        description="`waiting`, `needs_method`, `sent`, `requires_action`, `declined`, `processing`, `paid`, "
        "`paid_outside`, `partially_refunded`, `refunded`, `disputed`, `dispute_lost`, `void`, `uncollectible` or "
        "`parked` (a person has to see to it).",
    )
    code: str | None = Field(examples=["insufficient_funds"], description="Stripe's code of what is wrong.")
    problem: str | None = Field(description="The same as a sentence, for staff.")
    hosted_url: str | None = Field(description="Stripe's page on which it can be paid.")
    pdf_url: str | None
    next_attempt_at: datetime | None = Field(description="When the next step with Stripe is planned.")

    @classmethod
    def of(cls, invoice: Invoice) -> Self | None:
        """Null without keys of Stripe, and for an invoice that was not handed over."""
        row: StripeInvoice | None = getattr(invoice, "stripe", None) if enabled() else None
        if row is None:
            return None
        return cls(
            state=row.state,
            code=row.code or None,
            problem=row.problem or None,
            hosted_url=row.hosted_url or None,
            pdf_url=row.pdf_url or None,
            next_attempt_at=row.next_attempt_at,
        )


class InvoiceOut(Answer):
    id: str = Field(examples=["in_7bQ2mZ8TqVbNc1R4"])
    number: str | None = Field(examples=["ACME-0001"], description="Null while it is a draft.")
    kind: str = Field(description="`invoice` or `credit_note`")
    state: str = Field(examples=["open"], description="`draft`, `open`, `paid`, `void` or `uncollectible`")
    customer_id: str = Field(examples=["acme"])
    subscription_id: str | None
    currency: str
    subtotal: Money = Field(description="Sum of the lines.")
    discount_total: Money = Field(description="Taken off by coupons.")
    credit_total: Money = Field(description="Taken off by invoice credits, before tax.")
    tax_added: Money = Field(description="Tax on top of the prices.")
    tax_included: Money = Field(description="Tax inside the prices.")
    total: Money
    credit_applied: Money = Field(description="Taken from account credit.")
    offset: Money = Field(description="Taken off by credit notes.")
    paid: Money
    due: Money
    url: str | None = Field(description="Where the customer reads and pays it. Null for a draft.")
    settlement: str | None = Field(description="Credit notes: `refund`, `account_credit` or `offset`.")
    awaits_approval: bool
    covers_from: datetime | None
    covers_until: datetime | None
    issues_at: datetime | None = Field(description="Drafts: when the grace for late use is over.")
    issued_at: datetime | None
    expires_at: datetime | None = Field(description="First invoices: void if unpaid by then.")
    due_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    void_reason: str | None
    collection: InvoiceCollectionOut | None = Field(description="Null while it is not collected with Stripe.")

    @classmethod
    def values(cls, invoice: Invoice) -> dict[str, Any]:
        return {
            "id": invoice.public_id,
            "number": invoice.number,
            "kind": invoice.kind,
            "state": invoice.state,
            "customer_id": invoice.customer.customer_id,
            "subscription_id": invoice.subscription.public_id if invoice.subscription else None,
            "currency": invoice.currency,
            "url": None if invoice.issued_at is None else document_link(invoice),
            "settlement": invoice.settlement or None,
            "awaits_approval": invoice.awaits_approval,
            "void_reason": invoice.void_reason or None,
            "collection": InvoiceCollectionOut.of(invoice),
            **{name: Money.of(getattr(invoice, name), invoice.currency) for name in MONEY},
            **{name: getattr(invoice, name) for name in DATES},
        }

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        return cls(**cls.values(invoice))


class TaxOut(Answer):
    name: str = Field(examples=["VAT"])
    percent: str = Field(examples=["19"])
    inclusive: bool = Field(description="Inside the price; else on top of it.")
    taxable: Money
    amount: Money


class InvoiceLineOut(LineOut):
    id: int
    discounted: Money = Field(description="Its part of the coupons.")
    credited: Money = Field(description="Its part of the invoice credits.")
    taxes: list[TaxOut]
    source_line_id: int | None = Field(description="A credit's charge.")

    @classmethod
    def of_row(cls, row: InvoiceLine, currency: str) -> Self:
        return cls(
            **LineOut.of(row, currency).model_dump(),
            id=row.pk,
            discounted=Money.of(row.discounted, currency),
            credited=Money.of(row.credited, currency),
            taxes=[
                TaxOut(
                    name=tax["name"],
                    percent=tax["percent"],
                    inclusive=tax["inclusive"],
                    taxable=Money.of(tax["taxable"], currency),
                    amount=Money.of(tax["amount"], currency),
                )
                for tax in row.taxes
            ],
            source_line_id=row.source_id,
        )


class DeductionOut(Answer):
    kind: str = Field(description="`discount` (a coupon) or `invoice_credit`")
    label: str
    amount: Money
    sum: str | None

    @classmethod
    def of(cls, row: Deduction, currency: str) -> Self:
        amount = Money.of(row.amount, currency)
        return cls(kind=row.kind, label=row.label, amount=amount, sum=row.derivation.get("sum"))


class InvoiceDetail(InvoiceOut):
    lines: list[InvoiceLineOut]
    deductions: list[DeductionOut]
    payments: list[PaymentOut]
    credit_note_ids: list[str] = Field(description="Corrections of it.")
    corrects_id: str | None = Field(description="Credit notes: the invoice that it corrects.")
    replaces_id: str | None = Field(description="The void invoice that it stands for.")

    @classmethod
    def of(cls, invoice: Invoice) -> Self:
        currency = invoice.currency
        return cls(
            **cls.values(invoice),
            lines=[InvoiceLineOut.of_row(line, currency) for line in invoice.lines.all()],
            deductions=[DeductionOut.of(row, currency) for row in invoice.deductions.all()],
            payments=[PaymentOut.of(payment, currency) for payment in invoice.payments.all()],
            credit_note_ids=[note.public_id for note in invoice.credit_notes.all()],
            corrects_id=invoice.corrects.public_id if invoice.corrects else None,
            replaces_id=invoice.replaces.public_id if invoice.replaces else None,
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
    rows = find_customer(customer_id).invoices.select_related("subscription", "customer", *with_collection())
    found, following = page_of(rows, cursor, limit)
    return InvoicesOut(data=[InvoiceOut.of(invoice) for invoice in found], next_cursor=following)


@endpoint(router, "GET", "/invoices", needs=VIEW, gives=InvoicesOut)
def list_all_invoices(
    request: ApiRequest,
    state: Annotated[InvoiceState | None, Query(description="Drafts wait for late use, or for a person.")] = None,
    kind: Annotated[Invoice.Kind | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=24)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> InvoicesOut:
    """The invoices and credit notes of all customers, the newest first."""
    rows = Invoice.objects.filter(customer__closed_at=None)
    rows = rows.select_related("subscription", "customer", *with_collection())
    rows = rows if state is None else rows.filter(state=state)
    rows = rows if kind is None else rows.filter(kind=kind)
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
    """Record money that arrived. What exceeds the rest becomes account credit; a plan that waited for it begins."""
    invoice = find_invoice(invoice_id)
    if body.currency and body.currency != invoice.currency:
        raise BadValue("currency", f"{invoice} is in {invoice.currency}.", "currency_mismatch")
    payment = collect(invoice, amount=body.amount, reference=body.reference, actor=request.auth.actor, now=request.now)
    return PaidOut(
        payment=PaymentOut.of(payment, invoice.currency), invoice=InvoiceOut.of(find_invoice(invoice.public_id))
    )
