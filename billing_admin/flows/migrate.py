"""Moving many customers to another version of their plan: look, begin, hold, let go on, stop, take back.

Nothing here waits for the contracts: what is begun is rows, and `migrate_run.carry_out` (or the task of that name)
moves them batch by batch. Past invoices never change.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Case, CharField, Count, F, Q, QuerySet, Value, When

from billing_admin.approving import Effect, Shown, Size, guarded
from billing_admin.flows.approvals import guard
from billing_admin.flows.migrate_back import take_back_one
from billing_admin.flows.migrate_order import CannotMigrate, Order
from billing_admin.flows.migrate_outlook import Look, Outlook, OutlookMoved, dry_run
from billing_admin.flows.migrate_row import Carried
from billing_admin.flows.migrate_run import move_one
from catalog.after import after_commit
from catalog.money import format_minor
from customers.journal import Actor, record, require_reason
from customers.models import Customer, MigrationRow, Operation, PlanMigration

MIGRATE = "customers.migrate_plan"
REPLACED = "replaced"
Is = PlanMigration.State
RowIs = MigrationRow.State
COPY_ROWS = f"""
    COPY {MigrationRow._meta.db_table} (migration_id, customer_id, subscription_id, state, code, problem,
        old_price, new_price, lost, at, done_at)
    FROM STDIN
