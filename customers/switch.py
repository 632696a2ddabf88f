"""Verbs on a contract: start, switch, schedule, withdraw, cancel, roll to the next period, end.

They write the subscription and its phases, nothing else; the desk's flows add balances, invoices and the journal.
Callers hold the customer's row and hand in prepared instants; nothing here decides money.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q

from catalog.models import PlanVersion
from catalog.money import plain
from catalog.periods import Cadence, Period, boundary, count_until, period_containing
from catalog.terms import CANCEL, PlanTerms
from customers.contracts import MULTIPLYING
from customers.models import Customer, Phase, Subscription
from customers.states import SubscriptionState

MONTH = Cadence(months=1)
CALENDAR = ("period_starts_at", "period_ends_at", "bills_at")


class NothingScheduled(ValidationError):
    def __init__(self) -> None:
        super().__init__("There is no scheduled change to withdraw.", code="nothing_scheduled")


class TooLateToWithdraw(ValidationError):
    def __init__(self) -> None:
        super().__init__("The change has taken effect already; make a new change instead.", code="already_in_effect")


class AlreadySettled(ValidationError):
    def __init__(self) -> None:
        super().__init__(
            "The final invoice of this subscription is made; enable a plan instead of taking its end back.",
            code="already_settled",
        )


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
    bought: Mapping[str, Decimal] | None = None,
    ends_at: datetime | None = None,
    end_reason: str = "",
    trial_ends_at: datetime | None = None,
    pending: bool = False,
) -> tuple[Subscription, Phase]:
    """A new contract: active from the instant, on trial until another one, or waiting for its first payment.

    A trial is a phase of its own; the one that follows it is returned with the contract's terms.
    """
    subscription = Subscription(
        customer=customer,
        product_id=version.plan.product_id,
        add_on=version.plan.add_on,
        quantity=quantity,
        started_at=at,
        ends_at=ends_at,
        end_reason=end_reason,
    )
    if trial_ends_at:
        subscription.move_to(SubscriptionState.TRIALING)
        subscription.save()
        return subscription, begin_trial(subscription, version, quantity, bought, at=at, until=trial_ends_at)
    subscription.move_to(SubscriptionState.PENDING_PAYMENT if pending else SubscriptionState.ACTIVE)
    set_period(subscription, version.terms(), anchor, at)
    subscription.save()
    phase = Phase.objects.create(
        subscription=subscription,
        version=version,
        anchor=anchor,
        quantity=quantity,
        bought=as_json(bought),
        starts_at=at,
        ends_at=ends_at,
    )
    return subscription, phase


def as_json(bought: Mapping[str, Decimal] | None) -> dict[str, str]:
    return {key: plain(units) for key, units in (bought or {}).items()}


def begin_trial(
    subscription: Subscription,
    version: PlanVersion,
    quantity: int,
    bought: Mapping[str, Decimal] | None,
    *,
    at: datetime,
    until: datetime,
) -> Phase:
    """A free phase, and the one that is charged after it; or the end of the contract, where the terms say so."""
    terms = version.terms()
    units = as_json(bought)
    trial = Phase.objects.create(
        subscription=subscription,
        version=version,
        anchor=at,
        quantity=quantity,
        bought=units,
        starts_at=at,
        ends_at=until,
        is_trial=True,
    )
    subscription.trial_ends_at = until
    if terms.trial_end == CANCEL:
        subscription.ends_at, subscription.end_reason = until, "trial_ended"
    elif subscription.ends_at is None or subscription.ends_at > until:
        _follow_trial(subscription, trial)
    _set_trial_period(subscription, trial)
    subscription.save()
    return trial


def _set_trial_period(subscription: Subscription, trial: Phase) -> None:
    subscription.period_starts_at, subscription.period_ends_at = trial.starts_at, trial.ends_at
    subscription.bills_at = trial.ends_at


def extend_trial(subscription: Subscription, *, until: datetime, at: datetime) -> Phase:
    """Another end of a running trial; what begins after it moves along."""
    trial = _current(subscription, at)
    coming = list(subscription.phases.kept().filter(starts_at__gt=at).order_by("starts_at", "id"))
    # Out of the way first: two phases may not overlap, not even for a moment.
    subscription.phases.filter(pk__in=[phase.pk for phase in coming]).update(withdrawn_at=at)
    assert trial.ends_at is not None
    before, trial.ends_at = trial.ends_at, until
    trial.save(update_fields=["ends_at"])
    if coming:
        _move_along(subscription, coming, before, until)
    elif subscription.ends_at is not None:
        subscription.ends_at = until
    subscription.trial_ends_at = until
    _set_trial_period(subscription, trial)
    subscription.save()
    return trial


def _move_along(subscription: Subscription, coming: Sequence[Phase], before: datetime, until: datetime) -> None:
    """Let what follows a trial begin at its new end, each phase as many months after it as it was agreed."""

    def moved(date: datetime) -> datetime:
        return boundary(until, MONTH, count_until(before, MONTH, date))

    if len(coming) > 1 and subscription.ends_at is not None:
        subscription.ends_at = moved(subscription.ends_at)
    for place, phase in enumerate(coming):
        last = place == len(coming) - 1
        phase.starts_at = moved(phase.starts_at)
        phase.ends_at = subscription.ends_at if last else moved(coming[place + 1].starts_at)
        phase.anchor = until if phase.anchor == before else phase.anchor
        phase.withdrawn_at = None
        phase.save(update_fields=["withdrawn_at", "starts_at", "ends_at", "anchor"])


def activate(subscription: Subscription, phase: Phase) -> None:
    """Let a contract that waited for its first payment give access from now on.

    Its periods count from its creation, so one that ended while it waited is still to be settled.
    """
    subscription.move_to(SubscriptionState.ACTIVE)
    set_period(subscription, phase.terms(), phase.anchor, phase.starts_at)
    subscription.save()


def add_pending(
    subscription: Subscription,
    version: PlanVersion,
    *,
    anchor: datetime,
    at: datetime,
    quantity: int,
    bought: Mapping[str, Decimal] | None,
    now: datetime,
    ends_at: datetime | None = None,
) -> Phase:
    """A phase that begins once its invoice is paid; until then the one in force goes on. The contract ends with it."""
    return Phase.objects.create(
        subscription=subscription,
        version=version,
        anchor=anchor,
        quantity=quantity,
        bought=as_json(bought),
        starts_at=at,
        ends_at=ends_at,
        pending_since=now,
    )


def drop_pending(subscription: Subscription, *, now: datetime) -> None:
    """Give up phases that wait for a payment."""
    subscription.phases.pending().update(withdrawn_at=now)


def set_period(
    subscription: Subscription,
    terms: PlanTerms,
    anchor: datetime,
    at: datetime,
    *,
    coming: Sequence[Phase] | None = None,
) -> None:
    """The present period and the next instant of work; a planned end comes first. `coming` spares a query where the
    phases after the one in force are known."""
    period = plan_period(terms, anchor, at)
    subscription.period_starts_at = period.starts_at if period else None
    subscription.period_ends_at = period.ends_at if period else None
    if subscription.settled_at is not None:
        subscription.bills_at = subscription.ends_at
        return
    stops = [next_bill(terms, anchor, at), subscription.ends_at]
    if coming is None and subscription.pk:
        coming = list(subscription.phases.kept().filter(starts_at__gt=at)[:1])
    stops += [phase.starts_at for phase in coming or ()][:1]
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
    bought: Mapping[str, Decimal] | None = None,
    trial_ends_at: datetime | None = None,
    pending: Phase | None = None,
) -> Phase:
    """End the phase in force and begin another. A scheduled change or end goes, unless it is kept.

    `pending` is a phase that waited for its payment: it begins now, with the periods that were paid for.
    """
    course = _course(subscription, at)
    current = course.current
    if not keep_schedule:
        _drop_next(subscription, course, now=now)
        subscription.ends_at, subscription.end_reason, subscription.settled_at = None, "", None
        current.ends_at = None
    ends_at = current.ends_at
    current.ends_at = at
    current.save(update_fields=["ends_at"])
    subscription.quantity = quantity
    if subscription.state == SubscriptionState.TRIALING and not keep_schedule:
        subscription.move_to(SubscriptionState.ACTIVE)
        subscription.trial_ends_at = at
    if trial_ends_at:
        if subscription.state != SubscriptionState.PAST_DUE:  # what is overdue stays so, see Subscription.recover
            subscription.move_to(SubscriptionState.TRIALING)
        return begin_trial(subscription, version, quantity, bought, at=at, until=trial_ends_at)
    if pending is not None:
        phase = pending
        phase.pending_since, phase.starts_at, phase.ends_at = None, at, phase.ends_at or ends_at
        phase.save(update_fields=["pending_since", "starts_at", "ends_at"])
    else:
        phase = Phase.objects.create(
            subscription=subscription,
            version=version,
            anchor=anchor,
            quantity=quantity,
            bought=as_json(bought),
            starts_at=at,
            ends_at=ends_at,
            is_trial=current.is_trial and keep_schedule,
        )
    if phase.is_trial:
        for following in subscription.phases.kept().filter(starts_at__gt=at, version=current.version):
            following.version, following.quantity, following.bought = version, quantity, phase.bought
            following.save(update_fields=["version", "quantity", "bought"])
    _set_period_of(subscription, phase, at)
    subscription.save()
    return phase


@dataclass(frozen=True, slots=True)
class Stage:
    """One of several phases to come; it lasts until the next one begins."""

    version: PlanVersion
    anchor: datetime
    starts_at: datetime
    quantity: int = 1
    bought: Mapping[str, Decimal] = field(default_factory=dict)


def schedule_all(
    subscription: Subscription,
    stages: Sequence[Stage],
    *,
    ends_at: datetime | None,
    at: datetime,
    now: datetime,
    pending: bool = False,
) -> list[Phase]:
    """Phases one after the other, from where the one in force ends; and the end of the contract after the last one.

    What was scheduled before is replaced, a planned end too. `pending`: they wait for the same payment as the phase
    before them, and leave the one in force alone until it comes.
    """
    rows = _rows(subscription, stages, ends_at=ends_at, pending_since=now if pending else None)
    if not pending:
        _follow_with(subscription, [stage.starts_at for stage in stages], ends_at=ends_at, at=at, now=now)
    for row in rows:
        row.save()
    if not pending:
        _set_period_of(subscription, _current(subscription, at), at)
        subscription.save()
    elif not rows and ends_at is not None:
        subscription.phases.pending().update(ends_at=ends_at)  # the term is kept with what waits for the payment
    return rows


def _rows(
    subscription: Subscription,
    stages: Sequence[Stage],
    *,
    ends_at: datetime | None,
    pending_since: datetime | None = None,
) -> list[Phase]:
    """One phase for each stage, none written yet."""
    ends = [stage.starts_at for stage in stages[1:]]
    return [
        Phase(
            subscription=subscription,
            version=stage.version,
            anchor=stage.anchor,
            quantity=stage.quantity,
            bought=as_json(stage.bought),
            starts_at=stage.starts_at,
            ends_at=until,
            pending_since=pending_since,
        )
        for stage, until in zip(stages, [*ends, ends_at], strict=False)  # no stages: only the end is planned
    ]


def _follow_with(
    subscription: Subscription, starts: Sequence[datetime], *, ends_at: datetime | None, at: datetime, now: datetime
) -> None:
    """Make room: the phase before the first of these, which a trial's own may be, ends where it begins."""
    last = _current(subscription, at)
    coming = list(subscription.phases.kept().filter(starts_at__gt=at))
    if last.is_trial and coming and coming[0].continues(last):
        last = coming.pop(0)
    for phase in coming:
        phase.withdrawn_at = now
        phase.save(update_fields=["withdrawn_at"])
    last.ends_at = starts[0] if starts else ends_at
    last.save(update_fields=["ends_at"])
    subscription.ends_at, subscription.end_reason = ends_at, "term_ended" if ends_at else ""
    subscription.settled_at = None
    subscription.bills_use_at_end, subscription.unused_at_end = True, Subscription.Unused.NOTHING


