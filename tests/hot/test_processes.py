"""The real web process under many callers, and killed under them: every acknowledged event is kept, none twice.

`TRACKS=500` (or `make crash`) makes it as long as it takes to meet every race.
"""

import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from customers.models import Customer
from entitlements.grant import grant
from entitlements.models import Balance, UsageEvent, UsageKey
from launch import run
from launch.configuration import Configuration
from tests import builders as a
from tests.api.conftest import caller_with

pytestmark = pytest.mark.django_db(transaction=True)

TRACKS = int(os.environ.get("TRACKS", "60"))
PROCESSES = 8
PATIENCE = 60  # seconds


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    killed: int = 0

    def kill_a_worker(self) -> bool:
        """Kill one of the first workers while all are there; False while one is being started again, or none is left.

        One that dies again within seconds counts as a crash loop: the server exits then, for its launcher to start it.
        """
        workers = sorted(psutil.Process(self.process.pid).children(), key=lambda worker: worker.pid)
        if len(workers) < 2 or self.killed == 2:
            return False
        self.killed += 1
        workers[0].send_signal(signal.SIGKILL)  # those that were started again have higher numbers
        return True

    def get(self, path: str) -> tuple[int, bytes]:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read()


@contextmanager
def serving(logs: Path) -> Iterator[Server]:
    """What `make run` starts, on the test's database and a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = Configuration("127.0.0.1", port, 2, 4, None, None, production=False)
    [web] = [part for part in run.our_processes(config) if part.name == "Web"]
    database = connection.settings_dict
    environment = {
        **os.environ,
        **web.env,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
        "REDIS_URL": settings.REDIS_URL,
        "API_RATE_LIMIT": "1000000",
    }
    log = logs / "web.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(web.command, cwd=web.root, env=environment, stdout=lines, stderr=subprocess.STDOUT)
    server = Server(port, process)
    try:
        wait_for(server, log)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def wait_for(server: Server, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            server.get("/login/")
            return
        except OSError:
            assert server.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as found:
        yield found


def keep_tracking(port: int, secret: str, calls: list[tuple[str, str]]) -> list[tuple[str, int]]:
    """One caller: the status of each key, asked for again and again until there is an answer."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    found = []
    deadline = time.monotonic() + 2 * PATIENCE  # for all of them: a server that is gone is not asked for an hour
    for customer_id, key in calls:
        body = json.dumps({"customerId": customer_id, "featureSlug": "credits", "eventKey": key})
        while True:
            try:
                asked.request("POST", "/api/v1/track", body, headers)
                answer = asked.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                asked.close()
                status = 0
            if status in (200, 409) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        found.append((key, status))
    return found


def all_at_once(server: Server, secret: str, lists: list[list[tuple[str, str]]], disturb=lambda: None):
    connections.close_all()  # a connection must not be shared with a forked process
    with multiprocessing.get_context("fork").Pool(len(lists)) as pool:
        waiting = [pool.apply_async(keep_tracking, (server.port, secret, calls)) for calls in lists]
        while not all(result.ready() for result in waiting):
            disturb()
            waiting[0].wait(0.1)
        return [result.get() for result in waiting]


def customers_with(units: int) -> list[Customer]:
    """Three customers with two buckets each that hold so many units together."""
    now = timezone.now() - timedelta(hours=1)
    pro = a.plan("pro", a.fee(50), a.allowance(units - 10), now=now)
    found = [a.on(pro, since=now, name=f"Customer {number}") for number in range(3)]
    for who in found:
        grant(who, a.feature(), Decimal(10), label="Bonus", ends_at=None, now=now)
    return found


def test_many_callers_count_exactly_with_every_key_sent_twice(server: Server):
    """A-36, P-33: what fits is counted once each, what does not is refused, and nothing deadlocks."""
    distinct = TRACKS * PROCESSES // 2
    fits = distinct // 4
    customers = customers_with(fits)
    secret = caller_with("Application").secret
    calls = [(customers[number % 3].customer_id, f"key-{number}") for number in range(distinct)]
    lists = [random.sample(calls[half::4], k=len(calls[half::4])) for half in (0, 1, 2, 3, 0, 1, 2, 3)]

    answers = [answer for found in all_at_once(server, secret, lists) for answer in found]

    counted = Counter(status for _, status in answers)
    assert counted.keys() <= {200, 409}
    for who in customers:
        balances = Balance.objects.filter(customer=who)
        events = UsageEvent.objects.filter(customer=who)
        assert sum(balance.used for balance in balances) == fits == events.count()
        assert len(set(events.values_list("key", flat=True))) == fits == UsageKey.objects.filter(customer=who).count()
        assert all(balance.left == 0 for balance in balances)
        for balance in balances:
            assert balance.used == of_events(events, balance)


def test_a_worker_killed_under_its_callers_loses_no_event_and_keeps_none_twice(server: Server):
    who = customers_with(1_000_000)[0]
    secret = caller_with("Application").secret
    lists = [[(who.customer_id, f"{caller}-{n}") for n in range(TRACKS)] for caller in range(PROCESSES)]
    began = time.monotonic()
    kills = []

    def disturb() -> None:
        in_turn = len(kills) < 2 and time.monotonic() - began > 0.5 * (len(kills) + 1)
        if in_turn and server.kill_a_worker():
            kills.append(time.monotonic())

    answers = [answer for found in all_at_once(server, secret, lists, disturb) for answer in found]

    assert kills, "nobody was killed in time: let there be more tracks"
    assert {status for _, status in answers} == {200}
    events = UsageEvent.objects.filter(customer=who)
    assert Counter(events.values_list("key", flat=True)) == Counter(key for key, _ in answers)
    for balance in Balance.objects.filter(customer=who):
        assert balance.used == of_events(events, balance)


def of_events(events, balance: Balance) -> Decimal:
    """What events were counted on a balance."""
    total = Decimal(0)
    for balance_ids, amounts in events.values_list("balance_ids", "amounts"):
        total += sum(part for pk, part in zip(balance_ids, amounts, strict=True) if pk == balance.pk)
    return total


def test_pages_and_their_files_come_through_the_same_door(server: Server):
    status, page = server.get("/login/")

    assert status == 200 and b"</html>" in page
    assert server.get("/static/desk/desk.css")[0] == 200
    assert server.get("/api/v1/customers")[0] == 401
    assert server.get("/api/v1/check?customerId=acme&featureSlug=credits")[0] == 401
