"""The journal: who did what, why and when, with what went in and what came of it. For one customer or for all."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.dateparse import parse_datetime
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.undo import UndoPage
from billing_admin.flows.undo import offers
from billing_admin.pages import dress, render_page
from billing_admin.typed import in_calendar, row_number
from catalog.money import format_minor, grouped
from customers.models import Customer, Operation

A_PAGE = 50
UNITS = re.compile(r"-?\d+\.\d+")  # how the journal stores decimals
# What acts are about: the noun before the dot of their verb. A fixed list, since the journal is too long to be searched
# for the verbs that are in it.
NOUNS = {
    "": "Every act",
    "plan": "Plans",
    "subscription": "Subscriptions",
    "change": "Scheduled changes",
    "cancellation": "Cancellations taken back",
    "balance": "Balances",
    "invoice": "Invoices",
    "payment": "Payments",
    "customer": "Customers",
    "note": "Notes",
    "product": "Products",
    "version": "Versions",
    "feature": "Features",
    "approval": "Approvals",
}
# What is kept for whoever takes the act back: rows by their keys, and what was there before.
KEPT = {"before", "phase", "note", "former", "ratesBefore", "ratesAfter", "exemptBefore", "exemptAfter"}
MONEY = {"amount", "total", "charge", "due", "credit", "toAccountCredit", "returnedToAccountCredit"}


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One act as people read it; `inputs` and `effects` are (label, text) pairs behind a click."""

    at: datetime
    summary: str
    actor: str
    reason: str
    verb: str
    public_id: str
    inputs: tuple[tuple[str, str], ...]
    effects: tuple[tuple[str, str], ...]
    customer_name: str = ""
    customer_url: str = ""
    undo_url: str = ""
    undone_by: str = ""
    undone_url: str = ""
    reverses: str = ""
    reverses_url: str = ""
    approved_by: str = ""
    approval_url: str = ""


def joined(rows: QuerySet) -> QuerySet:
    """With what took each act back, and what each takes back."""
    return rows.select_related("reverses", "reversed_by")


def operation_row(operation: Operation, currency: str, *, allows: Callable[[str], bool] | None = None) -> OperationRow:
    """Reads `operation.customer`, and the acts that it is tied to, only when they were joined. `allows` says which
    permissions the reader has: undo is offered to whoever may have done the act."""
    currency = str(operation.effects.get("currency") or currency)
    customer = operation.customer if "customer" in operation._state.fields_cache else None
    return OperationRow(
        at=operation.at,
        summary=operation.summary,
        actor=operation.actor,
        reason=operation.reason,
        verb=operation.verb,
        public_id=operation.public_id,
        inputs=tuple(_facts(operation.inputs, currency)),
        effects=tuple(_facts(operation.effects, currency)),
        customer_name=customer.name if customer else "",
        customer_url=customer_link(customer.pk) if customer else "",
        **_ties(operation, allows),
        approved_by=operation.approved_by,
        approval_url=link("approval", operation.approval) if operation.approved_by else "",
    )


def _ties(operation: Operation, allows: Callable[[str], bool] | None) -> dict[str, str]:
    """Whether it can be taken back, who did, and what it takes back itself."""
    known = operation._state.fields_cache
    ties: dict[str, str] = {}
    undone = known.get("reversed_by")
    if undone is not None:
        ties |= {"undone_by": undone.actor, "undone_url": _shown_at(undone)}
    if (reversed_ := known.get("reverses")) is not None:
        ties |= {"reverses": reversed_.summary, "reverses_url": _shown_at(reversed_)}
    if allows is not None and "reversed_by" in known and offers(operation, allows):
        ties["undo_url"] = link("operation_undo", operation.public_id)
    return ties


def _shown_at(operation: Operation) -> str:
    return link("customers_operation_changelist", q=operation.public_id)


