"""Asks in batches: nobody waits while nothing else does, and what comes meanwhile goes together."""

import asyncio
from dataclasses import dataclass, field

from billing_admin.hot.lines import Line
from billing_admin.hot.replies import Instead
from billing_admin.hot.wire import Away


@dataclass
class Statement:
    """Carries out batches when it is let, and remembers them."""

    batches: list[list[int]] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    refused: list[tuple[int, Instead]] = field(default_factory=list)

    async def carry_out(self, wire, asks):
        self.batches.append(asks)
        await self.may_end.wait()

    def line(self, *, wires: int = 1, most: int = 10, away: bool = False) -> Line[int]:
        async def open_wire():
            if away:
                raise Away("nobody there")
            return Open()

        return Line(self.carry_out, open_wire, self.refuse, wires=wires, most=most)

    def refuse(self, asks, instead):
        self.refused += [(ask, instead) for ask in asks]


class Open:
    is_open = True

    def close(self):
        self.is_open = False


def test_a_lone_ask_is_carried_out_at_once():
    async def scenario():
        statement = Statement()
        statement.line().put(1)
        await turns()
        return statement.batches

    assert asyncio.run(scenario()) == [[1]]


def test_what_comes_while_a_statement_is_in_flight_goes_with_the_next():
    async def scenario():
        statement = Statement()
        line = statement.line()
        line.put(1)
        await turns()
        for ask in (2, 3, 4):
            line.put(ask)
        statement.may_end.set()
        await turns()
        return statement.batches

    assert asyncio.run(scenario()) == [[1], [2, 3, 4]]


def test_a_batch_has_a_largest_size():
    async def scenario():
        statement = Statement()
        statement.may_end.set()
        line = statement.line(most=2)
        for ask in (1, 2, 3, 4, 5):
            line.put(ask)
        await turns()
        return statement.batches

    assert asyncio.run(scenario()) == [[1, 2], [3, 4], [5]]


def test_a_second_wire_takes_what_comes_while_the_first_is_busy():
    async def scenario():
        statement = Statement()
        line = statement.line(wires=2)
        line.put(1)
        await turns()
        line.put(2)
        await turns()
        return statement.batches

    assert asyncio.run(scenario()) == [[1], [2]]


def test_without_a_database_asks_are_refused_instead_of_kept():
    async def scenario():
        statement = Statement()
        line = statement.line(away=True)
        line.put(1)
        line.put(2)
        await turns()
        line.put(3)
        await turns()
        return statement.batches, statement.refused

    assert asyncio.run(scenario()) == ([], [(ask, Instead.AWAY) for ask in (1, 2, 3)])


def test_a_fault_leaves_nobody_waiting():
    async def scenario():
        statement = Statement()
        line = statement.line()
        statement.may_end = None  # nothing that can be waited for
        line.put(1)
        await turns()
        return statement.refused

    assert asyncio.run(scenario()) == [(1, Instead.DJANGO)]


async def turns() -> None:
    """Let the loop do all that it can do now."""
    for _ in range(10):
        await asyncio.sleep(0)
