"""The mirror as a person sees it: an import that moves on the page, and a customer who is linked in a dialog."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect
from pytest_django.fixtures import Settings as Given

from billing_admin.admin.links import customer_link
from billing_admin.flows import stripe_import
from payments.models import StripeCustomer
from tests import builders as a
from tests.browser.conftest import the_dialog
from tests.payments.mirror_world import bring, price, product, stripe_customer, subscribe, use

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double", now: datetime, monkeypatch: pytest.MonkeyPatch) -> "Double":
    use(settings, double, now - timedelta(days=10))
    # No worker is there to take the import up: the test carries out its pages itself.
    monkeypatch.setattr(stripe_import, "hand_over", lambda: None)
    return double


def test_the_import_is_followed_on_the_page_until_it_is_complete(signed_in: SignIn, now: datetime):
    subscribe(stripe_customer(a.customer()), price(product("Pro")))
    page = signed_in()
    page.goto("/stripe/mirror/")
    expect(page.locator("#mirror")).to_contain_text("Nothing is mirrored yet")

    page.get_by_role("button", name="Import from Stripe").click()
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("value", "0")
    stripe_import.step(now)
    stripe_import.step(now)
    expect(bar).to_have_attribute("value", "2")
    while stripe_import.step(now):
        pass

    expect(page.locator("#mirror")).to_contain_text("Complete since")
    expect(page.locator(".str-stages li", has_text="Subscriptions")).to_contain_text("1")


def test_somebody_in_stripe_is_compared_and_linked_in_a_dialog(signed_in: SignIn, now: datetime):
    owner = stripe_customer(name="Acme Inc")
    subscribe(owner, price(product("Pro")))
    bring(now)
    who = a.customer("Acme Robotics", since=now - timedelta(days=30))
    page = signed_in()
    page.goto("/stripe/customers/?shown=unlinked")

    page.get_by_role("link", name=f"Link {owner}").click()
    box = the_dialog(page)
    box.get_by_role("searchbox").fill("acme")
    page.keyboard.press("Enter")
    box.get_by_role("link", name="Acme Robotics").click()
    expect(box.locator(".str-sides tr", has_text="Name")).to_contain_text("Acme Inc")
    box.get_by_role("button", name="Link with Acme Robotics").click()
    page.wait_for_url(f"**{customer_link(who.pk)}")

    expect(page.locator(".desk-page")).to_contain_text("Pro")
    assert StripeCustomer.objects.get(stripe_id=owner).customer == who
    assert who.subscriptions.get().state == "active"


def test_a_link_dialog_closes_by_keyboard(signed_in: SignIn, now: datetime):
    owner = stripe_customer()
    bring(now)
    page = signed_in()
    page.goto("/stripe/customers/")

    page.get_by_role("link", name=f"Link {owner}").click()
    box = the_dialog(page)
    page.keyboard.press("Escape")

    expect(box).to_be_hidden()
