"""Invoices for staff: the list, the page whose every line unfolds into its sum, and the acts that its state allows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.pages import ActPage, dress, render_page
from catalog.money import exponent, format_minor, plain, to_major, to_minor
from customers.journal import Actor
from customers.models import Customer, Operation
from invoicing.issue import BadPayment, receive_payment, void
from invoicing.models import Invoice, InvoiceLine
from invoicing.states import NEXT, InvoiceState

A_PAGE = 50
A_DAY = timedelta(days=1)
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
        return rows.filter(kind=said["kind"]) if said.get("kind") else rows


@requires("invoicing.view_invoice")
def invoice_list(request: HttpRequest) -> HttpResponse:
    form = InvoiceFilter(request.GET)
    dress(form)
    rows = form.narrowed(Invoice.objects.newest().select_related("customer"), moment(request))
    of, before = request.GET.get("customer", ""), request.GET.get("before", "")
    if of.isdigit():
        rows = rows.filter(customer_id=int(of))
    if before.isdigit():
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
        keep=of if of.isdigit() else "",
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
    customer_name: str = ""
    customer_url: str = ""


def invoice_row(invoice: Invoice, now: datetime) -> InvoiceRow:
    """Reads `invoice.customer` only when it was joined."""
    customer = invoice.customer if "customer" in invoice._state.fields_cache else None
    return InvoiceRow(
        title=str(invoice),
        url=invoice_link(invoice.pk),
        at=invoice.issued_at,
        total=invoice.total,
        due=invoice.due,
        due_at=invoice.due_at,
        currency=invoice.currency,
        state=state_of(invoice, now),
        is_credit_note=invoice.kind == Invoice.Kind.CREDIT_NOTE,
        customer_name=customer.name if customer else "",
        customer_url=customer_link(customer.pk) if customer else "",
    )


def state_of(invoice: Invoice, now: datetime) -> tuple[str, str]:
    """(word, label): an open invoice past its date says so; a credit note is issued, not paid."""
    if invoice.kind == Invoice.Kind.CREDIT_NOTE and invoice.state == InvoiceState.PAID:
        return "ended", "Issued"
    return ("past_due", "") if is_overdue(invoice, now) else (invoice.state, "")


def is_overdue(invoice: Invoice, now: datetime) -> bool:
    """Not paid a day after it was due: what is due at once is not late in the same hour."""
    return invoice.state == InvoiceState.OPEN and invoice.due_at is not None and invoice.due_at <= now - A_DAY


# The page -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineRow:
    line: InvoiceLine
    sum: str
    facts: tuple[tuple[str, str], ...]


def line_row(line: InvoiceLine) -> LineRow:
    """A line with its derivation: the sum as it was made, and from where."""
    facts = []
    if line.source:
        facts.append(("Credits the line", f"{line.source.description} on {line.source.invoice}"))
    if line.item_id:
        facts.append(("Plan item", line.key))
    if line.balance_id and line.balance:
        facts.append(("Balance", f"{line.balance.feature.name}, {_span(line.balance.starts_at, line.balance.ends_at)}"))
    if line.starts_at:
        facts.append(("Time", _span(line.starts_at, line.ends_at)))
    return LineRow(line, str(line.derivation.get("sum", "")), tuple(facts))


def _span(start: datetime, end: datetime | None) -> str:
    return f"{start:%-d %b %Y} – {end:%-d %b %Y}" if end else f"from {start:%-d %b %Y}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of an invoice's history."""

    at: datetime
    text: str
    actor: str = ""
    reason: str = ""


def history(invoice: Invoice) -> list[Moment]:
    """What happened to a document, from its own rows and those that settled it, oldest first."""
    found = list(_moments(invoice))
    return sorted(found, key=lambda moment_: moment_.at)


def _moments(invoice: Invoice) -> Iterator[Moment]:
    money = invoice.currency
    if invoice.issued_at:
        operation = invoice.operation
        yield Moment(
            invoice.issued_at, "Issued", operation.actor if operation else "", operation.reason if operation else ""
        )
    for entry in invoice.credit_entries.all():
        yield Moment(entry.at, f"{entry.get_kind_display()}: {format_minor(abs(entry.amount), money)}")
    for note in invoice.offset_by.all():
        if note.issued_at:
            yield Moment(note.issued_at, f"{note} took {format_minor(-note.total, money)} off")
    for payment in invoice.payments.all():
        yield Moment(
            payment.at,
            f"{format_minor(payment.amount, money)} received",
            payment.actor,
            f"Reference {payment.reference}",
        )
    if invoice.paid_at and invoice.kind == Invoice.Kind.INVOICE:
        yield Moment(invoice.paid_at, "Paid")
    if invoice.voided_at:
        acts = Operation.objects.filter(customer_id=invoice.customer_id, verb="invoice.voided")
        act = acts.filter(inputs__invoice=invoice.public_id).first()
        yield Moment(invoice.voided_at, "Voided", act.actor if act else "", invoice.void_reason)


