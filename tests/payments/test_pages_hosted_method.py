"""The page on which a customer saves a way to pay, and what a document says when a payment failed."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stripe
import time_machine
from django.core import mail
from django.test import Client

from billing_admin.flows import stripe_methods
from billing_admin.flows.stripe_collect import collect_due
from customers.models import Customer, Operation
from invoicing.mail import mail_link_to_save
from invoicing.models import BillingSettings, Invoice
from payments.models import StripeAccount, StripeCustomer, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1, MARCH_16
from tests.payments import pages_world as world
from tests.payments.pages_world import ASKS, DECLINES, collect, owing, row_of, save_card

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def keys(settings: Any, double: "Double") -> None:
    world.use(settings, double)


def link_of(who: Customer) -> str:
    return f"/pay/method/{stripe_methods.token_of(who, MARCH_1)}"


def visit(address: str, now: Any = MARCH_1) -> Any:
    with time_machine.travel(now, tick=False):
        return Client().get(address)


def confirmed(double: "Double", method: str = "pm_card_visa") -> str:
    """What Stripe's script does with the newest setup intent; its id."""
    intent = double.objects("setup_intent")[-1]["id"]
    client = stripe.StripeClient(double.key, base_addresses={"api": double.url})
    try:
        client.v1.setup_intents.confirm(intent, {"payment_method": method, "return_url": "https://back.example/"})
    except stripe.CardError as error:
        assert error.code, "a decline, which the page has to tell"
    return str(intent)


# The form


def test_the_form_brings_stripes_script_and_a_secret_of_a_new_setup(double: "Double"):
    answer = visit(link_of(a.customer()))
    html = answer.content.decode()

    [intent] = double.objects("setup_intent")
    assert answer.status_code == 200 and intent["client_secret"] in html
    assert f'<script src="{double.url}/js/stripe.js" defer>' in html and double.publishable_key in html
    assert double.key not in html


def test_the_page_lets_in_stripes_script_and_nothing_else(settings: Any):
    settings.STRIPE_JS_URL = "https://js.stripe.com/v3/"

    answer = visit(link_of(a.customer()))

    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' https://js.stripe.com https://*.js.stripe.com"
    assert policy["frame-src"] == "https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com"
    assert policy["connect-src"] == "https://api.stripe.com"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not answer.cookies and "no-store" in answer.headers["Cache-Control"]
    assert b"style=" not in answer.content and b"onclick" not in answer.content


def test_the_page_has_the_letterhead_and_speaks_german():
    BillingSettings.objects.create(pk=1, company_name="Initech Cloud GmbH", company_address="Ringstraße 4")
    who = a.customer()
    who.locale = "de_DE"
    who.save()

    answer = visit(link_of(who))
    text = world.words(answer)

    assert '<html lang="de">' in answer.content.decode()
    assert "Initech Cloud GmbH Ringstraße 4 Zahlungsart hinterlegen Für Acme Robotics" in text


def test_whoever_has_a_card_reads_which(double: "Double"):
    who = a.customer()
    save_card(who, double)

    assert "Your invoices are charged to Visa ·· 4242 now." in world.words(visit(link_of(who)))


@pytest.mark.parametrize("token", ["nonsense", "eyJjdXN0b21lciI6ImN1c18xIn0.forged", "x" * 2000])
def test_a_link_that_was_not_made_here_leads_nowhere(token: str):
    assert visit(f"/pay/method/{token}").status_code == 404


def test_a_link_ends_after_a_week(double: "Double"):
    link = link_of(a.customer())

    early, late = visit(link, MARCH_1 + timedelta(days=6)), visit(link, MARCH_1 + timedelta(days=7))

    assert (early.status_code, late.status_code) == (200, 410)
    assert "This link is no longer valid" in world.words(late)
    assert len(double.objects("setup_intent")) == 1


def test_the_link_of_a_closed_customer_leads_nowhere():
    who = a.customer()
    who.closed_at = MARCH_1
    who.save()

    assert visit(link_of(who)).status_code == 404


def test_with_stripe_away_the_page_says_so_and_how_to_go_on(double: "Double"):
    double.fault("POST", "/v1/customers", "down", times=None)

    answer = visit(link_of(a.customer()))

    assert answer.status_code == 503
    assert "Our payment service does not answer" in world.words(answer) and "Try again" in world.words(answer)
    assert StripeAccount.objects.get().failing_since == MARCH_1


def test_a_customer_that_was_deleted_there_is_made_again(double: "Double"):
    who = a.customer()
    old = save_card(who, double).stripe_id
    client = stripe.StripeClient(double.key, base_addresses={"api": double.url})
    client.v1.customers.delete(old)

    assert visit(link_of(who)).status_code == 200
    assert StripeCustomer.objects.linked().get(customer=who).stripe_id != old


# What became of it


def test_a_saved_card_becomes_the_one_that_is_charged_and_pays_what_waited(double: "Double"):
    invoice = owing()
    collect(invoice)
    link = link_of(invoice.customer)
    visit(link)

    answer = visit(f"{link}/saved?setup_intent={confirmed(double)}&redirect_status=succeeded")
    collect_due(MARCH_1)

    assert "Saved Your invoices are charged to Visa ·· 4242 from now on." in world.words(answer)
    assert row_of(invoice).state == StripeInvoice.State.PAID
    assert len(double.ledger()) == 1


