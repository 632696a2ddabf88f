"""A desk of the hot path on the test's own database, asked from outside its event loop."""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import pytest

from billing_admin.hot.asks import read_batch, read_check, read_track
from billing_admin.hot.door import Answer, Desk
from customers.models import Customer
from entitlements.readings import forget_items
from tests.api.conftest import Caller, caller_with
from tests.instants import MARCH_1

Result = TypeVar("Result")


@dataclass
class Hot:
    """Asks the desk as a caller does; None where Django has to answer."""

    caller: Caller
    now: datetime = MARCH_1
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def open(self) -> None:
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.desk = self.run(self._opened())

    async def _opened(self) -> Desk:
        desk = Desk(lambda: self.now)
        await desk.open()
        return desk

    def close(self) -> None:
        self.run(self.desk.close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    def run(self, doing: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(30)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return {b"authorization": f"Bearer {self.caller.secret}".encode()}

    def check(self, who: Customer | str, feature: str = "credits", *, at: datetime | None = None, **more: Any) -> Any:
        self.now = at or self.now
        answer = self.run(self.desk.check(self.headers, read_check(body_of(who, feature, more))))
        return shown(answer)

    def track(self, who: Customer | str, feature: str = "credits", *, at: datetime | None = None, **more: Any) -> Any:
        self.now = at or self.now
        answer = self.run(self.desk.track(self.headers, read_track(body_of(who, feature, more))))
        return shown(answer)

    def track_batch(
        self, bodies: list[dict[str, Any]], *, at: datetime | None = None, header: str | None = None
    ) -> Any:
        """Many in one call."""
        self.now = at or self.now
        read = read_batch(json.dumps({"events": bodies}).encode(), header)
        return shown(self.run(self.desk.track_all(self.headers, read)))

    def track_all(self, bodies: list[dict[str, Any]]) -> list[Any]:
        """All at once, as if they had come in one turn of the loop."""

        async def together() -> list[Answer | None]:
            asked = (self.desk.track(self.headers, read_track(json.dumps(body).encode())) for body in bodies)
            return await asyncio.gather(*asked)

        return [shown(answer) for answer in self.run(together())]


def body_of(who: Customer | str, feature: str, more: dict[str, Any]) -> bytes:
    name = who if isinstance(who, str) else who.customer_id
    return json.dumps({"customerId": name, "featureSlug": feature, **more}).encode()


def shown(answer: Answer | None) -> Any:
    """The body of a good answer; the status of another one."""
    if answer is None:
        return None
    status, _, body = answer
    return json.loads(body) if status == 200 else status


@pytest.fixture
def hot(transactional_db: None) -> Iterator[Hot]:
    forget_items()
    found = Hot(caller_with())
    found.open()
    yield found
    found.close()
    forget_items()
