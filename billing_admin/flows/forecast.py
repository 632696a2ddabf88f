"""The next invoices of a contract if it goes on as it does today. Pure.

Nothing is calculated here that billing does not calculate: each boundary to come is handed to the functions that the
renewal calls, with use assumed at a daily rate. So the first document of a forecast without use is the next invoice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from billing_admin.flows.boundary import Stretch, boundary_lines, commitment_of, committed_period
from billing_admin.flows.outlook import charged_by_then, following_of, open_uses, specials_after
from billing_admin.flows.plan_change import PlanChange
from billing_admin.flows.position import stretch_of
from catalog.periods import CALENDAR_WEEK_ORIGIN, NEVER, Cadence, Period, is_boundary, period_containing, window
from catalog.terms import CALENDAR, CANCEL, ItemTerms
from customers.contracts import MULTIPLYING
from customers.models import Subscription
from customers.switch import next_bill
from invoicing.commitment import COUNTED
from invoicing.documents import BillingRules, Document, bounds_of, draw
from invoicing.lines import Line, RatedUse
from invoicing.pipeline import DrawnLine
from invoicing.special import Special, counted

MOST = 12
MOST_BOUNDARIES = 200
A_DAY = timedelta(days=1)
SMALLEST = Decimal("0.000001")  # quantities have six decimals
FAR = CALENDAR_WEEK_ORIGIN.replace(year=9999)


@dataclass(frozen=True, slots=True)
class Leg:
    """One stretch of a contract with the quantity that multiplies its allowances, and its plan."""

    stretch: Stretch
    quantity: int = 1

    @property
    def plan_id(self) -> int:
        return self.stretch.terms.plan_id


@dataclass(frozen=True, slots=True)
class Course:
    """How a contract goes on by itself from an instant.

    `legs` are in order of time, those of the past included; `uses` are windows that no invoice has, as they stand;
    `charged` counts towards the minimum of the running period already (minor units).
    """

    at: datetime
    legs: tuple[Leg, ...]
    bills_at: datetime | None
    ends_at: datetime | None
    rules: BillingRules
    uses: tuple[RatedUse, ...] = ()
    specials: tuple[Special, ...] = ()
    charged: int = 0
    pending: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What one boundary will bill, if nothing changes. `is_estimated`: use is assumed in it."""

    at: datetime
    plan_name: str
    currency: str
    documents: tuple[Document, ...]
    is_estimated: bool

    @property
    def total(self) -> int:
        return sum(document.total for document in self.documents)

    @property
    def due(self) -> int:
        """What is left to pay after account credit."""
        return sum(document.drawn.due for document in self.documents)


class Assumed(Protocol):
    """What is taken to be used, and what of it is included."""

    def units(self, item: ItemTerms, since: datetime, until: datetime) -> Decimal:
        """Units used between two instants; six decimals."""

    def included(self, item: ItemTerms, granted: Decimal, since: datetime, until: datetime) -> Decimal:
        """What a window covers that is granted so much by its plan."""


@dataclass(frozen=True, slots=True)
class DailyUse:
    """So many units a day, by the slug of the feature; the plan's allowance and no other."""

    rates: Mapping[str, Decimal]

    def units(self, item: ItemTerms, since: datetime, until: datetime) -> Decimal:
        rate = self.rates.get(item.feature.slug, Decimal(0)) if item.feature else Decimal(0)
        share = Fraction(int((until - since).total_seconds()), 86_400)
        return (rate * share.numerator / share.denominator).quantize(SMALLEST)

    def included(self, item: ItemTerms, granted: Decimal, since: datetime, until: datetime) -> Decimal:
        return granted


def forecast(course: Course, daily: Mapping[str, Decimal], *, most: int = MOST) -> tuple[Expected, ...]:
    """The next documents, at most so many. `daily` are units used per day, by the slug of the feature."""
    found = (expected for expected in boundaries(course, DailyUse(daily)) if expected.documents)
    return tuple(expected for expected, _place in zip(found, range(most), strict=False))


