"""What only an event loop does: many calls at once, and calls given up half-way."""

import asyncio
from contextlib import suppress
from dataclasses import replace

from back_office import AsyncClient
from conftest import QUICK
from misbehaving import ACCESS, Misbehaving, hangs, says


def test_many_checks_run_at_once() -> None:
    async def ask(url: str) -> list[str]:
        async with AsyncClient(url, "bk_test", QUICK) as billing:
            answers = await asyncio.gather(*(billing.check(f"customer {n}", "credits") for n in range(20)))
        return [access.source for access in answers]

    with Misbehaving(says(200, ACCESS)) as server:
        assert asyncio.run(ask(server.url)) == ["plan"] * 20


def test_a_call_that_was_cancelled_leaves_nothing_behind() -> None:
    async def give_up(server: Misbehaving) -> AsyncClient:
        async with AsyncClient(server.url, "bk_test", replace(QUICK, timeout=5, max_age=60)) as billing:
            check = asyncio.create_task(billing.check("acme", "credits"))
            while not server.heard and not check.done():
                await asyncio.sleep(0.01)
            check.cancel()
            with suppress(asyncio.CancelledError):
                await check
            assert check.cancelled()
        return billing

    with Misbehaving(hangs) as server:
        billing = asyncio.run(give_up(server))

    assert not billing._operations.cache._asking
    assert len(server.heard) == 1


def test_a_timeout_of_the_caller_is_the_callers() -> None:
    async def hurry(url: str) -> str:
        async with AsyncClient(url, "bk_test", replace(QUICK, timeout=5, on_outage="open")) as billing:
            try:
                async with asyncio.timeout(0.1):
                    await billing.check("acme", "credits")
            except TimeoutError:
                return "the caller's"
        return "ours"

    with Misbehaving(hangs) as server:
        assert asyncio.run(hurry(server.url)) == "the caller's"