def test_another_card_takes_the_place_of_the_first(double: "Double"):
    who = a.customer()
    save_card(who, double, DECLINES)
    link = link_of(who)
    visit(link)

    visit(f"{link}/saved?setup_intent={confirmed(double, 'pm_card_mastercard')}")

    row = StripeCustomer.objects.get(customer=who)
    assert row.default_method is not None and row.default_method["last4"] == "4444"
    assert len(row.payment_methods) == 2


def test_looking_twice_notes_it_once(double: "Double"):
    who = a.customer()
    link = link_of(who)
    visit(link)
    address = f"{link}/saved?setup_intent={confirmed(double)}"

    visit(address), visit(address)

    [said] = Operation.objects.filter(verb="payment_method.saved")
    assert (said.actor, said.summary) == ("The customer", "Saved Visa ·· 4242; invoices are charged to it")


def test_what_the_bank_refused_is_not_believed_to_be_saved(double: "Double"):
    """Whatever stands in the address."""
    who = a.customer()
    link = link_of(who)
    visit(link)

    answer = visit(f"{link}/saved?setup_intent={confirmed(double, 'pm_card_chargeDeclined')}&redirect_status=succeeded")

    assert "It was not saved" in world.words(answer) and "Try again" in world.words(answer)
    assert StripeCustomer.objects.get(customer=who).payment_methods == []


def test_what_another_customer_saved_is_not_shown(double: "Double"):
    mine, other = a.customer("Mine"), a.customer("Other")
    visit(link_of(other))
    theirs = confirmed(double)
    visit(link_of(mine))

    answer = visit(f"{link_of(mine)}/saved?setup_intent={theirs}")

    assert answer.status_code == 404
    assert StripeCustomer.objects.get(customer=mine).payment_methods == []


@pytest.mark.parametrize("setup", ["", "seti_unknown", "pi_1"])
def test_a_setup_that_is_not_there_leads_nowhere(setup: str):
    who = a.customer()
    visit(link_of(who))

    assert visit(f"{link_of(who)}/saved?setup_intent={setup}").status_code == 404


# On the document


def document(invoice: Invoice) -> Any:
    return visit(f"/i/{invoice.token}")


def test_a_declined_payment_says_why_and_offers_both_ways(double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    row = collect(invoice)

    answer = document(invoice)
    html = answer.content.decode()

    assert "the payment was declined. You can pay now, or save another payment method" in world.words(answer)
    assert row.hosted_url in html and f"/pay/method/of/{invoice.token}" in html
    assert b"<script" not in answer.content


def test_what_is_said_of_a_decline_tells_no_secrets_of_the_bank():
    invoice = owing()
    collect(invoice)
    told = {}
    for code in ("insufficient_funds", "expired_card", "stolen_card", "fraudulent"):
        StripeInvoice.objects.filter(invoice=invoice).update(state="declined", code=code)
        told[code] = world.words(document(invoice))

    assert "not enough money on the account" in told["insufficient_funds"]
    assert "your card has expired" in told["expired_card"]
    assert told["stolen_card"] == told["fraudulent"]
    assert "stolen" not in told["stolen_card"] and "fraud" not in told["fraudulent"]


def test_a_payment_that_waits_for_its_customer_says_so(double: "Double"):
    invoice = owing(card=ASKS, double=double)
    collect(invoice)

    assert "Your bank asks you to confirm this payment." in world.words(document(invoice))


def test_the_document_leads_to_a_fresh_link():
    invoice = owing()
    collect(invoice)

    answer = visit(f"/pay/method/of/{invoice.token}")

    assert answer.status_code == 302
    assert visit(answer.headers["Location"]).status_code == 200


def test_a_document_that_is_sent_to_be_paid_offers_nothing_to_save():
    BillingSettings.objects.create(pk=1, net_terms_days=14)
    invoice = owing()
    collect(invoice)

    assert "Save a payment method" not in world.words(document(invoice))


# By mail


def test_the_link_goes_out_by_mail_in_the_customers_language():
    who = a.customer()
    who.locale = "de_DE"
    who.save()
    link = stripe_methods.link_to_save(who, MARCH_1)

    assert mail_link_to_save(who, link.url, link.until)

    [sent] = mail.outbox
    assert sent.subject == "Zahlungsart hinterlegen" and link.url in sent.body
    assert "Der Link gilt bis 8. März 2026." in sent.body


# Without keys


@pytest.mark.parametrize("missing", ["STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY"])
def test_without_keys_no_link_leads_anywhere(settings: Any, missing: str):
    invoice = owing()
    collect(invoice)
    link = link_of(invoice.customer)
    setattr(settings, missing, "")

    addresses = [link, f"{link}/saved?setup_intent=seti_1", f"/pay/method/of/{invoice.token}"]

    assert {visit(address).status_code for address in addresses} == {404}
    assert "Save a payment method" not in world.words(visit(f"/i/{invoice.token}", MARCH_16))
