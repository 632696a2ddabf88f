"""Carry a deal out: everything that was approved, in one transaction, or nothing and the reason.

The first phase is a change of plan like any other; the later ones are scheduled after it, each on a version of its own
where it differs from the base. A customer without a contract can begin on a day to come; a running contract goes on
under the deal at once, or from the first of its periods that begins at the agreed date or after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.change import restarts_cycle
from billing_admin.flows.coupons import apply_new, coupon_for_act
from billing_admin.flows.deal_approval import VersionMoved
from billing_admin.flows.deal_calendar import first_boundary, new_specials, running_trial
from billing_admin.flows.deal_use import Term, term_from
from billing_admin.flows.deals import NotATemplate, check, hold, newest, note, read_terms, refuse_customer_moved
from billing_admin.flows.enable_plan import (
    AlreadyOnPlan,
    enable_plan,
    give_special,
    preview_plan,
    propose,
    version_for,
)
from billing_admin.flows.plan_change import Activation, NewCoupon, NewSpecial, PlanChange, Proposal, Timing
from billing_admin.flows.position import held_subscription, read_position
from billing_admin.flows.renew import catch_up
from billing_admin.flows.reprice import refuse_second
from catalog.models import Feature, Plan, PlanVersion
from customers import switch
from customers.journal import Actor
from customers.mirrored import refuse_mirrored
from customers.models import Customer, Operation, Subscription
from deals.models import Deal
from deals.states import DealState, refuse_move
from deals.terms import CUSTOMER, NOW, DealTerms
from entitlements.models import FeatureOverride
from entitlements.override import override
from invoicing.lines import opening_lines, total
from invoicing.models import BillingSettings
from invoicing.special import REPLACE


@dataclass(frozen=True, slots=True)
class Order:
    """What is carried out: the deal's words with the rows that they name, and whoever does it, in the deal's name."""

    deal: Deal
    terms: DealTerms
    customer: Customer
    plan: Plan
    base: PlanVersion
    reason: str
    actor: Actor
    now: datetime

    @property
    def at(self) -> datetime:
        return self.now.replace(microsecond=0)

    @property
    def starts_later(self) -> bool:
        return self.terms.starts_at is not None and self.terms.starts_at > self.at


@dataclass(frozen=True, slots=True)
class Done:
    """What was written: the contract, where its months lie, and the first change of plan if there was one."""

    subscription: Subscription
    term: Term
    change: PlanChange | None = None


@transaction.atomic
def execute(deal: Deal, *, reason: str = "", actor: Actor, now: datetime) -> Deal:
    """Apply what was approved and signed; done already, nothing is done again.

    Everything that is written carries the approval. Raises `CannotMoveDeal`, `VersionMoved`, `CustomerMoved`, and
    whatever the acts refuse: a plan that is no longer offered, a coupon that is used up.
    """
    deal = hold(deal)
    if deal.state == DealState.EXECUTED:
        return deal
    order = _order(deal, reason, actor, now)
    catch_up(order.customer, now=now)
    refuse_customer_moved(deal, order.terms)
    before = _before(order)
    done = _begin(order)
    overrides = _override(order, done)
    deal.move_to(DealState.EXECUTED)
    deal.executed_at, deal.subscription = now, done.subscription
    deal.operation = _record(order, done, overrides, before)
    deal.save(update_fields=["state", "executed_at", "subscription", "operation"])
    return deal


@dataclass(frozen=True, slots=True)
class Before:
    """How the customer stood: the last act, and what was planned for the contract."""

    operation: int
    planned: dict[str, Any]


def _before(order: Order) -> Before:
    last = Operation.objects.filter(customer=order.customer).order_by("-id").values_list("pk", flat=True).first()
    held = held_subscription(order.customer, order.plan)
    if held is None:
        return Before(last or 0, {})
    following = held.next_phase(order.at)
    planned = {"next": following.pk if following else None, "netTermsDays": held.net_terms_days}
    return Before(last or 0, {**planned, **switch.planned_end(held)})


def _order(deal: Deal, reason: str, actor: Actor, now: datetime) -> Order:
    if deal.is_template or deal.customer is None:
        raise NotATemplate
    refuse_move(deal.state, DealState.EXECUTED)
    version = newest(deal)
    if version.fingerprint != deal.approved_fingerprint:
        raise VersionMoved(deal)
    terms = read_terms(version)
    check(deal, terms)
    # A deal has rules of its own, so what it is made of is not asked about again: it was approved with the deal.
    actor = replace(actor, approval=deal.approval or deal.public_id, approved_by=deal.approved_by)
    words = f"Deal {deal.name}: {reason.strip()}" if reason.strip() else f"Deal {deal.name}"
    base = PlanVersion.objects.with_items().select_related("plan__product").get(pk=deal.base_version_id)
    return Order(deal, terms, deal.customer, base.plan, base, words, actor, now)


# How it begins --------------------------------------------------------------------------------------------------------


def _begin(order: Order) -> Done:
    held = held_subscription(order.customer, order.plan)
    if held is None:
        return _plan_start(order) if order.starts_later else _enable(order, None)
    refuse_mirrored(held)
    switch.refuse_parked(held)
    for price in order.terms.prices:
        if price.mode == REPLACE:
            refuse_second(held, price.item_key, order.now)
    return _schedule_later(order, held) if order.starts_later else _enable(order, held)


def _enable(order: Order, held: Subscription | None) -> Done:
    """The first phase now, the others after it."""
    proposal = _proposal(order, 0)
    try:
        seen = preview_plan(order.customer, proposal, now=order.now)
    except AlreadyOnPlan:
        assert held is not None
        return _go_on(order, held)
    running = running_trial(seen)
    trial_ends_at = seen.trial_ends_at or running
    term = term_from(order.terms, opens_at=seen.starts_at, anchor=running or seen.anchor, trial_ends_at=trial_ends_at)
    proposal = replace(proposal, specials=new_specials(order.terms, term))
    done = enable_plan(order.customer, proposal, reason=order.reason, actor=order.actor, now=order.now)
    subscription = Subscription.objects.get(pk=done.subscription.pk)
    stages = _stages(order, term, since=0 if done.change.is_scheduled else 1)
    _follow(order, subscription, stages, term, waits=done.change.is_gated and held is not None)
    return Done(subscription, term, done.change)


def _go_on(order: Order, held: Subscription) -> Done:
    """The customer is on the first phase already: only what follows is new, and what comes beside."""
    phase = held.phases.kept().filter(starts_at__lte=order.at).order_by("starts_at", "id").last()
    assert phase is not None, "a live contract has a phase in force"
    trial_ends_at = phase.ends_at if phase.is_trial else None
    anchor = trial_ends_at or phase.anchor
    term = term_from(order.terms, opens_at=order.at, anchor=anchor, trial_ends_at=trial_ends_at)
    _beside(order, held, new_specials(order.terms, term))
    _follow(order, held, _stages(order, term, since=1), term)
    return Done(held, term)


def _schedule_later(order: Order, held: Subscription) -> Done:
    """All phases of the deal after what runs now, from the first period that begins on the day or after it."""
    assert order.terms.starts_at is not None
    position = read_position(order.customer, order.plan, at=order.at, subscription=held)
    assert position.held is not None
    start = first_boundary(position, order.terms.starts_at)
    anchor = start if restarts_cycle(position.held, _proposal(order, 0)) else position.held.contract.anchor
    term = term_from(order.terms, opens_at=start, anchor=anchor, trial_ends_at=None)
    _beside(order, held, new_specials(order.terms, term))
    _follow(order, held, _stages(order, term), term)
    return Done(held, term)


def _plan_start(order: Order) -> Done:
    """A first contract that begins by itself on its day."""
    terms, starts_at = order.terms, order.terms.starts_at
    assert starts_at is not None
    days = order.base.terms().trial_days if terms.trial_days is None else terms.trial_days
    trial_ends_at = starts_at + timedelta(days=days) if days else None
    term = term_from(terms, opens_at=starts_at, anchor=trial_ends_at or starts_at, trial_ends_at=trial_ends_at)
    subscription = switch.plan_start(
        order.customer,
        _stages(order, term),
        trial_ends_at=trial_ends_at,
        starts_at=starts_at,
        ends_at=None if terms.renews else term.ends_at,
        waits_for_payment=_waits(order, term, trial_ends_at),
    )
    if order.customer.currency != terms.currency:
        order.customer.currency = terms.currency
        order.customer.save(update_fields=["currency"])
    _beside(order, subscription, new_specials(terms, term))
    return Done(subscription, term)


def _waits(order: Order, term: Term, trial_ends_at: datetime | None) -> bool:
    """Whether access comes with the first payment, as far as it is known before the day: terms to pay are trust, and a
    trial, or a phase that costs nothing on its first day, has nothing to wait for."""
    terms, card = order.terms, order.terms.phase_terms(order.terms.phases[0], order.base.terms())
    days = BillingSettings.present().net_terms_days if terms.net_terms_days is None else terms.net_terms_days
    if terms.activation == NOW or days or trial_ends_at is not None or card.billing_version == 0:
        return False
    wanted = card.sold(_quantity(order, 0), _bought(order, 0))
    return wanted.is_invoiced and total(opening_lines(wanted, term.anchor, term.starts_at)) > 0


def _beside(order: Order, subscription: Subscription, specials: Sequence[NewSpecial]) -> None:
    """What comes with an act of enabling, where there is none: coupons, special prices, days to pay."""
    for new in _coupons(order):
        apply_new(order.customer, new, subscription=subscription, actor=order.actor, now=order.now)
    for special in specials:
        give_special(subscription, special, reason=order.reason, actor=order.actor, now=order.now)
    if order.terms.net_terms_days is not None:
        subscription.net_terms_days = order.terms.net_terms_days
        subscription.save(update_fields=["net_terms_days"])


def _coupons(order: Order) -> list[NewCoupon]:
    """Raises what a redemption refuses."""
    return [
        replace(
            coupon_for_act(order.customer, coupon.code, order.now, plan=order.plan),
            for_customer=coupon.scope == CUSTOMER,
        )
        for coupon in order.terms.coupons
    ]


# Its phases -----------------------------------------------------------------------------------------------------------


def _proposal(order: Order, place: int) -> Proposal:
    """One phase as a plan that is proposed, checked like any other. Raises what `propose` refuses."""
    terms, phase = order.terms, order.terms.phases[place]
    card = terms.phase_terms(phase, order.base.terms())
    return propose(
        order.customer,
        order.plan,
        items=phase.items,
        cadence=card.cadence,
        conditions=card.conditions,
        version=order.base,
        quantity=phase.quantity,
        timing=Timing.NOW,
        bought=dict(phase.bought),
        trial_days=terms.trial_days,
        activation=Activation.NOW if terms.activation == NOW else Activation.AFTER_PAYMENT,
        coupons=_coupons(order) if place == 0 else (),
        net_terms_days=terms.net_terms_days,
    )


def _stages(order: Order, term: Term, *, since: int = 0) -> list[switch.Stage]:
    """The phases to come from the given one on, with the versions that they run on; those that say the same as the one
    before them go on as that."""
    stages = []
    for place, (start, _) in enumerate(order.terms.spans()):
        if place and _same(order.terms, place):
            continue
        if place >= since:
            version = version_for(
                order.customer,
                order.plan,
                _proposal(order, place),
                reason=order.reason,
                actor=order.actor,
                now=order.now,
            )
            starts_at = term.at(start) if start else term.starts_at
            stages.append(switch.Stage(version, term.anchor, starts_at, _quantity(order, place), _bought(order, place)))
    return stages


def _same(terms: DealTerms, place: int) -> bool:
    """Whether a phase sells what the one before it does."""
    before, phase = terms.phases[place - 1], terms.phases[place]
    return (before.items, before.quantity, before.commitment, before.bought) == (
        phase.items,
        phase.quantity,
        phase.commitment,
        phase.bought,
    )


def _quantity(order: Order, place: int) -> int:
    return order.terms.phases[place].quantity


def _bought(order: Order, place: int) -> dict[str, Decimal]:
    """Prepaid units by item key, the included ones where the phase names none."""
    phase = order.terms.phases[place]
    named = dict(phase.bought)
    prepaid = [item for item in phase.items if item.is_prepaid]
    return {item.key: max(named.get(item.key, Decimal(0)), item.included or Decimal(0)) for item in prepaid}


def _follow(
    order: Order, subscription: Subscription, stages: Sequence[switch.Stage], term: Term, *, waits: bool = False
) -> None:
    """Schedule what comes after the phase in force, and the end of the term. What was scheduled before is replaced."""
    ends_at = None if order.terms.renews else term.ends_at
    switch.schedule_all(subscription, stages, ends_at=ends_at, at=order.at, now=order.now, pending=waits)


# What comes beside ----------------------------------------------------------------------------------------------------


def _override(order: Order, done: Done) -> list[FeatureOverride]:
    """The values of features that the deal replaces for a part of the term."""
    features = Feature.objects.in_bulk([o.feature for o in order.terms.overrides], field_name="slug")
    found = []
    for asked in order.terms.overrides:
        if asked.feature not in features:
            raise ValidationError(f"There is no feature {asked.feature!r} any more.", code="unknown_feature")
        found.append(
            override(
                order.customer,
                features[asked.feature],
                asked.value,
                subscription=done.subscription,
                effective_from=max(order.now, done.term.since(asked.from_month)),
                effective_until=None if asked.until_month is None else done.term.at(asked.until_month),
                reason=order.reason,
                supersede=True,
                actor=order.actor,
                now=order.now,
            )
        )
    return found


def _record(order: Order, done: Done, overrides: Sequence[FeatureOverride], before: Before) -> Operation:
    """The line of the journal: what was written, phase by phase, as it was agreed."""
    subscription, term = done.subscription, done.term
    spans = zip(order.terms.phases, order.terms.spans(), strict=True)
    made = Operation.objects.filter(customer=order.customer, pk__gt=before.operation).order_by("id")
    coming = subscription.phases.filter(withdrawn_at=None, starts_at__gt=order.at).values_list("pk", flat=True)
    coupons = order.customer.applied_coupons.filter(applied_at=order.now, removed_at=None)
    return note(
        order.deal,
        "executed",
        f"Executed the deal {order.deal.name}",
        version=newest(order.deal),
        actor=order.actor,
        now=order.now,
        reason=order.reason,
        effects={
            "subscription": subscription.public_id,
            "term": {
                "anchor": term.anchor,
                "opensAt": term.opens_at,
                "startsAt": term.starts_at,
                "endsAt": term.ends_at,
                "first": term.first,
                "renews": order.terms.renews,
            },
            "phases": [
                {
                    "label": phase.label,
                    "startsAt": term.since(start),
                    "endsAt": term.at(end),
                    "quantity": phase.quantity,
                }
                for phase, (start, end) in spans
            ],
            "acts": [operation.public_id for operation in made],
            "overrides": [row.public_id for row in overrides],
            "coupons": list(coupons.values_list("public_id", flat=True)),
            "scheduled": list(coming),
            "before": before.planned,
        },
    )
