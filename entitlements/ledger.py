"""Reading: the ledger of one balance, whose sum is the number on the page."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from entitlements.events import opened_at
from entitlements.models import CLOCKS_DIFFER, Balance, BalanceEntry


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """`amount` is what the line adds to the balance (use is negative); None grants without a limit."""

    at: datetime
    kind: str
    title: str
    amount: Decimal | None
    after: Decimal | None
    who: str = ""
    why: str = ""


def ledger(balance: Balance) -> list[LedgerLine]:
    """Grants, edits (who, why), use per day and moves of one balance, oldest first, with the running sum."""
    raw: list[tuple[datetime, str, str, Decimal | None, str, str]] = []
    for entry in lines_of(balance):
        who = entry.operation.actor if entry.operation else ""
        why = entry.operation.reason if entry.operation else ""
        raw.append((entry.at, entry.kind, BalanceEntry.Kind(entry.kind).label, entry.amount, who, why))
    for day, used in _use_by_day(balance):
        raw.append((day, "used", "Used", -used, "", ""))
    raw.sort(key=lambda line: line[0])
    lines, after, granted, unlimited = [], Decimal(0), Decimal(0), False
    for at, kind, title, amount, who, why in raw:
        if kind in (BalanceEntry.Kind.GRANT, BalanceEntry.Kind.REGRANT):
            unlimited = amount is None
            # Without a limit nothing is granted; what is granted afterwards begins from nothing again.
            granted, after = (Decimal(0), after - granted) if amount is None else (granted + amount, after)
        after += amount or Decimal(0)
        lines.append(LedgerLine(at, kind, title, amount, None if unlimited else after, who, why))
    return lines


def lines_of(balance: Balance) -> list[BalanceEntry]:
    """The lines of a balance that are not use, in the order in which they were written; entries may be prefetched.

    That it was opened with an allowance, and closed, the row says itself, unless it was an act that is on record.
    """
    known = "entries" in getattr(balance, "_prefetched_objects_cache", {})
    lines = list(balance.entries.all() if known else balance.entries.select_related("operation"))
    kinds, same = {line.kind for line in lines}, {"balance": balance, "item_id": balance.item_id}
    if BalanceEntry.Kind.GRANT not in kinds:
        opening = {"amount": balance.granted, "at": balance.opened_at}
        lines.insert(0, BalanceEntry(kind=BalanceEntry.Kind.GRANT, **opening, **same))
    if balance.closed_at is not None and BalanceEntry.Kind.CLOSE not in kinds:
        closing = {"amount": Decimal(0), "at": balance.closed_at}
        lines.append(BalanceEntry(kind=BalanceEntry.Kind.CLOSE, **closing, **same))
    return lines


# A day of which some events are in the archive, and others came in too late for that, is one line.
_USE_BY_DAY = """
SELECT min(at), sum(used) FROM (
  SELECT e.at, (e.at AT TIME ZONE 'UTC')::date AS day, part.amount AS used
    FROM entitlements_usageevent e CROSS JOIN unnest(e.balance_ids, e.amounts) AS part (balance_id, amount)
    WHERE e.customer_id = %(customer)s AND e.feature_id = %(feature)s AND e.recorded_at >= %(since)s
      AND e.balance_ids @> ARRAY[%(balance)s]::bigint[] AND part.balance_id = %(balance)s AND e.voided_at IS NULL
  UNION ALL
  SELECT at, day, used FROM entitlements_archiveduse WHERE balance_id = %(balance)s
) AS uses GROUP BY day ORDER BY day
"""


def _use_by_day(balance: Balance) -> list[tuple[datetime, Decimal]]:
    """Units per day (UTC), each with the instant of its first event; what was voided counts nowhere."""
    values: dict[str, Any] = {
        "customer": balance.customer_id,
        "feature": balance.feature_id,
        "balance": balance.pk,
        "since": opened_at(balance) - CLOCKS_DIFFER,
    }
    with connection.cursor() as cursor:
        cursor.execute(_USE_BY_DAY, values)
        return [(at, used) for at, used in cursor.fetchall()]
