"""Invoices on their way through the double, and the pages on which staff see them."""

from datetime import datetime
from html import unescape
from typing import TYPE_CHECKING, Any

import time_machine
from django.test import Client
from django.utils.html import strip_tags

from billing_admin.flows import stripe_collect, stripe_customers
from billing_admin.flows.plan_change import Activation
from catalog.models import Plan
from customers.models import Customer
from invoicing.models import Invoice
from payments.models import StripeCustomer, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1

if TYPE_CHECKING:
    from tests.stripe_double import Double

GOOD, DECLINES, ASKS = "4242424242424242", "4000000000000341", "4000002500003155"
HTMX = {"HX-Request": "true"}


def use(settings: Any, double: "Double", now: datetime = MARCH_1) -> None:
    """Point the settings at the double; the account is known from then on."""
    settings.STRIPE_SECRET_KEY = double.key
    settings.STRIPE_PUBLISHABLE_KEY = double.publishable_key
    settings.STRIPE_API_URL = double.url
    settings.STRIPE_JS_URL = f"{double.url}/js/stripe.js"
    settings.STRIPE_WEBHOOK_SECRET = double.webhook_secret
    settings.STRIPE_TIMEOUT = 2.0
    double.set_clock(now)
    stripe_collect.enqueue(now)


def owing(name: str = "Acme Robotics", *, card: str = "", double: "Double | None" = None) -> Invoice:
    """The first invoice, over $50, of a customer who may have a card."""
    who = a.customer(name)
    if card and double is not None:
        save_card(who, double, card)
    plan = Plan.objects.filter(key="pro").first() or a.pro()
    a.enable(who, plan, activation=Activation.AFTER_PAYMENT)
    return who.invoices.get()


def save_card(who: Customer, double: "Double", number: str = GOOD, now: datetime = MARCH_1) -> StripeCustomer:
    known = stripe_customers.ensure(who, now)
    double.add_card(known.stripe_id, number)
    found = stripe_customers.refresh_customer(known.stripe_id, now)
    assert found is not None
    return found


def collect(invoice: Invoice, now: datetime = MARCH_1) -> StripeInvoice:
    """What a worker does."""
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)
    return row_of(invoice)


def row_of(invoice: Invoice) -> StripeInvoice:
    return StripeInvoice.objects.select_related("invoice__customer").get(invoice=invoice)


def get(client: Client, address: str, now: datetime = MARCH_1, **headers: str) -> Any:
    with time_machine.travel(now, tick=False):
        return client.get(address, headers=headers or None)


def post(client: Client, address: str, data: dict[str, Any] | None = None, now: datetime = MARCH_1) -> Any:
    with time_machine.travel(now, tick=False):
        return client.post(address, data or {}, headers=HTMX)


def words(answer: Any) -> str:
    """What people read on a page."""
    html = answer.content.decode()
    return " ".join(unescape(strip_tags(html.replace("<", " <"))).split())


def panel(client: Client, invoice: Invoice, now: datetime = MARCH_1) -> str:
    return words(get(client, f"/stripe/invoices/{invoice.pk}/", now))
