"""What a customer holds at an instant, as values: one `Contract` per phase in force, or the default product."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from catalog.models import Plan, terms_of
from catalog.terms import PlanTerms
from customers.models import Customer, Phase
from customers.states import LIVE

MULTIPLYING = ("billed", "stripe")


@dataclass(frozen=True, slots=True)
class Contract:
    """A plan version that applies to a customer. Without a subscription it is the default product, virtually."""

    plan_id: int
    plan_name: str
    kind: str
    version_id: int
    anchor: datetime
    since: datetime
    phase_starts_at: datetime
    subscription_id: int | None = None
    phase_id: int | None = None
    add_on: bool = False
    quantity: int = 1
    is_custom: bool = False

    @property
    def terms(self) -> PlanTerms:
        return terms_of(self.version_id)

    @property
    def is_default(self) -> bool:
        return self.subscription_id is None

    @property
    def multiplier(self) -> int:
        """Only billed and mirrored plans are sold in quantities."""
        return self.quantity if self.kind in MULTIPLYING else 1

    @property
    def follows_contract(self) -> bool:
        """Whether windows follow the contract's periods (else the customer's usage anchor)."""
        return self.kind in MULTIPLYING


def contract_of(phase: Phase, customer: Customer) -> Contract:
    """The value of a phase; reads `phase.subscription` and `phase.version.plan`, which should be joined already."""
    subscription, plan = phase.subscription, phase.version.plan
    follows = plan.kind in MULTIPLYING
    return Contract(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        version_id=phase.version_id,
        anchor=phase.anchor if follows else customer.usage_anchor,
        since=subscription.started_at,
        phase_starts_at=phase.starts_at,
        subscription_id=subscription.pk,
        phase_id=phase.pk,
        add_on=subscription.add_on,
        quantity=subscription.quantity,
        is_custom=phase.version.tailored,
    )


def order(contracts: Iterable[Contract]) -> list[Contract]:
    """Main plans before add-ons, then the oldest first: the order in which they are asked for values and overage."""
    return sorted(contracts, key=lambda c: (c.add_on, c.since, c.subscription_id or 0))


def contracts_at(customer: Customer, at: datetime) -> list[Contract]:
    """What applies at the instant, by dates alone (a late worker changes nothing); one query, two without a plan."""
    phases = (
        Phase.objects.in_force(at)
        .filter(subscription__customer=customer, subscription__state__in=LIVE)
        .select_related("subscription", "version__plan")
    )
    held = order(contract_of(phase, customer) for phase in phases)
    return held or [c for c in [default_contract(customer)] if c]


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
        anchor=customer.usage_anchor,
        since=customer.usage_anchor,
        phase_starts_at=customer.usage_anchor,
    )
