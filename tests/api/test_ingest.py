"""Events over the API: what meters count of them, one or many, and what is taken back."""

from typing import Any

import pytest

from catalog.models import Feature, Meter
from customers.models import Customer
from entitlements.models import UsageEvent
from tests import builders as a
from tests.api.conftest import Caller, caller_with
from tests.entitlements.test_metered import metered

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    metered("sum", by="tokens", filters={"model": ["large"]})
    metered("count", of="calls")
    who = a.on(a.plan("pro", a.allowance(100), a.allowance(3, of="calls")))
    who.customer_id = "acme"
    who.save()
    return who


def event(**more: Any) -> dict[str, Any]:
    return {"customerId": "acme", "eventName": "job", "properties": {"tokens": 30, "model": "large"}} | more


def counted(answer: Any) -> dict[str, int]:
    return {feature["featureSlug"]: feature["counted"] for feature in answer["features"]}


def test_an_event_is_counted_by_every_meter_that_reads_it(api: Caller, acme: Customer):
    answer = api.post("events", event(eventKey="1"))

    assert (answer.status, answer["applied"], counted(answer)) == (200, True, {"credits": 30, "calls": 1})
    assert answer["features"][0]["access"]["remaining"] == 70


def test_a_repeated_event_answers_with_the_first_one(api: Caller, acme: Customer):
    """P-33"""
    first = api.post("events", event(eventKey="1"))

    again = api.post("events", event(eventKey="1"))

    assert (again["applied"], again["id"]) == (False, first["id"])
    assert UsageEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"properties": {"model": "large"}}, "properties.tokens"),
        ({"properties": {"model": "large", "tokens": "x"}}, "properties.tokens"),
        ({"customerId": None}, "customerId"),
        ({"value": "x"}, "value"),
        ({"eventName": "typo"}, "eventName"),
        ({"color": "red"}, "color"),
    ],
)
def test_an_event_that_cannot_be_counted_names_its_field_and_stores_nothing(
    api: Caller, acme: Customer, wrong: dict[str, Any], field: str
):
    """L-39"""
    answer = api.post("events", event(**wrong))

    assert (answer.status, answer["field"]) == (400, field)
    assert not UsageEvent.objects.exists()


def test_a_bad_event_among_good_ones_is_told_in_its_place(api: Caller, acme: Customer):
    """P-35"""
    bad = event(properties={"model": "large"})
    events = [event(eventKey="1"), bad, {"customerId": "nobody", "eventName": "job"}, {"customerId": "acme"}, event()]

    answer = api.post("events", {"events": events})

    assert [result["applied"] for result in answer["data"]] == [True, False, False, False, True]
    assert [(result["error"] or {}).get("field") for result in answer["data"]] == [
        None,
        "properties.tokens",
        None,
        "eventName",
        None,
    ]
    assert answer["data"][2]["error"]["code"] == "customer_not_found"


def test_more_than_a_thousand_events_are_refused(api: Caller, acme: Customer):
    """P-35"""
    answer = api.post("events", {"events": [event()] * 1_001})

    assert (answer.status, answer["field"]) == (400, "events")


def test_an_event_beyond_a_limit_counts_nowhere(api: Caller, acme: Customer):
    for _ in range(3):
        api.post("events", event(properties={"tokens": 1, "model": "large"}))

    answer = api.post("events", event(eventKey="free"))

    assert (answer.status, answer["code"], answer["access"]["featureSlug"]) == (409, "limit_reached", "calls")
    assert a.access(acme).used == 3


def test_an_event_is_voided_with_a_reason(api: Caller, acme: Customer):
    found = api.post("events", event())["id"]

    without = api.post(f"events/{found}/void", {"reason": " "})
    voided = api.post(f"events/{found}/void", {"reason": "sent twice"})
    again = api.post(f"events/{found}/void", {"reason": "sent twice"})

    assert (without.status, without["field"]) == (400, "reason")
    assert [row["voidedAt"] is not None for row in voided["data"]] == [True, True]
    assert again["operationId"] == voided["operationId"]
    assert a.access(acme).used == 0


def test_what_nobody_reported_cannot_be_voided(api: Caller, acme: Customer):
    assert api.post("events/evt_nothing/void", {"reason": "x"}).status == 404


def test_the_application_reports_events_but_voids_none(acme: Customer):
    """A-53"""
    application = caller_with("Application")
    reported = application.post("events", event())

    refused = application.post(f"events/{reported['id']}/void", {"reason": "x"})

    assert (reported.status, refused.status) == (200, 403)


# Meters ---------------------------------------------------------------------------------------------------------------


def test_a_meter_is_made_and_chosen_for_a_feature(api: Caller):
    rule = {"name": "Large tokens", "eventName": "completion", "property": "tokens", "filters": {"model": "large"}}
    meter = api.post("meters", {**rule, "aggregation": "max"})

    feature = api.post("features", {"slug": "peak", "name": "Peak", "type": "metered", "meterSlug": meter["slug"]})

    assert (meter.status, meter["slug"], meter["filters"]) == (201, "large-tokens", {"model": ["large"]})
    assert (feature["meterSlug"], api.get("meters/large-tokens")["features"]) == ("large-tokens", ["peak"])


def test_a_rule_is_fixed_once_it_counted(api: Caller, acme: Customer):
    api.post("events", event())

    renamed = api.patch("meters/credits-sum", {"name": "Tokens"})
    refused = api.patch("meters/credits-sum", {"aggregation": "max"})

    assert (renamed.status, renamed["name"]) == (200, "Tokens")
    assert (refused.status, refused["code"], refused["field"]) == (409, "fixed", "aggregation")


def test_a_meter_that_a_feature_counts_by_is_not_archived(api: Caller, acme: Customer):
    refused = api.post("meters/credits-sum/archive")
    Feature.objects.update(meter=None)
    archived = api.post("meters/credits-sum/archive")

    assert (refused.status, refused["code"]) == (409, "meter_in_use")
    assert archived["archivedAt"] and Meter.objects.offered().count() == 1


def test_different_values_are_counted_of_a_property(api: Caller):
    answer = api.post("meters", {"name": "Users", "eventName": "login", "aggregation": "unique_count"})

    assert (answer.status, answer["field"]) == (400, "property")


def test_only_metered_features_have_a_meter(api: Caller):
    metered("count")

    answer = api.post("features", {"slug": "sso", "name": "SSO", "type": "boolean", "meterSlug": "credits-count"})

    assert (answer.status, answer["field"]) == (400, "meter")
