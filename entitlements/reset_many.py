"""Verb: reset the windows that are like most others, thousands of customers in one statement.

Most windows that end are followed by the same window of the same item: the contract is the one that it was, nothing
rolls over, no override has a say. For those there is nothing to compute that SQL could not, and a statement writes in
milliseconds what takes a verb per customer minutes. Whatever is out of the ordinary is left for `reset_due`, which
writes the very same rows for these windows, too (the tests compare them).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.db import DataError, IntegrityError, connection, transaction

from catalog.periods import NEVER, RESETS, Cadence, window
from catalog.terms import CALENDAR, IN_ADVANCE
from customers.contracts import MULTIPLYING
from customers.holdings import default_plan
from customers.states import LIVE, SubscriptionState
from entitlements.models import Balance
from entitlements.reset import Reset

log = structlog.get_logger("entitlements.reset_many")

# Customers in one transaction: so many that it is fast, so few that whoever waits for one of them does not wait long.
CHUNK = 10_000

# Where a walk through the windows that are due has come: the end of a window, and its customer.
Place = tuple[datetime | str, int]
START: Place = ("-infinity", 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction of a walk did, and the place it came to; None when there is nothing behind it."""

    reset: Reset
    upto: Place | None


def reset_many(*, now: datetime, after: Place = START, most: int = CHUNK) -> Step:
    """Reset what is simple among the next windows that are due, at most `most` of them, in order of their ends.

    Several walks share the work: each passes by the customers that another one holds. One that is killed has either
    done all of a step or nothing.
    """
    with transaction.atomic():
        held, upto = _hold(now, after, most)
        reset = _reset(held, now) if held else Reset()
    return Step(reset, upto)


@dataclass(frozen=True, slots=True)
class Held:
    """Customers who are held, and where their windows are counted from: arrays as PostgreSQL writes them, since nobody
    but PostgreSQL reads them again."""

    ids: str
    anchors: str

    def halves(self) -> "list[Held]":
        """Two of about equal size; one customer cannot be halved."""
        ids, anchors = (array.strip("{}").split(",") for array in (self.ids, self.anchors))
        middle = len(ids) // 2
        parts = [slice(middle), slice(middle, None)] if middle else []
        return [Held(f"{{{','.join(ids[part])}}}", f"{{{','.join(anchors[part])}}}") for part in parts]


# Locked in a statement of their own: the next one sees what was committed before they were.
_HOLD = """
WITH waiting AS MATERIALIZED (
  SELECT ends_at, customer_id FROM entitlements_balance
  WHERE closed_at IS NULL AND ends_at <= %(now)s AND (ends_at, customer_id) > (%(end)s::timestamptz, %(customer)s)
  ORDER BY ends_at, customer_id LIMIT %(most)s
), held AS (
  SELECT id, coalesce(usage_started_at, created_at) AS anchor FROM customers_customer
  WHERE id IN (SELECT customer_id FROM waiting) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), last AS (
  SELECT ends_at, customer_id FROM waiting ORDER BY ends_at DESC, customer_id DESC LIMIT 1
)
SELECT last.ends_at, last.customer_id, all_.ids, all_.anchors, set_config('TimeZone', 'UTC', true)
FROM last, (SELECT array_agg(id)::text AS ids, array_agg(anchor)::text AS anchors FROM held) AS all_
"""


def _hold(now: datetime, after: Place, most: int) -> tuple[Held | None, Place | None]:
    """Customers of the next windows that are due, held as `provision.hold` does for who opens windows alone."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, {"now": now, "end": after[0], "customer": after[1], "most": most})
        found = cursor.fetchone()
    if found is None:
        return None, None
    ends_at, customer, ids, anchors, _ = found
    return (Held(ids, anchors) if ids else None), (ends_at, customer)


def _reset(held: Held, now: datetime) -> Reset:
    """Reset what is simple of customers who are held; whom the database refuses is left for `reset_due` to name."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_STATEMENT, _values(held, now))
            return Reset(*cursor.fetchone())
    except (IntegrityError, DataError) as error:
        halves = held.halves()
        if not halves:
            log.warning("a reset was refused", customer=held.ids, error=str(error))
            return Reset()
    one, other = (_reset(half, now) for half in halves)
    return Reset(one.customers + other.customers, one.closed + other.closed)


