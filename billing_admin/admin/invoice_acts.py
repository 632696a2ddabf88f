"""What staff do with one invoice: money that came in, the gate of a first payment, a void, giving up."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path

from billing_admin.admin.acts import moment
from billing_admin.admin.links import invoice_link, link
from billing_admin.flows.corrections import mark_uncollectible, reissue, void_invoice
from billing_admin.flows.gate import activate_now, approve, collect, waits
from billing_admin.pages import ActPage
from catalog.money import exponent, format_minor, plain, to_major, to_minor
from customers.journal import Actor
from invoicing.issue import BadPayment
from invoicing.models import Invoice
from invoicing.states import NEXT, InvoiceState


def can_be_paid(invoice: Invoice) -> bool:
    return invoice.kind == Invoice.Kind.INVOICE and invoice.state in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE)


def can_be_voided(invoice: Invoice) -> bool:
    return invoice.kind == Invoice.Kind.INVOICE and InvoiceState.VOID in NEXT.get(invoice.state, set())


class InvoiceAct(ActPage):
    """An act on one invoice."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.invoice_pk = kwargs["pk"]
        return super().dispatch(request, *args, **kwargs)

    @property
    def invoice(self) -> Invoice:
        if not hasattr(self, "_invoice"):
            found = Invoice.objects.select_related("customer", "gates__subscription", "gates__version__plan")
            self._invoice = found.filter(pk=self.invoice_pk).first()
        if self._invoice is None:
            raise Http404("There is no such invoice.")
        return self._invoice

    @property
    def by(self) -> Actor:
        return Actor.of(self.request.user)

    def back(self) -> str:
        return invoice_link(self.invoice_pk)

    def money(self, minor: int) -> str:
        return format_minor(minor, self.invoice.currency)

    def done(self, sentence: str) -> str:
        messages.success(self.request, sentence)
        return self.back()

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Invoices", link("invoicing_invoice_changelist")),
            (str(self.invoice), self.back()),
            (self.get_title(), ""),
        ]


class MinorUnits(forms.DecimalField):
    """An amount typed in major units, as minor units of a currency; `currency` is set by the form."""

    currency = "USD"
    positive = True

    def __init__(self, *, positive: bool = True, **kwargs: Any) -> None:
        attrs = {"inputmode": "decimal", "autocomplete": "off"}
        super().__init__(max_digits=18, decimal_places=6, widget=forms.TextInput(attrs=attrs), **kwargs)
        self.positive = positive

    def clean(self, value: Any) -> int | None:
        amount: Decimal | None = super().clean(value)
        if amount is None:
            return None
        if amount == 0 or (self.positive and amount < 0):
            raise ValidationError("It is more than zero." if self.positive else "It is not zero.", code="bad_amount")
        minor = to_minor(amount, self.currency)
        if to_major(minor, self.currency) != amount:
            digits = exponent(self.currency)
            said = f"at most {digits} digits after the point" if digits else "no digits after the point"
            raise ValidationError(f"{self.currency} has {said}; {plain(amount)} has more.", code="too_exact")
        return minor


def typed(minor: int, currency: str) -> str:
    """An amount as it stands in a field: `26.67`."""
    return f"{to_major(minor, currency):.{exponent(currency)}f}"


def use_currency(field: forms.Field, currency: str) -> None:
    assert isinstance(field, MinorUnits)
    field.currency = currency


