"""Reading: monthly recurring revenue and its movements, from the phases of contracts and the levels in use in them.

A customer's recurring revenue at an instant is the sum over what is in force then of `Phase.monthly` and of what levels
(seats) add to it, `LevelRevenue.monthly`: no trial, nothing that waits for a payment. A month is of UTC, `[first, next
first)`; a customer moves at most once in it, from what they brought when it began to what they brought when it ended.
So opening and movements always make the closing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import connection

from catalog.periods import Cadence, boundary, count_until

MONTH = Cadence.parse("P1M")
ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


class Kind(StrEnum):
    """What became of a customer within a month."""

    NEW = "new"
    EXPANSION = "expansion"
    REACTIVATION = "reactivation"
    CONTRACTION = "contraction"
    CHURN = "churn"


class Standing(StrEnum):
    """What stands before and after the movements of a month."""

    OPENING = "opening"
    CLOSING = "closing"


def month_of(at: datetime) -> datetime:
    """When the month of an instant began."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(first: datetime, n: int = 1) -> datetime:
    return boundary(ORIGIN, MONTH, count_until(ORIGIN, MONTH, first) + n)


def until_of(first: datetime, now: datetime) -> datetime:
    """Up to when a month is told (exclusive): its end, or now where it is still running."""
    return min(month_after(first), now + INSTANT)


@dataclass(frozen=True, slots=True)
class Month:
    """Minor units of one currency. `moved` has the movements that there were; down is below zero."""

    first: datetime
    opening: int
    moved: Mapping[str, int] = field(default_factory=dict)
    customers: Mapping[str, int] = field(default_factory=dict)

    @property
    def closing(self) -> int:
        return self.opening + sum(self.moved.values())

    def amount(self, kind: str) -> int:
        if kind == Standing.OPENING:
            return self.opening
        return self.closing if kind == Standing.CLOSING else self.moved.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Moved:
    """One customer in one month, minor units."""

    customer_id: int
    opening: int
    closing: int

    @property
    def change(self) -> int:
        return self.closing - self.opening


# The statement, in parts. What counts has one address, and what a movement is called another.
BROUGHT = """
WITH counting AS NOT MATERIALIZED (
  SELECT p.id, s.customer_id, l.currency, l.kind, p.version_id, p.starts_at, p.ends_at, p.monthly
  FROM customers_phase p
  JOIN customers_subscription s ON s.id = p.subscription_id
  JOIN catalog_planversion v ON v.id = p.version_id
  JOIN catalog_plan l ON l.id = v.plan_id
  WHERE p.withdrawn_at IS NULL AND p.pending_since IS NULL AND NOT p.is_trial
    AND s.state <> 'pending_payment' AND NOT (s.state = 'scheduled' AND s.waits_for_payment)
    AND l.kind IN ('billed', 'stripe')
), brought AS NOT MATERIALIZED (
  SELECT customer_id, currency, starts_at, ends_at, monthly FROM counting WHERE monthly <> 0
  UNION ALL
  SELECT c.customer_id, c.currency, greatest(c.starts_at, r.starts_at), least(c.ends_at, r.ends_at), r.monthly
  FROM counting c JOIN customers_levelrevenue r ON r.phase_id = c.id
  WHERE r.starts_at < coalesce(c.ends_at, 'infinity') AND coalesce(r.ends_at, 'infinity') > c.starts_at
)"""
IN_FORCE = " starts_at <= %(at)s AND (ends_at IS NULL OR ends_at > %(at)s)"
OF_CURRENCY = " AND currency = %(currency)s"
EVERYBODY = ", chosen AS NOT MATERIALIZED (SELECT * FROM brought WHERE currency = %(currency)s)"
# Those of whom anything began or ended in the month: nobody else can have moved in it.
TOUCHED = """, touched AS (
  SELECT customer_id FROM counting WHERE starts_at >= %(first)s AND starts_at < %(until)s
  UNION
  SELECT customer_id FROM counting WHERE ends_at >= %(first)s AND ends_at < %(until)s
  UNION
  SELECT s.customer_id
  FROM customers_levelrevenue r
  JOIN customers_phase p ON p.id = r.phase_id
  JOIN customers_subscription s ON s.id = p.subscription_id
  WHERE (r.starts_at >= %(first)s AND r.starts_at < %(until)s) OR (r.ends_at >= %(first)s AND r.ends_at < %(until)s)
), chosen AS (
  SELECT * FROM brought WHERE currency = %(currency)s AND customer_id IN (SELECT customer_id FROM touched)
)"""
# What brings something adds it when it begins and takes it away when it ends; the running sum of a customer by month is
# what they bring.
MOVED = """, change AS (
  SELECT customer_id, date_trunc('month', d.at, 'UTC') AS month, sum(d.amount) AS change
  FROM chosen CROSS JOIN LATERAL (VALUES (starts_at, monthly), (ends_at, -monthly)) AS d(at, amount)
  WHERE d.at < %(until)s
  GROUP BY 1, 2
), course AS (
  SELECT customer_id, month, change, sum(change) OVER (PARTITION BY customer_id ORDER BY month) AS closing
  FROM change
), told AS (
  SELECT customer_id, month, change, closing, closing - change AS opening,
    max(closing) OVER (PARTITION BY customer_id ORDER BY month
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > 0 AS known
  FROM course
), moved AS (
  SELECT customer_id, month, opening::bigint, closing::bigint, change::bigint,
    CASE WHEN opening = 0 AND known THEN 'reactivation' WHEN opening = 0 THEN 'new' WHEN closing = 0 THEN 'churn'
      WHEN change > 0 THEN 'expansion' ELSE 'contraction' END AS kind
  FROM told WHERE change <> 0
)"""
OF_MONTHS = (BROUGHT, EVERYBODY, MOVED, " SELECT month, kind, sum(change)::bigint, count(*) FROM moved GROUP BY 1, 2")
OF_ONE_MONTH = """ SELECT customer_id, opening, closing FROM moved
WHERE month = %(first)s AND kind = %(kind)s AND (%(before)s::bigint IS NULL OR customer_id < %(before)s)
ORDER BY customer_id DESC LIMIT %(most)s"""
ROWS = (BROUGHT, TOUCHED, MOVED, OF_ONE_MONTH)
SUM_OF_ROWS = (
    BROUGHT,
    TOUCHED,
    MOVED,
    " SELECT coalesce(sum(change), 0)::bigint, count(*) FROM moved WHERE month = %(first)s AND kind = %(kind)s",
)


