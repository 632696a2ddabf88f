"""The comparison with Stripe as a person sees it: it runs on the page, tells what differs, and repairs on a click."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect
from pytest_django.fixtures import Settings as Given

from billing_admin.admin import stripe_compare as pages
from billing_admin.flows import stripe_compare
from payments.models import Difference
from tests.browser.conftest import the_dialog
from tests.payments.compare_world import compare, forget_payment, paid_invoice, use

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double", monkeypatch: pytest.MonkeyPatch) -> "Double":
    use(settings, double)
    # No worker is there to take it up: the test carries out its pages itself.
    monkeypatch.setattr(pages, "hand_over", lambda: None)
    return double


def test_a_comparison_is_followed_and_what_it_found_repaired_after_a_preview(signed_in: SignIn, double: "Double"):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    page = signed_in()
    page.goto("/stripe/compare/")
    expect(page.locator("#comparison")).to_contain_text("Never compared")

    page.get_by_role("button", name="Compare now").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    run = stripe_compare.unfinished()
    assert run is not None
    stripe_compare.carry_on(run, run.started_at, pages=1000)
    page.get_by_role("link", name=f"Record the payment {invoice.public_id}").click()
    box = the_dialog(page)
    expect(box).to_contain_text(f"for {invoice}")
    expect(box).to_contain_text(f"{invoice} is paid")
    box.get_by_role("button", name="Record the payment").click()

    expect(page.locator("body")).to_contain_text("both sides agree")
    expect(page.get_by_role("region", name="Differences")).to_contain_text("Everything in step as of")
    invoice.refresh_from_db()
    assert invoice.state == "paid"


def test_the_preview_of_a_repair_closes_by_keyboard_and_writes_nothing(signed_in: SignIn, double: "Double"):
    forget_payment(paid_invoice(double))
    compare()
    page = signed_in()
    page.goto("/stripe/compare/")

    page.get_by_role("link", name="Record the payment in_").click()
    box = the_dialog(page)
    page.keyboard.press("Escape")

    expect(box).to_be_hidden()
    assert Difference.objects.get().settled_at is None
