"""A deal as it was on a date: what it said, how far it had come, and which phases its contract was known to have.

Nothing is kept for it: versions know when they were written, and the journal knows every state and what was executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from customers.models import Operation
from deals.models import Deal, DealVersion
from deals.states import DealState


@dataclass(frozen=True, slots=True)
class KnownPhase:
    """One phase of a contract as it was agreed: by which deal, from when until when."""

    deal: Deal
    label: str
    quantity: int
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class DealAt:
    """What was known of a deal at an instant. `version` is None before it was begun.

    `phases` are those of its contract by the deals that had been carried out by then, amendments counted.
    """

    at: datetime
    version: DealVersion | None
    state: str
    phases: tuple[KnownPhase, ...] = ()

    @property
    def state_label(self) -> str:
        return DealState(self.state).label if self.state else ""


def deal_at(deal: Deal, at: datetime) -> DealAt:
    """As it was at the instant, everything counted that happened until then."""
    version = deal.versions.filter(created_at__lte=at).order_by("-number").first()
    if version is None:
        return DealAt(at, None, "")
    return DealAt(at, version, _state(deal, at), tuple(phases_known(family(deal), at)))


def _state(deal: Deal, at: datetime) -> str:
    """The state that the last act of the journal left it in."""
    acts = Operation.objects.filter(customer=deal.customer_id, verb__startswith="deal.", at__lte=at)
    last = acts.filter(inputs__deal=deal.public_id, effects__has_key="state").order_by("-id").first()
    return str(last.effects["state"]) if last else DealState.DRAFT


def family(deal: Deal) -> list[Deal]:
    """The deal that was amended first, and every amendment after it."""
    root = deal
    while root.amends is not None:
        root = root.amends
    found, left = [root], [root]
    while left:
        left = list(Deal.objects.filter(amends__in=left).order_by("id"))
        found += left
    return found


def phases_known(deals: Sequence[Deal], at: datetime) -> list[KnownPhase]:
    """What the executed ones of these deals had made of the contract; a later one replaces what was to come."""
    found: list[KnownPhase] = []
    for deal, act in _executed(deals, at):
        own = [
            KnownPhase(
                deal,
                phase["label"],
                phase["quantity"],
                datetime.fromisoformat(phase["startsAt"]),
                datetime.fromisoformat(phase["endsAt"]),
            )
            for phase in act.effects["phases"]
        ]
        since = own[0].starts_at
        found = [_until(phase, since) for phase in found if phase.starts_at < since] + own
    return found


def _until(phase: KnownPhase, at: datetime) -> KnownPhase:
    ends_at = min(phase.ends_at, at)
    return KnownPhase(phase.deal, phase.label, phase.quantity, phase.starts_at, ends_at)


def _executed(deals: Sequence[Deal], at: datetime) -> list[tuple[Deal, Operation]]:
    """The acts that carried them out by then and were not taken back by then, the earliest first."""
    by_id = {deal.public_id: deal for deal in deals}
    customers = {deal.customer_id for deal in deals}
    acts = Operation.objects.filter(customer__in=customers, verb="deal.executed", at__lte=at)
    acts = acts.filter(inputs__deal__in=list(by_id)).exclude(reversed_by__at__lte=at).order_by("id")
    return [(by_id[act.inputs["deal"]], act) for act in acts]
