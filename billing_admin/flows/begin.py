"""Let a contract begin on the day that was agreed: its windows open, and its first period is billed as the preview of
a first plan bills it. A late worker begins it as of that day.

One whose access comes with its first payment gets its invoice then, and waits for it as any first plan does.
"""

from dataclasses import replace
from datetime import datetime

from billing_admin.flows.change import preview
from billing_admin.flows.collection import finish, issuing
from billing_admin.flows.plan_change import Activation, PlanChange, Proposal
from billing_admin.flows.position import read_position
from customers import switch
from customers.holdings import contracts_at
from customers.journal import CLOCKWORK, record
from customers.models import Customer, Operation, Phase, Subscription
from entitlements.override import put_under_overrides
from entitlements.provision import open_missing
from invoicing.documents import nothing_due
from invoicing.issue import Issuing, issue
from invoicing.models import Invoice


def begin(customer: Customer, subscription: Subscription, *, at: datetime, now: datetime) -> list[Invoice]:
    """Begin a contract that was scheduled for the instant. The caller holds the customer's row."""
    phase = subscription.phases.kept().select_related("version__plan__product").order_by("starts_at", "id")[0]
    act = None if phase.is_trial else opening(customer, subscription, phase, at=at)
    documents = list(act.documents) if act else []
    if not documents and not phase.is_trial and not phase.terms().is_free:
        documents = [nothing_due(phase.terms().currency)]
    waits = act is not None and act.is_gated
    switch.begin(subscription, phase, at=at, pending=waits)
    operation = _record(customer, subscription, phase, at=at, now=now, waits=waits)
    if not waits:
        own = [c for c in contracts_at(customer, at) if c.subscription_id == subscription.pk]
        open_missing(customer, own, now=at)
        put_under_overrides(customer, now=at, operation=operation)
    how = issuing(subscription, phase, operation=operation, at=at, has_use=False)
    if act is not None and waits:
        how = _gated(how, phase, act, now)
    return finish(issue(customer, documents, now=now, how=how), subscription, now=now)


def _gated(how: Issuing, phase: Phase, act: PlanChange, now: datetime) -> Issuing:
    """How the invoice is issued that access waits for. Whoever is late takes nothing away from the time to pay it."""
    gate = act.position.gate
    return replace(
        how,
        is_draft=gate.awaits_approval,
        gates=phase,
        expires_at=now + gate.payment_window,
        awaits_approval=gate.awaits_approval,
    )


def _record(
    customer: Customer, subscription: Subscription, phase: Phase, *, at: datetime, now: datetime, waits: bool
) -> Operation:
    name = f"{phase.version.plan.name}{' (custom)' if phase.version.tailored else ''}"
    day = f"{at:%-d %b %Y}"
    return record(
        customer,
        "subscription.begun",
        f"{name} waits for its first payment since {day}" if waits else f"{name} began as of {day}",
        actor=CLOCKWORK,
        now=now,
        effects={"subscription": subscription.public_id, "at": at, "gated": waits},
    )


def opening(customer: Customer, subscription: Subscription, phase: Phase, *, at: datetime) -> PlanChange:
    """The act as if it was done at the instant, with the coupons and special prices that the contract has."""
    plan = phase.version.plan
    position = read_position(customer, plan, at=at, subscription=subscription)
    terms = phase.terms()
    proposal = Proposal(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        add_on=plan.add_on,
        terms=terms,
        standard=terms,
        version_id=phase.version_id,
        is_custom=phase.version.tailored,
        quantity=phase.quantity,
        bought=tuple(sorted(phase.bought_units().items())),
        trial_days=0,
        activation=Activation.AFTER_PAYMENT if subscription.waits_for_payment else Activation.NOW,
        anchor=phase.anchor,
    )
    return preview(replace(position, held=None, fees=(), closed_use=(), pending=()), proposal)
