"""One line of an invoice, issued or only previewed, with the sum that it comes from."""

from datetime import datetime
from typing import Self

from pydantic import Field

from billing_admin.api.shapes import Answer, ExactRate, Money, Quantity
from invoicing.lines import Line
from invoicing.models import InvoiceLine


class LineOut(Answer):
    kind: str = Field(examples=["fee"])
    key: str = Field(examples=["base"], description="The plan's item.")
    description: str
    quantity: Quantity
    rate: ExactRate | None
    amount: Money
    starts_at: datetime | None
    ends_at: datetime | None
    sum: str | None = Field(examples=["$50.00 × 16/31 days = $25.81"], description="How the amount came about.")

    @classmethod
    def of(cls, line: Line | InvoiceLine, currency: str = "") -> Self:
        return cls(
            kind=line.kind,
            key=line.key,
            description=line.description,
            quantity=line.quantity,
            rate=line.rate,
            amount=Money.of(line.amount, currency or line.currency),  # type: ignore[union-attr]  # previewed lines know theirs
            starts_at=line.starts_at,
            ends_at=line.ends_at,
            sum=line.derivation.get("sum"),
        )
