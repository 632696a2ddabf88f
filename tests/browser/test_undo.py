"""Taking a balance edit back, in a browser."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from entitlements.edit import edit_balance
from tests import builders as a
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_balance_edit_is_taken_back_from_the_history(signed_in: Callable[..., Page]):
    now = datetime.now(UTC)
    who = a.on(a.pro(), since=now - timedelta(days=10))
    edit_balance(
        who, feature="credits", to=Decimal(250), reason="outage", actor=a.STAFF, now=now - timedelta(minutes=5)
    )
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[who.pk]))

    page.get_by_text("Set Credits to 250 left (was 100)").first.click()
    page.get_by_role("link", name="Undo").first.click()
    box = the_dialog(page)
    expect(box.get_by_role("row", name="Credits")).to_contain_text("250 left")
    box.get_by_label("Reason").fill("edited the wrong customer")
    box.get_by_role("button", name="Take back: Set Credits to 250 left").click()

    expect(page.get_by_text("Took back the edit of Credits: 100 left (was 250)").first).to_be_visible()
    expect(page.get_by_text("taken back", exact=True).first).to_be_visible()
    assert a.left(who, now=datetime.now(UTC)) == 100
