"""Contracts on the customer's page: what waits for a payment, trials, seats and packs, and the invoices to come."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.cancel import CANCEL
from billing_admin.admin.enable import ACTIVATE_UNPAID, EXTEND_TRIAL
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.change_rows import ForecastRow, forecast_rows, year_of
from billing_admin.coming import phase_words
from billing_admin.flows.courses import daily_use, read_courses, share_of_use
from billing_admin.flows.forecast import forecast
from billing_admin.flows.gate import waits
from billing_admin.pages import render_page
from billing_admin.site import page
from catalog.charges import packs
from catalog.terms import CANCEL as ENDS
from catalog.terms import ItemTerms
from customers.models import Customer, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.access import Access
from invoicing.mail import document_link
from invoicing.models import Invoice

Allows = Callable[[str], bool]
ZERO = Decimal(0)
NEWEST = 6


# What waits for a payment ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A plan that starts when its first invoice is paid. `pay_link` is what the customer gets."""

    title: str
    invoice: str
    invoice_url: str
    due: int
    currency: str
    until: datetime | None
    pay_link: str
    awaits_approval: bool
    approve_url: str = ""
    activate_url: str = ""
    pay_url: str = ""
    give_up_url: str = ""


def newest_and_waiting(customer: Customer) -> tuple[list[Invoice], list[Invoice]]:
    """The newest documents, and first invoices that somebody's access waits for; one query."""
    newest = customer.invoices.newest()[:NEWEST].values("pk")
    first = Q(gates__isnull=False, state__in=[Invoice.State.DRAFT, Invoice.State.OPEN])
    rows = customer.invoices.filter(Q(pk__in=newest) | first).newest()
    found = list(rows.select_related("gates__version__plan__product", "gates__subscription"))
    return found[:NEWEST], [invoice for invoice in reversed(found) if is_unpaid(invoice) and waits(invoice)]


def is_unpaid(invoice: Invoice) -> bool:
    return invoice.state in (Invoice.State.DRAFT, Invoice.State.OPEN)


def waiting_rows(request: HttpRequest, invoices: Iterable[Invoice]) -> list[WaitingRow]:
    return [_waiting(request, invoice) for invoice in invoices]


def _waiting(request: HttpRequest, invoice: Invoice) -> WaitingRow:
    assert invoice.gates is not None
    is_draft = invoice.state == Invoice.State.DRAFT
    subscription = invoice.gates.subscription

    def of(name: str, permission: str, *args: Any) -> str:
        return link(name, *args) if allowed(request, permission) else ""

    is_pending = subscription.state == SubscriptionState.PENDING_PAYMENT
    return WaitingRow(
        title=str(invoice.gates.version.plan.title),
        invoice="its first invoice" if is_draft else str(invoice),
        invoice_url=invoice_link(invoice.pk),
        due=invoice.due,
        currency=invoice.currency,
        until=invoice.expires_at,
        pay_link="" if is_draft else document_link(invoice),
        awaits_approval=invoice.awaits_approval,
        approve_url=of("invoice_approve", "invoicing.approve_invoice", invoice.pk) if is_draft else "",
        activate_url=of("invoice_activate", ACTIVATE_UNPAID, invoice.pk),
        pay_url="" if is_draft else of("invoice_pay", "invoicing.pay_invoice", invoice.pk),
        give_up_url=of("cancel_subscription", CANCEL, subscription.public_id)
        if is_pending
        else of("invoice_void", "invoicing.void_invoice", invoice.pk),
    )


# Trials, seats, packs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnitRow:
    """Seats or packs of one item, in words: `7 in use · 2 included · 5 paid`."""

    label: str
    words: str


@dataclass(frozen=True, slots=True)
class ContractRow:
    """What one contract says beside its plan."""

    trial_ends_at: datetime | None = None
    trial_just_ends: bool = False
    settled_at: datetime | None = None
    units: tuple[UnitRow, ...] = ()
    extend_url: str = ""
    end_trial_url: str = ""
    units_url: str = ""


def contract_row(
    subscription: Subscription, phase: Phase, accesses: Iterable[Access], now: datetime, allows: Allows, changes: str
) -> ContractRow:
    """Reads nothing: `accesses` know what is used. `changes` is the permission that its plan takes."""
    used = _used(subscription, accesses)
    has_packs = any(item.is_prepaid for item in phase.terms().items) and not phase.terms().is_one_off
    on_trial = phase.is_trial and subscription.trial_ends_at is not None and subscription.trial_ends_at > now
    extends = on_trial and allows(EXTEND_TRIAL)
    bills = subscription.settled_at is None
    return ContractRow(
        trial_ends_at=subscription.trial_ends_at if on_trial else None,
        trial_just_ends=phase.terms().trial_end == ENDS,
        settled_at=subscription.settled_at,
        units=tuple(_unit_rows(phase, used)),
        extend_url=link("extend_trial", subscription.public_id) if extends else "",
        end_trial_url=link("end_trial", subscription.public_id) if extends else "",
        units_url=link("buy_units", subscription.public_id) if has_packs and bills and allows(changes) else "",
    )


