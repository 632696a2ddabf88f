"""A migration carried out by processes that are killed at random moments, and then half taken back: every customer on
exactly one version at every instant, nothing billed twice, nothing miscounted.

`MIGRATION_SIZE=5000` makes it as long as a night's run.
"""

import os
import random
import signal
import time
import traceback
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Count, F, Q

from bench import world
from billing_admin import runs
from billing_admin.flows.migrate import Progress, begin, progress, take_back_row
from billing_admin.flows.migrate_run import carry_out
from billing_admin.migration_runs import migrations
from billing_admin.models import WorkerFailure
from customers.models import MigrationRow, Operation, Phase, PlanMigration, Subscription
from invoicing.models import InvoiceLine
from tests import builders as a
from tests.flows.migrations_world import order, second_version
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMERS = int(os.environ.get("MIGRATION_SIZE", "300"))
KILLS = 8
FIRST = 20_001
LATEST = 600  # seconds


@pytest.fixture
def migration() -> PlanMigration:
    """Begun for everybody on the first version of the plan; nobody is moved yet."""
    pro = a.plan("pro", a.fee(50), a.allowance(100))
    template = a.on(pro)
    world.copy(world.World(template, template, "", MARCH_1), FIRST, FIRST + CUSTOMERS - 2)
    world.settle_down()
    second_version(pro, a.fee(60), a.allowance(200))
    return begin(order(pro), reason="prices of spring", actor=a.STAFF, now=MARCH_16)


def start(*, takes_back: bool = False) -> int:
    """A worker process of its own that makes one pass, or takes half of the rows back one by one. Returns its id."""
    connection.close()  # a connection cannot be shared between two processes
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        half() if takes_back else migrations(now=MARCH_16).finish(MARCH_16)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def half() -> None:
    rows = MigrationRow.objects.annotate(odd=F("customer_id") % 2).filter(odd=1, state=MigrationRow.State.SCHEDULED)
    for row in rows.select_related("migration__plan", "migration__from_version__plan", "subscription"):
        take_back_row(row, reason="half of them only", actor=a.STAFF, now=MARCH_16)


def left(*, takes_back: bool) -> int:
    if not takes_back:
        return MigrationRow.objects.left().count()
    odd = MigrationRow.objects.annotate(odd=F("customer_id") % 2).filter(odd=1)
    return odd.filter(state=MigrationRow.State.SCHEDULED).count()


def is_over(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def run_and_kill(chance: random.Random, *, takes_back: bool) -> bool:
    """Let a worker get somewhere, then kill it; False when it was through before."""
    before, enough = left(takes_back=takes_back), chance.randint(0, max(1, CUSTOMERS // (KILLS * 3)))
    pid = start(takes_back=takes_back)
    deadline = time.monotonic() + LATEST
    while before - left(takes_back=takes_back) < enough:
        if is_over(pid):
            return False
        assert time.monotonic() < deadline, "the worker gets nowhere"
        assert_one_version_each()
    time.sleep(chance.random() * 0.02)  # in the middle of a statement, between two, before a commit
    if is_over(pid):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def storm(*, takes_back: bool = False) -> int:
    """Workers killed again and again until nothing is left. Returns how many were."""
    chance, kills = random.Random(20260316), 0
    while kills < KILLS and left(takes_back=takes_back):
        kills += run_and_kill(chance, takes_back=takes_back)
        assert_one_version_each()
    while left(takes_back=takes_back):
        assert os.waitpid(start(takes_back=takes_back), 0)[1] == 0
    return kills


def in_force(at: datetime) -> Counter[int]:
    """How many versions each contract is on at the instant."""
    return Counter(Phase.objects.in_force(at).values_list("subscription", flat=True))


def assert_one_version_each() -> None:
    for at in (MARCH_16, APRIL_1 - timedelta(microseconds=1), APRIL_1, MAY_1):
        found = in_force(at)
        assert len(found) == CUSTOMERS
        assert set(found.values()) == {1}


def test_a_migration_that_is_killed_again_and_again_moves_everybody_once(migration: PlanMigration) -> None:
    """Law 6: to be killed at any instruction."""
    assert storm() == KILLS

    migrations(now=MARCH_16)
    migration.refresh_from_db()
    assert migration.state == PlanMigration.State.FINISHED
    assert progress(migration, MARCH_16) == Progress(scheduled=CUSTOMERS)
    told = Operation.objects.filter(verb="plan.migration_scheduled").values("customer").annotate(n=Count("pk"))
    assert (len(told), max(row["n"] for row in told)) == (CUSTOMERS, 1)
    assert Phase.objects.filter(version=migration.to_version, withdrawn_at=None).count() == CUSTOMERS


def test_half_taken_back_and_renewed_nobody_is_billed_twice(migration: PlanMigration) -> None:
    """L-29: resumed and half taken back; no line twice after the renewals, and the counts are right."""
    carry_out(migration, MARCH_16)
    odd = MigrationRow.objects.annotate(odd=F("customer_id") % 2).filter(odd=1).count()

    assert storm(takes_back=True) == KILLS
    assert progress(migration, MARCH_16) == Progress(scheduled=CUSTOMERS - odd, taken_back=odd)
    for at in (APRIL_1, MAY_1):
        assert runs.renewals(now=at).failed == 0
        assert_one_version_each()

    assert progress(migration, MAY_1) == Progress(moved=CUSTOMERS - odd, taken_back=odd)
    assert not WorkerFailure.objects.exists()
    fees = InvoiceLine.objects.filter(key="base", starts_at__in=[APRIL_1, MAY_1])
    twice = fees.values("subscription", "starts_at").annotate(n=Count("pk")).filter(~Q(n=1))
    assert not twice.exists()
    amounts = Counter(fees.values_list("amount", flat=True))
    assert amounts == {6000: 2 * (CUSTOMERS - odd), 5000: 2 * odd}
    moved = Subscription.objects.filter(migration_rows__state=MigrationRow.State.SCHEDULED)
    assert set(fees.filter(subscription__in=moved).values_list("amount", flat=True)) == {6000}


def test_two_workers_at_once_move_everybody_once(migration: PlanMigration) -> None:
    """Law 6: to run at once."""
    for pid in [start(), start()]:
        assert os.waitpid(pid, 0)[1] == 0

    migrations(now=MARCH_16)
    assert progress(migration, MARCH_16) == Progress(scheduled=CUSTOMERS)
    assert Operation.objects.filter(verb="plan.migration_scheduled").count() == CUSTOMERS
