"""Invoices as people use them: a customer who opens a link, and staff who bring a draft to a credit note."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from invoicing.models import BillingSettings, Invoice
from tests import builders as a

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SignIn = Callable[..., Page]


@pytest.fixture
def visitor(chromium: Browser, live_server: Any) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Somebody with a link and without an account; with what the browser complained about."""
    contexts = []

    def visit(invoice: Invoice, **options: Any) -> tuple[Page, list[str]]:
        context = chromium.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto(f"/i/{invoice.token}")
        page.wait_for_load_state("networkidle")
        return page, complaints

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def invoice(now: datetime) -> Invoice:
    BillingSettings.objects.create(pk=1, company_name="Initech", net_terms_days=14, payment_instructions="IBAN DE02")
    who = a.customer(since=now)
    a.enable(who, a.pro(), now=now)
    return who.invoices.get()


def address(invoice: Invoice) -> str:
    return reverse("admin:invoicing_invoice_change", args=[invoice.pk])


def test_a_customer_reads_how_an_amount_came_about_without_scripts(visitor, invoice: Invoice):
    page, complaints = visitor(invoice, java_script_enabled=False)

    expect(page.locator("h1")).to_have_text("Invoice ACME-0001")
    expect(page.locator(".notice__head")).to_contain_text("$50.00 due by")
    page.click("summary")
    expect(page.locator(".why")).to_contain_text("Pro, whole period: $50.00 = $50.00")
    expect(page.locator(".pay")).to_contain_text("ACME-0001")
    assert complaints == []


def test_the_page_fits_a_telephone_in_the_dark_and_keeps_no_cookies(visitor, invoice: Invoice):
    page, complaints = visitor(invoice, viewport={"width": 390, "height": 844}, color_scheme="dark")

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.context.cookies() == []
    assert complaints == []


def test_on_paper_every_sum_stands_open_and_no_button(visitor, invoice: Invoice):
    page, _ = visitor(invoice)

    page.emulate_media(media="print")

    expect(page.locator(".acts")).to_be_hidden()
    expect(page.locator(".why")).to_be_visible()


def test_the_pdf_is_one_click_away(visitor, invoice: Invoice):
    page, _ = visitor(invoice)

    answer = page.context.request.get(page.locator("text=Download PDF").get_attribute("href") or "")

    assert answer.headers["content-type"] == "application/pdf" and answer.body().startswith(b"%PDF")


def test_staff_bring_a_draft_to_an_invoice_and_credit_a_part_of_it(signed_in: SignIn, now: datetime):
    """Y-51, Y-52"""
    BillingSettings.objects.create(pk=1, grace_hours=48)
    begun = now - timedelta(days=32)
    who = a.on(a.plan("metered", a.fee(50), a.allowance(100, price="0.10")), since=begun)
    a.use(who, 120, now=begun + timedelta(days=3))
    a.pass_time(who, to=now - timedelta(hours=1), pays=False)
    draft = who.invoices.drafts().get()
    page = signed_in()

    page.goto(address(draft))
    expect(page.locator(".desk-alert")).to_contain_text("A draft: issues in")
    page.click("text=Add a line")
    page.fill("dialog [name=description]", "Onboarding")
    page.fill("dialog [name=amount]", "20")
    page.click("dialog button:has-text('Add line')")
    expect(page.locator(".inv-totals .is-total").first).to_contain_text("$72.00")

    page.click("text=Issue now")
    page.click("dialog button:has-text('Issue now')")
    expect(page.locator(".desk-head h2")).to_contain_text("ACME-0002")

    page.click("text=Credit note")
    page.click("dialog >> text=Line by line")
    page.locator("dialog .inv-credit__line input").last.fill("5")
    expect(page.locator("dialog #credit-outcome")).to_contain_text("$5.00 comes off ACME-0002.")
    page.fill("dialog [name=reason]", "half an hour less")
    page.click("dialog button:has-text('Credit $5.00')")
    expect(page.locator(".desk-head h2")).to_contain_text("ACME-CN-0001")

    page.goto(address(draft))
    expect(page.locator(".inv-totals .is-total").last).to_contain_text("$67.00")
    expect(page.locator(".cus-timeline")).to_contain_text("half an hour less")


def test_a_credit_note_is_made_without_scripts(signed_in: SignIn, now: datetime):
    """Y-51"""
    who = a.on(a.pro(), since=now)
    invoice = who.invoices.get()
    page = signed_in(javascript=False)

    page.goto(address(invoice))
    page.click("text=Credit note")
    page.check("[name=what][value=amount]")
    page.fill("[name=amount]", "12.50")
    page.fill("[name=reason]", "goodwill")
    page.click(".desk-act__buttons button")

    expect(page.locator(".inv-totals .is-total")).to_contain_text("−$12.50")