def forecast_change(change: PlanChange, daily: Mapping[str, Decimal], *, most: int = MOST) -> tuple[Expected, ...]:
    """The invoices that follow a change of plan, before anybody has confirmed it."""
    return forecast(course_after(change), daily, most=most)


def boundaries(course: Course, assumed: Assumed) -> Iterator[Expected]:
    """Every boundary to come, those without a document too, until the contract ends."""
    at, rules, specials, pending = course.bills_at, course.rules, course.specials, course.pending
    billed: list[DrawnLine] = []
    windows = _Windows(course, assumed)
    for _ in range(MOST_BOUNDARIES):
        if at is None:
            return
        before, after = _legs_at(course, at)
        history = tuple(leg.stretch for leg in course.legs if leg.stretch.starts_at < at) or (before.stretch,)
        goes_on = after.stretch if after else None
        closes = goes_on is not history[-1]
        uses = windows.due(before, after, at, closes=closes)
        lines = boundary_lines(at, history=history, after=goes_on, uses=uses, specials=specials, pending=pending)
        terms = before.stretch.terms
        charged = _charged(course, history, at, billed, closes=closes)
        documents = draw(
            lines,
            replace(rules, plan_id=(after or before).plan_id),
            bounds=bounds_of(terms, lines),
            commitment=commitment_of(history, at, charged=charged, closes=closes),
            currency=terms.currency,
        )
        yield Expected(at, (after or before).stretch.terms.plan_name, terms.currency, tuple(documents), _assumes(uses))
        billed += [drawn for document in documents for drawn in document.drawn.lines]
        rules = rules.after(documents, began=_began(documents, course.legs))
        specials, pending = counted(specials, lines), ()
        at = _next_stop(course, after, at)


def _began(documents: Sequence[Document], legs: Sequence[Leg]) -> datetime | None:
    """When the billing period began that documents belong to: the one that their latest charge lies in."""
    starts = [line.starts_at for document in documents for line in document.lines if line.starts_at]
    if not starts:
        return None
    latest = max(starts)
    stretch = [leg.stretch for leg in legs if leg.stretch.starts_at <= latest][-1:] or [legs[0].stretch]
    return period_containing(stretch[0].anchor, Cadence.parse(stretch[0].terms.cadence), latest).starts_at


def _assumes(uses: Sequence[RatedUse]) -> bool:
    """Whether use that is billed afterwards is among them; bought units and levels are paid as they are."""
    return any(use.segments[-1][0].is_usage for use in uses)


def _legs_at(course: Course, at: datetime) -> tuple[Leg, Leg | None]:
    """The leg in force until the boundary, and the one from it; None when the contract ends there."""
    before = [leg for leg in course.legs if leg.stretch.starts_at < at] or course.legs[:1]
    if course.ends_at is not None and course.ends_at <= at:
        return before[-1], None
    begun = [leg for leg in course.legs if leg.stretch.starts_at <= at] or course.legs[:1]
    return before[-1], begun[-1]


def _next_stop(course: Course, leg: Leg | None, at: datetime) -> datetime | None:
    if leg is None:
        return None
    regular = None if leg.stretch.is_trial else next_bill(leg.stretch.terms, leg.stretch.anchor, at)
    stops = [regular, course.ends_at, *(other.stretch.starts_at for other in course.legs)]
    return min((stop for stop in stops if stop and stop > at), default=None)


def _charged(
    course: Course, history: Sequence[Stretch], at: datetime, billed: Sequence[DrawnLine], *, closes: bool
) -> int:
    """What earlier documents charged for the period whose minimum is settled at the boundary."""
    period = committed_period(history, at, closes=closes)
    if period is None:
        return 0
    within = [d for d in billed if d.line.kind in COUNTED and d.line.starts_at and d.line.starts_at in period]
    known = course.charged if course.at in period else 0
    return known + sum(drawn.line.amount - drawn.discounted for drawn in within)


