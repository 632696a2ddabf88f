"""Idempotency keys: the first answer is the answer, for the same request, for a day."""

import json
from typing import Any

from tests.stripe_double.errors import conflict, invalid, key_reused
from tests.stripe_double.state import Remembered, World

LONGEST = 255
LIFE = 24 * 3600  # seconds


class Keys:
    """Used under the server's lock; `busy` holds keys whose first request is not answered yet."""

    def __init__(self) -> None:
        self.busy: set[str] = set()

    def begin(self, world: World, key: str, asked: str) -> Remembered | None:
        """The remembered answer to replay, or None: then the key is busy until `end`."""
        if len(key) > LONGEST:
            raise invalid(f"The idempotency key must be at most {LONGEST} characters.")
        if key in self.busy:
            raise conflict()
        remembered = world.keys.get(key)
        if remembered and remembered.at + LIFE > world.now():
            if remembered.asked != asked:
                raise key_reused(key)
            return remembered
        self.busy.add(key)
        return None

    def remember(self, world: World, key: str, asked: str, status: int, body: dict[str, Any]) -> None:
        world.keys[key] = Remembered(asked, status, body, world.now())

    def end(self, key: str) -> None:
        self.busy.discard(key)


def asked_of(method: str, path: str, form: dict[str, Any]) -> str:
    return json.dumps([method, path, form], sort_keys=True)
