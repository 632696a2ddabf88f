"""The events page as people use it: filters in the address, the chart, one event with its balances, a small screen."""

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from billing_admin.list_runs import write_exports
from customers.models import Customer
from entitlements.models import UsageEvent
from tests import builders as a
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def acme() -> Customer:
    """Sixty events in six days, of two models; the page shows fifty of them."""
    now = datetime.now(UTC).replace(microsecond=0)
    who = a.on(a.plan("pro", a.fee(50), a.allowance(1000)), since=now - timedelta(days=10))
    for number in range(60):
        model = "large" if number % 3 else "small"
        at = now - timedelta(hours=144 - 2 * number)
        a.use(who, 1 + number % 4, now=at, key=f"job-{number}", properties={"model": model})
    UsageEvent.objects.filter(key="job-59").update(voided_at=now)
    return who


def address(who: Customer) -> str:
    return reverse("admin:customer_events", args=[who.pk])


def test_events_are_narrowed_split_and_opened(signed_in: SignIn, acme: Customer):
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[acme.pk]))
    page.click("text=All events")

    expect(page.locator(".desk-table tbody tr")).to_have_count(50)
    expect(page.locator(".ev-void .desk-state")).to_have_text(["Voided"])
    page.fill("[name=property]", "model=small")
    page.click("text=Filter")
    expect(page).to_have_url(re.compile("property=model%3Dsmall"))
    expect(page.locator(".desk-table tbody tr")).to_have_count(20)
    page.fill("#chart-by", "model")
    page.click("text=Show >> nth=-1")
    expect(page.locator(".ev-legend li")).to_have_text(["small 20"])

    page.click(".desk-table .ev-when >> nth=0")
    box = the_dialog(page)
    expect(box).to_contain_text('"model": "small"')
    expect(box.locator(".ev-used tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    page.click(".desk-table .ev-when >> nth=0")
    page.click("dialog .ev-used a")
    expect(page.locator(".desk-head h2")).to_contain_text("history of the balance")


def test_older_events_follow_and_a_key_is_found_at_once(signed_in: SignIn, acme: Customer):
    page = signed_in()
    page.goto(address(acme))

    page.click("text=Older")
    expect(page.locator(".desk-table tbody tr")).to_have_count(10)
    page.click("text=Newest")
    expect(page.locator(".desk-table tbody tr")).to_have_count(50)
    page.fill("[name=q]", "job-3")
    page.press("[name=q]", "Enter")
    expect(page.locator(".desk-table tbody tr")).to_have_count(1)
    expect(page.locator(".ev-note")).to_contain_text("Found by its key")


def test_the_export_holds_what_is_shown(signed_in: SignIn, acme: Customer, settings, tmp_path: Path):
    settings.EXPORT_FOLDER = tmp_path
    page = signed_in()
    page.goto(f"{address(acme)}?property=model%3Dsmall")

    page.click("text=Export CSV")
    expect(page.locator("#exports")).to_contain_text("Waiting")
    write_exports(clock=lambda: datetime.now(UTC))
    expect(page.locator("#exports")).to_contain_text("Ready")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download Events of a customer").click()

    with download.value.path().open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20


def test_it_works_on_a_small_screen_and_without_javascript(signed_in: SignIn, acme: Customer):
    page = signed_in("readonly", width=390, javascript=False)
    page.goto(address(acme))

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator(".ev-chart rect.ev-s0")).not_to_have_count(0)
    page.click(".desk-table .ev-when >> nth=0")
    expect(page.locator(".ev-json")).to_contain_text('"eventKey": "job-59"')
