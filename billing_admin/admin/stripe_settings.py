"""Stripe for staff: the account that the keys belong to, how it collects, and what waits for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import F, Sum
from django.http import HttpRequest, HttpResponse

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.stripe_collection import USE, WithKeys, in_dashboard, require_keys, word_of
from billing_admin.admin.stripe_methods import behind
from billing_admin.flows.stripe_settings import BadStripeSetting, change_account, check_connection, try_all_again
from billing_admin.pages import ActPage, render_page
from billing_admin.site import page
from catalog.money import format_minor
from customers.journal import Actor
from payments.gateway import livemode
from payments.models import Method, StripeAccount, StripeCredit, StripeCustomer, StripeInvoice
from payments.words import STANDINGS

VIEW = "payments.view_stripeaccount"
CHANGE = "payments.change_stripeaccount"
BACKLOG = "payments.view_stripeinvoice"
A_PAGE = 50
MEANS = {
    Method.CHARGE: "the saved card or bank account is charged when an invoice is issued; without one it waits on "
    "Stripe's page",
    Method.SEND: "nothing is charged by itself; the customer pays on Stripe's page until it is due",
    Method.NONE: "only invoices that somebody hands over, or whose customer is set to it, go to Stripe",
}


# Settings -------------------------------------------------------------------------------------------------------------


class AccountForm(forms.Form):
    method = forms.ChoiceField(
        label="New invoices",
        choices=[(method.value, f"{method.label}: {MEANS[method]}") for method in Method],
        widget=forms.RadioSelect,
    )
    auto_advance = forms.BooleanField(
        label="Stripe retries failed payments by its own rules",
        required=False,
        help_text="Off: a declined payment is tried again on the days of the billing settings. "
        "On: Stripe decides when, and may send its own mails.",
    )
    link_key = forms.CharField(
        label="Metadata key",
        max_length=40,
        help_text="Under this key a customer in Stripe carries the customer id from here; an import links by it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class StripeSettingsPage(WithKeys, ActPage):
    permission: str | tuple[str, ...] = VIEW
    form_class = AccountForm
    title = "Stripe settings"
    submit = "Save settings"
    outcome = "It holds for invoices that are handed over from now on; those that are under way stay as they are."
    page_template = "stripe/settings.html"

    @property
    def may_change(self) -> bool:
        return allowed(self.request, CHANGE) and self.account is not None

    @property
    def account(self) -> StripeAccount | None:
        if not hasattr(self, "_account"):
            self._account = StripeAccount.present()
        return self._account

    def get_initial(self) -> dict[str, Any]:
        account = self.account or StripeAccount()
        return {name: getattr(account, name) for name in ("method", "auto_advance", "link_key")}

    def get_form(self, form_class: Any = None) -> forms.BaseForm:
        form: forms.BaseForm = super().get_form(form_class)
        for field in form.fields.values():
            field.disabled = not self.may_change
        return form

    def back(self) -> str:
        return link("stripe_settings")

    def trail(self) -> list[tuple[str, str]]:
        return [(self.title, "")]

    def extra(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "is_test": not livemode(),
            "may_change": self.may_change,
            "check_url": link("stripe_check") if allowed(self.request, USE) else "",
            "backlog_url": link("stripe_backlog") if allowed(self.request, BACKLOG) else "",
            "has_publishable": bool(settings.STRIPE_PUBLISHABLE_KEY),
            "has_webhooks": bool(settings.STRIPE_WEBHOOK_SECRET),
            "webhook_url": f"{settings.PUBLIC_URL}/stripe/webhook",
            "dashboard_url": in_dashboard("", "").rstrip("/"),
        }

    def act(self, form: AccountForm) -> str:
        try:
            change_account(**form.cleaned_data, actor=Actor.of(self.request.user), now=moment(self.request))
        except BadStripeSetting as refused:
            raise ValidationError({refused.field: refused.messages}) from refused
        messages.success(self.request, "The settings are saved.")
        return self.back()


class ChangeStripeSettings(StripeSettingsPage):
    """What the form posts to: looking takes less than saving."""

    permission = CHANGE


class CheckConnection(WithKeys, ActPage):
    permission = USE
    title = "Check the connection"
    submit = "Ask Stripe now"
    outcome = "Stripe is asked whose keys these are; nothing changes there."

    def back(self) -> str:
        return link("stripe_settings")

    def act(self, form: forms.Form) -> str:
        account = check_connection(moment(self.request))
        messages.success(self.request, f"Stripe answered: the keys are those of {account}.")
        return self.back()


# The backlog ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """Something that waits for Stripe; `amount` is ready to be read."""

    what: str
    url: str
    customer: str
    customer_url: str
    amount: str
    state: str
    tone: str
    since: datetime
    tried: int
    next_at: datetime | None
    problem: str


@requires(BACKLOG)
def backlog(request: HttpRequest) -> HttpResponse:
    """What has a next step with Stripe: in the order in which it is due."""
    require_keys()
    now = moment(request)
    invoices = StripeInvoice.objects.waiting().select_related("invoice__customer")
    credits = StripeCredit.objects.filter(next_attempt_at__isnull=False).select_related("note__customer")
    shown_invoices = list(invoices.order_by("next_attempt_at", "id")[: A_PAGE + 1])
    shown_credits = list(credits.order_by("next_attempt_at", "id")[: A_PAGE + 1])
    customers = list(StripeCustomer.objects.out_of_step().exclude(problem="").select_related("customer")[:A_PAGE])
    account = StripeAccount.present()
    return render_page(
        request,
        "stripe/backlog.html",
        trail=[("Backlog", "")],
        invoices=[_invoice_row(row) for row in shown_invoices[:A_PAGE]],
        credits=[_credit_row(row) for row in shown_credits[:A_PAGE]],
        customers=[(row, customer_link(row.customer_id or 0), behind(row, row.customer)) for row in customers],
        has_more=max(len(shown_invoices), len(shown_credits)) > A_PAGE,
        sums=list(_sums()) if shown_invoices else [],
        account=account,
        now=now,
        retry_url=link("stripe_try_all") if allowed(request, USE) else "",
        parked_url=link("invoicing_invoice_changelist", collection="parked"),
        failed=any(row.attempts for row in (*shown_invoices, *shown_credits, *customers)),
    )


def _invoice_row(row: StripeInvoice) -> WaitingRow:
    invoice = row.invoice
    return WaitingRow(
        str(invoice),
        invoice_link(invoice.pk),
        invoice.customer.name,
        customer_link(invoice.customer_id),
        format_minor(invoice.due, invoice.currency),
        word_of(row),
        STANDINGS[row.state].tone,
        row.queued_at,
        row.attempts,
        row.next_attempt_at,
        row.problem,
    )


def _credit_row(row: StripeCredit) -> WaitingRow:
    note = row.note
    return WaitingRow(
        str(note),
        invoice_link(note.pk),
        note.customer.name,
        customer_link(note.customer_id),
        format_minor(row.amount, note.currency),
        row.get_state_display(),
        "wait",
        row.queued_at,
        row.attempts,
        row.next_attempt_at,
        row.problem,
    )


def _sums() -> Iterator[str]:
    """How much money waits, by currency."""
    due = F("invoice__total") - F("invoice__credit_applied") - F("invoice__offset") - F("invoice__paid")
    rows = StripeInvoice.objects.waiting().filter(invoice__state="open").order_by().values("invoice__currency")
    for row in rows.annotate(due=Sum(due)).order_by("invoice__currency"):
        yield format_minor(row["due"], row["invoice__currency"])


class TryAllAgain(WithKeys, ActPage):
    permission = USE
    title = "Try all again now"
    submit = "Try all again"
    outcome = "Everything that failed to reach Stripe is tried by the next pass of a worker, within a minute."

    def back(self) -> str:
        return link("stripe_backlog")

    def act(self, form: forms.Form) -> str:
        number = try_all_again(actor=Actor.of(self.request.user), now=moment(self.request))
        said = f"{number:,} are tried again within a minute." if number else "Nothing had failed: all has its time."
        messages.success(self.request, said)
        return self.back()


page("stripe/settings/", name="stripe_settings", methods=("GET",))(StripeSettingsPage.as_view())
page("stripe/settings/save/", name="stripe_settings_save")(ChangeStripeSettings.as_view())
page("stripe/settings/check/", name="stripe_check")(CheckConnection.as_view())
page("stripe/backlog/", name="stripe_backlog", methods=("GET",))(backlog)
page("stripe/backlog/retry/", name="stripe_try_all")(TryAllAgain.as_view())