def plan_start(
    customer: Customer,
    stages: Sequence[Stage],
    *,
    trial_ends_at: datetime | None,
    starts_at: datetime,
    ends_at: datetime | None,
    waits_for_payment: bool = False,
) -> Subscription:
    """A contract that begins on a day to come, by itself; nothing is billed before. A trial comes first, if any.

    `waits_for_payment`: from its day on it waits until its first invoice is paid.
    """
    first = stages[0]
    subscription = Subscription.objects.create(
        customer=customer,
        product_id=first.version.plan.product_id,
        add_on=first.version.plan.add_on,
        quantity=first.quantity,
        started_at=starts_at,
        trial_ends_at=trial_ends_at,
        waits_for_payment=waits_for_payment,
        bills_at=starts_at,
        ends_at=ends_at,
        end_reason="term_ended" if ends_at else "",
    )
    if trial_ends_at is not None:
        Phase.objects.create(
            subscription=subscription,
            version=first.version,
            anchor=starts_at,
            quantity=first.quantity,
            bought=as_json(first.bought),
            starts_at=starts_at,
            ends_at=trial_ends_at,
            is_trial=True,
        )
    for row in _rows(subscription, stages, ends_at=ends_at):
        row.save()
    return subscription


def begin(subscription: Subscription, phase: Phase, *, at: datetime, pending: bool = False) -> None:
    """Let a contract begin whose day has come, or wait for its first payment from then on."""
    begun = SubscriptionState.TRIALING if phase.is_trial else SubscriptionState.ACTIVE
    subscription.move_to(SubscriptionState.PENDING_PAYMENT if pending else begun)
    _set_period_of(subscription, phase, at)
    subscription.save()