class _Windows:
    """The windows of use to come: those that are open grow as assumed, others follow them."""

    def __init__(self, course: Course, assumed: Assumed):
        self.assumed, self.legs, self.ends_at = assumed, course.legs, course.ends_at
        self.carried: set[str] = set()
        self.waiting = [self._grown(use, course.at) for use in course.uses]
        self.since = dict.fromkeys((key for leg in course.legs for key in _keys(leg)), course.at)
        for use in self.waiting:
            key = use.segments[-1][0].key
            self.since[key] = max(self.since.get(key, course.at), use.ends_at or FAR)

    def _grown(self, use: RatedUse, at: datetime) -> RatedUse:
        """An open window with what will have been used by its end, or by the contract's."""
        if use.ends_at is None or use.ends_at <= at:
            return use
        item, until = use.segments[-1][0], min(use.ends_at, self.ends_at or FAR)
        used = use.used + self.assumed.units(item, at, max(at, until))
        return replace(use, used=used, segments=(*use.segments[:-1], (item, used)))

    def due(self, leg: Leg, after: Leg | None, at: datetime, *, closes: bool) -> list[RatedUse]:
        """The windows that the boundary bills. Those that last longer go on under what follows, where that is the same
        plan with the same resets; else they end here."""
        stretch, ends = leg.stretch, after is None
        if not stretch.bills:
            self.since.update(dict.fromkeys(_keys(leg), at))
            return []
        goes_on = {item.key for item in stretch.terms.usage_items if after and _goes_on(item, leg, after)}
        for item in stretch.terms.usage_items:
            self._follow(leg, item, at, cuts=item.key not in goes_on)
        self.carried = goes_on if closes else self.carried
        found = [use for use in self.waiting if self._falls_due(use, stretch, at, closes=closes, ends=ends)]
        self.waiting = [use for use in self.waiting if use not in found]
        return found

    def _falls_due(self, use: RatedUse, stretch: Stretch, at: datetime, *, closes: bool, ends: bool) -> bool:
        over = ends or (use.ends_at is not None and use.ends_at <= at)
        interval = Cadence.parse(stretch.terms.interval_of(use.segments[-1][0]))
        return over and (closes or is_boundary(stretch.anchor, interval, at))

    def _follow(self, leg: Leg, item: ItemTerms, at: datetime, *, cuts: bool) -> None:
        """The windows of an item from where the last one ended until the boundary, which cuts the last one or not."""
        since, granted = self.since.get(item.key, at), item.granted
        if granted is None or item.reset == NEVER:
            return
        if item.key not in self.carried:
            since = max(since, leg.stretch.starts_at)
        times = leg.quantity if leg.stretch.terms.kind in MULTIPLYING else 1
        while since < at:
            span = self._window(item, leg.stretch.anchor, since)
            until = span.ends_at or at
            if until > at and not cuts:
                break
            until = min(until, at)
            parts = max(1, round((until - since) / (_length(item.reset) or (until - since))))
            segments = self._segments(item, since, until)
            included = self.assumed.included(item, granted * times * parts, since, until)
            self.waiting.append(RatedUse(None, included, Decimal(0), segments[-1][1], segments, since, until))
            since = until
        self.since[item.key] = since

    def _segments(self, item: ItemTerms, since: datetime, until: datetime) -> tuple[tuple[ItemTerms, Decimal], ...]:
        """The units of a window by the item that they were used under; several where a phase began inside it."""
        found: list[tuple[ItemTerms, Decimal]] = []
        ends = [leg.stretch.starts_at for leg in self.legs[1:]]
        for leg, end in zip(self.legs, [*ends, FAR], strict=True):
            own = leg.stretch.terms.item(item.key)
            if own is not None and since < end and leg.stretch.starts_at < until:
                found.append((own, self.assumed.units(item, since, min(until, end))))
        return tuple(found) or ((item, self.assumed.units(item, since, until)),)

    def _window(self, item: ItemTerms, anchor: datetime, at: datetime) -> Period:
        """The window that contains the instant; those shorter than a day are taken together, day by day."""
        reset = "P1D" if _length(item.reset) else item.reset
        return window(reset, anchor, at, on_calendar=item.reset_anchor == CALENDAR)


