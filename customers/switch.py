"""Verbs on a contract: start, switch, schedule, withdraw, cancel, roll to the next period, end.

They write the subscription and its phases, nothing else; the desk's flows add balances, invoices and the journal.
Callers hold the customer's row and hand in prepared instants; nothing here decides money.
"""

from datetime import datetime

from django.core.exceptions import ValidationError

from catalog.models import PlanVersion
from catalog.periods import Cadence, Period, boundary, count_until, period_containing
from catalog.terms import PlanTerms
from customers.contracts import MULTIPLYING
from customers.models import Customer, Phase, Subscription
from customers.states import SubscriptionState


class NothingScheduled(ValidationError):
    def __init__(self) -> None:
        super().__init__("There is no scheduled change to withdraw.", code="nothing_scheduled")


class TooLateToWithdraw(ValidationError):
    def __init__(self) -> None:
        super().__init__("The change has taken effect already; make a new change instead.", code="already_in_effect")


class ContractParked(ValidationError):
    def __init__(self, subscription: Subscription):
        super().__init__(
            f"{subscription.public_id} is parked: {subscription.parked_because} Look at it and let it go on first.",
            code="contract_parked",
        )


def refuse_parked(subscription: Subscription) -> None:
    """What looks ahead from now would step over boundaries that nobody has settled."""
    if subscription.parked_at is not None:
        raise ContractParked(subscription)


def next_bill(terms: PlanTerms, anchor: datetime, at: datetime) -> datetime | None:
    """The next instant after `at` at which these terms bill something; None when they never do."""
    if terms.kind not in MULTIPLYING or terms.is_one_off:
        return None
    cadence = Cadence.parse(terms.tick)
    return boundary(anchor, cadence, count_until(anchor, cadence, at) + 1)


def plan_period(terms: PlanTerms, anchor: datetime, at: datetime) -> Period | None:
    """The period of the plan's own cadence; None for plans that have no periods."""
    if terms.kind not in MULTIPLYING or terms.is_one_off:
        return None
    return period_containing(anchor, Cadence.parse(terms.cadence), at)


def start(
    customer: Customer,
    version: PlanVersion,
    *,
    anchor: datetime,
    at: datetime,
    quantity: int = 1,
    ends_at: datetime | None = None,
    end_reason: str = "",
) -> tuple[Subscription, Phase]:
    """A new contract, active from the instant."""
    subscription = Subscription(
        customer=customer,
        product_id=version.plan.product_id,
        add_on=version.plan.add_on,
        quantity=quantity,
        started_at=at,
        ends_at=ends_at,
        end_reason=end_reason,
    )
    subscription.move_to(SubscriptionState.ACTIVE)
    set_period(subscription, version.terms(), anchor, at)
    subscription.save()
    phase = Phase.objects.create(
        subscription=subscription, version=version, anchor=anchor, quantity=quantity, starts_at=at, ends_at=ends_at
    )
    return subscription, phase


def set_period(subscription: Subscription, terms: PlanTerms, anchor: datetime, at: datetime) -> None:
    """The present period and the next instant of work; a planned end comes first."""
    period = plan_period(terms, anchor, at)
    subscription.period_starts_at = period.starts_at if period else None
    subscription.period_ends_at = period.ends_at if period else None
    stops = [next_bill(terms, anchor, at), subscription.ends_at]
    switch = subscription.phases.filter(withdrawn_at=None, starts_at__gt=at).first() if subscription.pk else None
    if switch:
        stops.append(switch.starts_at)
    subscription.bills_at = min((stop for stop in stops if stop), default=None)


def switch_now(
    subscription: Subscription,
    version: PlanVersion,
    *,
    anchor: datetime,
    at: datetime,
    now: datetime,
    quantity: int,
    keep_schedule: bool,
) -> Phase:
    """End the phase in force and begin another. A scheduled change or end goes, unless it is kept."""
    current = _current(subscription, at)
    if not keep_schedule:
        withdraw_next(subscription, at=at, now=now)
        subscription.ends_at, subscription.end_reason = None, ""
        current.ends_at = None
    ends_at = current.ends_at
    current.ends_at = at
    current.save(update_fields=["ends_at"])
    phase = Phase.objects.create(
        subscription=subscription, version=version, anchor=anchor, quantity=quantity, starts_at=at, ends_at=ends_at
    )
    subscription.quantity = quantity
    set_period(subscription, version.terms(), anchor, at)
    subscription.save()
    return phase


