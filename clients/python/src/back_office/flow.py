"""How an operation talks to whoever drives it: it yields what it wants done and is sent what came of it.

The operations know nothing of sockets, threads or event loops, so one text serves the sync and the async client.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Request:
    """One HTTP request; `path` is below the service's address, `within` the seconds that it may take."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    within: float = 5.0


@dataclass(frozen=True)
class Reply:
    """What came back; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True)
class Lost:
    """No answer. Whether the service has acted is unknown."""

    why: str


@dataclass(frozen=True)
class Wait:
    seconds: float


Step: TypeAlias = Request | Wait
Outcome: TypeAlias = Reply | Lost | None
Flow: TypeAlias = Generator[Step, Outcome, Answer]
