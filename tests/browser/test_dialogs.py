"""How every dialog of the desk behaves, whatever stands in it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from playwright.sync_api import Page, Route, expect

from tests import builders as a
from tests.browser.conftest import the_dialog

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]

# When something new stands in the dialog: is it open, with the focus on its content, before anybody can press a key?
WATCH = """
  window.ready = null;
  document.addEventListener("htmx:afterSwap", (event) => {
    const box = event.detail.target;
    if (box.id !== "desk-dialog" || window.ready !== null) return;
    queueMicrotask(() => { window.ready = box.open && box.querySelector(":focus") !== null; });
  });
"""


@pytest.fixture
def page(signed_in: SignIn) -> Page:
    """On the page of a customer with a balance."""
    now = datetime.now(UTC)
    who = a.on(a.pro(), since=now - timedelta(days=10))
    a.use(who, 28, now=now - timedelta(days=1))
    page = signed_in()
    page.goto(reverse("admin:customers_customer_change", args=[who.pk]))
    return page


def test_a_dialog_opens_in_the_moment_its_content_comes(page: Page):
    page.evaluate(WATCH)

    page.click(".cus-feature__name .cus-row-link")
    the_dialog(page)

    assert page.evaluate("window.ready") is True


def test_a_dialog_that_is_closed_while_its_new_content_comes_stays_closed(page: Page):
    page.click(".cus-feature__name .cus-row-link")
    box = the_dialog(page)
    held: list[Route] = []
    page.route("**/ledger/**", lambda route: held.append(route))
    with page.expect_request("**/ledger/**"):
        box.get_by_text("History of this balance").click()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()

    page.evaluate(
        "window.answered = false; document.addEventListener('htmx:afterRequest', () => window.answered = true)"
    )
    held.pop().continue_()
    page.wait_for_function("window.answered")

    expect(box).to_be_hidden()
    page.click(".cus-feature__name .cus-row-link")
    the_dialog(page)


def test_a_dialog_closes_by_a_click_beside_it_and_gives_the_focus_back(page: Page):
    page.click(".cus-feature__name .cus-row-link")
    box = the_dialog(page)

    page.mouse.click(5, 5)

    expect(box).to_be_hidden()
    expect(page.locator(".cus-feature__name .cus-row-link")).to_be_focused()
