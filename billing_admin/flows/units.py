"""Other numbers of prepaid units on the plan that a contract has: a change of plan like any other."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from billing_admin.flows.enable_plan import propose
from billing_admin.flows.plan_change import Proposal, Timing
from customers.models import Customer, Phase, Subscription


def phase_to_change(subscription: Subscription, *, now: datetime) -> Phase:
    """The phase in force, or the last there was."""
    return subscription.phase_at(now) or subscription.kept_phases()[-1]


def propose_units(
    customer: Customer,
    subscription: Subscription,
    bought: Mapping[str, Decimal],
    *,
    timing: Timing | None = None,
    now: datetime,
) -> Proposal:
    """The plan as it is, with so many units in total, by item key or feature. Raises `BadQuantity` and what
    `propose` raises."""
    phase = phase_to_change(subscription, now=now)
    version, own = phase.version, None
    if version.tailored:
        own, version = phase.terms(), version.custom.base_version
    return propose(
        customer,
        version.plan,
        items=own.items if own else None,
        cadence=own.cadence if own else None,
        version=version,
        quantity=phase.quantity,
        timing=timing,
        bought=bought,
    )


def reason_of(subscription: Subscription, *, now: datetime) -> str:
    """Why the customer is on a custom plan, if they are: it holds for other numbers of units, too."""
    version = phase_to_change(subscription, now=now).version
    return version.custom.reason if version.tailored else ""
