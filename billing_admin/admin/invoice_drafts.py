"""Drafts on the desk: a line by hand, drawing up anew, issuing."""

from typing import Any

from django import forms
from django.http import Http404
from django.urls import URLPattern, path

from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import InvoiceAct, MinorUnits, use_currency
from billing_admin.flows.drafts import add_line, issue_draft, refresh, remove_line
from invoicing.models import Invoice, InvoiceLine
from invoicing.states import InvoiceState


def can_be_edited(invoice: Invoice) -> bool:
    return invoice.state == InvoiceState.DRAFT and invoice.subscription_id is not None


class LineForm(forms.Form):
    description = forms.CharField(
        max_length=300, help_text="What the customer reads.", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    amount = MinorUnits(positive=False, help_text="Before tax. Below zero it is a credit.")

    def __init__(self, *args: Any, invoice: Invoice, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_currency(self.fields["amount"], invoice.currency)
        self.fields["amount"].label = f"Amount in {invoice.currency}"


class AddLine(InvoiceAct):
    permission = "invoicing.edit_draft"
    title = "Add a line"
    submit = "Add line"
    form_class = LineForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "invoice": self.invoice}

    def get_outcome(self) -> str:
        total = self.money(self.invoice.total)
        return f"The draft comes to {total} so far. It is drawn up anew with the line, its discounts and taxes."

    def act(self, form: LineForm) -> str:
        said = form.cleaned_data
        add_line(
            draft=self.invoice,
            description=said["description"],
            amount=said["amount"],
            currency=self.invoice.currency,
            actor=self.by,
            now=moment(self.request),
        )
        return self.done(f"{said['description']} added: {self.money(said['amount'])}.")


class RemoveLine(InvoiceAct):
    permission = "invoicing.edit_draft"
    title = "Remove line"

    @property
    def line(self) -> InvoiceLine:
        found = InvoiceLine.objects.filter(
            pk=self.kwargs["line"], invoice=self.invoice_pk, kind=InvoiceLine.Kind.MANUAL
        ).first()
        if found is None:
            raise Http404("There is no such line.")
        return found

    def get_outcome(self) -> str:
        return f"{self.line.description}, {self.money(self.line.amount)}, is not charged."

    def act(self, form: forms.Form) -> str:
        line = self.line
        remove_line(line, actor=self.by, now=moment(self.request))
        return self.done(f"{line.description} removed.")


class Refresh(InvoiceAct):
    permission = "invoicing.edit_draft"
    title = "Draw up anew"

    def get_outcome(self) -> str:
        return "Use until now is rated again, and coupons, credits and taxes come off as they are now."

    def act(self, form: forms.Form) -> str:
        draft = refresh(self.invoice, now=moment(self.request))
        return self.done(f"The draft comes to {self.money(draft.total)}.")


class Issue(InvoiceAct):
    permission = "invoicing.edit_draft"
    title = "Issue now"

    def get_outcome(self) -> str:
        early = " Use that is reported late is refused from then on." if self.invoice.issues_at else ""
        return f"It is drawn up a last time, gets its number, and {self.invoice.customer} can see it.{early}"

    def act(self, form: forms.Form) -> str:
        invoice = issue_draft(self.invoice, actor=self.by, now=moment(self.request))
        return self.done(f"{invoice} is issued: {self.money(invoice.total)}.")


ACTS: dict[str, type[InvoiceAct]] = {"add-line": AddLine, "refresh": Refresh, "issue": Issue}


def line_urls(inside: Any) -> list[URLPattern]:
    return [path("<int:pk>/lines/<int:line>/remove/", inside(RemoveLine.as_view()), name="invoice_remove_line")]
