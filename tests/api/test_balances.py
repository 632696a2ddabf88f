"""Balances and their edits over the API."""

import pytest

from entitlements.models import Balance
from tests import builders as world
from tests.builders import STAFF, allowance, assigned, enable, fee, on, plan, pro, switch, use
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


def edit(api, who, balance, slug="credits", **more):
    body = {"featureSlug": slug, "balance": balance, "reason": "goodwill", **more}
    return api.post(f"customers/{who.customer_id}/balances", body)


def test_balances_are_listed_with_their_parts(api):
    who = on(pro(credits=100))
    use(who, 30)

    [balance] = api.get(f"customers/{who.customer_id}/balances")["data"]

    assert (balance["featureSlug"], balance["plan"], balance["resets"]) == ("credits", "Pro", "P1M")
    assert (balance["granted"], balance["used"], balance["remaining"], balance["adjusted"]) == (100, 30, 70, 0)
    assert (balance["endsAt"], balance["nextGranted"]) == ("2026-04-01T00:00:00Z", 100)
    assert balance["ledger"] is None


def test_a_balance_that_nobody_used_yet_is_listed(api):
    world.default(allowance(5))
    who = world.customer()

    [balance] = api.get(f"customers/{who.customer_id}/balances")["data"]

    assert (balance["id"], balance["remaining"], balance["isDefault"]) == (None, 5, True)


def test_the_ledger_sums_to_what_is_left(api):
    """A-37"""
    who = on(pro(credits=100))
    use(who, 30)
    edit(api, who, 90)

    [balance] = api.get(f"customers/{who.customer_id}/balances", ledger="true")["data"]

    assert sum(line["amount"] for line in balance["ledger"]) == balance["remaining"] == 90
    [line] = [line for line in balance["ledger"] if line["kind"] == "edit"]
    assert (line["amount"], line["who"], line["why"]) == (20, "api:backend", "goodwill")


def test_an_edit_sets_what_is_left(api):
    """A-30"""
    who = on(pro(credits=100))
    use(who, 20)

    answer = edit(api, who, 120)

    [balance] = answer["data"]
    assert (balance["remaining"], balance["granted"], balance["used"], balance["adjusted"]) == (120, 100, 20, 40)
    assert (answer["operation"]["actor"], answer["operation"]["reason"]) == ("api:backend", "goodwill")


def test_the_plan_comes_back_at_the_reset(api):
    """A-33"""
    who = on(assigned("partner", allowance(100)))
    edit(api, who, 500)

    [balance] = api.at(APRIL_1).get(f"customers/{who.customer_id}/balances")["data"]

    assert balance["remaining"] == 100


def test_an_edit_that_names_no_bucket_sets_the_sum_by_moving_the_plans(api):
    """A-34"""
    who = on(pro(credits=100))
    enable(who, plan("boost", fee(5), allowance(50), add_on=True))

    answer = edit(api, who, 120)

    assert sorted(b["remaining"] for b in answer["data"]) == [50, 70]


def test_an_edit_may_name_a_bucket(api):
    """A-34"""
    who = on(pro(credits=100))
    enable(who, plan("boost", fee(5), allowance(50), add_on=True))
    boost = Balance.objects.get(granted=50)

    answer = edit(api, who, 10, balanceId=boost.pk)

    assert sorted(b["remaining"] for b in answer["data"]) == [10, 100]


def test_an_edit_may_end_the_window_earlier(api):
    """A-32"""
    who = on(pro(credits=100))

    answer = edit(api, who, 500, resetAt="2026-03-16T00:00:00Z")

    assert answer["data"][0]["endsAt"] == "2026-03-16T00:00:00Z"


def test_a_reset_in_the_past_is_refused(api):
    """A-32"""
    answer = edit(api.at(MARCH_16), on(pro()), 500, resetAt="2026-03-15T00:00:00Z")

    assert (answer.status, answer["field"]) == (400, "resetAt")


def test_an_edit_takes_a_reason(api):
    answer = edit(api, on(pro()), 500, reason=" ")

    assert (answer.status, answer["code"], answer["field"]) == (400, "reason_required", "reason")


def test_a_feature_without_a_balance_cannot_be_edited(api):
    """A-31"""
    answer = edit(api, on(plan("pro", fee(50), switch("sso"))), 5, "sso")

    assert (answer.status, answer["code"]) == (400, "no_balance")


def test_an_unknown_feature_is_not_found(api):
    answer = edit(api, on(pro()), 5, "nope")

    assert (answer.status, answer["code"]) == (404, "feature_not_found")


def test_the_bucket_of_another_customer_cannot_be_edited(api):
    who, other = on(pro()), world.customer("Globex")
    enable(other, world.reread(who.subscriptions.get().phases.get().version.plan))

    answer = edit(api, other, 5, balanceId=who.balances.get().pk)

    assert (answer.status, who.balances.get().adjusted) == (400, 0)


def test_a_number_of_the_journal_is_the_keys(api):
    who = on(pro())
    edit(api, who, 5)

    assert who.operations.newest().first().actor != STAFF.name


def give(api, who, **more):
    return api.post(
        f"customers/{who.customer_id}/grants", {"featureSlug": "credits", "units": 50, "reason": "x", **more}
    )


def bonus(api, who) -> int:
    found = api.get(f"customers/{who.customer_id}/balances")["data"]
    return next(balance["id"] for balance in found if balance["kind"] == "bonus")


def test_the_end_of_a_bonus_may_be_moved(api):
    """A-34"""
    who = on(pro())
    made = give(api, who, endsAt="2026-03-16T00:00:00Z")

    told = edit(api, who, 40, balanceId=bonus(api, who), expiresAt="2026-06-01T00:00:00Z")

    assert [b["endsAt"][:10] for b in told["data"] if b["kind"] == "bonus"] == ["2026-06-01"]
    later = api.at(APRIL_1).get(f"grants/{made['id']}")
    assert (later["endsAt"][:10], later["remaining"], later["state"]) == ("2026-06-01", 40, "active")


@pytest.mark.parametrize(
    ("grant", "edited"),
    [({}, {"expiresAt": "2026-06-01T00:00:00Z"}), ({}, {"expiresAt": "2026-02-01T00:00:00Z"}), ({"recurs": "P1M"}, {})],
)
def test_an_end_that_does_not_go_with_the_balance_is_refused(api, grant, edited):
    """A-32"""
    who = on(pro())
    give(api, who, **grant)
    named = {} if edited.get("expiresAt", "").startswith("2026-06") else {"balanceId": bonus(api, who)}

    answer = edit(api, who, 40, **{"expiresAt": "2026-06-01T00:00:00Z", **edited, **named})

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_reset_date", "expiresAt")
