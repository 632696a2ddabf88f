"""The whole of `make run`, in a copy of the project with an environment of its own to be killed in."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launch import run
from launch.environment import ROOT
from launch.errors import LaunchError
from launch.places import Places
from launch.processes import MARK

LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "var", ".env", "__pycache__", ".*_cache", "docs", "tests")


def test_a_second_launcher_says_so_and_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "VAR", tmp_path)

    with (
        run.the_only_one(),
        pytest.raises(LaunchError, match=rf"^It runs already in this folder \(process {os.getpid()}\)\.$"),
        run.the_only_one(),
    ):
        pass


@pytest.fixture
def project(scratch: Path) -> Iterator[Path]:
    """A copy whose path has a space in it; the packages are shared. Without demo data: it has tests of its own."""
    copy = scratch / "a project"
    shutil.copytree(ROOT, copy, ignore=LEFT_BEHIND)
    (copy / run.SEED.relative_to(ROOT)).unlink()
    (copy / ".venv").symlink_to(sys.prefix)
    (copy / ".gitignore").touch()
    yield copy
    for process in ours(copy):
        process.kill()
    shutil.rmtree(Places(copy / "var").home, ignore_errors=True)
    shutil.rmtree(copy, ignore_errors=True)


class Launched:
    """`python -m launch run` in the copy, on a free port."""

    def __init__(self, project: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.said = project / "said.txt"
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [project / ".venv" / "bin" / "python", "-m", "launch", "run"],
                cwd=project,
                env={**environment, "PORT": str(self.port), "WEB_WORKERS": "1"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: "Ctrl-C stops everything" in self.said.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said.read_text()

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)


@pytest.mark.long
def test_everything_starts_survives_kill_9_and_stops(project):
    launched = Launched(project)
    for part in ("granian", "celery", "valkey-server", "postgres"):
        first_of(part, project).kill()
    eventually(lambda: launched.said.read_text().count("runs again") >= 4)
    eventually(launched.answers)

    launched.process.kill()
    launched.process.wait()
    again = Launched(project)
    assert again.answers()

    assert again.interrupt() == 0
    assert not ours(project)


def first_of(part: str, project: Path) -> psutil.Process:
    """The eldest: the others are its children."""
    return min((process for process in ours(project) if part in command_of(process)), key=lambda p: p.pid)


def command_of(process: psutil.Process) -> str:
    """Empty when it has ended since it was listed, as something short-lived may at any moment."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def ours(project: Path) -> list[psutil.Process]:
    homes = (str(project), str(Places(project / "var").home))

    def is_ours(process: psutil.Process) -> bool:
        try:
            inside = process.cwd().startswith(homes) or process.environ().get(MARK) == str(project)
            return inside and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    return [process for process in psutil.process_iter() if is_ours(process)]


def eventually(claim: Callable[[], object], within: float = 180) -> None:
    deadline = time.monotonic() + within
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.1)
