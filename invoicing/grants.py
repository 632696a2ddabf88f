"""Invoice credits: a customer's grants of money, taken off invoices before tax until they are used up. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from invoicing.discounts import INVOICE_CREDIT, Deduction, deduct, take

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MoneyGrant:
    """One invoice credit: `left` is what it can still give, in minor units of the document's currency.

    Whoever hands it in has left out what is void or expired.
    """

    id: int
    label: str
    left: int
    expires_at: datetime | None
    priority: int
    created: datetime

    def burn_order(self) -> tuple[int, datetime, datetime, int]:
        """The lowest priority first, then what expires soonest (never last), then the oldest."""
        return self.priority, self.expires_at or NEVER, self.created, self.id


def spend(grants: Iterable[MoneyGrant], nets: Sequence[int], currency: str) -> list[Deduction]:
    """What the grants take off the lines whose nets are above zero.

    Together they take no more than the whole document comes to, so that it never falls below zero; what they do not
    give stays for the next one.
    """
    left = [max(0, net) for net in nets]
    due = sum(nets)
    found = []
    for grant in sorted(grants, key=MoneyGrant.burn_order):
        if deduction := deduct(INVOICE_CREDIT, grant.id, grant.label, grant.left, due, left, currency):
            take(deduction, left)
            due -= deduction.amount
            found.append(deduction)
    return found
