"""Values kept for some seconds: read once however many ask, and read again before they are too old to use."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, TypeVar

from django.db import Error, close_old_connections

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """`read` gives the value of a key, or None, in a thread. After `lasts` seconds it is read anew while the old one
    still serves; after twice as long the old one serves no more. None is never kept."""

    def __init__(
        self, executor: Executor, read: Callable[[Key], Value | None], *, lasts: float, most: int = 2_000
    ) -> None:
        self._executor = executor
        self._read = read
        self._lasts = lasts
        self._most = most
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._reading: dict[Key, asyncio.Task[Value | None]] = {}

    def get(self, key: Key) -> Value | None:
        found = self._known.get(key)
        if found is None:
            return None
        age = time.monotonic() - found[0]
        if age > 2 * self._lasts:
            return None
        if age > self._lasts:
            self._begin(key)
        return found[1]

    async def fetch(self, key: Key) -> Value | None:
        """Read it, or wait for whoever reads it already. Raises what the reading raises."""
        return await asyncio.shield(self._begin(key))

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    def clear(self) -> None:
        self._known.clear()

    def _begin(self, key: Key) -> "asyncio.Task[Value | None]":
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.get_running_loop().create_task(self._read_one(key))
            task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: Key, task: "asyncio.Task[Value | None]") -> None:
        self._reading.pop(key, None)
        with suppress(asyncio.CancelledError, Error):  # whoever waits for it has it, too; the next one tries again
            task.result()

    async def _read_one(self, key: Key) -> Value | None:
        read_at = time.monotonic()
        found = await asyncio.get_running_loop().run_in_executor(self._executor, self._in_thread, key)
        if found is None:
            self.forget(key)
            return None
        self._known[key] = (read_at, found)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return found

    def _in_thread(self, key: Key) -> Value | None:
        try:
            return self._read(key)
        finally:
            close_old_connections()
