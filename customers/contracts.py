"""What a customer holds at an instant, as values: one `Contract` per phase in force, or the default product."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from catalog.terms import PlanTerms

MULTIPLYING = ("billed", "stripe")


@dataclass(frozen=True, slots=True)
class Contract:
    """A plan version that applies to a customer. Without a subscription it is the default product, virtually.

    `terms` know what was `bought` (units by item key); a trial is a period of its own, until `trial_ends_at`.
    """

    plan_id: int
    plan_name: str
    kind: str
    version_id: int | None
    terms: PlanTerms = field(repr=False)
    anchor: datetime
    since: datetime
    phase_starts_at: datetime
    subscription_id: int | None = None
    phase_id: int | None = None
    add_on: bool = False
    quantity: int = 1
    is_custom: bool = False
    bought: tuple[tuple[str, Decimal], ...] = ()
    trial_ends_at: datetime | None = None

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


def order(contracts: Iterable[Contract]) -> list[Contract]:
    """Main plans before add-ons, then the oldest first: the order in which they are asked for values and overage."""
    return sorted(contracts, key=lambda c: (c.add_on, c.since, c.subscription_id or 0))
