"""`python -m bench.growth [--millions 1 10] [--layout]`: does anything get slower while events pile up?

Fills twelve months with events, set-based, and measures at each size what people and programs wait for; each figure
stands beside the same at the first size. `--layout` compares ways to keep a million events.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from psycopg import sql

from bench import places
from launch import servers
from launch.places import Places

PLACES = Places(places.ROOT / "var", database="bench_growth")
MILLION = 1_000_000
ROUNDS, TIMES = 5, 60
A_YEAR = timedelta(days=365)


def main() -> int:
    options = arguments()
    start()
    import django

    django.setup()
    from bench.report import Report

    report = Report(quick=False)
    if options.layout:
        layouts(report)
    else:
        growth(report, options.millions, options.customers)
    report.write(places.ROOT / "var" / "growth.json")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10], help="how many events to measure at")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--layout", action="store_true", help="compare layouts of a million events instead")
    return parser.parse_args()


def start() -> None:
    postgres = servers.Postgres(PLACES)
    servers.start([postgres, servers.Valkey(PLACES)], PLACES)
    with postgres.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(PLACES.database)))
    postgres.make_database()
    os.environ["DATABASE_URL"] = PLACES.database_url
    os.environ["REDIS_URL"] = PLACES.redis_url.replace("db=0", "db=8")
    os.environ["LOG_LEVEL"] = "ERROR"


# Growth --------------------------------------------------------------------------------------------------------------

# Every million runs through the year, evenly over the customers; each event has a key and properties, but no window.
FILL = """
WITH made AS (
  INSERT INTO entitlements_usageevent (public_id, customer_id, feature_id, name, amount, taken, at, recorded_at, key,
      mode, properties, balance_ids, amounts)
    SELECT 'evt_' || substr(md5(n::text), 1, 16), %(first)s + (n * 7919) %% %(customers)s, %(feature)s, '', 1, 1, t, t,
      'grown-' || n, 'reject', jsonb_build_object('model', (ARRAY['large', 'small', 'embed'])[1 + n %% 3], 'n', n),
      ARRAY[0]::bigint[], ARRAY[1]
    FROM generate_series(%(from)s::bigint, %(to)s::bigint) AS n,
      LATERAL (SELECT %(now)s::timestamptz - (1 - (n %% 1000000) / 1000000.0) * interval '365 days' AS t) AS happened
    RETURNING id, customer_id, key, recorded_at)
INSERT INTO entitlements_usagekey (customer_id, digest, event_id, recorded_at)
  SELECT customer_id, md5(key)::uuid, id, recorded_at FROM made
"""


def growth(report, sizes: list[float], customers: int) -> None:
    from django.core.management import call_command
    from django.utils import timezone

    from bench import world
    from entitlements import partitions

    call_command("migrate", verbosity=0)
    now = timezone.now().replace(microsecond=0)
    partitions.make_months(since=now - A_YEAR - timedelta(days=1), until=now)
    partitions.make_ahead(now=now)
    world.copy(world.build(now), world.FIRST_ON_PLAN, world.FIRST_ON_PLAN + customers - 1)
    world.settle_down()
    rows, before = 0, {}
    for size in sizes:
        target = int(size * MILLION)
        began = time.perf_counter()
        fill(rows + 1, target, customers, now)
        report.title(f"{target:,} events; {(target - rows) / (time.perf_counter() - began):,.0f} written a second")
        rows = target
        found = measured(customers, now)
        for name, seconds in found.items():
            floor = before.get(name)
            against = f"at {sizes[0]:g} million" if floor else ""
            report.add(f"{name}, {size:g} million", seconds * 1000, "ms", floor=floor and floor * 1000, against=against)
        before = before or found


def fill(first: int, last: int, customers: int, now: datetime) -> None:
    from django.db import connection

    from bench import world
    from catalog.models import Feature

    feature = Feature.objects.get(slug="credits").pk
    with connection.cursor() as cursor:
        # The rows fit by their making; without looking each customer up they are there in a third of the time.
        cursor.execute("SET session_replication_role = replica")
        for begin in range(first, last + 1, MILLION):
            values = {"from": begin, "to": min(begin + MILLION - 1, last), "now": now, "feature": feature}
            cursor.execute(FILL, values | {"first": world.FIRST_ON_PLAN, "customers": customers})
        cursor.execute("RESET session_replication_role")
        cursor.execute("VACUUM (ANALYZE) entitlements_usageevent, entitlements_usagekey")
        cursor.execute("CHECKPOINT")


def measured(customers: int, now: datetime) -> dict[str, float]:
    """Seconds of each act: the median of a round, in the best of the rounds, so that neighbours disturb little."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, act in acts(customers, now):
            took = []
            for _ in range(TIMES):
                began = time.perf_counter()
                act()
                took.append(time.perf_counter() - began)
            best[name] = min(best.get(name, 1e9), statistics.median(took))
    return best