CADENCES = """
unnest(%(resets)s::text[], %(months)s::int[], %(steps)s::interval[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
  AS cadence (reset, months, step, calendar_begins, calendar_ends)
"""

# `{source}` with the window of each row that contains now, as `catalog.periods.window` has it, as `begins` and `ends`:
# the n-th boundary is counted from the anchor, so that adding months clamps the day once. Its rows say the `anchor`,
# the `reset_anchor` and the columns of `CADENCES`. Without OFFSET 0 the number of the window would be computed again
# wherever it is used. Months are those of UTC, since `_HOLD` says so.
WINDOWS = """
SELECT w.*, CASE WHEN reset_anchor = %(on_calendar)s THEN calendar_begins ELSE anchor + n * step END AS begins,
  CASE WHEN reset_anchor = %(on_calendar)s THEN calendar_ends ELSE anchor + (n + 1) * step END AS ends
FROM (
  SELECT v.*, least_n - CASE WHEN anchor + least_n * step > %(now)s THEN 1 ELSE 0 END AS n FROM (
    SELECT u.*, floor(CASE WHEN months = 0 THEN date_part('epoch', %(now)s - anchor) / date_part('epoch', step)
      ELSE (%(month)s - 12 * date_part('year', anchor) - date_part('month', anchor)) / months END) AS least_n
    FROM {source} u OFFSET 0
  ) v OFFSET 0
) w
"""


def window_values(now: datetime) -> dict[str, Any]:
    """What `CADENCES` and `WINDOWS` are filled in with."""
    cadences = {reset: Cadence.parse(reset) for reset in RESETS if reset != NEVER}
    on_calendar = [window(reset, now, now, on_calendar=True) for reset in cadences]
    utc = now.astimezone(UTC)
    return {
        "now": now,
        "month": 12 * utc.year + utc.month,
        "resets": list(cadences),
        "months": [cadence.months for cadence in cadences.values()],
        "steps": [f"{c.months} months {c.span // timedelta(hours=1)} hours" for c in cadences.values()],
        "begins": [period.starts_at for period in on_calendar],
        "ends": [period.ends_at for period in on_calendar],
        "on_calendar": CALENDAR,
    }


