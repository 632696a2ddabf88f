"""Erase what is kept here of whom Stripe knows: names, e-mails, cards, and what sentences say of them."""

from collections.abc import Callable
from typing import Any

from django.db.models import Q

from billing_admin.flows.stripe_customers import NOBODY, formers
from customers.models import Customer
from payments.inbox import forget
from payments.models import StripeCredit, StripeCustomer, StripeEvent, StripeInvoice


def words_in_stripe(customer: Customer) -> set[str]:
    """What Stripe calls the customer, which need not be what we do."""
    rows = StripeCustomer.objects.filter(customer=customer).values_list("name", "email", "sent_name", "sent_email")
    return {word for row in rows for word in row if word}


def erase_stripe(customer: Customer, scrub: Callable[[Any], Any]) -> None:
    """Forget name, e-mail and cards, and take the person's words out of sentences. The caller holds the customer."""
    StripeCustomer.objects.filter(customer=customer).update(**NOBODY)
    for invoice in StripeInvoice.objects.filter(invoice__customer=customer):
        invoice.problem, invoice.paid_with = scrub(invoice.problem), ""
        invoice.save(update_fields=["problem", "paid_with"])
    for credit in StripeCredit.objects.filter(note__customer=customer).exclude(problem=""):
        credit.problem = scrub(credit.problem)
        credit.save(update_fields=["problem"])
    _forget_events(customer, scrub)
    for difference in customer.stripe_differences.all():
        difference.ours, difference.theirs = scrub(difference.ours), scrub(difference.theirs)
        difference.save(update_fields=["ours", "theirs"])


def _forget_events(customer: Customer, scrub: Callable[[Any], Any]) -> None:
    """What Stripe told of them, and of what was asked from them."""
    rows = StripeCustomer.objects.filter(customer=customer) | formers([customer])
    known = list(rows.values_list("stripe_id", flat=True))
    asked = StripeInvoice.objects.filter(invoice__customer=customer).values_list("stripe_id", "payment_intent")
    ids = {id_ for row in asked for id_ in row if id_} | set(known)
    events = StripeEvent.objects.filter(Q(customer__in=known) | Q(object_id__in=ids))
    forget(events.exclude(payload__has_key="erased"), scrub)
