"""Credit notes on the desk: the dialog that says what a credit would be while it is typed, its undoing, and the
transfer of a refund that was still to be made."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import InvoiceAct, MinorUnits, ReasonForm, typed, use_currency
from billing_admin.admin.links import invoice_link, link
from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.stripe_credits import WayBack, way_back
from catalog.money import format_minor
from invoicing.credit_note import (
    BadCredit,
    CreditPreview,
    CreditRoom,
    LineRoom,
    credit_room,
    pay_out,
    preview_credit,
    void_credit_note,
)
from invoicing.models import Invoice, Refund
from invoicing.providers import MANUAL
from invoicing.states import InvoiceState

WHOLE, AMOUNT, LINES = "whole", "amount", "lines"
Settlement = Invoice.Settlement
ORDER = (Settlement.OFFSET, Settlement.ACCOUNT_CREDIT, Settlement.REFUND)


def can_be_credited(invoice: Invoice) -> bool:
    states = (InvoiceState.OPEN, InvoiceState.PAID, InvoiceState.UNCOLLECTIBLE)
    return invoice.kind == Invoice.Kind.INVOICE and invoice.state in states and invoice.total > 0


def can_be_undone(note: Invoice) -> bool:
    return note.kind == Invoice.Kind.CREDIT_NOTE and bool(note.corrects_id) and note.state == InvoiceState.PAID


def waiting_refund(note: Invoice) -> int:
    """Money that staff is to send back, but whose transfer nobody recorded yet; minor units."""
    if note.settlement != Settlement.REFUND or note.state == InvoiceState.VOID:
        return 0
    waiting = Refund.objects.filter(credit_note=note, reference="", provider=MANUAL)
    found: int = waiting.aggregate(sum=Sum("amount"))["sum"] or 0
    return found


class CreditForm(forms.Form):
    what = forms.ChoiceField(label="Credit", widget=forms.RadioSelect, initial=WHOLE)
    amount = MinorUnits(required=False)
    settlement = forms.ChoiceField(label="Where it goes", widget=forms.RadioSelect)
    reference = forms.CharField(
        required=False,
        max_length=200,
        label="Reference of the transfer",
        help_text="For a refund that was sent already. Empty: the transfer is still to be made.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, room: CreditRoom, back: WayBack, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.room, self.back = room, back
        self._choose_reference()
        self._choose_what()
        self._choose_settlement()
        use_currency(self.fields["amount"], room.currency)
        self.fields["amount"].label = f"Amount in {room.currency}, with tax"
        for line in room.lines:
            field = MinorUnits(required=False, label=line.description)
            field.currency = room.currency
            field.widget.attrs["placeholder"] = typed(line.net, room.currency)
            self.fields[name_of(line)] = field

    def _choose_what(self) -> None:
        field = self.fields["what"]
        assert isinstance(field, forms.ChoiceField)
        rest = format_minor(self.room.rest, self.room.currency)
        field.choices = [(WHOLE, f"All that is left, {rest}"), (AMOUNT, "An amount"), (LINES, "Line by line")]

    def _choose_reference(self) -> None:
        """What goes back by itself has a reference only where it was sent in Stripe before."""
        if self.back.sent_there:
            self.fields["reference"].label = "Stripe's id of the refund"
            self.fields["reference"].help_text = (
                f"Stripe gave back {format_minor(self.back.sent_there, self.room.currency)} without a credit note "
                "here. With the id (re_…) of that refund nothing more is sent."
            )
        elif self.back.words:
            del self.fields["reference"]

    def _choose_settlement(self) -> None:
        """What is possible, each with the most it can take; the first is what one would expect."""
        field = self.fields["settlement"]
        assert isinstance(field, forms.ChoiceField)
        most = {settlement: self.room.most(settlement) for settlement in ORDER}
        field.choices = [
            (settlement.value, self._words_of(settlement, most[settlement]))
            for settlement in ORDER
            if most[settlement] > 0
        ]
        self.initial.setdefault("settlement", field.choices[0][0] if field.choices else "")

    def _words_of(self, settlement: Invoice.Settlement, most: int) -> str:
        words = f"{settlement.label}, at most {format_minor(most, self.room.currency)}"
        return f"{words}, back to {self.back.words}" if settlement == Settlement.REFUND and self.back.words else words

    @property
    def way(self) -> str:
        """How the refund that is described goes back, where it goes by itself."""
        is_refund = self.data.get("settlement") == Settlement.REFUND and not self.data.get("reference")
        return self.back.words if is_refund else ""

    def line_rows(self) -> Iterator[tuple[LineRoom, forms.BoundField]]:
        for line in self.room.lines:
            yield line, self[name_of(line)]

    def asked(self) -> dict[str, Any]:
        """The credit that was described, as `preview_credit` and `credit` take it."""
        said = self.cleaned_data
        wanted: dict[str, Any] = {"settlement": said.get("settlement", "")}
        if said.get("what") == LINES:
            rows = [(line.line_id, said.get(name_of(line))) for line in self.room.lines]
            return wanted | {"lines": [(pk, net) for pk, net in rows if net]}
        return wanted | ({"amount": said.get("amount") or 0} if said.get("what") == AMOUNT else {"whole": True})


def name_of(line: LineRoom) -> str:
    return f"line_{line.line_id}"


def planned(form: CreditForm, invoice: Invoice) -> tuple[CreditPreview | None, str]:
    """What was typed so far would make this credit note; or the sentence that says why not."""
    form.full_clean()
    wrong = [error for name, errors in form.errors.items() if name not in ("reason", "reference") for error in errors]
    if wrong:
        return None, str(wrong[0])
    try:
        return preview_credit(invoice, **form.asked()), ""
    except BadCredit as refused:
        return None, refused.messages[0]


class Credit(InvoiceAct):
    permission = "invoicing.credit_invoice"
    form_class = CreditForm
    act_template = "invoices/credit.html"

    @property
    def room(self) -> CreditRoom:
        try:
            return credit_room(self.invoice)
        except BadCredit as refused:
            raise Http404(refused.messages[0]) from refused

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "room": self.room, "back": way_back(self.invoice)}

    def get_title(self) -> str:
        return f"Credit note for {self.invoice}"

    def act(self, form: CreditForm) -> str:
        said = form.cleaned_data
        note = credit_invoice(
            self.invoice,
            **form.asked(),
            reason=said["reason"],
            reference=said.get("reference", ""),
            actor=self.by,
            now=moment(self.request),
        )
        self.done(f"{note} credits {self.money(-note.total)}.")
        return invoice_link(note.pk)

    def extra(self) -> dict[str, Any]:
        room, back, data = self.room, way_back(self.invoice), self.request.POST or {"what": WHOLE}
        first = CreditForm(room=room, back=back).initial["settlement"]
        form = CreditForm({"settlement": first} | dict(data.items()), room=room, back=back)
        plan, refusal = planned(form, self.invoice)
        url = link("invoice_credit_preview", self.invoice_pk)
        return {"room": room, "planned": plan, "refusal": refusal, "preview_url": url, "way": form.way}


@requires("invoicing.credit_invoice")
def credit_preview(request: HttpRequest, pk: int) -> HttpResponse:
    """The sums and the button for what has been typed so far."""
    invoice = Invoice.objects.filter(pk=pk).first()
    if invoice is None:
        raise Http404("There is no such invoice.")
    try:
        form = CreditForm(request.GET, room=credit_room(invoice), back=way_back(invoice))
    except BadCredit as refused:
        raise Http404(refused.messages[0]) from refused
    plan, refusal = planned(form, invoice)
    context = {"planned": plan, "refusal": refusal, "room": form.room, "back": invoice_link(pk), "way": form.way}
    return TemplateResponse(request, "invoices/credit_outcome.html", context)


class CreditNoteAct(InvoiceAct):
    """An act on a credit note; other documents are not found at its address."""

    @property
    def invoice(self) -> Invoice:
        found = super().invoice
        if not found.settlement:
            raise Http404(f"{found} is no credit note.")
        return found


class VoidCreditNote(CreditNoteAct):
    permission = "invoicing.credit_invoice"
    form_class = ReasonForm
    danger = True

    def get_title(self) -> str:
        return f"Void {self.invoice}"

    def get_outcome(self) -> str:
        amount = self.money(-self.invoice.total)
        after = {
            Settlement.OFFSET: f"{amount} of {self.invoice.offsets} is owed again.",
            Settlement.ACCOUNT_CREDIT: f"{amount} is taken back from account credit, if it is still there.",
            Settlement.REFUND: f"{amount} is not paid back.",
        }
        return f"{after.get(Settlement(self.invoice.settlement), '')} Its lines can be credited again."

    def act(self, form: ReasonForm) -> str:
        void_credit_note(self.invoice, reason=form.cleaned_data["reason"], actor=self.by, now=moment(self.request))
        return self.done(f"{self.invoice} is void.")


class PayOutForm(forms.Form):
    reference = forms.CharField(
        max_length=200,
        help_text="What the bank calls the transfer.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class PayOut(CreditNoteAct):
    permission = "invoicing.credit_invoice"
    title = "Record the refund"
    submit = "Record the refund"
    form_class = PayOutForm

    def get_outcome(self) -> str:
        amount = self.money(waiting_refund(self.invoice))
        return f"{amount} went back to {self.invoice.customer}. It cannot be undone here."

    def act(self, form: PayOutForm) -> str:
        try:
            pay_out(self.invoice, reference=form.cleaned_data["reference"], actor=self.by, now=moment(self.request))
        except BadCredit as refused:
            raise ValidationError(refused.messages) from refused
        return self.done(f"The refund of {self.invoice} is recorded.")


ACTS: dict[str, type[InvoiceAct]] = {"credit": Credit, "void-note": VoidCreditNote, "pay-out": PayOut}
