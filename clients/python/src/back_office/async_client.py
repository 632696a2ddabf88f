"""The client for asyncio."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from back_office import wire
from back_office.exchange import Exchange
from back_office.flow import Flow, Lost, Outcome, Reply, Request, Step, Wait
from back_office.operations import Operations
from back_office.settings import Settings

P = ParamSpec("P")
Answer = TypeVar("Answer")


def awaitable(
    operation: Callable[Concatenate[Operations, P], Flow[Answer]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Answer]]:
    """An operation as a method to be awaited."""

    @wraps(operation)
    async def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await self._carry_out(operation(self._operations, *args, **kwargs))

    return call


class AsyncClient:
    """The methods of `Client`, awaited. One client serves all tasks of an event loop.

    async with AsyncClient("https://billing.example.com", "bk_…") as billing:
        access = await billing.check("acme", "credits")
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        settings: Settings | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._operations = Operations(Exchange(settings or Settings()))
        self._http = httpx.AsyncClient(**wire.options(base_url, key), transport=transport)

    check = awaitable(Operations.check)
    check_many = awaitable(Operations.check_many)
    features = awaitable(Operations.features)
    explain = awaitable(Operations.explain)
    track = awaitable(Operations.track)
    track_batch = awaitable(Operations.track_batch)
    accept = awaitable(Operations.accept)
    accepted = awaitable(Operations.accepted)
    report = awaitable(Operations.report)
    void_event = awaitable(Operations.void_event)
    set_usage = awaitable(Operations.set_usage)
    balances = awaitable(Operations.balances)
    grants = awaitable(Operations.grants)
    create_grant = awaitable(Operations.create_grant)
    void_grant = awaitable(Operations.void_grant)
    overrides = awaitable(Operations.overrides)
    create_override = awaitable(Operations.create_override)
    revoke_override = awaitable(Operations.revoke_override)
    events = awaitable(Operations.events)
    event = awaitable(Operations.event)
    usage = awaitable(Operations.usage)

    def forget(self) -> None:
        """Remember no check any more."""
        self._operations.cache.drop_all()

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _carry_out(self, flow: Flow[Answer]) -> Answer:
        outcome: Outcome = None
        try:
            while True:
                outcome = await self._do(flow.send(outcome))
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        finally:
            flow.close()

    async def _do(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        return await self._send(step)

    async def _send(self, request: Request) -> Reply | Lost:
        try:
            async with asyncio.timeout(request.within):
                response = await self._http.request(**wire.sent(request))
        except TimeoutError:
            return wire.too_slow(request)
        except httpx.RequestError as error:
            return wire.lost(error)
        return wire.reply(response, response.content)
