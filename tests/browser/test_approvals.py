"""A discount that a second person has to approve: asked for by one, looked at and approved by another."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse
from playwright.sync_api import Page, expect

from billing_admin.models import ApprovalRequest
from customers.models import Customer
from tests import builders as a
from tests.approving import coupon, rule
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def acme() -> Customer:
    """Ten days on Pro; a coupon that halves it, and a rule that nobody gives away so much alone."""
    finance, _ = Group.objects.get_or_create(name="Finance")
    finance.permissions.add(*Permission.objects.filter(codename__in=["decide_approval", "apply_coupon"]))
    who = a.on(a.pro(50), since=datetime.now(UTC).replace(microsecond=0) - timedelta(days=10))
    coupon("half", percent="50")
    rule("coupon.applied", measure="discount", above="20")
    return who


def test_a_coupon_is_asked_for_by_one_person_and_approved_by_another(signed_in: SignIn, acme: Customer):
    """A-53"""
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[acme.pk]))

    page.get_by_role("link", name="Add coupon").click()
    page.fill("dialog [name=code]", "half")
    page.fill("dialog [name=reason]", "they asked for it")
    page.locator("dialog .desk-btn--primary").click()
    expect(the_dialog(page)).to_contain_text("A coupon with a discount above 20 % needs approval by Finance.")
    expect(the_dialog(page)).to_contain_text("Give Acme Robotics the coupon Half")
    page.get_by_role("button", name="Ask for approval").click()

    page.wait_for_url("**/approvals/apr_*/")
    expect(page.locator("body")).to_contain_text("Finance is asked for approval")
    expect(page.get_by_role("link", name="Withdraw")).to_be_visible()
    expect(page.get_by_role("link", name="Approve")).to_have_count(0)
    assert not acme.applied_coupons.exists()

    User.objects.create_superuser("boss")
    page = signed_in("boss")
    page.goto(reverse("admin:approvals"))
    expect(page.locator("#nav-sidebar-apps a", has_text="Approvals")).to_contain_text("1")
    page.get_by_role("link", name="Give Acme Robotics the coupon Half").click()
    expect(page.locator("body")).to_contain_text("“they asked for it”")
    page.get_by_role("link", name="Approve", exact=True).click()
    expect(the_dialog(page)).to_contain_text("done at once, in the name of")
    page.get_by_role("button", name="Approve and do it").click()

    expect(page.locator("body")).to_contain_text("Approved and done")
    [applied] = acme.applied_coupons.all()
    request = ApprovalRequest.objects.get()
    assert (applied.coupon.code, request.state, request.decided_by) == ("half", "applied", "boss")


def test_the_dialog_that_asks_can_be_left_with_the_keyboard(signed_in: SignIn, acme: Customer):
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[acme.pk]))
    page.get_by_role("link", name="Add coupon").click()
    page.fill("dialog [name=code]", "half")
    page.locator("dialog .desk-btn--primary").click()
    expect(the_dialog(page)).to_contain_text("needs approval by Finance")

    page.keyboard.press("Escape")

    expect(page.locator("#desk-dialog")).to_be_hidden()
    assert not ApprovalRequest.objects.exists()
