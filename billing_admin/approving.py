"""Acts that can need a second person. Each is a value: made from what was asked for, it can show what it would do and
do it. The rules (`ApprovalRule`) say from which size on; `flows/approvals.py` asks, decides and carries out.

An act is registered with `@guarded`. Its verb calls `flows.approvals.guard(act, actor=…, now=…)` first, inside its
transaction, so that pages, API and bulk acts meet the same rule. Where the act calls the verb from another module, the
verb names it instead: `guard_as("coupon.applied", actor=…, now=…, customer=…, …)` with the fields of its dataclass.

More that an act may have: `ruled_as`, the key of the act whose rules it goes by; `also_ruled_as`, keys of acts whose
rules hold for its sizes besides its own; `parts`, acts that it carries out on its way, each with its own sizes
(`Contains`); `was`, how large one was that stands in the journal (`AddsUp`); and `prepare(reason, actor, now)`, what
has to be done over the network first, outside of any transaction and safe to do again.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

from customers.journal import Actor, plain_json
from customers.models import Customer, Operation


@dataclass(frozen=True, slots=True)
class Size:
    """How big an act is by one measure. Money is in major units of `currency`; a percentage is 0 to 100."""

    measure: str
    value: Decimal
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of a preview: what it is about, before and after, in words for people. `is_passing`: it moves with the
    clock by itself, so it outdates nothing."""

    label: str
    before: str = ""
    after: str = ""
    url: str = ""
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What an act would do, as its requester and its approver both see it. `facts` are what must not move until it is
    applied: amounts and states, no clock and nothing that only decorates."""

    sentence: str
    effects: tuple[Effect, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        facts = json.dumps(plain_json(dict(self.facts)), sort_keys=True)
        return hashlib.sha256(f"{self.sentence}\0{facts}".encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        effects = [asdict(effect) for effect in self.effects]
        return {"sentence": self.sentence, "effects": effects, "warnings": list(self.warnings)}


class Act(Protocol):
    """`key` is `noun.past`, as in the journal; `measures` names what rules can measure, with words for each."""

    key: ClassVar[str]
    title: ClassVar[str]
    measures: ClassVar[Mapping[str, str]]
    permissions: ClassVar[tuple[str, ...]]

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        """The act again; rows are found by their public ids. Raises `ValidationError` for what is gone."""

    def to_json(self) -> dict[str, Any]: ...

    def customer(self) -> Customer | None: ...

    def sizes(self, now: datetime) -> Sequence[Size]: ...

    def shown(self, now: datetime) -> Shown: ...

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        """Call the verb. The actor is whoever asked, with the approval on it."""


@runtime_checkable
class TakesMore(Protocol):
    """An act that takes other permissions, too, from case to case."""

    def more_permissions(self, now: datetime) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """An act that another one carries out on its way: by its key, with how big it is."""

    key: str
    sizes: Sequence[Size] = ()


@runtime_checkable
class Contains(Protocol):
    """An act with others inside, which nobody is asked about again. `contains` are their keys, `parts` those that are
    inside this time."""

    contains: ClassVar[tuple[str, ...]]

    def parts(self, now: datetime) -> Sequence[Part]: ...


class AddsUp(ABC):
    """An act whose sizes add up with those of others of its kind: `together` are the measures."""

    together: ClassVar[tuple[str, ...]] = ("amount",)

    @classmethod
    @abstractmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """How big it was, from its line in the journal."""

    @classmethod
    def stays(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """What stays of one that was taken back: nothing, where none of it can be used meanwhile."""
        return []


class GivenUp(Protocol):
    """What an act can have besides: it hears that its request was refused, withdrawn, or ran out."""

    def given_up(self, *, why: str, actor: Actor, now: datetime) -> None: ...


ACTS: dict[str, type[Act]] = {}


Guarded = TypeVar("Guarded", bound=type[Act])


def guarded(act: Guarded) -> Guarded:
    """Register an act, so that rules can name it and its requests can be carried out."""
    ACTS[act.key] = act
    return act
