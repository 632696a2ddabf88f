"""Bonuses and purchases over the API."""

import pytest

from entitlements.models import Grant
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import customer, feature, on, pro
from tests.instants import APRIL_1, JUNE_1, MARCH_16

pytestmark = pytest.mark.django_db


def give(api, who, units=50, slug="credits", **more):
    asked = {"featureSlug": slug, "units": units, "reason": "welcome", **more}
    return api.post(f"customers/{who.customer_id}/grants", asked)


def check(api, who, required=1):
    return api.post("check", {"customerId": who.customer_id, "featureSlug": "credits", "required": required})


def track(api, who, value):
    return api.post("track", {"customerId": who.customer_id, "featureSlug": "credits", "value": value})


def void(api, made, reason="by mistake"):
    return api.post(f"grants/{made['id']}/void", {"reason": reason})


# Giving


def test_a_grant_tells_what_it_gives_and_what_is_left(api):
    """P-32"""
    acme = on(pro())

    made = give(api, acme, 50, label="Welcome", endsAt="2026-06-01T00:00:00Z", metadata={"deal": 7})

    assert (made.status, made["state"], made["units"], made["remaining"]) == (201, "active", 50, 50)
    assert (made["label"], made["metadata"], made["reason"]) == ("Welcome", {"deal": 7}, "welcome")
    answer = check(api, acme)
    assert (answer["limit"], answer["bonusRemaining"], answer["remaining"]) == (100, 50, 150)


def test_a_grant_alone_gives_access(api):
    acme = customer()
    feature("credits")

    give(api, acme, 5)

    assert (check(api, acme)["allowed"], check(api, acme)["source"]) == (True, "bonus")


def test_a_grant_to_come_gives_nothing_yet(api):
    acme = customer()
    feature("credits")

    made = give(api, acme, 5, startsAt="2026-04-01T00:00:00Z")

    assert (made["state"], made["remaining"], check(api, acme)["allowed"]) == ("scheduled", 0, False)
    assert check(api.at(APRIL_1), acme)["allowed"] is True


def test_a_grant_that_recurs_gives_anew_in_each_window(api):
    """L-36"""
    acme = on(pro())
    made = give(api, acme, 50, recurs="P1M", priority=-1)
    track(api, acme, 30)

    told = api.at(APRIL_1).get(f"grants/{made['id']}")

    assert (told["remaining"], told["used"], told["windowEndsAt"][:10]) == (50, 30, "2026-05-01")


def test_units_that_expire_are_gone_at_their_end(api):
    """L-36"""
    acme = on(pro())
    made = give(api, acme, 50, endsAt="2026-03-16T00:00:00Z")

    told = api.at(MARCH_16).get(f"grants/{made['id']}")

    assert (told["state"], told["remaining"], check(api.at(MARCH_16), acme)["remaining"]) == ("ended", 0, 100)


def test_grants_burn_by_priority_then_by_their_end(api):
    """Y-42"""
    acme = customer()
    feature("credits")
    lasting = give(api, acme, 5, label="lasting")
    ending = give(api, acme, 5, label="ending", endsAt="2026-06-01T00:00:00Z")
    first = give(api, acme, 5, label="first", priority=-1)

    track(api, acme, 10)

    assert [api.get(f"grants/{made['id']}")["used"] for made in (first, ending, lasting)] == [5, 5, 0]


@pytest.mark.parametrize("slug", ["sso", "rate-limit"])
def test_only_what_is_metered_can_be_given_in_units(api, slug):
    """P-39"""
    feature(slug, type="boolean" if slug == "sso" else "static")

    answer = give(api, customer(), slug=slug)

    assert (answer.status, answer["code"], answer["field"]) == (400, "not_metered", "featureSlug")


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"units": 0}, "invalid", "units"),
        ({"units": -5}, "invalid", "units"),
        ({"endsAt": "2026-02-01T00:00:00Z"}, "bad_grant", None),
        ({"recurs": "P2M"}, "bad_grant", None),
        ({"recurs": "never"}, "bad_grant", None),
        ({"source": "gift"}, "invalid", "source"),
        ({"reason": ""}, "reason_required", "reason"),
        ({"slug": "nope"}, "feature_not_found", "featureSlug"),
    ],
)
def test_what_cannot_be_given_is_refused(api, asked, code, field):
    answer = give(api, on(pro()), **asked)

    assert (answer["code"], answer.body.get("field")) == (code, field)
    assert not Grant.objects.exists()


def test_a_purchase_takes_no_reason(api):
    assert give(api, on(pro()), source="purchase", reason="")["label"] == "Purchase"


def test_the_same_key_is_the_same_grant(api):
    """Y-43"""
    acme = on(pro())

    first, again = (give(api, acme, idempotencyKey="deal-1") for _ in range(2))

    assert (again.status, again["id"], Grant.objects.count()) == (201, first["id"], 1)
    assert acme.operations.filter(verb="grant.given").count() == 1


