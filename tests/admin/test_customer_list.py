"""The customers' list: search, filters, and that it does not slow down with 100,000 customers."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing_admin.flows.cancel import cancel
from customers.models import Customer, Subscription
from customers.states import SubscriptionState
from customers.switch import park
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def names(desk: CustomerDesk, **query: str) -> list[str]:
    page = desk.get("customers_customer_changelist", **query)
    return [row.name for row in page.answer.context["rows"]]


def test_a_row_says_who_in_which_state_on_what_until_when(desk):
    a.on(a.pro())

    [row] = desk.get("customers_customer_changelist").answer.context["rows"]

    assert (row.name, row.state, row.plans, row.renews_at) == ("Acme Robotics", ("active", ""), ("API · Pro",), APRIL_1)


@pytest.mark.parametrize("words", ["acme", "ACME R", "ops@acme", "shop:77", "  acme "])
def test_customers_are_found_by_how_name_id_or_mail_begin(desk, words):
    """A-54"""
    a.customer("Acme Robotics", customer_id="shop:77")
    a.customer("Globex")

    assert names(desk, q=words) == ["Acme Robotics"]


def test_filters_by_plan_see_who_is_on_it_now(desk):
    plan = a.pro()
    a.on(plan, name="Acme")
    a.on(a.plan("basic", a.fee(10), of="other"), name="Globex")

    assert names(desk, plan="pro") == ["Acme"]


def test_filters_by_state_find_what_needs_a_person(desk):
    plan = a.pro()
    who = {name: a.on(plan, name=name) for name in ("Paying", "Late", "Leaving", "Stuck")}
    a.customer("Nobody")
    Subscription.objects.filter(customer=who["Late"]).update(state=SubscriptionState.PAST_DUE)
    cancel(a.the_subscription(who["Leaving"]), reason="moves", actor=a.STAFF, now=MARCH_16)
    park(a.the_subscription(who["Stuck"]), because="too late", now=MARCH_16)

    assert names(desk, state="past_due") == ["Late"]
    assert names(desk, state="canceling") == ["Leaving"]
    assert names(desk, state="parked") == ["Stuck"]
    assert names(desk, state="none") == ["Nobody"]


def test_closed_customers_are_hidden_until_asked_for(desk):
    """A-52"""
    Customer.objects.filter(pk=a.customer("Gone").pk).update(closed_at=MARCH_16)
    a.customer("Here")

    assert names(desk) == ["Here"]
    assert names(desk, state="closed") == ["Gone"]


def test_older_customers_follow_without_gap_or_repetition(desk):
    Customer.objects.bulk_create(
        Customer(customer_id=f"c{n}", name=f"C{n}", created_at=MARCH_16, public_id=f"cus_{n}") for n in range(60)
    )
    page = desk.get("customers_customer_changelist")
    older = re.search(r"before=(\d+)", page.answer.context["older"])
    assert older is not None

    rest = names(desk, before=older[1])

    assert len({*(row.name for row in page.answer.context["rows"]), *rest}) == 60
    assert len(rest) == 10


def test_an_empty_list_says_what_to_do(desk):
    text = desk.get("customers_customer_changelist").text

    assert "No customers yet" in text
    assert "New Customer" in text


def test_a_search_without_result_says_how_search_works(desk):
    a.customer()

    page = desk.get("customers_customer_changelist", q="zzz")

    assert "No customer matches" in page.text
    assert "Show all customers" in page.text


def test_readers_are_offered_no_new_customer(client):
    """A-53"""
    assert "New Customer" not in CustomerDesk(client, role="Read-only").get("customers_customer_changelist").text


# A hundred thousand customers -----------------------------------------------------------------------------------------


@pytest.fixture
def many() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO customers_customer"
            " (public_id, customer_id, name, email, currency, locale, billing_address, tax_number, created_at,"
            " revision)"
            " SELECT 'cus_' || n, 'shop_' || n, 'Name ' || md5(n::text), md5((n * 7)::text) || '@many.example', '',"
            " 'en_US', '', '', now(), 0 FROM generate_series(1, 100000) AS n"
        )
        cursor.execute("ANALYZE customers_customer")


SEARCHES = ["Name 0a1", "shop_99", "cus_1234", "0a1b", "nobody at all"]


def test_a_hundred_thousand_customers_are_searched_by_index_alone(desk, many, django_assert_max_num_queries):
    """A-54"""
    for query in [{}, *({"q": words} for words in SEARCHES)]:
        with django_assert_max_num_queries(20), CaptureQueriesContext(connection) as asked:
            desk.get("customers_customer_changelist", **query)

        for statement in of_customers(asked):
            assert "Seq Scan on customers_customer" not in plan_of(statement), (query, plan_of(statement))


def test_the_palette_finds_one_of_a_hundred_thousand_by_index_alone(desk, many):
    """A-54"""
    for words in SEARCHES:
        with CaptureQueriesContext(connection) as asked:
            desk.get("search", s=words)

        for statement in of_customers(asked):
            assert "Seq Scan on customers_customer" not in plan_of(statement), (words, plan_of(statement))


def test_nobody_counts_all_customers(desk, many):
    """A-54"""
    with CaptureQueriesContext(connection) as asked:
        desk.get("customers_customer_changelist", q="Name")

    assert not [sql for sql in of_customers(asked) if "COUNT(" in sql.upper()]


def of_customers(asked: CaptureQueriesContext) -> list[str]:
    return [q["sql"] for q in asked.captured_queries if 'FROM "customers_customer"' in q["sql"]]


def plan_of(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + statement)
        return "\n".join(row[0] for row in cursor.fetchall())
