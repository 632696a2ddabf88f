"""Collecting with Stripe: handing an invoice over, charging again, and how a customer pays."""

from datetime import datetime
from typing import Any, Self

from ninja import Router
from pydantic import Field

from billing_admin.api.endpoints import ApiRequest, endpoint
from billing_admin.api.finding import find_customer, find_invoice
from billing_admin.api.invoices import InvoiceOut
from billing_admin.api.shapes import Answer, Id
from billing_admin.api.stripe import USE, require_stripe
from billing_admin.flows.stripe_anew import collect_with_stripe, retry
from billing_admin.flows.stripe_methods import label_of, link_to_save
from billing_admin.flows.stripe_settings import NotConnected
from billing_admin.stripe_provider import pass_on
from catalog.after import after_commit
from invoicing.models import Invoice
from payments.models import StripeAccount, StripeCustomer

router = Router(tags=["Stripe"])

VIEW = "payments.view_stripecustomer"


class PaymentMethodOut(Answer):
    id: str = Field(examples=["pm_1PgafyLkdIwHu7ix"])
    type: str = Field(examples=["card"], description="Stripe's word for the kind.")
    label: str = Field(examples=["Visa ·· 4242"])
    brand: str
    last4: str
    expires: str = Field(examples=["12/2027"], description="Empty where it does not expire.")
    is_default: bool = Field(description="Invoices are charged to it.")

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Self:
        return cls(
            id=kept["id"],
            type=kept["type"],
            label=label_of(kept),
            brand=str(kept.get("brand") or ""),
            last4=str(kept.get("last4") or ""),
            expires=str(kept.get("expires") or ""),
            is_default=bool(kept.get("default")),
        )


class PaymentMethodsOut(Answer):
    data: list[PaymentMethodOut]


class SaveLinkOut(Answer):
    url: str = Field(description="Send it to the customer: there they save a card or a bank account.")
    expires_at: datetime


@endpoint(router, "POST", "/invoices/{invoice_id}/collect", needs=USE, gives=InvoiceOut, refuses=[404, 409])
def collect_invoice(request: ApiRequest, invoice_id: Id) -> InvoiceOut:
    """Hand an open invoice to Stripe.

    Only needed for one that was issued before Stripe was connected, or whose customer is not collected by itself. It
    happens at once after the answer, which says `waiting`.
    """
    require_stripe()
    account = StripeAccount.present()
    if account is None:
        raise NotConnected
    collect_with_stripe(find_invoice(invoice_id), actor=request.auth.actor, now=request.now, account=account)
    return _handed_on(find_invoice(invoice_id))


@endpoint(router, "POST", "/invoices/{invoice_id}/retry", needs=USE, gives=InvoiceOut, refuses=[404, 409])
def retry_invoice(request: ApiRequest, invoice_id: Id) -> InvoiceOut:
    """Charge a declined invoice again now, or try a parked one again; at once after the answer."""
    require_stripe()
    retry(find_invoice(invoice_id), actor=request.auth.actor, now=request.now)
    return _handed_on(find_invoice(invoice_id))


def _handed_on(invoice: Invoice) -> InvoiceOut:
    after_commit(pass_on, invoice.public_id)
    return InvoiceOut.of(invoice)


@endpoint(
    router, "POST", "/customers/{customer_id}/payment-method-link", needs=USE, gives=SaveLinkOut, refuses=[404, 409]
)
def link_to_save_payment_method(request: ApiRequest, customer_id: Id) -> SaveLinkOut:
    """Make a link on which a customer saves a card or a bank account. Anybody who has it may use it for 7 days."""
    require_stripe()
    made = link_to_save(find_customer(customer_id), request.now)
    return SaveLinkOut(url=made.url, expires_at=made.until)


@endpoint(router, "GET", "/customers/{customer_id}/payment-methods", needs=VIEW, gives=PaymentMethodsOut, refuses=[404])
def list_payment_methods(request: ApiRequest, customer_id: Id) -> PaymentMethodsOut:
    """The saved ways to pay of a customer, as they were seen last; the one that is charged comes first."""
    require_stripe()
    row = StripeCustomer.objects.linked().filter(customer=find_customer(customer_id)).first()
    return PaymentMethodsOut(data=[PaymentMethodOut.of(kept) for kept in row.payment_methods] if row else [])
