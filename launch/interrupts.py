"""Ctrl-C and its polite relatives, turned into one exception at a moment that suits us."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Someone wants us to stop."""


class Interrupts:
    """While entered, the first signal raises Interrupted here; later ones would only disturb the stopping."""

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False

    def __enter__(self) -> Self:
        for number in POLITE:
            signal.signal(number, self.receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is Interrupted

    def receive(self, number: int, frame: FrameType | None) -> None:
        already, self.asked = self.asked, True
        if not already and not self.waiting:
            raise Interrupted

    @contextmanager
    def later(self) -> Iterator[None]:
        """Hold the exception back: a server between its birth and our knowing of it must not be lost."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False
        if self.asked:
            raise Interrupted
