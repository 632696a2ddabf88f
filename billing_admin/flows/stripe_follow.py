"""Contracts here that follow Stripe's subscriptions: begun, changed and ended as the rows of Stripe's items say.

What is to be done is read off the rows, so it may be done late, twice, or again after somebody linked a customer.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from billing_admin.flows.renew import add_ons_of, catch_up, end_contract
from billing_admin.flows.stripe_catalog import STRIPE
from billing_admin.flows.trials import move_windows
from catalog.terms import PlanTerms
from customers import mirrored
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.journal import record
from customers.mirrored import RUNNING, Course
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.allowances import contributions_of
from entitlements.balances import reprovision
from entitlements.override import put_under_overrides
from entitlements.provision import apply_moves, close_all, held_until, open_missing
from entitlements.readings import bucket_of, open_rows
from payments.mirroring import STATES, Followable, conflicts_of, reason_of
from payments.models import StripeSubscription

log = structlog.get_logger("billing_admin.stripe")

BATCH = 200
CLOSED = "The customer is closed here."


@transaction.atomic
def follow(customer: Customer, now: datetime) -> int:
    """Bring what a linked customer holds in line with the items that Stripe has for them. Returns how many changed."""
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    rows = _rows_of(customer)
    if not rows:
        return 0
    followable = [_followable(row) for row in rows]
    over = {item.key for item in followable if not item.is_running}
    # Before windows are brought up to date: what ended opens none.
    changed = sum(_end_if_over(customer, row, now, goes_on=False) for row in rows if row.item_id in over)
    catch_up(customer, now=now)
    conflicts = conflicts_of(followable, _taken(customer, rows)) if customer.closed_at is None else {}
    if customer.closed_at is not None:
        conflicts = {item.key: CLOSED for item in followable if item.is_running}
    going_on = {item.key for item in followable if item.is_running and not conflicts.get(item.key)}
    # What ends makes room for what begins.
    for row in rows:
        _keep_conflict(row, conflicts.get(row.item_id, ""))
        changed += _end_if_over(customer, row, now, goes_on=row.item_id in going_on)
    for row in rows:
        if row.item_id in going_on:
            changed += _go_on(customer, row, now)
    return changed


def _rows_of(customer: Customer) -> list[StripeSubscription]:
    rows = StripeSubscription.objects.filter(stripe_customer__customer=customer).select_related(
        "subscription", "price__plan__current_version__plan", "price__product"
    )
    return list(rows.order_by("started_at", "item_id"))


def _followable(row: StripeSubscription) -> Followable:
    plan = row.price.plan if row.price else None
    assert row.started_at is not None
    return Followable(
        key=row.item_id,
        status=row.status,
        quantity=row.quantity,
        started_at=row.started_at,
        product=plan.product_id if plan else None,
        is_removed=row.removed_at is not None,
        why_not=row.price.conflict if row.price else "",
        name=f"{plan.name if plan else 'nothing'} ({row.stripe_id})",
    )


def _taken(customer: Customer, rows: Sequence[StripeSubscription]) -> dict[int, str]:
    """Products of which the customer has a main plan that follows nothing in Stripe."""
    following = [row.subscription_id for row in rows if row.subscription_id]
    others = customer.subscriptions.filter(add_on=False, state__in=[*RUNNING, SubscriptionState.SCHEDULED])
    phases = Phase.objects.filter(subscription__in=others.exclude(pk__in=following), withdrawn_at=None)
    return dict(phases.order_by("starts_at").values_list("subscription__product_id", "version__plan__name"))


def _keep_conflict(row: StripeSubscription, conflict: str) -> None:
    if row.conflict != conflict[:300]:
        row.conflict = conflict[:300]
        row.save(update_fields=["conflict"])


def _end_if_over(customer: Customer, row: StripeSubscription, now: datetime, *, goes_on: bool) -> bool:
    """End the contract of an item that is over, that nothing may follow, or that has come to another product."""
    subscription = row.subscription
    if subscription is None or subscription.state not in RUNNING:
        return False
    if not goes_on:
        is_over = row.status not in STATES or row.removed_at is not None
        reason = reason_of(row.status, is_removed=row.removed_at is not None) if is_over else "conflict"
        _end(customer, row, subscription, min(row.ended_at or now, now), reason, now)
        return True
    assert row.price is not None and row.price.plan is not None, "what goes on has a plan"
    if subscription.product_id == row.price.plan.product_id:
        return False
    _end(customer, row, subscription, now, "replaced", now)
    return True


def _go_on(customer: Customer, row: StripeSubscription, now: datetime) -> bool:
    course = _course(row, now)
    if row.subscription is not None and row.subscription.state in RUNNING:
        return _change(customer, row, row.subscription, course, now)
    _begin(customer, row, course, now)
    return True


def _course(row: StripeSubscription, now: datetime) -> Course:
    assert row.price is not None and row.price.plan is not None and row.price.plan.current_version is not None
    assert row.anchor is not None and row.period_starts_at is not None and row.period_ends_at is not None
    on_trial = row.status == "trialing" and row.trial_ends_at is not None and row.trial_ends_at > now
    return Course(
        version=row.price.plan.current_version,
        quantity=row.quantity,
        state=STATES[row.status],
        anchor=row.anchor,
        period_starts_at=row.period_starts_at,
        period_ends_at=row.period_ends_at,
        trial_ends_at=row.trial_ends_at if on_trial else None,
        ends_at=row.cancels_at,
    )


def _begin(customer: Customer, row: StripeSubscription, course: Course, now: datetime) -> None:
    """A contract since the item began in Stripe; after an end it is another one, from now on."""
    assert row.started_at is not None
    at = now.replace(microsecond=0) if row.subscription_id else min(row.started_at, now)
    subscription = mirrored.begin(customer, course, at=at)
    row.subscription = subscription
    row.save(update_fields=["subscription"])
    operation = _record(customer, row, subscription, "subscription.mirrored", f"{_words(course)} began in Stripe", now)
    if subscription.is_live:
        _provide(customer, subscription, operation, now)


def _words(course: Course) -> str:
    times = f"{course.quantity} × " if course.quantity != 1 else ""
    return f"{times}{course.version.plan.name}"


def _record(
    customer: Customer, row: StripeSubscription, subscription: Subscription, verb: str, summary: str, now: datetime
) -> Operation:
    effects = {"subscription": subscription.public_id, "stripe": row.stripe_id, "status": row.status}
    return record(customer, verb, summary, actor=STRIPE, now=now, effects=effects)


def _provide(customer: Customer, subscription: Subscription, operation: Operation, now: datetime) -> None:
    open_missing(customer, _contracts(customer, subscription, now), now=now)
    put_under_overrides(customer, now=now, operation=operation)


def _contracts(customer: Customer, subscription: Subscription, now: datetime) -> list[Contract]:
    return [c for c in contracts_at(customer, now) if c.subscription_id == subscription.pk]


def _change(
    customer: Customer, row: StripeSubscription, subscription: Subscription, course: Course, now: datetime
) -> bool:
    """Another state, quantity, price or end. Use is carried along, but where a new cycle or a dearer plan begins."""
    subscription.refresh_from_db()
    at = now.replace(microsecond=0)
    before, was_live, trial_end = _said(subscription, at), subscription.is_live, subscription.trial_ends_at
    old = mirrored.phase_in_force(subscription, at)
    at = max(at, old.starts_at)
    held = held_until(customer, open_rows(customer).filter(subscription=subscription), now, now=now)
    switched = mirrored.follow(subscription, course, at=at, now=now)
    said = _said(subscription, at)
    if said == before:
        return False
    changes = ", ".join(said[name] for name in said if said[name] != before[name])
    summary = f"{_words(course)} changed in Stripe: {changes}"
    operation = _record(customer, row, subscription, "subscription.followed", summary, now)
    if not subscription.is_live:
        return True
    if not was_live:
        _provide(customer, subscription, operation, now)
    elif switched:
        [after] = _contracts(customer, subscription, at)
        new = mirrored.phase_in_force(subscription, at)
        moves = reprovision(
            [bucket_of(each) for each in held],
            contributions_of([after]),
            at,
            renew_consumables=_restarts(old, new) or _pays_otherwise(old.terms(), new.terms()),
            new_cycle=_restarts(old, new),
        )
        apply_moves(customer, moves, used_later={}, now=now, operation=operation)
        put_under_overrides(customer, now=now, operation=operation)
    elif course.trial_ends_at is not None and course.trial_ends_at != trial_end:
        move_windows(customer, subscription, trial_end, course.trial_ends_at, at)
    return True


def _restarts(old: Phase, new: Phase) -> bool:
    return (old.is_trial, old.anchor) != (new.is_trial, new.anchor)


def _pays_otherwise(old: PlanTerms, new: PlanTerms) -> bool:
    return old.plan_id != new.plan_id and old.monthly(listed=True) != new.monthly(listed=True)


def _said(subscription: Subscription, at: datetime) -> dict[str, str]:
    """What people are told of a contract, and what tells a change from a renewal."""
    last = subscription.phases.kept().select_related("version__plan").order_by("starts_at", "id").last()
    assert last is not None
    trial, end = subscription.trial_ends_at, subscription.ends_at
    return {
        "plan": str(last.version),
        "quantity": f"quantity {last.quantity}",
        "state": SubscriptionState(subscription.state).label.lower(),
        "trial": f"trial until {trial:%-d %b %Y}" if trial and trial > at else "no trial",
        "end": f"ends on {end:%-d %b %Y}" if end else "no planned end",
        "anchor": f"periods from {last.anchor:%-d %b %Y}",
    }


def _end(
    customer: Customer, row: StripeSubscription, subscription: Subscription, at: datetime, reason: str, now: datetime
) -> None:
    phase = mirrored.phase_in_force(subscription, now)
    held_until(customer, open_rows(customer), at, now=now)
    ended_at = mirrored.end(subscription, at=at, reason=reason, now=now)
    close_all(customer, subscription.pk, ended_at=ended_at, now=now)
    words = f"{phase.version.plan.name} ended in Stripe ({reason.replace('_', ' ')})"
    _record(customer, row, subscription, "subscription.ended", words, now)
    for add_on in add_ons_of(subscription):
        end_contract(customer, add_on, at=ended_at, reason="main_plan_ended", now=now)


def follow_due(now: datetime) -> int:
    """Follow for whom something is left to do: linked just now, or on an older version of their mirrored plan.

    Returns how many contracts changed. Whoever cannot be followed holds up nobody; the error is raised at the end.
    """
    changed, last, failure = 0, 0, None
    while batch := _next(last):
        for customer in batch:
            try:
                changed += follow(customer, now)
            except Exception as error:
                failure = error
                log.exception("a customer could not follow stripe", customer=customer.public_id)
        last = batch[-1].pk
    if failure is not None:
        raise failure
    return changed


def _next(after: int) -> list[Customer]:
    customers = Customer.objects.filter(stripe__subscriptions__in=_left(), pk__gt=after)
    return list(customers.distinct().order_by("pk")[:BATCH])


def _left() -> QuerySet:
    linked = StripeSubscription.objects.filter(stripe_customer__customer__isnull=False, status__in=list(STATES))
    last = Phase.objects.kept().filter(subscription=OuterRef("subscription"), ends_at=None)
    newest = last.filter(version=OuterRef("price__plan__current_version"), subscription__state__in=RUNNING)
    return linked.filter(removed_at=None, conflict="").exclude(Exists(newest))


def look_again(now: datetime, *, most: int = 200) -> int:
    """Look once more at items that nothing could follow. Returns how many are followed now."""
    waiting = StripeSubscription.objects.exclude(conflict="")
    customers = Customer.objects.filter(stripe__subscriptions__in=waiting).distinct().order_by("pk")[:most]
    return sum(follow(customer, now) for customer in list(customers))
