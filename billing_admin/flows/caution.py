"""When a renewal waits for a person instead of being issued: it is far beyond what its contract has ever cost. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.money import format_minor, to_minor
from invoicing.documents import Document

# A yearly fee beside monthly use is no surprise: the largest document of so long is what a new one is held against.
LOOKS_BACK = timedelta(days=400)
# In major units: growth below it alarms nobody.
UNREMARKABLE = Decimal(100)


class NeedsAPerson(ValidationError):
    """A renewal that nobody should get unseen."""

    def __init__(self, why: str):
        super().__init__(why, code="needs_a_person")


@dataclass(frozen=True, slots=True)
class Limits:
    """The account's bounds of one document: its lines, and its total as a multiple of the largest before."""

    most_lines: int
    most_growth: int


def is_remarkable(document: Document) -> bool:
    """Whether its total is large enough to be held against former ones."""
    return document.total > to_minor(UNREMARKABLE, document.currency)


def why_not(documents: Sequence[Document], limits: Limits, largest: int | None) -> str:
    """The cause for which a person should look, or nothing. `largest`: the contract's former documents, minor units."""
    for document in documents:
        if len(document.lines) > limits.most_lines:
            return f"The invoice would have {len(document.lines):,} lines, more than {limits.most_lines:,}."
        if largest and is_remarkable(document) and document.total > limits.most_growth * largest:
            total, before = (format_minor(amount, document.currency) for amount in (document.total, largest))
            return f"{total} would be more than {limits.most_growth} times its largest invoice so far, {before}."
    return ""