def _used(subscription: Subscription, accesses: Iterable[Access]) -> dict[str, Decimal]:
    buckets = (bucket for access in accesses for bucket in access.buckets)
    own = [b for b in buckets if b.owner[0] == subscription.pk and b.item.feature]
    return {b.item.feature.slug: b.used for b in own if b.item.feature}


def _unit_rows(phase: Phase, used: dict[str, Decimal]) -> Iterator[UnitRow]:
    for item in phase.sold().items:
        if item.feature is None or item.price is None:
            continue
        in_use = max(ZERO, used.get(item.feature.slug, ZERO))
        if item.is_seats:
            yield UnitRow(item.label, _seats(item, in_use, phase.quantity))
        elif item.is_prepaid:
            yield UnitRow(item.label, _packs(item, in_use))


def _seats(item: ItemTerms, in_use: Decimal, quantity: int) -> str:
    included = (item.included or ZERO) * quantity
    return f"{in_use:,.0f} in use · {included:,.0f} included · {max(ZERO, in_use - included):,.0f} paid"


def _packs(item: ItemTerms, used: Decimal) -> str:
    assert item.price is not None
    bought, included = item.bought or ZERO, item.included or ZERO
    count = packs(item.price, bought, included)
    packed = f" · {count:,} pack{'' if count == 1 else 's'} of {item.price.pack:,.0f}" if item.price.pack != 1 else ""
    free = f" · {included:,.0f} included" if included else ""
    return f"{item.granted or ZERO:,.0f} bought{packed}{free} · {used:,.0f} used"


# The invoices to come -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComingRow:
    """The next invoice of one contract, as far as use goes and as it is expected; and those after it."""

    plan: str
    at: datetime
    so_far: ForecastRow
    expected: ForecastRow
    following: tuple[ForecastRow, ...]
    year: str
    note: str = ""


def coming_rows(customer: Customer, *, now: datetime) -> list[ComingRow]:
    """The soonest first; contracts that bill nothing any more are left out."""
    subscriptions = list(customer.subscriptions.live().with_phases())
    courses = read_courses(customer, subscriptions, now=now)
    shares = share_of_use(courses, daily_use(customer, now=now)) if courses else []
    found = []
    for (subscription, course), daily in zip(courses, shares, strict=True):
        expected = forecast(course, daily)
        so_far = next(iter(forecast(course, {}, most=1)), None)
        if not expected:
            continue
        rows = forecast_rows(expected)
        [known] = forecast_rows([so_far]) if so_far and so_far.at == expected[0].at else [rows[0]]
        found.append(
            ComingRow(
                plan=expected[0].plan_name,
                at=expected[0].at,
                so_far=known,
                expected=rows[0],
                following=rows,
                year=year_of(expected),
                note=_note(subscription),
            )
        )
    return sorted(found, key=lambda row: row.at)


def starting(customer: Customer) -> list[tuple[str, datetime]]:
    """(plan, day) of contracts that begin on a day to come, the soonest first: nothing is drawn up before."""
    scheduled = customer.subscriptions.filter(state=SubscriptionState.SCHEDULED).with_phases()
    return sorted(
        ((phase_words(s.kept_phases()[0]), s.started_at) for s in scheduled if s.kept_phases()), key=lambda row: row[1]
    )


def _note(subscription: Subscription) -> str:
    if subscription.ends_at is None or subscription.unused_at_end == Subscription.Unused.NOTHING:
        return ""
    where = "refunded" if subscription.unused_at_end == Subscription.Unused.REFUND else "credited"
    return f"Fees that are unused when it ends on {subscription.ends_at:%-d %b %Y} are {where} then."


@page("customers/<int:pk>/upcoming/", name="customer_upcoming", methods=("GET",))
@requires("invoicing.view_invoice")
def upcoming_page(request: HttpRequest, pk: int) -> HttpResponse:
    """A page of its own, and the part of the customer's page that is read after it."""
    customer = get_object_or_404(Customer, pk=pk)
    rows, starts = coming_rows(customer, now=moment(request)), starting(customer)
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "panels/upcoming.html", {"coming": rows, "starts": starts})
    return render_page(
        request,
        "customers/upcoming.html",
        trail=[
            ("Customers", link("customers_customer_changelist")),
            (customer.name, customer_link(customer.pk)),
            ("Upcoming invoices", ""),
        ],
        customer=customer,
        coming=rows,
        starts=starts,
    )
