"""Check and track over the API."""

from datetime import timedelta

import pytest

from catalog.models import Plan
from customers import switch as contracts
from customers.models import Customer, Operation, Subscription
from entitlements.models import UsageEvent
from tests import builders as world
from tests.builders import allowance, assigned, customer, enable, fee, on, overuse, plan, pro, static, switch, team, use
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def check(api, who, slug="credits", **more):
    return api.post("check", {"customerId": who.customer_id, "featureSlug": slug, **more})


def track(api, who, value=1, slug="credits", **more):
    return api.post("track", {"customerId": who.customer_id, "featureSlug": slug, "value": value, **more})


# What applies


def test_the_default_product_applies_to_whoever_has_nothing(api):
    """P-14"""
    world.default(allowance(5))

    answer = check(api, customer())

    assert (answer["allowed"], answer["limit"], answer["source"]) == (True, 5, "default")
    assert not Subscription.objects.exists()


def test_the_default_adds_nothing_to_a_mirrored_plan(api):
    """P-15"""
    world.default(allowance(5))
    who = mirrored(allowance(50))

    assert check(api, who)["limit"] == 50


def test_the_default_adds_nothing_to_an_assigned_plan(api):
    """P-16"""
    world.default(allowance(5))
    who = on(assigned("partner", allowance(1000)))

    assert check(api, who)["limit"] == 1000


def test_the_default_applies_again_when_the_last_plan_ends(api):
    """P-17"""
    world.default(allowance(5))
    assigned("partner", allowance(1000))
    api.post("customers", {"customerId": "acme", "name": "Acme", "customProductKeys": ["partner"]})
    api.patch("customers/acme", {"customProductKeys": []})

    answer = api.post("check", {"customerId": "acme", "featureSlug": "credits"})

    assert (answer["limit"], answer["source"]) == (5, "default")


def test_an_ended_plan_does_not_count(api):
    """P-18"""
    world.default(allowance(5))
    who = on(pro())
    api.post(f"subscriptions/{world.the_subscription(who).public_id}/cancel", {"atOnce": True, "reason": "left"})

    assert check(api, who)["limit"] == 5


def test_a_plan_that_is_past_due_counts(api):
    """P-18"""
    world.default(allowance(5))
    who = on(pro())
    Subscription.objects.update(state="past_due")

    assert check(api, who)["limit"] == 100


def test_two_plans_both_contribute(api):
    """P-19"""
    who = mirrored(allowance(500))
    enable(who, assigned("partner", allowance(1000)))

    assert check(api, who)["limit"] == 1500


def mirrored(*items):
    """A customer whose plan is mirrored from Stripe: its subscription was made there."""
    made = plan("mirrored", *items, kind=Plan.Kind.STRIPE, of="mirrored")
    who = customer()
    contracts.start(who, made.current_version, anchor=MARCH_1, at=MARCH_1)
    return who


def test_windows_count_from_the_start_of_usage(api):
    """P-24"""
    assigned("partner", allowance(10))
    api.post(
        "customers",
        {"customerId": "acme", "name": "A", "customProductKeys": ["partner"], "usageStartedAt": "2026-01-10T00:00:00Z"},
    )

    answer = api.get("check", customerId="acme", featureSlug="credits")

    assert answer["nextResetAt"] == "2026-03-10T00:00:00Z"


def test_windows_count_from_the_creation_otherwise(api):
    """P-25"""
    who = on(assigned("partner", allowance(10)))

    assert check(api, who)["nextResetAt"] == "2026-04-01T00:00:00Z"


def test_a_billed_plan_has_windows_of_its_own_period(api):
    """P-26"""
    who = customer(since=day("2026-01-20"))
    Customer.objects.update(usage_started_at=day("2026-01-10"))
    enable(who, pro())

    assert check(api, who)["nextResetAt"] == "2026-04-01T00:00:00Z"


def test_calendar_windows_are_the_same_for_everybody(api):
    """P-27"""
    who = on(assigned("partner", allowance(10, calendar=True)), since=day("2026-02-10"))

    assert check(api.at(MARCH_16), who)["nextResetAt"] == "2026-04-01T00:00:00Z"


def test_an_anchor_on_the_31st_returns_to_the_31st(api):
    """P-28"""
    who = on(assigned("partner", allowance(10)), since=day("2026-01-31"))

    resets = [check(api.at(now), who)["nextResetAt"][:10] for now in (day("2026-02-01"), day("2026-03-02"), MAY_1)]

    assert resets == ["2026-02-28", "2026-03-31", "2026-05-31"]


