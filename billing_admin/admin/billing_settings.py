"""How the account bills: one page of settings; and the terms that one contract has of its own, as a dialog."""

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, link
from billing_admin.flows.contract_terms import BadTerm, ContractTerms, change_contract_terms
from billing_admin.pages import ActPage
from billing_admin.site import page
from customers.journal import Actor
from customers.models import Subscription
from invoicing.account import BadSetting, change_settings
from invoicing.models import BillingSettings

CHANGE = "invoicing.change_billingsettings"
TERMS = "customers.change_subscription"
SECTIONS = {
    "First invoices": ("payment_window_hours", "approve_first_invoices"),
    "Invoices": ("net_terms_days", "grace_hours", "send_invoices"),
    "Overdue invoices": ("retry_days",),
    "Bounds of a run": ("most_lines", "most_growth"),
    "Letterhead": (
        "company_name",
        "company_address",
        "company_tax_number",
        "payment_instructions",
        "invoice_footer",
    ),
}


class RetryDays(forms.CharField):
    """`3, 7, 14, 21` as a list of whole numbers."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        days = [day.strip() for day in text.replace(";", ",").split(",") if day.strip()]
        if not all(day.isascii() and day.isdigit() and len(day) < 6 for day in days):
            raise ValidationError("Write days as whole numbers with commas between them: 3, 7, 14, 21.")
        return [int(day) for day in days]


class SettingsForm(forms.Form):
    payment_window_hours = forms.IntegerField(
        label="Payment window (hours)",
        help_text="An unpaid first invoice is void after so long; its plan never starts.",
    )
    approve_first_invoices = forms.BooleanField(
        label="First invoices wait for somebody's approval", required=False, help_text="Each is a draft until then."
    )
    net_terms_days = forms.IntegerField(
        label="Net terms (days)",
        help_text="Days to pay. 0: due at once. Above 0 no plan waits for its first payment.",
    )
    grace_hours = forms.IntegerField(
        label="Grace for late use (hours)", help_text="So long an invoice with use stays a draft and takes late events."
    )
    send_invoices = forms.BooleanField(
        label="Mail every issued document to its customer",
        required=False,
        help_text="With its link, in the customer's language.",
    )
    retry_days = RetryDays(
        label="Ask again after (days)",
        help_text="Days after the due date. After the last one the invoice is given up and the contract ends unpaid.",
    )
    most_lines = forms.IntegerField(
        label="Most lines", help_text="A renewal with more lines is parked until somebody has looked at it."
    )
    most_growth = forms.IntegerField(
        label="Most times the last total", help_text="So is one whose total is beyond so many times the last."
    )
    company_name = forms.CharField(label="Company", max_length=200, required=False)
    company_address = forms.CharField(
        label="Address", max_length=1_000, required=False, widget=forms.Textarea(attrs={"rows": 3})
    )
    company_tax_number = forms.CharField(label="Tax number", max_length=40, required=False)
    payment_instructions = forms.CharField(
        label="How to pay by transfer",
        max_length=1_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Bank and account number. Customers read it while something is due, with the invoice's number.",
    )
    invoice_footer = forms.CharField(
        label="Footer",
        max_length=1_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Under every invoice: the register, who manages the company, a thank-you.",
    )

    @property
    def sections(self) -> list[tuple[str, list[forms.BoundField]]]:
        return [(title, [self[name] for name in names]) for title, names in SECTIONS.items()]


class BillingSettingsPage(ActPage):
    permission: str | tuple[str, ...] = "invoicing.view_billingsettings"
    form_class = SettingsForm
    title = "Billing settings"
    submit = "Save settings"
    outcome = "Settings hold for what happens from now on; documents that exist stay as they are."
    page_template = "settings/billing.html"

    @property
    def may_change(self) -> bool:
        return allowed(self.request, CHANGE)

    def get_initial(self) -> dict[str, Any]:
        account = BillingSettings.present()
        return {name: getattr(account, name) for names in SECTIONS.values() for name in names}

    def get_form(self, form_class: Any = None) -> forms.BaseForm:
        form: forms.BaseForm = super().get_form(form_class)
        for field in form.fields.values():
            field.disabled = not self.may_change
        return form

    def back(self) -> str:
        return link("invoicing_billingsettings_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [(self.title, "")]

    def extra(self) -> dict[str, Any]:
        return {"may_change": self.may_change}

    def act(self, form: SettingsForm) -> str:
        actor = Actor.of(self.request.user)
        try:
            change_settings(**form.cleaned_data, actor=actor, now=moment(self.request))
        except BadSetting as refused:
            raise ValidationError({refused.field: refused.messages}) from refused
        messages.success(self.request, "The settings are saved.")
        return self.back()


class ChangeBillingSettings(BillingSettingsPage):
    """What the form posts to: looking takes less than saving."""

    permission = CHANGE


@admin.register(BillingSettings)
class BillingSettingsAdmin(ModelAdmin):
    """The frame around the one page."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        look, save = BillingSettingsPage.as_view(http_method_names=["get"]), ChangeBillingSettings.as_view()
        return [
            path("", inside(look), name="invoicing_billingsettings_changelist"),
            path("save/", inside(save), name="billing_settings_save"),
        ]


