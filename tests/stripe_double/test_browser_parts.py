"""The pages of the double, read without a browser; the control plane over HTTP; the state kept in a file."""

import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.stripe_double import Double
from tests.stripe_double.conftest import Shop
from tests.stripe_double.remote import Remote

CARD = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}


def visit(url: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str, str]:
    """Status, text and final address."""
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:  # noqa: S310
            return answer.status, answer.read().decode("latin-1"), answer.url
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(), url


def test_the_hosted_page_takes_a_card_after_a_decline(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)
    _, text, _ = visit(invoice.hosted_invoice_url)
    assert "Pay $50.00" in text

    status, text, _ = visit(invoice.hosted_invoice_url, {**CARD, "number": "4000 0000 0000 0002"})
    assert (status, "Your card was declined." in text, "Pay $50.00" in text) == (402, True, True)
    status, text, _ = visit(f"{invoice.hosted_invoice_url}?return=https://acme.test/", CARD)

    assert (status, "Invoice paid" in text) == (200, True)
    assert shop.api.invoices.retrieve(invoice.id).status == "paid"


def test_the_hosted_page_sends_the_owner_to_prove_it_and_back(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    _, text, address = visit(invoice.hosted_invoice_url, {**CARD, "number": "4000000000003220"})
    assert "/3ds/" in address
    assert "Complete" in text
    _, text, address = visit(address, {"answer": "complete"})

    assert "Invoice paid" in text
    assert "redirect_status=succeeded" in address


def test_an_invoice_has_a_pdf(shop: Shop) -> None:
    status, text, _ = visit(shop.open(shop.customer(), 5000).invoice_pdf)

    assert (status, text[:5], "startxref" in text, "$50.00" in text) == (200, "%PDF-", True, True)


def test_the_script_for_our_page_is_served(shop: Shop) -> None:
    status, text, _ = visit(f"{shop.double.url}/js/stripe.js")

    assert (status, "window.Stripe" in text) == (200, True)


def test_a_browser_confirms_with_the_publishable_key_and_the_secret(shop: Shop) -> None:
    customer = shop.customer()
    intent = shop.api.setup_intents.create({"customer": customer.id})
    browser = {"Authorization": f"Bearer {shop.double.publishable_key}"}
    card = {"type": "card", "card[number]": "4242424242424242", "card[exp_month]": "12", "card[exp_year]": "2034"}
    address = f"{shop.double.url}/v1/setup_intents/{intent.id}/confirm"

    _, text, _ = visit(f"{shop.double.url}/v1/payment_methods", card, **browser)
    method = text.split('"id": "')[1].split('"')[0]
    refused, _, _ = visit(address, {"payment_method": method, "client_secret": "wrong"}, **browser)
    done, _, _ = visit(address, {"payment_method": method, "client_secret": intent.client_secret}, **browser)

    assert (refused, done) == (400, 200)
    assert shop.api.setup_intents.retrieve(intent.id).status == "succeeded"
    assert visit(f"{shop.double.url}/v1/customers", {"name": "Acme"}, **browser)[0] == 403


def test_another_process_controls_it_over_http(shop: Shop) -> None:
    remote, customer = Remote(shop.double.url), shop.customer()

    remote.add_card(customer=customer.id, number="5555555555554444")
    invoice = shop.paid(customer, 5000)

    assert [entry["invoice"] for entry in remote.ledger()] == [invoice.id]
    assert remote.advance(days=1).startswith("2026-03-02")
    with pytest.raises(ValueError, match="LookupError"):
        remote.stop()


def test_what_is_edited_behind_our_back_is_what_is_read(shop: Shop) -> None:
    customer = shop.customer()

    shop.double.edit(customer.id, email="other@acme.test")

    assert shop.api.customers.retrieve(customer.id).email == "other@acme.test"
    assert "customer.updated" not in shop.types()


def test_the_state_is_kept_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "stripe.json"
    first = Double(file=file).start()
    customer = Shop(first).paid(Shop(first).customer("4242424242424242"), 5000).customer
    first.stop()

    second = Double(file=file).start()

    try:
        assert found_invoices(second, customer) == ["paid"]
        assert second.account == first.account
    finally:
        second.stop()


def found_invoices(double: Double, customer: Any) -> list[str]:
    return [invoice.status for invoice in Shop(double).api.invoices.list({"customer": customer}).data]


def test_a_live_key_makes_live_objects() -> None:
    live = Double(key="sk_live_double").start()

    try:
        client = stripe.StripeClient("sk_live_double", base_addresses={"api": live.url})
        assert client.v1.customers.create({"name": "Acme"}).livemode
    finally:
        live.stop()
