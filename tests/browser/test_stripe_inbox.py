"""The inbox of Stripe's events as people use it: search, one event, processing it again, fetching what never came."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from payments.models import StripeCustomer, StripeEvent
from tests import builders as a
from tests.browser.conftest import the_dialog
from tests.payments.inbox_world import event, use
from tests.stripe_double import Double

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def stripe(double: Double, settings: Any) -> Double:
    """Acme's e-mail changed in Stripe, and the event about it failed; another one was ignored."""
    use(settings, double)
    now = datetime.now(UTC)
    known = double.plant("customer", "cus", name="Acme Robotics", email="new@acme.example")
    row = StripeCustomer.objects.create(stripe_id=known["id"], customer=a.customer(since=now), email="old@acme.example")
    event("customer.updated", row.stripe_id, at=now, customer=row.stripe_id, state="failed", outcome="Stripe is busy.")
    event("payout.paid", "po_1", at=now, state="ignored", outcome="Nothing here depends on it.")
    return double


def address() -> str:
    return reverse("admin:payments_stripeevent_changelist")


def test_a_failed_event_is_found_opened_and_processed_again(signed_in: SignIn, stripe: Double):
    page = signed_in()
    page.goto(address())
    rows = page.locator(".desk-table tbody tr")
    expect(rows).to_have_count(2)

    page.fill("[name=q]", "acme rob")
    page.press("[name=q]", "Enter")
    expect(rows).to_have_count(1)
    page.click(".cus-row-link")
    expect(page.locator(".desk-head h2")).to_contain_text("customer.updated")
    expect(page.locator(".ev-json")).to_contain_text('"type": "customer.updated"')
    page.click("text=Process again")

    expect(page.locator(".desk-head .desk-state").first).to_have_text("Done")
    assert StripeCustomer.objects.get().email == "new@acme.example"


def test_what_never_came_is_fetched_in_a_dialog(signed_in: SignIn, stripe: Double):
    stripe.emit("customer.updated", StripeCustomer.objects.get().stripe_id)
    page = signed_in()
    page.goto(address())

    page.click("text=Fetch what we missed")
    box = the_dialog(page)
    box.locator("[name=until]").fill("2099-01-01T00:00")
    box.locator("text=Fetch events").click()

    expect(page.locator(".desk-table tbody tr")).to_have_count(3)
    expect(page.locator(".desk-table .desk-badge")).to_have_text(["fetched"])
    assert StripeEvent.objects.filter(was_fetched=True).count() == 1


def test_the_inbox_fits_a_small_screen(signed_in: SignIn, stripe: Double):
    page = signed_in(width=390)
    for place in (address(), reverse("admin:payments_stripeevent_change", args=[StripeEvent.objects.first().pk])):
        page.goto(place)

        assert page.evaluate("document.documentElement.scrollWidth") <= 390
