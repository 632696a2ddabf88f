"""One log per process under var/log."""

from pathlib import Path
from typing import IO

KEPT = 10_000_000  # bytes; a longer log begins anew when its process does


def open_log(log: Path) -> IO[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    too_long = log.exists() and log.stat().st_size > KEPT
    return log.open("wb" if too_long else "ab")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
