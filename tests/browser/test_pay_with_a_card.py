"""A customer pays by card: our web process, a worker and a Stripe, all real, and a browser in between."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from billing_admin import tasks
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.stripe_account import connect
from billing_admin.flows.stripe_methods import link_to_save
from customers.models import Customer
from customers.states import SubscriptionState
from invoicing.models import Invoice
from payments.models import StripeCustomer, StripeInvoice
from tests.browser.conftest import PATIENCE
from tests.builders import customer, enable, pro, team
from tests.stripe_double import Double
from tests.workers.conftest import Workers, wait_until, workers  # noqa: F401  a fixture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]

PAYS, DECLINED, ASKS = "4242 4242 4242 4242", "4000 0000 0000 0002", "4000 0000 0000 3220"
State = StripeInvoice.State
# Whatever is handed over at once while somebody pays.
HANDED_OVER = (tasks.collect_invoice, tasks.process_stripe_events)


@pytest.fixture
def stripe(
    settings: Any,
    live_server: Any,
    double: Double,
    workers: Workers,  # noqa: F811  the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Double]:
    """The double is Stripe for the web process and for a worker, and tells us what happens there."""
    keys = {
        "STRIPE_SECRET_KEY": double.key,
        "STRIPE_PUBLISHABLE_KEY": double.publishable_key,
        "STRIPE_WEBHOOK_SECRET": double.webhook_secret,
        "STRIPE_API_URL": double.url,
        "STRIPE_JS_URL": f"{double.url}/js/stripe.js",
        "PUBLIC_URL": live_server.url,
    }
    for name, value in keys.items():
        setattr(settings, name, value)
        monkeypatch.setenv(name, value)  # for the worker
    for task in HANDED_OVER:
        monkeypatch.setattr(task, "queue", workers.queue, raising=False)
        monkeypatch.setattr(task, "_exec_options", None)  # which remembers the queue
    connect(now())
    workers.start()
    double.webhooks_to(f"{live_server.url}/stripe/webhook")
    yield double
    wait_until(lambda: not double.pending_events, "the last webhook to be taken")
    double.webhooks_to(None)


def now() -> datetime:
    """Signatures of webhooks are only good for minutes, so these tests live in the present."""
    return timezone.now()


@pytest.fixture
def acme() -> Customer:
    return customer(since=now())


def becomes(invoice: Invoice, state: str) -> StripeInvoice:
    """The collection of an invoice, once it is in the state."""
    rows = StripeInvoice.objects.filter(invoice=invoice, state=state)
    wait_until(rows.exists, f"{state}, not {list(StripeInvoice.objects.values_list('state', flat=True))}")
    return rows.get()


def the_invoice(who: Customer) -> Invoice:
    found: Invoice = who.invoices.get()
    return found


def waiting_to_be_paid(who: Customer) -> Invoice:
    """Pro was enabled a moment ago, and no card is saved: Stripe's page waits for the customer."""
    enable(who, pro(), now=now(), activation=Activation.AFTER_PAYMENT)
    becomes(the_invoice(who), State.NEEDS_METHOD)
    return the_invoice(who)


def open_payment_page(page: Page, invoice: Invoice) -> None:
    """As the customer does: from the link in the mail to Stripe."""
    page.goto(reverse("hosted_document", args=[invoice.token]))
    page.get_by_role("link", name=re.compile("^Pay")).click()
    expect(page.get_by_label("Card number")).to_be_visible()


def type_card(page: Page, number: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiry").fill("12 / 34")
    page.get_by_label("CVC").fill("123")


def pay(page: Page, number: str) -> None:
    type_card(page, number)
    page.get_by_role("button", name="Pay $50.00").click()


def test_a_card_is_declined_another_pays_and_the_plan_is_active(signed_in: Callable[..., Page], stripe: Double, acme):
    """Y-23, Y-24, Y-25"""
    pro()
    desk = signed_in()
    desk.goto(f"/customers/customer/{acme.pk}/")
    desk.get_by_role("link", name="Enable Product").first.click()
    desk.get_by_label("Find a plan").fill("pro")
    desk.get_by_role("link", name=re.compile("^Pro")).click()
    desk.get_by_role("button", name=re.compile("^Enable Pro")).click()
    wait_until(acme.invoices.exists, "the first invoice")
    invoice = the_invoice(acme)
    becomes(invoice, State.NEEDS_METHOD)
    there = signed_in()

    open_payment_page(there, invoice)
    pay(there, DECLINED)

    expect(there.get_by_role("alert")).to_have_text("Your card was declined.")
    becomes(invoice, State.DECLINED)
    desk.goto(reverse("admin:invoicing_invoice_change", args=[invoice.pk]))
    collection = desk.locator("#collection")
    expect(collection).to_contain_text("Declined")
    expect(collection).to_contain_text("The bank declined the card without saying why.")
    expect(collection).to_contain_text("Ask the customer for another payment method")
    assert acme.subscriptions.get().state == SubscriptionState.PENDING_PAYMENT

    pay(there, PAYS)

    expect(there.get_by_role("status")).to_contain_text("Invoice paid")
    becomes(invoice, State.PAID)
    assert acme.subscriptions.get().state == SubscriptionState.ACTIVE
    assert [entry["amount"] for entry in stripe.ledger()] == [5000]
    desk.reload()
    expect(collection).to_contain_text("Stripe took the money in.")


def test_the_owner_of_a_card_confirms_with_their_bank(signed_in: Callable[..., Page], stripe: Double, acme):
    """Y-25"""
    invoice = waiting_to_be_paid(acme)
    there = signed_in()

    open_payment_page(there, invoice)
    pay(there, ASKS)
    there.get_by_role("button", name="Complete").click()

    expect(there.get_by_role("status")).to_contain_text("Invoice paid")
    becomes(invoice, State.PAID)
    assert acme.subscriptions.get().state == SubscriptionState.ACTIVE


def test_a_saved_card_pays_the_next_plan_by_itself(
    signed_in: Callable[..., Page],
    stripe: Double,
    workers: Workers,  # noqa: F811  the fixture
    acme: Customer,
):
    """A-04"""
    invoice = waiting_to_be_paid(acme)
    there = signed_in()

    there.goto(link_to_save(acme, now()).url)
    type_card(there, PAYS)
    there.get_by_role("button", name=re.compile("^Save")).click()
    there.wait_for_url(re.compile("setup_intent="), timeout=PATIENCE)
    wait_until(StripeInvoice.objects.due(now()).exists, "what waited for a card to be due")
    workers.tick("collect_with_stripe")  # as the clockwork does

    becomes(invoice, State.PAID)
    assert StripeCustomer.objects.get().default_method["last4"] == "4242"
    enable(acme, team(), now=now())
    upgrade = Invoice.objects.exclude(pk=invoice.pk).get()
    becomes(upgrade, State.PAID)
    assert [entry["amount"] for entry in stripe.ledger()] == [5000, upgrade.total]
