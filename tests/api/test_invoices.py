"""Invoices and payments over the API."""

import pytest

from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import customer, enable, pro
from tests.instants import APRIL_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def who():
    found = customer()
    enable(found, pro(50))
    return found


def invoices(api, who, **query):
    return api.get(f"customers/{who.customer_id}/invoices", **query)


def pay(api, who, amount=5000, **more):
    number = invoices(api, who)["data"][0]["id"]
    return api.post(f"invoices/{number}/payments", {"amount": amount, "reference": "wire 1", **more})


def test_invoices_are_listed(api, who):
    [invoice] = invoices(api, who)["data"]

    assert (invoice["number"], invoice["state"], invoice["kind"]) == ("ACME-0001", "open", "invoice")
    assert invoice["due"] == {"amount": 5000, "currency": "USD", "formatted": "$50.00"}


def test_an_invoice_is_read_with_lines_that_say_how_they_came_about(api, who):
    answer = api.get(f"invoices/{invoices(api, who)['data'][0]['id']}")

    [line] = answer["lines"]
    assert (line["description"], line["amount"]["amount"], line["quantity"], line["rate"]) == ("Pro", 5000, 1, "50")
    assert "$50.00" in line["sum"]
    assert answer["customerId"] == who.customer_id


def test_lists_go_page_by_page(api, who):
    world.pass_time(who, to=APRIL_16)

    first = invoices(api, who, limit=1)
    second = invoices(api, who, limit=1, cursor=first["nextCursor"])

    assert [page["data"][0]["number"] for page in (first, second)] == ["ACME-0002", "ACME-0001"]
    assert second["nextCursor"] is None


def test_a_payment_settles_the_invoice(api, who):
    answer = pay(api, who)

    assert (answer.status, answer["invoice"]["state"], answer["invoice"]["due"]["amount"]) == (201, "paid", 0)
    assert (answer["payment"]["actor"], answer["payment"]["reference"]) == ("api:backend", "wire 1")


def test_part_of_it_leaves_the_rest_due(api, who):
    assert pay(api, who, 2000)["invoice"]["due"]["amount"] == 3000


def test_a_payment_of_a_paid_invoice_is_a_conflict(api, who):
    pay(api, who)

    answer = pay(api, who)

    assert (answer.status, answer["code"]) == (409, "nothing_to_pay")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": 0.5}, "amount"),
        ({"reference": " "}, "reference"),
        ({"currency": "EUR"}, "currency"),
    ],
)
def test_a_bad_payment_is_refused_at_its_field(api, who, body, field):
    answer = pay(api, who, **body)

    assert (answer.status, answer["field"]) == (400, field)


def test_the_same_payment_twice_counts_once(api, who):
    number = invoices(api, who)["data"][0]["id"]
    body = {"amount": 2000, "reference": "wire 1"}
    api.post(f"invoices/{number}/payments", body, Idempotency_Key="k1")

    again = api.post(f"invoices/{number}/payments", body, Idempotency_Key="k1")

    assert (again.status, invoices(api, who)["data"][0]["paid"]["amount"]) == (201, 2000)


def test_payments_are_for_finance(who):
    """A-53"""
    ops, finance = caller_with("Ops"), caller_with("Finance")

    assert [pay(caller, who).status for caller in (ops, finance)] == [403, 201]


def test_an_unknown_invoice_is_not_found(api):
    answer = api.get("invoices/in_nope")

    assert (answer.status, answer["code"]) == (404, "invoice_not_found")


def test_an_invoice_is_read_in_few_queries(api, who, django_assert_max_num_queries):
    number = invoices(api, who)["data"][0]["id"]

    with django_assert_max_num_queries(7):
        api.get(f"invoices/{number}")