def _goes_on(item: ItemTerms, before: Leg, after: Leg) -> bool:
    """Whether the windows of an item are the same ones under the next leg."""
    if after is before:
        return True
    own = after.stretch.terms.item(item.key)
    same_plan = after.plan_id == before.plan_id and after.stretch.anchor == before.stretch.anchor
    same = own is not None and own.is_usage and (own.reset, own.reset_anchor) == (item.reset, item.reset_anchor)
    return same and same_plan and not after.stretch.is_trial


def _length(reset: str) -> timedelta | None:
    """How long a window is that is shorter than a day; None of others."""
    span = Cadence.parse(reset).span
    return span if timedelta() < span < A_DAY else None


def _keys(leg: Leg) -> list[str]:
    return [item.key for item in leg.stretch.terms.usage_items]


# Where the course comes from ------------------------------------------------------------------------------------------


def course_of(
    subscription: Subscription,
    *,
    at: datetime,
    rules: BillingRules,
    uses: Sequence[RatedUse] = (),
    levels: Mapping[str, Decimal] | None = None,
    specials: Sequence[Special] = (),
    charged: int = 0,
    pending: Sequence[Line] = (),
) -> Course:
    """The course of a contract as it stands, from its prefetched phases. `levels`: seats in use by feature."""
    legs = tuple(Leg(stretch_of(phase, levels or {}), phase.quantity) for phase in subscription.kept_phases())
    return Course(
        at=at,
        legs=legs,
        bills_at=subscription.bills_at,
        ends_at=subscription.ends_at,
        rules=rules,
        uses=tuple(uses),
        specials=tuple(specials),
        charged=charged,
        pending=tuple(pending),
    )


def course_after(change: PlanChange) -> Course:
    """The course that a change would begin. What stays scheduled stays in it; a trial is followed by what is paid."""
    position, proposal, held = change.position, change.proposal, change.position.held
    kept = held if change.keeps_schedule else None
    trial_ends_at = change.trial_ends_at or (kept.contract.trial_ends_at if kept else None)
    terms = position.sold(proposal.terms, proposal.quantity, dict(proposal.bought))
    anchor = change.starts_at if trial_ends_at else change.anchor
    new = Stretch(terms, anchor, change.starts_at, is_trial=trial_ends_at is not None)
    quantities = {contract.phase_starts_at: contract.quantity for contract in kept.coming} if kept else {}
    later = following_of(position, new, kept, trial_ends_at)
    legs = [Leg(stretch, held.contract.quantity) for stretch in held.history] if held else []
    legs += [Leg(stretch, quantities.get(stretch.starts_at, proposal.quantity)) for stretch in (new, *later)]
    now_lines = [line for document in change.documents for line in document.lines]
    uses = open_uses(position, FAR, scheduled=change.is_scheduled, lines_now=now_lines, moves=change.moves)
    ends_at = proposal.ends_at or (kept.ends_at if kept else None)
    is_over = trial_ends_at is not None and proposal.terms.trial_end == CANCEL
    kept_coupons = [coupon.terms for coupon in proposal.coupons if not coupon.for_this_act]
    return Course(
        at=position.at,
        legs=tuple(legs),
        bills_at=held.bills_at if held and change.is_scheduled else change.next_invoice.at,
        ends_at=trial_ends_at if is_over else ends_at,
        rules=position.rules.with_discounts(kept_coupons).after(change.documents, began=_began(change.documents, legs)),
        uses=() if trial_ends_at else tuple(uses),
        specials=counted(specials_after(position, proposal), now_lines),
        charged=charged_by_then(position, new, change.documents, scheduled=change.is_scheduled),
        pending=position.pending,
    )
