"""The customer's page as people use it: popups, keys, wrong input, a small screen, and no JavaScript."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.urls import reverse
from playwright.sync_api import Page, expect

from customers.models import Customer
from entitlements.models import Balance
from tests import builders as a
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def acme(now: datetime) -> Customer:
    """Ten days on Pro ($50, 100 credits), of which 28 are used."""
    who = a.on(a.pro(), since=now - timedelta(days=10))
    a.use(who, 28, now=now - timedelta(days=1))
    return who


def address(who: Customer) -> str:
    return reverse("admin:customers_customer_change", args=[who.pk])


def test_a_balance_is_set_in_its_popup_and_ends_at_the_reset(signed_in: SignIn, acme: Customer, now: datetime):
    """A-30, A-33"""
    page = signed_in()
    page.goto(address(acme))

    page.click(".cus-feature__name a")
    page.fill("dialog [name=to]", "300")
    expect(page.locator("dialog")).to_contain_text("300 left; then 100 again. Nothing is charged.")
    page.fill("dialog [name=reason]", "outage")
    page.click("text=Set balance to 300")
    page.wait_for_url("**" + address(acme))

    expect(page.locator(".cus-feature").first).to_contain_text("300 of 328 left")
    expect(page.locator(".cus-acts")).to_contain_text("Set Credits to 300 left (was 72)")
    later = now + timedelta(days=40)
    a.pass_time(acme, to=later)
    with time_machine.travel(later):
        page.reload()
        expect(page.locator(".cus-feature").first).to_contain_text("100 of 100 left")


def test_wrong_numbers_stay_in_the_popup_beside_their_fields(signed_in: SignIn, acme: Customer):
    """A-30"""
    page = signed_in()
    page.goto(address(acme))
    page.click(".cus-feature__name a")

    page.fill("dialog [name=to]", "lots")
    page.press("dialog [name=to]", "Enter")

    expect(page.locator("dialog .desk-error")).to_have_text(["Enter a number.", "This field is required."])
    expect(page.locator("dialog [name=to]")).to_be_focused()
    assert Balance.objects.get(customer=acme).adjusted == 0


def test_escape_closes_a_popup_and_nothing_has_happened(signed_in: SignIn, acme: Customer):
    page = signed_in()
    page.goto(address(acme))
    page.click(".cus-feature__name a")
    box = the_dialog(page)
    page.fill("dialog [name=to]", "300")

    page.keyboard.press("Escape")

    expect(box).to_be_hidden()
    assert Balance.objects.get(customer=acme).adjusted == 0


def test_choosing_another_bucket_shows_its_numbers(signed_in: SignIn, acme: Customer, now: datetime):
    """A-34"""
    a.enable(acme, a.plan("extra", a.fee(5), a.allowance(50), add_on=True), now=now)
    page = signed_in()
    page.goto(address(acme))
    page.click(".cus-feature__name a")
    expect(page.locator("dialog [name=to]")).to_have_value("72")

    page.click("dialog >> text=Extra: 50 left")

    expect(page.locator("dialog [name=to]")).to_have_value("50")
    expect(page.locator("dialog h2")).to_contain_text("Extra balance")


def test_the_history_of_a_balance_opens_from_its_popup(signed_in: SignIn, acme: Customer):
    """A-37"""
    page = signed_in()
    page.goto(address(acme))
    page.click(".cus-feature__name a")

    page.click("dialog >> text=History of this balance")

    rows = page.locator("dialog tbody tr")
    expect(rows.first).to_contain_text("+100")
    expect(rows.last).to_contain_text("72")


def test_a_detail_is_changed_by_a_click_on_it(signed_in: SignIn, acme: Customer):
    """A-51"""
    page = signed_in()
    page.goto(address(acme))
    page.click("[aria-label^='Change e-mail']")
    page.fill("dialog [name=email]", "billing@")
    page.keyboard.press("Enter")
    expect(page.locator("dialog .desk-error")).to_have_text("Enter a valid email address.")

    page.fill("dialog [name=email]", "billing@acme.example")
    page.keyboard.press("Enter")

    expect(page.locator("[aria-label^='Change e-mail']")).to_contain_text("billing@acme.example")
    expect(page.locator(".cus-acts")).to_contain_text("Changed the e-mail")


def test_a_customer_who_owes_is_not_deleted_until_all_is_settled(signed_in: SignIn, now: datetime):
    """A-52"""
    who = a.customer(since=now)
    a.enable(who, a.pro(), now=now)
    page = signed_in()
    page.goto(address(who))
    page.click("[aria-label=Settings]")
    expect(page.locator(".cus-blockers li")).to_have_count(2)

    page.click("text=Open the invoice")
    page.click(".desk-head__acts >> text=Void")
    page.fill("dialog [name=reason]", "test deal")
    page.click("dialog button")
    expect(page.locator(".desk-head h2")).to_contain_text("Void")

    page.goto(reverse("admin:customer_settings", args=[who.pk]))
    expect(page.locator(".cus-blockers li")).to_have_text([re.compile("Pro is running and paid for")])


def test_the_name_confirms_a_deletion(signed_in: SignIn, now: datetime):
    """A-52"""
    who = a.customer(since=now)
    page = signed_in()
    page.goto(reverse("admin:customer_settings", args=[who.pk]))
    page.click("text=Delete Acme Robotics")
    page.fill("dialog [name=reason]", "asked by mail")
    page.fill("dialog [name=confirm_name]", "Acme")
    page.click("dialog button")
    expect(page.locator("dialog .desk-error")).to_contain_text("Type the customer's name")

    page.fill("dialog [name=confirm_name]", "Acme Robotics")
    page.click("dialog button")
    page.wait_for_url("**" + address(who))

    expect(page.locator("main, #content").first).to_contain_text("Personal data is erased on")
    expect(page.locator("text=Enable Product")).to_have_count(0)


def test_who_may_only_look_sees_everything_and_changes_nothing(signed_in: SignIn, acme: Customer):
    """A-53"""
    page = signed_in("readonly")
    page.goto(address(acme))

    expect(page.locator(".cus-feature").first).to_contain_text("72 of 100 left")
    expect(page.locator("text=Enable Product")).to_have_count(0)
    expect(page.locator("[aria-label=Settings]")).to_have_count(0)
    for name, *args in [
        ("customer_balance", acme.pk, "credits"),
        ("customer_detail", acme.pk, "name"),
        ("customers_customer_delete", acme.pk),
        ("customers_customer_add",),
    ]:
        answer = page.goto(reverse(f"admin:{name}", args=args))
        assert answer is not None
        assert answer.status == 403
        expect(page.locator("#content")).to_contain_text("You may not do this")


def test_a_payment_is_recorded_in_parts(signed_in: SignIn, now: datetime):
    who = a.customer(since=now)
    a.enable(who, a.pro(), now=now)
    page = signed_in()
    page.goto(reverse("admin:invoicing_invoice_change", args=[who.invoices.get().pk]))

    for amount in ("20", "30"):
        page.click("text=Record payment")
        page.fill("dialog [name=amount]", amount)
        page.fill("dialog [name=reference]", f"wire {amount}")
        page.click("dialog button")
        expect(page.locator(".cus-timeline")).to_contain_text(f"${amount}.00 received")

    expect(page.locator(".desk-head h2")).to_contain_text("Paid")


def test_without_javascript_a_balance_is_set_on_a_page_of_its_own(signed_in: SignIn, acme: Customer):
    page = signed_in(javascript=False)
    page.goto(address(acme))

    page.click(".cus-feature__name a")
    page.fill("[name=to]", "300")
    page.fill("[name=reason]", "outage")
    page.click("text=Set balance")

    expect(page.locator(".cus-feature").first).to_contain_text("300 of 328 left")


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(signed_in: SignIn, acme: Customer, now: datetime, width: int):
    Customer.objects.filter(pk=acme.pk).update(name="W" * 120, email=f"{'w' * 60}@{'w' * 60}.example")
    a.use(acme, 1, now=now, key="k" * 200)
    page = signed_in(width=width)

    for where in (address(acme), reverse("admin:customers_customer_changelist"), "/invoicing/invoice/"):
        page.goto(where)
        beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert beyond <= 0, where


def test_everything_is_reached_by_keyboard(signed_in: SignIn, acme: Customer):
    page = signed_in()
    page.goto(address(acme))

    page.focus(".cus-feature__name a")
    page.keyboard.press("Enter")
    expect(page.locator("dialog [name=to]")).to_be_focused()
    page.keyboard.press("Escape")

    expect(page.locator(".cus-feature__name a").first).to_be_focused()