def withdraw_start(subscription: Subscription, *, now: datetime) -> None:
    """Take back a contract that has not begun."""
    subscription.move_to(SubscriptionState.WITHDRAWN)
    subscription.phases.filter(withdrawn_at=None).update(withdrawn_at=now)
    subscription.bills_at = None
    subscription.save()


def begin_pending_after(subscription: Subscription, phase: Phase, *, at: datetime) -> None:
    """Let what waited for the same payment follow the phase that begins with it, and the contract end after it all."""
    rows = list(subscription.phases.pending().filter(starts_at__gt=at).order_by("starts_at", "id"))
    if rows:
        phase.ends_at = rows[0].starts_at
        phase.save(update_fields=["ends_at"])
        subscription.phases.filter(pk__in=[row.pk for row in rows]).update(pending_since=None)
    elif phase.ends_at is None:
        return
    subscription.ends_at = rows[-1].ends_at if rows else phase.ends_at
    subscription.end_reason = "term_ended" if subscription.ends_at else ""
    _set_period_of(subscription, phase, at)
    subscription.save()


def schedule(
    subscription: Subscription,
    version: PlanVersion,
    *,
    anchor: datetime,
    starts_at: datetime,
    quantity: int,
    at: datetime,
    now: datetime,
    bought: Mapping[str, Decimal] | None = None,
) -> Phase:
    """The next phase: it begins when the one in force ends. What was scheduled before is replaced."""
    course = _course(subscription, at)
    _drop_next(subscription, course, now=now)
    has_end = (subscription.ends_at, subscription.end_reason, subscription.settled_at) != (None, "", None)
    subscription.ends_at, subscription.end_reason, subscription.settled_at = None, "", None
    current = course.current
    current.ends_at = starts_at
    current.save(update_fields=["ends_at"])
    phase = Phase.objects.create(
        subscription=subscription,
        version=version,
        anchor=anchor,
        quantity=quantity,
        bought=as_json(bought),
        starts_at=starts_at,
    )
    _set_period_of(subscription, current, at, coming=[phase])
    if has_end:
        subscription.save()
    else:
        _save_calendar(subscription)
    return phase


