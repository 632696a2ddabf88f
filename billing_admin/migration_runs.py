"""The passes of the clockwork that move customers to another version, or take that back.

What is left stands in the rows of each migration; a pass goes on for so many contracts, and the next one from there.
"""

from collections.abc import Collection
from datetime import datetime

from billing_admin.alone import Kind, alone_at
from billing_admin.flows.migrate import retry
from billing_admin.flows.migrate_row import Carried
from billing_admin.flows.migrate_run import carry_out
from billing_admin.runs import AGAIN, Pass, open_failures
from customers.models import MigrationRow, PlanMigration

MIGRATIONS = "migrate_plans"
NAMES = {MIGRATIONS: "Moving customers to another version"}
# So many contracts are moved before the numbers of the pass are written, and so many in one pass.
STRETCH, MOST = 100, 3_000
UNDER_WAY = (PlanMigration.State.RUNNING, PlanMigration.State.TAKING_BACK)


def migrations(*, now: datetime, only: str = "") -> Pass:
    """Go on with what is under way, the oldest first; with `only`, with one by its public id."""
    this = Pass(MIGRATIONS, now)
    rows = PlanMigration.objects.filter(state__in=UNDER_WAY).select_related("plan", "from_version", "to_version")
    for migration in (rows.filter(public_id=only) if only else rows).order_by("id"):
        try:
            with alone_at(Kind.MIGRATION, migration.pk) as is_ours:
                if is_ours:
                    _go_on(this, migration)
                    _resolve([migration.public_id], now)
        except Exception as error:  # not one contract's: the database, or the migration as a whole
            this.fail(migration.public_id, error)
    return this


def _go_on(this: Pass, migration: PlanMigration) -> None:
    while this.done < MOST:
        carried = carry_out(migration, this.now, STRETCH)
        _count(this, carried)
        if carried.done < STRETCH or migration.state not in UNDER_WAY:
            return


def _count(this: Pass, carried: Carried) -> None:
    well = carried.done - len(carried.failures)
    if well:
        this.wrote(done=well, skipped=carried.skipped)
    for name, error in carried.failures:
        this.fail(name, error)


def _again(what: Collection[str], asked_by: str, now: datetime) -> Pass:
    """Contracts that failed, by the name of their failure: each is tried alone."""
    this = Pass(MIGRATIONS, now, asked_by=asked_by)
    for name in what:
        migration, _, subscription = name.partition("/")
        rows = MigrationRow.objects.filter(migration__public_id=migration, subscription__public_id=subscription)
        row = rows.select_related("migration", "subscription").first()
        if row is None or row.state != MigrationRow.State.FAILED:
            _resolve([name], now)  # somebody has seen to it
            continue
        try:
            carried = Carried()
            retry(row, now=now, carried=carried)
            _count(this, carried)
            if not carried.failures:
                _resolve([name], now)
        except Exception as error:
            this.fail(name, error)
    return this


def _resolve(what: Collection[str], now: datetime) -> None:
    open_failures().filter(run__task=MIGRATIONS, what__in=what).update(resolved_at=now)


AGAIN[MIGRATIONS] = _again
