"""Subscriptions over the API: cancel, and what the answer to each question costs."""

import pytest

from tests import builders as world
from tests.builders import on, pro
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def contract(api):
    return world.the_subscription(on(pro(50))).public_id


def cancel(api, contract, **more):
    return api.post(f"subscriptions/{contract}/cancel", {"reason": "moved away", **more})


def test_a_subscription_is_read(api, contract):
    answer = api.get(f"subscriptions/{contract}")

    assert (answer["state"], answer["productId"], answer["quantity"]) == ("active", "api", 1)
    assert (answer["plan"]["billingCadence"], answer["plan"]["billingInterval"]) == ("P1M", "monthly")
    assert (answer["periodStartsAt"], answer["periodEndsAt"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")


def test_an_unknown_subscription_is_not_found(api):
    answer = api.get("subscriptions/sub_nope")

    assert (answer.status, answer["code"]) == (404, "subscription_not_found")


def test_a_cancellation_ends_with_the_cycle(api, contract):
    """A-25"""
    answer = cancel(api.at(MARCH_16), contract)

    assert (answer.status, answer["subscription"]["state"]) == (200, "active")
    assert answer["subscription"]["endsAt"] == "2026-04-01T00:00:00Z"


def test_a_cancellation_can_be_taken_back(api, contract):
    """A-25"""
    cancel(api.at(MARCH_16), contract)

    answer = api.at(MARCH_16).delete(f"subscriptions/{contract}/scheduled-change")

    assert answer["subscription"]["endsAt"] is None


def test_a_cancellation_at_once_ends_access_and_keeps_history(api, contract):
    """L-42"""
    answer = cancel(api.at(MARCH_16), contract, atOnce=True)

    assert (answer["subscription"]["state"], answer["subscription"]["endReason"]) == ("ended", "canceled")
    assert answer["invoices"][0]["total"]["amount"] == -2581
    who = world.Customer.objects.get()
    access = api.at(MARCH_16).get("check", customerId=who.customer_id, featureSlug="credits")
    assert (access["hasAccess"], access["reason"]) == (False, "no_plan")
    assert who.subscriptions.get().phases.count() == 1


def test_unused_fees_may_be_kept(api, contract):
    """A-26"""
    assert cancel(api.at(MARCH_16), contract, atOnce=True, unused="nothing")["invoices"] == []


def test_each_answer_is_shown_with_its_amount_first(api, contract):
    """A-26"""
    answer = api.at(MARCH_16).post(f"subscriptions/{contract}/cancel/preview", {"atOnce": True})

    assert (answer.status, answer["total"]["amount"]) == (200, -2581)
    assert "$25.81 is credited now" in answer["sentence"]
    assert api.get(f"subscriptions/{contract}")["state"] == "active"


def test_a_cancellation_takes_a_reason(api, contract):
    """Y-49"""
    answer = cancel(api, contract, reason="")

    assert (answer.status, answer["field"]) == (400, "reason")


def test_an_ended_contract_cannot_be_canceled_again(api, contract):
    """Y-49"""
    cancel(api, contract, atOnce=True)

    answer = cancel(api, contract, atOnce=True)

    assert (answer.status, answer["code"]) == (409, "already_ended")


def test_an_end_in_the_past_is_refused(api, contract):
    """Y-50"""
    answer = cancel(api.at(MARCH_16), contract, endsAt="2026-03-15T00:00:00Z")

    assert (answer.status, answer["field"]) == (400, "endsAt")


def test_a_later_end_may_be_set(api, contract):
    """Y-50"""
    answer = cancel(api.at(MARCH_16), contract, endsAt="2026-06-15T00:00:00Z")

    assert answer["subscription"]["endsAt"] == "2026-06-15T00:00:00Z"


def test_the_contract_of_a_deleted_customer_is_hidden(api):
    """A-52"""
    who = on(world.free())
    contract = world.the_subscription(who).public_id
    api.delete(f"customers/{who.customer_id}", {"confirmName": who.name, "reason": "asked us to"})

    assert api.get(f"subscriptions/{contract}").status == 404


def test_nothing_is_scheduled_on_a_plain_contract(api, contract):
    """A-15"""
    for at in (MARCH_1, APRIL_1):
        assert api.at(at).delete(f"subscriptions/{contract}/scheduled-change").status == 409
