"""Every charge model in the API: sent, told again, refused at its field."""

import pytest

from catalog.models import Plan, PlanVersion
from catalog.terms import ALLOCATED
from tests.builders import feature, product

pytestmark = pytest.mark.django_db


@pytest.fixture
def sold(api):
    """An account with a product and features that can be priced."""
    product("api")
    for slug in ("calls", "tokens"):
        feature(slug)
    feature("seats", usage=ALLOCATED)
    feature("sso", type="boolean")
    return api


def create(api, *items, **more):
    return api.post("plans", {"productId": "api", "name": "Pro", "items": list(items)} | more)


def calls(price, **more):
    return {"featureSlug": "calls", "price": price} | more


def told(answer, sent):
    """Of an answer, what was sent: the rest is what was left out."""
    if isinstance(sent, list):
        return [told(*pair) for pair in zip(answer, sent, strict=True)]
    return {name: told(answer[name], sent[name]) for name in sent} if isinstance(sent, dict) else answer


TIERS = [{"upTo": 10000, "unit": "0.001"}, {"upTo": None, "unit": "0.0008"}]


@pytest.mark.parametrize(
    "price",
    [
        {"model": "per_unit", "rate": "0.002", "per": 1000, "lineMin": "5"},
        {"model": "package", "rate": "10", "pack": 100},
        {"model": "graduated", "tiers": TIERS},
        {"model": "graduated", "per": 1000, "tiers": [{"upTo": None, "unit": "2", "flat": "1"}]},
        {"model": "volume", "pack": 100, "tiers": TIERS},
        {"model": "stairstep", "tiers": [{"upTo": 10, "flat": "50"}, {"upTo": None, "flat": "80"}]},
        {"model": "percentage", "percent": "2.9", "fixed": "0.3", "transactionMin": "0.5"},
    ],
)
def test_each_model_comes_back_as_it_was_sent_and_can_be_sent_again(sold, price):
    made = create(sold, calls(price))

    [item] = made["currentVersion"]["items"]
    assert told(item["price"], price) == price
    again = sold.post("plans/pro/versions", {"items": [item], "commitMessage": "the same"})
    assert (again.status, again["items"]) == (201, [item])


def test_the_usual_price_is_told_in_short(sold):
    [item] = create(sold, calls({"model": "per_unit", "rate": "0.002", "per": 1000}))["currentVersion"]["items"]

    assert (item["unitPrice"], item["per"], item["price"]) == ("0.002", 1000, None)


def test_either_the_short_price_or_the_long_one(sold):
    answer = create(sold, calls({"model": "per_unit"}, unitPrice="1"))

    assert (answer.status, answer["errors"][0]["code"]) == (400, "two_prices")


@pytest.mark.parametrize(
    ("price", "field", "code"),
    [
        ({"model": "graduated", "tiers": [{"upTo": 10}]}, "items.0.price.tiers.0.upTo", "tier_gap"),
        ({"model": "graduated", "tiers": []}, "items.0.price.tiers", "no_tiers"),
        ({"model": "percentage", "percent": "101"}, "items.0.price.percent", "percent_out_of_range"),
        ({"model": "package", "rate": "1", "pack": "0.5"}, "items.0.price.pack", "bad_pack"),
        (
            {"model": "stairstep", "tiers": [{"upTo": None, "unit": "1"}]},
            "items.0.price.tiers.0.unit",
            "foreign_price_field",
        ),
        ({"model": "volume", "rate": "1", "tiers": TIERS}, "items.0.price.rate", "foreign_price_field"),
        (
            {"model": "percentage", "percent": "1", "transactionMin": "2", "transactionMax": "1"},
            "items.0.price.transactionMin",
            "min_above_max",
        ),
    ],
)
def test_a_wrong_cell_of_a_price_is_named(sold, price, field, code):
    """A-14"""
    answer = create(sold, calls(price))

    assert (answer.status, answer["field"], answer["errors"][0]["code"]) == (400, field, code)
    assert not Plan.objects.exists()