class PaymentForm(forms.Form):
    amount = MinorUnits()
    reference = forms.CharField(
        max_length=200,
        help_text="What the bank or the provider calls it, such as a transaction number.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, invoice: Invoice, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_currency(self.fields["amount"], invoice.currency)
        self.fields["amount"].label = f"Amount in {invoice.currency}"
        self.fields["amount"].initial = typed(invoice.due, invoice.currency)


class RecordPayment(InvoiceAct):
    permission = "invoicing.pay_invoice"
    title = "Record payment"
    submit = "Record payment"
    form_class = PaymentForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "invoice": self.invoice}

    def get_outcome(self) -> str:
        gate = " The plan starts with the last of it." if self.invoice.gates_id else ""
        due = self.money(self.invoice.due)
        return f"{due} is due on {self.invoice}. Less leaves it open; what is too much becomes account credit.{gate}"

    def act(self, form: PaymentForm) -> str:
        said = form.cleaned_data
        if not can_be_paid(self.invoice):
            raise BadPayment(f"{self.invoice} is {self.invoice.get_state_display().lower()}; it takes no payment.")
        collect(
            self.invoice, amount=said["amount"], reference=said["reference"], actor=self.by, now=moment(self.request)
        )
        return self.done(f"{self.money(said['amount'])} received for {self.invoice}.")


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class VoidInvoice(InvoiceAct):
    permission = "invoicing.void_invoice"
    form_class = ReasonForm
    danger = True

    def get_title(self) -> str:
        return f"Void {self.invoice}"

    def get_outcome(self) -> str:
        returned = self.invoice.credit_applied + self.invoice.paid
        back = f" {self.money(returned)} becomes account credit." if returned else ""
        due = self.money(self.invoice.due)
        if waits(self.invoice):
            return f"{due} is not owed any more, and the plan that waits for it is given up.{back}"
        return f"{due} is not owed any more.{back} Its period stays settled: nothing bills it again."

    def act(self, form: ReasonForm) -> str:
        void_invoice(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        return self.done(f"{self.invoice} is void.")


class Reissue(InvoiceAct):
    permission = "invoicing.void_invoice"
    form_class = ReasonForm

    def get_title(self) -> str:
        return f"Void {self.invoice} and issue it anew"

    def get_outcome(self) -> str:
        paid = self.invoice.credit_applied + self.invoice.paid
        over = f" {self.money(paid)} that was paid goes over to it." if paid else ""
        return f"The same lines stand on a new invoice, with the coupons, taxes and terms of today.{over}"

    def act(self, form: ReasonForm) -> str:
        again = reissue(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        self.done(f"{again} stands in the place of {self.invoice}.")
        return invoice_link(again.pk)


class GiveUp(InvoiceAct):
    permission = "invoicing.write_off_invoice"
    form_class = ReasonForm
    danger = True

    def get_title(self) -> str:
        return f"Mark {self.invoice} as uncollectible"

    def get_outcome(self) -> str:
        return f"Nobody is reminded of {self.money(self.invoice.due)} any more. A payment can still be recorded."

    def act(self, form: ReasonForm) -> str:
        mark_uncollectible(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        return self.done(f"{self.invoice} is uncollectible.")


class Approve(InvoiceAct):
    permission = "invoicing.approve_invoice"
    title = "Approve first invoice"
    submit = "Approve and issue"

    def get_outcome(self) -> str:
        return f"{self.money(self.invoice.total)} is issued to {self.invoice.customer}; the time to pay it begins now."

    def act(self, form: forms.Form) -> str:
        invoice = approve(self.invoice, actor=self.by, now=moment(self.request))
        return self.done(f"{invoice} is issued.")


class ActivateNow(InvoiceAct):
    permission = "customers.activate_unpaid"
    form_class = ReasonForm

    @property
    def plan(self) -> str:
        return self.invoice.gates.version.plan.name if self.invoice.gates else "the plan"

    def get_title(self) -> str:
        return f"Activate {self.plan} now"

    def get_outcome(self) -> str:
        owed = f"{self.money(self.invoice.due)} stays due and no longer expires."
        return f"{self.invoice.customer} has {self.plan} from now on, before paying for it. {owed}"

    def act(self, form: ReasonForm) -> str:
        activate_now(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        return self.done(f"{self.plan} is active.")


ACTS: dict[str, type[InvoiceAct]] = {
    "pay": RecordPayment,
    "void": VoidInvoice,
    "reissue": Reissue,
    "give-up": GiveUp,
    "approve": Approve,
    "activate": ActivateNow,
}


def urls(inside: Any, acts: dict[str, type[InvoiceAct]]) -> list[URLPattern]:
    """`<pk>/void/` as `invoice_void`, and so on."""
    return [
        path(f"<int:pk>/{name}/", inside(page.as_view()), name=f"invoice_{name.replace('-', '_')}")
        for name, page in acts.items()
    ]
