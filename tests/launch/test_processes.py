import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launch import processes
from launch.processes import MARK, Process, Watch


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(processes, "PAUSES", (0.05, 0.1))


def process(folder: Path, code: str) -> Process:
    return Process("Worker", [sys.executable, "-c", code], folder, folder / "log" / "worker.log")


SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{SLEEP}'])"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"


def eventually(claim: Callable[[], object], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_process_is_started_again_with_a_line_on_the_terminal(tmp_path, capsys):
    worker = process(tmp_path, SLEEP)
    worker.start()
    first = worker.running.pid
    worker.running.kill()

    processes.supervise([worker], until=lambda: worker.running.pid != first)

    assert worker.alive()
    assert "Worker ended; starting it again in 0.05 s" in capsys.readouterr().out
    processes.stop([worker])


def test_one_that_keeps_dying_is_tried_less_and_less_often(tmp_path):
    watch = Watch(process(tmp_path, "raise SystemExit(1)"), up_since=100)

    watch.look(now=100)
    first = watch.again_at
    watch.again_at = None
    watch.look(now=100)

    assert (first, watch.again_at) == (100.05, 100.1)


def test_one_that_ran_long_is_trusted_again(tmp_path):
    watch = Watch(process(tmp_path, "raise SystemExit(1)"), up_since=0, deaths=5)

    watch.look(now=processes.STEADY + 1)

    assert watch.deaths == 1


def test_children_of_a_killed_process_end_with_it(tmp_path):
    worker = process(tmp_path, PARENT)
    worker.start()
    eventually(lambda: psutil.Process(worker.running.pid).children())
    [child] = psutil.Process(worker.running.pid).children()

    worker.running.kill()
    eventually(lambda: not worker.alive())

    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_ignores_the_request_is_ended_when_its_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.2)
    worker = process(tmp_path, STUBBORN)
    worker.start()
    eventually(lambda: "deaf" in worker.log.read_text())

    processes.stop([worker])

    assert worker.running.returncode == -signal.SIGKILL


def test_orphans_of_this_folder_are_ended_and_nobody_elses(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    orphan, stranger = (
        subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, MARK: str(root)}) for root in (here, there)
    )
    eventually(lambda: processes.is_marked(psutil.Process(orphan.pid), here))

    assert processes.stop_orphans(here) == 1

    assert orphan.poll() is not None
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