def acts(customers: int, now: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    from bench import world
    from billing_admin.admin.events import read_events
    from billing_admin.event_search import PER_DAY, Search, newest, series
    from billing_admin.flows.use import check_use, track_use
    from customers.models import Customer
    from entitlements.ledger import ledger

    chance = random.Random(7)
    numbers = iter(range(int(time.time() * 1000), 10**15))

    def anyone() -> Customer:
        return Customer.objects.get(pk=world.FIRST_ON_PLAN + chance.randrange(customers))

    def month_of(who: Customer) -> Search:
        return Search(now - timedelta(days=30), now + timedelta(days=1), customer=who)

    again = anyone()
    track_use(again, feature="credits", now=now, key="known")
    yield "check", lambda: check_use(anyone(), "credits", now=now)
    yield "track", lambda: track_use(anyone(), feature="credits", now=now, key=f"b-{next(numbers)}")
    yield "a key again", lambda: track_use(again, feature="credits", now=now, key="known")
    yield "ledger", lambda: ledger(anyone().balances.filter(feature__slug="credits").order_by("-id")[0])
    yield "panel of events", lambda: read_events(anyone())
    yield "events of a month", lambda: newest(month_of(anyone()), after=None, limit=50)
    yield "chart of a month", lambda: series(month_of(anyone()), per=PER_DAY, by="model")


# Layouts -------------------------------------------------------------------------------------------------------------

INDEXES = ("customer_id, id DESC", "feature_id, id DESC", "customer_id, feature_id, at DESC", "public_id")
ROWS = """
SELECT n AS id, 'evt_' || substr(md5(n::text), 1, 16) AS public_id, 1 + (n * 7919) % 10000 AS customer_id,
  1 + n % 3 AS feature_id, 1.5::numeric(30, 6) AS taken, t AS at, t AS recorded_at, 'key-' || n AS key,
  '{"model": "large", "region": "eu"}'::jsonb AS properties, ARRAY[n] AS balance_ids
FROM generate_series(1::bigint, 1000000) AS n,
  LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '31.5 seconds' AS t) AS happened
"""


LAYOUTS = {"plain": (False, False), "months": (True, False), "months and brin": (True, True)}


def layouts(report) -> None:
    """One table with a unique key, months with a table of keys, and months with a small index on time."""
    import psycopg

    with psycopg.connect(f"dbname={PLACES.database} user=postgres host={PLACES.socket_address}", autocommit=True) as db:
        db.execute(f"CREATE TABLE ready AS {ROWS}")
        db.execute("VACUUM (ANALYZE) ready")
        best: dict[str, dict[str, float]] = {name: {} for name in LAYOUTS}
        for _ in range(3):  # in turns, so that a busy minute disturbs all of them
            for name, (months, brin) in LAYOUTS.items():
                for what, value in _laid_out(db, months=months, brin=brin).items():
                    best[name][what] = min(best[name].get(what, 1e12), value)
    for name, found in best.items():
        report.title(name)
        for what, value in found.items():
            against = "" if name == "plain" else "plain"
            floor = best["plain"][what] if against else None
            report.add(f"{what}, {name}", value, "" if "MB" in what else "s", floor=floor, against=against)


def _laid_out(db, *, months: bool, brin: bool) -> dict[str, float]:
    db.execute("DROP TABLE IF EXISTS events, keys")
    db.execute(f"CREATE TABLE events (LIKE ready) {'PARTITION BY RANGE (recorded_at)' if months else ''}")
    if months:
        for month in range(1, 13):
            bounds = f"FROM ('2026-{month:02}-01') TO ('{2026 + month // 12}-{month % 12 + 1:02}-01')"
            db.execute(f"CREATE TABLE events_{month} PARTITION OF events FOR VALUES {bounds}")
        db.execute("CREATE TABLE events_other PARTITION OF events DEFAULT")
        db.execute("CREATE TABLE keys (customer_id bigint, digest uuid, event_id bigint, recorded_at timestamptz,"
                   " PRIMARY KEY (customer_id, digest))")  # fmt: skip
    db.execute(f"ALTER TABLE events ADD PRIMARY KEY (id{', recorded_at' if months else ''})")
    for columns in INDEXES:
        db.execute(f"CREATE INDEX ON events ({columns})")
    if brin:
        db.execute("CREATE INDEX ON events USING brin (at) WITH (autosummarize = on)")
    if not months:
        db.execute("CREATE UNIQUE INDEX ON events (customer_id, key)")
    db.execute("CHECKPOINT")
    found = {"a million written": _timed(db, _write(months=months))}
    sizes = (
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relname ~ '^(events|keys)'"
    )
    [size] = db.execute(sizes).fetchone()
    found["MB of all"] = int(size) / 2**20
    found["a month removed"] = _timed(
        db, "DROP TABLE events_3" if months else "DELETE FROM events WHERE recorded_at >= '2026-03-01'"
        " AND recorded_at < '2026-04-01'"
    )  # fmt: skip
    return found


def _write(*, months: bool) -> str:
    if not months:
        return "INSERT INTO events SELECT * FROM ready"
    return """WITH made AS (INSERT INTO events SELECT * FROM ready RETURNING customer_id, key, id, recorded_at)
        INSERT INTO keys SELECT customer_id, md5(key)::uuid, id, recorded_at FROM made"""


def _timed(db, statement: str) -> float:
    began = time.perf_counter()
    db.execute(statement)
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")
    sys.exit(main())
