"""A billing run that writes nothing: who would be billed what, and who would have to wait for a person."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from billing_admin.flows.billing_run import prepare
from billing_admin.flows.renew import catch_up
from customers.models import Customer, Subscription
from invoicing.models import Invoice


@dataclass(frozen=True, slots=True)
class Billed:
    """What one customer would get: totals of documents in minor units, with their currency; or why they would not."""

    customer: Customer
    totals: tuple[tuple[int, str], ...]
    parked: str = ""


@dataclass(frozen=True, slots=True)
class DryRun:
    """`is_whole`: all that is due was looked at. `sums` are minor units by currency, credit notes taken off."""

    rows: tuple[Billed, ...]
    is_whole: bool

    @property
    def documents(self) -> int:
        return sum(len(row.totals) for row in self.rows)

    @property
    def sums(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for row in self.rows:
            for total, currency in row.totals:
                found[currency] += total
        return dict(sorted(found.items()))

    @property
    def parked(self) -> list[Billed]:
        return [row for row in self.rows if row.parked]


def dry_run(now: datetime, limit: int = 200) -> DryRun:
    """What the renewals due at the instant (which may be to come) would write for the first so many customers."""
    due = Subscription.objects.due(now).order_by("bills_at", "id").values_list("customer_id", flat=True)
    ids = list(dict.fromkeys(due[: 4 * limit]))
    chosen = ids[:limit]
    ordinary = prepare(chosen, now=now)
    customers = Customer.objects.in_bulk(chosen)
    rows = [
        Billed(customers[pk], _totals(ordinary[pk].invoices)) if pk in ordinary else _tried(customers[pk], now)
        for pk in chosen
    ]
    return DryRun(tuple(rows), is_whole=len(ids) <= limit and due.count() <= 4 * limit)


def _totals(invoices: Sequence[Invoice]) -> tuple[tuple[int, str], ...]:
    return tuple((invoice.total, invoice.currency) for invoice in invoices)


def _tried(customer: Customer, now: datetime) -> Billed:
    """Out of the ordinary: carried out and taken back."""
    with transaction.atomic():
        totals = _totals(catch_up(customer, now=now))
        parked = customer.subscriptions.parked().filter(parked_at=now).values_list("parked_because", flat=True).first()
        transaction.set_rollback(True)
    return Billed(customer, totals, parked or "")
