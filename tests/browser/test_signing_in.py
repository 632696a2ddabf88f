"""The login form, as a person fills it."""

import pytest
from playwright.sync_api import Browser, expect

from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_password_leads_to_the_page_that_was_asked_for(chromium: Browser, live_server, django_user_model):
    django_user_model.objects.create_superuser("sam", password="in and out")
    who = a.on(a.pro())
    context = chromium.new_context(base_url=live_server.url)
    page = context.new_page()

    page.goto(f"/customers/customer/{who.pk}/")
    page.get_by_label("Username").fill("sam")
    page.locator("[name=password]").fill("in and out")
    page.locator("[name=password]").press("Enter")

    expect(page.get_by_role("link", name="Enable Product")).to_be_visible()
    context.close()
