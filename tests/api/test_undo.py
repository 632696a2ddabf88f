"""The acts on a customer over the API, and taking one back."""

from decimal import Decimal

import pytest

from customers.models import Operation
from entitlements.edit import edit_balance
from tests.api.conftest import caller_with
from tests.builders import STAFF, left, on, pro, use
from tests.flows.undo_world import last
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def who():
    return on(pro(50))


def edited(who) -> Operation:
    operation, _ = edit_balance(who, feature="credits", to=Decimal(250), reason="outage", actor=STAFF, now=MARCH_16)
    return operation


def test_acts_are_listed_newest_first_with_what_they_are_tied_to(api, who):
    operation = edited(who)

    answer = api.at(MARCH_16).get(f"customers/{who.customer_id}/operations", verb="balance.edited")

    [row] = answer["data"]
    assert (row["id"], row["reason"], row["reversedBy"], row["canBeUndone"]) == (
        operation.public_id,
        "outage",
        None,
        True,
    )


def test_a_dry_run_says_what_would_happen_and_does_nothing(api, who):
    use(who, 10, now=MARCH_16)
    operation = edited(who)

    answer = api.at(MARCH_16).post(f"operations/{operation.public_id}/undo", {"dryRun": True})

    assert answer.status == 200
    assert answer["stays"] == ["10 Credits were used in this window; they stay used."]
    assert {
        "label": "Credits",
        "before": "250 left, resets 1 Apr 2026",
        "after": "90 left of 100, resets 1 Apr 2026",
    } in (answer["effects"])
    assert left(who, now=MARCH_16) == 250


def test_what_was_confirmed_is_taken_back(api, who):
    operation = edited(who)
    address = f"operations/{operation.public_id}/undo"
    seen = api.at(MARCH_16).post(address, {"dryRun": True})["confirmation"]

    answer = api.at(MARCH_16).post(address, {"reason": "a slip", "confirmation": seen})

    assert (answer.status, answer["reverses"], left(who, now=MARCH_16)) == (201, operation.public_id, 100)
    assert api.get(f"operations/{operation.public_id}")["reversedBy"] == last(who).public_id


def test_a_reason_is_asked_for(api, who):
    answer = api.at(MARCH_16).post(f"operations/{edited(who).public_id}/undo", {})

    assert (answer.status, answer["code"]) == (400, "reason_required")


def test_what_stays_is_refused_with_the_reason(api, who):
    answer = api.at(MARCH_16).post(f"operations/{last(who, 'payment.received').public_id}/undo", {"reason": "a slip"})

    assert (answer.status, answer["code"]) == (409, "cannot_take_back")
    assert "Refund it" in answer["message"]


def test_it_takes_the_permission_of_the_act(who):
    """A-53"""
    operation = edited(who)
    reader = caller_with("Read-only")

    answer = reader.at(MARCH_16).post(f"operations/{operation.public_id}/undo", {"reason": "a slip"})

    assert (answer.status, left(who, now=MARCH_16)) == (403, 250)


def test_an_act_that_is_not_there_is_not_found(api):
    assert api.get("operations/op_nothing")["code"] == "operation_not_found"
