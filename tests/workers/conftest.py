"""Real workers for tests: Celery processes on the test's own database and a queue of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from django.conf import settings
from django.db import connection

from billing_admin.celery import app
from entitlements.readings import forget_items

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60  # seconds


class Workers:
    """Starts workers, hands them ticks, kills them."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.queue = f"test-{uuid4().hex[:12]}"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        name = f"{self.queue}-{len(self.running)}"
        database = connection.settings_dict
        host = database["HOST"] or "localhost"
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"postgres://{database['USER']}@/{database['NAME']}?host={host}",
            "REDIS_URL": settings.REDIS_URL,
        }
        command = [sys.executable, "-m", "celery", "-A", "billing_admin.celery", "worker", "--pool", "solo"]
        options = ["-Q", self.queue, "-n", name, "--without-gossip", "--without-mingle", "--without-heartbeat"]
        log = self.logs / f"{name}.log"
        with log.open("wb") as lines:
            process = subprocess.Popen(
                [*command, *options], cwd=ROOT, env=environment, stdout=lines, stderr=subprocess.STDOUT
            )
        self.running.append(process)
        wait_until(lambda: b"ready." in log.read_bytes(), f"the worker to start, see {log}")
        return process

    def tick(self, task: str) -> None:
        """What beat does."""
        celery: Celery = app
        celery.send_task(f"billing_admin.tasks.{task}", queue=self.queue)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"waited {PATIENCE} seconds for {what}"
        time.sleep(0.02)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def _own_items() -> Iterator[None]:
    yield
    forget_items()