def test_a_model_that_is_none_is_refused(sold):
    assert create(sold, calls({"model": "surprise"})).status == 400


def test_prepaid_units_have_a_hard_limit_unless_it_is_said(sold):
    prepaid = calls({"model": "package", "rate": "10", "pack": 100}, term="in_advance", onDecrease="next_cycle")

    [item] = create(sold, prepaid)["currentVersion"]["items"]

    assert (item["term"], item["limit"], item["onDecrease"]) == ("in_advance", "hard", "next_cycle")


def test_units_that_are_sold_once_last(sold):
    topup = calls({"model": "package", "rate": "10", "pack": 100}, term="in_advance", cadence="P0D")

    [item] = create(sold, topup)["currentVersion"]["items"]

    assert (item["cadence"], item["resets"]) == ("P0D", "never")


def test_the_usual_term_is_told_and_not_written_down(sold):
    items = create(
        sold,
        {"type": "fee", "amount": "5", "term": "in_advance"},
        calls({"model": "per_unit", "rate": "1"}, term="in_arrears"),
        {"featureSlug": "seats", "included": 1, "unitPrice": "9", "term": "in_advance"},
    )["currentVersion"]["items"]

    assert [item["term"] for item in items] == ["in_advance", "in_arrears", "in_advance"]
    assert {item.term for item in PlanVersion.objects.get().items.all()} == {""}


def test_instant_payment_takes_billing_version_0(sold):
    """Y-10, Y-11"""
    instant = calls({"model": "per_unit", "rate": "1"}, term="instant")

    refused = create(sold, instant)
    taken = create(sold, instant, billingVersion=0)

    assert (refused.status, refused["errors"][0]["code"]) == (400, "instant_needs_version_0")
    assert (taken.status, taken["currentVersion"]["items"][0]["term"]) == (201, "instant")


@pytest.mark.parametrize("item", [{"featureSlug": "sso"}, {"featureSlug": "calls", "included": 5}])
def test_billing_version_0_gives_nothing_away(sold, item):
    """Y-12"""
    answer = create(sold, item, billingVersion=0)

    assert (answer.status, answer["errors"][0]["code"]) == (400, "allowance_on_version_0")


def test_a_plan_that_gives_something_away_cannot_become_billing_version_0(sold):
    """Y-12"""
    create(sold, {"type": "fee", "amount": "5"}, {"featureSlug": "sso"})

    answer = sold.patch("plans/pro", {"billingVersion": 0})

    assert (answer.status, answer["field"]) == (400, "billingVersion")
    assert Plan.objects.get().billing_version == 1


# Trial and commitment


def test_a_trial_and_a_commitment_stand_on_the_version(sold):
    fee = {"type": "fee", "amount": "5"}
    version = create(sold, fee, trialDays=14, trialEnd="cancel", commitment="500")["currentVersion"]
    assert (version["trialDays"], version["trialEnd"], version["commitment"]) == (14, "cancel", "500")

    kept = sold.post("plans/pro/versions", {"items": [fee | {"amount": "6"}], "commitMessage": "dearer"})
    ended = sold.post("plans/pro/versions", {"items": [fee], "commitment": None, "trialDays": 0, "commitMessage": "x"})

    assert (kept["trialDays"], kept["commitment"]) == (14, "500")
    assert (ended["trialDays"], ended["trialEnd"], ended["commitment"]) == (0, None, None)


@pytest.mark.parametrize(("field", "value"), [("trialDays", -1), ("trialDays", 5000), ("commitment", "-1")])
def test_a_trial_or_commitment_that_cannot_be_is_refused(sold, field, value):
    answer = create(sold, {"type": "fee", "amount": "5"}, **{field: value})

    assert (answer.status, answer["field"]) == (400, field)


def test_an_assigned_plan_has_neither(sold):
    answer = create(sold, {"featureSlug": "sso"}, kind="assigned", commitment="5")

    assert (answer.status, answer["code"], answer["field"]) == (400, "not_billed", "commitment")