def test_the_same_key_for_another_amount_is_a_conflict(api):
    """Y-43"""
    acme = on(pro())
    give(api, acme, 50, idempotencyKey="deal-1")

    answer = give(api, acme, 60, idempotencyKey="deal-1")

    assert (answer.status, answer["code"]) == (409, "idempotency_conflict")


def test_the_same_key_of_another_customer_is_another_grant(api):
    """Y-43"""
    give(api, on(pro()), idempotencyKey="deal-1")

    assert give(api, on(world.team(), name="Globex"), idempotencyKey="deal-1").status == 201


# Changing and taking back


def test_an_unused_grant_may_be_changed(api):
    """P-38"""
    acme = on(pro())
    made = give(api, acme, 50)

    told = api.patch(
        f"grants/{made['id']}",
        {"units": 70, "endsAt": "2026-06-01T00:00:00Z", "reason": "a promise", "metadata": {"a": 1}, "priority": 3},
    )

    assert (told["units"], told["remaining"], told["endsAt"]) == (70, 70, "2026-06-01T00:00:00Z")
    assert (told["reason"], told["metadata"], told["priority"]) == ("a promise", {"a": 1}, 3)
    assert check(api, acme)["bonusRemaining"] == 70


def test_what_a_change_does_not_name_stays(api):
    """P-38"""
    made = give(api, on(pro()), endsAt="2026-06-01T00:00:00Z", label="Welcome")

    told = api.patch(f"grants/{made['id']}", {"units": 70})
    lasting = api.patch(f"grants/{made['id']}", {"endsAt": None})

    assert (told["endsAt"], told["label"]) == (made["endsAt"], "Welcome")
    assert (lasting["units"], lasting["endsAt"]) == (70, None)


def test_a_grant_that_is_used_cannot_be_changed(api):
    """P-38"""
    acme = on(pro())
    made = give(api, acme, priority=-1)
    track(api, acme, 1)

    answer = api.patch(f"grants/{made['id']}", {"units": 70})

    assert (answer.status, answer["code"]) == (409, "grant_is_used")
    assert not acme.operations.filter(verb="grant.changed").exists()


def test_voiding_takes_back_the_rest_and_leaves_what_was_used(api):
    """P-38"""
    acme = on(pro())
    made = give(api, acme, 50, priority=-1)
    track(api, acme, 20)

    told = void(api.at(MARCH_16), made)

    assert (told["state"], told["used"], told["remaining"], told["voidReason"]) == ("voided", 20, 0, "by mistake")
    assert check(api.at(MARCH_16), acme)["remaining"] == 100
    assert api.get(f"customers/{acme.customer_id}/grants")["data"][0]["id"] == made["id"]


def test_voiding_again_changes_nothing(api):
    """Y-44"""
    acme = on(pro())
    made = give(api, acme)
    first = void(api, made)

    again = void(api.at(MARCH_16), made, reason="")

    assert (again.status, again.body) == (200, first.body)
    assert acme.operations.filter(verb="grant.voided").count() == 1


def test_voiding_takes_a_reason(api):
    made = give(api, on(pro()))

    assert void(api, made, reason="")["code"] == "reason_required"


def test_a_grant_that_is_over_cannot_be_changed(api):
    made = give(api, on(pro()), endsAt="2026-03-16T00:00:00Z")

    answer = api.at(JUNE_1).patch(f"grants/{made['id']}", {"endsAt": None})

    assert (answer.status, answer["code"]) == (409, "grant_is_over")


# Looking at them


def test_grants_of_a_customer_come_page_by_page(api, django_assert_max_num_queries):
    acme = on(pro())
    made = [give(api, acme, n) for n in (1, 2, 3)]

    with django_assert_max_num_queries(12):
        first = api.get(f"customers/{acme.customer_id}/grants", limit=2, featureSlug="credits")
    second = api.get(f"customers/{acme.customer_id}/grants", limit=2, cursor=first["nextCursor"])

    assert [g["id"] for g in [*first["data"], *second["data"]]] == [m["id"] for m in reversed(made)]


def test_a_grant_nobody_gave_is_not_found(api):
    assert api.get("grants/gra_nope")["code"] == "grant_not_found"


def test_only_those_who_may_give_and_take_back(api):
    acme = on(pro())
    made = give(api, acme)
    reader = caller_with("Application", called="app")

    assert give(reader, acme).status == 403
    assert void(reader, made).status == 403
    assert reader.patch(f"grants/{made['id']}", {"units": 1}).status == 403
    assert reader.get(f"grants/{made['id']}").status == 200
    assert give(caller_with("Ops", called="ops"), acme).status == 201
