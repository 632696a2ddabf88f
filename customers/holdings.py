"""Reading: the contracts of a customer, from their phases."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import Exists, OuterRef, Q

from catalog.models import Plan, terms_of
from customers.contracts import MULTIPLYING, Contract, order
from customers.models import Customer, Phase, PhaseQuerySet, Subscription, SubscriptionQuerySet


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
    phases = _applying(at).filter(subscription__customer=customer)
    held = order(contract_of(phase, customer) for phase in phases)
    return held or [c for c in [default_contract(customer)] if c]


def contracts_of_all(customers: Sequence[Customer], at: datetime) -> dict[int, list[Contract]]:
    """The same of many customers by their keys, in two queries."""
    phases: dict[int, list[Phase]] = {customer.pk: [] for customer in customers}
    for phase in _applying(at).filter(subscription__customer__in=phases):
        phases[phase.subscription.customer_id].append(phase)
    found = {c.pk: order(contract_of(phase, c) for phase in phases[c.pk]) for c in customers}
    plan = None if all(found.values()) else default_plan()
    if plan is not None:
        found |= {c.pk: [default_contract_on(plan, c)] for c in customers if not found[c.pk]}
    return found


def next_edges(customers: Iterable[Customer], at: datetime) -> dict[int, datetime]:
    """By customer, when dates alone change next what applies: a phase begins or ends, a contract ends; one query."""
    coming_or_in_force = Q(ends_at=None) | Q(ends_at__gt=at) | Q(subscription__ends_at__gt=at)
    phases = Phase.objects.kept().giving_access().filter(coming_or_in_force)
    dates = phases.filter(subscription__customer__in=list(customers)).values_list(
        "subscription__customer_id", "starts_at", "ends_at", "subscription__ends_at"
    )
    found: dict[int, datetime] = {}
    for customer_id, *edges in dates:
        coming = [edge for edge in [found.get(customer_id), *edges] if edge is not None and edge > at]
        if coming:
            found[customer_id] = min(coming)
    return found


def _applying(at: datetime) -> PhaseQuerySet:
    phases = Phase.objects.in_force(at).giving_access()
    return phases.exclude(Q(subscription__add_on=True) & Exists(_main_plan_over(at))).select_related(
        "subscription", "version__plan"
    )


def _main_plan_over(at: datetime) -> SubscriptionQuerySet:
    """The main contract of an add-on's product that reached its end, whether or not anybody has settled it yet."""
    product, customer = OuterRef("subscription__product"), OuterRef("subscription__customer")
    return Subscription.objects.live().filter(product=product, customer=customer, add_on=False, ends_at__lte=at)


def default_contract(customer: Customer) -> Contract | None:
    """The default product as a contract of this customer, who has no row for it."""
    plan = default_plan()
    return None if plan is None else default_contract_on(plan, customer)


def default_plan() -> Plan | None:
    """The plan of whoever holds nothing else, once it has a version."""
    found: Plan | None = Plan.objects.default().filter(current_version__isnull=False).first()
    return found


def default_contract_on(plan: Plan, customer: Customer) -> Contract:
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
