"""Reading: the contracts of a customer, from their phases."""

from datetime import datetime

from django.db.models import Exists, OuterRef, Q

from catalog.models import Plan, terms_of
from customers.contracts import MULTIPLYING, Contract, order
from customers.models import Customer, Phase, Subscription, SubscriptionQuerySet
from customers.states import LIVE


def contract_of(phase: Phase, customer: Customer) -> Contract:
    """The value of a phase; reads `phase.subscription` and `phase.version.plan`, which should be joined already."""
    subscription, plan = phase.subscription, phase.version.plan
    follows = plan.kind in MULTIPLYING
    bought = phase.bought_units()
    return Contract(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        version_id=phase.version_id,
        terms=terms_of(phase.version_id).sold(bought=bought),
        anchor=phase.anchor if follows else customer.usage_anchor,
        since=subscription.started_at,
        phase_starts_at=phase.starts_at,
        subscription_id=subscription.pk,
        phase_id=phase.pk,
        add_on=subscription.add_on,
        quantity=phase.quantity,
        is_custom=phase.version.tailored,
        bought=tuple(sorted(bought.items())),
        trial_ends_at=phase.ends_at if phase.is_trial else None,
    )


def contracts_at(customer: Customer, at: datetime) -> list[Contract]:
    """What applies at the instant, by dates alone (a late worker changes nothing); one query, two without a plan."""
    phases = (
        Phase.objects.in_force(at)
        .filter(subscription__customer=customer, subscription__state__in=LIVE)
        .exclude(Q(subscription__add_on=True) & Exists(_main_plan_over(at)))
        .select_related("subscription", "version__plan")
    )
    held = order(contract_of(phase, customer) for phase in phases)
    return held or [c for c in [default_contract(customer)] if c]


def _main_plan_over(at: datetime) -> SubscriptionQuerySet:
    """The main contract of an add-on's product that reached its end, whether or not anybody has settled it yet."""
    product, customer = OuterRef("subscription__product"), OuterRef("subscription__customer")
    return Subscription.objects.live().filter(product=product, customer=customer, add_on=False, ends_at__lte=at)


def default_contract(customer: Customer) -> Contract | None:
    """The default product as a contract of this customer, who has no row for it."""
    plan = Plan.objects.default().filter(current_version__isnull=False).first()
    if plan is None:
        return None
    assert plan.current_version_id is not None
    return Contract(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        version_id=plan.current_version_id,
        terms=terms_of(plan.current_version_id),
        anchor=customer.usage_anchor,
        since=customer.usage_anchor,
        phase_starts_at=customer.usage_anchor,
    )
