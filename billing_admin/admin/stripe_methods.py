"""How a customer pays, on their page: saved ways to pay, the link to save one, how invoices are collected, the link
with Stripe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from smtplib import SMTPException
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet, Subquery
from django.http import Http404, HttpRequest

from billing_admin.access import allowed
from billing_admin.admin.acts import CustomerAct, moment
from billing_admin.admin.links import link
from billing_admin.admin.stripe_collection import USE, WithKeys, in_dashboard
from billing_admin.flows.stripe_account import failing
from billing_admin.flows.stripe_anew import StripeIsAway
from billing_admin.flows.stripe_customers import refresh_customer
from billing_admin.flows.stripe_methods import (
    SaveLink,
    charge_to,
    choose_collection,
    label_of,
    link_to_save,
    remove_method,
)
from billing_admin.site import page
from customers.journal import record
from customers.models import Customer
from invoicing.mail import mail_link_to_save
from payments.gateway import NotAllowed, StripeTrouble, Unreachable, enabled, in_a_hurry, livemode
from payments.models import Method, StripeAccount, StripeCustomer

VIEW = "payments.view_stripecustomer"
HOW = {
    Method.CHARGE: "Charges the saved payment method",
    Method.SEND: "Sends an invoice to pay",
    Method.NONE: "Not with Stripe",
}
BELOW = "customers/customer/<str:key>/stripe/"


def with_payment() -> "QuerySet[Customer]":
    """Customers with what Stripe has of them, and how the account collects; plainly so without keys."""
    if not enabled():
        return Customer.objects.all()
    account = Subquery(StripeAccount.objects.values("method")[:1])
    return Customer.objects.select_related("stripe").annotate(account_method=account)


# The panel ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A saved way to pay, with what can be done with it."""

    label: str
    expires: str
    is_default: bool
    default_url: str = ""
    remove_url: str = ""


@dataclass(frozen=True, slots=True)
class PaymentPanel:
    methods: tuple[MethodRow, ...]
    how: str
    stripe_id: str = ""
    dashboard_url: str = ""
    linked: str = ""
    behind: str = ""
    add_url: str = ""
    how_url: str = ""
    refresh_url: str = ""
    is_test: bool = False


def read_payment(customer: Customer, request: HttpRequest) -> PaymentPanel | None:
    """For a customer out of `with_payment`; None without keys."""
    if not enabled() or not allowed(request, VIEW):
        return None
    row: StripeCustomer | None = getattr(customer, "stripe", None)
    if row is not None and row.deleted_at is not None:
        row = None
    may = allowed(request, USE) and customer.closed_at is None
    chosen = row.method if row else ""
    how = HOW.get(Method(chosen or getattr(customer, "account_method", None) or Method.CHARGE), "")
    return PaymentPanel(
        methods=tuple(_methods(customer, row, may=may)) if row else (),
        how=how if chosen else f"{how}, as the account",
        stripe_id=row.stripe_id if row else "",
        dashboard_url=in_dashboard("customers", row.stripe_id) if row else "",
        linked=_linked(row) if row else "",
        behind=behind(row, customer) if row else "",
        add_url=link("customer_payment_link", customer.pk) if may else "",
        how_url=link("customer_collection", customer.pk) if may else "",
        refresh_url=link("customer_stripe_refresh", customer.pk) if may and row else "",
        is_test=not livemode(),
    )


def _methods(customer: Customer, row: StripeCustomer, *, may: bool) -> Iterator[MethodRow]:
    for method in row.payment_methods:
        is_default = bool(method.get("default"))
        yield MethodRow(
            label_of(method),
            str(method.get("expires") or ""),
            is_default,
            link("customer_method_default", customer.pk, method["id"]) if may and not is_default else "",
            link("customer_method_remove", customer.pk, method["id"]) if may else "",
        )


def _linked(row: StripeCustomer) -> str:
    how = str(row.get_linked_by_display()).lower()
    return how if row.linked_by == StripeCustomer.Link.CREATED else f"linked {how}"


def behind(row: StripeCustomer, customer: Customer) -> str:
    """What Stripe does not know of this customer yet, and why not; empty when it knows everything."""
    pairs = [
        ("name", row.sent_name, customer.name),
        ("e-mail", row.sent_email, customer.email),
        ("customer id", row.sent_id, customer.customer_id),
    ]
    stale = [what for what, sent, ours in pairs if sent != ours]
    if not stale or customer.erased_at is not None:
        return ""
    said = f"Stripe does not know the new {' and '.join(stale)} yet"
    if not row.problem:
        return f"{said}; it is told within minutes."
    return f"{said}: {row.problem} Tried {row.attempts} times{_when(row.next_attempt_at)}."


def _when(at: datetime | None) -> str:
    return f", next on {at.day} {at:%b %Y, %H:%M} UTC" if at else ""


# The acts -------------------------------------------------------------------------------------------------------------


