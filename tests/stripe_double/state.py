"""The double's memory: every object by id, the clock, events, idempotency keys; kept as JSON when given a file."""

import json
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.stripe_double import shapes
from tests.stripe_double.errors import KINDS, missing

LETTERS = string.ascii_letters + string.digits

Thing = dict[str, Any]


@dataclass
class Request:
    """One request as it arrived: `params` is the form, `status` what was answered (0: nothing was)."""

    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None = None
    replayed: bool = False
    status: int = 0


@dataclass
class Remembered:
    """The answer an idempotency key stands for, with what was asked; `at` in Unix seconds."""

    asked: str
    status: int
    body: dict[str, Any]
    at: int


@dataclass
class World:
    key: str
    url: str = ""
    account: str = ""
    things: dict[str, Thing] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, Remembered] = field(default_factory=dict)
    outbox: list[str] = field(default_factory=list)  # ids of events that no receiver has taken yet
    tokens: dict[str, str] = field(default_factory=dict)
    fixed: int | None = None  # the control clock, Unix seconds
    ahead: int = 0  # seconds the wall clock was moved, while the control clock is not set
    # What the present request is, for the events it causes.
    request: tuple[str | None, str | None] = (None, None)

    def __post_init__(self) -> None:
        self.account = self.account or "acct_" + letters(16)

    @property
    def livemode(self) -> bool:
        return "_live_" in self.key

    @property
    def publishable_key(self) -> str:
        return self.key.replace("sk_", "pk_", 1)

    # -- the clock -----------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return self.fixed if self.fixed is not None else int(datetime.now(UTC).timestamp()) + self.ahead

    # -- objects -------------------------------------------------------------------------------------------------------

    def make(self, kind: str, prefix: str, **values: Any) -> Thing:
        """A new stored object with an id of its own and this account's mode."""
        known = shapes.CLASSES[kind].__annotations__
        values.setdefault("id", f"{prefix}_{letters(24)}")
        for name, value in (("created", self.now()), ("livemode", self.livemode)):
            if name in known:
                values.setdefault(name, value)
        return self.keep(shapes.make(kind, **values))

    def keep(self, thing: Thing) -> Thing:
        self.things[thing["id"]] = thing
        self.kinds.setdefault(thing["object"], []).append(thing["id"])
        return thing

    def forget(self, thing: Thing) -> Thing:
        """Remove it; the answer Stripe gives for a deleted object."""
        del self.things[thing["id"]]
        self.kinds[thing["object"]].remove(thing["id"])
        return {"id": thing["id"], "object": thing["object"], "deleted": True}

    def find(self, identity: str | None) -> Thing | None:
        return self.things.get(identity or "")

    def get(self, identity: str, kind: str, param: str = "id") -> Thing:
        """The object of that kind, or resource_missing; in a parameter a deleted customer is missing too."""
        found = self.things.get(identity)
        if found is None or found["object"] != kind or (found.get("deleted") and param != "id"):
            prefix = {"invoiceitem": "ii", "payment_method": "pm", "setup_intent": "seti"}.get(kind, "")
            raise missing(KINDS.get(prefix, kind), identity, param)
        return found

    def all(self, kind: str, **where: Any) -> list[Thing]:
        """Oldest first."""
        found = (self.things[identity] for identity in self.kinds.get(kind, []))
        return [thing for thing in found if all(thing.get(name) == value for name, value in where.items())]

    def newest(self, kind: str) -> Iterator[Thing]:
        return (self.things[identity] for identity in reversed(self.kinds.get(kind, [])))

    # -- kept over restarts --------------------------------------------------------------------------------------------

    def save(self, file: Path) -> None:
        spare = file.with_suffix(".new")
        # Not asdict: its copy of everything would take longer than writing it.
        kept = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "request"}
        spare.write_text(json.dumps(kept, default=vars))
        spare.replace(file)

    @classmethod
    def load(cls, file: Path, key: str) -> "World":
        saved = json.loads(file.read_text()) | {"key": key}
        saved["keys"] = {name: Remembered(**value) for name, value in saved["keys"].items()}
        return cls(**saved)


def letters(count: int) -> str:
    # Whoever seeds `random` for a test would get the same ids again.
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def secret_of(thing: Thing) -> str:
    return f"{thing['id']}_secret_{letters(25)}"