# `due` is held in the order in which everybody locks balances. `plain` is what an item promised and nothing else has a
# say in, neither an override nor a level that has to be counted until now. `simple` is what goes on as it is: under
# the phase that was in force when the window began (phases of a contract do not overlap, so nothing was switched
# since), or under the default product of who has no contract. What it was granted is granted again, so it has to be
# what the item promises; only of bought units the phase knows the number.
_STATEMENT = f"""
WITH due AS MATERIALIZED (
  SELECT id, customer_id, feature_id, source, subscription_id, plan_id, item_id, starts_at, ends_at, granted,
    withheld_by_id
  FROM entitlements_balance
  WHERE customer_id = ANY(%(customers)s::bigint[]) AND closed_at IS NULL AND ends_at <= %(now)s
  ORDER BY id FOR NO KEY UPDATE
), plain AS MATERIALIZED (
  SELECT due.*, cadence.*, i.version_id, i.reset_anchor, i.term = %(in_advance)s AND i.price IS NOT NULL AS is_bought,
    CASE WHEN NOT i.unlimited THEN coalesce(i.included, 0) END AS included, c.usage_anchor
  FROM due
  JOIN catalog_planitem i ON i.id = due.item_id
  JOIN {CADENCES} ON cadence.reset = i.reset
  JOIN unnest(%(customers)s::bigint[], %(anchors)s::timestamptz[]) AS c (id, usage_anchor) ON c.id = due.customer_id
  WHERE due.source = ANY(%(promised)s) AND due.withheld_by_id IS NULL
    AND i.rollover IS NULL AND NOT i.keeps_overage
    AND NOT EXISTS (
      SELECT 1 FROM entitlements_featureoverride o
      WHERE o.customer_id = due.customer_id AND o.feature_id = due.feature_id
        AND (o.stops_at IS NULL OR o.stops_at >= due.ends_at))
    AND NOT EXISTS (
      SELECT 1 FROM entitlements_balance level
      WHERE level.customer_id = due.customer_id AND level.feature_id = due.feature_id
        AND level.closed_at IS NULL AND level.level_units IS NOT NULL)
), simple AS (
  SELECT b.*, %(plan_item)s AS next_source,
    CASE WHEN follows THEN p.anchor ELSE b.usage_anchor END AS anchor,
    CASE WHEN follows THEN s.started_at END AS since
  FROM plain b
  JOIN customers_subscription s ON s.customer_id = b.customer_id
  JOIN customers_phase p ON p.subscription_id = s.id AND p.version_id = b.version_id
  JOIN catalog_planversion v ON v.id = p.version_id
  JOIN catalog_plan plan ON plan.id = v.plan_id
  CROSS JOIN LATERAL (SELECT plan.kind = ANY(%(multiplying)s) AS follows) AS k
  WHERE b.subscription_id IS NOT DISTINCT FROM CASE WHEN follows THEN s.id END
    AND b.plan_id IS NOT DISTINCT FROM CASE WHEN NOT follows THEN plan.id END
    AND s.state = ANY(%(goes_on)s) AND NOT s.add_on AND (s.ends_at IS NULL OR s.ends_at > %(now)s)
    AND p.withdrawn_at IS NULL AND p.pending_since IS NULL AND NOT p.is_trial
    AND p.starts_at <= b.starts_at AND (p.ends_at IS NULL OR p.ends_at > %(now)s)
    AND (b.is_bought
      OR b.granted IS NOT DISTINCT FROM b.included * CASE WHEN follows THEN p.quantity ELSE 1 END)
  UNION ALL
  SELECT b.*, %(default)s, b.usage_anchor, NULL
  FROM plain b
  WHERE b.plan_id = %(default_plan)s AND b.version_id = %(default_version)s
    AND b.granted IS NOT DISTINCT FROM b.included
    AND NOT EXISTS (
      SELECT 1 FROM customers_subscription s JOIN customers_phase p ON p.subscription_id = s.id
      WHERE s.customer_id = b.customer_id AND s.state = ANY(%(live)s) AND p.withdrawn_at IS NULL
        AND p.pending_since IS NULL AND p.starts_at <= %(now)s AND (p.ends_at IS NULL OR p.ends_at > %(now)s))
), next AS (
  SELECT id, next_source, greatest(begins, ends_at, since) AS starts_at, ends
  FROM ({WINDOWS.format(source="simple")}) AS windows
), closed AS (
  UPDATE entitlements_balance b SET closed_at = %(now)s FROM next WHERE b.id = next.id
  RETURNING b.customer_id, b.feature_id, b.subscription_id, b.plan_id, b.item_id, b.granted, next.next_source,
    next.starts_at, next.ends
), opened AS (
  -- It reads what was closed, so that no two windows of a bucket are open at once, not even for a moment.
  INSERT INTO entitlements_balance (customer_id, feature_id, subscription_id, plan_id, item_id, granted, source,
    starts_at, ends_at, opened_at, label, adjusted, used, withheld, priority)
  SELECT closed.*, %(now)s, '', 0, 0, 0, 0 FROM closed
)
SELECT count(DISTINCT customer_id), count(*) FROM closed
"""  # noqa: S608  our own text


def _values(held: Held, now: datetime) -> dict[str, Any]:
    default = default_plan()
    return window_values(now) | {
        "customers": held.ids,
        "anchors": held.anchors,
        "promised": [Balance.Source.PLAN_ITEM.value, Balance.Source.DEFAULT.value],
        "plan_item": Balance.Source.PLAN_ITEM.value,
        "default": Balance.Source.DEFAULT.value,
        "in_advance": IN_ADVANCE,
        "multiplying": list(MULTIPLYING),
        "live": [state.value for state in LIVE],
        "goes_on": [state.value for state in LIVE if state != SubscriptionState.TRIALING],
        "default_plan": default.pk if default else None,
        "default_version": default.current_version_id if default else None,
    }
