"""Five simulated years with two leap days: customers of every day of the month, and the books hold after each month.

`make clock` lives them with 300 customers; the suite takes a slice: one customer for every fifth day, over the first
leap day and a year's end.
"""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from django.db.models import F, Sum

from billing_admin import runs
from catalog.models import Plan
from catalog.periods import Cadence, boundary, is_boundary
from customers.models import Customer, Subscription
from invoicing.lines import FEE, USAGE
from invoicing.models import CreditEntry, Invoice, InvoiceLine, InvoiceSeries
from tests import builders as a
from tests.instants import day

pytestmark = pytest.mark.django_db

CUSTOMERS = int(os.environ.get("CLOCK_CUSTOMERS", "7"))
MONTHS = int(os.environ.get("CLOCK_MONTHS", "15"))
# Five years from here hold 29 February of 2024 and of 2028.
START = day("2023-12-01")


def plans() -> list[Plan]:
    calls = a.allowance(10, of="calls", price="0.10")
    return [
        a.plan("monthly", a.fee(50), a.allowance(100), calls, now=START),
        a.plan("quarterly", a.fee(140, cadence="P3M"), calls, cadence="P3M", now=START),
        a.plan("yearly", a.fee(500, cadence="P1Y"), a.fee(9, key="support"), calls, cadence="P1Y", now=START),
        a.plan("arrears", a.in_arrears(30), a.fee(5, key="seat", quantity=3), now=START),
    ]


def everybody() -> Iterator[Customer]:
    """One after the other, on each day of the month from the 1st to the 31st, at another second."""
    sold = plans()
    for place in range(CUSTOMERS):
        on_day = (place * 5 if CUSTOMERS < 31 else place) % 31
        since = START + timedelta(days=on_day, seconds=977 * place % 86_400)
        yield a.on(sold[place % len(sold)], since=since, name=f"Customer {place}")


def month(number: int) -> datetime:
    return boundary(START, Cadence.parse("P1M"), number)


def live(customers: list[Customer], since: datetime, now: datetime) -> None:
    """A month of use, the worker at its end, and most people pay."""
    for place, who in enumerate(customers):
        if who.balances.filter(feature__slug="calls", closed_at=None).exists():
            a.overuse(who, (place * 7 + now.month * 5) % 40, of="calls", now=now - timedelta(days=1))
    runs.resets(now=now)
    runs.renewals(now=now)
    runs.resets(now=now)
    for place, who in enumerate(customers):
        if (place + now.month) % 6:
            a.pay_all(who, now=now)


def test_the_books_hold_after_every_month() -> None:
    """Law 1 (clamped to the month's end, counted from the anchor), Y-20, law 12."""
    customers = list(everybody())
    for number in range(2, MONTHS + 2):
        now = month(number)
        live(customers, month(number - 1), now)

        assert not runs.open_failures().exists()
        assert not Subscription.objects.due(now).exists()
        documents_add_up()
        for who in customers:
            periods_touch(who, now)
            numbers_are_gapless(who)
            balances_are_sums(who)


def periods_touch(who: Customer, now: datetime) -> None:
    """Each fee is billed for every period once: no gap, no overlap, boundaries counted from the anchor."""
    [contract] = who.subscriptions.all()
    anchor = contract.phases.get().anchor
    fees = InvoiceLine.objects.filter(invoice__customer=who, kind=FEE).select_related("item").order_by("starts_at")
    by_item: dict[str, list[InvoiceLine]] = {}
    for line in fees:
        by_item.setdefault(line.key, []).append(line)
    for lines in by_item.values():
        cadence = Cadence.parse(lines[0].item.cadence)
        assert lines[0].starts_at == anchor
        assert all(is_boundary(anchor, cadence, line.ends_at) for line in lines)
        assert all(before.ends_at == after.starts_at for before, after in pairwise(lines))
        in_arrears = lines[0].item.term == "in_arrears"
        last = lines[-1].starts_at if not in_arrears else lines[-1].ends_at
        assert last <= now < boundary(last, cadence, 2)
    used = InvoiceLine.objects.filter(invoice__customer=who, kind=USAGE).order_by("starts_at")
    assert all(before.ends_at <= after.starts_at for before, after in pairwise(used))


def numbers_are_gapless(who: Customer) -> None:
    series = InvoiceSeries.objects.get(customer=who)
    numbers = list(who.invoices.order_by("id").values_list("number", flat=True))
    assert numbers == [f"{series.prefix}-{number:04}" for number in range(1, series.invoices + 1)]


def documents_add_up() -> None:
    """Every total is the sum of its lines; what is settled is the sum of what came in."""
    summed = Invoice.objects.annotate(of_lines=Sum("lines__amount"))
    assert not summed.exclude(of_lines=F("subtotal")).exists()
    paid = Invoice.objects.annotate(of_payments=Sum("payments__amount")).exclude(of_payments=None)
    assert not paid.exclude(of_payments=F("paid")).exists()
    assert not CreditEntry.objects.exists()


def balances_are_sums(who: Customer) -> None:
    """Windows of a feature touch, one is open, and use is what was reported."""
    rows = list(who.balances.filter(feature__slug="calls").order_by("starts_at"))
    assert all(before.ends_at == after.starts_at for before, after in pairwise(rows))
    assert [row.closed_at is None for row in rows] == [False] * (len(rows) - 1) + [True] * bool(rows)
    used = who.usage_events.aggregate(sum=Sum("taken"))["sum"] or Decimal(0)
    assert sum((row.used for row in rows), Decimal(0)) == used
