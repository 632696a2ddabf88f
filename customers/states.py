"""The states of a subscription and the one map of its moves."""

from django.core.exceptions import ValidationError
from django.db import models


class SubscriptionState(models.TextChoices):
    SCHEDULED = "scheduled", "Scheduled"
    PENDING_PAYMENT = "pending_payment", "Pending payment"
    TRIALING = "trialing", "Trialing"
    ACTIVE = "active", "Active"
    PAST_DUE = "past_due", "Past due"
    ENDED = "ended", "Ended"
    WITHDRAWN = "withdrawn", "Withdrawn"


NEXT: dict[str, set[str]] = {
    SubscriptionState.SCHEDULED: {
        SubscriptionState.PENDING_PAYMENT,
        SubscriptionState.TRIALING,
        SubscriptionState.ACTIVE,
        SubscriptionState.WITHDRAWN,
    },
    SubscriptionState.PENDING_PAYMENT: {SubscriptionState.ACTIVE, SubscriptionState.ENDED},
    SubscriptionState.TRIALING: {SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE, SubscriptionState.ENDED},
    # From active, or past due, to a trial: a free plan becomes the trial of a paid one.
    SubscriptionState.ACTIVE: {SubscriptionState.TRIALING, SubscriptionState.PAST_DUE, SubscriptionState.ENDED},
    SubscriptionState.PAST_DUE: {SubscriptionState.TRIALING, SubscriptionState.ACTIVE, SubscriptionState.ENDED},
}
# Those that give access: a customer whose payment is late keeps what they have until the contract ends.
LIVE = (SubscriptionState.TRIALING, SubscriptionState.ACTIVE, SubscriptionState.PAST_DUE)


# Those whose phases apply by their dates alone: a contract that was agreed for a day to come gives access from that day
# on, whether or not a worker has begun it by then, unless it waits for its first payment.
APPLYING = (*LIVE, SubscriptionState.SCHEDULED)


class CannotMove(ValidationError):
    def __init__(self, state: str, to: str):
        super().__init__(f"A subscription that is {state} cannot become {to}.", code="cannot_move")
