"""What a browser sees of Stripe."""

from dataclasses import dataclass, field
from typing import Any

from tests.stripe_double.state import World


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer(world: World, method: str, path: str, form: dict[str, Any]) -> Reply:
    return Reply(404, b"Not found", {"Content-Type": "text/plain"})
