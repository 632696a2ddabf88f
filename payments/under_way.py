"""Invoices whose payment is under way: a bank debit takes days, and meanwhile nobody gives up or asks again."""

from invoicing.models import InvoiceQuerySet
from payments.models import StripeInvoice


def at_rest(invoices: InvoiceQuerySet) -> InvoiceQuerySet:
    """Those of which no money is on its way."""
    return invoices.exclude(stripe__state=StripeInvoice.State.PROCESSING)
