"""The calendar of a deal for whoever looks at it: of an open one as of now, of an executed one over its months."""

from datetime import datetime

from billing_admin.flows.courses import read_courses
from billing_admin.flows.deal_calendar import (
    DealCalendar,
    Ground,
    agreed_calendar,
    calendar_of,
    read_calendar,
    read_ground,
    remaining_calendar,
)
from billing_admin.flows.deals import has_moved, newest, read_terms, term_as_executed
from billing_admin.flows.forecast import Course
from billing_admin.flows.order_form import order_form
from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from customers.models import Subscription
from deals.models import Deal, DealVersion
from deals.order_form import OrderForm
from deals.states import DealState
from deals.terms import DealTerms

OVER = (DealState.EXECUTED, DealState.VOID)


def calendar_for(deal: Deal, terms: DealTerms, *, now: datetime) -> DealCalendar:
    """What carrying it out now would bill. One that was carried out on a contract that ran before shows what that is
    still to bill; any other that is over shows what was agreed, beside whatever came since."""
    if goes_on(deal):
        return what_is_left(deal, terms, now=now)
    if deal.state in OVER:
        return as_agreed(deal, terms, at=deal.voided_at or now)
    return read_calendar(terms, deal.customer, now=now)


def goes_on(deal: Deal) -> bool:
    """Whether it was carried out on a contract that ran before, as an amendment is."""
    return deal.state == DealState.EXECUTED and deal.operation is not None and bool(deal.operation.effects["before"])


def what_is_left(deal: Deal, terms: DealTerms, *, now: datetime) -> DealCalendar:
    """The invoices that the contract is still to get, from now or from the day on which the deal takes effect, until
    the term is over or an amendment takes its place."""
    assert deal.customer is not None
    catch_up(deal.customer, now=now)
    later = deal.amendments.filter(state=DealState.EXECUTED).select_related("operation").first()
    until = term_as_executed(later, read_terms(newest(later))).opens_at if later else None
    term = term_as_executed(deal, terms)
    return remaining_calendar(terms, _ground(deal, terms), term, _course(deal, now), until=until)


def _course(deal: Deal, now: datetime) -> Course | None:
    assert deal.customer is not None
    contracts = list(Subscription.objects.live().filter(pk=deal.subscription_id).with_phases())
    return next((course for _, course in read_courses(deal.customer, contracts, now=now)), None)


def as_agreed(deal: Deal, terms: DealTerms, *, at: datetime) -> DealCalendar:
    """As a first plan: over the months that it got, or of one that was never carried out from the instant on, or from
    its own start if that is later."""
    ground = _ground(deal, terms)
    if deal.state == DealState.EXECUTED:
        return agreed_calendar(terms, ground, term_as_executed(deal, terms))
    return calendar_of(terms, ground, at=at.replace(microsecond=0))


def _ground(deal: Deal, terms: DealTerms) -> Ground:
    return read_ground(terms, deal.customer, Plan.objects.select_related("product").get(pk=terms.plan_id))


def read_order_form(deal: Deal, version: DealVersion | None = None, *, now: datetime) -> OrderForm:
    """The order form of a version, the newest one unless it is named.

    What somebody was shown is reckoned as of the instant at which it was, so that it stays as it was shown. Where a
    contract runs already, the amounts are those of the start that was agreed, else of today: it moves on, and no other
    day can be reckoned truly.
    """
    version = version or newest(deal)
    terms = read_terms(version)
    at = now if terms.stands_on.version_id is not None else version.frozen_at or now
    is_over = deal.state in OVER
    calendar = as_agreed(deal, terms, at=at) if is_over else read_calendar(terms, deal.customer, now=at)
    return order_form(deal, version, terms, calendar, is_outdated=not is_over and has_moved(deal, terms))
