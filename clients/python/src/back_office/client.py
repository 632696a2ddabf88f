"""The blocking client."""

import time
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from back_office import wire
from back_office.exchange import Exchange
from back_office.flow import Flow, Lost, Outcome, Reply, Request, Step, Wait
from back_office.operations import Operations
from back_office.settings import Settings

P = ParamSpec("P")
Answer = TypeVar("Answer")


def blocking(
    operation: Callable[Concatenate[Operations, P], Flow[Answer]],
) -> Callable[Concatenate["Client", P], Answer]:
    """An operation as a method that returns when it is done."""

    @wraps(operation)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return self._carry_out(operation(self._operations, *args, **kwargs))

    return call


class Client:
    """Asks and tells the billing back office. One client serves all threads of a process; close it at the end.

        with Client("https://billing.example.com", "bk_…") as billing:
            if billing.check("acme", "credits", required=3).allowed:
                billing.track("acme", "credits", 3, key="job-4711")

    `transport` replaces the network: a proxy, certificates of your own, a recording.
    """

    def __init__(
        self, base_url: str, key: str, settings: Settings | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._operations = Operations(Exchange(settings or Settings()))
        self._http = httpx.Client(**wire.options(base_url, key), transport=transport)

    check = blocking(Operations.check)
    check_many = blocking(Operations.check_many)
    features = blocking(Operations.features)
    explain = blocking(Operations.explain)
    track = blocking(Operations.track)
    track_batch = blocking(Operations.track_batch)
    accept = blocking(Operations.accept)
    accepted = blocking(Operations.accepted)
    report = blocking(Operations.report)
    void_event = blocking(Operations.void_event)
    set_usage = blocking(Operations.set_usage)
    balances = blocking(Operations.balances)
    grants = blocking(Operations.grants)
    create_grant = blocking(Operations.create_grant)
    void_grant = blocking(Operations.void_grant)
    overrides = blocking(Operations.overrides)
    create_override = blocking(Operations.create_override)
    revoke_override = blocking(Operations.revoke_override)
    events = blocking(Operations.events)
    event = blocking(Operations.event)
    usage = blocking(Operations.usage)

    def forget(self) -> None:
        """Remember no check any more."""
        self._operations.cache.drop_all()

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, flow: Flow[Answer]) -> Answer:
        outcome: Outcome = None
        try:
            while True:
                outcome = self._do(flow.send(outcome))
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        finally:
            flow.close()

    def _do(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        return self._send(step)

    def _send(self, request: Request) -> Reply | Lost:
        """A read cannot be cut short from here, so each one has the time of the whole attempt; the body is watched."""
        until = time.monotonic() + request.within
        content = bytearray()
        try:
            with self._http.stream(**wire.sent(request)) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until:
                        return wire.too_slow(request)
                return wire.reply(response, bytes(content))
        except httpx.RequestError as error:
            return wire.lost(error)
