"""Verbs on a contract that somebody else decides about: it follows what a payment provider says of it.

Nothing of it is ever billed here, so no instant of work is planned: `bills_at` stays empty, no boundary ends it, and
only what the provider says moves its state. Its windows still turn by dates alone, from its anchor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db.models import Q

from catalog.models import Plan, PlanVersion
from customers.models import Customer, Phase, Subscription
from customers.states import LIVE, SubscriptionState

RUNNING = (*LIVE, SubscriptionState.PENDING_PAYMENT)


class FollowsStripe(ValidationError):
    """A mirrored contract is changed where it is made."""

    def __init__(self, subscription: Subscription):
        super().__init__(
            f"{subscription.public_id} follows a subscription in Stripe: change or cancel it there.",
            code="follows_stripe",
        )


def is_mirrored(subscription: Subscription) -> bool:
    return bool(subscription.phases.filter(version__plan__kind=Plan.Kind.STRIPE).exists())


def refuse_mirrored(subscription: Subscription | None) -> None:
    """Nothing about a mirrored contract is decided here."""
    if subscription is not None and is_mirrored(subscription):
        raise FollowsStripe(subscription)


@dataclass(frozen=True, slots=True)
class Course:
    """What is said of a contract. `trial_ends_at` only while the trial runs; `ends_at` is an end that is planned."""

    version: PlanVersion
    quantity: int
    state: str
    anchor: datetime
    period_starts_at: datetime
    period_ends_at: datetime
    trial_ends_at: datetime | None = None
    ends_at: datetime | None = None

    @property
    def legs(self) -> "Sequence[Leg]":
        """What is in force now, and what dates alone make of it: a trial turns into what it was begun for."""
        if self.trial_ends_at is None:
            return [Leg(self.version.pk, self.quantity, self.anchor)]
        after = Leg(self.version.pk, self.quantity, max(self.anchor, self.trial_ends_at))
        return [Leg(self.version.pk, self.quantity, self.period_starts_at, self.trial_ends_at), after]


@dataclass(frozen=True, slots=True)
class Leg:
    """A phase to be; a trial has an end."""

    version_id: int
    quantity: int
    anchor: datetime
    trial_ends_at: datetime | None = None

    def fits(self, phase: Phase) -> bool:
        """Whether a phase is the same but for its dates."""
        same = (phase.version_id, phase.quantity, phase.is_trial)
        if same != (self.version_id, self.quantity, self.trial_ends_at is not None):
            return False
        return phase.is_trial or phase.anchor == self.anchor

    def create(self, subscription: Subscription, starts_at: datetime) -> Phase:
        return Phase.objects.create(
            subscription=subscription,
            version_id=self.version_id,
            anchor=self.anchor,
            quantity=self.quantity,
            starts_at=starts_at,
            ends_at=self.trial_ends_at,
            is_trial=self.trial_ends_at is not None,
        )


def begin(customer: Customer, course: Course, *, at: datetime) -> Subscription:
    """A contract that runs since the instant."""
    plan = course.version.plan
    subscription = Subscription(customer=customer, product_id=plan.product_id, add_on=plan.add_on, started_at=at)
    for name, value in _columns(course).items():
        setattr(subscription, name, value)
    subscription.save()
    starts_at = at
    for leg in course.legs:
        leg.create(subscription, starts_at)
        starts_at = leg.trial_ends_at or starts_at
    return subscription


def _columns(course: Course) -> dict[str, object]:
    return {
        "state": course.state,
        "quantity": course.quantity,
        "period_starts_at": course.period_starts_at,
        "period_ends_at": course.period_ends_at,
        "trial_ends_at": course.trial_ends_at,
        "ends_at": course.ends_at,
        "end_reason": "canceled" if course.ends_at else "",
        "bills_at": None,
    }


def phase_in_force(subscription: Subscription, at: datetime) -> Phase:
    phases = subscription.phases.kept().filter(starts_at__lte=at).select_related("version__plan", "subscription")
    phase: Phase | None = phases.order_by("-starts_at", "-id").first()
    assert phase is not None, "a contract that runs has begun"
    return phase


def follow(subscription: Subscription, course: Course, *, at: datetime, now: datetime) -> bool:
    """Bring a contract in line with what is said of it. Returns whether another phase is in force from the instant."""
    _write(subscription, course)
    present, (leg, *later) = phase_in_force(subscription, at), course.legs
    coming = list(subscription.phases.kept().filter(starts_at__gt=at).order_by("starts_at"))
    stays = leg.fits(present)
    kept = stays and present.ends_at == leg.trial_ends_at and len(coming) == len(later)
    if kept and all(leg.fits(phase) for leg, phase in zip(later, coming, strict=True)):
        return False
    subscription.phases.filter(pk__in=[phase.pk for phase in coming]).update(withdrawn_at=now)
    present.ends_at = leg.trial_ends_at if stays else at
    present.save(update_fields=["ends_at"])
    starts_at = leg.trial_ends_at or at
    if not stays:
        leg.create(subscription, at)
    for following in later:
        following.create(subscription, starts_at)
    return not stays


def _write(subscription: Subscription, course: Course) -> None:
    """Its columns. Only the calendar moving on is no change of the contract, so its history keeps none of that."""
    changed = {name: value for name, value in _columns(course).items() if getattr(subscription, name) != value}
    if course.trial_ends_at is None:
        changed.pop("trial_ends_at", None)  # when a trial ended stays known
    for name, value in changed.items():
        setattr(subscription, name, value)
    if changed.keys() <= {"period_starts_at", "period_ends_at"}:
        Subscription.objects.filter(pk=subscription.pk).update(**changed) if changed else None
        return
    subscription.save(update_fields=list(changed))


def end(subscription: Subscription, *, at: datetime, reason: str, now: datetime) -> datetime:
    """End a contract at the instant, or with the start of its last phase where that came later. Returns when."""
    begun = subscription.phases.kept().filter(starts_at__lte=now)
    at = max([at, *begun.values_list("starts_at", flat=True)])
    subscription.phases.kept().filter(starts_at__gt=at).update(withdrawn_at=now)
    begun.filter(Q(ends_at=None) | Q(ends_at__gt=at)).update(ends_at=at)
    subscription.move_to(SubscriptionState.ENDED)
    subscription.ended_at, subscription.ends_at, subscription.end_reason = at, at, reason[:20]
    subscription.save()
    return at
