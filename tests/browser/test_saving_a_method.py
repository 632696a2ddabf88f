"""A customer saves a way to pay in a browser, with the double's look-alike of Stripe's script; staff ask for one."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from billing_admin.flows import stripe_collect, stripe_methods
from customers.models import Customer
from payments.models import StripeCustomer, StripeInvoice
from tests import builders as a
from tests.browser.conftest import PATIENCE, the_dialog
from tests.payments.pages_world import DECLINES, save_card
from tests.stripe_double import Double

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
GOOD, DECLINED, ASKS = "4242 4242 4242 4242", "4000 0000 0000 0002", "4000 0025 0000 3155"


@pytest.fixture
def stripe(settings: Any, live_server: Any, double: Double) -> Double:
    settings.STRIPE_SECRET_KEY = double.key
    settings.STRIPE_PUBLISHABLE_KEY = double.publishable_key
    settings.STRIPE_API_URL = double.url
    settings.STRIPE_JS_URL = f"{double.url}/js/stripe.js"
    settings.STRIPE_WEBHOOK_SECRET = double.webhook_secret
    settings.PUBLIC_URL = live_server.url
    return double


@pytest.fixture
def visitor(chromium: Browser, stripe: Double) -> Iterator[Page]:
    """Nobody we know, in a browser that says what its pages were not allowed to do."""
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    refused: list[str] = []

    def listen(said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text or "Content-Security-Policy" in said.text:
            refused.append(said.text)

    page.on("console", listen)
    yield page
    assert refused == []
    assert context.cookies() == []
    context.close()


def link_of(who: Customer) -> str:
    return stripe_methods.link_to_save(who, datetime.now(UTC)).url


def type_card(page: Page, number: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiry").fill("12 / 34")
    page.get_by_label("CVC").fill("123")
    page.get_by_role("button", name="Save payment method").click()


def test_a_card_is_saved_and_charged_from_then_on(visitor: Page, stripe: Double):
    who = a.customer()
    visitor.goto(link_of(who))

    type_card(visitor, GOOD)

    expect(visitor.get_by_role("heading", name="Saved")).to_be_visible()
    expect(visitor.get_by_text("Your invoices are charged to Visa ·· 4242 from now on.")).to_be_visible()
    row = StripeCustomer.objects.get(customer=who)
    assert row.default_method is not None and row.default_method["last4"] == "4242"


def test_a_decline_says_why_and_another_card_can_be_tried(visitor: Page):
    visitor.goto(link_of(a.customer()))

    type_card(visitor, DECLINED)
    expect(visitor.get_by_role("alert")).to_contain_text("Your card was declined.")
    type_card(visitor, GOOD)

    expect(visitor.get_by_role("heading", name="Saved")).to_be_visible()


def test_a_bank_that_asks_its_customer_leads_there_and_back(visitor: Page, stripe: Double):
    who = a.customer()
    visitor.goto(link_of(who))

    type_card(visitor, ASKS)
    visitor.get_by_role("button", name="Complete").click()

    expect(visitor.get_by_role("heading", name="Saved")).to_be_visible()
    assert StripeCustomer.objects.get(customer=who).default_method is not None


def test_a_customer_who_does_not_confirm_is_told_that_nothing_was_saved(visitor: Page):
    visitor.goto(link_of(a.customer()))

    type_card(visitor, ASKS)
    visitor.get_by_role("button", name="Fail").click()
    expect(visitor.get_by_role("heading", name="It was not saved")).to_be_visible()
    visitor.get_by_role("link", name="Try again").click()

    expect(visitor.get_by_role("heading", name="Save a payment method")).to_be_visible()


def test_without_stripes_script_it_says_so_and_offers_to_try_again(visitor: Page, settings: Any, stripe: Double):
    settings.STRIPE_JS_URL = f"{stripe.url}/nothing.js"

    visitor.goto(link_of(a.customer()))

    expect(visitor.get_by_role("alert")).to_contain_text("could not be loaded")
    expect(visitor.get_by_role("link", name="Try again")).to_be_visible()


def test_from_the_document_of_a_declined_payment_to_a_paid_invoice(visitor: Page, stripe: Double, live_server: Any):
    now = datetime.now(UTC)
    stripe_collect.enqueue(now - timedelta(minutes=1))
    who = a.customer(since=now)
    save_card(who, stripe, DECLINES, now)
    a.enable(who, a.plan("pro", a.fee(50), now=now), now=now)
    invoice = who.invoices.get()
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)
    visitor.goto(f"{live_server.url}/i/{invoice.token}")
    expect(visitor.get_by_text("but the payment was declined")).to_be_visible()

    visitor.get_by_role("link", name="Save another payment method").click()
    type_card(visitor, GOOD)
    expect(visitor.get_by_role("heading", name="Saved")).to_be_visible()
    stripe_collect.collect_due(datetime.now(UTC))

    assert StripeInvoice.objects.get(invoice=invoice).state == "paid"
    visitor.goto(f"{live_server.url}/i/{invoice.token}")
    expect(visitor.get_by_text("Nothing is left to do.")).to_be_visible()


def test_staff_get_the_link_from_the_customers_page(signed_in: Callable[..., Page], stripe: Double):
    stripe_collect.enqueue(datetime.now(UTC))
    who = a.customer()
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[who.pk]))

    page.get_by_role("region", name="Payment").get_by_role("link", name="Add").click()

    box = the_dialog(page)
    expect(box.locator("code")).to_contain_text("/pay/method/")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()


def test_staff_charge_a_declined_invoice_again(signed_in: Callable[..., Page], stripe: Double):
    now = datetime.now(UTC)
    stripe_collect.enqueue(now - timedelta(minutes=1))
    who = a.customer(since=now)
    save_card(who, stripe, DECLINES, now)
    a.enable(who, a.plan("pro", a.fee(50), now=now), now=now)
    invoice = who.invoices.get()
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)
    page = signed_in()
    page.goto(reverse("admin:invoicing_invoice_change", args=[invoice.pk]))

    page.get_by_role("link", name="Charge again now").click()
    box = the_dialog(page)
    expect(box).to_contain_text("is charged $50.00 within seconds")
    save_card(who, stripe, now=now)
    box.get_by_role("button", name="Charge $50.00").click()
    expect(page.get_by_text("is on its way to Stripe again")).to_be_visible()
    stripe_collect.collect_due(datetime.now(UTC))

    # The panel looks again by itself.
    expect(page.get_by_role("region", name="Collection")).to_contain_text("Stripe took the money in.")
