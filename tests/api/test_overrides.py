"""Feature overrides over the API."""

import pytest

from entitlements.models import FeatureOverride
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import allowance, customer, fee, on, plan, pro, static, switch
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db

JUNE = "2026-06-01T00:00:00Z"


def give(api, who, value=500, slug="credits", **more):
    asked = {"featureSlug": slug, "value": value, "effectiveUntil": JUNE, "reason": "pilot", **more}
    return api.post(f"customers/{who.customer_id}/overrides", {k: v for k, v in asked.items() if v != "left out"})


def check(api, who, slug="credits"):
    return api.post("check", {"customerId": who.customer_id, "featureSlug": slug})


def contract(who) -> str:
    return world.the_subscription(who).public_id


def ids(answer) -> list[str]:
    return [row["id"] for row in answer["data"]]


# Giving


def test_an_override_of_a_subscription_changes_that_subscriptions_value(api):
    """L-01"""
    acme, other = on(pro()), on(world.team(), name="Globex")

    made = give(api, acme, subscriptionId=contract(acme))

    assert (made.status, made["level"], made["state"], made["value"]) == (201, "subscription", "in_force", 500)
    assert (check(api, acme)["limit"], check(api, other)["limit"]) == (500, 500)
    assert world.reread(pro_of(acme)).current_version.items.get(key="credits").included == 100


def pro_of(who):
    return world.the_subscription(who).phases.get().version.plan


def test_an_override_to_come_holds_from_its_instant(api):
    """L-02"""
    acme = on(pro())

    made = give(api, acme, effectiveFrom="2026-04-01T00:00:00Z")

    assert made["state"] == "scheduled"
    assert [check(api.at(now), acme)["limit"] for now in (MARCH_16, APRIL_1)] == [100, 500]


def test_a_permanent_override_holds_any_time_later(api):
    """L-03"""
    acme = on(pro())

    made = give(api, acme, effectiveUntil=None)

    assert (made["permanent"], made["effectiveUntil"], check(api.at(JUNE_1), acme)["limit"]) == (True, None, 500)


def test_the_plans_value_returns_at_the_end_without_any_job(api):
    """L-04"""
    acme = on(pro())
    made = give(api, acme)

    assert check(api.at(JUNE_1), acme)["limit"] == 100
    assert api.at(JUNE_1).get(f"overrides/{made['id']}")["state"] == "expired"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"effectiveUntil": "2026-02-01T00:00:00Z"}, "effectiveUntil"),
        ({"effectiveFrom": "2026-07-01T00:00:00Z"}, "effectiveUntil"),
        ({"effectiveFrom": "2026-02-01T00:00:00Z"}, "effectiveFrom"),
        ({"value": True}, "value"),
        ({"value": "many"}, "value"),
        ({"value": -1}, "value"),
        ({"value": 0.1234567}, "value"),
        ({"value": None}, "value"),
        ({"value": []}, "value"),
        ({"slug": "sso", "value": 5}, "value"),
        ({"slug": "sso", "value": "perhaps"}, "value"),
        ({"slug": "rate-limit", "value": True}, "value"),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field(api, asked, field):
    """L-05"""
    acme = on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))

    answer = give(api, acme, **asked)

    assert (answer.status, answer["field"]) == (400, field)
    assert not FeatureOverride.objects.exists()


@pytest.mark.parametrize(
    ("slug", "sent", "told", "checked"),
    [
        ("credits", 50000, 50000, 50000),
        ("credits", "50000", 50000, 50000),
        ("credits", "unlimited", "unlimited", None),
        ("credits", "no_access", "no_access", None),
        ("credits", False, "no_access", None),
        ("sso", True, True, True),
        ("sso", False, False, False),
        ("rate-limit", 250, 250, 250),
        ("rate-limit", "gold", "gold", "gold"),
        ("rate-limit", "no_access", "no_access", None),
    ],
)
def test_a_value_is_typed_by_its_feature(api, slug, sent, told, checked):
    """L-31"""
    acme = on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))

    made = give(api, acme, sent, slug)

    now = check(api, acme, slug)
    assert (made.status, made["value"], now["source"]) == (201, told, "override")
    assert now["limit" if slug == "credits" else "value"] == checked
    assert now["hasAccess"] is (sent not in (False, "no_access"))


def test_an_override_without_a_reason_is_refused(api):
    """L-06"""
    answer = give(api, on(pro()), reason=" ")

    assert (answer.status, answer["code"], answer["field"]) == (400, "reason_required", "reason")


