"""Collecting with Stripe through the API."""

from typing import TYPE_CHECKING, Any

import pytest

from payments.models import StripeAccount, StripeInvoice
from tests import builders as a
from tests.api.conftest import Caller, caller_with
from tests.instants import MARCH_16
from tests.payments import pages_world as world
from tests.payments.pages_world import DECLINES, GOOD, collect, owing, row_of, save_card

if TYPE_CHECKING:
    from tests.stripe_double import Double

ADDRESSES = [
    ("POST", "invoices/{invoice}/collect"),
    ("POST", "invoices/{invoice}/retry"),
    ("POST", "customers/{customer}/payment-method-link"),
    ("GET", "customers/{customer}/payment-methods"),
]


@pytest.fixture(autouse=True)
def keys(db: None, settings: Any, double: "Double") -> None:
    world.use(settings, double)


def test_an_invoice_tells_where_its_collection_stands(api: Caller, double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    row = collect(invoice)

    told = api.get(f"invoices/{invoice.public_id}")["collection"]

    assert told == {
        "state": "declined",
        "code": "generic_decline",
        "problem": "The bank declined the card without saying why.",
        "hostedUrl": row.hosted_url,
        "pdfUrl": row.pdf_url,
        "nextAttemptAt": "2026-03-04T00:00:00Z",
    }


def test_what_was_not_handed_over_tells_null(api: Caller):
    assert api.get(f"invoices/{owing().public_id}")["collection"] is None


def test_lists_tell_it_without_a_query_for_each(api: Caller, django_assert_max_num_queries: Any):
    for n in range(8):
        invoice = owing(f"Number {n}")
    collect(invoice)

    with django_assert_max_num_queries(4):
        answer = api.get("invoices")

    assert {each["collection"]["state"] for each in answer["data"]} == {"needs_method"}


def test_an_old_invoice_is_handed_over(api: Caller):
    invoice = owing()
    StripeAccount.objects.update(connected_at=MARCH_16)

    first, second = (api.post(f"invoices/{invoice.public_id}/collect") for _ in range(2))

    assert (first.status, first["collection"]["state"]) == (200, "waiting")
    assert (second.status, second["code"]) == (409, "already_collected")


def test_handing_over_is_idempotent_under_a_key(api: Caller):
    invoice = owing()
    StripeAccount.objects.update(connected_at=MARCH_16)

    first, again = (api.post(f"invoices/{invoice.public_id}/collect", Idempotency_Key="k1") for _ in range(2))

    assert first.status == again.status == 200 and first.body == again.body


def test_a_declined_invoice_is_charged_again(api: Caller, double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    collect(invoice)
    save_card(invoice.customer, double, GOOD)

    answer = api.post(f"invoices/{invoice.public_id}/retry")

    assert answer.status == 200 and row_of(invoice).charge_asked
    assert collect(invoice).state == StripeInvoice.State.PAID
    assert api.post(f"invoices/{invoice.public_id}/retry")["code"] == "nothing_to_retry"


@pytest.mark.parametrize(("act", "code"), [("retry", "not_collected"), ("collect", "not_connected")])
def test_what_cannot_be_is_refused_with_a_code(api: Caller, act: str, code: str):
    invoice = owing()
    StripeAccount.objects.all().delete()

    answer = api.post(f"invoices/{invoice.public_id}/{act}")

    assert (answer.status, answer["code"]) == (409, code)


def test_a_link_to_save_a_payment_method(api: Caller, settings: Any):
    who = a.customer()

    answer = api.post(f"customers/{who.customer_id}/payment-method-link")
    settings.STRIPE_PUBLISHABLE_KEY = ""
    refused = api.post(f"customers/{who.customer_id}/payment-method-link")

    assert answer["url"].startswith("http://localhost:8000/pay/method/")
    assert answer["expiresAt"] == "2026-03-08T00:00:00Z"
    assert (refused.status, refused["code"]) == (409, "no_publishable_key")


def test_the_saved_ways_to_pay(api: Caller, double: "Double"):
    who = a.customer()
    none = api.get(f"customers/{who.customer_id}/payment-methods")
    save_card(who, double)

    [method] = api.get(f"customers/{who.customer_id}/payment-methods")["data"]

    assert none["data"] == []
    assert (method["label"], method["last4"], method["isDefault"]) == ("Visa ·· 4242", "4242", True)


def asked(caller: Caller, method: str, path: str) -> int:
    invoice = owing()
    full = path.format(invoice=invoice.public_id, customer=invoice.customer.customer_id)
    return caller.call(method, full).status


@pytest.mark.parametrize(("method", "path"), ADDRESSES[:3])
def test_acts_take_the_permission(method: str, path: str):
    """A-53."""
    assert asked(caller_with("Ops"), method, path) == 403


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_without_keys_there_is_nothing_at_these_addresses(api: Caller, settings: Any, method: str, path: str):
    settings.STRIPE_SECRET_KEY = ""

    assert asked(api, method, path) == 404


def test_without_keys_an_invoice_tells_null_and_asks_nothing(
    api: Caller, settings: Any, django_assert_max_num_queries: Any
):
    invoice = owing()
    collect(invoice)
    settings.STRIPE_SECRET_KEY = ""

    with django_assert_max_num_queries(4):
        answer = api.get("invoices")

    assert answer["data"][0]["collection"] is None