def _set_period_of(
    subscription: Subscription, current: Phase, at: datetime, *, coming: Sequence[Phase] | None = None
) -> None:
    if current.is_trial:
        _set_trial_period(subscription, current)
        if subscription.ends_at is not None and subscription.bills_at is not None:
            subscription.bills_at = min(subscription.bills_at, subscription.ends_at)
    else:
        set_period(subscription, current.terms(), current.anchor, at, coming=coming)


def withdraw_next(subscription: Subscription, *, at: datetime, now: datetime) -> Phase | None:
    """Take back the scheduled phases, if any; the present one runs on, and a trial ends in what it was begun for.

    Returns the first of them.
    """
    course = _course(subscription, at)
    scheduled = _drop_next(subscription, course, now=now)
    if scheduled is None:
        return None
    current = course.current
    if current.is_trial and subscription.ends_at is None:
        _follow_trial(subscription, current)
    _set_period_of(subscription, current, at, coming=())
    _save_calendar(subscription)
    return scheduled


@dataclass(frozen=True, slots=True)
class _Course:
    """The phases of a contract around an instant, in order: those that have begun and not ended before it, and those
    that begin after it."""

    begun: list[Phase]
    coming: list[Phase]

    @property
    def current(self) -> Phase:
        assert self.begun, "a live contract has a phase in force"
        return self.begun[-1]


