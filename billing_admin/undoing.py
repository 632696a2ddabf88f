"""How acts are taken back. Each verb of the journal that can be has an `Inverse` here, by its name.

An inverse says what would be true again, what cannot be taken back, and does it: as an act of its own whose line in
the journal points at the first. `flows/undo.py` finds it, shows it and carries it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from billing_admin.approving import Effect
from customers.journal import Actor
from customers.models import Operation


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The inverse of one act as it would be now. `stays` names what cannot be taken back, a sentence each; `facts` are
    what must not move between looking and doing."""

    sentence: str
    effects: tuple[Effect, ...] = ()
    stays: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Inverse(Protocol):
    """`permission` is that of the act itself: who may do it may take it back."""

    verb: ClassVar[str]
    permissions: ClassVar[tuple[str, ...]]

    def why_not(self, operation: Operation, now: datetime) -> str:
        """Why it can no longer be taken back, in a sentence; empty when it can."""

    def look(self, operation: Operation, now: datetime) -> TakenBack: ...

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        """One transaction; the line in the journal has `reverses=operation`."""


INVERSES: dict[str, Inverse] = {}


Made = TypeVar("Made", bound=Inverse)


def inverse(made: type[Made]) -> type[Made]:
    """Register how acts of one verb are taken back."""
    INVERSES[made.verb] = made()
    return made