"""


class WrongState(ValidationError):
    def __init__(self, what: str, state: str):
        super().__init__(f"This cannot be {what}: it is {state.lower()}.", code="migration_state")


# Beginning ------------------------------------------------------------------------------------------------------------


@guarded
@dataclass
class MigratePlan:
    """The act of beginning a migration; `outlook` spares a second look where one was taken just now."""

    order: Order
    outlook: Outlook | None = None

    key: ClassVar[str] = "migration.started"
    title: ClassVar[str] = "Moving customers to another version"
    measures: ClassVar[Mapping[str, str]] = {"customers": "customers"}
    permissions: ClassVar[tuple[str, ...]] = (MIGRATE,)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(Order.from_json(inputs))

    def to_json(self) -> dict[str, Any]:
        return self.order.to_json()

    def customer(self) -> Customer | None:
        return None

    def sizes(self, now: datetime) -> list[Size]:
        return [Size("customers", Decimal(self._look(now).moves))]

    def shown(self, now: datetime) -> Shown:
        outlook = self._look(now)
        order = outlook.order
        warnings = [f"{n:,} are left alone: {code.replace('_', ' ')}." for code, n in outlook.skips.items()]
        if outlook.losing:
            warnings.append(f"{outlook.losing:,} lose access to something.")
        return Shown(
            f"Move {outlook.moves:,} contracts from {order.from_version} to {order.to_version}",
            tuple(
                Effect(f"A period, {currency}", format_minor(sum_.old, currency), format_minor(sum_.new, currency))
                for currency, sum_ in outlook.sums.items()
            ),
            tuple(warnings),
            facts={"fingerprint": outlook.fingerprint},
        )

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        _, operation = _begin(self.order, self._look(now), reason=reason, actor=actor, now=now)
        return operation

    def _look(self, now: datetime) -> Outlook:
        if self.outlook is None:
            self.outlook = dry_run(self.order, now)
        return self.outlook


def begin(order: Order, *, reason: str, actor: Actor, now: datetime, confirmed: str | None = None) -> PlanMigration:
    """Write the order with its rows; workers carry it out from now on. `confirmed` is the fingerprint of a dry run.

    Raises `ReasonRequired`, `CannotMigrate`, `BadMapping`, `BadRows`, `OutlookMoved`, and `ApprovalNeeded` when a
    second person has to agree.
    """
    reason = require_reason(reason, "a migration")
    outlook = dry_run(order, now)
    if confirmed is not None and outlook.fingerprint != confirmed:
        raise OutlookMoved(outlook)
    migration, _ = _begin(order, outlook, reason=reason, actor=actor, now=now)
    return migration


@transaction.atomic
def _begin(
    order: Order, outlook: Outlook, *, reason: str, actor: Actor, now: datetime
) -> tuple[PlanMigration, Operation]:
    guard(MigratePlan(order, outlook), actor=actor, now=now, reason=reason)
    reason = require_reason(reason, "a migration")
    if not outlook.moves:
        raise CannotMigrate("None of these contracts can be moved.", "nothing_to_move")
    migration = PlanMigration.objects.create(
        plan=order.plan,
        from_version=order.from_version,
        to_version=order.to_version,
        timing=order.timing,
        not_before=order.not_before,
        mappings=[mapping.to_json() for mapping in order.mappings],
        chosen=order.chosen.to_json(),
        state=Is.RUNNING,
        fingerprint=outlook.fingerprint,
        reason=reason,
        created_by=actor.name,
        user_id=actor.user_id,
        created_at=now,
        started_at=now,
        approval=actor.approval,
        approved_by=actor.approved_by,
    )
    _write_rows(migration, outlook, now)
    operation = record(
        None,
        MigratePlan.key,
        f"Began to move {outlook.moves:,} contracts from {order.from_version} to {order.to_version}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"migration": migration.public_id, **order.to_json()},
        effects={"moves": outlook.moves, "skips": outlook.skips},
        fingerprint=outlook.fingerprint,
    )
    _hand_over(migration)
    return migration, operation


def _write_rows(migration: PlanMigration, outlook: Outlook, now: datetime) -> None:
    """A row for each contract, by COPY: there may be a hundred thousand, and somebody waits for the page."""
    with connection.cursor() as cursor, cursor.copy(COPY_ROWS) as copy:
        for row in outlook.rows:
            state, done_at = (RowIs.SKIPPED, now) if row.code else (RowIs.WAITING, None)
            lost = json.dumps([*row.lost, *row.above])
            copy.write_row(
                (
                    *(migration.pk, row.customer_id, row.subscription_id, str(state), row.code, row.problem),
                    *(row.old_price, row.new_price, lost, row.at, done_at),
                )
            )


def _hand_over(migration: PlanMigration) -> None:
    """Let a worker go on at once. Should the queue be away, the next tick finds the same rows."""
    from billing_admin.tasks import carry_out_migration  # Celery takes memory that web processes need only here

    after_commit(carry_out_migration.apply_async, [migration.public_id], retry=False)


# Holding, stopping, taking back ---------------------------------------------------------------------------------------


@transaction.atomic
def pause(migration: PlanMigration, *, reason: str, actor: Actor, now: datetime) -> PlanMigration:
    """Hold it: what is moved stays so, what waits goes on waiting. Raises `WrongState`, `ReasonRequired`."""
    migration, _ = _move_to(migration, Is.PAUSED, (Is.RUNNING,), "paused", reason, actor, now)
    return migration


@transaction.atomic
def resume(migration: PlanMigration, *, reason: str = "", actor: Actor, now: datetime) -> PlanMigration:
    """Go on with a paused one."""
    migration, _ = _move_to(migration, Is.RUNNING, (Is.PAUSED,), "resumed", reason or "goes on", actor, now)
    _hand_over(migration)
    return migration


@transaction.atomic
def stop(migration: PlanMigration, *, reason: str, actor: Actor, now: datetime) -> PlanMigration:
    """Move nobody else; who is moved stays so until it is taken back."""
    migration, _ = _move_to(migration, Is.STOPPED, (Is.RUNNING, Is.PAUSED), "stopped", reason, actor, now)
    return migration


@transaction.atomic
def take_back(migration: PlanMigration, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Take the whole back, in batches: what is not invoiced yet is as before; what is, is kept and says so."""
    reason = require_reason(reason, "taking a migration back")
    PlanMigration.objects.filter(pk=migration.pk).update(take_back_reason=reason, taken_back_by=actor.name)
    acts = Operation.objects.filter(customer=None, verb=MigratePlan.key)  # so that the index of customers finds it
    begun = acts.filter(inputs__migration=migration.public_id).first()
    states = (Is.RUNNING, Is.PAUSED, Is.STOPPED, Is.FINISHED)
    migration, operation = _move_to(migration, Is.TAKING_BACK, states, "taken back", reason, actor, now, reverses=begun)
    _hand_over(migration)
    return operation


