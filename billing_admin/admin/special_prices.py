"""Special prices: the dialogs that give and revoke one, and the list of who has which, since when and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, Prefetch, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.coming import runs_out_at
from billing_admin.flows.reprice import (
    Beside,
    Refused,
    Wanted,
    ends_early,
    how_long,
    items_of,
    override_price,
    preview_override,
    revoke_override,
)
from billing_admin.pages import ActPage, dress, render_page
from billing_admin.site import page
from catalog.money import exponent, format_minor, to_minor
from customers.journal import Actor
from customers.models import Customer, Phase, PriceOverride, Subscription
from invoicing.overrides import read_specials, with_used
from invoicing.special import ADD, FIXED, REPLACE, BadComponent, Special

OVERRIDE = "customers.override_price"
ROWS = 3
A_PAGE = 50
EVERY = {
    "RRULE:FREQ=MONTHLY;INTERVAL=1": "every month",
    "RRULE:FREQ=MONTHLY;INTERVAL=3": "every 3 months",
    "RRULE:FREQ=MONTHLY;INTERVAL=6": "every 6 months",
    "RRULE:FREQ=YEARLY;INTERVAL=1": "every year",
    "RRULE:FREQ=YEARLY;INTERVAL=1;COUNT=1": "once",
}
FIELD = {
    "label": "label",
    "amount_cents": "amount",
    "recurrence_rule": "every",
    "price_id": "item",
    "expires_after_billing_cycles": "cycles",
    "mode": "mode",
}
PERIODS, FOR_GOOD = "periods", "revoked"


# One of them, for people ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """A special price in the sidebar and in the list."""

    public_id: str
    what: str
    components: tuple[str, ...]
    is_added: bool
    list_price: str
    left: str
    is_over: bool
    ends_at: datetime | None
    since: datetime
    by: str
    reason: str
    revoked: str
    customer: str
    customer_url: str
    revoke_url: str


def override_row(row: PriceOverride, special: Special, *, may: bool) -> OverrideRow:
    """Reads the prefetched contract with its phases, and its customer where that was joined."""
    subscription = row.subscription
    phase = next((p for p in subscription.kept_phases() if p.covers(row.created_at)), subscription.kept_phases()[-1])
    terms = phase.sold()
    item = terms.item(row.item_key)
    over = row.revoked_at is not None or special.left == 0 or not subscription.is_live
    amounts = ((format_minor(c.amount, terms.currency), c.rule.words, c.label) for c in special.components)
    joined = "customer" in subscription._state.fields_cache
    return OverrideRow(
        public_id=row.public_id,
        what=f"{terms.plan_name} · {item.label if item else row.item_key}",
        components=tuple(f"{label}: {amount} {words}" for amount, words, label in amounts),
        is_added=row.mode == ADD,
        list_price=item.describe_price(terms.currency) if item else "",
        left=_left(row, special),
        is_over=over,
        ends_at=None if over else runs_out_at(subscription, phase, special.left, key=special.item_key),
        since=row.created_at,
        by=row.created_by,
        reason=row.reason,
        revoked=row.revoke_reason,
        customer=subscription.customer.name if joined else "",
        customer_url=customer_link(subscription.customer_id),
        revoke_url=link("revoke_special_price", row.public_id) if may and not over else "",
    )


def _left(row: PriceOverride, special: Special) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if special.left is None:
        return "until revoked"
    periods = f"billing period{'s' if special.cycles != 1 else ''}"
    return "used up" if not special.left else f"{special.left} of {special.cycles} {periods} left"


def read_rows(rows: QuerySet[PriceOverride], *, may: bool) -> list[OverrideRow]:
    """With their contracts, in five queries however many they are."""
    phases = Phase.objects.kept().select_related("version__plan").order_by("starts_at", "id")
    rows = rows.select_related("subscription__customer")
    rows = rows.prefetch_related(Prefetch("subscription__phases", queryset=phases))
    return [override_row(row, special, may=may) for special, row in read_specials(rows)]


def in_sidebar(found: Iterable[tuple[Special, PriceOverride]], *, may: bool) -> list[OverrideRow]:
    """What the customer's page shows: those that some invoice to come may take."""
    rows = (override_row(row, special, may=may) for special, row in found)
    return [row for row in rows if not row.is_over]


# Give one -------------------------------------------------------------------------------------------------------------