def test_moving_the_start_of_usage_recounts_the_open_window(api):
    """P-29"""
    who = on(assigned("partner", allowance(100)))
    use(who, 10, now=day("2026-03-05"))
    use(who, 3, now=day("2026-03-12"))

    api.at(MARCH_16).patch(f"customers/{who.customer_id}", {"usageStartedAt": "2026-01-10T00:00:00Z"})

    answer = check(api.at(MARCH_16), who)
    assert (answer["used"], answer["remaining"], answer["nextResetAt"]) == (3, 97, "2026-04-10T00:00:00Z")


# What is answered


def test_an_on_off_feature_answers_with_value_and_source(api):
    """L-31"""
    answer = check(api, on(plan("pro", fee(50), switch("sso"))), "sso")

    assert (answer["allowed"], answer["value"], answer["source"]) == (True, True, "plan")


def test_a_number_answers_with_value_and_source(api):
    """L-31"""
    answer = check(api, on(plan("pro", fee(50), static("100"))), "rate-limit")

    assert (answer["allowed"], answer["value"], answer["source"]) == (True, 100, "plan")


def test_a_text_answers_with_value_and_source(api):
    """L-31"""
    answer = check(api, on(plan("pro", fee(50), static("gold"))), "rate-limit")

    assert (answer["allowed"], answer["value"], answer["source"]) == (True, "gold", "plan")


def test_with_nothing_the_answer_is_no_with_the_default_as_source(api):
    """L-32"""
    world.feature("sso", type="boolean")

    answer = check(api, customer(), "sso")

    assert (answer["allowed"], answer["value"], answer["source"], answer["reason"]) == (
        False,
        False,
        "default",
        "no_plan",
    )


def test_a_denied_check_says_which_plans_would_allow_it(api):
    who = on(pro(credits=100))
    team(credits=500)
    plan("tiny", allowance(10))
    overuse(who, 100)

    answer = check(api, who)

    assert (answer["allowed"], answer["reason"]) == (False, "limit_reached")
    assert [p["key"] for p in answer["upgradeTo"]] == ["team"]


def test_more_may_be_asked_for_than_is_left(api):
    who = on(pro(credits=100))

    assert check(api, who, required=101)["allowed"] is False
    assert check(api, who, required="100")["allowed"] is True


def test_an_unknown_feature_is_not_found(api):
    answer = check(api, customer(), "nope")

    assert (answer.status, answer["code"], answer["field"]) == (404, "feature_not_found", "featureSlug")


def test_all_features_of_a_customer_come_at_once(api):
    who = on(plan("pro", fee(50), allowance(100), switch("sso"), static("100")))

    answer = api.get(f"customers/{who.customer_id}/features")

    assert [f["featureSlug"] for f in answer["data"]] == ["credits", "sso", "rate-limit"]


# Unknown customers


@pytest.mark.parametrize("act", ["check", "track"])
def test_an_unknown_customer_is_not_found(api, act):
    """P-36"""
    world.feature()

    answer = api.post(act, {"customerId": "acme", "featureSlug": "credits"})

    assert (answer.status, answer["code"]) == (404, "customer_not_found")
    assert not Customer.objects.exists()


@pytest.mark.parametrize("act", ["check", "track"])
def test_an_unknown_customer_is_created_when_asked_for(api, act):
    """P-36"""
    world.default(allowance(5))

    answer = api.post(act, {"customerId": "acme", "featureSlug": "credits", "autoCreate": True})

    assert (answer.status, Customer.objects.get().customer_id) == (200, "acme")
    assert Operation.objects.get().verb == "customer.created"


def test_auto_create_keeps_to_the_rules_for_ids(api):
    """P-36"""
    world.default(allowance(5))

    answer = api.post("check", {"customerId": "no spaces", "featureSlug": "credits", "autoCreate": True})

    assert (answer.status, answer["field"]) == (400, "customerId")


# Counting


def test_use_is_counted(api):
    answer = track(api, on(pro(credits=100)), 3, properties={"model": "large"})

    assert answer.status == 200
    assert (answer["applied"], answer["access"]["remaining"], answer["event"]["counted"]) == (True, 97, 3)
    assert answer["event"]["properties"] == {"model": "large"}


def test_the_same_event_twice_counts_once(api):
    """P-33"""
    who = on(pro(credits=100))
    first = track(api, who, 3, eventKey="e1")
    track(api, who, 5)

    again = track(api, who, 3, eventKey="e1")

    assert (again.status, again["applied"], again["access"]["remaining"]) == (200, False, 92)
    assert again["event"]["id"] == first["event"]["id"]


@pytest.mark.parametrize("name", ["eventKey", "event_key", "idempotencyKey", "idempotency_key"])
def test_the_event_key_has_two_names(api, name):
    """P-33"""
    track(api, on(pro()), 3, **{name: "e1"})

    assert UsageEvent.objects.get().key == "e1"


