"""Stripe as a provider of invoicing: the page on which a document can be paid, and word of each new one."""

from invoicing.models import BillingSettings, Invoice
from invoicing.providers import LISTENERS, PROVIDERS, Way
from payments.gateway import enabled
from payments.models import StripeInvoice

State = StripeInvoice.State
# While one of these holds, the customer can pay on Stripe's page.
PAYABLE = (State.WAITING, State.NEEDS_METHOD, State.SENT, State.ACTION, State.DECLINED)


def register() -> None:
    PROVIDERS["stripe"] = page_to_pay
    LISTENERS.append(pass_on)


def page_to_pay(invoice: Invoice, account: BillingSettings) -> Way | None:
    """Stripe's own page for an invoice that it asks for; none without keys."""
    row = StripeInvoice.objects.filter(invoice=invoice).first() if enabled() else None
    if row is None or not row.hosted_url or row.status != "open" or row.state not in PAYABLE:
        return None
    return Way("stripe", url=row.hosted_url, reference=row.number)


def pass_on(public_id: str) -> None:
    """Let a worker take the next step at once; without one, the next pass does."""
    if enabled():
        from billing_admin.tasks import collect_invoice  # Celery takes memory that web processes need only here

        collect_invoice.apply_async([public_id], retry=False)