def test_an_end_that_was_left_out_is_refused_while_null_is_permanent(api):
    """L-07"""
    acme = on(pro())

    left_out = give(api, acme, effectiveUntil="left out")

    assert (left_out.status, left_out["code"], left_out["field"]) == (400, "missing_field", "effectiveUntil")
    assert give(api, acme, effectiveUntil=None).status == 201


def test_an_override_of_the_customer_spans_all_plans(api):
    """L-10, P-37"""
    acme = on(pro())
    world.enable(acme, world.assigned("partner", allowance(1000)))

    give(api, acme, 5000)

    assert check(api, acme)["limit"] == 5000


def test_overrides_at_both_levels_say_so(api):
    """L-11"""
    acme = on(pro())
    world.enable(acme, world.assigned("partner", allowance(1000)))
    billed = acme.subscriptions.get(product__key="api").public_id

    first = give(api, acme, 300, subscriptionId=billed)
    second = give(api, acme, 5000)

    assert (first["bothLevels"], second["bothLevels"], check(api, acme)["limit"]) == (False, True, 5000)
    assert ids(api.get("overrides", bothLevels="true")) == [second["id"], first["id"]]


def test_overlapping_overrides_are_refused_unless_one_supersedes(api):
    """L-12"""
    acme = on(pro())
    first = give(api, acme)

    refused = give(api, acme, 700)
    second = give(api.at(MARCH_16), acme, 700, supersede=True)

    assert (refused.status, refused["code"], refused["field"]) == (409, "override_overlaps", "effectiveFrom")
    told = api.at(MARCH_16).get(f"overrides/{first['id']}")
    assert (told["state"], told["stopsAt"][:10], told["supersededBy"]) == ("superseded", "2026-03-16", second["id"])


def test_an_override_above_the_plan_is_a_bucket_of_its_own(api):
    """L-33"""
    acme = on(pro(credits=10_000))

    give(api, acme, 50_000)

    buckets = check(api, acme)["buckets"]
    assert [(b["kind"], b["granted"]) for b in buckets if b["kind"] == "override"] == [("override", 40_000)]


def test_what_an_override_covered_stays_covered(api):
    """L-33"""
    acme = on(pro(credits=100))
    give(api, acme, 500, effectiveUntil="2026-03-16T00:00:00Z")
    api.post("track", {"customerId": acme.customer_id, "featureSlug": "credits", "value": 150})

    answer = check(api.at(MARCH_16), acme)

    assert (answer["limit"], answer["overage"]) == (100, 0)


def test_a_subscription_of_somebody_else_is_not_found(api):
    acme, other = on(pro()), on(world.team(), name="Globex")

    assert give(api, acme, subscriptionId="sub_nope")["code"] == "subscription_not_found"
    assert give(api, acme, subscriptionId=contract(other)).status == 404


def test_a_repeated_call_with_its_key_gives_nothing_twice(api):
    acme = on(pro())
    asked = {"featureSlug": "credits", "value": 500, "effectiveUntil": JUNE, "reason": "pilot"}

    first, again = (
        api.post(f"customers/{acme.customer_id}/overrides", asked, Idempotency_Key="deal-1") for _ in range(2)
    )

    assert (again.status, again["id"], FeatureOverride.objects.count()) == (201, first["id"], 1)


# Taking back


def test_revoking_stops_at_once_and_keeps_who_when_and_why(api):
    """L-08"""
    acme = on(pro())
    made = give(api, acme)

    told = api.at(MARCH_16).post(f"overrides/{made['id']}/revoke", {"reason": "pilot over"})

    assert (told["state"], told["revokedBy"], told["revokeReason"]) == ("revoked", "api:backend", "pilot over")
    assert check(api.at(MARCH_16), acme)["limit"] == 100


def test_revoking_again_changes_nothing(api):
    """L-09"""
    acme = on(pro())
    made = give(api, acme, effectiveFrom="2026-05-01T00:00:00Z")
    first = api.at(MARCH_16).post(f"overrides/{made['id']}/revoke", {"reason": "pilot over"})

    again = api.at(APRIL_1).post(f"overrides/{made['id']}/revoke", {"reason": "once more"})

    assert first["state"] == "revoked" and again.body == first.body
    assert acme.operations.filter(verb="override.revoked").count() == 1


def test_what_has_expired_stays_expired_when_revoked(api):
    """L-09"""
    acme = on(pro())
    made = give(api, acme)

    assert api.at(JUNE_1).post(f"overrides/{made['id']}/revoke", {"reason": "late"})["state"] == "expired"


def test_an_override_is_never_edited(api):
    """L-09"""
    made = give(api, on(pro()))

    assert api.patch(f"overrides/{made['id']}", {"value": 5}).status == 405


