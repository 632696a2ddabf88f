"""How a customer pays, on their page; and the acts on it."""

from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing_admin.flows.customers import update_customer
from billing_admin.flows.stripe_customers import sync_due
from customers.models import Customer, Operation
from payments.models import Method, StripeAccount, StripeCustomer, StripeInvoice
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1
from tests.payments import pages_world as world
from tests.payments.pages_world import DECLINES, GOOD, collect, get, owing, post, row_of, save_card

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
ACTS = ["payment-link", "collection", "refresh", "methods/pm_1/default", "methods/pm_1/remove"]


@pytest.fixture(autouse=True)
def keys(settings: Any, double: "Double") -> None:
    world.use(settings, double)


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


def page_of(client: Client, who: Customer) -> str:
    return world.words(get(client, f"/customers/customer/{who.pk}/"))


def address(who: Customer, act: str) -> str:
    return f"/customers/customer/{who.pk}/stripe/{act}/"


def ids(who: Customer) -> list[str]:
    return [method["id"] for method in StripeCustomer.objects.get(customer=who).payment_methods]


# What stands there


def test_who_is_not_in_stripe_yet_is_made_with_the_first_invoice(finance: Client):
    text = page_of(finance, a.customer())

    assert "Payment Test mode Add No saved payment method" in text
    assert "Charges the saved payment method, as the account" in text and "made with the first invoice" in text


def test_a_card_shows_with_its_end_and_expiry(finance: Client, double: "Double"):
    who = a.customer()
    known = save_card(who, double)

    text = page_of(finance, who)

    assert "Visa ·· 4242 expires 12/" in text
    assert known.stripe_id in text and "made by us" in text


def test_of_several_cards_it_says_which_is_charged(finance: Client, double: "Double"):
    who = a.customer()
    save_card(who, double, "5555555555554444")
    save_card(who, double)

    assert "Visa ·· 4242 expires 12/2030 charged" in page_of(finance, who).replace("12/2034", "12/2030")


def test_what_stripe_does_not_know_yet_shows_with_the_reason(finance: Client, double: "Double"):
    who = a.customer()
    save_card(who, double)
    update_customer(who, email="new@acme.example", actor=a.STAFF, now=MARCH_1)
    before = page_of(finance, who)
    double.fault("POST", "/v1/customers/*", "down", times=None)

    sync_due(MARCH_1)

    assert "Stripe does not know the new e-mail yet; it is told within minutes." in before
    assert "Stripe does not know the new e-mail yet: Stripe cannot be reached" in page_of(finance, who)


def test_the_page_stays_within_its_queries(finance: Client, double: "Double"):
    """A-54."""
    who = a.customer()
    client = staff("Admin")
    without = queries(client, who)
    save_card(who, double)

    assert queries(client, who) == without
    assert without <= 20


def queries(client: Client, who: Customer) -> int:
    get(client, f"/customers/customer/{who.pk}/")
    with CaptureQueriesContext(connection) as asked:
        get(client, f"/customers/customer/{who.pk}/")
    return len(asked)


def test_keys_of_stripe_cost_no_query_more(settings: Any):
    """A-54."""
    who, client = a.customer(), staff("Admin")
    with_keys = queries(client, who)
    settings.STRIPE_SECRET_KEY = ""

    assert queries(client, who) == with_keys


# The link


def test_the_link_can_be_copied_or_mailed(finance: Client):
    who = a.customer()

    text = world.words(get(finance, address(who, "payment-link")))
    answer = post(finance, address(who, "payment-link"))

    assert "http://localhost:8000/pay/method/" in text and "The link is valid until 8 Mar 2026" in text
    assert answer.status_code == 204
    assert "http://localhost:8000/pay/method/" in mail.outbox[0].body
    assert Operation.objects.filter(verb="payment_method.asked", customer=who).exists()


def test_without_an_address_it_says_that_the_link_is_to_be_copied(finance: Client):
    who = a.customer()
    who.email = ""
    who.save()

    assert "no e-mail address" in world.words(post(finance, address(who, "payment-link")))
    assert mail.outbox == []


def test_without_the_publishable_key_it_says_what_is_missing(finance: Client, settings: Any):
    settings.STRIPE_PUBLISHABLE_KEY = ""

    text = world.words(get(finance, address(a.customer(), "payment-link")))

    assert "STRIPE_PUBLISHABLE_KEY is not set" in text


