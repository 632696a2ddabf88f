"""Customers over the API."""

import pytest

from catalog.models import Plan
from customers.models import Customer
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import assigned, customer, on, pro
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db

ACME = {"customerId": "acme", "name": "Acme", "email": "ops@acme.example"}


def test_a_customer_is_created_with_what_was_sent(api):
    answer = api.post("customers", {**ACME, "usageStartedAt": "2026-01-10T12:00:00+02:00"})

    assert answer.status == 201
    assert answer.body == {
        "id": Customer.objects.get().public_id,
        "customerId": "acme",
        "name": "Acme",
        "email": "ops@acme.example",
        "currency": None,
        "usageStartedAt": "2026-01-10T10:00:00Z",
        "billingAddress": "",
        "taxNumber": "",
        "locale": "en_US",
        "createdAt": "2026-03-01T00:00:00Z",
        "closedAt": None,
        "eraseAt": None,
        "customProductKeys": [],
        "subscriptions": [],
    }


def test_product_keys_at_creation_are_held(api):
    """P-02"""
    assigned("partner")

    answer = api.post("customers", {**ACME, "customProductKeys": ["partner"]})

    assert answer["customProductKeys"] == ["partner"]
    assert answer["subscriptions"][0]["plan"]["planKey"] == "partner"


def test_unknown_product_keys_are_listed_and_nothing_is_created(api):
    """P-06"""
    answer = api.post("customers", {**ACME, "customProductKeys": ["nope", "neither"]})

    assert (answer.status, answer["code"], answer["field"]) == (400, "unknown_product", "customProductKeys")
    assert "nope, neither" in answer["message"]
    assert api.get("customers/acme").status == 404


def test_a_mirrored_product_is_refused(api):
    """P-07"""
    world.plan("mirrored", world.allowance(5), kind=Plan.Kind.STRIPE)

    answer = api.post("customers", {**ACME, "customProductKeys": ["mirrored"]})

    assert (answer.status, answer["code"]) == (400, "stripe_product")


def test_the_default_product_is_refused(api):
    """P-08"""
    world.default()

    answer = api.post("customers", {**ACME, "customProductKeys": ["community"]})

    assert (answer.status, answer["code"]) == (400, "default_product")


def test_an_update_sets_the_whole_list(api):
    """P-03"""
    assigned("partner")
    assigned("lab", world.allowance(5), of="labs")
    api.post("customers", {**ACME, "customProductKeys": ["partner"]})

    answer = api.patch("customers/acme", {"customProductKeys": ["lab"]})

    assert answer["customProductKeys"] == ["lab"]


def test_an_empty_list_ends_all(api):
    """P-04"""
    assigned("partner")
    api.post("customers", {**ACME, "customProductKeys": ["partner"]})

    answer = api.patch("customers/acme", {"customProductKeys": []})

    assert (answer.status, answer["customProductKeys"], answer["subscriptions"]) == (200, [], [])


def test_an_update_without_the_list_leaves_it(api):
    """P-05"""
    assigned("partner")
    api.post("customers", {**ACME, "customProductKeys": ["partner"]})

    answer = api.patch("customers/acme", {"name": "Acme Robotics"})

    assert (answer["name"], answer["customProductKeys"]) == ("Acme Robotics", ["partner"])


def test_an_update_with_an_unknown_key_changes_nothing(api):
    """P-06"""
    api.post("customers", ACME)

    answer = api.patch("customers/acme", {"name": "Other", "customProductKeys": ["nope"]})

    assert (answer.status, api.get("customers/acme")["name"]) == (400, "Acme")


def test_null_is_not_the_same_as_left_out(api):
    """P-05"""
    api.post("customers", ACME)

    answer = api.patch("customers/acme", {"customProductKeys": None})

    assert (answer.status, answer["field"]) == (400, "customProductKeys")


def test_a_start_of_usage_in_the_future_is_refused(api):
    """P-29"""
    api.post("customers", ACME)

    answer = api.patch("customers/acme", {"usageStartedAt": "2026-03-02T00:00:00Z"})

    assert (answer.status, answer["field"]) == (400, "usageStartedAt")


def test_a_bad_email_is_refused_at_its_field(api):
    """A-51"""
    answer = api.post("customers", {**ACME, "email": "nobody"})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_email", "email")


def test_a_duplicate_id_is_a_conflict(api):
    """A-51"""
    api.post("customers", ACME)

    answer = api.post("customers", ACME)

    assert (answer.status, answer["code"], answer["field"]) == (409, "duplicate_customer_id", "customerId")


