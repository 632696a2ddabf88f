"""A billing run in processes that are killed at random moments: done in the end, once, as if nothing had happened.

`CRASH_CUSTOMERS=2000` (or `make crash`) makes it as long as a night's run.
"""

import os
import random
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from django.db import connection, transaction

from bench import world
from billing_admin import runs
from billing_admin.flows.cancel import cancel
from billing_admin.models import WorkerFailure, WorkerRun
from customers.models import Customer, Subscription
from tests import builders as a
from tests.books import digest
from tests.instants import APRIL_1, MARCH_1, day

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMERS = int(os.environ.get("CRASH_CUSTOMERS", "240"))
KILLS = 20
FIRST = 10_001
MID_MARCH = MARCH_1 + timedelta(days=14)
LATEST = 600  # seconds


@pytest.fixture
def customers() -> list[Customer]:
    """Customers whose April has come: most are ordinary, some with use to bill, some whom the ordinary way settles."""
    pro = a.plan("pro", a.fee(50), a.allowance(100), a.allowance(10, of="calls", price="0.10"))
    templates = [a.on(pro, name=name) for name in ("Plain", "Busy", "Leaving")]
    a.overuse(templates[1], 137, of="calls", now=MID_MARCH)
    cancel(a.the_subscription(templates[2]), ends_at=day("2026-06-15"), reason="moves on", actor=a.STAFF, now=MID_MARCH)
    first = FIRST
    for template, share in zip(templates, (0.5, 0.4, 0.1), strict=True):
        last = first + int(CUSTOMERS * share) - 1
        world.copy(world.World(template, template, "", MARCH_1), first, last)
        first = last + 1
    world.settle_down()
    Subscription.objects.filter(customer__in=templates).update(bills_at=None)
    return list(Customer.objects.filter(customer_id__startswith="bench-").order_by("pk"))


@contextmanager
def taken_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def undisturbed(customers: list[Customer]) -> str:
    """The books after a run that nobody disturbs, which is then undone."""
    with taken_back():
        assert runs.renewals(now=APRIL_1).done == len(customers)
        return digest(customers)


def start() -> int:
    """A worker process of its own that makes one pass. Returns its id."""
    connection.close()  # a connection cannot be shared between two processes
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        runs.renewals(now=APRIL_1).finish(APRIL_1)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def due() -> int:
    return Subscription.objects.due(APRIL_1).count()


def is_over(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def run_and_kill(chance: random.Random) -> bool:
    """Let a worker get somewhere, then kill it; False when it was through before."""
    before, enough = due(), chance.randint(0, max(1, CUSTOMERS // (KILLS * 2)))
    pid = start()
    deadline = time.monotonic() + LATEST
    while before - due() < enough:
        if is_over(pid):
            return False
        assert time.monotonic() < deadline, "the worker gets nowhere"
        time.sleep(0.002)
    time.sleep(chance.random() * 0.02)  # in the middle of a statement, between two, before a commit
    if is_over(pid):
        return False
    kill(pid)
    return True


def test_a_run_that_is_killed_again_and_again_bills_as_one_that_nobody_disturbs(customers: list[Customer]) -> None:
    """Law 6: to be killed at any instruction."""
    expected = undisturbed(customers)
    chance = random.Random(20260401)
    kills = 0

    while kills < KILLS and due():
        kills += run_and_kill(chance)
    while due():
        os.waitpid(start(), 0)

    assert kills == KILLS
    assert digest(customers) == expected
    assert not WorkerFailure.objects.exists()
    # What killed passes had done is in their records, though nobody closed them.
    assert sum(WorkerRun.objects.values_list("done", flat=True)) == len(customers)


def test_two_runs_at_once_bill_as_one(customers: list[Customer]) -> None:
    """Law 6: to run at once."""
    expected = undisturbed(customers)

    for pid in [start(), start()]:
        assert os.waitpid(pid, 0)[1] == 0
    runs.renewals(now=APRIL_1)

    assert digest(customers) == expected
    assert not WorkerFailure.objects.exists()
    passes = list(WorkerRun.objects.filter(done__gt=0).values_list("done", flat=True))
    assert sum(passes) == len(customers)
