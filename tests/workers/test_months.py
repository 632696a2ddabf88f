"""The months of events: made ahead by a pass, archived by another, which may be killed at any instruction."""

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from billing_admin import runs
from billing_admin.models import WorkerFailure, WorkerRun
from customers.models import Customer
from entitlements import partitions
from entitlements.ledger import ledger
from entitlements.models import ArchivedMonth, ArchivedUse, UsageEvent
from tests import builders as a
from tests.instants import JUNE_1, MARCH_1, MARCH_16, day

LATER = day("2028-04-01")
ROOT = Path(__file__).resolve().parent.parent.parent
KILLED = """
import sys
from datetime import datetime, UTC
from pathlib import Path
import django
django.setup()
from django.db import connection
connection.ensure_connection()
from billing_admin import runs
print("go", flush=True)
runs.archive(now=datetime(2028, 4, 1, tzinfo=UTC), keep=24, folder=Path(sys.argv[1]))
"""


@pytest.fixture
def acme() -> Customer:
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.pro(credits=10_000))
    a.use(who, 3, now=MARCH_16)
    return who


@pytest.mark.django_db
def test_a_pass_makes_the_months_ahead_and_leaves_no_record_when_there_are_all():
    first = runs.make_months(now=MARCH_16).finish(MARCH_16)
    again = runs.make_months(now=MARCH_16).finish(MARCH_16)

    assert (first.task, first.done) == ("make_months", 4)
    assert again is None


@pytest.mark.django_db
def test_a_pass_archives_what_is_old_enough(acme: Customer, tmp_path: Path):
    run = runs.archive(now=LATER, keep=24, folder=tmp_path).finish(LATER)

    assert (run.done, run.failed) == (1, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["usage-2026-03.csv.gz"]


@pytest.mark.django_db
def test_without_a_number_of_months_everything_stays(acme: Customer, tmp_path: Path):
    runs.archive(now=LATER, keep=None, folder=tmp_path)

    assert (UsageEvent.objects.count(), list(tmp_path.iterdir())) == (1, [])


@pytest.mark.django_db
def test_a_folder_that_cannot_be_written_is_recorded_and_the_next_pass_tries_again(acme: Customer, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    runs.archive(now=LATER, keep=24, folder=blocked)
    [failure] = WorkerFailure.objects.all()

    runs.archive(now=LATER, keep=24, folder=tmp_path)

    failure.refresh_from_db()
    assert (failure.what, failure.resolved_at) == ("usage-2026-03", LATER)
    assert UsageEvent.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_an_archive_that_is_killed_again_and_again_loses_and_doubles_nothing(acme: Customer, tmp_path: Path):
    more = (
        "INSERT INTO entitlements_usageevent (public_id, customer_id, feature_id, name, amount, taken, at, recorded_at,"
    )
    more += " mode, properties, balance_ids, amounts) SELECT 'evt_' || n, customer_id, feature_id, '', 0, 0, at,"
    more += " recorded_at, mode, '{}', balance_ids, ARRAY[0] FROM entitlements_usageevent, generate_series(1, 40000) n"
    with connection.cursor() as cursor:
        cursor.execute(more)
    [balance] = acme.balances.all()
    before = [line.after for line in ledger(balance)]

    for tries in range(8):
        kill_after(0.02 * tries, tmp_path)
    runs.archive(now=LATER, keep=24, folder=tmp_path)

    with gzip.open(tmp_path / "usage-2026-03.csv.gz", "rt", newline="") as text:
        assert sum(1 for _ in csv.DictReader(text)) == 40_001
    assert [file.name for file in tmp_path.iterdir()] == ["usage-2026-03.csv.gz"]
    assert (ArchivedMonth.objects.get().events, ArchivedUse.objects.get().used) == (40_001, Decimal(3))
    assert UsageEvent.objects.count() == 0
    assert [line.after for line in ledger(balance)] == before
    assert WorkerRun.objects.filter(done=1).count() == 1


def kill_after(seconds: float, folder: Path) -> None:
    """Let a process begin to archive, and kill it so long afterwards."""
    database = connection.settings_dict
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
        "REDIS_URL": settings.REDIS_URL,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "go\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_forgotten()


def wait_until_forgotten() -> None:
    """The server notices that its client is gone when it next writes to it."""
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            if cursor.fetchone() == (0,):
                return
        time.sleep(0.05)
    raise AssertionError("a killed process is still at work")