def schedule(
    subscription: Subscription,
    version: PlanVersion,
    *,
    anchor: datetime,
    starts_at: datetime,
    quantity: int,
    at: datetime,
    now: datetime,
) -> Phase:
    """The next phase: it begins when the one in force ends. What was scheduled before is replaced."""
    withdraw_next(subscription, at=at, now=now)
    subscription.ends_at, subscription.end_reason = None, ""
    current = _current(subscription, at)
    current.ends_at = starts_at
    current.save(update_fields=["ends_at"])
    phase = Phase.objects.create(
        subscription=subscription, version=version, anchor=anchor, quantity=quantity, starts_at=starts_at
    )
    set_period(subscription, current.terms(), current.anchor, at)
    subscription.save()
    return phase


def withdraw_next(subscription: Subscription, *, at: datetime, now: datetime) -> Phase | None:
    """Take back the scheduled phase, if any; the present one runs on."""
    scheduled = subscription.phases.filter(withdrawn_at=None, starts_at__gt=at).first()
    if scheduled is None:
        return None
    scheduled.withdrawn_at = now
    scheduled.save(update_fields=["withdrawn_at"])
    current = _current(subscription, at)
    current.ends_at = subscription.ends_at
    current.save(update_fields=["ends_at"])
    set_period(subscription, current.terms(), current.anchor, at)
    subscription.save()
    return scheduled


def cancel_at(subscription: Subscription, *, ends_at: datetime, reason: str, at: datetime, now: datetime) -> None:
    """Plan the end of the contract; what was scheduled beyond it is withdrawn."""
    withdraw_next(subscription, at=at, now=now)
    current = _current(subscription, at)
    current.ends_at = ends_at
    current.save(update_fields=["ends_at"])
    subscription.ends_at, subscription.end_reason = ends_at, reason
    set_period(subscription, current.terms(), current.anchor, at)
    subscription.save()


def uncancel(subscription: Subscription, *, at: datetime) -> None:
    """Take back a planned end that has not come yet."""
    if subscription.ends_at is None:
        raise NothingScheduled
    current = _current(subscription, at)
    current.ends_at = None
    current.save(update_fields=["ends_at"])
    subscription.ends_at, subscription.end_reason = None, ""
    set_period(subscription, current.terms(), current.anchor, at)
    subscription.save()


def end(subscription: Subscription, *, at: datetime, reason: str, now: datetime) -> None:
    """End the contract at the instant; history stays."""
    withdraw_next(subscription, at=at, now=now)
    subscription.phases.filter(withdrawn_at=None, starts_at__lte=at, ends_at=None).update(ends_at=at)
    subscription.phases.filter(withdrawn_at=None, starts_at__lte=at, ends_at__gt=at).update(ends_at=at)
    subscription.move_to(SubscriptionState.ENDED)
    subscription.ended_at, subscription.end_reason = at, reason
    subscription.ends_at = subscription.ends_at or at
    subscription.bills_at = None
    subscription.save()


def roll(subscription: Subscription, phase: Phase, *, at: datetime) -> None:
    """Enter the period that begins at the boundary, under the phase that is in force from it."""
    subscription.quantity = phase.quantity
    set_period(subscription, phase.terms(), phase.anchor, at)
    subscription.save(update_fields=["quantity", "period_starts_at", "period_ends_at", "bills_at"])


def park(subscription: Subscription, *, because: str, now: datetime) -> None:
    """Keep the clockwork away until a person has looked."""
    subscription.parked_at, subscription.parked_because = now, because[:500]
    subscription.save(update_fields=["parked_at", "parked_because"])


def unpark(subscription: Subscription) -> None:
    subscription.parked_at, subscription.parked_because = None, ""
    subscription.save(update_fields=["parked_at", "parked_because"])


def _current(subscription: Subscription, at: datetime) -> Phase:
    phase = (
        subscription.phases.filter(withdrawn_at=None, starts_at__lte=at)
        .select_related("version__plan__product")
        .order_by("-starts_at", "-id")
        .first()
    )
    assert phase is not None, "a live contract has a phase in force"
    return phase
