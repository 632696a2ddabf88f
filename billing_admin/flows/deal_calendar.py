"""Every invoice of a deal's term at the use that is assumed, and what the deal is worth beside list prices.

Nothing is reckoned here: the act of the start is the preview of a plan change, every later boundary is the forecast's,
which asks the functions that the renewal asks. So the calendar is what will be billed if exactly that much is used.

What a deal is worth is reckoned as if it were the customer's first plan: what it replaces, credits for unused time and
other coupons are in the calendar and not in its value.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from billing_admin.flows.boundary import Stretch
from billing_admin.flows.change import decide_change, preview, restarts_cycle
from billing_admin.flows.coupons import find_offer
from billing_admin.flows.deal_use import DealUse, Term, term_from
from billing_admin.flows.drafts import as_if_issued
from billing_admin.flows.forecast import FAR, Course, Expected, Leg, boundaries, course_after
from billing_admin.flows.outlook import open_uses
from billing_admin.flows.plan_change import Activation, NewCoupon, NewSpecial, PlanChange, Proposal, Timing
from billing_admin.flows.position import Gate, Position, held_subscription, read_position
from billing_admin.flows.renew import catch_up
from catalog.models import Plan, PlanVersion
from catalog.money import round_half_away, to_minor
from catalog.periods import Cadence, period_containing
from catalog.terms import ChangeKind, ItemTerms, PlanTerms
from customers.models import Customer
from deals.models import Deal
from deals.terms import NOW, DealPhase, DealTerms
from invoicing.documents import BillingRules, Document, draw
from invoicing.lines import Line, seats_line
from invoicing.models import BillingSettings
from invoicing.rewards import DISCOUNTS, discount_terms, most_periods
from invoicing.rules import TaxTable
from invoicing.special import INSTANT, Special
from invoicing.taxes import TaxTerms


@dataclass(frozen=True, slots=True)
class Ground:
    """What a deal is reckoned on beside its own words: the list price, taxes, and how the account collects.

    `grace` is how long an invoice with use waits as a draft; `net_terms_days` holds where the deal names none.
    """

    base: PlanTerms
    kind: str = "billed"
    add_on: bool = False
    taxes: tuple[TaxTerms, ...] = ()
    coupons: tuple[NewCoupon, ...] = ()
    net_terms_days: int = 0
    grace: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class PlannedInvoice:
    """What one date of the calendar bills: when it is issued, when it is due, in minor units.

    `phase` is the label of the phase that begins or runs then; `is_estimated`: use is assumed in it. `is_last` settles
    the end of the term; what a renewal charges ahead beside it is not of this term.
    """

    at: datetime
    issued_at: datetime
    due_at: datetime
    phase: str
    documents: tuple[Document, ...]
    is_estimated: bool = False
    is_last: bool = False

    @property
    def total(self) -> int:
        return sum(document.total for document in self.documents)

    @property
    def tax(self) -> int:
        return sum(document.drawn.tax_total for document in self.documents)

    @property
    def net(self) -> int:
        """Without tax, after discounts."""
        return self.total - self.tax

    @property
    def discount(self) -> int:
        return sum(document.drawn.discount_total for document in self.documents)

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for document in self.documents for line in document.lines)


@dataclass(frozen=True, slots=True)
class Year:
    """Sums of one year of the term by the dates of its invoices, minor units."""

    number: int
    starts_at: datetime
    ends_at: datetime
    net: int
    tax: int
    total: int


@dataclass(frozen=True, slots=True)
class DealCalendar:
    """All of it. Money in minor units of `currency`; `discount` in percent of list, None where the list costs nothing.

    `invoices` are those that the customer will get; `value`, `list_value`, `monthly` are net of tax. `committed` is the
    sum of the minimum commitments. `renewal` is what the boundary at the end of the term bills in full where the
    contract goes on. `change` is the act of the start, None where it only schedules phases.
    """

    currency: str
    term: Term
    invoices: tuple[PlannedInvoice, ...]
    years: tuple[Year, ...]
    value: int
    list_value: int
    monthly: int
    committed: int
    discount: Decimal | None
    renewal: PlannedInvoice | None = None
    change: PlanChange | None = field(default=None, compare=False)

    @property
    def starts_at(self) -> datetime:
        return self.term.starts_at

    @property
    def ends_at(self) -> datetime:
        return self.term.ends_at

    @property
    def is_gated(self) -> bool:
        """Whether access waits until the first invoice is paid."""
        return self.change is not None and self.change.is_gated

    @property
    def depends_on_day(self) -> bool:
        """Whether another day would bill something else at once: it changes a contract inside a period."""
        return self.change is not None and self.change.position.held is not None and not self.change.is_scheduled

    @property
    def payment_window(self) -> timedelta | None:
        """How long that invoice may stay unpaid; None where nothing waits for it."""
        return self.change.position.gate.payment_window if self.change is not None and self.is_gated else None

    @property
    def net(self) -> int:
        return sum(invoice.net for invoice in self.invoices)

    @property
    def tax(self) -> int:
        return sum(invoice.tax for invoice in self.invoices)

    @property
    def total(self) -> int:
        return sum(invoice.total for invoice in self.invoices)

    def facts(self) -> dict[str, Any]:
        """What must not move between approval and signature: what it is worth, and what list is."""
        return {
            "currency": self.currency,
            "months": self.term.months,
            "value": self.value,
            "listValue": self.list_value,
            "committed": self.committed,
            "discount": str(self.discount),
        }

    @property
    def fingerprint(self) -> str:
        """Of every invoice by date and amount, and of what the deal is worth."""
        dates = [(i.at.isoformat(), i.due_at.isoformat(), i.net, i.tax, i.total) for i in self.invoices]
        facts = json.dumps([self.facts(), dates], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:32]


def said_window(window: timedelta) -> str:
    """`24 hours`, `3 days`."""
    hours = int(window.total_seconds() // 3600)
    number, unit = (hours // 24, "day") if hours > 24 and hours % 24 == 0 else (hours, "hour")
    return f"{number} {unit}{'' if number == 1 else 's'}"


# Reading --------------------------------------------------------------------------------------------------------------


def read_calendar(terms: DealTerms, customer: Customer | None, *, now: datetime) -> DealCalendar:
    """The calendar of a deal for a customer as they stand now; for nobody in particular, of a template."""
    plan = Plan.objects.select_related("product").get(pk=terms.plan_id)
    if customer is None:
        return calendar_of(terms, read_ground(terms, None, plan), at=now.replace(microsecond=0))
    catch_up(customer, now=now)
    held = held_subscription(customer, plan)
    with as_if_issued([held], now=now):
        position = read_position(customer, plan, at=now.replace(microsecond=0), subscription=held)
        ground = read_ground(terms, customer, plan, position)
        return calendar_of(terms, ground, at=position.at, position=position)


def expected_of(deal: Deal, terms: DealTerms, *, now: datetime) -> DealCalendar:
    """The calendar of what a deal says, or would say, for its customer as they stand now."""
    return read_calendar(terms, deal.customer, now=now)


def read_ground(terms: DealTerms, customer: Customer | None, plan: Plan, position: Position | None = None) -> Ground:
    account = BillingSettings.present()
    version = PlanVersion.objects.with_items().get(pk=terms.version_id)
    table = TaxTable.read([customer.pk] if customer else [], [plan.pk])
    coupons = [find_offer(coupon.code).coupon for coupon in terms.coupons]
    return Ground(
        base=version.terms(),
        kind=plan.kind,
        add_on=plan.add_on,
        taxes=table.terms(customer.pk if customer else 0, plan.pk),
        coupons=tuple(
            NewCoupon(coupon.pk, discount_terms(coupon, -coupon.pk, periods=most_periods(coupon)))
            for coupon in coupons
            if coupon.kind in DISCOUNTS
        ),
        net_terms_days=position.gate.net_terms_days if position else account.net_terms_days,
        grace=timedelta(hours=account.grace_hours),
    )


# The way there --------------------------------------------------------------------------------------------------------


def calendar_of(terms: DealTerms, ground: Ground, *, at: datetime, position: Position | None = None) -> DealCalendar:
    """The calendar of a deal that is carried out at the instant, or at its own start if that is later.

    `position` is the customer's, read at the instant; without one it is reckoned as a first plan. Pure.
    """
    starts_at = at if terms.starts_at is None else max(at, terms.starts_at)
    if position is not None and position.held is None:
        position = replace(position, at=starts_at)
    begun = _begin(terms, ground, position or blank_position(terms, ground, starts_at), starts_at)
    alone = begun if position is None else _alone(terms, ground, begun.term)
    renewal = _invoices(terms, ground, begun, ends=False)[-1:] if terms.renews else []
    return _calendar(terms, ground, begun, alone, _invoices(terms, ground, begun, ends=True), renewal)


def agreed_calendar(terms: DealTerms, ground: Ground, term: Term) -> DealCalendar:
    """The calendar of a deal that was carried out, as the first plan of somebody, over the months that it got. Pure."""
    alone = _alone(terms, ground, term)
    return _calendar(terms, ground, alone, alone, _invoices(terms, ground, alone, ends=True))


def remaining_calendar(
    terms: DealTerms, ground: Ground, term: Term, course: Course | None, *, until: datetime | None = None
) -> DealCalendar:
    """What a contract is still to bill within the months of a deal that it runs under. Pure.

    `course` is how the contract goes on from now, None once it is over; `until` is when another deal took its place.
    """
    alone = _alone(terms, ground, term)
    if course is None:
        return _calendar(terms, ground, replace(alone, term=term), alone, [])
    begun = Begun(term, course, None, (), DealUse.of(terms, term))
    invoices = [i for i in _invoices(terms, ground, begun, ends=True) if until is None or i.at < until]
    return _calendar(terms, ground, begun, alone, invoices)


def _calendar(
    terms: DealTerms,
    ground: Ground,
    begun: "Begun",
    alone: "Begun",
    invoices: Sequence[PlannedInvoice],
    renewal: Sequence[PlannedInvoice] = (),
) -> DealCalendar:
    """These invoices, and what the deal is worth `alone`, as somebody's first plan, beside list."""
    listed = _alone(at_list(terms, ground.base), replace(ground, coupons=()), alone.term)
    value = sum(invoice.net for invoice in _invoices(terms, ground, alone, ends=True))
    list_value = sum(invoice.net for invoice in _invoices(terms, ground, listed, ends=True))
    return DealCalendar(
        currency=terms.currency,
        term=begun.term,
        invoices=tuple(invoices),
        years=tuple(_years(begun.term, invoices)),
        value=value,
        list_value=list_value,
        monthly=round_half_away(Fraction(value, terms.term_months)),
        committed=_committed(terms),
        discount=_percent(list_value - value, list_value),
        renewal=next((invoice for invoice in renewal if invoice.at == begun.term.ends_at), None),
        change=begun.change,
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """How a deal begins: what is billed at once, and how the contract goes on from there."""

    term: Term
    course: Course
    change: PlanChange | None
    now: tuple[Document, ...]
    use: DealUse


def _alone(terms: DealTerms, ground: Ground, term: Term) -> Begun:
    """The deal as the first plan of somebody who has nothing else, over the same months."""
    position = blank_position(terms, ground, term.opens_at)
    return _begin(terms, ground, position, term.opens_at, anchor=None if term.anchor == term.starts_at else term.anchor)


def at_list(terms: DealTerms, base: PlanTerms) -> DealTerms:
    """The same term with the same quantities and the same use, at the prices that anybody gets."""
    keys = {item.key for item in base.items if item.is_prepaid}
    phases = tuple(
        replace(
            phase,
            items=tuple(replace(item, id=None) for item in base.items),
            commitment=base.commitment,
            bought=tuple((key, units) for key, units in phase.bought if key in keys),
        )
        for phase in terms.phases
    )
    return replace(terms, phases=phases, cadence=base.cadence, coupons=(), overrides=(), prices=())


def blank_position(terms: DealTerms, ground: Ground, at: datetime) -> Position:
    """Somebody who has nothing yet."""
    return Position(
        customer_id=0,
        customer_name="",
        currency=terms.currency,
        usage_anchor=at,
        at=at,
        ledger=0,
        held=None,
        others=(),
        default=None,
        anchor_of_product=None,
        buckets=(),
        waiting=(),
        use={},
        closed_use=(),
        fees=(),
        rules=BillingRules(plan_id=terms.plan_id, taxes=ground.taxes),
        gate=Gate(net_terms_days=ground.net_terms_days),
    )


def first_proposal(terms: DealTerms, ground: Ground, *, specials: Sequence[NewSpecial] = ()) -> Proposal:
    """The first phase as a plan that is proposed."""
    phase = terms.phases[0]
    return Proposal(
        plan_id=terms.plan_id,
        plan_name=terms.plan_name,
        kind=ground.kind,
        add_on=ground.add_on,
        terms=card_of(terms, phase, ground.base),
        standard=ground.base,
        is_custom=True,
        quantity=phase.quantity,
        timing=Timing.NOW,
        bought=tuple(sorted(phase.bought)),
        trial_days=terms.trial_days,
        activation=Activation.NOW if terms.activation == NOW else Activation.AFTER_PAYMENT,
        coupons=ground.coupons,
        net_terms_days=terms.net_terms_days,
        specials=tuple(specials),
    )


def card_of(terms: DealTerms, phase: DealPhase, base: PlanTerms) -> PlanTerms:
    """The rate card of a phase; the base version itself where it says the same."""
    card = terms.phase_terms(phase, base)
    return base if card.content() == base.content() else card


def _begin(
    terms: DealTerms, ground: Ground, position: Position, starts_at: datetime, *, anchor: datetime | None = None
) -> Begun:
    proposal = replace(first_proposal(terms, ground), anchor=anchor)
    if position.held is not None and starts_at > position.at:
        return _begin_later(terms, ground, position, proposal, starts_at)
    change = _look(position, proposal)
    running = running_trial(change)
    trial_ends_at = change.trial_ends_at or running
    term = term_from(terms, opens_at=change.starts_at, anchor=running or change.anchor, trial_ends_at=trial_ends_at)
    change = _look(position, replace(proposal, specials=new_specials(terms, term)))
    course = course_after(change)
    use = DealUse.of(terms, term)
    levels = _levels(position) | dict(use.levels)
    legs = [leg for leg in course.legs if leg.stretch.starts_at < change.starts_at]
    if trial_ends_at is not None:
        legs += [leg for leg in course.legs if leg.stretch.is_trial and leg.stretch.starts_at == change.starts_at]
    ours = legs_of(terms, ground, term, levels)
    starts = [leg.stretch.starts_at for leg in ours[1:]]
    stops = [course.bills_at, *starts, term.ends_at]
    course = replace(
        course, legs=(*legs, *ours), bills_at=min(stop for stop in stops if stop is not None), ends_at=None
    )
    now = (*change.documents, *_seats_now(change, ours[0], course.rules, levels)) if not change.is_scheduled else ()
    return Begun(term, course, change, now, use)


def _look(position: Position, proposal: Proposal) -> PlanChange:
    """The act of the start. A trial goes on where nothing differs, as it does where only features do."""
    change = preview(position, proposal)
    if change.kind is ChangeKind.NOTHING and position.held is not None and position.held.on_trial:
        return decide_change(position, proposal, ChangeKind.FEATURES, Timing.NOW)
    return change


def running_trial(change: PlanChange) -> datetime | None:
    """When a trial ends that goes on under the change."""
    held = change.position.held
    return held.contract.trial_ends_at if held is not None and change.keeps_schedule else None


def _begin_later(
    terms: DealTerms, ground: Ground, position: Position, proposal: Proposal, starts_at: datetime
) -> Begun:
    """A running contract goes on under the deal from its first period that begins at the date or after it."""
    held = position.held
    assert held is not None
    start = first_boundary(position, starts_at)
    anchor = start if restarts_cycle(position.held, proposal) else held.contract.anchor
    term = term_from(terms, opens_at=start, anchor=anchor, trial_ends_at=None)
    use = DealUse.of(terms, term)
    ours = legs_of(terms, ground, term, _levels(position) | dict(use.levels))
    legs = [Leg(stretch, held.contract.quantity) for stretch in held.history]
    for contract in held.coming:
        if contract.phase_starts_at < start:
            sold = position.sold(contract.terms, contract.quantity, dict(contract.bought))
            legs.append(Leg(Stretch(sold, contract.anchor, contract.phase_starts_at), contract.quantity))
    specials = tuple(new.terms for new in new_specials(terms, term))
    course = Course(
        at=position.at,
        legs=(*legs, *ours),
        bills_at=min(stop for stop in (held.bills_at, start) if stop is not None),
        ends_at=None,
        rules=position.rules.with_discounts(coupon.terms for coupon in ground.coupons),
        uses=tuple(open_uses(position, FAR, scheduled=True, lines_now=(), moves=())),
        specials=(*position.specials, *specials),
        charged=position.charged,
        pending=position.pending,
    )
    return Begun(term, course, None, (), use)


def first_boundary(position: Position, at: datetime) -> datetime:
    """When the first period of the running plan begins that does so at the instant or after it."""
    held = position.held
    assert held is not None
    period = period_containing(held.contract.anchor, Cadence.parse(held.terms.cadence), at)
    return at if period.starts_at == at or period.ends_at is None else period.ends_at


def _levels(position: Position) -> dict[str, Decimal]:
    """Units in use of every level of the running contract, by the slug of its feature."""
    if position.held is None:
        return {}
    own = (position.held.subscription_id, None)
    held = (b for b in position.buckets if b.is_plan and b.owner == own and b.item.feature and b.item.is_seats)
    return {bucket.item.feature.slug: max(Decimal(0), bucket.used) for bucket in held if bucket.item.feature}


def legs_of(terms: DealTerms, ground: Ground, term: Term, levels: Mapping[str, Decimal]) -> list[Leg]:
    """The phases as billing sees them; those that say the same are one."""
    found: list[Leg] = []
    for phase, (start, _) in zip(terms.phases, terms.spans(), strict=True):
        card = card_of(terms, phase, ground.base)
        bought = dict(phase.bought) | _by_key(card, levels)
        stretch = Stretch(card.sold(phase.quantity, bought), term.anchor, term.at(start) if start else term.starts_at)
        if found and (found[-1].stretch.terms, found[-1].quantity) == (stretch.terms, phase.quantity):
            continue
        found.append(Leg(stretch, phase.quantity))
    return found


def _by_key(card: PlanTerms, levels: Mapping[str, Decimal]) -> dict[str, Decimal]:
    seats = [item for item in card.items if item.is_seats and item.feature]
    return {item.key: levels[item.feature.slug] for item in seats if item.feature and item.feature.slug in levels}


def _seats_now(
    change: PlanChange, leg: Leg, rules: BillingRules, levels: Mapping[str, Decimal]
) -> tuple[Document, ...]:
    """What the levels cost that are reached on the first day: a document of their own, as their first report makes."""
    terms = leg.stretch.terms
    if change.trial_ends_at or running_trial(change) or not terms.is_invoiced:
        return ()
    names = {"plan_name": terms.plan_name, "currency": terms.currency}
    before = change.position.levels(terms)
    lines = []
    for item in terms.items:
        paid_before = _paid(item, before.get(item.key, Decimal(0)))
        if item.is_seats and item.on_increase != "next_cycle" and _paid(item, item.bought or Decimal(0)) > paid_before:
            period = period_containing(leg.stretch.anchor, Cadence.parse(terms.interval_of(item)), change.starts_at)
            lines.append(seats_line(item, paid_before, period, at=change.starts_at, **names))
    return tuple(draw(lines, replace(rules, plan_id=terms.plan_id), currency=terms.currency)) if lines else ()


def _paid(item: ItemTerms, level: Decimal) -> Decimal:
    return max(Decimal(0), level - (item.included or Decimal(0)) * item.quantity) if item.is_seats else Decimal(0)


def new_specials(terms: DealTerms, term: Term) -> tuple[NewSpecial, ...]:
    """The special prices of a deal. One of what is paid ahead is given in the last instant before the term, so that the
    period which opens with it counts."""
    found = []
    for number, price in enumerate(terms.prices, 1):
        ahead = any(item.in_advance for phase in terms.phases for item in phase.items if item.key == price.item_key)
        since = term.starts_at - INSTANT if ahead else term.starts_at
        special = Special(
            -number, terms.plan_id, price.item_key, price.mode, price.components, price.cycles, since=since
        )
        found.append(NewSpecial(special, price.item_key))
    return tuple(found)


# What is billed -------------------------------------------------------------------------------------------------------


def _invoices(terms: DealTerms, ground: Ground, begun: Begun, *, ends: bool) -> list[PlannedInvoice]:
    """Every date of the term that bills something; `ends`: as if the contract was over with it."""
    term = begun.term
    found = [_planned(terms, ground, term, term.opens_at, begun.now, has_use=False)] if begun.now else []
    ends_at = min(end for end in (begun.course.ends_at, term.ends_at) if end is not None)
    course = replace(begun.course, ends_at=ends_at) if ends else begun.course
    before: Expected | None = None
    for expected in boundaries(course, begun.use):
        if expected.at > term.ends_at:
            break
        if expected.documents and expected.at >= term.opens_at:
            over = expected.at == term.ends_at
            has_use = _has_use(begun.course, expected.at) and not (over and not terms.renews)
            planned = _planned(terms, ground, term, expected.at, expected.documents, has_use=has_use)
            found.append(replace(planned, is_estimated=expected.is_estimated, is_last=over))
        before = expected
        if before.at == term.ends_at:
            break
    return found


def _has_use(course: Course, at: datetime) -> bool:
    """Whether what ends at the boundary is billed by use, so that its invoice waits for late events."""
    before = [leg for leg in course.legs if leg.stretch.starts_at < at] or course.legs[:1]
    return bool(before[-1].stretch.terms.usage_items)


def _planned(
    terms: DealTerms,
    ground: Ground,
    term: Term,
    at: datetime,
    documents: Sequence[Document],
    *,
    has_use: bool,
) -> PlannedInvoice:
    issued_at = at + ground.grace if has_use else at
    days = ground.net_terms_days if terms.net_terms_days is None else terms.net_terms_days
    return PlannedInvoice(at, issued_at, issued_at + timedelta(days=days), term.label(at), tuple(documents))


def _years(term: Term, invoices: Sequence[PlannedInvoice]) -> list[Year]:
    found = []
    for number, since in enumerate(range(0, term.months, 12), 1):
        until = min(since + 12, term.months)
        starts_at = term.opens_at if since == 0 else term.at(since)
        ends_at = term.at(until)
        own = [i for i in invoices if starts_at <= i.at < ends_at or (until == term.months and i.at == ends_at)]
        sums = (sum(i.net for i in own), sum(i.tax for i in own), sum(i.total for i in own))
        found.append(Year(number, starts_at, ends_at, *sums))
    return found


def _committed(terms: DealTerms) -> int:
    step = Cadence.parse(terms.cadence).months
    spans = zip(terms.phases, terms.spans(), strict=True)
    periods = [(phase.commitment or Decimal(0), (end - start) // step) for phase, (start, end) in spans]
    return sum(to_minor(amount, terms.currency) * count for amount, count in periods)


def _percent(part: int, whole: int) -> Decimal | None:
    if whole <= 0:
        return None
    exact = Decimal(part * 100) / Decimal(whole)
    return exact.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
