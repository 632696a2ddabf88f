"""Documents that are only previewed: lines, what comes off them and on top, and what is left to pay."""

from datetime import datetime
from typing import Self

from pydantic import Field

from billing_admin.api.lines import LineOut
from billing_admin.api.shapes import Answer, ExactRate, Money
from billing_admin.flows.forecast import Expected
from invoicing.discounts import Deduction
from invoicing.documents import Document
from invoicing.taxes import TaxTotal


class DrawnDeductionOut(Answer):
    kind: str = Field(description="`discount` or `invoice_credit`")
    label: str = Field(examples=["Half off"])
    amount: Money = Field(description="Above zero; it is taken off.")
    sum: str = Field(description="How it came about.")

    @classmethod
    def of(cls, taken: Deduction, currency: str) -> Self:
        return cls(kind=taken.kind, label=taken.label, amount=Money.of(taken.amount, currency), sum=taken.sum)


class TaxTotalOut(Answer):
    name: str = Field(examples=["VAT"])
    percent: ExactRate
    inclusive: bool = Field(description="Inside the prices; else on top of them.")
    taxable: Money
    amount: Money

    @classmethod
    def of(cls, tax: TaxTotal, currency: str) -> Self:
        return cls(
            name=tax.rate.name,
            percent=tax.rate.percent,
            inclusive=tax.inclusive,
            taxable=Money.of(tax.taxable, currency),
            amount=Money.of(tax.amount, currency),
        )


class DocumentOut(Answer):
    kind: str = Field(description="`invoice` or `credit_note`")
    lines: list[LineOut]
    subtotal: Money
    deductions: list[DrawnDeductionOut]
    taxes: list[TaxTotalOut]
    total: Money
    from_account_credit: Money
    due: Money = Field(description="What is left to pay.")
    comes_off_an_invoice: bool = Field(description="A credit note that cuts what an open invoice asks for.")

    @classmethod
    def of(cls, document: Document) -> Self:
        drawn, currency = document.drawn, document.currency
        return cls(
            kind="credit_note" if document.is_credit_note else "invoice",
            lines=[LineOut.of(line) for line in document.lines],
            subtotal=Money.of(drawn.subtotal, currency),
            deductions=[DrawnDeductionOut.of(taken, currency) for taken in drawn.deductions],
            taxes=[TaxTotalOut.of(tax, currency) for tax in drawn.tax_totals],
            total=Money.of(document.total, currency),
            from_account_credit=Money.of(drawn.account_credit, currency),
            due=Money.of(drawn.due, currency),
            comes_off_an_invoice=document.offsets_id is not None,
        )


class ExpectedOut(Answer):
    """One of the next invoices, if nothing changes."""

    at: datetime
    plan_name: str
    documents: list[DocumentOut]
    total: Money
    estimated: bool = Field(description="Use is assumed at today's rate.")

    @classmethod
    def of(cls, expected: Expected) -> Self:
        return cls(
            at=expected.at,
            plan_name=expected.plan_name,
            documents=[DocumentOut.of(document) for document in expected.documents],
            total=Money.of(expected.total, expected.currency),
            estimated=expected.is_estimated,
        )
