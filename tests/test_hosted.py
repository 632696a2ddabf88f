"""What customers see of a document behind its link: the page, the PDF, and how both are kept private."""

from dataclasses import replace
from decimal import Decimal
from html import unescape
from io import BytesIO
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils.html import strip_tags
from pypdf import PdfReader

from billing_admin.flows.plan_change import Activation
from catalog.charges import GRADUATED, Price, Tier
from customers.models import Customer
from invoicing.credit_note import credit
from invoicing.issue import void
from invoicing.models import BillingSettings, Invoice
from invoicing.providers import PROVIDERS, Way
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MARCH_1_NOON = day("2026-03-01T12:00")


def account(**fields: Any) -> BillingSettings:
    return BillingSettings.objects.create(
        pk=1,
        company_name="Initech Cloud GmbH",
        company_address="Ringstraße 4\n10115 Berlin",
        company_tax_number="DE123456789",
        payment_instructions="IBAN DE02 1203 0000 0000 2020 51\nBIC BYLADEM1001",
        invoice_footer="Registered in Berlin, HRB 4711",
        **fields,
    )


def reader(locale: str = "en_US") -> Customer:
    who = a.customer()
    who.locale = locale
    who.save()
    return who


def owing(who: Customer | None = None, price: int = 50) -> Invoice:
    who = who or reader()
    a.enable(who, a.pro(price=price))
    return who.invoices.get()


def visit(invoice: Invoice, *, now: Any = MARCH_1_NOON, suffix: str = "") -> Any:
    with time_machine.travel(now, tick=False):
        return Client().get(f"/i/{invoice.token}{suffix}")


def read(invoice: Invoice, *, now: Any = MARCH_1_NOON) -> str:
    return " ".join(unescape(strip_tags(visit(invoice, now=now).content.decode().replace("<", " <"))).split())


def printed(invoice: Invoice) -> PdfReader:
    return PdfReader(BytesIO(visit(invoice, suffix=".pdf").content))


def words(invoice: Invoice) -> str:
    return " ".join(" ".join(page.extract_text() for page in printed(invoice).pages).split())


# Who may see it