def test_a_customer_is_found_by_our_id_too(api):
    made = api.post("customers", ACME)

    assert api.get(f"customers/{made['id']}")["customerId"] == "acme"


def test_what_runs_is_shown_with_its_scheduled_change(api):
    """A-15"""
    who = on(pro(50))
    world.enable(who, world.team(20), now=MARCH_16)

    [subscription] = api.at(MARCH_16).get(f"customers/{who.customer_id}")["subscriptions"]

    assert (subscription["plan"]["planKey"], subscription["state"]) == ("pro", "active")
    assert subscription["scheduledChange"]["planKey"] == "team"
    assert subscription["scheduledChange"]["startsAt"] == "2026-04-01T00:00:00Z"


def test_lists_go_page_by_page_from_the_newest(api):
    for number in range(5):
        customer(customer_id=f"c{number}")

    first = api.get("customers", limit=2)
    second = api.get("customers", limit=2, cursor=first["nextCursor"])
    third = api.get("customers", limit=2, cursor=second["nextCursor"])

    pages = [[c["customerId"] for c in page["data"]] for page in (first, second, third)]
    assert (pages, third["nextCursor"]) == ([["c4", "c3"], ["c2", "c1"], ["c0"]], None)


@pytest.mark.parametrize("words", ["acme", "ACME R", "acme_rob", "ops@acme"])
def test_a_search_finds_by_the_start_of_id_name_or_email(api, words):
    customer("Acme Robotics", customer_id="x1")
    customer("Globex", customer_id="x2")
    Customer.objects.filter(customer_id="x1").update(customer_id="acme_robotics", email="ops@acme.example")

    assert [c["name"] for c in api.get("customers", search=words)["data"]] == ["Acme Robotics"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "nope"}])
def test_a_bad_page_is_refused(api, query):
    answer = api.get("customers", **query)

    assert (answer.status, answer["field"]) == (400, next(iter(query)))


def test_a_deleted_customer_is_hidden_at_once(api):
    """A-52"""
    api.post("customers", ACME)

    answer = api.delete("customers/acme", {"confirmName": "Acme", "reason": "asked us to"})

    assert (answer.status, answer["eraseAt"]) == (200, "2026-03-31T00:00:00Z")
    assert api.get("customers/acme").status == 404
    assert api.get("customers")["data"] == []


def test_a_deletion_names_everything_that_stands_in_its_way(api):
    """A-52"""
    who = customer()
    world.enable(who, pro())

    answer = api.delete(f"customers/{who.customer_id}", {"confirmName": who.name, "reason": "asked us to"})

    assert (answer.status, answer["code"]) == (409, "deletion_blocked")
    assert [problem["code"] for problem in answer["errors"]] == ["live_subscription", "open_invoice"]


@pytest.mark.parametrize(
    ("body", "field"),
    [({"confirmName": "acme", "reason": "x"}, "confirmName"), ({"confirmName": "Acme", "reason": " "}, "reason")],
)
def test_a_deletion_takes_the_name_and_a_reason(api, body, field):
    """A-52"""
    api.post("customers", ACME)

    answer = api.delete("customers/acme", body)

    assert (answer.status, answer["field"]) == (400, field)


def test_a_deletion_can_be_taken_back(api):
    """A-52"""
    api.post("customers", ACME)
    api.delete("customers/acme", {"confirmName": "Acme", "reason": "asked us to"})

    answer = api.post("customers/acme/reopen")

    assert (answer.status, answer["closedAt"]) == (200, None)


def test_the_id_of_a_deleted_customer_is_free_after_the_erasure_only(api):
    """A-52"""
    api.post("customers", ACME)
    api.delete("customers/acme", {"confirmName": "Acme", "reason": "asked us to"})

    assert api.post("customers", ACME).status == 409


def test_a_list_reads_no_query_per_row(api, django_assert_max_num_queries):
    for number in range(30):
        customer(customer_id=f"c{number}")

    with django_assert_max_num_queries(3):
        api.get("customers", limit=100)


def test_reading_a_customer_takes_few_queries(api, django_assert_max_num_queries):
    assigned("partner")
    assigned("lab", world.allowance(5), of="labs")
    api.post("customers", {**ACME, "customProductKeys": ["partner", "lab"]})

    with django_assert_max_num_queries(7):
        api.get("customers/acme")


def test_someone_on_sales_may_not_delete_catalog_but_may_assign(api):
    """A-53"""
    assigned("partner")
    api.post("customers", ACME)

    answer = caller_with("Ops").at(APRIL_1).patch("customers/acme", {"customProductKeys": ["partner"]})

    assert answer.status == 200
