"""Verb: move whole months of events out of the database, into files that stay readable without us.

What a balance gave to the events of a day stays in the database, so every ledger sums to its number as before. All
of it is one transaction, and its last statement drops the month: whoever is killed before has changed nothing but a
file that the next pass writes again.
"""

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO

from dateutil.relativedelta import relativedelta
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Exists, OuterRef, Q
from psycopg.sql import SQL, Identifier

from catalog.charges import PERCENTAGE
from catalog.models import Meter
from customers.models import Customer
from entitlements.models import ArchivedMonth, Balance, UsageEvent
from entitlements.partitions import TABLE, begins, ends, months, patience, table_of

ARCHIVERS = 7_100_000_000_000_000_002
# Whoever erases may have read the clock a while before it was written.
A_PASS = timedelta(days=1)
# What such meters make of their events stands on the balance; others read all events of a window when one is corrected.
SUMMED = (Meter.Aggregation.SUM, Meter.Aggregation.COUNT)

_SUM = """
INSERT INTO entitlements_archiveduse (balance_id, day, at, used, events)
SELECT part.balance_id, (e.at AT TIME ZONE 'UTC')::date, min(e.at), sum(part.amount), count(*)
  FROM {month} e CROSS JOIN unnest(e.balance_ids, e.amounts) AS part (balance_id, amount)
  WHERE e.voided_at IS NULL GROUP BY 1, 2
ON CONFLICT (balance_id, day) DO UPDATE SET at = least(entitlements_archiveduse.at, EXCLUDED.at),
  used = entitlements_archiveduse.used + EXCLUDED.used, events = entitlements_archiveduse.events + EXCLUDED.events
"""
_ROWS = """
COPY (
  SELECT e.id AS number, e.public_id AS id, c.public_id AS customer, f.slug AS feature, e.name, e.amount,
    e.taken AS counted, e.reported, e.at, e.recorded_at, e.key, e.mode, e.properties, e.balance_ids, e.amounts,
    e.voided_at
  FROM {month} e JOIN customers_customer c ON c.id = e.customer_id JOIN catalog_feature f ON f.id = e.feature_id
  ORDER BY e.id
) TO STDOUT (FORMAT csv, HEADER)
"""


class StillRead(ValidationError):
    """An open window prices each event by itself, or its meter has to see them all, so its events have to stay."""

    def __init__(self, month: date, balance: Balance):
        super().__init__(
            f"The events of {month:%B %Y} stay: balance {balance.pk} still counts them one by one.",
            code="still_read",
        )


def due_months(*, now: datetime, keep: int) -> list[date]:
    """The months that ended at least `keep` months ago and are still in the database, oldest first."""
    return [month for month in months() if ends(month) + relativedelta(months=keep) <= now]


@transaction.atomic
def archive_month(month: date, *, folder: Path, now: datetime) -> ArchivedMonth | None:
    """Move the events of a month into a file of the folder; None when somebody else has, or is at it.

    Raises `StillRead`, and `OperationalError` when the tables are too busy to be changed; then nothing has changed.
    """
    table = Identifier(table_of(month))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [ARCHIVERS])
        [ours] = cursor.fetchone() or (False,)
        if not ours or month not in months():
            return None
        with patience(cursor):
            cursor.execute(SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(table))
        cursor.execute(SQL(_SUM).format(month=table))
        _require_no_reader(month)
        file = folder / _name(month)
        with _replaced(file) as out:
            events = _copy(cursor, table, out)
        with patience(cursor):
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(SQL("ALTER TABLE {} DETACH PARTITION {}").format(Identifier(TABLE), table))
            cursor.execute(SQL("DROP TABLE {}").format(table))
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return ArchivedMonth.objects.create(
        month=month, file=file.name, events=events, sha256=_digest(file), archived_at=now, written_at=now
    )


def _name(month: date) -> str:
    """A month whose events came in again, from an import, has another file."""
    before = ArchivedMonth.objects.filter(month=month).count()
    return f"usage-{month:%Y-%m}{f'-{before + 1}' if before else ''}.csv.gz"


def _require_no_reader(month: date) -> None:
    """Open windows that read their events again: priced one by one, or by a meter that sees them all at once."""
    events = UsageEvent.objects.filter(recorded_at__gte=begins(month), recorded_at__lt=ends(month))
    own = events.filter(customer=OuterRef("customer"), feature=OuterRef("feature"), at__gte=OuterRef("starts_at"))
    meters = Q(feature__meter__isnull=False) & ~Q(feature__meter__aggregation__in=SUMMED)
    reading = Balance.objects.filter(
        Q(item__price__model=PERCENTAGE) | meters, closed_at=None, starts_at__lt=ends(month)
    )
    found = reading.filter(Exists(own)).first()
    if found is not None:
        raise StillRead(month, found)


def _copy(cursor: CursorWrapper, table: Identifier, out: IO[bytes]) -> int:
    """The rows as CSV, a piece at a time. Returns how many."""
    with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed:
        with cursor.copy(SQL(_ROWS).format(month=table)) as copy:
            for piece in copy:
                packed.write(piece)
    return int(cursor.rowcount)


# Who was erased is erased in the archive, too -------------------------------------------------------------------------


def to_scrub() -> list[tuple[ArchivedMonth, list[str]]]:
    """Files that were written before somebody was erased, with the public ids of those customers."""
    found = []
    for row in ArchivedMonth.objects.order_by("month", "id"):
        erased = Customer.objects.filter(erased_at__gt=row.written_at - A_PASS).values_list("public_id", flat=True)
        if erased:
            found.append((row, list(erased)))
    return found


def scrub(row: ArchivedMonth, customers: Iterable[str], *, folder: Path, now: datetime) -> None:
    """Take keys and properties of these customers out of a file. Safe to run twice."""
    file, erased = folder / row.file, set(customers)
    with gzip.open(file, "rt", newline="", encoding="utf-8") as before, _replaced(file) as out:
        with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed:
            lines = csv.DictReader(before)
            with io.TextIOWrapper(packed, newline="", encoding="utf-8") as text:
                writer = csv.DictWriter(text, lines.fieldnames or [], lineterminator="\n")
                writer.writeheader()
                for line in lines:
                    writer.writerow(line | {"key": "", "properties": "{}"} if line["customer"] in erased else line)
    row.sha256, row.written_at = _digest(file), now
    row.save(update_fields=["sha256", "written_at"])


@contextmanager
def _replaced(file: Path) -> Iterator[IO[bytes]]:
    """Write a file beside the one that stands there, and put it in its place once it is on disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.part")
    with draft.open("wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
