"""A contract that leaves its cohort while its move to another version is scheduled, for a custom plan; and one that
joins it again, because whatever had taken the move away is taken back."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from customers.models import MigrationRow, Phase, PlanMigration, Subscription

SINCE = "It got a custom plan since, so its move was taken away."


def is_of_cohort(phase: Phase) -> bool:
    """Whether a phase to come is a move of many customers, rather than a change that was made for this one."""
    return MigrationRow.objects.filter(phase=phase, state=MigrationRow.State.SCHEDULED).exists()


def leave_cohort(subscription: Subscription, *, now: datetime) -> None:
    """Say in its migration why the contract is left alone, after its scheduled move was withdrawn by the same act."""
    rows = MigrationRow.objects.filter(subscription=subscription, state=MigrationRow.State.SCHEDULED)
    rows.filter(phase__withdrawn_at=now).update(
        state=MigrationRow.State.SKIPPED, code="custom_plan", problem=SINCE, done_at=now
    )


def taken_from_cohort(phase: Phase) -> bool:
    """Whether it was a move of many customers that somebody took back since, for this contract or as a whole."""
    taken_back = PlanMigration.State.TAKING_BACK, PlanMigration.State.TAKEN_BACK
    rows = MigrationRow.objects.filter(phase=phase)
    return rows.filter(Q(state=MigrationRow.State.TAKEN_BACK) | Q(migration__state__in=taken_back)).exists()


def join_again(pairs: Iterable[tuple[Phase, Phase]], *, now: datetime) -> None:
    """Let migrations follow phases that take the place of withdrawn ones, so that the moves can still be taken back.

    `pairs` are `(withdrawn, planned again)`. The caller holds the customer.
    """
    left = Q(state=MigrationRow.State.SCHEDULED) | Q(state=MigrationRow.State.SKIPPED, code="custom_plan")
    for withdrawn, again in pairs:
        MigrationRow.objects.filter(left, phase=withdrawn).update(
            phase=again, state=MigrationRow.State.SCHEDULED, code="", problem="", done_at=now
        )