# Terms of one contract ------------------------------------------------------------------------------------------------


APPROVAL = {"": "As the account does", "yes": "Wait for approval", "no": "Go out at once"}
SAID: dict[str, bool | None] = {"": None, "yes": True, "no": False}


class TermsForm(forms.Form):
    net_terms_days = forms.IntegerField(
        label="Net terms (days)", required=False, help_text="Days to pay; above 0 no first payment is waited for."
    )
    payment_window_hours = forms.IntegerField(label="Payment window (hours)", required=False)
    approve_first_invoice = forms.ChoiceField(
        label="Its first invoice", choices=list(APPROVAL.items()), required=False, widget=forms.RadioSelect
    )
    reason = forms.CharField(max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, account: BillingSettings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("net_terms_days", "payment_window_hours"):
            self.fields[name].widget.attrs["placeholder"] = f"{getattr(account, name)}, as the account"


class ChangeTerms(ActPage):
    permission = TERMS
    form_class = TermsForm
    submit = "Save terms"
    outcome = "Empty is as the account does. It holds for invoices from now on; open ones keep their due date."

    @cached_property
    def subscription(self) -> Subscription:
        rows = Subscription.objects.select_related("customer", "product")
        found = rows.filter(public_id=self.kwargs["public_id"]).first()
        if found is None:
            raise Http404("There is no such subscription.")
        return found

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "account": BillingSettings.present()}

    def get_title(self) -> str:
        return f"Billing terms of {self.subscription.product.name}"

    def get_initial(self) -> dict[str, Any]:
        held = ContractTerms.of(self.subscription)
        approval = next(word for word, value in SAID.items() if value is held.approve_first_invoice)
        return {
            "net_terms_days": held.net_terms_days,
            "payment_window_hours": held.payment_window_hours,
            "approve_first_invoice": approval,
        }

    def back(self) -> str:
        return customer_link(self.subscription.customer_id)

    def trail(self) -> list[tuple[str, str]]:
        customers = link("customers_customer_changelist")
        return [("Customers", customers), (self.subscription.customer.name, self.back()), (self.get_title(), "")]

    def act(self, form: TermsForm) -> str:
        said = form.cleaned_data
        wanted = ContractTerms(
            said["net_terms_days"], said["payment_window_hours"], SAID[said["approve_first_invoice"]]
        )
        actor, now = Actor.of(self.request.user), moment(self.request)
        try:
            change_contract_terms(self.subscription, wanted, reason=said["reason"], actor=actor, now=now)
        except BadTerm as refused:
            raise ValidationError({refused.field: refused.messages}) from refused
        messages.success(self.request, "The terms hold for invoices from now on.")
        return self.back()


page("contract-terms/<str:public_id>/", name="contract_terms")(ChangeTerms.as_view())
