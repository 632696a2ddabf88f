"""The billing run beside its floor: the same rows, written with COPY or `bulk_create`, a transaction per batch.

The floor reads nothing, decides nothing and asks nobody: it is handed rows that the run prepared.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Model
from psycopg.types.json import Jsonb

from bench import world
from bench.report import Report
from billing_admin import runs
from billing_admin.flows.billing_run import WRITTEN, Renewal, prepare
from customers.models import Subscription
from entitlements.models import Balance
from invoicing.models import InvoiceSeries

Writer = Callable[[Sequence[Renewal]], None]


def billing_run(report: Report, made: world.World, first: int, due: int) -> None:
    """Renewals of a fee and use, by one worker and by two, for a tenth of what is due and for all of it."""
    report.title(f"Billing run, {due:,} due, two lines each; its floor writes the same rows and does nothing else")
    few = due // 10
    blocks = iter(range(first, first + 10 * due, due))
    floors = {}
    for name, write in (("bulk_create", by_bulk_create), ("COPY", by_copy)):
        floors[name] = floor(made, next(blocks), few, write)
        report.add(f"floor by {name}, {few:,}", floors[name], "/s")
    small = by_workers(made, next(blocks), few, workers=1)
    large = by_workers(made, next(blocks), due, workers=1)
    two = by_workers(made, next(blocks), due, workers=2)
    report.add(f"one worker, {few:,} due", small, "/s", floor=floors["COPY"], against="COPY")
    report.add(f"one worker, {due:,} due", large, "/s", floor=floors["COPY"], against="COPY")
    report.add("one worker, beside bulk_create", large, "/s", floor=floors["bulk_create"], against="bulk_create")
    report.add("ten times as many", large, "/s", floor=small, against=f"with {few:,} due")
    report.add("two workers", two, "/s", floor=large, against="one worker")


def make_due(made: world.World, first: int, number: int) -> range:
    numbers = range(first, first + number)
    world.copy(made, numbers.start, numbers.stop - 1)
    world.settle_down()
    world.make_renewals_due(numbers)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    return numbers


def by_workers(made: world.World, first: int, number: int, *, workers: int) -> float:
    make_due(made, first, number)
    connection.close()
    fork = multiprocessing.get_context("fork")
    began = time.perf_counter()
    processes = [fork.Process(target=_pass, args=(made.now,)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    spent = time.perf_counter() - began
    left = Subscription.objects.due(made.now).count()
    assert left == 0, f"{left} of {number} were not renewed"
    return number / spent


def _pass(now: datetime) -> None:
    this = runs.renewals(now=now)
    assert this.failed == 0, "a bench of failures would be fast"


def floor(made: world.World, first: int, number: int, write: Writer) -> float:
    """Customers per second, for rows that were prepared before the clock runs."""
    numbers, spent = make_due(made, first, number), 0.0
    for batch in _batches(numbers):
        prepared = list(prepare(batch, now=made.now).values())
        assert len(prepared) == len(batch), "only ordinary renewals are compared"
        began = time.perf_counter()
        with transaction.atomic():
            _update(prepared, made.now)
            write(prepared)
        spent += time.perf_counter() - began
    return number / spent


def _batches(numbers: range) -> Iterator[list[int]]:
    for start in range(numbers.start, numbers.stop, runs.BATCH):
        yield list(range(start, min(start + runs.BATCH, numbers.stop)))


def by_bulk_create(prepared: Sequence[Renewal]) -> None:
    for model in WRITTEN:
        model._default_manager.bulk_create(_rows(prepared, model))


def by_copy(prepared: Sequence[Renewal]) -> None:
    with connection.cursor() as cursor:
        for model in WRITTEN:
            columns = model._meta.concrete_fields
            names = ", ".join(f'"{column.column}"' for column in columns)
            with cursor.copy(f"COPY {model._meta.db_table} ({names}) FROM STDIN") as copy:
                for row in _rows(prepared, model):
                    copy.write_row([_value(getattr(row, column.attname)) for column in columns])


def _rows(prepared: Sequence[Renewal], model: type[Model]) -> list[Model]:
    return [row for renewal in prepared for row in renewal.rows[model]]


def _value(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict | list) else value


def _update(prepared: Sequence[Renewal], now: datetime) -> None:
    """The rows that a renewal changes in place, in three statements."""
    closed = [balance_id for renewal in prepared for balance_id in renewal.closed]
    contracts = [renewal.subscription for renewal in prepared]
    Balance.objects.filter(pk__in=closed).update(closed_at=now)
    Subscription.objects.bulk_update(contracts, ["period_starts_at", "period_ends_at", "bills_at"])
    InvoiceSeries.objects.bulk_update([renewal.series for renewal in prepared if renewal.series], ["invoices"])