class PaymentAct(WithKeys, CustomerAct):
    """An act on how one customer pays."""

    permission = USE

    @cached_property
    def row(self) -> StripeCustomer:
        found: StripeCustomer | None = StripeCustomer.objects.linked().filter(customer=self.customer).first()
        if found is None:
            raise Http404("This customer is not in Stripe.")
        return found

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Stripe is asked while a person waits: its trouble becomes a sentence on the form."""
        try:
            with in_a_hurry():
                yield
        except StripeTrouble as trouble:
            if isinstance(trouble, Unreachable | NotAllowed):
                failing(trouble, moment(self.request))
            raise StripeIsAway(trouble) from trouble


class AskForMethod(PaymentAct):
    submit = "Send it by e-mail"
    act_template = "stripe/ask_for_method.html"

    def get_title(self) -> str:
        return f"A link for {self.customer.name} to save a payment method"

    @cached_property
    def save_link(self) -> SaveLink | None:
        try:
            return link_to_save(self.customer, moment(self.request))
        except ValidationError:
            return None

    def get_outcome(self) -> str:
        if self.save_link is None:
            return "There is no link yet: STRIPE_PUBLISHABLE_KEY is not set, and the page needs it."
        until = self.save_link.until
        who = self.customer.email or "nobody: there is no e-mail address, so copy the link"
        valid = f"The link is valid until {until.day} {until:%b %Y}"
        return f"It goes to {who}. {valid}; what is saved is charged from then on."

    def extra(self) -> dict[str, Any]:
        return {"save_link": self.save_link}

    def act(self, form: forms.Form) -> str:
        now = moment(self.request)
        made = link_to_save(self.customer, now)
        try:
            sent = mail_link_to_save(self.customer, made.url, made.until)
        except (SMTPException, OSError) as error:
            raise ValidationError("The mail server did not take it. Copy the link instead.", code="no_mail") from error
        if not sent:
            raise ValidationError("There is no e-mail address to send it to. Copy the link.", code="no_email")
        said = "Sent the link to save a payment method"
        record(self.customer, "payment_method.asked", said, actor=self.actor, now=now)
        return self.back()


class MethodAct(PaymentAct):
    @property
    def method(self) -> str:
        return str(self.kwargs["method"])

    @property
    def label(self) -> str:
        found = next((m for m in self.row.payment_methods if m["id"] == self.method), None)
        if found is None:
            raise Http404("This payment method is not saved any more.")
        return label_of(found)


class MakeDefault(MethodAct):
    def get_title(self) -> str:
        return f"Charge {self.label}"

    def get_outcome(self) -> str:
        who, label = self.customer.name, self.label
        return f"Invoices of {who} are charged to {label} from now on; those that were declined, at once."

    def act(self, form: forms.Form) -> str:
        with self.asking():
            charge_to(self.row, self.method, actor=self.actor, now=moment(self.request))
        return self.back()


class RemoveMethod(MethodAct):
    danger = True

    def get_title(self) -> str:
        return f"Remove {self.label}"

    def get_outcome(self) -> str:
        last = len(self.row.payment_methods) == 1
        after = " Invoices then wait until another one is saved." if last else ""
        return f"{self.label} is removed in Stripe as well, and only the customer can save it again.{after}"

    def act(self, form: forms.Form) -> str:
        with self.asking():
            remove_method(self.row, self.method, actor=self.actor, now=moment(self.request))
        return self.back()


class CollectionForm(forms.Form):
    method = forms.ChoiceField(label="Coming invoices", required=False, widget=forms.RadioSelect)

    def __init__(self, *args: Any, account_does: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["method"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", f"As the account: {account_does.lower()}"), *Method.choices]


class ChooseCollection(PaymentAct):
    title = "How invoices are collected"
    submit = "Save"
    form_class = CollectionForm
    outcome = (
        "It holds for invoices from now on; those that are under way go on as they are. Invoices with days to pay are "
        "always sent."
    )

    def get_form_kwargs(self) -> dict[str, Any]:
        account = StripeAccount.present()
        does = Method(account.method if account else Method.CHARGE).label
        return {**super().get_form_kwargs(), "account_does": does}

    def get_initial(self) -> dict[str, Any]:
        row = StripeCustomer.objects.linked().filter(customer=self.customer).first()
        return {"method": row.method if row else ""}

    def act(self, form: CollectionForm) -> str:
        with self.asking():
            choose_collection(self.customer, form.cleaned_data["method"], actor=self.actor, now=moment(self.request))
        return self.back()


class RefreshCustomer(PaymentAct):
    submit = "Refresh"

    def get_title(self) -> str:
        return f"Refresh {self.customer.name} from Stripe"

    def get_outcome(self) -> str:
        return "What Stripe has now stands here: saved payment methods, name and e-mail, or that it was deleted there."

    def act(self, form: forms.Form) -> str:
        with self.asking():
            refresh_customer(self.row.stripe_id, moment(self.request))
        return self.back()


page(f"{BELOW}payment-link/", name="customer_payment_link")(AskForMethod.as_view())
page(f"{BELOW}collection/", name="customer_collection")(ChooseCollection.as_view())
page(f"{BELOW}refresh/", name="customer_stripe_refresh")(RefreshCustomer.as_view())
page(f"{BELOW}methods/<str:method>/default/", name="customer_method_default")(MakeDefault.as_view())
page(f"{BELOW}methods/<str:method>/remove/", name="customer_method_remove")(RemoveMethod.as_view())
