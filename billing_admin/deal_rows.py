"""A deal in words: what it is worth, every invoice of its term, what is bought, how versions differ. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing_admin.change_rows import ForecastRow, Money, money_of
from billing_admin.flows.deal_calendar import DealCalendar, PlannedInvoice, said_window
from billing_admin.flows.deal_use import Term
from billing_admin.invoice_chart import Billed, Chart, draw
from catalog.money import format_minor, format_rate, grouped
from catalog.periods import every
from catalog.terms import ItemTerms, PlanTerms
from deals.models import Deal, DealVersion
from deals.terms import (
    ACTIVATIONS,
    CUSTOMER,
    DealPhase,
    DealTerms,
    describe_override,
    describe_price,
    differences,
    said,
)
from invoicing.lines import USAGE
from invoicing.paper import Entry

FIRST = 6  # invoices beside the builder


# What it is worth -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worth:
    """The numbers beside the builder and on top of the page. `first` are the next invoices, unfolding into lines."""

    total: str
    monthly: str
    years: tuple[Entry, ...]
    listed: str
    discount: str
    committed: str
    first: tuple[ForecastRow, ...]
    count: int
    term: str
    taxed: bool
    with_use: bool
    warnings: tuple[str, ...] = ()


def worth_of(terms: DealTerms, calendar: DealCalendar) -> Worth:
    currency = calendar.currency
    return Worth(
        total=format_minor(calendar.value, currency),
        monthly=format_minor(calendar.monthly, currency),
        years=tuple(year_entries(calendar)),
        listed=format_minor(calendar.list_value, currency),
        discount=percent(calendar.discount),
        committed=format_minor(calendar.committed, currency) if calendar.committed else "",
        first=tuple(forecast_row(invoice, currency) for invoice in calendar.invoices[:FIRST]),
        count=len(calendar.invoices),
        term=said("term_months", terms.term_months),
        taxed=bool(calendar.tax),
        with_use=any(invoice.is_estimated for invoice in calendar.invoices),
        warnings=tuple(_warnings(calendar)),
    )


def year_entries(calendar: DealCalendar) -> Iterator[Entry]:
    if len(calendar.years) < 2:
        return
    for year in calendar.years:
        yield Entry(f"Year {year.number}", format_minor(year.net, calendar.currency))


def percent(value: Decimal | None) -> str:
    """`20.00 %`; a deal above list says so with a minus."""
    return "—" if value is None else f"{value:.2f} %".replace("-", "−")


def _warnings(calendar: DealCalendar) -> Iterator[str]:
    if calendar.list_value < calendar.value:
        yield "This costs more than list."
    if calendar.net != calendar.value:
        amount = format_minor(calendar.net, calendar.currency)
        yield f"Invoices come to {amount} net, with what the customer has now and owes or is owed for it."
    if calendar.depends_on_day:
        day = f"{calendar.term.opens_at:%-d %b %Y}"
        yield f"Reckoned as if it was carried out on {day}; on another day the credits for the running period differ."
    if calendar.payment_window is not None:
        window = said_window(calendar.payment_window)
        yield (
            f"Access begins once the invoice of {calendar.term.opens_at:%-d %b %Y} is paid; unpaid after {window} it is"
            " void, and the contract ends."
        )


# Every invoice --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One date of the calendar; `money` are its lines and sums."""

    at: datetime
    due_at: datetime
    what: str
    amount: str
    is_estimated: bool
    money: Money


@dataclass(frozen=True, slots=True)
class YearRows:
    title: str
    net: str
    invoices: tuple[InvoiceRow, ...]


def calendar_rows(calendar: DealCalendar) -> list[YearRows]:
    """By year of the term, in order."""
    found = []
    for place, year in enumerate(calendar.years):
        until = None if place == len(calendar.years) - 1 else year.ends_at
        own = [i for i in calendar.invoices if year.starts_at <= i.at and (until is None or i.at < until)]
        rows = tuple(invoice_row(invoice, calendar.currency) for invoice in own)
        found.append(YearRows(f"Year {year.number}", format_minor(year.net, calendar.currency), rows))
    return found


def invoice_row(invoice: PlannedInvoice, currency: str) -> InvoiceRow:
    return InvoiceRow(
        at=invoice.at,
        due_at=invoice.due_at,
        what=what_of(invoice),
        amount=format_minor(invoice.total, currency),
        is_estimated=invoice.is_estimated,
        money=money_of(invoice.documents, currency),
    )


def what_of(invoice: PlannedInvoice) -> str:
    """`Year 1 · end of the term`."""
    return " · ".join([*([invoice.phase] if invoice.phase else []), *(["end of the term"] if invoice.is_last else [])])


def forecast_row(invoice: PlannedInvoice, currency: str) -> ForecastRow:
    return ForecastRow(
        at=invoice.at,
        plan=invoice.phase,
        amount=format_minor(invoice.total, currency),
        note="use assumed" if invoice.is_estimated else "",
        money=money_of(invoice.documents, currency),
    )


