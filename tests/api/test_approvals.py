"""Approvals through the API: an act that a rule stops is asked for, read, withdrawn; a key never decides."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from billing_admin.flows.approvals import approve, refuse
from billing_admin.models import ApprovalRequest
from customers.models import Customer
from tests import builders as a
from tests.api.conftest import Answer, Caller, caller_with
from tests.approving import FINANCE, person, rule
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db
UNITS = {"featureSlug": "credits", "units": 500, "endsAt": "2026-05-01T00:00:00Z", "reason": "outage"}


@pytest.fixture
def acme(db) -> Customer:
    a.feature("credits")
    rule("grant.given", measure="units", above="100")
    return a.customer()


def give(api: Caller, who: Customer, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    return api.at(MARCH_16).post(f"customers/{who.customer_id}/grants", UNITS | (body or {}), **headers)


def test_the_answer_says_who_has_to_approve_it_where_and_until_when(api, acme):
    answer = give(api, acme)

    request = ApprovalRequest.objects.get()
    assert answer.status == 202
    assert answer["approval"] == {
        "id": request.public_id,
        "state": "waiting",
        "why": "A grant with more than 100 units needs approval by Finance.",
        "approver": "Finance",
        "expiresAt": "2026-03-19T00:00:00Z",
        "url": f"http://localhost:8000/approvals/{request.public_id}/",
    }
    assert (request.reason, request.key.name if request.key else "") == ("outage", "backend")


def test_the_verb_wrote_nothing(api, acme):
    give(api, acme)

    assert not acme.grants.exists() and not acme.operations.filter(verb="grant.given").exists()


def test_the_same_call_is_the_same_request(api, acme):
    assert give(api, acme)["approval"]["id"] == give(api, acme)["approval"]["id"]


def test_a_repeated_idempotency_key_gets_the_same_answer_and_asks_once(api, acme):
    first = give(api, acme, Idempotency_Key="one")
    again = give(api, acme, Idempotency_Key="one")

    assert (again.status, again.body) == (202, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert ApprovalRequest.objects.count() == 1


def test_what_the_verb_refuses_is_refused_rather_than_asked_for(api, acme):
    answer = give(api, acme, {"endsAt": "2026-01-01T00:00:00Z"})

    assert (answer.status, ApprovalRequest.objects.count()) == (400, 0)


def test_a_request_tells_what_it_would_do_and_what_came_of_it(api, acme):
    asked = give(api, acme)["approval"]["id"]
    approve(ApprovalRequest.objects.get(), user=person(FINANCE), now=MARCH_16)

    told = api.at(MARCH_16).get(f"approvals/{asked}")

    assert (told["state"], told["act"], told["customerId"]) == ("applied", "grant.given", acme.customer_id)
    assert {"label": "Credits", "before": "", "after": "500 more"} in told["effects"]
    assert told["operationId"] == acme.operations.get(verb="grant.given").public_id
    assert acme.grants.get().units == 500


def test_a_refusal_tells_its_reason(api, acme):
    asked = give(api, acme)["approval"]["id"]
    refuse(ApprovalRequest.objects.get(), reason="too much", user=person(FINANCE), now=MARCH_16)

    told = api.at(MARCH_16).get(f"approvals/{asked}")

    assert (told["state"], told["answer"], told["operationId"]) == ("refused", "too much", None)


def test_what_ran_out_reads_expired_before_the_clockwork_has_said_so(api, acme):
    asked = give(api, acme)["approval"]["id"]

    assert api.at(day("2026-03-20")).get(f"approvals/{asked}")["state"] == "expired"


def test_what_ran_out_is_listed_with_what_has_expired(api, acme):
    asked = give(api, acme)["approval"]["id"]
    later = api.at(day("2026-03-19"))

    assert later.get("approvals?state=waiting")["data"] == []
    assert [row["id"] for row in later.get("approvals?state=expired")["data"]] == [asked]


def test_requests_are_listed_newest_first_by_state_and_customer(api, acme):
    other = a.customer("Globex")
    mine, _, theirs = give(api, acme), give(api, acme, {"units": 600}), give(api, other)
    later = api.at(MARCH_16)
    later.post(f"approvals/{mine['approval']['id']}/withdraw")

    waiting = later.get("approvals", state="waiting")
    of_other = later.get("approvals", customerId=other.customer_id)
    first = later.get("approvals", limit=2)
    rest = later.get("approvals", limit=2, cursor=first["nextCursor"])

    assert [row["customerId"] for row in waiting["data"]] == [other.customer_id, acme.customer_id]
    assert [row["id"] for row in of_other["data"]] == [theirs["approval"]["id"]]
    assert (len(first["data"]), len(rest["data"]), rest["nextCursor"]) == (2, 1, None)


def test_a_key_withdraws_what_it_asked_for(api, acme):
    asked = give(api, acme)["approval"]["id"]

    answer = api.at(MARCH_16).post(f"approvals/{asked}/withdraw", {"reason": "by mistake"})
    again = api.at(MARCH_16).post(f"approvals/{asked}/withdraw")

    assert (answer["state"], answer["answer"]) == ("withdrawn", "by mistake")
    assert (again.status, again["code"]) == (409, "not_waiting_for_approval")


def test_another_key_does_not(api, acme):
    """A-53"""
    asked = give(api, acme)["approval"]["id"]

    answer = caller_with("Admin", called="other").at(MARCH_16).post(f"approvals/{asked}/withdraw")

    assert (answer.status, answer["code"]) == (409, "not_your_request")


@pytest.mark.parametrize("act", ["approve", "refuse"])
def test_no_key_decides(api, acme, act):
    """A-53: people do."""
    asked = give(api, acme)["approval"]["id"]

    assert api.at(MARCH_16).post(f"approvals/{asked}/{act}").status == 404


def test_an_unknown_request_is_not_found(api):
    assert api.get("approvals/apr_nothing")["code"] == "approval_not_found"


def test_the_answer_is_described_where_it_can_come(api):
    paths = api.get("openapi.json").body["paths"]

    described = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "AskedOut" in str(operation.get("responses", {}).get("202", ""))
    }
    assert {
        "POST /customers/{customer_id}/grants",
        "DELETE /customers/{customer_id}",
        "POST /overrides/bulk",
    } <= described


def test_a_list_stays_within_its_queries(api, acme, django_assert_max_num_queries):
    for units in range(500, 510):
        give(api, acme, {"units": units})
    User.objects.create_superuser("boss")

    with django_assert_max_num_queries(6):
        assert len(api.at(MARCH_16).get("approvals")["data"]) == 10
