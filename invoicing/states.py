"""The states of an invoice and the one map of its moves."""

from django.core.exceptions import ValidationError
from django.db import models


class InvoiceState(models.TextChoices):
    DRAFT = "draft", "Draft"
    OPEN = "open", "Open"
    PAID = "paid", "Paid"
    VOID = "void", "Void"
    UNCOLLECTIBLE = "uncollectible", "Uncollectible"


NEXT: dict[str, set[str]] = {
    InvoiceState.DRAFT: {InvoiceState.OPEN, InvoiceState.PAID, InvoiceState.VOID},
    InvoiceState.OPEN: {InvoiceState.PAID, InvoiceState.VOID, InvoiceState.UNCOLLECTIBLE},
    InvoiceState.UNCOLLECTIBLE: {InvoiceState.PAID, InvoiceState.VOID},
}


# A credit note is settled when it is issued; a correction can be undone.
NEXT_OF_NOTE: dict[str, set[str]] = {
    InvoiceState.DRAFT: {InvoiceState.OPEN, InvoiceState.VOID},
    InvoiceState.OPEN: {InvoiceState.PAID},
    InvoiceState.PAID: {InvoiceState.VOID},
}


class CannotMove(ValidationError):
    def __init__(self, state: str, to: str):
        super().__init__(f"An invoice that is {state} cannot become {to}.", code="cannot_move")
