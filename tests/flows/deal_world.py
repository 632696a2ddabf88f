"""Deals that are played: the clock runs through the term, and exactly what was assumed is used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_calendar import DealCalendar, expected_of
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deal_use import DealUse, Term
from billing_admin.flows.deals import accept, create_deal, newest, read_terms, save_version
from billing_admin.flows.drafts import issue_due
from billing_admin.flows.renew import catch_up
from billing_admin.flows.set_usage import set_use
from catalog.models import Plan
from catalog.terms import ItemTerms
from customers.models import Customer
from deals.models import Deal
from deals.terms import DealTerms
from entitlements.models import Balance
from tests.builders import STAFF, overuse, pay_all, reread
from tests.instants import MARCH_1

GRACE = timedelta(hours=1)


def deal_of(who: Customer | None, what: Plan, terms: DealTerms | None = None, *, now: datetime = MARCH_1) -> Deal:
    """A draft; with terms it says those."""
    version = reread(what).current_version
    assert version is not None
    deal = create_deal(who, version, name="Acme 2026", actor=STAFF, now=now)
    if terms is not None:
        save_version(deal, terms, actor=STAFF, now=now)
    return deal


def said(deal: Deal) -> DealTerms:
    return read_terms(newest(deal))


def signed(deal: Deal, *, now: datetime = MARCH_1) -> Deal:
    deal.refresh_from_db()
    submit(deal, actor=STAFF, now=now)
    return accept(deal, by="Jane Roe", how="order form by e-mail", actor=STAFF, now=now)


def done(deal: Deal, *, now: datetime = MARCH_1) -> Deal:
    return execute(signed(deal, now=now), actor=STAFF, now=now)


@dataclass(frozen=True)
class Billed:
    """What one instant bills: due date, tax and total, minor units."""

    issued_at: datetime
    due_at: datetime | None
    tax: int
    total: int


def planned(calendar: DealCalendar) -> list[Billed]:
    """What the calendar says will be issued; zero invoices are not looked at."""
    last = [calendar.renewal] if calendar.renewal else []
    found = [i for i in calendar.invoices if not (last and i.is_last)] + last
    return _merged((i.issued_at, i.due_at if i.total > 0 else None, i.tax, i.total) for i in found)


def real(who: Customer) -> list[Billed]:
    """What the clock issued."""
    rows = who.invoices.exclude(issued_at=None).order_by("issued_at", "id")
    return _merged((r.issued_at, r.due_at, r.tax_added + r.tax_included, r.total) for r in rows)


def _merged(rows: Any) -> list[Billed]:
    tax: Counter[tuple[datetime, datetime | None]] = Counter()
    total: Counter[tuple[datetime, datetime | None]] = Counter()
    for issued_at, due_at, its_tax, its_total in rows:
        tax[issued_at, due_at] += its_tax
        total[issued_at, due_at] += its_total
    return [Billed(*key, tax[key], total[key]) for key in total if total[key]]


def play(
    who: Customer, terms: DealTerms, term: Term, *, since: datetime | None = None, until: datetime | None = None
) -> None:
    """Live through the term: at the start of every window, use what is assumed for it, to the last unit; of the windows
    that are open at `since` what is left to be used."""
    assumed, end = DealUse.of(terms, term), until or term.ends_at
    for slug, units in assumed.levels.items():
        set_use(who, feature=slug, value=units, now=term.opens_at)
    at = since or term.opens_at
    _pass(who, to=at)
    months = [term.at(month) for month in range(term.months + 1)]
    first = True
    while at < end:
        month = min([end, *(m for m in months if m > at)])
        following = _use_windows(who, terms, assumed, at, month, end, first=first and since is not None)
        _pass(who, to=following)
        at, first = following, False
    _pass(who, to=end)


def _pass(who: Customer, *, to: datetime) -> None:
    catch_up(who, now=to)
    issue_due(to + GRACE, customer=who)
    pay_all(who, now=to)


def _use_windows(
    who: Customer, terms: DealTerms, assumed: DealUse, at: datetime, month: datetime, end: datetime, *, first: bool
) -> datetime:
    """Use what the windows that begin now hold until the end (at `first` of all that are open, what is left to come);
    returns when the next one begins, or the next month."""
    edges = [month]
    for item in _metered(terms):
        rows = Balance.objects.promised().filter(customer=who, feature__slug=item.key, closed_at=None)
        window = rows.filter(starts_at__lte=at, ends_at__gt=at).first()
        if window is None or window.ends_at is None:
            continue
        edges.append(window.ends_at)
        if (first or window.starts_at == at) and (units := assumed.units(item, at, min(window.ends_at, end))):
            overuse(who, str(units), of=item.key, now=at)
    return min(edges)


def _metered(terms: DealTerms) -> Sequence[ItemTerms]:
    items = {item.key: item for phase in terms.phases for item in phase.items if item.is_usage}
    return list(items.values())


def units(**by_feature: int | str) -> tuple[tuple[str, Decimal], ...]:
    return tuple(sorted((slug, Decimal(number)) for slug, number in by_feature.items()))


__all__ = ["Billed", "deal_of", "done", "expected_of", "planned", "play", "real", "said", "signed", "units"]
