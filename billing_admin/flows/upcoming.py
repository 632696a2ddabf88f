"""What a customer's contracts will bill next, from what is known now. Pure, on rows that were read before.

The same lines as `renew` writes at the boundary, so that what is announced is what will be billed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing_admin.flows.boundary import boundary_lines
from billing_admin.flows.position import stretch_of
from catalog.terms import PlanTerms
from customers.models import Phase, Subscription
from customers.switch import next_bill
from entitlements.models import Balance
from invoicing.lines import Line, total, usage_lines
from invoicing.readings import rated_use
from invoicing.special import Special, counted

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


def upcoming(
    subscription: Subscription,
    use: Sequence[Balance],
    levels: Mapping[str, Decimal] | None = None,
    specials: Sequence[Special] = (),
    pending: Sequence[Line] = (),
) -> Upcoming | None:
    """The next invoice of a contract, if any is in sight, from the prefetched phases and the given unbilled windows.

    `levels` are the seats in use, by the slug of their feature; `pending` lines were added by hand.
    """
    return next(coming(subscription, use, levels, specials, pending, most=1), None)


def coming(
    subscription: Subscription,
    use: Sequence[Balance],
    levels: Mapping[str, Decimal] | None = None,
    specials: Sequence[Special] = (),
    pending: Sequence[Line] = (),
    *,
    most: int,
) -> Iterator[Upcoming]:
    """The next invoices of a contract, at most so many; only the first can have use on it, which is known by now."""
    at, found = subscription.bills_at, 0
    for _ in range(MOST_BOUNDARIES * most):
        if at is None or found == most:
            return
        bills, at = _at_boundary(subscription, use, levels or {}, specials, pending, at)
        if bills is not None:
            found, use, specials, pending = found + 1, (), counted(specials, bills.lines), ()
            yield bills


def _at_boundary(
    subscription: Subscription,
    use: Sequence[Balance],
    levels: Mapping[str, Decimal],
    specials: Sequence[Special],
    pending: Sequence[Line],
    at: datetime,
) -> tuple[Upcoming | None, datetime | None]:
    """What the boundary bills, and the one after it."""
    phases = subscription.kept_phases()
    begun = [p for p in phases if p.starts_at < at] or phases[:1]
    history = tuple(stretch_of(phase, levels) for phase in begun)
    ends = subscription.ends_at is not None and subscription.ends_at <= at
    phase = begun[-1] if ends else _last(phases, at)
    after = None if ends else history[-1] if phase.pk == begun[-1].pk else stretch_of(phase, levels)
    uses = [rated_use(row) for row in use]
    lines = boundary_lines(at, history=history, after=after, uses=uses, specials=specials, pending=pending)
    terms = phase.terms()
    if lines:
        so_far = bool(history[-1].terms.usage_items)
        found = Upcoming(at, phase.version.plan.name, tuple(lines), terms.currency, so_far)
    else:
        found = None
    if ends:
        return found, None
    stops = [next_bill(terms, phase.anchor, at), subscription.ends_at, *(p.starts_at for p in phases)]
    return found, min((stop for stop in stops if stop and stop > at), default=None)


def _last(phases: Sequence[Phase], at: datetime, *, ending: bool = False) -> Phase:
    found = [p for p in phases if (p.starts_at < at if ending else p.starts_at <= at)]
    return found[-1] if found else phases[0]


def use_so_far(row: Balance, terms: PlanTerms) -> int:
    """What the use of one window beyond its allowance costs until now, minor units."""
    return total(usage_lines(rated_use(row), plan_name=terms.plan_name, currency=terms.currency))
