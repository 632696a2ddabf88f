"""Invoices for staff: the list, the page whose every line unfolds into its sum, and the acts that its state allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin import invoice_acts, invoice_credit, invoice_drafts, stripe_refunds
from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import can_be_paid, can_be_voided, urls
from billing_admin.admin.invoice_credit import can_be_credited, can_be_undone, credit_preview, waiting_refund
from billing_admin.admin.invoice_drafts import can_be_edited, line_urls
from billing_admin.admin.invoice_history import history
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.stripe_collection import CHOICES, Collection, read_collection, word_of
from billing_admin.admin.stripe_refunds import can_be_asked_again, can_be_sent_by_hand, returned
from billing_admin.flows.gate import waits
from billing_admin.pages import dress, render_page
from catalog.money import format_minor
from customers.models import Customer
from invoicing.mail import document_link
from invoicing.models import Deduction, Invoice, InvoiceLine
from invoicing.paper import BEHIND_A_LINE, is_overdue, row, totals
from invoicing.states import InvoiceState
from invoicing.tongue import DESK
from payments.gateway import enabled
from payments.models import Method, StripeInvoice
from payments.words import STANDINGS

A_PAGE = 50
NOT_COLLECTED = "none"
AT_HAND = 3  # acts beside the title; the rest fold into a menu
A_DAY = timedelta(days=1)
EDIT = "invoicing.edit_draft"
AN_HOUR = timedelta(hours=1)
BESIDE = (
    "customer",
    "subscription__product",
    "operation",
    "offsets",
    "corrects",
    "replaces",
    "gates__subscription",
    "gates__version__plan",
)
SHOWN = {
    "": "Every state",
    "open": "Open",
    "overdue": "Past due",
    "paid": "Paid",
    "void": "Void",
    "uncollectible": "Uncollectible",
    "draft": "Draft",
}


# The list -----------------------------------------------------------------------------------------------------------


class InvoiceFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Number, or customer", "data-search": ""}),
    )
    state = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "State"})
    )
    kind = forms.ChoiceField(
        required=False,
        choices=[("", "Invoices and credit notes"), *Invoice.Kind.choices],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Kind"}),
    )
    currency = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Currency"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        currency = self.fields["currency"]
        assert isinstance(currency, forms.ChoiceField)
        currency.choices = [("", "Every currency"), *((code, code) for code in settings.CURRENCIES)]
        if enabled():
            choices = [("", "Every collection"), *CHOICES, (NOT_COLLECTED, "Not with Stripe")]
            widget = forms.Select(attrs={"data-go": "", "aria-label": "Collection"})
            self.fields["collection"] = forms.ChoiceField(required=False, choices=choices, widget=widget)

    def narrowed(self, rows: QuerySet[Invoice], now: datetime) -> QuerySet[Invoice]:
        said = self.cleaned_data if self.is_valid() else {}
        if words := said.get("q", "").strip():
            rows = rows.filter(
                Q(number__startswith=words.upper())
                | Q(public_id=words)
                | Q(customer__in=Customer.objects.matching(words)[:200].values("pk"))
            )
        if said.get("state") == "overdue":
            rows = rows.filter(kind=Invoice.Kind.INVOICE, state=InvoiceState.OPEN, due_at__lte=now - A_DAY)
        elif said.get("state"):
            rows = rows.filter(state=said["state"])
        if said.get("collection") == NOT_COLLECTED:
            rows = rows.filter(stripe=None)
        elif said.get("collection"):
            rows = rows.filter(stripe__state=said["collection"])
        if said.get("currency"):
            rows = rows.filter(currency=said["currency"])
        return rows.filter(kind=said["kind"]) if said.get("kind") else rows


@requires("invoicing.view_invoice")
def invoice_list(request: HttpRequest) -> HttpResponse:
    form = InvoiceFilter(request.GET)
    dress(form)
    collects = enabled()
    beside = ("customer", "stripe") if collects else ("customer",)
    rows = form.narrowed(Invoice.objects.newest().select_related(*beside), moment(request))
    of, before = request.GET.get("customer", ""), request.GET.get("before", "")
    if of.isdecimal():
        rows = rows.filter(customer_id=int(of))
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    return render_page(
        request,
        "invoices/list.html",
        trail=[("Invoices", "")],
        form=form,
        collects=collects,
        keep=of if of.isdecimal() else "",
        rows=[invoice_row(invoice, moment(request)) for invoice in found[:A_PAGE]],
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
    )


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One document in a list."""

    title: str
    url: str
    at: datetime | None
    total: int
    due: int
    due_at: datetime | None
    currency: str
    state: tuple[str, str]
    is_credit_note: bool
    waits_for: str = ""
    open_url: str = ""
    customer_name: str = ""
    customer_url: str = ""
    collection: tuple[str, str] = ("", "")


