"""Reading: the ledger of one balance, whose sum is the number on the page."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from entitlements.models import Balance, BalanceEntry, UsageEvent


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
    for entry in balance.entries.select_related("operation"):
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


def _use_by_day(balance: Balance) -> list[tuple[datetime, Decimal]]:
    days: dict[date, tuple[datetime, Decimal]] = {}
    events = UsageEvent.objects.filter(
        customer_id=balance.customer_id, feature_id=balance.feature_id, balance_ids__contains=[balance.pk]
    ).order_by("at")
    for at, balance_ids, amounts in events.values_list("at", "balance_ids", "amounts"):
        part = sum((a for i, a in zip(balance_ids, amounts, strict=True) if i == balance.pk), Decimal(0))
        day = at.astimezone(UTC).date()
        _, before = days.get(day, (at, Decimal(0)))
        days[day] = (at, before + part)
    return list(days.values())
