"""Tax rates and who has which, through the API."""

from typing import Any

import pytest

from tests import builders as a
from tests.api.conftest import Caller, caller_with

pytestmark = pytest.mark.django_db


def create(api: Caller, **changed: Any) -> Any:
    return api.post("tax-rates", {"name": "VAT", "percent": "19"} | changed)


def test_a_rate_is_created_and_listed(api: Caller):
    made = create(api, inclusive=True, region="Germany")

    [listed] = api.get("tax-rates")["taxRates"]
    assert made.status == 201
    assert listed == made.body
    assert (listed["percent"], listed["inclusive"], listed["region"], listed["isDefault"]) == (
        "19",
        True,
        "Germany",
        False,
    )


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": " "}, "name"),
        ({"percent": "101"}, "percent"),
        ({"percent": True}, "percent"),
        ({"percent": "NaN"}, "percent"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_at_its_field(api: Caller, changed: dict[str, Any], field: str):
    answer = create(api, **changed)

    assert (answer.status, answer["field"]) == (400, field)


def test_the_same_rate_twice_is_a_conflict(api: Caller):
    create(api)

    answer = create(api)

    assert (answer.status, answer["code"]) == (409, "tax_rate_exists")


def test_an_archived_rate_is_listed_when_asked_for_and_can_be_given_to_nobody(api: Caller):
    made, who = create(api), a.customer()

    archived = api.post(f"tax-rates/{made['id']}/archive", {"reason": "typo"})
    refused = api.post(f"customers/{who.customer_id}/taxes", {"taxRateIds": [made["id"]]})

    assert archived["archivedAt"]
    assert (refused.status, refused["code"]) == (409, "tax_rate_archived")
    assert api.get("tax-rates")["taxRates"] == []
    assert len(api.get("tax-rates", archived="true")["taxRates"]) == 1


def test_a_rate_applies_by_default_and_no_longer(api: Caller):
    made = create(api)

    on = api.post(f"tax-rates/{made['id']}/default", {"isDefault": True})
    off = api.post(f"tax-rates/{made['id']}/default", {"isDefault": False})

    assert (on["isDefault"], off["isDefault"]) == (True, False)


def test_a_customers_rates_are_exactly_those_that_are_named(api: Caller):
    address = f"customers/{a.customer().customer_id}/taxes"
    first, second = create(api), create(api, percent="7")
    api.post(address, {"taxRateIds": [first["id"]]})

    api.post(address, {"taxRateIds": [second["id"]]})

    assert [rate["id"] for rate in api.get(address)["taxRates"]] == [second["id"]]


def test_an_exemption_has_a_reason_and_ends_without_one(api: Caller):
    """L-06"""
    address = f"customers/{a.customer().customer_id}/taxes"

    refused = api.post(address, {"taxRateIds": [], "exemptBecause": " "})
    given = api.post(address, {"taxRateIds": [], "exemptBecause": "reverse charge"})
    ended = api.post(address, {"taxRateIds": []})

    assert (refused.status, refused["code"]) == (400, "reason_required")
    assert (given["exemptBecause"], ended["exemptBecause"]) == ("reverse charge", None)


def test_a_plan_has_rates(api: Caller):
    plan, made = a.pro(50), create(api)

    api.post(f"plans/{plan.key}/taxes", {"taxRateIds": [made["id"]]})

    assert [rate["id"] for rate in api.get(f"plans/{plan.key}/taxes")["taxRates"]] == [made["id"]]


def test_a_rate_that_is_not_there_is_named(api: Caller):
    answer = api.post(f"customers/{a.customer().customer_id}/taxes", {"taxRateIds": [4711]})

    assert (answer.status, answer["code"], answer["field"]) == (400, "tax_rate_not_found", "taxRateIds")
    assert api.post("tax-rates/4711/archive", {"reason": "x"}).status == 404


def test_address_tax_number_and_language_of_a_customer_change(api: Caller):
    who = a.customer()

    said = {"billingAddress": "1 Main Street", "taxNumber": "DE123456789", "locale": "de_DE"}
    answer = api.patch(f"customers/{who.customer_id}", said)
    refused = api.patch(f"customers/{who.customer_id}", {"locale": "xx"})

    assert {name: answer[name] for name in said} == said
    assert (refused.status, refused["field"]) == (400, "locale")


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer", "Application"])
def test_taxes_are_finances(role: str):
    """A-53"""
    api, who, plan = caller_with(role), a.customer(), a.pro(50)
    rate = create(caller_with("Finance", called="books"))

    writes = [
        create(api, percent="1"),
        api.post(f"tax-rates/{rate['id']}/archive", {"reason": "mine"}),
        api.post(f"tax-rates/{rate['id']}/default", {"isDefault": True}),
        api.post(f"customers/{who.customer_id}/taxes", {"taxRateIds": []}),
        api.post(f"plans/{plan.key}/taxes", {"taxRateIds": []}),
    ]

    assert {answer.status for answer in writes} == {403}
    assert api.get("tax-rates").status == 200
