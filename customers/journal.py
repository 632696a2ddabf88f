"""One line in the journal for every act."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder

from customers.models import Customer, Operation


@dataclass(frozen=True, slots=True)
class TakesBack:
    """An act that is being undone: the next line with the verb points at it; what else is written does not."""

    operation: Operation
    verb: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, an API key, or the clockwork; and who else approved it, where that was asked for."""

    name: str
    user_id: int | None = None
    approval: str = ""  # public id of the approved request that is being carried out
    approved_by: str = ""
    batch: str = ""  # public id of the import or the bulk act of which this is a row
    takes_back: TakesBack | None = None  # what is being undone, where that is so

    @classmethod
    def of(cls, user: Any) -> "Actor":
        return cls(user.get_username(), user.pk)


CLOCKWORK = Actor("clockwork")


class ReasonRequired(ValidationError):
    def __init__(self, act: str = "this"):
        super().__init__(f"Give a reason for {act}; it is shown wherever the effect shows.", code="reason_required")


def require_reason(reason: str, act: str = "this") -> str:
    reason = (reason or "").strip()
    if not reason:
        raise ReasonRequired(act)
    return reason


def plain_json(value: Any) -> Any:
    """Decimals and instants as text, so that inputs and effects can be stored and read back by people."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def record(
    customer: Customer | None,
    verb: str,
    summary: str,
    *,
    actor: Actor,
    now: datetime,
    reason: str = "",
    inputs: Mapping[str, Any] | None = None,
    effects: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    reverses: Operation | None = None,
) -> Operation:
    """Append one act. `verb` is `noun.past` such as `plan.enabled`; `summary` is a sentence for people."""
    operation = draft(
        customer,
        verb,
        summary,
        actor=actor,
        now=now,
        reason=reason,
        inputs=inputs,
        effects=effects,
        fingerprint=fingerprint,
        reverses=reverses,
    )
    operation.save()
    return operation


def draft(
    customer: Customer | None,
    verb: str,
    summary: str,
    *,
    actor: Actor,
    now: datetime,
    reason: str = "",
    inputs: Mapping[str, Any] | None = None,
    effects: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    reverses: Operation | None = None,
) -> Operation:
    """The line of an act, not written yet."""
    return Operation(
        customer=customer,
        verb=verb,
        summary=summary[:500],
        actor=actor.name,
        user_id=actor.user_id,
        reason=reason,
        inputs=plain_json(dict(inputs or {})),
        effects=plain_json(dict(effects or {})),
        fingerprint=fingerprint,
        approval=actor.approval,
        approved_by=actor.approved_by,
        batch=actor.batch,
        reverses=reverses or _taken_back(actor, verb),
        at=now,
    )


def _taken_back(actor: Actor, verb: str) -> Operation | None:
    undone = actor.takes_back
    return undone.operation if undone is not None and undone.verb == verb else None
