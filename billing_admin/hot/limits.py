"""How often a key may call: counted in this process, added to what all count together several times a second."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from billing_admin.api.door import WINDOW, rate_limit

log = structlog.get_logger("billing_admin.hot")

EVERY = 0.2  # seconds between two additions


@dataclass(slots=True)
class Count:
    """Calls of one key in one minute: those that all know of, and those that only this process knows."""

    together: int = 0
    ours: int = 0

    @property
    def used(self) -> int:
        return self.together + self.ours


def counter_of(public_id: str, minute: int) -> str:
    return f"api-rate:{public_id}:{minute}"


def add(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add to the common counters; what each comes to."""
    found = {}
    for name, calls in counts:
        cache.add(name, 0, timeout=2 * WINDOW)
        found[name] = cache.incr(name, calls)
    return found


class Limits:
    """The running minute of every key that called. While the cache is away nobody is counted, as in the door."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._counts: dict[str, Count] = {}
        self._minute = 0
        self._away = False
        self._adding = False

    def would_pass(self, public_id: str, now: datetime) -> bool:
        """Whether one more call stays within the limit, as far as is known here."""
        return self._away or self._of(public_id, now).used < rate_limit()

    def count(self, public_id: str, now: datetime) -> list[tuple[bytes, bytes]]:
        """Count one call; the headers that say what is left."""
        count = self._of(public_id, now)
        count.ours += 1
        if not self._adding:
            self._adding = True
            asyncio.get_running_loop().call_later(EVERY, self._add_soon)
        if self._away:
            return []
        limit = rate_limit()
        return [
            (b"ratelimit-limit", b"%d" % limit),
            (b"ratelimit-remaining", b"%d" % max(0, limit - count.used)),
            (b"ratelimit-reset", b"%d" % (WINDOW - int(now.timestamp()) % WINDOW)),
        ]

    def _of(self, public_id: str, now: datetime) -> Count:
        minute = int(now.timestamp()) // WINDOW
        if minute != self._minute:
            # What is left of the last minute is added too, but nobody is measured by it any more.
            self._counts = {name: count for name, count in self._counts.items() if count.ours}
            self._minute = minute
        return self._counts.setdefault(counter_of(public_id, minute), Count())

    def _add_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._add())
        self._task = task  # the loop itself keeps no hold on it

    async def _add(self) -> None:
        ours = [(name, count.ours) for name, count in self._counts.items() if count.ours]
        try:
            together = await asyncio.get_running_loop().run_in_executor(self._executor, add, ours)
        except (RedisError, ValueError) as error:
            if not self._away:
                log.warning("calls are not counted", cause=str(error))
            self._away = True
            self._counts.clear()
        else:
            self._away = False
            for name, calls in ours:
                count = self._counts.setdefault(name, Count())
                count.ours -= calls
                count.together = together[name]
        finally:
            self._adding = False