def _course(subscription: Subscription, at: datetime) -> _Course:
    """One query."""
    kept = subscription.phases.kept().filter(Q(ends_at=None) | Q(ends_at__gte=at))
    course = _Course([], [])
    for phase in kept.select_related("version__plan").order_by("starts_at", "id"):
        (course.begun if phase.starts_at <= at else course.coming).append(phase)
    return course


def _drop_next(subscription: Subscription, course: _Course, *, now: datetime) -> Phase | None:
    """Withdraw all that is to come, and say what came first; the present phase then ends with the contract, a trial
    where it was going to."""
    if not course.coming:
        return None
    for phase in course.coming:
        phase.withdrawn_at = now
        phase.save(update_fields=["withdrawn_at"])
    current = course.current
    current.ends_at = subscription.trial_ends_at if current.is_trial else subscription.ends_at
    current.save(update_fields=["ends_at"])
    return course.coming[0]


def _follow_trial(subscription: Subscription, trial: Phase) -> Phase:
    """What is charged after a trial."""
    assert trial.ends_at is not None
    return Phase.objects.create(
        subscription=subscription,
        version=trial.version,
        anchor=trial.ends_at,
        quantity=trial.quantity,
        bought=trial.bought,
        starts_at=trial.ends_at,
        ends_at=subscription.ends_at,
    )


def cancel_at(
    subscription: Subscription,
    *,
    ends_at: datetime,
    reason: str,
    at: datetime,
    now: datetime,
    bill_use: bool = True,
    unused: str = Subscription.Unused.NOTHING,
) -> None:
    """Plan the end of the contract; what was scheduled beyond it is withdrawn. The answers hold when it comes."""
    course = _course(subscription, at)
    _drop_next(subscription, course, now=now)
    subscription.bills_use_at_end, subscription.unused_at_end = bill_use, unused
    current = course.current
    current.ends_at = ends_at
    current.save(update_fields=["ends_at"])
    subscription.ends_at, subscription.end_reason = ends_at, reason
    _set_period_of(subscription, current, at)
    subscription.save()