def months(currency: str, *, now: datetime, most: int) -> list[Month]:
    """The last months with their movements, the running one last; one query over the phases of all time."""
    found: dict[datetime, dict[str, tuple[int, int]]] = {}
    for month, kind, change, customers in _rows(OF_MONTHS, currency=currency, until=now + INSTANT):
        found.setdefault(month.astimezone(UTC), {})[kind] = (change, customers)
    first = month_after(month_of(now), 1 - most)
    opening = sum(change for month, kinds in found.items() if month < first for change, _ in kinds.values())
    told = []
    for n in range(most):
        kinds = found.get(month_after(first, n), {})
        moved = {kind: change for kind, (change, _) in kinds.items()}
        told.append(Month(month_after(first, n), opening, moved, {kind: count for kind, (_, count) in kinds.items()}))
        opening = told[-1].closing
    return told


def movements(
    currency: str, first: datetime, kind: str, *, now: datetime, before: int | None = None, most: int | None = None
) -> list[Moved]:
    """The customers who moved like this in a month, the newest customer first; `before` goes on from a key."""
    values = {"currency": currency, "first": first, "until": until_of(first, now), "kind": kind}
    rows = _rows(ROWS, **values, before=before, most=most)
    return [Moved(*row) for row in rows]


def moved_in(currency: str, first: datetime, kind: str, *, now: datetime) -> tuple[int, int]:
    """How much moved like this in a month (minor units), and how many customers."""
    [(change, customers)] = _rows(SUM_OF_ROWS, currency=currency, first=first, until=until_of(first, now), kind=kind)
    return change, customers


def _rows(parts: Sequence[str], **values: Any) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("".join(parts), values)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found


# What is in force ----------------------------------------------------------------------------------------------------


HELD = (
    BROUGHT,
    " SELECT customer_id, sum(monthly)::bigint FROM brought WHERE",
    IN_FORCE,
    OF_CURRENCY,
    """ AND (%(before)s::bigint IS NULL OR customer_id < %(before)s)
GROUP BY customer_id ORDER BY customer_id DESC LIMIT %(most)s""",
)
TOTAL = (BROUGHT, " SELECT coalesce(sum(monthly), 0)::bigint FROM brought WHERE", IN_FORCE, OF_CURRENCY)
# Beside the sums how many contracts follow Stripe at a price that depends on how many there are: it is not known here.
TOTALS = (
    BROUGHT,
    ", present AS (SELECT currency, monthly, 0 AS unknown FROM brought WHERE",
    IN_FORCE,
    " UNION ALL SELECT currency, 0, 1 FROM counting WHERE",
    IN_FORCE,
    """ AND kind = 'stripe' AND NOT EXISTS (
    SELECT 1 FROM catalog_planitem i WHERE i.version_id = counting.version_id AND i.amount IS NOT NULL))
SELECT currency, sum(monthly)::bigint, sum(unknown)::bigint FROM present GROUP BY currency ORDER BY 2 DESC, 1""",
)


def held(
    currency: str, until: datetime, *, before: int | None = None, most: int | None = None
) -> list[tuple[int, int]]:
    """`(customer, minor units a month)` just before an instant, the newest customer first."""
    found = _rows(HELD, currency=currency, at=until - INSTANT, before=before, most=most)
    return [(customer_id, brings) for customer_id, brings in found]


def monthly_total(currency: str, until: datetime) -> int:
    """Recurring revenue just before an instant, minor units."""
    [(found,)] = _rows(TOTAL, currency=currency, at=until - INSTANT)
    total: int = found
    return total


@dataclass(frozen=True, slots=True)
class Present:
    """Of one currency: minor units a month, and how many contracts are left out: Stripe alone knows their price."""

    brings: int
    left_out: int


def present(now: datetime) -> dict[str, Present]:
    """What is in force in each currency that has anything; what is sold in most comes first."""
    return {currency: Present(brings, left_out) for currency, brings, left_out in _rows(TOTALS, at=now)}


def by_currency(now: datetime) -> dict[str, int]:
    """Recurring revenue now, in each currency that has any; what is sold in most comes first."""
    return {currency: found.brings for currency, found in present(now).items() if found.brings}
