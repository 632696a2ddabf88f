"""Micro-batches: what arrives while a statement is in flight joins the next one; a lone ask waits for nothing."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from billing_admin.hot.replies import Instead
from billing_admin.hot.wire import Away, Wire

log = structlog.get_logger("billing_admin.hot")

PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0)  # seconds before the next try to connect

Ask = TypeVar("Ask")
# Answers every one of the asks, whatever happens; raises nothing but `Away`, having answered them.
CarryOut = Callable[[Wire, list[Ask]], Awaitable[None]]


class Line(Generic[Ask]):
    """Asks of one kind, carried out in batches by at most so many wires at once."""

    def __init__(
        self,
        carry_out: CarryOut[Ask],
        open_wire: Callable[[], Awaitable[Wire]],
        refuse: Callable[[list[Ask], Instead], None],
        *,
        wires: int,
        most: int,
    ) -> None:
        self._carry_out = carry_out
        self._open_wire = open_wire
        self._refuse = refuse
        self._wires = wires
        self._most = most
        self._waiting: deque[Ask] = deque()
        self._idle: list[Wire] = []
        self._busy = 0
        self._will_start = False
        self._failures = 0
        self._not_before = 0.0
        self._working: set[asyncio.Task[None]] = set()

    def put(self, ask: Ask) -> None:
        """Have it answered with the next batch: at once, unless every wire is busy."""
        self._waiting.append(ask)
        if not self._will_start and self._busy < self._wires:
            self._will_start = True
            asyncio.get_running_loop().call_soon(self._start)  # what this turn of the loop brings goes along

    def _start(self) -> None:
        self._will_start = False
        if self._waiting and self._busy < self._wires:
            self._busy += 1
            task = asyncio.get_running_loop().create_task(self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self) -> None:
        """Carry out batch after batch on one wire until nothing waits."""
        wire: Wire | None = None
        try:
            while self._waiting:
                if wire is None or not wire.is_open:
                    wire = await self._wire()
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
                if wire is None:
                    self._refuse(batch, Instead.AWAY)
                    continue
                try:
                    if batch:  # while we connected, another wire may have taken them
                        await self._carry_out(wire, batch)
                except Away:
                    wire.close()
                    wire = None
                except Exception as error:  # a fault of ours: nobody may wait for ever because of it
                    log.exception("a batch failed", exc_info=error)
                    wire.close()  # which takes back what was not committed
                    wire = None
                    self._refuse(batch, Instead.DJANGO)
        finally:
            self._busy -= 1
            if wire is not None and wire.is_open:
                self._idle.append(wire)

    async def _wire(self) -> Wire | None:
        """An open wire; None while the database is away, which is tried again only after a pause."""
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            return None
        try:
            wire = await self._open_wire()
        except Away:
            self._not_before = loop.time() + PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1
            return None
        self._failures = 0
        return wire

    async def warm(self) -> None:
        """Connect before anybody asks, if the database is there."""
        wire = await self._wire()
        if wire is not None:
            self._idle.append(wire)

    async def close(self) -> None:
        """Finish what is being carried out, then hang up."""
        if self._working:
            await asyncio.wait(self._working, timeout=5)
        for wire in self._idle:
            wire.close()
        self._idle.clear()