def settle(subscription: Subscription, *, ends_at: datetime, at: datetime, now: datetime) -> None:
    """Bill nothing any more, now that the final invoice is made; access goes on until the end."""
    cancel_at(subscription, ends_at=ends_at, reason="canceled", at=at, now=now)
    drop_pending(subscription, now=now)
    subscription.settled_at, subscription.bills_at = at, ends_at
    subscription.save()


def planned_end(subscription: Subscription) -> dict[str, Any]:
    """The planned end as the journal keeps it, for whoever plans it again; empty without one."""
    if subscription.ends_at is None:
        return {}
    answers = {"billUse": subscription.bills_use_at_end, "unused": subscription.unused_at_end}
    return {"endsAt": subscription.ends_at, "endReason": subscription.end_reason, **answers}


def uncancel(subscription: Subscription, *, at: datetime) -> None:
    """Take back a planned end that has not come yet."""
    if subscription.ends_at is None:
        raise NothingScheduled
    if subscription.settled_at is not None:
        raise AlreadySettled
    current = _current(subscription, at)
    subscription.ends_at, subscription.end_reason = None, ""
    if last := subscription.phases.kept().filter(starts_at__gt=at).order_by("starts_at", "id").last():
        last.ends_at = None
        last.save(update_fields=["ends_at"])
    else:
        current.ends_at = subscription.trial_ends_at if current.is_trial else None
        current.save(update_fields=["ends_at"])
        if current.is_trial:
            _follow_trial(subscription, current)
    _set_period_of(subscription, current, at)
    subscription.save()


def end(subscription: Subscription, *, at: datetime, reason: str, now: datetime) -> None:
    """End the contract at the instant; history stays."""
    _drop_next(subscription, _course(subscription, at), now=now)
    drop_pending(subscription, now=now)
    begun = subscription.phases.kept().filter(starts_at__lte=at)
    if subscription.state == SubscriptionState.PENDING_PAYMENT:
        begun.update(monthly=0)  # it never gave access, so it never brought anything
    begun.filter(Q(ends_at=None) | Q(ends_at__gt=at)).update(ends_at=at)
    subscription.move_to(SubscriptionState.ENDED)
    subscription.ended_at, subscription.end_reason = at, reason
    subscription.ends_at = subscription.ends_at or at
    subscription.bills_at = None
    subscription.save()


def roll(subscription: Subscription, phase: Phase, *, at: datetime) -> None:
    """Enter the period that begins at the boundary, under the phase that is in force from it."""
    present = subscription.state, subscription.quantity
    subscription.quantity = phase.quantity
    if subscription.state == SubscriptionState.TRIALING and not phase.is_trial:
        subscription.move_to(SubscriptionState.ACTIVE)
    _set_period_of(subscription, phase, at)
    if (subscription.state, subscription.quantity) != present:
        subscription.save(update_fields=["state", "quantity", *CALENDAR])
    else:
        _save_calendar(subscription)


def _save_calendar(subscription: Subscription) -> None:
    """Where only the calendar moved: that is no change of the contract, so its history keeps no version of it."""
    values = {column: getattr(subscription, column) for column in CALENDAR}
    Subscription.objects.filter(pk=subscription.pk).update(**values)


def park(subscription: Subscription, *, because: str, now: datetime) -> None:
    """Keep the clockwork away until a person has looked."""
    subscription.parked_at, subscription.parked_because = now, because[:500]
    subscription.save(update_fields=["parked_at", "parked_because"])


def unpark(subscription: Subscription) -> None:
    subscription.parked_at, subscription.parked_because = None, ""
    subscription.save(update_fields=["parked_at", "parked_because"])


def _current(subscription: Subscription, at: datetime) -> Phase:
    phase: Phase | None = (
        subscription.phases.kept()
        .filter(starts_at__lte=at)
        .select_related("version__plan__product")
        .order_by("-starts_at", "-id")
        .first()
    )
    assert phase is not None, "a live contract has a phase in force"
    return phase
