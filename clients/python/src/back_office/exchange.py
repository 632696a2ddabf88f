"""One call with its attempts: sent, read, tried again after a pause, given up in time."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

from back_office.errors import BackOfficeError, Unavailable
from back_office.failures import failure, unreadable
from back_office.fields import decode, encode
from back_office.flow import Flow, Lost, Reply, Request, Wait
from back_office.settings import Settings

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Exchange:
    """Carries out requests under the settings; `clock` is in seconds from anywhere, `dice` in [0, 1)."""

    settings: Settings
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = field(default=random.random)

    def read(
        self,
        request: Request,
        understand: Callable[[Any], Answer],
        *,
        deadline: float | None = None,
        keys: Sequence[str] = (),
    ) -> Flow[Answer]:
        """The answer to a request, as `understand` reads it; a failure says the `keys` that repeat it safely."""
        try:
            reply = yield from self._attempts(request, self.settings.deadline if deadline is None else deadline)
            try:
                return understand(decode(reply.content))
            except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as cause:
                raise unreadable(cause) from cause
        except Unavailable as error:
            error.keys = tuple(keys)
            raise

    def _attempts(self, request: Request, deadline: float) -> Flow[Reply]:
        until = self.clock() + deadline
        attempt = 1
        while True:
            left = until - self.clock()
            outcome = yield replace(request, within=min(self.settings.timeout, left))
            assert isinstance(outcome, Reply | Lost), "a request is answered or lost"
            error = failure(outcome)
            if error is None:
                assert isinstance(outcome, Reply)
                return outcome
            yield Wait(self._pause(attempt, error, left=until - self.clock()))
            attempt += 1

    def _pause(self, attempt: int, error: BackOfficeError, *, left: float) -> float:
        pause = self.settings.retries.pause(attempt, error, left=left, dice=self.dice())
        if pause is None:
            raise error
        return pause


def get(*steps: str, **query: str | None) -> Request:
    """`get("customers", "acme", "balances", ledger="true")`; what is None is not asked."""
    return Request("GET", path(*steps), {name: value for name, value in query.items() if value is not None})


def post(*steps: str, body: Mapping[str, Any]) -> Request:
    return Request("POST", path(*steps), content=encode(body), headers={"Content-Type": "application/json"})


def path(*steps: str) -> str:
    """An address from names that may hold anything.

    Names of only dots would lead elsewhere: `/customers/../grants` is `/grants`.
    """
    for step in steps:
        if not step.strip("."):
            raise ValueError(f"{step!r} is not an id.")
    return "/".join(quote(step, safe="") for step in steps)