class SpecialPriceForm(forms.Form):
    """Which item, its components as small rows, how long, why."""

    item = forms.ChoiceField(label="Item")
    mode = forms.ChoiceField(
        label="What it does",
        choices=[(REPLACE, "Instead of the item's price"), (ADD, "Beside it (may be below zero)")],
        widget=forms.RadioSelect,
        initial=REPLACE,
    )
    lasts = forms.ChoiceField(
        label="For how long",
        choices=[(PERIODS, "For so many billing periods"), (FOR_GOOD, "Until somebody revokes it")],
        widget=forms.RadioSelect,
        initial=PERIODS,
    )
    cycles = forms.IntegerField(label="Billing periods", required=False, min_value=1, max_value=1_200, initial=1)
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, contracts: Iterable[Subscription], now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.contracts = {
            f"{s.public_id}:{item.key}": (s, item.key, f"{plan} · {item.label} ({item.describe_price(currency)})")
            for s in contracts
            if (phase := s.phase_at(now))
            for plan, currency in [(phase.version.plan.name, phase.version.plan.currency)]
            for item in items_of(s, now)
        }
        self.fields["item"].choices = [(key, words) for key, (_, _, words) in self.contracts.items()]  # type: ignore[attr-defined]
        for n in range(ROWS):
            required = not n
            self.fields[f"label_{n}"] = forms.CharField(
                label="What the customer reads", required=required, max_length=120
            )
            self.fields[f"amount_{n}"] = forms.DecimalField(
                label="Amount", required=required, max_digits=14, decimal_places=3
            )
            self.fields[f"every_{n}"] = forms.ChoiceField(
                label="How often", choices=list(EVERY.items()), required=False
            )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("lasts") == PERIODS and not said.get("cycles") and "cycles" not in self.errors:
            self.add_error("cycles", "Say for how many billing periods.")
        for n in range(1, ROWS):
            label, amount = said.get(f"label_{n}"), said.get(f"amount_{n}")
            if label and amount is None and f"amount_{n}" not in self.errors:
                self.add_error(f"amount_{n}", "Say how much it is.")
            if amount is not None and not label:
                self.add_error(f"label_{n}", "Say what the customer reads for it.")
        return said

    @property
    def rows(self) -> list[list[forms.BoundField]]:
        """The components, as the template prints them."""
        return [[self[f"label_{n}"], self[f"amount_{n}"], self[f"every_{n}"]] for n in range(ROWS)]

    @property
    def subscription(self) -> Subscription:
        return self.contracts[self.cleaned_data["item"]][0]

    def wanted(self) -> Wanted:
        """Raises `ValidationError` at the amount that the currency cannot hold."""
        said = self.cleaned_data
        subscription, key, _ = self.contracts[said["item"]]
        phase = subscription.kept_phases()[-1]
        return Wanted(
            item_key=key,
            components=[
                {
                    "type": FIXED,
                    "label": said[f"label_{n}"],
                    "amount_cents": _minor(said[f"amount_{n}"], phase.version.plan.currency, f"amount_{n}"),
                    "recurrence_rule": said[f"every_{n}"] or next(iter(EVERY)),
                }
                for n in range(ROWS)
                if said.get(f"label_{n}")
            ],
            mode=said["mode"],
            cycles=said["cycles"] if said["lasts"] == PERIODS else None,
        )


def _minor(amount: Decimal, currency: str, field: str) -> int:
    digits = exponent(currency)
    if amount != round(amount, digits):
        raise ValidationError({field: f"{currency} has {digits} digits after the point."})
    return to_minor(amount, currency)


def at_its_field(refused: ValidationError) -> ValidationError:
    """A refusal of the verb, at the field of the form that it is about."""
    if isinstance(refused, BadComponent):
        return ValidationError({f"{FIELD.get(refused.name, 'label')}_{refused.row}": refused.messages})
    if isinstance(refused, Refused) and refused.field in FIELD:
        return ValidationError({FIELD[refused.field]: refused.messages})
    return refused


def contracts_of(customer: Customer) -> list[Subscription]:
    return list(customer.subscriptions.live().with_phases())


class GiveSpecialPrice(CustomerAct):
    permission = OVERRIDE
    form_class = SpecialPriceForm
    title = "Override a price"
    submit = "Override price"
    act_template = "special/give.html"

    @cached_property
    def contracts(self) -> list[Subscription]:
        return contracts_of(self.customer)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "contracts": self.contracts, "now": moment(self.request)}

    def extra(self) -> dict[str, Any]:
        return {"preview_url": link("special_price_preview", self.customer.pk), "customer": self.customer}

    def act(self, form: SpecialPriceForm) -> str:
        now = moment(self.request)
        try:
            override_price(
                form.subscription, form.wanted(), reason=form.cleaned_data["reason"], actor=self.actor, now=now
            )
        except ValidationError as refused:
            raise at_its_field(refused) from refused
        messages.success(self.request, "The special price holds from the next billing period that is due.")
        return self.back()


@dataclass(frozen=True, slots=True)
class ComingRow:
    """One invoice to come beside itself without the special price."""

    at: datetime
    before: str
    after: str
    lines: tuple[tuple[str, str], ...]


def coming_row(found: Beside) -> ComingRow:
    shown = found.after or found.before
    currency = shown.currency if shown else ""

    def total(upcoming: Any) -> str:
        return format_minor(upcoming.total, currency) if upcoming else "—"

    lines = tuple(
        (line.description, format_minor(line.amount, currency)) for line in (found.after.lines if found.after else ())
    )
    return ComingRow(found.at, total(found.before), total(found.after), lines)


