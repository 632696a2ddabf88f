"""The order form of a deal: its terms and its calendar in the words that a customer signs.

It is written in English, whatever language the customer's invoices have: its terms are what staff wrote.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from billing_admin.deal_rows import StageRows, given_entries, percent, stage_rows, what_of, year_entries
from billing_admin.flows.deal_calendar import DealCalendar, PlannedInvoice, said_window
from catalog.models import Feature
from catalog.money import format_minor, grouped
from catalog.periods import every
from deals.models import Deal, DealVersion
from deals.order_form import Bought, Coming, OrderForm, Stage
from deals.states import DealState
from deals.terms import NOW, DealTerms, said
from invoicing.models import BillingSettings
from invoicing.paper import Entry, Party, buyer_of, seller_of
from invoicing.tongue import DESK

DRAFTS = (DealState.DRAFT, DealState.AWAITING_APPROVAL)
OVER = (DealState.EXECUTED, DealState.VOID)
NOBODY = Party("Customer")


OUTDATED = "Out of date: the contract that runs is another than when this was written."


def order_form(
    deal: Deal, version: DealVersion, terms: DealTerms, calendar: DealCalendar, *, is_outdated: bool = False
) -> OrderForm:
    """Two queries. Reads the deal's customer, and the plan with its product, where they are joined. `is_outdated`: it
    was written for another contract than the customer has, so it cannot be carried out."""
    account = BillingSettings.present()
    names = dict(Feature.objects.filter(slug__in=[o.feature for o in terms.overrides]).values_list("slug", "name"))
    return OrderForm(
        number=deal.public_id,
        version=f"version {version.number}",
        notice=" ".join(part for part in (OUTDATED if is_outdated else "", _notice(deal)) if part),
        seller=seller_of(account, DESK),
        buyer=buyer_of(deal.customer, DESK) if deal.customer else NOBODY,
        introduction=terms.introduction,
        facts=tuple(_facts(deal, terms, calendar)),
        stages=tuple(_stage(stage) for stage in stage_rows(terms, calendar.term)),
        given=tuple(given_entries(terms, names)),
        totals=tuple(_totals(calendar)),
        invoices=tuple(_coming(calendar.invoices, calendar.currency)),
        note=_note(terms, calendar),
        terms=terms.special_terms,
    )


def _notice(deal: Deal) -> str:
    if deal.is_template:
        return "A template, and no offer."
    if deal.state == DealState.VOID:
        return "This offer was withdrawn."
    return "Draft: not an offer yet." if deal.state in DRAFTS else ""


def _facts(deal: Deal, terms: DealTerms, calendar: DealCalendar) -> Iterator[Entry]:
    plan = deal.base_version.plan
    yield Entry("Product", f"{plan.product.name}, {terms.plan_name}")
    yield Entry("Starts on", DESK.date(calendar.starts_at) if terms.starts_at else "the day it is carried out")
    if deal.state not in OVER:
        yield Entry("Reckoned for", DESK.date(calendar.term.opens_at))
    yield Entry("Term", said("term_months", terms.term_months))
    yield Entry("After the term", "renews until cancelled" if terms.renews else "ends by itself")
    yield Entry("Billed", f"every {every(terms.cadence)}")
    if terms.net_terms_days is not None:
        yield Entry("Payment", f"within {terms.net_terms_days} days" if terms.net_terms_days else "at once")
    yield Entry("Access", _access(terms, calendar))
    yield Entry("Currency", terms.currency)
    if deal.expires_at:
        yield Entry("Offer stands until", _until(deal.expires_at))


def _access(terms: DealTerms, calendar: DealCalendar) -> str:
    if terms.activation == NOW:
        return "at once"
    window = calendar.payment_window
    within = f", which is due within {said_window(window)}" if window else ""
    return f"after the first payment{within}"


def _until(at: datetime) -> str:
    """What ends as a day begins stands until then, and the form says so to the minute."""
    return DESK.instant(at)


def _stage(stage: StageRows) -> Stage:
    rows = tuple(Bought(row.name, row.included, row.price, row.more) for row in stage.rows)
    return Stage(stage.title, DESK.span(stage.starts_at, stage.ends_at), rows, stage.also)


def _totals(calendar: DealCalendar) -> Iterator[Entry]:
    currency = calendar.currency
    yield from year_entries(calendar)
    if calendar.list_value > calendar.value:
        yield Entry("At list price", format_minor(calendar.list_value, currency), "minor")
        yield Entry("Discount against list", percent(calendar.discount), "minor")
    if calendar.committed:
        yield Entry("Committed at least", format_minor(calendar.committed, currency))
    yield Entry("Total contract value, net", format_minor(calendar.value, currency), "total")


def _coming(invoices: Iterable[PlannedInvoice], currency: str) -> Iterator[Coming]:
    for invoice in invoices:
        amount = format_minor(invoice.total, currency)
        dates = DESK.date(invoice.at), DESK.date(invoice.due_at)
        yield Coming(*dates, what_of(invoice), amount, invoice.is_estimated)


def _note(terms: DealTerms, calendar: DealCalendar) -> str:
    parts = ["Amounts are with taxes." if calendar.tax else "Amounts are without taxes."]
    if any(invoice.is_estimated for invoice in calendar.invoices):
        parts.insert(0, f"* An estimate: {_assumed(terms)} What is used in fact is billed.")
    if calendar.depends_on_day:
        day = DESK.date(calendar.term.opens_at)
        parts.append(f"Reckoned as if carried out on {day}; another day gives other credits for the running period.")
    return " ".join(parts)


def _assumed(terms: DealTerms) -> str:
    """`with 20,000 API calls a month.`; phases with use of their own are said beside the first."""
    names = {i.feature.slug: i.feature.name for p in terms.phases for i in p.items if i.feature}
    used = [f"{grouped(units)} of {names.get(slug, slug)}" for slug, units in terms.use if units]
    differs = any(phase.use for phase in terms.phases)
    words = f"use is taken as {', '.join(used)} a month" if used else "use is assumed"
    return f"{words}{', other in some phases' if differs else ''}."
