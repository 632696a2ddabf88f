"""Taking back moves to another version: of one contract, or of a whole migration."""

from datetime import datetime

from django.core.exceptions import ValidationError

from billing_admin.approving import Effect
from billing_admin.flows.migrate import MIGRATE, progress, take_back, take_back_row
from billing_admin.flows.migrate_back import refuse_kept
from billing_admin.undoing import CannotTakeBack, TakenBack, inverse
from customers.journal import Actor
from customers.models import MigrationRow, Operation, PlanMigration, Subscription

OVER = {
    PlanMigration.State.TAKING_BACK: "It is being taken back.",
    PlanMigration.State.TAKEN_BACK: "It was taken back.",
}


class _RowMoved:
    """One contract: the version before, as if nothing had been done."""

    permissions = (MIGRATE,)

    def why_not(self, operation: Operation, now: datetime) -> str:
        row = _row(operation)
        if row is None or row.phase is None:
            return "Nothing of this move is left."
        if row.state == MigrationRow.State.TAKEN_BACK:
            return "It was taken back."
        if row.phase.withdrawn_at is not None:
            return "It was withdrawn, or another change took its place."
        try:
            refuse_kept(row, row.phase, Subscription.objects.get(pk=row.subscription_id), now)
        except ValidationError as kept:
            sentence: str = kept.messages[0]
            return sentence
        return ""

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        row = _row(operation)
        assert row is not None and row.phase is not None, "what can be taken back has a phase"
        begins = row.phase.starts_at
        words = "Moves back to" if begins <= now else f"Takes back the move on {begins:%-d %b %Y}; it stays on"
        return TakenBack(
            f"{words} {row.migration.from_version}.", facts={"phase": row.phase.pk, "begun": begins <= now}
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        row = _row(operation)
        assert row is not None, "what can be taken back has a row"
        made = take_back_row(row, reason=reason, actor=actor, now=now)
        if made is None:
            raise CannotTakeBack(row.problem or "Nothing of this move is left.")
        return made


def _row(operation: Operation) -> MigrationRow | None:
    rows = MigrationRow.objects.filter(operation=operation)
    joined = ("migration__plan", "migration__from_version__plan", "migration__to_version__plan")
    return rows.select_related(*joined, "subscription", "phase__version__plan", "phase__subscription").first()


@inverse
class MoveScheduled(_RowMoved):
    verb = "plan.migration_scheduled"


@inverse
class MovedAtOnce(_RowMoved):
    verb = "plan.migrated"


@inverse
class MigrationStarted:
    """The whole, in batches: what is invoiced already stays, and says so."""

    verb = "migration.started"
    permissions = (MIGRATE,)

    def why_not(self, operation: Operation, now: datetime) -> str:
        return OVER.get(PlanMigration.State(_migration(operation).state), "")

    def look(self, operation: Operation, now: datetime) -> TakenBack:
        migration = _migration(operation)
        found = progress(migration, now)
        left = found.waiting + found.scheduled + found.moved
        effects = [Effect("Waiting", str(found.waiting), "0")] if found.waiting else []
        effects += [Effect("Scheduled", str(found.scheduled), "0")] if found.scheduled else []
        stays = (f"Of {found.moved:,} that have moved, those that are invoiced stay.",) if found.moved else ()
        return TakenBack(
            f"Takes back {left:,} moves to {migration.to_version}, in batches.",
            tuple(effects),
            stays,
            facts={"migration": migration.public_id, "state": migration.state},
        )

    def take_back(self, operation: Operation, *, reason: str, actor: Actor, now: datetime) -> Operation:
        return take_back(_migration(operation), reason=reason, actor=actor, now=now)


def _migration(operation: Operation) -> PlanMigration:
    found: PlanMigration = PlanMigration.objects.select_related("plan", "from_version__plan", "to_version__plan").get(
        public_id=operation.inputs["migration"]
    )
    return found
