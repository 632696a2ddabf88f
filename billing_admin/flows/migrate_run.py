"""Carrying a migration out, and taking it back: contract by contract, each in a transaction of its own under its
customer's lock.

What is left is a query on the rows, so it may be doubled, late, or killed at any instruction. A contract that cannot
be moved keeps the cause in its row and holds nobody up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction

from billing_admin.flows.change import preview
from billing_admin.flows.drafts import issue_drafts_of
from billing_admin.flows.enable_plan import Told, carry_out_change
from billing_admin.flows.migrate_order import Order, Timing, differing
from billing_admin.flows.migrate_outlook import Look, RowOutlook, proposal_for
from billing_admin.flows.plan_change import Proposal
from billing_admin.flows.plan_change import Timing as ChangeTiming
from billing_admin.flows.position import read_position
from billing_admin.flows.renew import catch_up
from catalog.models import PlanVersion
from catalog.terms import ChangeKind
from customers import switch
from customers.holdings import contract_of
from customers.journal import Actor, record
from customers.models import Customer, MigrationRow, Operation, Phase, PlanMigration, Subscription
from invoicing.models import InvoiceLine
from invoicing.states import InvoiceState

log = structlog.get_logger("billing_admin.migrate")

BATCH = 200
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


@dataclass
class Carried:
    """What one stretch of work came to; `failures` are named `migration/contract`."""

    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, Exception]] = field(default_factory=list)


# Forth ----------------------------------------------------------------------------------------------------------------


def carry_out(
    migration: PlanMigration, now: datetime, most: int | None = None, *, on_progress: Callable[[], None] | None = None
) -> Carried:
    """Move, or take back, what is left of a migration: at most so many contracts. Whom somebody else holds is left for
    the next pass; a migration of which nothing is left is finished."""
    carried, look = Carried(), Look(Order.of(migration))
    last = 0
    while most is None or carried.done < most:
        migration.refresh_from_db(fields=["state"])
        batch = _left(migration, last)[: BATCH if most is None else min(BATCH, most - carried.done)]
        if not batch:
            break
        for row in batch:
            if migration.state == PlanMigration.State.TAKING_BACK:
                take_back_one(row, now, carried=carried)
            else:
                move_one(row, look, now, carried=carried)
            if on_progress:
                on_progress()
        last = batch[-1].pk
    _finish(migration, now)
    return carried


def _left(migration: PlanMigration, after: int) -> Sequence[MigrationRow]:
    """Rows with work left, in their order; none while the migration is held."""
    rows = migration.rows.filter(pk__gt=after).order_by("pk").select_related("migration")
    if migration.state == PlanMigration.State.RUNNING:
        return list(rows.left()[:BATCH])
    if migration.state == PlanMigration.State.TAKING_BACK:
        return list(rows.filter(state__in=STANDING)[:BATCH])
    return []


def _finish(migration: PlanMigration, now: datetime) -> None:
    rows = migration.rows
    if not rows.left().exists():
        running = PlanMigration.objects.filter(pk=migration.pk, state=PlanMigration.State.RUNNING)
        running.update(state=PlanMigration.State.FINISHED, finished_at=now)
    if not rows.filter(state__in=STANDING).exists():
        taking = PlanMigration.objects.filter(pk=migration.pk, state=PlanMigration.State.TAKING_BACK)
        taking.update(state=PlanMigration.State.TAKEN_BACK, finished_at=now)
    migration.refresh_from_db(fields=["state", "finished_at"])


def move_one(
    row: MigrationRow, look: Look, now: datetime, *, carried: Carried, from_states: Sequence[str] = (State.WAITING,)
) -> None:
    """Move one contract, or keep in its row why not. `from_states` other than waiting is a retry: it is moved alone,
    whatever the migration does."""
    alone = State.WAITING not in from_states
    try:
        with transaction.atomic():
            customer = _hold(row, wait=alone)
            if customer is None or not _claim(row, from_states, alone=alone):
                return
            catch_up(customer, now=now)
            [seen] = look.at([row.subscription_id], now)
            if seen.code:
                _write(row, State.SKIPPED, now, code=seen.code, problem=seen.problem)
                carried.skipped += 1
            elif look.order.timing == Timing.NOW:
                _move_now(row, customer, look, seen, now)
            else:
                _schedule(row, customer, look, seen, now)
            carried.done += 1
    except OperationalError:
        raise  # not the contract's fault: it is tried again
    except Exception as error:
        _fail(row, from_states, error, now)
        carried.failures.append((name_of(row), error))
        carried.done += 1


def name_of(row: MigrationRow) -> str:
    """How a failure names the row: the public ids of its migration and its contract."""
    return f"{row.migration.public_id}/{row.subscription.public_id}"


def _hold(row: MigrationRow, *, wait: bool) -> Customer | None:
    """Hold the customer's row; None when somebody else does and nobody waits."""
    rows = Customer.objects.select_for_update(skip_locked=not wait)
    return rows.filter(pk=row.customer_id).first()


def _claim(row: MigrationRow, states: Sequence[str], *, alone: bool) -> bool:
    """Whether the row is still to be done; nobody else does it meanwhile. The caller holds the customer."""
    rows = MigrationRow.objects.select_for_update(of=("self",)).filter(pk=row.pk, state__in=states)
    if not alone:
        rows = rows.filter(migration__state=PlanMigration.State.RUNNING)
    return rows.exists()


def _actor(migration: PlanMigration) -> Actor:
    """Whoever began it, with who approved it."""
    return Actor(
        migration.created_by, migration.user_id, approval=migration.approval, approved_by=migration.approved_by
    )


