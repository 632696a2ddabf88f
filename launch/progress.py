"""What the person at the terminal reads while things start."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 22


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """One line for one step, with how long it took; nothing more is said when it fails: the error says it."""
    began = time.monotonic()
    print(f"  {name:<{WIDTH}}", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - began:5.1f} s", flush=True)
