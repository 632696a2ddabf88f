"""Acts on who a customer is: new, change a detail, add a note, delete with its guards, reopen."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.flows.customers import (
    Blocker,
    DeletionBlocked,
    Refused,
    close_customer,
    create_customer,
    deletion_blockers,
    reopen_customer,
    update_customer,
)
from billing_admin.flows.details import add_note
from billing_admin.flows.stripe_delete import delete_everywhere, in_stripe
from billing_admin.pages import ActPage, render_page
from customers.journal import Actor
from customers.models import CUSTOMER_ID, Customer
from invoicing.models import Invoice
from payments.gateway import in_a_hurry

TEXT = {"autocomplete": "off"}
LOCALES = {
    "en_US": "English (United States)",
    "en_GB": "English (United Kingdom)",
    "de_DE": "German (Germany)",
    "de_AT": "German (Austria)",
    "de_CH": "German (Switzerland)",
    "fr_FR": "French (France): English words, French numbers",
    "es_ES": "Spanish (Spain): English words, Spanish numbers",
    "it_IT": "Italian (Italy): English words, Italian numbers",
    "nl_NL": "Dutch (Netherlands): English words, Dutch numbers",
    "ja_JP": "Japanese (Japan): English words, Japanese numbers",
}


def at_its_field(refused: Refused, name: str = "") -> ValidationError:
    """A refusal that names a field, as forms want it."""
    return ValidationError({name or refused.field: refused.messages})


# New ----------------------------------------------------------------------------------------------------------------


class NewCustomerForm(forms.Form):
    name = forms.CharField(max_length=200, widget=forms.TextInput(attrs={**TEXT, "autofocus": True}))
    customer_id = forms.CharField(
        label="Customer id",
        max_length=120,
        validators=[CUSTOMER_ID],
        help_text="The id that your application uses.",
        widget=forms.TextInput(attrs={**TEXT, "spellcheck": "false"}),
    )
    email = forms.EmailField(label="E-mail", required=False, widget=forms.EmailInput(attrs=TEXT))


class NewCustomer(ActPage):
    permission = "customers.add_customer"
    title = "New Customer"
    submit = "Create customer"
    form_class = NewCustomerForm

    def act(self, form: NewCustomerForm) -> str:
        try:
            customer = create_customer(**form.cleaned_data, actor=Actor.of(self.request.user), now=moment(self.request))
        except Refused as refused:
            raise at_its_field(refused) from refused
        return customer_link(customer.pk)

    def back(self) -> str:
        return link("customers_customer_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Customers", self.back()), (self.title, "")]


# Details ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Detail:
    """One field of the sidebar that a click opens."""

    label: str
    make: Callable[[Customer], forms.Field]
    outcome: str = ""


def _name(customer: Customer) -> forms.Field:
    return forms.CharField(label="Name", max_length=200, initial=customer.name, widget=forms.TextInput(attrs=TEXT))


def _email(customer: Customer) -> forms.Field:
    widget = forms.EmailInput(attrs=TEXT)
    return forms.EmailField(label="E-mail", required=False, initial=customer.email, widget=widget)


def _customer_id(customer: Customer) -> forms.Field:
    return forms.CharField(
        label="Customer id",
        max_length=120,
        validators=[CUSTOMER_ID],
        initial=customer.customer_id,
        widget=forms.TextInput(attrs={**TEXT, "spellcheck": "false"}),
    )


def _billing_address(customer: Customer) -> forms.Field:
    widget = forms.Textarea(attrs={"rows": 4})
    return forms.CharField(
        label="Billing address",
        required=False,
        max_length=1_000,
        initial=customer.billing_address,
        widget=widget,
        help_text="As it stands on their invoices.",
    )


def _tax_number(customer: Customer) -> forms.Field:
    widget = forms.TextInput(attrs={**TEXT, "spellcheck": "false"})
    return forms.CharField(
        label="Tax number", required=False, max_length=40, initial=customer.tax_number, widget=widget
    )


def _locale(customer: Customer) -> forms.Field:
    known = {customer.locale: customer.locale} | LOCALES
    choices = [(code, words) for code, words in known.items()]
    return forms.ChoiceField(label="Language", choices=choices, initial=customer.locale)


def _usage_started_at(customer: Customer) -> forms.Field:
    at = customer.usage_started_at
    return forms.DateTimeField(
        label="Usage since (UTC)",
        required=False,
        initial=at.astimezone(UTC) if at else None,
        help_text="Empty: counted from the day the customer was created.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


DETAILS = {
    "name": Detail("name", _name),
    "email": Detail("e-mail", _email),
    "customer_id": Detail(
        "customer id", _customer_id, "Your application has to use the new id from then on; the old one is unknown."
    ),
    "billing_address": Detail("billing address", _billing_address),
    "tax_number": Detail("tax number", _tax_number),
    "locale": Detail("language", _locale, "Invoices and mails speak it; money and dates are written its way."),
    "usage_started_at": Detail(
        "start of usage",
        _usage_started_at,
        "Open windows of assigned and default plans move to the new day and their use is counted again. "
        "Closed windows stay.",
    ),
}


class DetailForm(forms.Form):
    reason = forms.CharField(
        label="Reason", required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, name: str, field: forms.Field, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = {name: field, **self.fields}


class EditDetail(CustomerAct):
    permission = "customers.change_customer"
    form_class = DetailForm

    @property
    def detail(self) -> Detail:
        found = DETAILS.get(self.kwargs["field"])
        if found is None:
            raise Http404("There is no such field.")
        return found

    def get_form_kwargs(self) -> dict[str, Any]:
        name = self.kwargs["field"]
        return {**super().get_form_kwargs(), "name": name, "field": self.detail.make(self.customer)}

    def get_title(self) -> str:
        return f"Change the {self.detail.label}"

    def get_submit(self) -> str:
        return f"Save {self.detail.label}"

    def get_outcome(self) -> str:
        return self.detail.outcome

    def act(self, form: DetailForm) -> str:
        said = dict(form.cleaned_data)
        reason = said.pop("reason")
        try:
            update_customer(self.customer, **said, reason=reason, actor=self.actor, now=moment(self.request))
        except Refused as refused:
            raise at_its_field(refused) from refused
        return self.back()


class NoteForm(forms.Form):
    text = forms.CharField(label="Note", widget=forms.Textarea(attrs={"rows": 4}))


class AddNote(CustomerAct):
    permission = "customers.add_note"
    title = "Add a note"
    submit = "Add note"
    form_class = NoteForm

    def act(self, form: NoteForm) -> str:
        add_note(self.customer, text=form.cleaned_data["text"], actor=self.actor, now=moment(self.request))
        return self.back()


# Settings: delete, reopen ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockerRow:
    """What stands in the way, with the page where it is settled."""

    sentence: str
    url: str
    action: str


def blocker_row(customer: Customer, blocker: Blocker) -> BlockerRow:
    if blocker.kind == "live_subscription":
        url = link("cancel_subscription", blocker.id) or customer_link(customer.pk)
        return BlockerRow(blocker.sentence, url, "Cancel it")
    if blocker.kind == "open_invoice":
        invoice = Invoice.objects.filter(public_id=blocker.id).only("pk").first()
        return BlockerRow(blocker.sentence, invoice_link(invoice.pk) if invoice else "", "Open the invoice")
    if blocker.kind == "wallet":
        return BlockerRow(blocker.sentence, link("wallet_pay_out", customer.pk), "Pay it out")
    if blocker.kind.startswith("stripe_"):
        return BlockerRow(blocker.sentence, customer_link(customer.pk), "See the customer")
    return BlockerRow(blocker.sentence, link("customer_credit", customer.pk), "See the credit")


@requires("customers.delete_customer")
def settings(request: HttpRequest, key: str) -> HttpResponse:
    """Behind the gear: the ids, and deletion with what has to be settled first."""
    customer = find_customer(key)
    blockers = deletion_blockers(customer, now=moment(request)) if not customer.closed_at else []
    return render_page(
        request,
        "customers/settings.html",
        trail=[
            ("Customers", link("customers_customer_changelist")),
            (customer.name, customer_link(customer.pk)),
            ("Settings", ""),
        ],
        customer=customer,
        blockers=[blocker_row(customer, blocker) for blocker in blockers],
        delete_url=link("customers_customer_delete", customer.pk),
        reopen_url=link("customer_reopen", customer.pk),
    )


class DeleteForm(forms.Form):
    confirm_name = forms.CharField(label="Name", widget=forms.TextInput(attrs=TEXT))
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs=TEXT))

    in_stripe = forms.BooleanField(
        label="Delete in Stripe too",
        required=False,
        help_text="Stripe forgets the saved ways to pay and never charges this customer again. It keeps payments and "
        "invoices on record. This cannot be undone there.",
    )

    def __init__(self, *args: Any, customer: Customer, asks_stripe: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["confirm_name"].label = f"Type {customer.name} to confirm"
        if not asks_stripe:
            del self.fields["in_stripe"]


class DeleteCustomer(CustomerAct):
    permission = "customers.delete_customer"
    form_class = DeleteForm
    danger = True
    act_template = "customers/delete.html"
    blockers: list[Blocker] | None = None

    def get_form_kwargs(self) -> dict[str, Any]:
        asks = allowed(self.request, "payments.use_stripe") and in_stripe(self.customer) is not None
        return {**super().get_form_kwargs(), "customer": self.customer, "asks_stripe": asks}

    def get_title(self) -> str:
        return f"Delete {self.customer.name}"

    def get_outcome(self) -> str:
        return (
            "The customer is closed and hidden at once, and what is free or assigned ends. After 30 days personal "
            "data is erased; until then it can be undone. Invoices stay."
        )

    def back(self) -> str:
        return link("customer_settings", self.customer.pk)

    def extra(self) -> dict[str, Any]:
        found = self.blockers
        if found is None and not self.customer.closed_at:
            found = deletion_blockers(self.customer, now=moment(self.request))
        return {"blockers": [blocker_row(self.customer, blocker) for blocker in found or []]}

    def act(self, form: DeleteForm) -> str:
        try:
            said = dict(form.cleaned_data)
            if said.pop("in_stripe", False):
                with in_a_hurry():
                    delete_everywhere(self.customer, **said, actor=self.actor, now=moment(self.request))
            else:
                close_customer(self.customer, **said, actor=self.actor, now=moment(self.request))
        except Refused as refused:
            raise at_its_field(refused) from refused
        except DeletionBlocked as blocked:
            self.blockers = list(blocked.blockers)
            raise ValidationError("Settle what is listed first.", code="deletion_blocked") from blocked
        messages.success(self.request, f"{self.customer.name} is closed. Personal data is erased after 30 days.")
        return customer_link(self.customer.pk)


class ReopenForm(forms.Form):
    reason = forms.CharField(label="Reason", required=False, max_length=500, widget=forms.TextInput(attrs=TEXT))


class ReopenCustomer(CustomerAct):
    permission = "customers.delete_customer"
    form_class = ReopenForm
    submit = "Reopen customer"
    outcome = "The customer shows again and nothing is erased. What ended stays ended."

    def get_title(self) -> str:
        return f"Reopen {self.customer.name}"

    def act(self, form: ReopenForm) -> str:
        reopen_customer(self.customer, **form.cleaned_data, actor=self.actor, now=moment(self.request))
        return self.back()
