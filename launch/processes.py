"""The processes that must stay up: started, watched, started again when they die, and stopped together."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from launch.errors import LaunchError
from launch.logs import open_log
from launch.progress import say

# Every child carries the project's path here, so that those of a killed launcher are found again.
MARK = "BILLING_LAUNCHED_FROM"

PAUSES = (0.5, 1, 2, 5, 10, 30)  # seconds before each further try
STEADY = 60  # seconds of life after which a process is trusted again
GRACE = 10  # seconds for a process to finish what it does
GLANCE = 0.2  # seconds between two looks


class Part(Protocol):
    """What the supervisor needs to know of a process; the servers are such parts too."""

    name: str

    @property
    def log(self) -> Path: ...
    def start(self) -> None: ...
    def alive(self) -> bool: ...


@dataclass
class Process:
    name: str
    command: list[str]
    root: Path
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """In a session of its own: Ctrl-C reaches only the launcher, which then stops everything in order."""
        with open_log(self.log) as lines:
            self.running = subprocess.Popen(
                self.command,
                cwd=self.root,
                env={**os.environ, **self.env, MARK: str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        if self.running is None:
            return False
        if self.running.poll() is None:
            return True
        self.clear_up()
        return False

    def ask_to_stop(self) -> None:
        if self.running and self.running.poll() is None:
            self.running.terminate()

    def await_stop(self, until: float) -> None:
        if self.running is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.running.wait(timeout=max(0, until - time.monotonic()))
        self.clear_up()
        self.running.wait()

    def clear_up(self) -> None:
        """The children of a killed process live on, and hold its port: they end with their session."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)


@dataclass
class Watch:
    """One part under watch: how often it died lately, and when it is started again."""

    part: Part
    up_since: float = 0.0
    deaths: int = 0
    again_at: float | None = None

    def look(self, now: float) -> None:
        if self.again_at is None:
            if not self.part.alive():
                self.died(now)
        elif now >= self.again_at:
            self.start_again(now)

    def died(self, now: float) -> None:
        if now - self.up_since > STEADY:
            self.deaths = 0
        pause = PAUSES[min(self.deaths, len(PAUSES) - 1)]
        self.deaths += 1
        self.again_at = now + pause
        say(f"{clock()} {self.part.name} ended; starting it again in {pause:g} s. See {self.part.log}")

    def start_again(self, now: float) -> None:
        try:
            self.part.start()
        except (LaunchError, OSError) as refusal:
            say(f"{clock()} {refusal}")
            self.died(now)
        else:
            self.again_at, self.up_since = None, now
            say(f"{clock()} {self.part.name} runs again.")


def supervise(parts: Iterable[Part], *, until: Callable[[], bool]) -> None:
    now = time.monotonic()
    watches = [Watch(part, up_since=now) for part in parts]
    while not until():
        for watch in watches:
            watch.look(time.monotonic())
        time.sleep(GLANCE)


def stop(processes: Iterable[Process]) -> None:
    """All at once, so that the slowest sets the time."""
    processes = list(processes)
    for process in processes:
        process.ask_to_stop()
    until = time.monotonic() + GRACE
    for process in processes:
        process.await_stop(until)


def stop_orphans(root: Path) -> int:
    """End what a killed launcher left running; its servers are not among them: they are simply used again."""
    orphans = [process for process in psutil.process_iter() if is_marked(process, root)]
    for process in orphans:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(orphans, timeout=GRACE)[1]:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(orphans, timeout=GRACE)
    return len(orphans)


def is_marked(process: psutil.Process, root: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return process.pid != os.getpid() and bool(process.environ().get(MARK) == str(root))
    return False


def clock() -> str:
    return time.strftime("%H:%M:%S")
