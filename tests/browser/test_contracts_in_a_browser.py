"""Gates, prepaid units, trials and cancellations as a person meets them, in a real browser."""

import re
from collections.abc import Callable, Iterator

import pytest
import time_machine
from playwright.sync_api import Locator, Page, expect

from invoicing.models import Refund
from tests.builders import (
    access,
    allowance,
    customer,
    enable,
    fee,
    on,
    overuse,
    plan,
    prepaid,
    pro,
    the_subscription,
    totals,
)
from tests.instants import MARCH_1, day

MID_MARCH = day("2026-03-16T12:00")  # half of March

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def mid_march() -> Iterator[None]:
    with time_machine.travel(MID_MARCH, tick=False):
        yield


@pytest.fixture
def page(mid_march, signed_in: Callable[..., Page]) -> Page:
    return signed_in(width=1440)


def open_customer(page: Page, who) -> None:
    page.goto(f"/customers/customer/{who.pk}/")


def dialog(page: Page) -> Locator:
    return page.locator("#desk-dialog")


def test_a_gated_plan_from_enable_to_active(page: Page):
    """Y-23, Y-24, Y-25"""
    pro()
    acme = customer()
    open_customer(page, acme)
    page.get_by_role("link", name="Enable Product").first.click()
    page.get_by_role("link", name=re.compile("^Pro")).click()
    expect(page.locator("#happens")).to_contain_text("Waits for the payment until 17 Mar 2026, 12:00 UTC")
    page.get_by_role("button", name="Enable Pro").click()

    expect(page.get_by_text("Pro starts when $50.00 is paid.")).to_be_visible()
    expect(page.get_by_text("Pending payment").first).to_be_visible()
    expect(page.get_by_text("Payment link")).to_be_visible()
    assert not access(acme, now=MID_MARCH).has_access

    page.get_by_role("link", name="Record payment").click()
    dialog(page).get_by_label("Reference").fill("wire 0815")
    dialog(page).get_by_role("button", name="Record payment").click()

    expect(page.get_by_text("$50.00 received").first).to_be_visible()
    open_customer(page, acme)
    expect(page.get_by_text("Pending payment")).to_have_count(0)
    assert access(acme, now=MID_MARCH).remaining == 100
    assert the_subscription(acme).state == "active"


def test_access_before_the_payment_needs_a_reason(page: Page):
    """Y-25"""
    pro()
    acme = customer()
    page.goto(f"/customers/{acme.pk}/enable/?plan=pro")
    page.get_by_role("radio", name=re.compile("^Now")).check()
    expect(page.locator("#happens")).not_to_contain_text("Waits for the payment")
    page.get_by_role("button", name="Enable Pro").click()
    expect(page.get_by_text("Give a reason for access before the first payment").first).to_be_visible()

    page.get_by_role("textbox", name=re.compile("^Reason")).fill("wire is on its way")
    page.get_by_role("button", name="Enable Pro").click()

    expect(page.get_by_text("Acme Robotics is on Pro now.")).to_be_visible()
    assert the_subscription(acme).state == "active"


def test_prepaid_units_say_what_they_come_to_while_somebody_types(page: Page):
    """A-24"""
    plan("pro", fee(20), prepaid())
    acme = customer()
    page.goto(f"/customers/{acme.pk}/enable/?plan=pro")

    units = page.get_by_label("Credits, units in total")
    units.fill("250")

    expect(page.get_by_text("300 units = 3 packs of 100 × $10.00 = $30.00")).to_be_visible()
    expect(page.locator("#happens")).to_contain_text("$50.00")
    expect(units).to_be_focused()
    expect(units).to_have_value("250")


def test_a_trial_is_extended(page: Page):
    """A-27"""
    acme = customer()
    enable(acme, plan("pro", fee(20), allowance(100), trial_days=30), now=MARCH_1)
    open_customer(page, acme)
    expect(page.locator("body")).to_contain_text("Trial until 31 Mar 2026")

    page.get_by_role("link", name="Extend trial").click()
    dialog(page).get_by_label("Days from now").fill("30")
    dialog(page).get_by_label("Reason").fill("needs more time")
    dialog(page).get_by_role("button", name="Extend trial").click()

    expect(page.get_by_text("Extended the trial until 15 Apr 2026.")).to_be_visible()
    assert the_subscription(acme).trial_ends_at == day("2026-04-15T12:00")


def test_a_cancellation_with_its_four_answers(page: Page):
    """A-26"""
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(acme, 150)
    open_customer(page, acme)
    page.get_by_role("link", name=re.compile("^Cancel")).click()
    box = dialog(page)
    outcome = box.locator("#cancel-outcome")
    expect(outcome).to_contain_text("Access ends on 1 Apr 2026. Nothing is due now.")

    box.get_by_label("Now", exact=True).check()
    expect(outcome).to_contain_text("Access ends at once. $20.00 is credited now.")
    box.get_by_role("radio", name=re.compile("Refund what was paid with money")).check()
    expect(outcome).to_contain_text("$20.00 is refunded now.")
    box.get_by_label("Do not bill it").check()
    expect(outcome).to_contain_text("$25.00 is refunded now.")
    box.get_by_role("radio", name=re.compile("Lasts for what is paid")).check()
    expect(outcome).to_contain_text("Access ends on 1 Apr 2026. $25.00 is refunded now.")
    box.get_by_label("Reason").fill("moved to a competitor")
    box.get_by_role("button", name="Cancel Pro").click()

    expect(page.get_by_text("Pro was canceled for 1 Apr 2026.")).to_be_visible()
    expect(page.get_by_text("Its final invoice was made on 16 Mar 2026")).to_be_visible()
    assert (totals(acme), Refund.objects.get().amount) == ([5000, -2500], 2500)


def test_a_cancellation_without_a_reason_stays_open_and_says_so(page: Page):
    """A-26"""
    acme = on(pro())
    open_customer(page, acme)
    page.get_by_role("link", name=re.compile("^Cancel")).click()

    dialog(page).get_by_role("button", name="Cancel Pro").click()

    expect(dialog(page).get_by_text("Give a reason for a cancellation")).to_be_visible()
    assert the_subscription(acme).ends_at is None


def test_the_upcoming_invoice_unfolds_into_the_year(page: Page):
    """A-50"""
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(acme, 150)
    open_customer(page, acme)

    page.locator(".cus-upcoming > summary").click()

    expect(page.locator(".cus-upcoming")).to_contain_text("$55.00 so far")
    expect(page.locator(".cus-upcoming")).to_contain_text("expected")
    expect(page.locator(".forecast > li")).to_have_count(12)
