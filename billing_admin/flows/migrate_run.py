"""Carrying a migration out: contract by contract, each in a transaction of its own under its customer's lock.

What is left is a query on the rows, so it may be doubled, late, or killed at any instruction. A contract that cannot
be moved keeps the cause in its row and holds nobody up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.core.exceptions import ValidationError
from django.db import OperationalError, transaction
from django.db.models import Q

from billing_admin.flows.billing_run import stamps_of
from billing_admin.flows.enable_plan import Told
from billing_admin.flows.migrate_back import STANDING, take_back_one
from billing_admin.flows.migrate_order import Order, Timing
from billing_admin.flows.migrate_outlook import Look, RowOutlook, proposal_for
from billing_admin.flows.migrate_row import BilledMeanwhile, Carried, hold, name_of, switch_features, write
from billing_admin.flows.renew import catch_up
from customers import switch
from customers.holdings import contract_of
from customers.journal import Actor, record
from customers.models import Customer, MigrationRow, Operation, Phase, PlanMigration, Subscription
from entitlements.models import Balance

log = structlog.get_logger("billing_admin.migrate")

BATCH = 200
BACK = (PlanMigration.State.TAKING_BACK, PlanMigration.State.TAKEN_BACK)
State = MigrationRow.State


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
        ready = None if migration.state == PlanMigration.State.TAKING_BACK else prepare(batch, look, now)
        for row in batch:
            row.migration = migration  # with its versions, which every line in the journal names
            if ready is None:
                take_back_one(row, now, carried=carried)
            else:
                move_one(row, look, now, carried=carried, ready=ready)
            if on_progress:
                on_progress()
        last = batch[-1].pk
    _finish(migration, now)
    return carried


def _left(migration: PlanMigration, after: int) -> Sequence[MigrationRow]:
    """Rows with work left, in their order; none while the migration is held."""
    rows = migration.rows.filter(pk__gt=after).order_by("pk")
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


@dataclass(frozen=True, slots=True)
class Ready:
    """What the contracts of a batch were seen to be, by their keys, and the stamps of their customers before that."""

    seen: Mapping[int, RowOutlook] = field(default_factory=dict)
    stamps: Mapping[int, str] = field(default_factory=dict)

    def of(self, row: MigrationRow) -> RowOutlook | None:
        """What was seen, unless something of the customer moved since. The caller holds the customer."""
        stamp = self.stamps.get(row.customer_id)
        if stamp is None or stamps_of([row.customer_id]).get(row.customer_id) != stamp:
            return None
        return self.seen.get(row.subscription_id)


def prepare(batch: Sequence[MigrationRow], look: Look, now: datetime) -> Ready:
    """Look at a batch at once. Customers of whom something is due are settled first, so they are looked at later; so
    is everybody, where one contract cannot be read: it is found when its turn comes."""
    customers = {row.customer_id for row in batch}
    stamps = stamps_of(customers)
    due = set(Subscription.objects.due(now).filter(customer__in=customers).values_list("customer_id", flat=True))
    windows = Balance.objects.filter(Q(ends_at__lte=now) | Q(level_units__isnull=False), closed_at=None)
    due |= set(windows.filter(customer__in=customers).values_list("customer_id", flat=True))
    contracts = [row.subscription_id for row in batch if row.customer_id not in due]
    try:
        seen = look.at(contracts, now)
    except ValidationError:
        return Ready()
    return Ready({row.subscription_id: row for row in seen}, {key: stamps[key] for key in stamps if key not in due})


def move_one(
    row: MigrationRow,
    look: Look,
    now: datetime,
    *,
    carried: Carried,
    ready: Ready | None = None,
    from_states: Sequence[str] = (State.WAITING,),
) -> None:
    """Move one contract, or keep in its row why not. `from_states` other than waiting is a retry: it is moved alone,
    whatever the migration does."""
    alone = State.WAITING not in from_states
    try:
        with transaction.atomic():
            subscription = hold(row, now, wait=alone)
            if subscription is None or not _claim(row, from_states, alone=alone):
                return
            seen = ready.of(row) if ready else None
            if seen is None:
                catch_up(subscription.customer, now=now)
                subscription.refresh_from_db()
                [seen] = look.at([row.subscription_id], now)
            if seen.code:
                write(row, State.SKIPPED, now, code=seen.code, problem=seen.problem)
                carried.skipped += 1
            elif look.order.timing == Timing.NOW:
                _move_now(row, subscription.customer, look, seen, now)
            else:
                _schedule(row, subscription, look, seen, now)
            carried.done += 1
    except (OperationalError, BilledMeanwhile):
        raise  # not the contract's fault: it is tried again
    except Exception as error:
        _fail(row, from_states, error, now)
        carried.failures.append((name_of(row), error))
        carried.done += 1


def _claim(row: MigrationRow, states: Sequence[str], *, alone: bool) -> bool:
    """Whether the row is still to be done; nobody else does it meanwhile. The caller holds the customer.

    A row that is not waiting is looked at by nobody who takes the whole back, so its migration is held, too.
    """
    rows = MigrationRow.objects.select_for_update(of=("self",)).filter(pk=row.pk, state__in=states)
    if not alone:
        return rows.filter(migration__state=PlanMigration.State.RUNNING).exists()
    migration = PlanMigration.objects.select_for_update().get(pk=row.migration_id)
    return migration.state not in BACK and rows.exists()


def _actor(migration: PlanMigration) -> Actor:
    """Whoever began it, with who approved it."""
    return Actor(
        migration.created_by, migration.user_id, approval=migration.approval, approved_by=migration.approved_by
    )


def _schedule(row: MigrationRow, subscription: Subscription, look: Look, seen: RowOutlook, now: datetime) -> None:
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
        subscription.customer,
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
    made, operation = switch_features(row, customer, proposal, _actor(row.migration), row.migration.reason, told, now)
    _done(row, State.MOVED, seen, now, phase=made, operation=operation, at=made.starts_at)


def _done(
    row: MigrationRow, state: str, seen: RowOutlook, now: datetime, *, phase: Phase, operation: Operation, at: datetime
) -> None:
    row.old_price, row.new_price, row.lost = seen.old_price, seen.new_price, [*seen.lost, *seen.above]
    row.phase, row.operation, row.at = phase, operation, at
    write(row, state, now)


def _fail(row: MigrationRow, states: Sequence[str], error: Exception, now: datetime) -> None:
    code, why = "internal_error", "Something went wrong on our side."
    if isinstance(error, ValidationError):
        code, why = getattr(error, "code", None) or "invalid", error.messages[0]
    else:
        log.exception("a contract of a migration failed", row=name_of(row), exc_info=error)
    rows = MigrationRow.objects.filter(pk=row.pk, state__in=states)
    rows.update(state=State.FAILED, code=code[:40], problem=why[:500], done_at=now)
    row.refresh_from_db()
