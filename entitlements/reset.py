"""Verb: open the next window of each balance that has ended; safe to run twice, at once, and to kill."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from customers.contracts import MULTIPLYING
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.models import Balance
from entitlements.provision import close, held_until, settle
from entitlements.readings import open_rows, pool


@dataclass(frozen=True, slots=True)
class Reset:
    """What one batch did: customers looked at, and windows that were closed."""

    customers: int = 0
    closed: int = 0


def reset_due(*, now: datetime, limit: int = 200, skip: Collection[int] = ()) -> Reset:
    """Bring the balances of a batch of customers up to date. `customers == 0` means that nothing was left to do.

    `skip` names customers (by primary key) who could not be brought up to date and would spoil the batch.
    """
    with transaction.atomic():
        customers = _claim(now, limit, skip)
        closed = sum(bring_up_to_date(customer, now=now) for customer in customers)
    return Reset(len(customers), closed)


def _claim(now: datetime, limit: int, skip: Collection[int]) -> list[Customer]:
    """Customers with windows that have ended, held so that nobody else resets them or changes their plan."""
    waiting = Balance.objects.due(now).exclude(customer_id__in=skip).order_by("ends_at")
    due = list(waiting.values_list("customer_id", flat=True)[:limit])
    if not due:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM customers_customer WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", [due]
        )
        held = [row[0] for row in cursor.fetchall()]
    return list(Customer.objects.filter(pk__in=held).order_by("id"))


def bring_up_to_date(customer: Customer, *, now: datetime) -> int:
    """Close what has ended and open what follows, for one customer whose row is held. Returns the windows closed."""
    rows = held_until(customer, open_rows(customer), now, now=now)
    ended = {row.pk for row in rows if row.ends_at is not None and row.ends_at <= now}
    if not ended:
        return 0
    settle(customer, pool(customer, contracts_at(customer, now), rows, now), rows, now=now)
    closed = 0
    for row in rows:
        if row.pk in ended:
            closed += 1
            if row.closed_at is None:  # whoever promised it is gone: it ends without a successor
                close(row, ended_at=_promised_until(row), now=now)
    return closed


def _promised_until(row: Balance) -> datetime | None:
    """When a contract stopped promising this bucket: at the switch to a plan without its feature, or with its end."""
    if row.subscription is None:
        return None
    ends_at = None
    for phase in row.subscription.kept_phases():
        terms = phase.terms()
        promises = terms.kind in MULTIPLYING and terms.for_feature(row.feature.slug) is not None
        if phase.starts_at > row.starts_at and not promises:
            return phase.starts_at
        ends_at = phase.ends_at
    return ends_at
