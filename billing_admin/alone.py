"""One pass at a time at one thing, so that a long one does not fill every worker, tick after tick.

It saves work, no more: what keeps a row from being done twice is the lock of its customer. A pass that dies lets go
with its connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from django.db import connection


class Kind(IntEnum):
    """Which table a locked number is of."""

    MIGRATION = 71
    BATCH = 72


@contextmanager
def alone_at(kind: Kind, pk: int) -> Iterator[bool]:
    """Whether no other pass is at it; kept from others until the end of the block."""
    # Two 32-bit numbers make one lock; ids beyond them wrap around, and then share a lock at worst.
    keys = [int(kind), pk % 2**31]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s::int, %s::int)", keys)
        (is_ours,) = cursor.fetchone()
    try:
        yield is_ours
    finally:
        if is_ours:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s::int, %s::int)", keys)