# Looking at them


def test_overrides_of_a_customer_are_found_by_state(api):
    acme = on(pro())
    over = give(api, acme, effectiveUntil="2026-03-10T00:00:00Z")
    revoked = give(api, acme, effectiveFrom="2026-03-10T00:00:00Z")
    api.post(f"overrides/{revoked['id']}/revoke", {"reason": "no"})
    now = give(api.at(MARCH_16), acme, effectiveUntil="2026-05-01T00:00:00Z")
    later = give(api.at(MARCH_16), acme, effectiveFrom="2026-05-01T00:00:00Z")
    replaced = give(api.at(MARCH_16), acme, effectiveFrom="2026-06-01T00:00:00Z", effectiveUntil=None)
    last = give(api.at(MARCH_16), acme, effectiveFrom="2026-06-01T00:00:00Z", effectiveUntil=None, supersede=True)

    def those(state):
        return ids(api.at(MARCH_16).get(f"customers/{acme.customer_id}/overrides", state=state))

    assert those("expired") == [over["id"]]
    assert those("revoked") == [revoked["id"]]
    assert those("in_force") == [now["id"]]
    assert those("scheduled") == [last["id"], later["id"]]
    assert those("superseded") == [replaced["id"]]


def test_the_register_finds_what_ends_soon_and_what_never_does(api):
    """L-07"""
    acme, globex = on(pro()), on(world.team(), name="Globex")
    soon = give(api, acme, effectiveUntil="2026-03-20T00:00:00Z")
    never = give(api, globex, 900, effectiveUntil=None)

    assert ids(api.get("overrides", endsWithinDays=30)) == [soon["id"]]
    assert ids(api.get("overrides", endsWithinDays=7)) == []
    assert ids(api.get("overrides", noEnd="true")) == [never["id"]]
    assert ids(api.get("overrides", featureSlug="credits", state="in_force")) == [never["id"], soon["id"]]
    assert api.get("overrides", featureSlug="nope").status == 404


def test_the_register_goes_on_from_a_key(api):
    solo = plan("solo", fee(10), allowance(10))
    made = [give(api, on(solo, name=f"C{n}")) for n in range(3)]

    first = api.get("overrides", limit=2)
    second = api.get("overrides", limit=2, cursor=first["nextCursor"])

    assert ids(first) + ids(second) == [m["id"] for m in reversed(made)]
    assert second["nextCursor"] is None


def test_the_register_is_read_in_few_queries(api, django_assert_max_num_queries):
    made = plan("solo", fee(10), allowance(10))
    for n in range(5):
        give(api, on(made, name=f"C{n}"))

    with django_assert_max_num_queries(3):
        assert len(api.get("overrides")["data"]) == 5


def test_overrides_of_closed_customers_are_not_found(api):
    acme = customer()
    world.feature("credits")
    made = give(api, acme)
    api.delete(f"customers/{acme.customer_id}", {"confirmName": acme.name, "reason": "asked to"})

    assert api.get(f"overrides/{made['id']}").status == 404
    assert ids(api.get("overrides")) == []


# Who may


def test_a_key_that_makes_concessions_gives_only_what_ends(api):
    """L-47"""
    acme = on(pro())
    ops = caller_with("Ops", called="ops")

    refused = give(ops, acme, effectiveUntil=None)

    assert (refused.status, refused["code"]) == (403, "forbidden")
    assert give(ops, acme).status == 201


def test_a_key_that_makes_concessions_takes_back_only_what_ends(api):
    """L-47"""
    acme = on(pro())
    made = give(api, acme, effectiveUntil=None)

    refused = caller_with("Ops", called="ops").post(f"overrides/{made['id']}/revoke", {"reason": "mine"})

    assert refused.status == 403
    assert check(api.at(MAY_1), acme)["limit"] == 500


@pytest.mark.parametrize("role", ["Read-only", "Finance", "Application"])
def test_other_keys_give_none(api, role):
    """L-47"""
    made = give(api, on(pro()))
    other = caller_with(role, called="other")

    assert give(other, on(world.team(), name="Globex")).status == 403
    assert other.post(f"overrides/{made['id']}/revoke", {"reason": "mine"}).status == 403
    assert other.get(f"overrides/{made['id']}").status == 200


def test_a_boost_ends_by_itself(api):
    """L-48"""
    acme = on(pro())
    give(api, acme, 200, effectiveUntil="2026-03-16T00:00:00Z")

    assert [check(api.at(now), acme)["limit"] for now in (MARCH_1, MARCH_16)] == [200, 100]
