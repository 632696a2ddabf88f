"""The customers' list and the customer's page, inside the admin frame; its acts have files of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin import balance, deals, details, events, grants, overrides, rewards, wallet
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.approvals import person
from billing_admin.admin.coming import next_days
from billing_admin.admin.contracts import newest_and_waiting, waiting_rows
from billing_admin.admin.details import LOCALES
from billing_admin.admin.enable import ASSIGN, ENABLE
from billing_admin.admin.facts import Facts, read_facts
from billing_admin.admin.invoices import invoice_row
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.operations import history_of
from billing_admin.admin.override_batches import BULK
from billing_admin.admin.panels import read_panels, state_of
from billing_admin.admin.special_prices import OVERRIDE, in_sidebar
from billing_admin.admin.stripe_methods import read_payment, with_payment
from billing_admin.admin.taxes import ASSIGN as ASSIGN_TAXES
from billing_admin.exports import conditions
from billing_admin.flows.approvals import waiting_for_user
from billing_admin.pages import dress, render_page
from billing_admin.reward_rows import credits_of
from billing_admin.row_acts import ROW_ACTS
from billing_admin.typed import row_number
from catalog.models import Plan, PlanVersion
from customers.models import Customer, Phase, Subscription
from customers.states import SubscriptionState
from invoicing.models import CreditEntry

A_PAGE = 50
SHOWN = {
    "": "Every state",
    "active": "Active",
    "past_due": "Past due",
    "canceling": "Canceling",
    "none": "No plan",
    "parked": "Parked",
    "closed": "Closed",
}


# The list -----------------------------------------------------------------------------------------------------------


class CustomerFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Name, id or e-mail, as it begins"}),
    )
    plan = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "On plan"}))
    state = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "State"})
    )
    version = forms.IntegerField(required=False, min_value=1, max_value=2**31, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plans = Plan.objects.select_related("product").order_by("product__name", "name")
        self.fields["plan"].choices = [("", "On any plan"), *((p.key, p.title) for p in plans)]  # type: ignore[attr-defined]

    def narrowed(self, customers: QuerySet[Customer], now: datetime) -> QuerySet[Customer]:
        said = self.cleaned_data if self.is_valid() else {}
        state = said.get("state", "")
        customers = customers.exclude(closed_at=None) if state == "closed" else customers.filter(closed_at=None)
        live = Subscription.objects.live().filter(customer=OuterRef("pk"))
        if words := said.get("q", "").strip():
            customers = customers.filter(pk__in=Customer.objects.matching(words).order_by().values("pk"))
        if said.get("plan"):
            on = Phase.objects.in_force(now).filter(subscription=OuterRef("pk"), version__plan__key=said["plan"])
            customers = customers.filter(Exists(live.filter(Exists(on))))
        if said.get("version"):
            on = Phase.objects.in_force(now).filter(subscription=OuterRef("pk"), version=said["version"])
            customers = customers.filter(Exists(live.filter(Exists(on))))
        if state == "none":
            return customers.filter(~Exists(live))
        in_state = {
            "active": live.filter(state=SubscriptionState.ACTIVE),
            "past_due": live.filter(state=SubscriptionState.PAST_DUE),
            "canceling": live.filter(ends_at__isnull=False, end_reason="canceled"),
            "parked": live.exclude(parked_at=None),
        }.get(state)
        return customers.filter(Exists(in_state)) if in_state is not None else customers

    @property
    def on_version(self) -> str:
        """The version that the list is narrowed to, for its title."""
        key = self.cleaned_data.get("version") if self.is_valid() else None
        found = PlanVersion.objects.select_related("plan").filter(pk=key).first() if key else None
        return str(found) if found else ""


@dataclass(frozen=True, slots=True)
class CustomerRow:
    pk: int
    name: str
    customer_id: str
    email: str
    url: str
    state: tuple[str, str]
    plans: tuple[str, ...]
    renews_at: datetime | None
    ends_at: datetime | None


@requires("customers.view_customer")
def customer_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys instead of pages that have to be counted: as quick with 100,000 customers as with ten."""
    form = CustomerFilter(request.GET)
    dress(form)
    before = row_number(request.GET.get("before", ""))
    customers = form.narrowed(Customer.objects.order_by("-id"), moment(request))
    if before is not None:
        customers = customers.filter(pk__lt=before)
    found = list(customers[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    return render_page(
        request,
        "customers/list.html",
        trail=[("Customers", "")],
        form=form,
        rows=customer_rows(found[:A_PAGE], moment(request)),
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
        on_version=form.on_version,
        acts=bulk_acts(request),
        all_query=conditions(request.GET.urlencode()).urlencode(),
        new_url=link("customers_customer_add") if allowed(request, "customers.add_customer") else "",
    )


def bulk_acts(request: HttpRequest) -> list[tuple[str, str]]:
    """What can be done to many customers at once, by whoever reads the list: (words, address)."""
    acts = [
        (act.one, link("bulk", act.key))
        for act in ROW_ACTS.values()
        if act.about_customers and any(allowed(request, permission) for permission in act.anyhow)
    ]
    return [*([("Override a feature", link("bulk", "overrides"))] if allowed(request, BULK) else []), *acts]


def customer_rows(customers: list[Customer], now: datetime) -> list[CustomerRow]:
    """With their plans, in two queries however many they are."""
    held: dict[int, list[Subscription]] = {}
    for subscription in Subscription.objects.live().filter(customer__in=[c.pk for c in customers]).with_phases():
        held.setdefault(subscription.customer_id, []).append(subscription)
    return [_row(customer, held.get(customer.pk, []), now) for customer in customers]


def _row(customer: Customer, subscriptions: list[Subscription], now: datetime) -> CustomerRow:
    phases = [phase for s in subscriptions if (phase := s.phase_at(now))]
    renews = [s.period_ends_at for s in subscriptions if s.period_ends_at and not s.ends_at]
    ends = [s.ends_at for s in subscriptions if s.ends_at]
    return CustomerRow(
        pk=customer.pk,
        name=customer.name,
        customer_id=customer.customer_id,
        email=customer.email,
        url=customer_link(customer.pk),
        state=state_of(customer, subscriptions),
        plans=tuple(f"{p.version.plan.title}{' (custom)' if p.version.tailored else ''}" for p in phases),
        renews_at=min(renews, default=None),
        ends_at=min(ends, default=None),
    )


# The page -----------------------------------------------------------------------------------------------------------


@requires("customers.view_customer")
def customer_page(request: HttpRequest, key: str) -> HttpResponse:
    """Everything about one customer at a glance, in a fixed number of queries."""
    customer, now = find_customer(key, with_payment()), moment(request)
    sees_money = allowed(request, "invoicing.view_invoice")
    sees_history = allowed(request, "customers.view_operation")
    invoices, waiting = newest_and_waiting(customer) if sees_money else ([], [])
    sees_taxes = allowed(request, "invoicing.view_taxassignment")
    facts = read_facts(customer, waiting_for_user(person(request), now))
    request.approvals_waiting = facts.approvals  # type: ignore[attr-defined]  # the sidebar asks no more
    may = permissions(request, customer)
    page = read_panels(customer, now=now, allows=partial(allowed, request))
    held = rewards.panel(request, customer)
    operations, more = history_of(customer, allows=partial(allowed, request)) if sees_history else ([], False)
    return render_page(
        request,
        "customers/page.html",
        trail=[("Customers", link("customers_customer_changelist")), (customer.name, "")],
        customer=customer,
        page=page,
        waiting=waiting_rows(request, waiting),
        may=may,
        details=detail_rows(
            customer,
            tax_rows_of(customer, facts, may_change=may["taxes"]) if sees_taxes else (),
            editable=may["edit"],
        ),
        invoices=[invoice_row(row, now) for row in invoices] if sees_money else None,
        payment=read_payment(customer, request),
        invoices_url=link("invoicing_invoice_changelist", customer=customer.pk),
        credit=facts.credit if sees_money else None,
        credit_url=link("customer_credit", customer.pk),
        wallet=wallet.panel(request, customer, page.features, has_wallet=facts.has_wallet),
        rewards=held,
        next_days=next_days(page, held, now=now),
        credits=credits_of(customer, now=now) if sees_money else [],
        events=events.read_events(customer),
        days=page.days,
        operations=operations,
        sees_history=sees_history,
        history_url=link("customers_operation_changelist", customer=customer.pk) if more else "",
        notes=facts.notes,
        deals=deals.panel(request, customer, facts.deals),
        features_overridden=overrides.panel(request, customer, page.contracts, page.overridden),
        overrides=in_sidebar(page.overrides, may=may["override"]),
        override_url=link("give_special_price", customer.pk) if may["override"] else "",
        **links_of(customer),
    )


@dataclass(frozen=True, slots=True)
class DetailRow:
    """One field of the sidebar; a click on it opens `url`."""

    label: str
    value: str = ""
    at: datetime | None = None
    url: str = ""
    is_id: bool = False
    otherwise: str = "—"


def detail_rows(customer: Customer, tax_rows: Sequence[DetailRow] = (), *, editable: bool) -> list[DetailRow]:
    def of(field: str) -> str:
        return link("customer_detail", customer.pk, field) if editable else ""

    add = "Add" if editable else "—"
    return [
        DetailRow("Name", customer.name, url=of("name")),
        DetailRow("E-mail", customer.email, url=of("email"), otherwise=add),
        DetailRow("Customer id", customer.customer_id, url=of("customer_id"), is_id=True),
        DetailRow("Currency", customer.currency, otherwise="set by the first plan"),
        DetailRow("Usage since", at=customer.usage_anchor, url=of("usage_started_at")),
        DetailRow("Address", _first_line(customer.billing_address), url=of("billing_address"), otherwise=add),
        DetailRow("Tax number", customer.tax_number, url=of("tax_number"), otherwise=add),
        DetailRow("Language", LOCALES.get(customer.locale, customer.locale).split(":")[0], url=of("locale")),
        *tax_rows,
        DetailRow("Created", at=customer.created_at),
    ]


def tax_rows_of(customer: Customer, facts: Facts, *, may_change: bool) -> list[DetailRow]:
    """The taxes of a customer, with their dialog for whoever may change them."""
    url = link("customer_taxes", customer.pk) if may_change else ""
    return [DetailRow("Taxes", facts.taxes, url=url, otherwise="as the plan")]


def _first_line(text: str) -> str:
    lines = text.splitlines()
    return f"{lines[0]} …" if len(lines) > 1 else text


def links_of(customer: Customer) -> dict[str, str]:
    return {
        "enable_url": link("enable_plan", customer.pk),
        "settings_url": link("customer_settings", customer.pk),
        "grant_url": link("grant_give", customer.pk),
        "note_url": link("customer_note", customer.pk),
        "coupon_url": link("customer_coupon", customer.pk),
        "upcoming_url": link("customer_upcoming", customer.pk),
        "reopen_url": link("customer_reopen", customer.pk),
    }


def permissions(request: HttpRequest, customer: Customer) -> dict[str, bool]:
    """Which buttons to show; each act asks again."""
    is_open = customer.closed_at is None
    return {
        "enable": is_open and (allowed(request, ENABLE) or allowed(request, ASSIGN)),
        "edit": is_open and allowed(request, "customers.change_customer"),
        "balance": is_open and allowed(request, "entitlements.change_balance"),
        "override": is_open and allowed(request, OVERRIDE),
        "taxes": is_open and allowed(request, ASSIGN_TAXES),
        "grant": is_open and allowed(request, grants.GIVE),
        "void_grant": is_open and allowed(request, grants.VOID),
        "note": allowed(request, "customers.add_note"),
        "coupon": is_open and allowed(request, rewards.APPLY),
        "delete": allowed(request, "customers.delete_customer"),
    }


@requires("invoicing.view_invoice")
def credit_ledger(request: HttpRequest, key: str) -> HttpResponse:
    """The lines of the account credit; their running sum ends at the number on the customer's page."""
    customer = find_customer(key)
    sum_, lines = 0, []
    for entry in CreditEntry.objects.filter(customer=customer).select_related("invoice").order_by("id"):
        sum_ += entry.amount
        lines.append({"entry": entry, "after": sum_, "url": link("invoicing_invoice_change", entry.invoice_id or 0)})
    return render_page(
        request,
        "customers/credit.html",
        trail=[
            ("Customers", link("customers_customer_changelist")),
            (customer.name, customer_link(customer.pk)),
            ("Account credit", ""),
        ],
        customer=customer,
        export_query={"customer": customer.pk},
        lines=lines,
        sum=sum_,
    )


@admin.register(Customer)
class CustomerAdmin(ModelAdmin):
    """The frame around our own pages. `key` in an address is a number, our id, or the application's id."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        below = [
            ("balances/<slug:feature>/", balance.EditBalance.as_view(), "customer_balance"),
            ("balances/<slug:feature>/preview/", balance.preview, "customer_balance_preview"),
            ("ledger/<int:balance>/", balance.balance_ledger, "customer_ledger"),
            ("details/<slug:field>/", details.EditDetail.as_view(), "customer_detail"),
            ("notes/add/", details.AddNote.as_view(), "customer_note"),
            ("events/", events.events, "customer_events"),
            ("credit/", credit_ledger, "customer_credit"),
            ("coupons/add/", rewards.AddCoupon.as_view(), "customer_coupon"),
            ("coupons/preview/", rewards.preview, "customer_coupon_preview"),
            ("coupons/<str:applied>/remove/", rewards.RemoveCoupon.as_view(), "customer_coupon_remove"),
            ("settings/", details.settings, "customer_settings"),
            ("delete/", details.DeleteCustomer.as_view(), "customers_customer_delete"),
            ("reopen/", details.ReopenCustomer.as_view(), "customer_reopen"),
        ]
        return [
            path("", inside(customer_list), name="customers_customer_changelist"),
            path("add/", inside(details.NewCustomer.as_view()), name="customers_customer_add"),
            path("<str:key>/", inside(customer_page), name="customers_customer_change"),
            *(path(f"<str:key>/{tail}", inside(view), name=name) for tail, view, name in below),
        ]
