"""Units of a customer's own, given and taken back by somebody: the engine's verbs with their line in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from billing_admin.flows.approvals import guard_done
from billing_admin.flows.customers import CustomerClosed
from catalog.models import Feature
from catalog.money import grouped
from catalog.periods import every
from customers.journal import Actor, record, require_reason
from customers.models import Customer
from entitlements.grant import change_grant, grant, void_grant
from entitlements.models import Grant
from entitlements.provision import hold


@dataclass(frozen=True, slots=True)
class Wanted:
    """Units as they were asked for: once, or again in each window of `recurs`; `ends_at` None: they last."""

    feature: Feature
    units: Decimal
    ends_at: datetime | None
    label: str
    source: str = Grant.Source.BONUS
    priority: int = 0
    starts_at: datetime | None = None
    recurs: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@transaction.atomic
def give_units(
    customer: Customer, wanted: Wanted, *, reason: str = "", key: str | None = None, actor: Actor, now: datetime
) -> Grant:
    """Give units; the same `key` gives the same grant again, and writes nothing.

    A bonus takes a reason. Raises `CustomerClosed`, `ReasonRequired`, `ApprovalNeeded` and what `grant` raises.
    """
    hold(customer, alone=True)
    if Customer.objects.filter(pk=customer.pk).exclude(closed_at=None).exists():
        raise CustomerClosed
    if wanted.source == Grant.Source.BONUS:
        reason = require_reason(reason, "a bonus")
    repeated = bool(key) and customer.grants.filter(idempotency_key=key).exists()
    often = f" every {every(wanted.recurs)}" if wanted.recurs else ""
    until = f" until {wanted.ends_at:%-d %b %Y}" if wanted.ends_at else ""
    operation = None
    if not repeated:
        operation = record(
            customer,
            "grant.given",
            f"Gave {grouped(wanted.units)} {wanted.feature.name}{often}{until}: {wanted.label}",
            actor=actor,
            now=now,
            reason=reason,
            inputs={
                "feature": wanted.feature.slug,
                "units": wanted.units,
                "source": wanted.source,
                "priority": wanted.priority,
                "from": wanted.starts_at,
                "until": wanted.ends_at,
                "recurs": wanted.recurs,
                "key": key,
            },
        )
    given = grant(
        customer,
        wanted.feature,
        wanted.units,
        ends_at=wanted.ends_at,
        label=wanted.label,
        source=wanted.source,
        starts_at=wanted.starts_at,
        priority=wanted.priority,
        recurs=wanted.recurs,
        reason=reason,
        metadata=wanted.metadata,
        key=key,
        operation=operation,
        now=now,
    )
    if not repeated:  # last, so that what cannot be is refused rather than asked for; all of it is rolled back
        asked = {"who": customer, "wanted": wanted, "idempotency_key": key}
        guard_done("grant.given", actor=actor, now=now, reason=reason, **asked)
    return given


@transaction.atomic
def void_units(given: Grant, *, reason: str, actor: Actor, now: datetime) -> Decimal:
    """Take back what is left of a grant and all that would still come of it; returns the units taken back.

    Again: nothing, and no line in the journal. Raises `ReasonRequired`.
    """
    reason = require_reason(reason, "taking units back")
    hold(given.customer, alone=True)
    given = Grant.objects.select_related("customer", "feature").get(pk=given.pk)
    if given.voided_at is not None:
        return Decimal(0)
    operation = record(
        given.customer,
        "grant.voided",
        f"Took back what is left of {given.label} ({given.feature.name})",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"grant": given.public_id},
    )
    return void_grant(given, reason=reason, now=now, operation=operation)


@transaction.atomic
def change_units(given: Grant, changes: Mapping[str, Any], *, actor: Actor, now: datetime) -> Grant:
    """Change units, ends_at, label, priority, reason or metadata while nothing is used; what is not named stays.

    Raises `ApprovalNeeded`, and what `change_grant` raises.
    """
    hold(given.customer, alone=True)
    given = Grant.objects.select_related("customer", "feature").get(pk=given.pk)
    before = {name: getattr(given, name) for name in changes}
    operation = record(
        given.customer,
        "grant.changed",
        f"Changed {given.label} ({given.feature.name}): {', '.join(changes) or 'nothing'}",
        actor=actor,
        now=now,
        reason=changes.get("reason") or given.reason,
        inputs={"grant": given.public_id, **changes},
        effects={"before": before},
    )
    wanted = {"ends_at": given.ends_at, **changes}
    changed = change_grant(given, **wanted, operation=operation, now=now)
    why = changes.get("reason") or given.reason
    guard_done("grant.changed", actor=actor, now=now, reason=why, given=given, changes=changes)
    return changed
