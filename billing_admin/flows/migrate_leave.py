"""A contract that got a custom plan while its move to another version was scheduled: no cohort moves it any more."""

from datetime import datetime

from customers.models import MigrationRow, Phase, Subscription

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
