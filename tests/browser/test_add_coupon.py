"""Adding a coupon as people do it: type a code, see the next invoice without and with it, add it, take it off."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from customers.models import Customer
from tests import builders as a
from tests.browser.conftest import the_dialog
from tests.flows.coupon_world import percent

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def acme() -> Customer:
    """Ten days on Pro ($50)."""
    now = datetime.now(UTC).replace(microsecond=0)
    percent(20, name="Launch", duration="repeating", periods=2)
    return a.on(a.pro(), since=now - timedelta(days=10))


def address(who: Customer) -> str:
    return reverse("admin:customers_customer_change", args=[who.pk])


def test_a_coupon_is_added_with_the_next_invoice_in_view_and_removed(signed_in: SignIn, acme: Customer):
    """A-44"""
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Add coupon").click()
    expect(page.locator("dialog [name=code]")).to_be_focused()
    page.keyboard.type("launch")
    expect(page.locator("dialog .rew-next")).to_contain_text("$50.00")
    expect(page.locator("dialog .rew-next")).to_contain_text("$40.00")
    page.get_by_role("button", name="Add Launch").click()
    page.wait_for_url("**" + address(acme))

    expect(page.locator(".rew-list")).to_contain_text("20 % off · 2 invoices left")
    page.get_by_role("link", name="Remove Launch").click()
    expect(page.locator("dialog")).to_contain_text("The next invoice is whole again.")
    page.locator("dialog").get_by_role("button", name="Remove Launch").click()
    expect(page.get_by_text("No coupon.")).to_be_visible()


def test_a_code_that_is_unknown_is_told_while_it_is_typed(signed_in: SignIn, acme: Customer):
    """A-43"""
    page = signed_in()
    page.goto(address(acme))
    page.get_by_role("link", name="Add coupon").click()
    expect(page.locator("dialog [name=code]")).to_be_focused()

    page.keyboard.type("nothing")

    box = the_dialog(page)
    expect(box).to_contain_text("There is no coupon or promo code 'nothing'.")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()


def test_a_coupon_is_added_without_javascript_on_a_small_screen(signed_in: SignIn, acme: Customer):
    """A-44"""
    page = signed_in(width=390, javascript=False)
    page.goto(address(acme))

    page.get_by_role("link", name="Add coupon").click()
    page.fill("[name=code]", "LAUNCH")
    page.get_by_role("button", name="Add coupon").click()

    page.wait_for_url("**" + address(acme))
    expect(page.locator(".rew-list")).to_contain_text("2 invoices left")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_fields_of_a_new_coupon_follow_its_kind(signed_in: SignIn):
    page = signed_in()
    page.goto(reverse("admin:catalog_coupon_add"))
    expect(page.locator("[name=percent]")).to_be_visible()

    page.get_by_label("Units of a feature").check()

    expect(page.locator("[name=percent]")).to_be_hidden()
    expect(page.locator("[name=units]")).to_be_visible()