def chart_of(calendar: DealCalendar) -> Chart | None:
    return draw((Billed(i.at, i.total, _use(i)) for i in calendar.invoices), calendar.currency)


def _use(invoice: PlannedInvoice) -> int:
    return sum(line.amount for line in invoice.lines if line.kind == USAGE)


# What is bought -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemRow:
    name: str
    included: str
    price: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageRows:
    """One phase: from and until (None without a start of its own), its items, and what else holds in it."""

    title: str
    starts_at: datetime
    ends_at: datetime
    rows: tuple[ItemRow, ...]
    also: tuple[str, ...]


def stage_rows(terms: DealTerms, term: Term) -> list[StageRows]:
    spans = zip(terms.phases, terms.spans(), strict=True)
    return [_stage(terms, phase, term.since(start), term.at(end)) for phase, (start, end) in spans]


def _stage(terms: DealTerms, phase: DealPhase, starts_at: datetime, ends_at: datetime) -> StageRows:
    rows = tuple(item_row(item, terms.currency) for item in phase.items)
    return StageRows(phase.label, starts_at, ends_at, rows, tuple(_also(terms, phase)))


def item_row(item: ItemTerms, currency: str) -> ItemRow:
    included = item.describe_allowance()
    if item.is_metered and not item.unlimited and item.reset != "never" and item.granted:
        included = f"{included} / {every(item.reset)}"
    return ItemRow(item.label, included, item.describe_price(currency), tuple(item.describe_tiers(currency)))


def _also(terms: DealTerms, phase: DealPhase) -> Iterator[str]:
    if phase.quantity > 1:
        yield f"{phase.quantity:,} times: fees and allowances are multiplied."
    bought = dict(phase.bought)
    for item in phase.items:
        if item.is_prepaid and item.key in bought:
            yield f"{grouped(bought[item.key])} {item.unit}s of {item.label} are bought in advance."
    if phase.commitment:
        yield f"At least {format_rate(phase.commitment, terms.currency)} / {every(terms.cadence)}."


def given_entries(terms: DealTerms, names: dict[str, str]) -> list[Entry]:
    """Coupons, special prices and features for a while. `names` are features by slug."""
    card = PlanTerms(terms.plan_id, terms.currency, terms.cadence, tuple(i for p in terms.phases for i in p.items))
    found = [
        Entry(c.name or c.code, "off all of your invoices" if c.scope == CUSTOMER else "off the invoices of this order")
        for c in terms.coupons
    ]
    for price in terms.prices:
        item = card.item(price.item_key)
        words = describe_price(price, terms.currency).partition(": ")[2]
        found.append(Entry(item.label if item else price.item_key, words))
    for override in terms.overrides:
        words = describe_override(override).partition(": ")[2]
        found.append(Entry(names.get(override.feature, override.feature), words))
    return found


def frame_entries(terms: DealTerms) -> list[Entry]:
    """The frame of a deal as name and value."""
    return [
        Entry("Starts", said("starts_at", terms.starts_at)),
        Entry("Term", said("term_months", terms.term_months)),
        Entry("Billed", f"every {every(terms.cadence)}"),
        Entry("Then", "goes on under the last phase" if terms.renews else "ends"),
        Entry("Net terms", said("net_terms_days", terms.net_terms_days)),
        Entry("Access", ACTIVATIONS.get(terms.activation, terms.activation)),
        *([Entry("Trial", said("trial_days", terms.trial_days))] if terms.trial_days is not None else []),
    ]


# Versions -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VersionRow:
    number: int
    at: datetime
    by: str
    message: str
    differences: tuple[str, ...]
    is_shown: bool
    is_approved: bool
    url: str = ""


def version_rows(
    deal: Deal, versions: Sequence[tuple[DealVersion, DealTerms]], *, shown: int, url: str
) -> list[VersionRow]:
    """Newest first; each says what it changed. `versions` are in that order, too."""
    found = []
    for place, (version, terms) in enumerate(versions):
        before = versions[place + 1][1] if place + 1 < len(versions) else None
        found.append(
            VersionRow(
                number=version.number,
                at=version.created_at,
                by=version.created_by,
                message=version.message,
                differences=tuple(differences(before, terms)) if before else (),
                is_shown=version.number == shown,
                is_approved=bool(deal.approved_fingerprint) and version.fingerprint == deal.approved_fingerprint,
                url=f"{url}?version={version.number}",
            )
        )
    return found


def deal_state(deal: Deal) -> tuple[str, str]:
    """The word and the label of its dot."""
    return deal.state, str(deal.get_state_display())


def since(deal: Deal) -> datetime:
    """Since when it is in its state, as far as the deal says."""
    instants = (deal.voided_at, deal.executed_at, deal.accepted_at, deal.sent_at, deal.approved_at)
    return next((at for at in instants if at), deal.created_at)