def invoice_row(invoice: Invoice, now: datetime) -> InvoiceRow:
    """Reads `invoice.customer` and `invoice.stripe` only when they were joined."""
    customer = invoice.customer if "customer" in invoice._state.fields_cache else None
    return InvoiceRow(
        title=str(invoice),
        url=invoice_link(invoice.pk),
        at=invoice.issued_at,
        total=invoice.total,
        due=0 if invoice.state == InvoiceState.DRAFT else invoice.due,
        due_at=invoice.due_at,
        currency=invoice.currency,
        state=state_of(invoice, now),
        is_credit_note=invoice.kind == Invoice.Kind.CREDIT_NOTE,
        waits_for=waits_for(invoice, now),
        open_url=reverse("hosted_document", args=[invoice.token]) if invoice.number else "",
        customer_name=customer.name if customer else "",
        customer_url=customer_link(customer.pk) if customer else "",
        collection=collection_of(invoice),
    )


def collection_of(invoice: Invoice) -> tuple[str, str]:
    """The word for where its collection stands, and the tone of its dot."""
    row = invoice._state.fields_cache.get("stripe")
    if row is None:
        return "", ""
    is_left = row.state == StripeInvoice.State.VOID and invoice.state == InvoiceState.OPEN
    if is_left:
        return ("Stopped", "off") if row.method == Method.NONE else (word_of(row), "bad")
    return word_of(row), STANDINGS[row.state].tone


def state_of(invoice: Invoice, now: datetime) -> tuple[str, str]:
    """(word, label): an open invoice past its date says so; a credit note is issued, not paid."""
    if invoice.kind == Invoice.Kind.CREDIT_NOTE and invoice.state == InvoiceState.PAID:
        return "ended", "Issued"
    if invoice.awaits_approval:
        return "draft", "Awaits approval"
    return ("past_due", "") if is_overdue(invoice, now) else (invoice.state, "")


def waits_for(invoice: Invoice, now: datetime) -> str:
    """When a draft is issued: `issues in 3 h`."""
    if invoice.state != InvoiceState.DRAFT:
        return ""
    if invoice.awaits_approval:
        return "waits for an approval"
    if invoice.issues_at is None:
        return "waits for somebody to issue it"
    left = invoice.issues_at - now
    if left < AN_HOUR:
        return "issues within the hour" if left > timedelta() else "issues now"
    return f"issues in {left.days} d" if left.days >= 2 else f"issues in {left // AN_HOUR} h"


# The page -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineRow:
    """A line as staff read it: with its sum, what the sum rests on, and where it comes from."""

    text: str
    period: str
    quantity: str
    amount: str
    is_credit: bool
    sum: str
    facts: tuple[tuple[str, str], ...]
    remove_url: str = ""


def line_row(line: InvoiceLine, deductions: Sequence[Deduction], remove_url: str = "") -> LineRow:
    told = row(line, line.invoice.currency, DESK, deductions)
    facts = [(fact.name, fact.value) for fact in told.facts]
    if line.item_id:
        facts.append(("Plan item", line.key))
    if line.balance_id and line.balance:
        window = DESK.span(line.balance.starts_at, line.balance.ends_at)
        facts.append(("Balance", f"{line.balance.feature.name}, {window}"))
    return LineRow(
        told.text, told.period, told.quantity, told.amount, told.is_credit, told.sum, tuple(facts), remove_url
    )


def remove_url(line: InvoiceLine, request: HttpRequest) -> str:
    """Lines that somebody added to a draft can go again."""
    removable = line.kind == InvoiceLine.Kind.MANUAL and can_be_edited(line.invoice)
    return link("invoice_remove_line", line.invoice_id, line.pk) if removable and allowed(request, EDIT) else ""


@dataclass(frozen=True, slots=True)
class Button:
    """An act that the document's state and the reader's role allow."""

    label: str
    url: str
    primary: bool = False


def buttons(invoice: Invoice, request: HttpRequest) -> list[Button]:
    """The first stands out where something is left to do."""
    found = [
        Button(label, link(name, invoice.pk))
        for label, name, permission, holds in _acts(invoice)
        if holds and allowed(request, permission)
    ]
    is_settled = invoice.state in (InvoiceState.PAID, InvoiceState.VOID) and not waiting_refund(invoice)
    return found if is_settled or not found else [replace(found[0], primary=True), *found[1:]]


def _quieter(found: list[Button], collection: Collection | None) -> list[Button]:
    """One act of a page stands out: the collection's, where it has one."""
    is_outdone = collection is not None and any(act.primary for act in collection.acts)
    return [replace(button, primary=False) for button in found] if is_outdone else found


