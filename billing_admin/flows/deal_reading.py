"""The calendar of a deal for whoever looks at it: open deals as of now, those that are over as they were agreed."""

from datetime import datetime

from billing_admin.flows.deal_calendar import DealCalendar, calendar_of, read_calendar, read_ground
from billing_admin.flows.deals import newest, read_terms
from billing_admin.flows.order_form import order_form
from catalog.models import Plan
from deals.models import Deal, DealVersion
from deals.order_form import OrderForm
from deals.states import DealState
from deals.terms import DealTerms

OVER = (DealState.EXECUTED, DealState.VOID)


def calendar_for(deal: Deal, terms: DealTerms, *, now: datetime) -> DealCalendar:
    """What carrying it out now would bill. One that is over shows what was agreed, beside whatever came since."""
    if deal.state in OVER:
        return as_agreed(deal, terms, at=deal.executed_at or deal.voided_at or now)
    return read_calendar(terms, deal.customer, now=now)


def as_agreed(deal: Deal, terms: DealTerms, *, at: datetime) -> DealCalendar:
    """As a first plan that begins at the instant, or at the deal's own start if that is later."""
    plan = Plan.objects.select_related("product").get(pk=terms.plan_id)
    return calendar_of(terms, read_ground(terms, deal.customer, plan), at=at.replace(microsecond=0))


def read_order_form(deal: Deal, version: DealVersion | None = None, *, now: datetime) -> OrderForm:
    """The order form of a version, the newest one unless it is named. What somebody was shown is reckoned as of the
    instant at which it was, so that it stays as it was shown."""
    version = version or newest(deal)
    terms, at = read_terms(version), version.frozen_at or now
    is_over = deal.state in OVER
    calendar = as_agreed(deal, terms, at=at) if is_over else read_calendar(terms, deal.customer, now=at)
    return order_form(deal, version, terms, calendar)
