"""Why was this denied? From the customer's page to the rows behind the answer."""

import re
from decimal import Decimal

import pytest
from playwright.sync_api import expect

from entitlements.override import override
from tests import builders as a
from tests.browser.conftest import the_dialog
from tests.instants import MARCH_1

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def denied_customer():
    """Used up 100 of 100, months after their plan began."""
    since = MARCH_1
    who = a.on(a.pro(credits=100), since=since)
    a.team(credits=500)
    a.use(who, 60, now=since)
    a.use(who, 40, now=since.replace(day=10))
    return who


def test_why_was_this_denied(signed_in):
    """Y-38, A-37"""
    who = denied_customer()
    page = signed_in()
    page.goto(f"/customers/customer/{who.pk}/")

    page.get_by_role("link", name="why? Credits").click()
    dialog = page.locator("#desk-dialog")
    expect(dialog.get_by_role("heading", name="Credits: why?")).to_be_visible()

    dialog.get_by_label("Units").fill("5")
    dialog.get_by_label("As of (UTC)").fill("2026-03-12T00:00")
    dialog.get_by_role("button", name="Ask").click()
    expect(dialog.get_by_text("5 asked for, 0 left, and the limit is hard. It resets on 1 Apr 2026.")).to_be_visible()

    dialog.get_by_label("As of (UTC)").fill("2026-03-05T00:00")
    dialog.get_by_role("button", name="Ask").click()
    expect(dialog.get_by_text("5 asked for, 40 left: it fits.")).to_be_visible()

    dialog.get_by_role("link", name="Open as a page").click()
    expect(page).to_have_url(re.compile("/why/"))
    expect(page.get_by_text("as it was answered on 5 Mar 2026")).to_be_visible()
    page.get_by_role("link", name="60", exact=True).click()
    expect(page).to_have_url(re.compile("/events/.*feature=credits"))


def test_the_story_is_told_by_keyboard_alone(signed_in):
    who = denied_customer()
    page = signed_in()
    page.goto(f"/customers/customer/{who.pk}/")

    page.get_by_role("link", name="why? Credits").focus()
    page.keyboard.press("Enter")
    box = the_dialog(page)
    box.get_by_label("Units").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    expect(box.get_by_text("7 asked for")).to_be_visible()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()


def test_without_scripts_the_story_is_a_page(signed_in):
    who = denied_customer()
    override(
        who,
        a.feature("credits"),
        value=Decimal(500),
        effective_until=None,
        reason="migration",
        actor=a.STAFF,
        now=MARCH_1.replace(day=11),
    )
    page = signed_in(javascript=False)
    page.goto(f"/customers/customer/{who.pk}/")

    page.get_by_role("link", name="why? Credits").click()
    expect(page.get_by_role("heading", name="Credits: why?")).to_be_visible()
    page.get_by_label("As of (UTC)").fill("2026-03-12T00:00")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("“migration”")).to_be_visible()
    expect(page.get_by_text("adds 400")).to_be_visible()


def test_on_a_phone_nothing_is_cut_off(signed_in):
    who = denied_customer()
    page = signed_in(width=390)
    page.goto(f"/customers/customer/{who.pk}/why/?feature=credits&required=5")

    expect(page.get_by_role("heading", name="Credits: why?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