def test_the_page_needs_no_login_and_leaves_no_trace():
    answer = visit(owing())

    assert answer.status_code == 200
    assert not answer.cookies
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "noindex" in answer.headers["X-Robots-Tag"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"<script" not in answer.content and b"style=" not in answer.content


@pytest.mark.parametrize("suffix", ["", ".pdf"])
def test_an_unknown_link_and_a_draft_are_the_same_404(suffix):
    draft = Invoice.objects.create(customer=reader(), currency="USD", total=0)

    of_draft, of_nobody = visit(draft, suffix=suffix), Client().get(f"/i/{'x' * 43}{suffix}")

    assert of_draft.status_code == of_nobody.status_code == 404
    assert of_draft.content == of_nobody.content
    assert of_nobody.headers["Referrer-Policy"] == "no-referrer"


def test_a_number_or_an_id_opens_nothing():
    invoice = owing()

    assert Client().get(f"/i/{invoice.number}").status_code == 404
    assert Client().get(f"/i/{invoice.public_id}").status_code == 404


def test_nothing_can_be_sent_to_the_page():
    assert Client().post(f"/i/{owing().token}").status_code == 405


def test_the_page_takes_few_queries(django_assert_max_num_queries):
    who = reader()
    a.enable(who, a.plan("wide", *(a.fee(5, key=f"fee-{n}") for n in range(20))))
    invoice = who.invoices.get()

    with django_assert_max_num_queries(12):
        visit(invoice)


# What it says


def test_the_letterhead_is_the_accounts():
    account()

    text = read(owing())

    assert "Initech Cloud GmbH Ringstraße 4 10115 Berlin Tax number DE123456789" in text
    assert "Registered in Berlin, HRB 4711" in text


def test_only_the_display_name_of_a_plan_shows():
    """Y-02"""
    plan = a.pro()
    plan.name, plan.invoice_display_name = "Enterprise Q4", "Enterprise"
    plan.save()
    who = reader()
    a.enable(who, plan)

    text = read(who.invoices.get())

    assert "Enterprise, version 1" in text and "Q4" not in text


def test_an_open_invoice_says_what_is_due_and_how_to_pay_it():
    account(net_terms_days=14)

    text = read(owing())

    assert "$50.00 due by Mar 15, 2026" in text
    assert "IBAN DE02 1203 0000 0000 2020 51" in text and "Reference ACME-0001" in text


def test_without_a_provider_that_has_a_page_there_is_no_button():
    account()

    assert "Pay $50.00" not in read(owing())


def test_a_late_invoice_says_since_when():
    assert "$50.00 was due on Mar 1, 2026" in read(owing(), now=MARCH_16)


def test_a_first_invoice_says_that_the_plan_starts_with_its_payment():
    """Y-23"""
    who = reader()
    a.enable(who, a.pro(), activation=Activation.AFTER_PAYMENT)

    text = read(who.invoices.get())

    assert "Your plan starts when this is paid. This link is valid until Mar 2, 2026, 00:00 UTC." in text


def test_a_paid_invoice_says_so_and_asks_for_nothing():
    account()
    who = a.on(a.pro())

    text = read(who.invoices.get())

    assert "Paid on Mar 1, 2026" in text and "Due $0.00" in text
    assert "IBAN" not in text


def test_a_void_invoice_does_not_ask_for_money():
    invoice = owing()
    void(invoice, reason="internal: wrong customer", actor=a.STAFF, now=MARCH_1)

    text = read(invoice)

    assert "This invoice is void Nothing is owed for it." in text
    assert "internal" not in text


def test_a_part_of_a_period_shows_its_sum_version_and_rounding():
    who = a.on(a.pro())
    a.enable(who, a.team(), now=day("2026-03-14"))
    invoice = who.invoices.invoices().latest("id")

    text = read(invoice)

    assert "Team, 18 of 31 days: $200.00 × 1,555,200 s / 2,678,400 s = $116.13" in text
    assert "Rounding 116.129032… exactly, rounded once to $116.13" in text
    assert "Gives back Pro on ACME-0001" in text


def test_tiers_are_told_with_the_line_that_they_price():
    tiers = (Tier(Decimal(100), Decimal("0.10")), Tier(None, Decimal("0.05"), Decimal(2)))
    who = reader()
    a.enable(who, a.plan("tiered", a.fee(5), _tiered(tiers)))
    a.use(who, 300, of="calls", now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    text = read(who.invoices.invoices().latest("id"), now=APRIL_1)

    assert "Price up to 100: $0.10 each; beyond: $0.05 each + $2.00 flat" in text


def _tiered(tiers: tuple[Tier, ...]) -> Any:
    return replace(a.allowance(0, of="calls", soft=True), price=Price(model=GRADUATED, tiers=tiers))


# In the customer's language


def test_a_german_customer_reads_german():
    account(net_terms_days=14)
    who = reader("de_DE")
    a.enable(who, a.pro())
    a.pay_all(who)
    a.enable(who, a.team(), now=day("2026-03-14"))
    invoice = who.invoices.invoices().latest("id")

    answer = visit(invoice, now=day("2026-03-14T12:00"))
    text = read(invoice, now=day("2026-03-14T12:00"))

    assert b'<html lang="de">' in answer.content
    assert "Team, 18 von 31 Tagen: 200,00\N{NO-BREAK SPACE}$ × 1.555.200 s" in unescape(answer.content.decode())
    assert "Ungenutzte Zeit: Pro (ab 14. März 2026)" in text
    assert "fällig am 28. März 2026" in text and "Verwendungszweck ACME-0002" in text


def test_a_missing_page_speaks_the_browsers_language():
    answer = Client().get("/i/nothing", headers={"Accept-Language": "de-DE,de;q=0.9"})

    assert "Hier ist nichts" in answer.content.decode()


# On paper


def test_the_pdf_says_the_same():
    account()

    text = words(owing())

    assert "Invoice ACME-0001" in text and "Ringstraße 4" in text
    assert "Pro, whole period: $50.00 = $50.00" in text
    assert "Due $50.00" in text and "Page 1 of 1" in text


def test_the_pdf_of_the_same_document_is_the_same_to_the_byte():
    invoice = owing()

    assert visit(invoice, suffix=".pdf").content == visit(invoice, suffix=".pdf").content


def test_eighty_lines_go_over_pages_that_count_themselves():
    who = reader()
    a.enable(who, a.plan("wide", *(a.fee(n + 1, key=f"fee-{n}") for n in range(80))))
    document = printed(who.invoices.get())
    pages = [" ".join(page.extract_text().split()) for page in document.pages]

    assert len(pages) > 3
    assert all(f"Page {n} of {len(pages)}" in page for n, page in enumerate(pages, start=1))
    assert all("Description Quantity Amount" in page for page in pages if "whole period" in page)
    assert " ".join(pages).count("whole period") == 80
    assert "Total $3,240.00" in " ".join(pages)


@pytest.mark.parametrize(
    ("currency", "shown"), [("EUR", "€50.00"), ("GBP", "£50.00"), ("JPY", "¥50"), ("INR", "₹50.00")]
)
def test_the_font_has_the_signs_of_currencies(settings, currency, shown):
    settings.CURRENCIES = ["EUR", "GBP", "JPY", "INR"]
    who = reader()
    who.currency = currency
    who.save()
    a.enable(who, a.plan("local", a.fee(50), currency=currency))

    assert shown in words(who.invoices.get())


def test_signs_that_would_be_markup_are_printed_as_they_are():
    who = reader()
    who.name, who.billing_address = "A & B <Ltd>", "1 < 2 Street"
    who.save()

    assert "A & B <Ltd> 1 < 2 Street" in words(owing(who))


def test_a_provider_with_a_page_of_its_own_gets_a_button(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "cards", lambda invoice, account: Way("cards", url="https://pay.example/1"))

    answer = visit(owing())

    assert 'href="https://pay.example/1" rel="noreferrer">Pay $50.00</a>' in answer.content.decode()


def test_a_credit_note_says_where_the_money_goes_and_not_why():
    """Y-51"""
    who = a.on(a.pro())
    note = credit(
        who.invoices.get(), amount=1500, settlement="account_credit", reason="case 412", actor=a.STAFF, now=MARCH_16
    )

    text = read(note)

    assert "Credit note ACME-CN-0001" in text and "Corrects ACME-0001" in text
    assert "$15.00 added to your account credit" in text and "Total credited −$15.00" in text
    assert "case 412" not in text


def test_a_refund_that_is_still_to_be_made_says_so():
    """Y-51"""
    who = a.on(a.pro())
    note = credit(who.invoices.get(), amount=1500, settlement="refund", reason="x", actor=a.STAFF, now=MARCH_16)

    assert "$15.00 will be paid back to you" in read(note)
