"""A deal from its first line to the contract: built by one person, approved by another, sent, signed, executed."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse
from playwright.sync_api import Page, expect

from customers.models import Customer
from deals.models import Deal
from tests import builders as a
from tests.approving import rule
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def acme() -> Customer:
    """Nobody's customer yet; a plan of $50.00 a month, and a rule that nobody gives more than a tenth alone."""
    finance, _ = Group.objects.get_or_create(name="Finance")
    finance.permissions.add(*Permission.objects.filter(codename="decide_approval"))
    a.plan("pro", a.fee(50), a.allowance(1000, of="calls", price="0.01"))
    rule("deal.approved", measure="discount", above="10")
    return a.customer(customer_id="acme")


def test_a_deal_goes_from_draft_to_executed_with_an_approval_by_a_second_person(signed_in: SignIn, acme: Customer):
    page = signed_in(width=1440)
    build(page)
    page.get_by_role("link", name="Submit for approval").click()
    expect(the_dialog(page)).to_contain_text("$1,020.00 over 24 months, 15.00 % below list.")
    the_dialog(page).get_by_label("Why").fill("A well-known name")
    page.get_by_role("button", name="Submit for approval").click()
    expect(page.get_by_text("Awaiting approval").first).to_be_visible()
    expect(page.get_by_role("link", name="Send", exact=True)).to_have_count(0)

    User.objects.create_superuser("boss")
    approve(signed_in("boss"))

    page.reload()
    expect(page.locator(".desk-head h2")).to_contain_text("Approved")
    page.get_by_role("link", name="Send", exact=True).click()
    expect(the_dialog(page).get_by_label("Text")).to_have_value(re.compile("please find our order form attached"))
    the_dialog(page).get_by_label("To", exact=False).first.fill("cfo@acme.example")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("link", name="Record acceptance").click()
    the_dialog(page).get_by_label("Who signed").fill("Ada Lovelace")
    page.get_by_role("button", name="Record acceptance").click()
    page.get_by_role("link", name="Execute").click()
    expect(the_dialog(page)).to_contain_text("1 more phase follows by itself")
    page.get_by_role("button", name="Execute").click()

    expect(page.locator(".desk-head h2")).to_contain_text("Executed")
    deal = Deal.objects.get()
    assert (deal.state, deal.approved_by) == (Deal.State.EXECUTED, "boss")
    assert deal.subscription.phases.count() == 2
    assert acme.subscriptions.get() == deal.subscription


def build(page: Page) -> None:
    """Two years below list, the second less so; the numbers follow while one types."""
    page.goto(reverse("admin:deals_deal_changelist"))
    page.get_by_role("link", name="New deal").first.click()
    box = the_dialog(page)
    box.get_by_label("Customer").fill("acme")
    box.get_by_label("Start from").select_option("plan:pro")
    box.get_by_label("Term, months").fill("24")
    page.get_by_role("button", name="Begin the deal").click()

    happens = page.locator("#happens")
    expect(happens).to_contain_text("$1,200.00")
    page.locator("[name=p0-label]").fill("Year 1")
    page.locator("#p0 [aria-label='Base fee: amount in USD']").fill("40.00")
    expect(happens).to_contain_text("20.00 %")
    page.get_by_role("button", name="Add a phase").click()
    expect(page.locator("[name=p1-label]")).to_have_value("Year 2")
    expect(happens).to_contain_text("Year 2")
    page.locator("#p1 > summary").click()
    page.locator("#p1 [aria-label='Base fee: amount in USD']").fill("45.00")
    expect(happens).to_contain_text("$1,020.00")
    page.get_by_role("button", name="Save version 2").click()
    expect(page.get_by_text("Saved version 2").first).to_be_visible()


def approve(page: Page) -> None:
    page.goto(reverse("admin:approvals"))
    page.locator("a", has_text="Acme Robotics: Pro").first.click()
    expect(page.locator("body")).to_contain_text("A well-known name")
    page.get_by_role("link", name="Approve", exact=True).click()
    the_dialog(page)
    page.get_by_role("button", name="Approve and do it").click()
    expect(page.locator("body")).to_contain_text("Approved and done")


def test_a_wrong_cell_says_so_while_one_types_and_is_well_again(signed_in: SignIn, acme: Customer):
    page = signed_in(width=1440)
    page.goto(f"{reverse('admin:deals_deal_add')}?customer=acme&plan=pro")
    page.get_by_role("button", name="Begin the deal").click()
    amount = page.locator("#p0 [aria-label='Base fee: amount in USD']")

    amount.fill("fourty")
    expect(page.locator("#p0-r0-price-error")).to_contain_text("is not a number")
    expect(amount).to_have_attribute("aria-invalid", "true")
    amount.fill("40")

    expect(page.locator("#happens")).to_contain_text("20.00 %")
    expect(page.locator("#p0-r0-price-error")).to_have_count(0)


def test_the_builder_works_without_javascript(signed_in: SignIn, acme: Customer):
    page = signed_in(width=1440, javascript=False)
    page.goto(f"{reverse('admin:deals_deal_add')}?customer=acme&plan=pro")
    page.get_by_role("button", name="Begin the deal").click()

    page.get_by_role("button", name="Add a phase").click()
    page.locator("[name=p0-months]").fill("6")
    page.get_by_role("button", name="Save version 2").click()

    expect(page.get_by_text("Saved version 2").first).to_be_visible()
    assert len(Deal.objects.get().versions.first().content["phases"]) == 2
