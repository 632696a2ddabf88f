"""Special prices through the API: give, preview, list, revoke."""

from typing import Any

import pytest

from customers.models import Customer, PriceOverride
from tests import builders as a
from tests.api.conftest import Caller, caller_with
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(db) -> Customer:
    return a.on(a.pro(50))


def address(who: Customer, tail: str = "") -> str:
    return f"subscriptions/{a.the_subscription(who).public_id}/price-overrides{tail}"


def payload(**changed: Any) -> dict[str, Any]:
    return {
        "priceId": "base",
        "components": [
            {
                "type": "fixed",
                "label": "Launch price",
                "amount_cents": 2500,
                "recurrence_rule": "RRULE:FREQ=MONTHLY;INTERVAL=1",
            }
        ],
        "mode": "replace",
        "expiresAfterBillingCycles": 1,
        "reason": "agreed at the start",
    } | changed


def component(**changed: Any) -> dict[str, Any]:
    return payload()["components"][0] | changed


def test_the_payload_becomes_an_override_of_the_next_invoice(api: Caller, acme: Customer):
    """L-13, L-18"""
    answer = api.at(MARCH_16).post(address(acme), payload())
    a.pass_time(acme, to=APRIL_1)

    assert (answer.status, answer["priceId"], answer["billingCyclesLeft"]) == (201, "base", 1)
    [line] = acme.invoices.latest("id").lines.all()
    assert (line.description, line.amount) == ("Launch price", 2500)


def test_until_revoked_has_to_be_said(api: Caller, acme: Customer):
    """L-07"""
    unsaid = payload()
    del unsaid["expiresAfterBillingCycles"]

    refused = api.post(address(acme), unsaid)
    said = api.post(address(acme), payload(expiresAfterBillingCycles=None))

    assert (refused.status, refused["field"]) == (400, "expiresAfterBillingCycles")
    assert (said.status, said["billingCyclesLeft"]) == (201, None)


@pytest.mark.parametrize(
    ("changed", "field", "code"),
    [
        ({"priceId": "storage"}, "priceId", "unknown_item"),
        ({"expiresAfterBillingCycles": 0}, "expiresAfterBillingCycles", "bad_cycles"),
        ({"mode": "discount"}, "mode", "bad_mode"),
        ({"components": []}, "components", "no_components"),
        ({"reason": ""}, "reason", "reason_required"),
        ({"components": [component(currency="EUR")]}, "components.0.currency", "foreign_currency"),
        ({"components": [component(type="percent")]}, "components.0.type", "bad_component"),
        ({"components": [component(amount_cents=-1)]}, "components.0.amountCents", "bad_component"),
        (
            {"components": [component(recurrence_rule="RRULE:FREQ=DAILY")]},
            "components.0.recurrenceRule",
            "bad_recurrence_rule",
        ),
    ],
)
def test_what_is_wrong_is_named(api: Caller, acme: Customer, changed: dict[str, Any], field: str, code: str):
    """L-06, L-14, L-17, L-19"""
    answer = api.post(address(acme), payload(**changed))

    assert (answer.status, answer["code"], answer["field"]) == (400, code, field)
    assert not PriceOverride.objects.exists()


def test_a_second_price_instead_of_the_same_is_a_conflict(api: Caller, acme: Customer):
    """L-12"""
    api.post(address(acme), payload())

    assert (api.post(address(acme), payload())["code"]) == "override_overlaps"


def test_the_preview_shows_the_next_invoices_and_writes_nothing(api: Caller, acme: Customer):
    answer = api.at(MARCH_16).post(address(acme, "/preview"), payload())

    totals = [(i["without"]["total"]["amount"], i["withIt"]["total"]["amount"]) for i in answer["invoices"]]
    assert totals == [(5000, 2500), (5000, 5000), (5000, 5000)]
    assert not PriceOverride.objects.exists()


def test_the_list_says_what_is_left(api: Caller, acme: Customer):
    """L-14"""
    api.at(MARCH_16).post(address(acme), payload(expiresAfterBillingCycles=2))
    a.pass_time(acme, to=APRIL_1)

    [found] = api.at(APRIL_1).get(address(acme))["priceOverrides"]

    assert (found["billingCyclesLeft"], found["reason"], found["createdBy"]) == (
        1,
        "agreed at the start",
        "api:backend",
    )


def test_revoking_ends_it_and_twice_changes_nothing(api: Caller, acme: Customer):
    """L-08, L-09"""
    made = api.post(address(acme), payload())

    first = api.at(MARCH_16).post(f"price-overrides/{made['id']}/revoke", {"reason": "over"})
    again = api.at(APRIL_1).post(f"price-overrides/{made['id']}/revoke", {"reason": "once more"})

    assert (first.status, first["revokeReason"], first["billingCyclesLeft"]) == (200, "over", 0)
    assert again.body == first.body


def test_what_nobody_gave_is_not_found(api: Caller):
    assert api.post("price-overrides/ovr_none/revoke", {"reason": "x"})["code"] == "price_override_not_found"


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Finance", "Application"])
def test_a_key_without_the_permission_may_only_look(acme: Customer, role: str):
    """A-53"""
    api = caller_with(role)

    assert api.post(address(acme), payload()).status == 403
    assert api.post(address(acme, "/preview"), payload()).status == 403
    assert api.get(address(acme)).status == 200


def test_a_preview_warns_of_a_change_to_come_that_ends_it(api: Caller):
    """L-27"""
    who = a.on(a.team())
    a.enable(who, a.pro(), now=MARCH_16)

    answer = api.at(MARCH_16).post(address(who, "/preview"), payload())

    assert answer["warnings"] == [
        "It ends on 1 Apr 2026, with the change that is scheduled then: Base fee is not sold after it."
    ]


def test_a_preview_of_an_item_that_goes_on_warns_of_nothing(api: Caller, acme: Customer):
    assert api.at(MARCH_16).post(address(acme, "/preview"), payload())["warnings"] == []
