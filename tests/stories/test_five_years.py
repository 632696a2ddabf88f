"""Five simulated years with two leap days: customers of every day of the month, and the books hold after each month.

`make clock` lives them with 300 customers; the suite takes a slice: one customer for every fifth day, over the first
leap day and a year's end.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db.models import F, Sum

from billing_admin import runs
from billing_admin.flows.gate import collect
from catalog.models import Plan
from catalog.periods import Cadence, boundary
from catalog.terms import IN_ARREARS
from customers.models import Customer, Phase, Subscription
from entitlements.models import Balance, UsageEvent
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


def live(customers: list[Customer], now: datetime) -> None:
    """A month of use by every third, the worker at its end, and most people pay."""
    using = set(Balance.objects.filter(feature__slug="calls", closed_at=None).values_list("customer_id", flat=True))
    for place, who in enumerate(customers):
        if who.pk in using and (place + now.month) % 3 == 0:
            a.overuse(who, (place * 7 + now.month * 5) % 40, of="calls", now=now - timedelta(days=1))
    runs.resets(now=now)
    runs.renewals(now=now)
    runs.resets(now=now)
    for invoice in Invoice.objects.unpaid().select_related("customer"):
        if (invoice.customer_id + now.month) % 6 and invoice.due:
            collect(invoice, amount=invoice.due, reference="bank", actor=a.STAFF, now=now)


def test_the_books_hold_after_every_month() -> None:
    """Law 1 (clamped to the month's end, counted from the anchor), Y-20, law 12."""
    customers = list(everybody())
    anchors = dict(Phase.objects.values_list("subscription__customer_id", "anchor"))
    for number in range(2, MONTHS + 2):
        now = month(number)
        live(customers, now)

        assert not runs.open_failures().exists()
        assert not Subscription.objects.due(now).exists()
        documents_add_up()
        periods_touch(anchors, now)
        use_is_billed_once()
        numbers_are_gapless()
        balances_are_sums()


def grouped(rows: Iterable[Any], *names: str) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def periods_touch(anchors: dict[int, datetime], now: datetime) -> None:
    """Each fee is billed for every period once: no gap, no overlap, boundaries counted from the anchor."""
    names = ("invoice__customer_id", "key", "item__cadence", "item__term", "starts_at", "ends_at")
    fees = InvoiceLine.objects.filter(kind=FEE).order_by("starts_at").values(*names)
    for (customer_id, _, code, term), lines in grouped(fees, *names[:4]).items():
        anchor, cadence = anchors[customer_id], Cadence.parse(code)
        periods = [(line["starts_at"], line["ends_at"]) for line in lines]
        assert periods == [
            (boundary(anchor, cadence, place), boundary(anchor, cadence, place + 1)) for place in range(len(periods))
        ]
        starts_at, ends_at = periods[-1]
        assert (
            ends_at <= now < boundary(anchor, cadence, len(periods) + 1)
            if term == IN_ARREARS
            else (starts_at <= now < ends_at)
        )


def use_is_billed_once() -> None:
    """Windows whose use stands on a document do not overlap."""
    used = (
        InvoiceLine.objects.filter(kind=USAGE).order_by("starts_at").values("subscription_id", "starts_at", "ends_at")
    )
    for lines in grouped(used, "subscription_id").values():
        assert all(before["ends_at"] <= after["starts_at"] for before, after in pairwise(lines))


def numbers_are_gapless() -> None:
    issued = grouped(Invoice.objects.order_by("id").values("customer_id", "number"), "customer_id")
    for series in InvoiceSeries.objects.all():
        numbers = [row["number"] for row in issued[series.customer_id,]]
        assert numbers == [f"{series.prefix}-{number:04}" for number in range(1, series.invoices + 1)]


def documents_add_up() -> None:
    """Every total is the sum of its lines; what is settled is the sum of what came in."""
    summed = Invoice.objects.annotate(of_lines=Sum("lines__amount"))
    assert not summed.exclude(of_lines=F("subtotal")).exists()
    paid = Invoice.objects.annotate(of_payments=Sum("payments__amount")).exclude(of_payments=None)
    assert not paid.exclude(of_payments=F("paid")).exists()
    assert not CreditEntry.objects.exists()


def balances_are_sums() -> None:
    """Windows do not overlap (one that nobody used may be missing), one is open, their use is what was reported."""
    reported = dict(UsageEvent.objects.order_by().values_list("customer_id").annotate(Sum("taken")))
    names = ("customer_id", "starts_at", "ends_at", "closed_at", "used")
    rows = Balance.objects.filter(feature__slug="calls").order_by("starts_at").values(*names)
    for (customer_id,), windows in grouped(rows, "customer_id").items():
        assert all(before["ends_at"] <= after["starts_at"] for before, after in pairwise(windows))
        assert [row["closed_at"] is None for row in windows] == [False] * (len(windows) - 1) + [True]
        assert sum(row["used"] for row in windows) == reported.get(customer_id, 0)