# Choosing


def test_another_card_is_charged_and_pays_what_was_declined(finance: Client, double: "Double"):
    who = a.customer()
    save_card(who, double, DECLINES)
    a.enable(who, a.pro())
    invoice = who.invoices.get()
    collect(invoice)
    declined = row_of(invoice).state
    known = StripeCustomer.objects.get(customer=who)
    double.add_card(known.stripe_id, GOOD, default=False)
    post(finance, address(who, "refresh"))
    [good] = [m["id"] for m in StripeCustomer.objects.get(customer=who).payment_methods if m["last4"] == "4242"]

    post(finance, address(who, f"methods/{good}/default"))

    assert declined == StripeInvoice.State.DECLINED
    assert collect(invoice).state == StripeInvoice.State.PAID
    assert Operation.objects.get(verb="payment_method.chosen").summary == "Invoices are charged to Visa ·· 4242"


def test_a_removed_card_is_gone_there_too(finance: Client, double: "Double"):
    who = a.customer()
    known = save_card(who, double)
    [card] = ids(who)

    asked = world.words(get(finance, address(who, f"methods/{card}/remove")))
    post(finance, address(who, f"methods/{card}/remove"))

    assert "Invoices then wait until another one is saved." in asked
    assert ids(who) == [] and double.object(card)["customer"] is None
    assert known.stripe_id in page_of(finance, who)


def test_with_stripe_away_nothing_changes_and_it_says_so(finance: Client, double: "Double"):
    who = a.customer()
    save_card(who, double)
    [card] = ids(who)
    double.fault("POST", "/v1/payment_methods/*/detach", "down", times=None)

    answer = post(finance, address(who, f"methods/{card}/remove"))

    assert "Stripe cannot be reached" in world.words(answer) and ids(who) == [card]


def test_a_method_that_is_not_theirs_leads_nowhere(finance: Client, double: "Double"):
    who, other = a.customer(), a.customer("Other")
    save_card(who, double)
    save_card(other, double)
    [theirs] = ids(other)

    assert get(finance, address(who, f"methods/{theirs}/remove")).status_code == 404
    assert post(finance, address(who, f"methods/{theirs}/remove")).status_code in (404, 422)
    assert ids(other) == [theirs]


@pytest.mark.parametrize(
    ("method", "said"),
    [(Method.SEND, "Sends an invoice to pay"), (Method.NONE, "Not with Stripe"), ("", ", as the account")],
)
def test_a_customer_may_be_collected_another_way(finance: Client, method: str, said: str):
    who = a.customer()

    post(finance, address(who, "collection"), {"method": method})

    assert StripeCustomer.objects.get(customer=who).method == method
    assert said in page_of(finance, who)


def test_who_is_not_collected_with_stripe_is_left_alone(finance: Client):
    invoice = owing()
    post(finance, address(invoice.customer, "collection"), {"method": Method.NONE})

    assert not StripeInvoice.objects.filter(invoice=invoice).exists()
    with pytest.raises(StripeInvoice.DoesNotExist):
        collect(invoice)


def test_the_account_may_send_while_a_customer_is_charged(finance: Client, double: "Double"):
    StripeAccount.objects.update(method=Method.SEND)
    who = a.customer()
    assert "Sends an invoice to pay, as the account" in page_of(finance, who)

    post(finance, address(who, "collection"), {"method": Method.CHARGE})

    assert "Charges the saved payment method" in page_of(finance, who)


# Who may


@pytest.mark.parametrize("act", ACTS)
def test_acts_take_the_permission(act: str):
    """A-53."""
    who, client = a.customer(), staff("Ops")

    codes = {get(client, address(who, act)).status_code, post(client, address(who, act)).status_code}

    assert codes == {403}
    assert f"/{who.pk}/stripe/" not in get(client, f"/customers/customer/{who.pk}/").content.decode()


@pytest.mark.parametrize("act", ACTS)
def test_without_keys_there_is_nothing(settings: Any, act: str):
    who = a.customer()
    settings.STRIPE_SECRET_KEY = ""
    client = staff("Admin")

    assert get(client, address(who, act)).status_code == 404
    assert "Stripe" not in page_of(client, who)
