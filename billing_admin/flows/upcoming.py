"""What a customer's contracts will bill next, from what is known now. Pure, on rows that were read before.

The same lines as `renew` writes at the boundary, so that what is announced is what will be billed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from catalog.periods import Cadence, is_boundary
from catalog.terms import PlanTerms
from customers.models import Phase, Subscription
from customers.switch import next_bill
from entitlements.models import Balance
from entitlements.readings import item_terms
from invoicing.lines import Line, renewal_lines, switch_lines, total, usage_lines
from invoicing.readings import rated_use

MOST_BOUNDARIES = 12


@dataclass(frozen=True, slots=True)
class Upcoming:
    """The next document of one contract: `so_far` while use may still be added to it."""

    at: datetime
    plan: str
    lines: tuple[Line, ...]
    currency: str
    so_far: bool

    @property
    def total(self) -> int:
        return total(self.lines)


def upcoming(subscription: Subscription, use: Sequence[Balance]) -> Upcoming | None:
    """The next invoice of a contract, if any is in sight, from the prefetched phases and the given unbilled windows."""
    at = subscription.bills_at
    for _ in range(MOST_BOUNDARIES):
        if at is None:
            return None
        found, at = _at_boundary(subscription, use, at)
        if found is not None:
            return found
    return None


def _at_boundary(
    subscription: Subscription, use: Sequence[Balance], at: datetime
) -> tuple[Upcoming | None, datetime | None]:
    """What the boundary bills, and the one after it."""
    phases = subscription.kept_phases()
    before = _last(phases, at, ending=True)
    ends = subscription.ends_at is not None and subscription.ends_at <= at
    phase = before if ends else _last(phases, at)
    switched = ends or phase.pk != before.pk
    lines = _use(use, before.terms(), before.anchor, at, all_intervals=switched, all_windows=ends)
    terms = phase.terms()
    if terms.is_invoiced and not ends:
        sold = terms.times(phase.quantity)
        lines += (
            switch_lines(before.terms(), sold, phase.anchor, at) if switched else renewal_lines(sold, phase.anchor, at)
        )
    if lines:
        so_far = bool(before.terms().usage_items)
        return Upcoming(at, phase.version.plan.name, tuple(lines), terms.currency, so_far), None
    if ends:
        return None, None
    stops = [next_bill(terms, phase.anchor, at), subscription.ends_at, *(p.starts_at for p in phases)]
    return None, min((stop for stop in stops if stop and stop > at), default=None)


def _last(phases: Sequence[Phase], at: datetime, *, ending: bool = False) -> Phase:
    found = [p for p in phases if (p.starts_at < at if ending else p.starts_at <= at)]
    return found[-1] if found else phases[0]


def _use(
    rows: Sequence[Balance],
    terms: PlanTerms,
    anchor: datetime,
    at: datetime,
    *,
    all_intervals: bool,
    all_windows: bool,
) -> list[Line]:
    """Use of windows that will have ended; the end of the contract ends them all."""
    if not terms.is_invoiced:
        return []
    lines: list[Line] = []
    for row in rows:
        interval = Cadence.parse(terms.interval_of(item_terms(row.item_id)))
        ended = all_windows or (row.ends_at is not None and row.ends_at <= at)
        if ended and (all_intervals or is_boundary(anchor, interval, at)):
            lines += usage_lines(rated_use(row), plan_name=terms.plan_name, currency=terms.currency)
    return lines


def use_so_far(row: Balance, terms: PlanTerms) -> int:
    """What the use of one window beyond its allowance costs until now, minor units."""
    return total(usage_lines(rated_use(row), plan_name=terms.plan_name, currency=terms.currency))