def test_the_header_may_carry_the_event_key(api):
    """P-33"""
    who = on(pro(credits=100))
    body = {"customerId": who.customer_id, "featureSlug": "credits", "value": 3}
    api.post("track", body, Idempotency_Key="e1")

    again = api.post("track", body, Idempotency_Key="e1")

    assert (again["applied"], again["access"]["remaining"]) == (False, 97)


def test_the_same_key_for_another_event_is_a_conflict(api):
    """P-33"""
    who = on(pro())
    track(api, who, 3, eventKey="e1")

    answer = track(api, who, 4, eventKey="e1")

    assert (answer.status, answer["code"]) == (409, "idempotency_conflict")


def test_a_denied_event_leaves_its_key_free(api):
    """P-33"""
    who = on(pro(credits=5))
    track(api, who, 8, eventKey="e1")

    assert track(api, who, 5, eventKey="e1")["applied"] is True


def test_use_that_does_not_fit_is_refused_with_what_is_left(api):
    """A-36"""
    who = on(pro(credits=5))

    answer = track(api, who, 8)

    assert (answer.status, answer["code"]) == (409, "limit_reached")
    assert (answer["access"]["remaining"], answer["access"]["nextResetAt"]) == (5, "2026-04-01T00:00:00Z")
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize(("mode", "counted", "overage"), [("cap", 5, 0), ("overflow", 8, 3)])
def test_other_modes_take_what_fits_or_everything(api, mode, counted, overage):
    """A-36"""
    answer = track(api, on(pro(credits=5)), 8, mode=mode)

    assert (answer["event"]["counted"], answer["access"]["overage"]) == (counted, overage)


def test_a_negative_value_gives_back(api):
    who = on(pro(credits=100))
    track(api, who, 30)

    assert track(api, who, -10)["access"]["remaining"] == 80


def test_properties_may_hold_fractions_and_come_back_as_they_were(api):
    who = on(pro(credits=10))

    answer = track(api, who, properties={"seconds": 1.5, "of": [2, {"deep": 0.25}]}, eventKey="job-1")
    again = track(api, who, properties={"seconds": 1.5, "of": [2, {"deep": 0.25}]}, eventKey="job-1")

    assert answer["event"]["properties"] == {"seconds": 1.5, "of": [2, {"deep": 0.25}]}
    assert again["applied"] is False


def test_fractions_are_exact(api):
    who = on(pro(credits=1))
    for _ in range(3):
        track(api, who, 0.1)

    assert check(api, who)["remaining"] == 0.7


def test_numbers_may_come_as_text(api):
    assert track(api, on(pro(credits=1)), "0.25")["access"]["remaining"] == 0.75


def test_a_number_that_no_double_holds_comes_as_text(api):
    who = on(plan("big", fee(1), allowance("99999999999999999.5")))

    assert check(api, who)["limit"] == "99999999999999999.5"


@pytest.mark.parametrize("value", ["many", True, None, [1], "1e400", 10**30, "NaN", 0.0000001])
def test_a_value_that_is_no_number_is_refused(api, value):
    """L-39"""
    answer = track(api, on(pro()), value)

    assert (answer.status, answer["field"]) == (400, "value")
    assert not UsageEvent.objects.exists()


def test_a_feature_that_is_not_metered_counts_nothing(api):
    who = on(plan("pro", fee(50), switch("sso")))

    answer = track(api, who, 1, "sso")

    assert (answer.status, answer["code"]) == (400, "not_metered")


def test_a_missed_reset_changes_no_answer(api):
    """A-38"""
    who = on(assigned("partner", allowance(10)))
    use(who, 10)

    assert check(api.at(APRIL_16), who)["remaining"] == 10


# Budgets


def test_a_check_takes_few_queries(api, django_assert_max_num_queries):
    who = on(pro())
    check(api, who)

    with django_assert_max_num_queries(8):
        check(api, who)


def test_a_denied_check_takes_few_queries(api, django_assert_max_num_queries):
    world.default(allowance(5))
    who = customer()
    overuse(who, 5)
    check(api, who)

    with django_assert_max_num_queries(9):
        check(api, who)


def test_a_track_takes_few_queries(api, django_assert_max_num_queries):
    who = on(pro())
    track(api, who)

    with django_assert_max_num_queries(15):
        track(api, who, eventKey="e1")


def test_a_track_that_has_to_open_a_late_window_takes_some_more(api, django_assert_max_num_queries):
    who = on(assigned("partner", allowance(10)))

    with django_assert_max_num_queries(27):
        track(api.at(APRIL_1 + timedelta(days=1)), who)
