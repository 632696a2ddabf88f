"""Resets of balances whose window has ended, all due at once, beside the same rows written without any decision.

The pass is the clockwork's own, on the embedded PostgreSQL with fsync on: everything is on disk when the clock stops.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from django.db import connection, transaction

from bench import world
from bench.report import Report
from billing_admin import runs
from customers.models import Customer
from entitlements.astray import astray
from entitlements.models import Balance
from entitlements.reset_many import CHUNK

# Out of the way of every other copy.
FIRST = 3_000_001

_DUE = """
CREATE TEMPORARY TABLE due ON COMMIT DROP AS
  SELECT id, customer_id, feature_id, source, subscription_id, plan_id, item_id, ends_at, granted
  FROM entitlements_balance WHERE closed_at IS NULL AND ends_at <= %s ORDER BY ends_at, customer_id LIMIT %s
"""
_CLOSE = "UPDATE entitlements_balance b SET closed_at = %s FROM due WHERE b.id = due.id"
_OPEN = """
INSERT INTO entitlements_balance (customer_id, feature_id, source, subscription_id, plan_id, item_id, starts_at,
  ends_at, granted, opened_at, label, adjusted, used, withheld, priority)
SELECT customer_id, feature_id, source, subscription_id, plan_id, item_id, ends_at, ends_at + interval '1 month',
  granted, %s, '', 0, 0, 0, 0 FROM due
"""


def resets(report: Report) -> None:
    """So many windows of the default product, one customer each; and of contracts, two each."""
    number = 10_000 if report.quick else 100_000
    now = _now()
    templates = {key: Customer.objects.get(customer_id=f"template-{key}") for key in ("plan", "default")}
    made = world.World(templates["plan"], templates["default"], secret="", now=now)
    report.title(
        f"Resets, {number:,} windows due; beside them the same rows, written by two statements that ask nothing"
    )
    print(f"  the machine's load before: {os.getloadavg()[0]:.1f}")
    _pass(now)  # what other measurements left
    default = range(FIRST, FIRST + number)
    world.copy(made, default.start, default.stop - 1, on_default=True)
    world.settle_down()
    floor = _measured(lambda: world.make_resets_due(default), now, number, partial(_floor, now))
    report.add(f"floor, {number:,} windows", floor, "s")
    for workers, name in ((1, "one worker"), (2, "two workers")):
        spent = _measured(lambda: world.make_resets_due(default), now, number, partial(_by, workers, now))
        report.add(f"{name}, {number:,} customers", spent, "s", floor=floor, against="floor")
    contracts = range(default.stop, default.stop + number // 2)
    world.copy(made, contracts.start, contracts.stop - 1)
    world.settle_down()
    spent = _measured(lambda: world.make_renewals_due(contracts), now, number, partial(_by, 1, now))
    report.add(f"one worker, {len(contracts):,} contracts", spent, "s", floor=floor, against="floor")
    assert not astray(), "balances contradict the catalog"


def _now() -> datetime:
    """The instant of the database that the copies count from."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('second', now())")
        now: datetime = cursor.fetchone()[0]
    return now


def _measured(make_due: Callable[[], None], now: datetime, number: int, run: Callable[[], None]) -> float:
    """Seconds that it takes to reset everything that was made due."""
    make_due()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")
    due = Balance.objects.due(now).count()
    assert due == number, f"{due} are due instead of {number}"
    began = time.perf_counter()
    run()
    spent = time.perf_counter() - began
    assert not Balance.objects.due(now).exists(), "some were left"
    return spent


def _floor(now: datetime) -> None:
    left = 1
    while left:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_DUE, [now, CHUNK])
            left = cursor.rowcount
            cursor.execute(_CLOSE, [now])
            cursor.execute(_OPEN, [now])


def _by(workers: int, now: datetime) -> None:
    if workers == 1:
        _pass(now)
        return
    connection.close()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_pass, args=(now,)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _pass(now: datetime) -> None:
    this = runs.resets(now=now)
    assert this.failed == 0, "a bench of failures would be fast"