@requires("invoicing.view_invoice")
def invoice_page(request: HttpRequest, pk: int) -> HttpResponse:
    invoice = (
        Invoice.objects.select_related("customer", "subscription__product", "operation", "offsets")
        .prefetch_related("payments", "credit_entries", "offset_by")
        .filter(pk=pk)
        .first()
    )
    if invoice is None:
        raise Http404("There is no such invoice.")
    lines = invoice.lines.select_related("source__invoice", "balance__feature")
    pays = can_be_paid(invoice) and allowed(request, "invoicing.pay_invoice")
    voids = can_be_voided(invoice) and allowed(request, "invoicing.void_invoice")
    return render_page(
        request,
        "invoices/page.html",
        trail=[("Invoices", link("invoicing_invoice_changelist")), (str(invoice), "")],
        invoice=invoice,
        state=state_of(invoice, moment(request)),
        customer_url=customer_link(invoice.customer_id),
        lines=[line_row(line) for line in lines],
        history=history(invoice),
        pay_url=link("invoice_pay", pk) if pays else "",
        void_url=link("invoice_void", pk) if voids else "",
        offsets_url=invoice_link(invoice.offsets_id) if invoice.offsets_id else "",
    )


def can_be_paid(invoice: Invoice) -> bool:
    return invoice.kind == Invoice.Kind.INVOICE and invoice.state in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE)


def can_be_voided(invoice: Invoice) -> bool:
    return invoice.kind == Invoice.Kind.INVOICE and InvoiceState.VOID in NEXT.get(invoice.state, set())


# Acts ---------------------------------------------------------------------------------------------------------------


class InvoiceAct(ActPage):
    """An act on one invoice."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.invoice_pk = kwargs["pk"]
        return super().dispatch(request, *args, **kwargs)

    @property
    def invoice(self) -> Invoice:
        if not hasattr(self, "_invoice"):
            found = Invoice.objects.select_related("customer").filter(pk=self.invoice_pk).first()
            if found is None:
                raise Http404("There is no such invoice.")
            self._invoice = found
        return self._invoice

    def back(self) -> str:
        return invoice_link(self.invoice_pk)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Invoices", link("invoicing_invoice_changelist")),
            (str(self.invoice), self.back()),
            (self.get_title(), ""),
        ]


class PaymentForm(forms.Form):
    amount = forms.DecimalField(
        max_digits=18, decimal_places=6, widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
    )
    reference = forms.CharField(
        max_length=200,
        help_text="What the bank or the provider calls it, such as a transaction number.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, invoice: Invoice, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency = invoice.currency
        digits = exponent(invoice.currency)
        self.fields["amount"].label = f"Amount in {invoice.currency}"
        self.fields["amount"].initial = f"{to_major(invoice.due, invoice.currency):.{digits}f}"

    def clean_amount(self) -> int:
        amount: Decimal = self.cleaned_data["amount"]
        if amount <= 0:
            raise ValidationError("A payment is more than zero.", code="bad_payment")
        minor = to_minor(amount, self.currency)
        if to_major(minor, self.currency) != amount:
            digits = exponent(self.currency)
            said = f"at most {digits} digits after the point" if digits else "no digits after the point"
            raise ValidationError(f"{self.currency} has {said}; {plain(amount)} has more.", code="too_exact")
        return minor


class RecordPayment(InvoiceAct):
    permission = "invoicing.pay_invoice"
    title = "Record payment"
    submit = "Record payment"
    form_class = PaymentForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "invoice": self.invoice}

    def get_outcome(self) -> str:
        due = format_minor(self.invoice.due, self.invoice.currency)
        return f"{due} is due on {self.invoice}. Less leaves it open; what is too much becomes account credit."

    def act(self, form: PaymentForm) -> str:
        said = form.cleaned_data
        if not can_be_paid(self.invoice):
            raise BadPayment(f"{self.invoice} is {self.invoice.get_state_display().lower()}; it takes no payment.")
        receive_payment(
            self.invoice,
            amount=said["amount"],
            reference=said["reference"],
            actor=Actor.of(self.request.user),
            now=moment(self.request),
        )
        messages.success(self.request, f"{format_minor(said['amount'], form.currency)} received for {self.invoice}.")
        return self.back()


class VoidForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class VoidInvoice(InvoiceAct):
    permission = "invoicing.void_invoice"
    form_class = VoidForm
    danger = True

    def get_title(self) -> str:
        return f"Void {self.invoice}"

    def get_outcome(self) -> str:
        returned = self.invoice.credit_applied + self.invoice.paid
        back = f" {format_minor(returned, self.invoice.currency)} becomes account credit." if returned else ""
        due = format_minor(self.invoice.due, self.invoice.currency)
        return f"{due} is not owed any more.{back} Its period stays settled: nothing bills it again."

    def act(self, form: VoidForm) -> str:
        void(
            self.invoice,
            reason=form.cleaned_data["reason"],
            actor=Actor.of(self.request.user),
            now=moment(self.request),
        )
        messages.success(self.request, f"{self.invoice} is void.")
        return self.back()


@admin.register(Invoice)
class InvoiceAdmin(ModelAdmin):
    """Issued documents never change: they are read, paid and voided here, never edited."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [
            path("", inside(invoice_list), name="invoicing_invoice_changelist"),
            path("<int:pk>/", inside(invoice_page), name="invoicing_invoice_change"),
            path("<int:pk>/pay/", inside(RecordPayment.as_view()), name="invoice_pay"),
            path("<int:pk>/void/", inside(VoidInvoice.as_view()), name="invoice_void"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return bool(request.user.has_perm("invoicing.view_invoice"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Invoice | None = None) -> bool:
        return False