def _facts(values: dict[str, Any], currency: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if value in (None, "", [], {}) or name in KEPT:
            continue
        yield _label(name), _text(name, value, currency)


def _label(name: str) -> str:
    """`returnedToAccountCredit` → `Returned to account credit`."""
    spaced = "".join(f" {c.lower()}" if c.isupper() else c for c in name).replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def _text(name: str, value: Any, currency: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in MONEY and isinstance(value, int) and currency:
        return format_minor(value, currency)
    if isinstance(value, dict):
        if set(value) == {"description", "amount"}:
            return f"{value['description']}: {_text('amount', value['amount'], currency)}"
        return ", ".join(f"{_label(k).lower()} {_text(k, v, currency)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "; ".join(_text(name, part, currency) for part in value)
    if isinstance(value, str) and UNITS.fullmatch(value):
        return grouped(Decimal(value))
    at = parse_datetime(value) if isinstance(value, str) and len(value) >= 19 and value[4:5] == "-" else None
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC" if at else str(value)


def history_of(
    customer: Customer, *, limit: int = 8, allows: Callable[[str], bool] | None = None
) -> tuple[list[OperationRow], bool]:
    """The newest acts on a customer, and whether there are more; one query."""
    found = list(joined(Operation.objects.filter(customer=customer).newest())[: limit + 1])
    return [operation_row(row, customer.currency, allows=allows) for row in found[:limit]], len(found) > limit


class JournalFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Customer as it begins, or an act's id"}),
    )
    about = forms.ChoiceField(
        required=False, choices=list(NOUNS.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "About"})
    )
    by = forms.CharField(
        required=False, max_length=150, widget=forms.TextInput(attrs={"placeholder": "Whoever", "size": 10})
    )
    since = forms.DateField(required=False, validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"}))
    batch = forms.CharField(required=False, max_length=24, widget=forms.HiddenInput)

    def narrowed(self, rows: QuerySet) -> QuerySet:
        said = self.cleaned_data if self.is_valid() else {}
        if said.get("batch"):
            rows = rows.filter(batch=said["batch"])
        if said.get("q", "").startswith("op_"):
            rows = rows.filter(public_id=said["q"])
        elif said.get("q"):
            rows = rows.filter(customer__in=Customer.objects.matching(said["q"])[:200].values("pk"))
        if said.get("about"):
            rows = rows.filter(verb__startswith=f"{said['about']}.")
        if said.get("by"):
            rows = rows.filter(actor=said["by"])
        if said.get("since"):
            rows = rows.filter(at__gte=_midnight(said["since"]))
        if said.get("until"):
            rows = rows.filter(at__lt=_midnight(said["until"]) + timedelta(days=1))
        return rows


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@requires("customers.view_operation")
def journal(request: HttpRequest) -> HttpResponse:
    """Every act of everybody, newest first."""
    form = JournalFilter(request.GET)
    dress(form)
    rows = form.narrowed(joined(Operation.objects.newest()).select_related("customer"))
    of = row_number(request.GET.get("customer", ""))
    if of is not None:
        rows = rows.filter(customer_id=of)
    before = row_number(request.GET.get("before", ""))
    found = list((rows if before is None else rows.filter(pk__lt=before))[: A_PAGE + 1])
    more = found[A_PAGE - 1].pk if len(found) > A_PAGE else None
    asked = request.GET.copy()
    if more:
        asked["before"] = str(more)
    return render_page(
        request,
        "customers/journal.html",
        trail=[("History", "")],
        form=form,
        keep="" if of is None else str(of),
        rows=[
            operation_row(row, row.customer.currency if row.customer else "", allows=partial(allowed, request))
            for row in found[:A_PAGE]
        ],
        older=f"?{asked.urlencode()}" if more else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
    )


@admin.register(Operation)
class OperationAdmin(ModelAdmin):
    """The journal is appended by acts and read here; nobody edits it."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [
            path("", inside(journal), name="customers_operation_changelist"),
            path("<str:operation>/undo/", inside(UndoPage.as_view()), name="operation_undo"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Operation | None = None) -> bool:
        return bool(request.user.has_perm("customers.view_operation"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Operation | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Operation | None = None) -> bool:
        return False
