"""Several features in one check, and which plans would allow what was denied."""

from datetime import datetime
from typing import Any

import pytest

from billing_admin.api.upgrades import upgrade_to
from customers.models import Customer
from entitlements.check import check
from entitlements.override import override
from tests import builders as world
from tests.builders import STAFF, allowance, customer, enable, feature, fee, on, plan, pro, static, switch, team, use
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db

NOW = MARCH_16


def check_many(api, who, *slugs, **more):
    return api.post("check", {"customerId": who.customer_id, "featureSlugs": list(slugs), **more})


def upgrades(who: Customer, of: str = "credits", *, now: datetime = NOW, required: int = 1) -> list[str]:
    who.refresh_from_db()
    return [p.key for p in upgrade_to(who, check(who, of, now=now, required=required), now=now)]


def give(who: Customer, value: Any, of: str = "credits", **more: Any) -> None:
    override(who, feature(of), value, effective_until=None, reason="x", actor=STAFF, now=MARCH_1, **more)


def rich() -> Customer:
    return on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))


# Several features


def test_several_features_are_answered_in_the_order_asked_for(api):
    """L-44"""
    who = rich()
    feature("sms")

    answer = check_many(api, who, "sms", "sso", "credits")

    assert [(a["featureSlug"], a["allowed"]) for a in answer["data"]] == [
        ("sms", False),
        ("sso", True),
        ("credits", True),
    ]


def test_compact_leaves_out_what_is_not_allowed(api):
    """L-44"""
    who = rich()
    feature("sms")

    answer = check_many(api, who, "sms", "sso", "credits", compact=True)

    assert [a["featureSlug"] for a in answer["data"]] == ["sso", "credits"]


def test_each_of_several_answers_equals_the_answer_of_its_own_check(api):
    """L-44"""
    who = rich()
    team()
    use(who, 99)

    many = check_many(api, who, "credits", "sso", "rate-limit", required=5)

    alone = [
        api.post("check", {"customerId": who.customer_id, "featureSlug": slug, "required": 5}).body
        for slug in ("credits", "sso", "rate-limit")
    ]
    assert many["data"] == alone
    assert many["data"][0]["upgradeTo"] == [{"key": "team", "name": "Team"}]


def test_several_features_cost_as_many_queries_as_one(api, django_assert_max_num_queries):
    who = rich()
    check_many(api, who, "credits")

    with django_assert_max_num_queries(8):
        check_many(api, who, "credits", "sso", "rate-limit")


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ({}, 400, "missing_field", "featureSlug"),
        ({"featureSlug": "credits", "featureSlugs": ["credits"]}, 400, "invalid", "featureSlugs"),
        ({"featureSlugs": []}, 400, "invalid", "featureSlugs"),
        ({"featureSlugs": ["x"] * 101}, 400, "invalid", "featureSlugs"),
        ({"featureSlugs": ["credits"], "explain": True}, 400, "invalid", "explain"),
        ({"featureSlugs": ["credits", "nope"]}, 404, "feature_not_found", "featureSlug"),
    ],
)
def test_what_cannot_be_asked_is_refused(api, asked, status, code, field):
    feature("credits")

    answer = api.post("check", {"customerId": customer().customer_id, **asked})

    assert (answer.status, answer["code"], answer["field"]) == (status, code, field)


def test_all_features_may_be_compact_too(api):
    """L-44"""
    who = rich()
    use(who, 100)

    answer = api.get(f"customers/{who.customer_id}/features", compact="true")

    assert [a["featureSlug"] for a in answer["data"]] == ["sso", "rate-limit"]


# Which plans would allow it


def test_a_plan_that_leaves_too_little_is_no_upgrade():
    who = on(pro(credits=100))
    team(credits=500)
    use(who, 100, now=NOW)

    assert (upgrades(who, required=400), upgrades(who, required=401)) == (["team"], [])


def test_a_plan_of_another_product_counts_beside_the_present_one():
    who = on(pro(credits=100))
    plan("extra", allowance(20), of="extras")
    use(who, 100, now=NOW)

    assert (upgrades(who, required=20), upgrades(who, required=21)) == (["extra"], [])


def test_a_plan_counts_with_the_bonuses_that_the_customer_keeps():
    who = on(plan("pro", fee(50), switch("sso")))
    world.default(allowance(1))
    plan("team", fee(90), allowance(10))

    assert upgrades(who, required=10) == ["team"]
    assert upgrades(who, required=11) == []


def test_no_plan_helps_against_an_override_of_the_customer_that_closes():
    who = on(pro())
    team()
    give(who, "no_access")

    assert upgrades(who) == []


def test_no_plan_gives_more_than_the_number_that_an_override_of_the_customer_sets():
    who = on(pro())
    team(credits=500)
    give(who, 50)
    use(who, 50, now=NOW)

    assert upgrades(who) == []


def test_a_plan_with_paid_overage_helps_beyond_the_number_of_an_override():
    who = on(pro())
    plan("scale", fee(90), allowance(100, price="0.10"))
    give(who, 50)
    use(who, 50, now=NOW)

    assert upgrades(who) == ["scale"]


def test_an_override_of_a_subscription_goes_on_under_another_plan_of_its_product():
    who = on(pro())
    team(credits=500)
    plan("extra", allowance(20), of="extras")
    give(who, 50, subscription=world.the_subscription(who))
    use(who, 50, now=NOW)

    assert upgrades(who) == ["extra"]


def test_an_on_off_feature_is_allowed_by_the_plans_that_have_it():
    who = on(pro())
    plan("team", fee(90), switch("sso"))

    assert upgrades(who, "sso") == ["team"]


def test_a_customer_without_any_plan_is_told_all_that_would_do():
    who = customer()
    pro(credits=100)
    team(credits=500)

    assert upgrades(who, required=200) == ["team"]


def test_plans_are_told_with_the_answer_to_a_denied_check(api):
    who = on(pro())
    team()
    enable(who, world.assigned("partner", allowance(5)))
    use(who, 105)

    answer = api.post("check", {"customerId": who.customer_id, "featureSlug": "credits"})

    assert (answer["limit"], answer["used"], answer["nextResetAt"][:10]) == (105, 105, "2026-04-01")
    assert [p["key"] for p in answer["upgradeTo"]] == ["team"]
