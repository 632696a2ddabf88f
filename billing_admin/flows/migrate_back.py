"""Taking moves to another version back, while the switch has not been invoiced: what was scheduled is withdrawn, what
was switched at once is switched back, and what went too far is kept and says why."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import Prefetch, prefetch_related_objects

from billing_admin.flows.enable_plan import Told
from billing_admin.flows.migrate_order import Order, Timing, differing
from billing_admin.flows.migrate_outlook import Look, proposal_for
from billing_admin.flows.migrate_row import (
    OUTCOME,
    BilledMeanwhile,
    Carried,
    PricesDiffer,
    hold,
    name_of,
    switch_features,
    write,
)
from billing_admin.flows.plan_change import Timing as ChangeTiming
from billing_admin.flows.renew import catch_up
from catalog.models import PlanVersion
from customers import switch
from customers.holdings import contract_of
from customers.journal import Actor, record
from customers.models import Customer, MigrationRow, Operation, Phase, Subscription
from invoicing.models import InvoiceLine
from invoicing.states import InvoiceState

log = structlog.get_logger("billing_admin.migrate")

State = MigrationRow.State
# What a taking back has still to look at.
STANDING = (State.WAITING, State.SCHEDULED, State.MOVED)
KEPT_WHY = {
    "changed_since": "The contract was changed since, so there is nothing of ours to take back.",
    "invoiced": "It began on {day} and is invoiced; what is invoiced stays.",
    "prices_began": "It began on {day} with other prices, so it is not simply taken back: make a change of plan.",
    "ended": "The contract has ended.",
}


class Kept(ValidationError):
    """A contract whose move is not taken back, with the sentence why."""

    def __init__(self, code: str, at: datetime | None = None):
        super().__init__(KEPT_WHY[code].format(day=f"{at:%-d %b %Y}" if at else ""), code=code)


def take_back_one(
    row: MigrationRow,
    now: datetime,
    *,
    carried: Carried,
    reason: str = "",
    actor: Actor | None = None,
    states: Sequence[str] = STANDING,
) -> Operation | None:
    """Take one contract back while its switch has not been invoiced; else its row says why it is kept.

    Without an actor it is a part of taking the whole back. Returns the line in the journal, if anything was written.
    """
    alone = actor is not None
    migration = row.migration
    by = actor or Actor(migration.taken_back_by)
    why = reason or migration.take_back_reason
    try:
        with transaction.atomic():
            subscription = hold(row, now, wait=alone)
            if subscription is None or not _claim(row, states):
                return None
            operation = _back(row, subscription, by, why, now)
            write(row, State.TAKEN_BACK, now)
    except (OperationalError, BilledMeanwhile):
        raise
    except ValidationError as kept:
        code = getattr(kept, "code", None) or "invalid"
        MigrationRow.objects.filter(pk=row.pk, state__in=states).update(
            state=State.KEPT, code=code[:40], problem=kept.messages[0][:500], done_at=now
        )
        row.refresh_from_db()
        carried.done, carried.skipped = carried.done + 1, carried.skipped + 1
        return None
    except Exception as error:
        if alone:
            raise
        log.exception("a contract was not taken back", row=name_of(row), exc_info=error)
        carried.failures.append((name_of(row), error))
        return None
    carried.done += 1
    return operation


def _claim(row: MigrationRow, states: Sequence[str]) -> bool:
    """Hold the row and read what became of it until now; False when there is nothing to take back any more. The caller
    holds the customer."""
    present = MigrationRow.objects.select_for_update(of=("self",)).select_related("operation").filter(state__in=states)
    try:
        row.refresh_from_db(fields=OUTCOME, from_queryset=present)
    except MigrationRow.DoesNotExist:
        return False
    return True


def _back(row: MigrationRow, subscription: Subscription, actor: Actor, reason: str, now: datetime) -> Operation | None:
    """Undo what the row did. Raises `Kept`, and what keeps a contract from being changed."""
    if row.phase_id is None:
        return None
    customer = subscription.customer
    catch_up(customer, now=now)
    subscription.refresh_from_db()
    prefetch_related_objects([subscription], Prefetch("phases", Phase.objects.select_related("version__plan")))
    phase = next(phase for phase in subscription.phases.all() if phase.pk == row.phase_id)
    if phase.withdrawn_at is not None:
        return None  # somebody withdrew it, or replaced it by another change
    refuse_kept(row, phase, subscription, now)
    if phase.starts_at > now:
        return _withdraw(row, customer, subscription, phase, actor, reason, now)
    return _switch_back(row, customer, subscription, phase, actor, reason, now)


def refuse_kept(row: MigrationRow, phase: Phase, subscription: Subscription, now: datetime) -> None:
    """Refuse to take back what has gone too far. Raises `Kept`, `ContractParked`."""
    if not subscription.is_live:
        raise Kept("ended")
    switch.refuse_parked(subscription)
    if phase.starts_at > now:
        following = next((p for p in subscription.kept_phases() if p.starts_at > now), None)
        if following is None or following.pk != phase.pk:
            raise Kept("changed_since")
        return
    present = subscription.phase_at(now)
    if present is None or present.pk != phase.pk or subscription.next_phase(now) is not None:
        raise Kept("changed_since")
    if InvoiceLine.objects.filter(phase=phase).exclude(invoice__state=InvoiceState.VOID).exists():
        raise Kept("invoiced", phase.starts_at)
    if differing(Order.of(row.migration)):
        raise Kept("prices_began", phase.starts_at)


def _told(row: MigrationRow, summary: str) -> Told:
    inputs = {"migration": row.migration.public_id, "subscription": row.subscription.public_id}
    return Told("plan.migration_taken_back", summary, inputs, reverses=row.operation)


def _withdraw(
    row: MigrationRow,
    customer: Customer,
    subscription: Subscription,
    phase: Phase,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Operation:
    switch.withdraw_next(subscription, at=now, now=now)
    told = _told(row, f"Took back the move to {phase.version} on {phase.starts_at:%-d %b %Y}")
    return record(
        customer,
        told.verb,
        told.summary,
        actor=actor,
        now=now,
        reason=reason,
        inputs=told.inputs,
        effects={"startsAt": phase.starts_at},
        reverses=told.reverses,
    )


def _switch_back(
    row: MigrationRow,
    customer: Customer,
    subscription: Subscription,
    phase: Phase,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Operation:
    """The version before, at once; usage is carried again."""
    before = subscription.phases.kept().filter(starts_at__lt=phase.starts_at).order_by("starts_at", "id").last()
    version: PlanVersion = row.migration.from_version
    look = Look(replace(Order.of(row.migration), timing=Timing.NOW))
    proposal = replace(
        proposal_for(look, contract_of(phase, customer)),
        terms=version.terms(),
        standard=version.terms(),
        version_id=version.pk,
        bought=tuple(sorted(before.bought_units().items())) if before else (),
        timing=ChangeTiming.NOW,
    )
    told = _told(row, f"Moved back to {version}")
    try:
        _, operation = switch_features(row, customer, proposal, actor, reason, told, now)
    except PricesDiffer:
        raise Kept("prices_began", phase.starts_at) from None
    return operation
