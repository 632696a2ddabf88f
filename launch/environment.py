"""The folder's Python environment: made once, filled again when the pins change. Standard library only."""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.errors import LaunchError
from launch.progress import step

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

# What each depth of installation reads; tests and checks need the second.
REQUIREMENTS = {
    "run": ("requirements.txt",),
    "develop": ("requirements.txt", "requirements-dev.txt"),
}


def set_up(depth: str = "run") -> None:
    """Have `.venv` hold what the depth asks for; a second call finds its stamp and does nothing."""
    writable(ROOT)
    with alone():
        if not PYTHON.exists() or not answers(PYTHON):
            with step("Python environment"):
                make_venv()
        if not satisfied(depth):
            with step("Packages"):
                install(REQUIREMENTS[depth][-1])
            stamp(depth).write_text(fingerprint(depth))


def enter(arguments: list[str]) -> None:
    """Go on as the environment's Python; the process stays the same, so its signals and its terminal do too."""
    if Path(sys.prefix) != VENV:
        os.execv(PYTHON, [str(PYTHON), "-m", "launch", *arguments])


def writable(folder: Path) -> None:
    probe = folder / f".writable-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as refusal:
        raise LaunchError(f"Cannot write to {folder}: {(refusal.strerror or str(refusal)).lower()}.") from refusal


@contextmanager
def alone() -> Iterator[None]:
    """Two `make` in one folder install one after the other.

    The installers inherit the lock: should we be killed, the next run still waits until they are done.
    """
    with (ROOT / ".gitignore").open() as handle:
        os.set_inheritable(handle.fileno(), True)  # noqa: FBT003  it takes no keywords
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        raise LaunchError(
            "This Python cannot make virtual environments: install its venv package (on Debian: python3-venv)."
        )
    quietly([sys.executable, "-m", "venv", "--clear", str(VENV)])


def install(file: str) -> None:
    quietly([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(ROOT / file)])


def quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise LaunchError(f"`{' '.join(command[1:4])}` failed: {errors[-1] if errors else 'it said nothing'}")


def answers(python: Path) -> bool:
    """False for an environment whose Python was upgraded or removed under it."""
    return subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode == 0


def satisfied(depth: str) -> bool:
    """The deeper installation serves the shallower one too."""
    depths = list(REQUIREMENTS)
    return any(
        stamp(candidate).exists() and stamp(candidate).read_text() == fingerprint(candidate)
        for candidate in depths[depths.index(depth) :]
    )


def stamp(depth: str) -> Path:
    return VENV / f"installed-to-{depth}"


def fingerprint(depth: str) -> str:
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS[depth])).hexdigest()
