"""check and track over HTTP, beside pgbench with the very statements that answer them, one call a transaction.

The load generator, the server and PostgreSQL share the cores; so do pgbench and PostgreSQL. Each pair of figures is
taken right after one another, so that both find the machine in the same mood.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from django.db import connection
from django.utils import timezone

from bench import sql, web, world
from bench.report import Report
from billing_admin.hot import checks, tracks
from billing_admin.models import ApiKey
from catalog.models import Feature

CONNECTIONS = (1, 8, 32)
BATCH = 100
# What there is to do at least for one event: one statement that counts it, keeps it, and keeps its key.
LEAST = """
WITH burnt AS (
  UPDATE entitlements_balance SET used = used + 1
  WHERE id = :n::bigint * 10 AND closed_at IS NULL AND granted + adjusted - used >= 1 RETURNING id
), kept AS (
  INSERT INTO entitlements_usageevent (public_id, customer_id, feature_id, name, amount, taken, at, recorded_at, key,
    mode, properties, balance_ids, amounts)
  SELECT 'evt_' || :k, :n::bigint, {feature}, '', 1, 1, now(), now(), 'least-' || :k, 'reject', '{{}}', ARRAY[id],
    ARRAY[1]
  FROM burnt RETURNING id, recorded_at
)
INSERT INTO entitlements_usagekey (customer_id, digest, event_id, recorded_at)
SELECT :n::bigint, md5('least-' || :k)::uuid, id, recorded_at FROM kept ON CONFLICT DO NOTHING;
"""


def measure(report: Report, port: int, made: world.World, numbers: range, seconds: float) -> None:
    report.title(f"check and track, {len(numbers):,} customers; beside them pgbench with the same statements")
    one = range(numbers.start + 7, numbers.start + 8)
    with TemporaryDirectory() as folder:
        scripts = Scripts(Path(folder))
        asks = Asks(port, made.secret)
        asks.warm(numbers)
        compare(report, "check", CONNECTIONS, asks.check, scripts.check, numbers, seconds)
        compare(report, "track", CONNECTIONS, asks.track, scripts.track, numbers, seconds)
        least = max(sql.pgbench(scripts.least(numbers), connections=c, seconds=seconds) for c in CONNECTIONS[1:])
        best = max(report.value(f"track at {connections}: rate") for connections in CONNECTIONS[1:])
        report.add("track, best", best, "/s", floor=least, against="pgbench, least statement")
        compare(report, "one hot customer", CONNECTIONS[1:], asks.track, scripts.track, one, seconds)
        batches(report, asks, scripts, numbers, seconds)
    report.add("memory of a web worker", web_memory(), "MB")


def compare(
    report: Report,
    name: str,
    connections: Iterable[int],
    ask: Callable[..., dict[str, Any]],
    script: Callable[[range], Path],
    numbers: range,
    seconds: float,
) -> None:
    for count in connections:
        found = ask(numbers, connections=count, seconds=seconds)
        floor = sql.pgbench(script(numbers), connections=count, seconds=seconds)
        report.add(f"{name} at {count}: rate", found["rate"], "/s", floor=floor, against="pgbench, same statements")
        for share in ("p50", "p99"):
            report.add(f"{name} at {count}: {share}", found[share], "ms")


def batches(report: Report, asks: "Asks", scripts: "Scripts", numbers: range, seconds: float) -> None:
    """Events per second in batches, of random customers and of one, beside one statement for as many events."""
    one = range(numbers.start + 7, numbers.start + 8)
    floor = BATCH * sql.pgbench(scripts.batch(numbers), connections=8, seconds=seconds)
    for name, who in (("batch track", numbers), ("batch track of one customer", one)):
        rate = BATCH * asks.batch(who, connections=8, seconds=seconds)["rate"]
        report.add(f"{name} at 8: events", rate, "/s", floor=floor, against=f"pgbench, {BATCH} in a statement")


class Asks:
    """Requests to the server."""

    def __init__(self, port: int, secret: str) -> None:
        self.port = port
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}

    def warm(self, numbers: range) -> None:
        """Let every worker meet every customer, as it has after its first minutes."""
        most = 6 * len(numbers) // 32
        web.load(self.port, self.request("check", CHECK), numbers, connections=32, seconds=60, most=most)

    def check(self, numbers: range, **how: Any) -> dict[str, Any]:
        return web.load(self.port, self.request("check", CHECK), numbers, **how)

    def track(self, numbers: range, **how: Any) -> dict[str, Any]:
        return web.load(self.port, self.request("track", TRACK), numbers, **how)

    def batch(self, numbers: range, **how: Any) -> dict[str, Any]:
        return web.load(self.port, self.request("track/batch", {"events": [TRACK] * BATCH}), numbers, **how)

    def request(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"method": "POST", "path": f"/api/v1/{path}", "headers": self.headers, "body": json.dumps(body)}


CHECK = {"customerId": "bench-{n}", "featureSlug": "credits"}
TRACK = {"customerId": "bench-{n}", "featureSlug": "credits", "value": 1, "eventKey": "{k}"}


class Scripts:
    """The statements of the hot path as pgbench takes them, for a random customer of a range."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feature = Feature.objects.get(slug="credits").pk
        self.key = ApiKey.objects.get().pk

    def check(self, numbers: range) -> Path:
        text = filled(checks.STATEMENT, ["ARRAY[:n]", f"ARRAY[{self.feature}]", f"ARRAY[{self.key}]"])
        return self.written("check", [random_customer(numbers), text])

    def track(self, numbers: range) -> Path:
        digest = "ARRAY[md5('bench-' || :k)::uuid]"
        known = {
            "hold": ["ARRAY[:n]"],
            "lock": ["ARRAY[:n]", f"ARRAY[{self.feature}]"],
            "true": ["ARRAY[:n]", f"ARRAY[{self.key}]"],
            "known": ["ARRAY[:n]", digest],
            "write": self.write("ARRAY[:n]", digest),
        }
        statements = [filled(tracks.STATEMENTS[name], values) for name, values in known.items()]
        return self.written("track", [random_customer(numbers), RANDOM_KEY, "BEGIN;", *statements, "COMMIT;"])

    def write(self, customers: str, digests: str) -> list[str]:
        return [
            "ARRAY[:n::bigint * 10]",
            "ARRAY[1]",
            "ARRAY['evt_' || :k]",
            customers,
            f"ARRAY[{self.feature}]",
            "ARRAY[1]",
            "ARRAY[1]",
            "ARRAY['bench-' || :k]",
            "ARRAY['reject']",
            "ARRAY['{}']",
            "ARRAY['{' || :n::bigint * 10 || '}']",
            f"'{timezone.now():%Y%m%dT%H%M%SZ}'",
            "ARRAY['{1}']",
            "ARRAY['evt_' || :k]",
            digests,
        ]

    def least(self, numbers: range) -> Path:
        return self.written("least", [random_customer(numbers), RANDOM_KEY, LEAST.format(feature=self.feature)])

    def batch(self, numbers: range) -> Path:
        """The same writing statement for many events of customers side by side."""
        every = f"FROM generate_series(:n::bigint, :n::bigint + {BATCH - 1}) AS s(i)"
        values = [
            f"ARRAY(SELECT i * 10 {every})",
            f"ARRAY(SELECT 1 {every})",
            f"ARRAY(SELECT 'evt_' || :k || '-' || i {every})",
            f"ARRAY(SELECT i {every})",
            f"ARRAY(SELECT {self.feature} {every})",
            f"ARRAY(SELECT 1 {every})",
            f"ARRAY(SELECT 1 {every})",
            f"ARRAY(SELECT 'bench-' || :k || '-' || i {every})",
            f"ARRAY(SELECT 'reject' {every})",
            f"ARRAY(SELECT '{{}}' {every})",
            f"ARRAY(SELECT '{{' || i * 10 || '}}' {every})",
            f"'{timezone.now():%Y%m%dT%H%M%SZ}'",
            f"ARRAY(SELECT '{{1}}' {every})",
            f"ARRAY(SELECT 'evt_' || :k || '-' || i {every})",
            f"ARRAY(SELECT md5('bench-' || :k || '-' || i)::uuid {every})",
        ]
        first = random_customer(range(numbers.start, numbers.stop - BATCH))
        return self.written("batch", [first, RANDOM_KEY, filled(tracks.STATEMENTS["write"], values)])

    def written(self, name: str, lines: list[str]) -> Path:
        file = self.folder / f"{name}.sql"
        file.write_text("\n".join(lines) + "\n")
        return file


RANDOM_KEY = "\\set k random(1, 1000000000000)"


def random_customer(numbers: range) -> str:
    return f"\\set n random({numbers.start}, {numbers.stop - 1})"


def filled(statement: str, values: list[str]) -> str:
    """A statement with its parameters written in, the last first: $1 is the beginning of $10."""
    for place in range(len(values), 0, -1):
        statement = statement.replace(f"${place}", values[place - 1])
    return " ".join(statement.split()) + ";"


def web_memory() -> float:
    """Of the larger worker, in MB."""
    connection.close()
    workers = [child for child in psutil.Process().children(recursive=True) if "granian" in " ".join(child.cmdline())]
    return max(float(worker.memory_info().rss) for worker in workers) / 2**20