def _move_to(
    migration: PlanMigration,
    state: str,
    allowed: tuple[str, ...],
    word: str,
    reason: str,
    actor: Actor,
    now: datetime,
    *,
    reverses: Operation | None = None,
) -> tuple[PlanMigration, Operation]:
    reason = require_reason(reason, f"a migration that is {word}")
    row = PlanMigration.objects.select_for_update().get(pk=migration.pk)
    if row.state not in allowed:
        raise WrongState(word, row.get_state_display())
    row.state = state
    row.finished_at = now if state == Is.STOPPED else None
    row.save(update_fields=["state", "finished_at"])
    operation = record(
        None,
        f"migration.{word.replace(' ', '_')}",
        f"The migration {row.public_id} to {row.to_version} was {word}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"migration": row.public_id},
        effects={state: count for state, count in progress(row, now).counts.items() if count},
        reverses=reverses,
    )
    return row, operation


def retry(row: MigrationRow, *, now: datetime, carried: Carried | None = None) -> MigrationRow:
    """Try one contract again that was skipped or failed, alone, whatever the migration does; its row says what came
    of it, and `carried` counts it. Raises `WrongState`."""
    migration = row.migration
    if row.state not in (RowIs.FAILED, RowIs.SKIPPED):
        raise WrongState("tried again", row.get_state_display())
    if migration.state in (Is.TAKING_BACK, Is.TAKEN_BACK):
        raise WrongState("tried again", migration.get_state_display())
    states = (RowIs.FAILED, RowIs.SKIPPED)
    move_one(row, Look(Order.of(migration)), now, carried=carried or Carried(), from_states=states)
    row.refresh_from_db()
    return row


def take_back_row(row: MigrationRow, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
    """Take one contract back; its row says `kept` and why when that cannot be. Raises `WrongState`."""
    reason = require_reason(reason, "taking a move back")
    states = (RowIs.WAITING, RowIs.SCHEDULED, RowIs.MOVED, RowIs.KEPT)
    if row.state not in states:
        raise WrongState("taken back", row.get_state_display())
    operation = take_back_one(row, now, carried=Carried(), reason=reason, actor=actor, states=states)
    row.refresh_from_db()
    return operation


# How far it is --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """Contracts by what became of them until now. `replaced`: somebody withdrew or replaced what was scheduled."""

    waiting: int = 0
    scheduled: int = 0
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    taken_back: int = 0
    kept: int = 0
    replaced: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """All that nothing is left to do for."""
        return self.total - self.waiting

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 100


def rows_of(migration: PlanMigration, now: datetime) -> "QuerySet[Any]":
    """The rows with `state_now`: one that was scheduled has moved once its date came; dates say so, no worker does."""
    return _as_of(migration.rows.all(), now).select_related("customer", "subscription", "operation")


def _as_of(rows: "QuerySet[MigrationRow]", now: datetime) -> "QuerySet[Any]":
    replaced = When(Q(state=RowIs.SCHEDULED, phase__withdrawn_at__isnull=False), then=Value(REPLACED))
    begun = When(Q(state=RowIs.SCHEDULED, at__lte=now), then=Value(str(RowIs.MOVED)))
    return rows.annotate(state_now=Case(replaced, begun, default=F("state"), output_field=CharField()))


def progress(migration: PlanMigration, now: datetime) -> Progress:
    """One query."""
    return progress_of([migration], now)[migration.pk]


def progress_of(migrations: Sequence[PlanMigration], now: datetime) -> dict[int, Progress]:
    """Of several at once, by their keys; one query."""
    rows = _as_of(MigrationRow.objects.filter(migration__in=migrations), now).order_by()
    counts: dict[int, dict[str, int]] = {migration.pk: {} for migration in migrations}
    for key, state, count in rows.values_list("migration_id", "state_now").annotate(count=Count("pk")):
        counts[key][state] = count
    return {key: Progress(**found) for key, found in counts.items()}
