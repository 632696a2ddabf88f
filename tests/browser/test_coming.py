"""What is coming, as a person looks through it: month by month, narrowed, and down to a customer."""

from collections.abc import Callable, Iterator

import pytest
import time_machine
from playwright.sync_api import Page, expect

from billing_admin.flows.cancel import cancel
from tests.builders import STAFF, enable, on, pro, team, the_subscription
from tests.instants import MARCH_16

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture(autouse=True)
def in_march() -> Iterator[None]:
    with time_machine.travel(MARCH_16, tick=True):
        yield


@pytest.fixture
def world() -> None:
    """On 1 April Acme renews, Initech comes down from Team to Pro, and Hooli leaves."""
    small, large = pro(50), team(200)
    on(small)
    enable(on(large, name="Initech"), small, now=MARCH_16)
    gone = on(large, name="Hooli")
    cancel(the_subscription(gone), reason="too dear", actor=STAFF, now=MARCH_16)


@pytest.mark.usefixtures("world")
def test_a_person_goes_from_a_month_to_a_day_to_a_customer(signed_in: SignIn):
    page = signed_in(width=1280)
    page.goto("/coming/")
    expect(page.get_by_role("heading", name="March 2026")).to_be_visible()

    page.get_by_role("link", name="The month after").click()
    expect(page.get_by_role("heading", name="April 2026")).to_be_visible()
    first = page.locator(".coming-grid td", has_text="1 renewal")
    expect(first).to_contain_text("1 contract ends")
    expect(first).to_contain_text("$100.00")

    page.select_option("[name=kind]", label="Plan changes")
    expect(first).to_have_count(0)
    expect(page.locator(".coming-grid td", has_text="1 plan change")).to_contain_text("$50.00")
    page.get_by_role("link", name="The month before").click()
    expect(page.get_by_text("Nothing matches in this month")).to_be_visible()
    page.get_by_role("link", name="The month after").click()

    page.get_by_role("link", name="1 April: 1").click()
    expect(page.get_by_role("heading", name="Wednesday, 1 April 2026")).to_be_visible()
    row = page.locator("tbody tr")
    expect(row).to_contain_text("API · Team → API · Pro")
    row.get_by_role("link", name="Initech").click()
    expect(page.get_by_role("heading", name="Initech")).to_be_visible()
    expect(page.locator("section:has(#next-days-title)")).to_contain_text("Plan changes")


@pytest.mark.usefixtures("world")
def test_a_narrow_screen_lists_the_days_instead_of_the_grid(signed_in: SignIn):
    page = signed_in(width=390)
    page.goto("/coming/?month=2026-04")

    expect(page.locator(".coming-grid")).to_be_hidden()
    day = page.locator(".coming-days li")
    expect(day).to_contain_text("Wed 1 Apr")
    expect(day).to_contain_text("$100.00")
    day.get_by_role("link").click()
    expect(page.locator("tbody tr")).to_have_count(3)


@pytest.mark.usefixtures("world")
def test_without_javascript_the_filter_has_a_button(signed_in: SignIn):
    page = signed_in(javascript=False)
    page.goto("/coming/list/?days=90")

    page.select_option("[name=kind]", label="Contract ends")
    page.get_by_role("button", name="Filter").click()

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Hooli")
