"""Stripe as a provider of invoicing: the page on which a document can be paid, and word of each new one."""

from django.conf import settings
from django.urls import reverse

from invoicing.models import BillingSettings, Invoice
from invoicing.providers import FAILURES, LISTENERS, PROVIDERS, Way
from payments.gateway import enabled
from payments.models import Method, StripeInvoice

State = StripeInvoice.State
# While one of these holds, the customer can pay on Stripe's page.
PAYABLE = (State.WAITING, State.NEEDS_METHOD, State.SENT, State.ACTION, State.DECLINED)
# What the customer saves then is charged at once.
SAVABLE = (State.NEEDS_METHOD, State.ACTION, State.DECLINED)


def register() -> None:
    PROVIDERS["stripe"] = page_to_pay
    LISTENERS.append(pass_on)


def page_to_pay(invoice: Invoice, account: BillingSettings) -> Way | None:
    """Stripe's own page for an invoice that it asks for; none without keys."""
    row = StripeInvoice.objects.filter(invoice=invoice).first() if enabled() else None
    if row is None or not row.hosted_url or row.status != "open" or row.state not in PAYABLE:
        return None
    saves = row.method == Method.CHARGE and row.state in SAVABLE and bool(settings.STRIPE_PUBLISHABLE_KEY)
    return Way(
        "stripe",
        url=row.hosted_url,
        reference=row.number,
        failed=failure_of(row),
        save_url=reverse("hosted_method_of_document", args=[invoice.token]) if saves else "",
        has_saved=row.state != State.NEEDS_METHOD,
    )


def failure_of(row: StripeInvoice) -> str:
    """Why it could not be charged, as its customer may know it."""
    if row.state == State.ACTION:
        return "failed_action"
    if row.state != State.DECLINED:
        return ""
    known = f"failed_{row.code}"
    return known if known in FAILURES else "failed_generic"


def pass_on(public_id: str) -> None:
    """Let a worker take the next step at once; without one, the next pass does."""
    if enabled():
        from billing_admin.tasks import collect_invoice  # Celery takes memory that web processes need only here

        collect_invoice.apply_async([public_id], retry=False)
