"""A special price as a person gives it: typed, seen on the next invoices, revoked; also without JavaScript."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.urls import reverse
from playwright.sync_api import Page, expect

from customers.models import Customer, PriceOverride
from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def acme(now: datetime) -> Customer:
    """Ten days on Pro for $50."""
    return a.on(a.pro(50), since=now - timedelta(days=10))


def address(who: Customer) -> str:
    return reverse("admin:customers_customer_change", args=[who.pk])


def type_price(page: Page, *, amount: str = "30", cycles: str = "2") -> None:
    page.fill("[name=label_0]", "Launch price")
    page.fill("[name=amount_0]", amount)
    page.fill("[name=cycles]", cycles)
    page.fill("[name=reason]", "migration deal")


def test_a_price_is_overridden_for_two_periods_and_then_the_old_one_holds_again(signed_in: SignIn, acme: Customer):
    """L-13, L-14"""
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Override price").click()
    type_price(page)
    expect(page.locator("#special-preview tbody tr")).to_have_count(3)
    expect(page.locator("#special-preview")).to_contain_text("Holds for 2 billing periods")
    assert page.locator("#special-preview tbody strong").all_inner_texts() == ["$30.00", "$30.00", "$50.00"]
    page.click("dialog button:has-text('Override price')")
    page.wait_for_url("**" + address(acme))

    panel = page.locator("section:has(#overrides-title)")
    expect(panel).to_contain_text("Launch price: $30.00 every month")
    expect(panel).to_contain_text("2 of 2 billing periods left")
    expect(page.locator(".cus-upcoming")).to_contain_text("$30.00")
    later = acme.created_at + timedelta(days=130)
    with time_machine.travel(later):
        a.pass_time(acme, to=later)
        page.reload()
        expect(panel).to_contain_text("No special prices")
    # The first invoice, two special ones, then the old price.
    assert a.totals(acme) == [5000, 3000, 3000, 5000, 5000]


def test_a_special_price_is_revoked_in_the_sidebar(signed_in: SignIn, acme: Customer, now: datetime):
    """L-08"""
    a.special_price(acme, now=now)
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Revoke Pro · Base fee").click()
    page.fill("dialog [name=reason]", "deal is over")
    page.click("text=Revoke special price")
    page.wait_for_url("**" + address(acme))

    expect(page.locator("section:has(#overrides-title)")).to_contain_text("No special prices")
    assert PriceOverride.objects.get().revoke_reason == "deal is over"


def test_what_is_wrong_stands_beside_its_field_in_the_dialog(signed_in: SignIn, acme: Customer):
    """L-17"""
    page = signed_in()
    page.goto(address(acme))

    page.get_by_role("link", name="Override price").click()
    type_price(page, amount="-5")
    page.click("dialog button:has-text('Override price')")

    expect(page.locator("#id_amount_0_error")).to_contain_text("below zero")
    expect(page.locator("[name=amount_0]")).to_be_focused()


def test_a_price_can_be_overridden_without_javascript_on_a_phone(signed_in: SignIn, acme: Customer):
    """L-13"""
    page = signed_in(width=390, javascript=False)
    page.goto(address(acme))

    page.get_by_role("link", name="Override price").click()
    type_price(page)
    page.click("button:has-text('Override price')")

    expect(page.locator("section:has(#overrides-title)")).to_contain_text("Launch price")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
