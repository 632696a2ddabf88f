"""Lines that people add by hand, and rows of documents as lines again."""

from collections.abc import Iterable

from customers.models import Subscription
from invoicing.lines import MANUAL, Line
from invoicing.models import InvoiceLine, PendingLine


def manual_line(description: str, amount: int, currency: str, *, by: str, pending_id: int | None = None) -> Line:
    """Below zero it is a credit. `pending_id`: the row that waited for this document."""
    facts = {"sum": f"Added by {by}", "by": by}
    waiting = {} if pending_id is None else {"pending": pending_id}
    return Line(MANUAL, "", description, amount, currency, derivation=facts | waiting)


def pending_lines(subscription: Subscription) -> tuple[Line, ...]:
    """What waits for the next document of a contract, the oldest first."""
    return pending_by_contract([subscription]).get(subscription.pk, ())


def pending_by_contract(subscriptions: Iterable[Subscription]) -> dict[int, tuple[Line, ...]]:
    """The same of many, in one query."""
    found: dict[int, tuple[Line, ...]] = {}
    for row in PendingLine.objects.filter(subscription__in=[s.pk for s in subscriptions], line=None):
        found[row.subscription_id] = (*found.get(row.subscription_id, ()), line_of_pending(row))
    return found


def line_of_pending(row: PendingLine) -> Line:
    return manual_line(row.description, row.amount, row.currency, by=row.created_by, pending_id=row.pk)


def line_of(row: InvoiceLine, currency: str) -> Line:
    """A row as it was drawn up, before deductions and tax."""
    return Line(
        row.kind,
        row.key,
        row.description,
        row.amount,
        currency,
        quantity=row.quantity,
        rate=row.rate,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        derivation=row.derivation,
        item_id=row.item_id,
        balance_id=row.balance_id,
        source_id=row.source_id,
        override_id=row.override_id,
    )


def attach_pending(rows: Iterable[InvoiceLine]) -> None:
    """Tell the lines that waited which rows they have become."""
    for row in rows:
        if row.kind == MANUAL and "pending" in row.derivation:
            PendingLine.objects.filter(pk=row.derivation["pending"]).update(line=row)