def _acts(invoice: Invoice) -> Iterator[tuple[str, str, str, bool]]:
    """(label, address, permission, whether it can be done), in the order of the page."""
    payable, gated, editable = can_be_paid(invoice), waits(invoice), can_be_edited(invoice)
    is_open = invoice.state == InvoiceState.OPEN
    yield "Approve", "invoice_approve", "invoicing.approve_invoice", invoice.awaits_approval
    yield "Issue now", "invoice_issue", EDIT, editable and not invoice.awaits_approval
    yield "Add a line", "invoice_add_line", EDIT, editable
    yield "Draw up anew", "invoice_refresh", EDIT, editable
    yield "Record payment", "invoice_pay", "invoicing.pay_invoice", payable
    yield "Activate now", "invoice_activate", "customers.activate_unpaid", gated
    yield "Record the refund", "invoice_pay_out", "invoicing.credit_invoice", waiting_refund(invoice) > 0
    yield "Ask Stripe again", "invoice_refund_again", "payments.use_stripe", can_be_asked_again(invoice)
    yield "Record another way", "invoice_refund_by_hand", "invoicing.credit_invoice", can_be_sent_by_hand(invoice)
    yield "Credit note", "invoice_credit", "invoicing.credit_invoice", can_be_credited(invoice)
    yield "Void", "invoice_void", "invoicing.void_invoice", can_be_voided(invoice)
    yield "Void and reissue", "invoice_reissue", "invoicing.void_invoice", payable
    yield "Give up", "invoice_give_up", "invoicing.write_off_invoice", payable and is_open and not gated
    yield "Void", "invoice_void_note", "invoicing.credit_invoice", can_be_undone(invoice)


@requires("invoicing.view_invoice")
def invoice_page(request: HttpRequest, pk: int) -> HttpResponse:
    beside = (*BESIDE, "stripe", "customer__stripe") if enabled() else BESIDE
    invoice = (
        Invoice.objects.select_related(*beside)
        .prefetch_related(
            "payments", "credit_entries", "sent_reminders", "offset_by__operation", "credit_notes__operation"
        )
        .filter(pk=pk)
        .first()
    )
    if invoice is None:
        raise Http404("There is no such invoice.")
    lines = list(invoice.lines.select_related(*BEHIND_A_LINE, "balance__feature"))
    deductions = list(invoice.deductions.all())
    issued = invoice.number is not None
    collection = read_collection(invoice, request)
    return render_page(
        request,
        "invoices/page.html",
        trail=[("Invoices", link("invoicing_invoice_changelist")), (str(invoice), "")],
        invoice=invoice,
        state=state_of(invoice, moment(request)),
        waits_for=waits_for(invoice, moment(request)),
        is_gate=waits(invoice),
        customer_url=customer_link(invoice.customer_id),
        lines=[line_row(line, deductions, remove_url(line, request)) for line in lines],
        totals=list(totals(invoice, lines, deductions, DESK)),
        history=history(invoice),
        acts=(acts := _quieter(buttons(invoice, request), collection))[:AT_HAND],
        more_acts=acts[AT_HAND:],
        related=related(invoice),
        collection=collection,
        returned=returned(invoice),
        link=document_link(invoice) if issued else "",
        open_url=reverse("hosted_document", args=[invoice.token]) if issued else "",
        pdf_url=reverse("hosted_pdf", args=[invoice.token]) if issued else "",
    )


@dataclass(frozen=True, slots=True)
class Related:
    """Another document that this one cannot be understood without."""

    how: str
    name: str
    url: str
    total: str


def related(invoice: Invoice) -> list[Related]:
    named = [("Corrects", invoice.corrects), ("Replaces", invoice.replaces)]
    if invoice.offsets_id != invoice.corrects_id:
        named.append(("Takes its amount off", invoice.offsets))
    notes = {note.pk: note for note in (*invoice.credit_notes.all(), *invoice.offset_by.all())}
    named += [("Credited by", note) for _, note in sorted(notes.items())]
    named += [("Replaced by", other) for other in invoice.replaced_by.all()]
    return [
        Related(how, str(other), invoice_link(other.pk), format_minor(other.total, other.currency))
        for how, other in named
        if other is not None
    ]


@admin.register(Invoice)
class InvoiceAdmin(ModelAdmin):
    """Issued documents never change: they are read, paid and voided here, never edited."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [
            path("", inside(invoice_list), name="invoicing_invoice_changelist"),
            path("<int:pk>/", inside(invoice_page), name="invoicing_invoice_change"),
            path("<int:pk>/credit/preview/", inside(credit_preview), name="invoice_credit_preview"),
            *urls(inside, invoice_acts.ACTS | invoice_credit.ACTS | invoice_drafts.ACTS | stripe_refunds.ACTS),
            *line_urls(inside),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return bool(request.user.has_perm("invoicing.view_invoice"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False
