"""An issued invoice becomes a Stripe invoice, is paid there, and opens here what waited for it."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pytest_django.fixtures import Settings as Given

from billing_admin.flows import stripe_collect, stripe_customers
from billing_admin.flows.corrections import credit_invoice, mark_uncollectible, void_invoice
from billing_admin.flows.customers import update_customer
from billing_admin.flows.gate import collect as pay_by_hand
from billing_admin.flows.plan_change import Activation
from customers.models import Customer
from invoicing.models import CreditEntry, Invoice, Payment
from payments.models import Method, StripeAccount, StripeCustomer, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1, MARCH_16

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
State = StripeInvoice.State


@pytest.fixture(autouse=True)
def keys(settings: Given, double: "Double") -> None:
    settings.STRIPE_SECRET_KEY = double.key
    settings.STRIPE_API_URL = double.url
    settings.STRIPE_WEBHOOK_SECRET = double.webhook_secret
    double.set_clock(MARCH_1)
    stripe_collect.enqueue(MARCH_1)


def owing(name: str = "Acme Robotics") -> Invoice:
    """The first invoice of a customer who enabled Pro for $50."""
    who = a.customer(name)
    a.enable(who, a.pro(), activation=Activation.AFTER_PAYMENT)
    return who.invoices.get()


def with_card(invoice: Invoice, double: "Double", number: str = "4242424242424242") -> StripeCustomer:
    known = stripe_customers.ensure(invoice.customer, MARCH_1)
    double.add_card(known.stripe_id, number)
    found = stripe_customers.refresh_customer(known.stripe_id, MARCH_1)
    assert found is not None
    return found


def collected(invoice: Invoice, now=MARCH_1) -> StripeInvoice:
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)
    return StripeInvoice.objects.select_related("invoice").get(invoice=invoice)


def test_a_saved_card_is_charged_once_and_the_plan_begins(double: "Double"):
    """Y-25."""
    invoice = owing()
    with_card(invoice, double)

    row = collected(invoice)
    again = stripe_collect.refresh(row, MARCH_1)

    assert (row.state, row.status, row.invoice.state) == (State.PAID, "paid", "paid")
    assert [(c["amount"], c["currency"]) for c in double.ledger()] == [(5000, "usd")]
    assert again.collected == 5000
    payment = Payment.objects.get(invoice=invoice)
    assert (payment.provider, payment.reference, payment.amount) == ("stripe", row.payment_intent, 5000)
    assert a.the_subscription(invoice.customer).state == "active"


def test_without_a_card_the_invoice_waits_on_stripes_page_until_one_is_saved(double: "Double"):
    """Y-23, Y-24."""
    invoice = owing()

    row = collected(invoice)

    assert (row.state, row.status) == (State.NEEDS_METHOD, "open")
    assert row.hosted_url.startswith(double.url)
    assert not a.access(invoice.customer).allowed
    with_card(invoice, double)
    assert collected(invoice).state == State.PAID
    assert len(double.ledger()) == 1


def test_with_a_new_card_what_waited_for_one_is_handed_over_at_once(
    double: "Double", django_capture_on_commit_callbacks: Any
):
    collected(owing())

    with django_capture_on_commit_callbacks() as told:
        with_card(Invoice.objects.get(), double)

    assert len(told) == 1


def test_a_declined_card_says_why_and_is_charged_again_on_the_next_day_for_retries(double: "Double"):
    invoice = owing()
    with_card(invoice, double, "4000000000000341")

    row = collected(invoice)

    assert (row.state, row.code) == (State.DECLINED, "generic_decline")
    assert "declined" in row.problem
    assert row.next_attempt_at == MARCH_1 + timedelta(days=3)
    assert collected(invoice, MARCH_1 + timedelta(days=1)).charges == 1
    assert collected(invoice, MARCH_1 + timedelta(days=3)).charges == 2
    assert double.ledger() == []


def test_a_card_that_asks_its_owner_waits_for_them(double: "Double"):
    invoice = owing()
    with_card(invoice, double, "4000002500003155")

    row = collected(invoice)

    assert row.state == State.ACTION
    assert collected(invoice, MARCH_1 + timedelta(days=1)).charges == 1
    double.authenticate(row.payment_intent)
    assert stripe_collect.refresh(row, MARCH_16).state == State.PAID


def test_days_to_pay_make_an_invoice_that_is_sent_and_not_charged(double: "Double"):
    invoice = owing()
    Invoice.objects.filter(pk=invoice.pk).update(due_at=MARCH_16)
    with_card(invoice, double)

    row = collected(invoice)

    assert (row.method, row.state) == (Method.SEND, State.SENT)
    there = double.object(row.stripe_id)
    assert (there["collection_method"], there["due_date"]) == ("send_invoice", int(MARCH_16.timestamp()))
    assert double.ledger() == []


def test_lines_discount_tax_and_account_credit_come_over_to_the_cent(double: "Double"):
    a.tax_rate("7", is_default=True)
    who = a.customer()
    a.enable(who, a.plan("pro", a.fee("49.99"), a.fee("0.34", key="extra")), activation=Activation.AFTER_PAYMENT)
    invoice = who.invoices.get()

    row = collected(invoice)

    lines = [(line["description"], line["amount"]) for line in double.object(row.stripe_id)["lines"]["data"]]
    assert sum(amount for _, amount in lines) == invoice.due == row.asked
    assert ("VAT 7 %", invoice.tax_added) in lines


def test_a_total_that_stripe_makes_otherwise_stops_before_it_is_final(double: "Double"):
    invoice = owing()
    known = stripe_customers.ensure(invoice.customer, MARCH_1)
    double.edit(known.stripe_id, balance=-300)

    row = collected(invoice)

    assert (row.state, row.code, row.status) == (State.PARKED, "total_mismatch", "draft")
    assert "$47.00" in row.problem and "$50.00" in row.problem
    assert row.next_attempt_at is None
    assert invoice.customer.operations.filter(verb="collection.parked").count() == 1


def test_what_is_voided_here_is_voided_there(double: "Double"):
    invoice = owing()
    row = collected(invoice)

    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)

    assert collected(invoice).state == State.VOID
    assert double.object(row.stripe_id)["status"] == "void"


def test_what_is_paid_by_hand_is_settled_there_without_a_charge(double: "Double"):
    invoice = owing()
    row = collected(invoice)

    pay_by_hand(invoice, amount=5000, reference="bank 7", actor=a.STAFF, now=MARCH_1)

    assert collected(invoice).state == State.OUTSIDE
    assert double.object(row.stripe_id)["status"] == "paid"
    assert double.ledger() == []


def test_what_is_given_up_here_is_given_up_there(double: "Double"):
    who = a.on(a.pro())
    a.pass_time(who, to=a.the_subscription(who).period_ends_at, pays=False)
    invoice = who.invoices.unpaid().get()
    row = collected(invoice, invoice.issued_at)

    mark_uncollectible(invoice, reason="closed shop", actor=a.STAFF, now=invoice.issued_at)

    assert collected(invoice, invoice.issued_at).state == State.UNCOLLECTIBLE
    assert double.object(row.stripe_id)["status"] == "uncollectible"


def test_a_credit_note_on_an_open_invoice_makes_stripe_ask_for_less(double: "Double"):
    invoice = owing()
    row = collected(invoice)

    credit_invoice(invoice, amount=2000, settlement="offset", reason="late start", actor=a.STAFF, now=MARCH_1)
    StripeInvoice.objects.update(next_attempt_at=MARCH_1)
    with_card(invoice, double)
    collected(invoice)

    assert double.object(row.stripe_id)["pre_payment_credit_notes_amount"] == 2000
    assert [charge["amount"] for charge in double.ledger()] == [3000]
    assert Invoice.objects.get(pk=invoice.pk).state == "paid"


def test_money_that_comes_for_a_void_invoice_becomes_account_credit_with_an_alert(double: "Double"):
    invoice = owing()
    row = collected(invoice)
    card = {"number": "4242424242424242", "expiry": "12/34", "cvc": "123"}
    httpx.post(row.hosted_url, data=card, follow_redirects=True).raise_for_status()
    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)

    row = collected(invoice)

    assert row.invoice.state == "void"
    assert CreditEntry.objects.get(kind="late").amount == 5000
    assert invoice.customer.operations.get(verb="payment.late").effects["alert"] is True


def test_invoices_from_before_the_connection_wait_for_somebody_to_ask(double: "Double"):
    invoice = owing()
    StripeAccount.objects.update(connected_at=MARCH_16)

    assert stripe_collect.enqueue(MARCH_16) == 0
    stripe_collect.start(invoice, actor=a.STAFF, now=MARCH_16)

    assert collected(invoice, MARCH_16).stripe_id is not None


def test_a_customer_is_told_once_and_again_when_they_change(double: "Double"):
    known = stripe_customers.ensure(a.customer(), MARCH_1)
    assert stripe_customers.sync_due(MARCH_1) == 0

    update_customer(Customer.objects.get(), name="Acme Inc.", email="pay@acme.example", actor=a.STAFF, now=MARCH_1)

    assert stripe_customers.sync_due(MARCH_1) == 1
    there = double.object(known.stripe_id)
    assert (there["name"], there["email"]) == ("Acme Inc.", "pay@acme.example")
    assert there["metadata"]["customer_id"] == known.customer.customer_id
    assert stripe_customers.sync_due(MARCH_1) == 0


def test_an_e_mail_that_is_gone_here_goes_there(double: "Double"):
    who = a.customer()
    Customer.objects.filter(pk=who.pk).update(email="old@acme.example")
    known = stripe_customers.ensure(Customer.objects.get(), MARCH_1)

    update_customer(who, email="", actor=a.STAFF, now=MARCH_1)
    stripe_customers.sync_due(MARCH_1)

    assert double.object(known.stripe_id)["email"] is None


def test_keys_of_another_account_are_refused(double: "Double", settings: Given):
    double.reset()  # another account
    settings.STRIPE_SECRET_KEY = "sk_test_double"
    StripeAccount.objects.update(key_digest="other", stripe_id="acct_books")

    assert stripe_collect.enqueue(MARCH_16) == 0

    account = StripeAccount.present()
    assert account is not None and account.failing_since == MARCH_16
    assert "acct_books" in account.last_error
