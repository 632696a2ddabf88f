"""The path to an answer over the API: with a check, and for an instant of the past."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group

from billing_admin.api.v1 import api as described
from billing_admin.hot.asks import read_check, read_check_address
from billing_admin.models import ApiKey
from entitlements.override import override
from tests import builders as a
from tests.api.conftest import Caller
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def asked(who, **more):
    return {"customerId": who.customer_id, "featureSlug": "credits", **more}


def test_a_check_says_nothing_of_its_path_unless_it_is_asked_for(api):
    who = a.on(a.pro())

    assert "explanation" not in api.post("check", asked(who)).body
    assert "explanation" not in api.get("check", **asked(who)).body


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_denied_check_explains_itself(api, method):
    """L-35, Y-38"""
    who = a.on(a.pro(credits=100))
    a.team(credits=500)
    a.use(who, 98)

    if method == "POST":
        answer = api.post("check", asked(who, required=5, explain=True))
    else:
        answer = api.get("check", **asked(who, required=5, explain="1"))

    told = answer["explanation"]
    assert (answer["allowed"], answer["reason"], told["decidedBy"]) == (False, "limit_reached", "limit")
    assert told["denied"] == {
        "limit": 100,
        "used": 98,
        "remaining": 2,
        "missing": 3,
        "resetsAt": "2026-04-01T00:00:00Z",
    }
    assert [plan["key"] for plan in answer["upgradeTo"]] == ["team"]
    [contributor] = told["contributors"]
    assert (contributor["planKey"], contributor["promises"], contributor["units"]) == ("pro", "100", 100)
    assert contributor["subscriptionId"] == a.the_subscription(who).public_id


def test_each_override_says_what_it_does_and_why(api):
    """L-33, L-11"""
    who = a.on(a.pro(credits=10_000))
    row = override(
        who,
        a.feature("credits"),
        Decimal(50_000),
        effective_until=MARCH_16,
        reason="migration",
        actor=a.STAFF,
        now=MARCH_1,
    )

    told = api.post("check", asked(who, required=20_000, explain=True))["explanation"]

    [step] = told["overrides"]
    assert (step["id"], step["level"], step["reason"]) == (row.public_id, "customer", "migration")
    assert (step["says"], step["insteadOf"], step["adds"], step["takes"]) == ("50,000", "10,000", 40_000, 0)
    assert step["effectiveUntil"] == "2026-03-16T00:00:00Z"
    assert [(b["kind"], b["gives"]) for b in told["buckets"]] == [("override", 20_000), ("plan", 0)]


def test_an_earlier_instant_is_told_as_it_was_answered_then(api):
    """A-37"""
    who = a.on(a.pro(credits=100))
    a.use(who, 40, now=day("2026-03-05"))
    a.use(who, 60, now=day("2026-03-10"))
    address = f"customers/{who.customer_id}/features/credits/explanation"

    then = api.at(MARCH_16).get(address, at="2026-03-06T00:00:00Z", required="20")
    now = api.at(MARCH_16).get(address, required="20")

    assert (then["allowed"], then["used"], then["explanation"]["at"]) == (True, 40, "2026-03-06T00:00:00Z")
    assert (now["allowed"], now["used"]) == (False, 100)


@pytest.mark.parametrize(
    ("at", "code"), [("2027-01-01T00:00:00Z", "in_the_future"), ("2025-01-01T00:00:00Z", "before_the_customer")]
)
def test_what_cannot_be_told_is_refused(api, at, code):
    who = a.on(a.pro())

    answer = api.get(f"customers/{who.customer_id}/features/credits/explanation", at=at)

    assert (answer.status, answer["code"]) == (400, code)


def test_unknown_customers_and_features_are_not_found(api):
    who = a.on(a.pro())

    assert api.get("customers/nobody/features/credits/explanation").status == 404
    assert api.get(f"customers/{who.customer_id}/features/teleport/explanation").status == 404


def test_a_caller_whose_role_sees_no_balances_is_refused(db):
    """A-53"""
    who = a.on(a.pro())
    nobody, _ = Group.objects.get_or_create(name="Nobody")
    _, secret = ApiKey.issue("blind", nobody, by="tests")

    assert Caller(secret).get(f"customers/{who.customer_id}/features/credits/explanation").status == 403


def test_the_description_of_the_api_types_every_step():
    schema = described.get_openapi_schema()
    shapes = schema["components"]["schemas"]

    assert {"ContributorOut", "OverrideStep", "MergeStep", "BucketStep", "BeyondStep", "Denied"} <= set(shapes)
    assert shapes["Rule"]["enum"] == ["none", "any", "largest", "first", "sum", "unlimited", "override"]


def test_the_quick_path_leaves_explaining_to_the_ordinary_endpoint():
    assert read_check(b'{"customerId": "acme", "featureSlug": "credits"}') is not None
    assert read_check(b'{"customerId": "acme", "featureSlug": "credits", "explain": true}') is None
    assert read_check_address(b"customerId=acme&featureSlug=credits&explain=1") is None