def _schedule(row: MigrationRow, customer: Customer, look: Look, seen: RowOutlook, now: datetime) -> None:
    subscription = Subscription.objects.get(pk=row.subscription_id)
    assert seen.at is not None and seen.anchor is not None
    phase = switch.schedule(
        subscription,
        look.order.to_version,
        anchor=seen.anchor,
        starts_at=seen.at,
        quantity=seen.quantity,
        at=now,
        now=now,
        bought=dict(seen.bought),
    )
    operation = record(
        customer,
        "plan.migration_scheduled",
        f"Moves to {look.order.to_version} on {seen.at:%-d %b %Y}",
        actor=_actor(row.migration),
        now=now,
        reason=row.migration.reason,
        inputs=_inputs(row, seen),
        effects={
            "startsAt": seen.at,
            "oldPrice": seen.old_price,
            "newPrice": seen.new_price,
            "currency": seen.currency,
        },
    )
    _done(row, State.SCHEDULED, seen, now, phase=phase, operation=operation, at=seen.at)


def _inputs(row: MigrationRow, seen: RowOutlook) -> dict[str, object]:
    migration = row.migration
    return {
        "migration": migration.public_id,
        "subscription": seen.subscription,
        "fromVersion": migration.from_version.number,
        "toVersion": migration.to_version.number,
    }


def _move_now(row: MigrationRow, customer: Customer, look: Look, seen: RowOutlook, now: datetime) -> None:
    """Features only: usage is carried and reset dates are kept, as with any such change."""
    told = Told("plan.migrated", f"Moved to {look.order.to_version}", _inputs(row, seen))
    phase = Phase.objects.select_related("subscription", "version__plan").get(pk=seen.phase_id)
    proposal = proposal_for(look, contract_of(phase, customer))
    made, operation = _switch_features(row, customer, proposal, _actor(row.migration), row.migration.reason, told, now)
    _done(row, State.MOVED, seen, now, phase=made, operation=operation, at=made.starts_at)


class PricesDiffer(ValidationError):
    def __init__(self) -> None:
        super().__init__("The price of this contract would change, so it waits for a billing cycle.", "prices_differ")


def _switch_features(
    row: MigrationRow, customer: Customer, proposal: Proposal, actor: Actor, reason: str, told: Told, now: datetime
) -> tuple[Phase, Operation]:
    """Switch the contract at once to what changes no price. Raises `PricesDiffer`."""
    subscription = Subscription.objects.get(pk=row.subscription_id)
    issue_drafts_of(subscription, actor=actor, now=now)
    plan = row.migration.plan
    at = now.replace(microsecond=0)
    position = read_position(customer, plan, at=at, subscription=subscription)
    change = preview(position, proposal)
    if change.kind is not ChangeKind.FEATURES:
        raise PricesDiffer
    enabled = carry_out_change(customer, change, reason=reason, actor=actor, now=now, told=told)
    phase = enabled.subscription.phase_at(at)
    assert phase is not None, "a contract that goes on has a phase in force"
    return phase, enabled.operation


def _done(
    row: MigrationRow, state: str, seen: RowOutlook, now: datetime, *, phase: Phase, operation: Operation, at: datetime
) -> None:
    row.old_price, row.new_price, row.lost = seen.old_price, seen.new_price, [*seen.lost, *seen.above]
    row.phase, row.operation, row.at = phase, operation, at
    _write(row, state, now)


def _write(row: MigrationRow, state: str, now: datetime, *, code: str = "", problem: str = "") -> None:
    row.state, row.code, row.problem, row.done_at = state, code, problem[:500], now
    row.save()


def _fail(row: MigrationRow, states: Sequence[str], error: Exception, now: datetime) -> None:
    code, why = "internal_error", "Something went wrong on our side."
    if isinstance(error, ValidationError):
        code, why = getattr(error, "code", None) or "invalid", error.messages[0]
    else:
        log.exception("a contract of a migration failed", row=name_of(row), exc_info=error)
    rows = MigrationRow.objects.filter(pk=row.pk, state__in=states)
    rows.update(state=State.FAILED, code=code[:40], problem=why[:500], done_at=now)
    row.refresh_from_db()


# Back -----------------------------------------------------------------------------------------------------------------


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
            customer = _hold(row, wait=alone)
            rows = MigrationRow.objects.select_for_update(of=("self",)).filter(pk=row.pk, state__in=states)
            if customer is None or not rows.exists():
                return None
            row.refresh_from_db()
            operation = _back(row, customer, by, why, now)
            _write(row, State.TAKEN_BACK, now)
    except OperationalError:
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


def _back(row: MigrationRow, customer: Customer, actor: Actor, reason: str, now: datetime) -> Operation | None:
    """Undo what the row did. Raises `Kept`, and what keeps a contract from being changed."""
    if row.phase is None:
        return None
    catch_up(customer, now=now)
    phase = Phase.objects.select_related("subscription", "version__plan").get(pk=row.phase_id)
    if phase.withdrawn_at is not None:
        return None  # somebody withdrew it, or replaced it by another change
    subscription = Subscription.objects.get(pk=row.subscription_id)
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
        following = subscription.phases.kept().filter(starts_at__gt=now).order_by("starts_at", "id").first()
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
        _, operation = _switch_features(row, customer, proposal, actor, reason, told, now)
    except PricesDiffer:
        raise Kept("prices_began", phase.starts_at) from None
    return operation
