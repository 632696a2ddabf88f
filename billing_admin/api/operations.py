"""An act as the journal keeps it: who, what, why."""

from datetime import datetime
from typing import Self

from pydantic import Field

from billing_admin.api.shapes import Answer
from customers.models import Operation


class OperationOut(Answer):
    id: str
    verb: str = Field(examples=["plan.enabled"])
    summary: str = Field(examples=["Changed to Pro (custom): $26.67"])
    actor: str = Field(examples=["api:backend"])
    reason: str
    at: datetime

    @classmethod
    def of(cls, operation: Operation) -> Self:
        return cls(
            id=operation.public_id,
            verb=operation.verb,
            summary=operation.summary,
            actor=operation.actor,
            reason=operation.reason,
            at=operation.at,
        )