@requires(OVERRIDE)
def preview(request: HttpRequest, key: str) -> HttpResponse:
    """The next invoices with what has been typed so far."""
    customer, now = find_customer(key), moment(request)
    form = SpecialPriceForm(_without_reason(request.GET), contracts=contracts_of(customer), now=now)
    rows: list[ComingRow] = []
    why = ends = ""
    if form.is_valid():
        try:
            ends = ends_early(form.subscription, form.wanted(), now=now)
            rows = [coming_row(found) for found in preview_override(form.subscription, form.wanted(), now=now)]
        except ValidationError as refused:
            why = " ".join(refused.messages)
    said = form.cleaned_data if form.is_valid() else {}
    lasts = how_long(said["cycles"] if said["lasts"] == PERIODS else None) if said else ""
    return TemplateResponse(request, "special/preview.html", {"rows": rows, "why": why, "lasts": lasts, "ends": ends})


def _without_reason(said: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers show before somebody has said why."""
    return {**{name: said[name] for name in said}, "reason": said.get("reason") or "—"}


# Revoke ---------------------------------------------------------------------------------------------------------------


class RevokeForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class RevokeSpecialPrice(ActPage):
    permission = OVERRIDE
    form_class = RevokeForm
    submit = "Revoke special price"
    danger = True

    @cached_property
    def override(self) -> PriceOverride:
        rows = PriceOverride.objects.select_related("subscription__customer")
        found = rows.filter(public_id=self.kwargs["public_id"]).first()
        if found is None:
            raise Http404("There is no such special price.")
        return found

    def get_title(self) -> str:
        return f"Revoke {', '.join(component['label'] for component in self.override.components)}"

    def get_outcome(self) -> str:
        return "Invoices from now on take the item's own price again. What is invoiced already stays."

    def back(self) -> str:
        return customer_link(self.override.subscription.customer_id)

    def trail(self) -> list[tuple[str, str]]:
        customer = self.override.subscription.customer
        return [("Customers", link("customers_customer_changelist")), (customer.name, self.back()), (self.submit, "")]

    def act(self, form: RevokeForm) -> str:
        actor = Actor.of(self.request.user)
        revoke_override(self.override, reason=form.cleaned_data["reason"], actor=actor, now=moment(self.request))
        messages.success(self.request, "The special price is revoked.")
        return self.back()


page("special-prices/give/<str:key>/", name="give_special_price")(GiveSpecialPrice.as_view())
page("special-prices/give/<str:key>/preview/", name="special_price_preview", methods=("GET",))(preview)
page("special-prices/<str:public_id>/revoke/", name="revoke_special_price")(RevokeSpecialPrice.as_view())


# The list -------------------------------------------------------------------------------------------------------------


SHOWN = {
    "": "In force",
    "ending": "In the last period",
    "open": "Without an end",
    "over": "Used up or revoked",
    "all": "All",
}


class SpecialPriceFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Customer, as it begins"}),
    )
    shown = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "Which"})
    )

    def narrowed(self, rows: QuerySet[PriceOverride]) -> QuerySet[PriceOverride]:
        said = self.cleaned_data if self.is_valid() else {}
        if words := said.get("q", "").strip():
            rows = rows.filter(subscription__customer__in=Customer.objects.matching(words).order_by().values("pk"))
        live = Q(revoked_at=None, subscription__in=Subscription.objects.live())
        has_left = Q(cycles=None) | Q(cycles__gt=F("used"))
        match said.get("shown", ""):
            case "all":
                return rows
            case "over":
                return with_used(rows).exclude(live & has_left)
            case "open":
                return rows.filter(live, cycles=None)
            case "ending":
                return with_used(rows).filter(live, cycles=F("used") + 1)
        return with_used(rows).filter(live & has_left)


@requires("customers.view_priceoverride")
def special_price_list(request: HttpRequest) -> HttpResponse:
    form = SpecialPriceFilter(request.GET)
    dress(form)
    rows, before = form.narrowed(PriceOverride.objects.order_by("-id")), request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before))
    keys = list(rows.values_list("pk", flat=True)[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(keys) > A_PAGE:
        asked["before"] = str(keys[A_PAGE - 1])
    found = PriceOverride.objects.filter(pk__in=keys[:A_PAGE]).order_by("-id")
    return render_page(
        request,
        "special/list.html",
        trail=[("Special prices", "")],
        form=form,
        rows=read_rows(found, may=allowed(request, OVERRIDE)),
        older=f"?{asked.urlencode()}" if len(keys) > A_PAGE else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
    )


@admin.register(PriceOverride)
class PriceOverrideAdmin(ModelAdmin):
    """The frame around the list; special prices are given from the customer's page."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [path("", inside(special_price_list), name="customers_priceoverride_changelist")]
