"""Much use in one call, and use that nobody waits for."""

from datetime import timedelta

import pytest

from billing_admin.flows import accepted as flow
from billing_admin.flows.accepted import forget
from billing_admin.models import WorkerFailure
from billing_admin.runs import accepted
from customers.models import Customer
from entitlements.models import AcceptedEvent, UsageEvent
from entitlements.reset import reset_due
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import allowance, customer, feature, fee, on, paid_seats, plan, pro, use
from tests.instants import APRIL_1, MARCH_1, MAY_1, day

pytestmark = pytest.mark.django_db

SOON = MARCH_1 + timedelta(seconds=5)


def event(who, value=1, **more):
    return {"customerId": who.customer_id, "featureSlug": "credits", "value": value, **more}


def batch(api, *events, header=None, **more):
    headers = {"Idempotency_Key": header} if header else {}
    return api.post("track/batch", {"events": list(events), **more}, **headers)


def used(who) -> int:
    return int(world.access(who).used)


# A batch


def test_events_are_counted_and_told_in_the_order_of_the_request(api):
    """P-35"""
    acme, globex = on(pro(credits=100)), on(world.team(credits=500), name="Globex")

    answer = batch(api, event(acme, 3), event(globex, 5, eventKey="g1"), event(acme, 97))

    assert answer.status == 200
    assert [(i["applied"], i["event"]["counted"], i["remaining"], i["hasReachedLimit"]) for i in answer["data"]] == [
        (True, 3, 97, False),
        (True, 5, 495, False),
        (True, 97, 0, True),
    ]
    assert (used(acme), used(globex)) == (100, 5)


def test_a_bad_event_does_not_stop_the_good_ones(api):
    """P-35"""
    acme = on(pro(credits=10))
    feature("sso", type="boolean")

    answer = batch(
        api,
        event(acme, 4),
        event(acme, "many"),
        {"featureSlug": "credits"},
        "no event",
        {"customerId": "ghost", "featureSlug": "credits"},
        event(acme, featureSlug="nope"),
        event(acme, featureSlug="sso"),
        event(acme, 7),
        event(acme, colour="red"),
        event(acme, 6),
    )

    told = [i["error"] and (i["error"]["code"], i["error"]["field"]) for i in answer["data"]]
    assert told == [
        None,
        ("invalid", "value"),
        ("missing_field", "customerId"),
        ("invalid", None),
        ("customer_not_found", None),
        ("feature_not_found", "featureSlug"),
        ("not_metered", "featureSlug"),
        ("limit_reached", None),
        ("unknown_field", "colour"),
        None,
    ]
    assert answer["data"][7]["error"]["access"]["remaining"] == 6
    assert (used(acme), UsageEvent.objects.count()) == (10, 2)


@pytest.mark.parametrize("events", [[], [{}] * 1001, None, "x"])
def test_a_batch_has_one_to_a_thousand_events(api, events):
    """P-35"""
    answer = api.post("track/batch", {"events": events})

    assert (answer.status, answer["field"]) == (400, "events")


def test_an_event_without_a_customer_or_with_a_value_that_is_no_number_stores_nothing(api):
    """L-39"""
    feature("credits")

    batch(api, {"featureSlug": "credits"}, event(customer(), "x"))

    assert not UsageEvent.objects.exists()


def test_a_key_within_a_batch_and_after_it_counts_once(api):
    """P-33"""
    acme = on(pro())

    answer = batch(api, event(acme, 3, eventKey="e1"), event(acme, 3, eventKey="e1"), event(acme, 4, eventKey="e1"))

    first, again, other = answer["data"]
    assert (first["applied"], again["applied"], again["event"]["id"]) == (True, False, first["event"]["id"])
    assert (other["error"]["code"], used(acme)) == ("idempotency_conflict", 3)


def test_a_batch_that_is_repeated_with_its_header_counts_nothing_twice(api):
    """P-33"""
    acme = on(pro())

    first, again = (batch(api, event(acme, 3), event(acme, 4, eventKey="own"), header="b-1") for _ in range(2))

    assert [item["applied"] for item in (*first["data"], *again["data"])] == [True, True, False, False]
    assert used(acme) == 7


def test_what_was_denied_may_be_tried_again_under_its_key(api):
    """P-33"""
    acme = on(pro(credits=10))
    batch(api, event(acme, 11, eventKey="e1"))
    api.post(f"customers/{acme.customer_id}/grants", {"featureSlug": "credits", "units": 1, "reason": "x"})

    [item] = batch(api, event(acme, 11, eventKey="e1"))["data"]

    assert (item["applied"], item["remaining"]) == (True, 0)


def test_an_unknown_customer_is_created_when_its_event_asks_for_it(api):
    """P-36"""
    world.default(allowance(5))

    answer = batch(
        api,
        {"customerId": "new", "featureSlug": "credits", "autoCreate": True},
        {"customerId": "typo", "featureSlug": "credits"},
    )

    assert [item["applied"] for item in answer["data"]] == [True, False]
    assert Customer.objects.get().customer_id == "new"


def test_modes_and_instants_are_those_of_each_event(api):
    acme = on(pro(credits=10))
    world.pass_time(acme, to=APRIL_1)

    answer = batch(
        api.at(APRIL_1),
        event(acme, 15, mode="cap"),
        event(acme, 2, mode="overflow", at="2026-04-01T00:00:00Z"),
        event(acme, 3, at="2026-01-01T00:00:00Z"),
    )

    capped, over, late = answer["data"]
    assert (capped["event"]["counted"], over["event"]["counted"], late["applied"]) == (10, 2, False)


def test_levels_in_a_batch_are_billed(api):
    acme = on(plan("pro", fee(50), paid_seats(2)))

    batch(api, event(acme, 5, featureSlug="seats"))

    assert world.totals(acme) == [5000, 3000]


def test_only_who_may_report_use_may_report_much_of_it(api):
    acme = on(pro())

    assert batch(caller_with("Read-only", called="reader"), event(acme)).status == 403
    assert batch(caller_with("Application", called="app"), event(acme)).status == 200


def test_an_event_that_breaks_on_our_side_is_told_so_and_stops_no_other(api, monkeypatch):
    """P-35"""
    acme = on(pro())
    count = flow.track_use

    def breaks_on_two(*args, **asked):
        if asked["amount"] == 2:
            raise RuntimeError("broken")
        return count(*args, **asked)

    monkeypatch.setattr("billing_admin.api.usage.track_use", breaks_on_two)

    answer = batch(api, event(acme, 1), event(acme, 2), event(acme, 3))

    assert [(i["error"] or {}).get("code") for i in answer["data"]] == [None, "internal_error", None]
    assert used(acme) == 4


# Without waiting


def later(api, who, value=1, **more):
    return api.post("track", event(who, value, **{"async": True}, **more))


def told(api, accepted_id):
    return api.get(f"events/accepted/{accepted_id}")


def test_use_that_nobody_waits_for_is_kept_and_counted_soon(api):
    acme = on(pro())

    answer = later(api, acme, 3, eventKey="e1", properties={"model": "large"})
    assert (answer.status, used(acme), told(api, answer["acceptedId"])["state"]) == (202, 0, "waiting")

    accepted(now=SOON)

    now = told(api, answer["acceptedId"])
    assert (now["state"], now["eventKey"], used(acme)) == ("counted", "e1", 3)
    counted = api.get(f"events/{now['eventId']}")
    assert (counted["at"], counted["properties"]) == ("2026-03-01T00:00:00Z", {"model": "large"})


def test_use_that_is_counted_twice_counts_once(api):
    """P-33"""
    acme = on(pro())
    first, again, other = (later(api, acme, n, eventKey="e1") for n in (3, 3, 4))

    accepted(now=SOON)
    accepted(now=SOON)

    states = [told(api, answer["acceptedId"])["state"] for answer in (first, again, other)]
    assert (states, used(acme)) == (["counted", "repeated", "refused"], 3)


def test_what_is_refused_later_says_why(api):
    acme = on(pro(credits=2))
    answer = later(api, acme, 3)

    accepted(now=SOON)

    now = told(api, answer["acceptedId"])
    assert (now["state"], now["error"]["code"], now["eventId"]) == ("refused", "limit_reached", None)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"customerId": "ghost"}, 404, "customer_not_found"),
        ({"featureSlug": "nope"}, 404, "feature_not_found"),
        ({"featureSlug": "sso"}, 400, "not_metered"),
        ({"value": "x"}, 400, "invalid"),
    ],
)
def test_what_is_wrong_at_once_is_refused_at_once(api, more, status, code):
    """L-39"""
    feature("sso", type="boolean")

    answer = later(api, on(pro()), **more)

    assert (answer.status, answer["code"]) == (status, code)
    assert not AcceptedEvent.objects.exists()


def test_late_counting_keeps_the_window_in_which_use_was_reported(api):
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    evening = day("2026-03-31T23:59")
    later(api.at(evening), acme, 150)

    accepted(now=APRIL_1)

    assert (int(world.access(acme, now=APRIL_1).used), int(acme.balances.get(starts_at=MARCH_1).used)) == (0, 150)


def test_the_events_of_a_customer_are_counted_in_their_order(api):
    acme = on(pro(credits=10))
    for value in (10, -4, 4, 1):
        later(api, acme, value)

    accepted(now=SOON)

    assert [row.error is None for row in AcceptedEvent.objects.all()] == [True, True, True, False]


def test_a_batch_may_be_left_to_be_counted(api):
    """P-35"""
    acme = on(pro())

    answer = batch(api, event(acme, 3), event(acme, "x"), event(acme, 4), **{"async": True})
    accepted(now=SOON)

    assert (answer.status, [item["acceptedId"] is None for item in answer["data"]]) == (202, [False, True, False])
    assert (answer["data"][1]["error"]["field"], used(acme)) == ("value", 7)
    assert told(api, answer["data"][2]["acceptedId"])["state"] == "counted"


def test_a_level_that_nobody_waits_for_is_billed_when_it_is_counted(api):
    acme = on(plan("pro", fee(50), paid_seats(2)))
    answer = later(api, acme, 5, featureSlug="seats")

    accepted(now=SOON)

    assert (told(api, answer["acceptedId"])["state"], world.totals(acme)) == ("counted", [5000, 3000])


def test_an_event_that_fails_is_told_to_people_and_tried_again(api, monkeypatch):
    acme = on(pro())
    answer, after = later(api, acme, 2), later(api, acme, 3)

    def breaks(*args, **asked):
        if asked["amount"] == 2:
            raise RuntimeError("broken")
        return world.use(acme, asked["amount"])

    with monkeypatch.context() as broken:
        broken.setattr(flow, "track_use", breaks)
        accepted(now=SOON).finish(SOON)
    assert [told(api, a["acceptedId"])["state"] for a in (answer, after)] == ["waiting", "counted"]
    failure = WorkerFailure.objects.get()
    assert (failure.what, failure.resolved_at) == (answer["acceptedId"], None)

    accepted(now=SOON)
    assert told(api, answer["acceptedId"])["state"] == "waiting"
    accepted(now=SOON + timedelta(minutes=2))

    failure.refresh_from_db()
    assert (told(api, answer["acceptedId"])["state"], failure.resolved_at is None) == ("counted", False)


def test_a_customer_who_left_is_counted_nothing_more(api):
    acme = customer()
    world.default(allowance(5))
    later(api, acme, 3)
    api.delete(f"customers/{acme.customer_id}", {"confirmName": acme.name, "reason": "left"})

    accepted(now=SOON)

    assert AcceptedEvent.objects.get().error["code"] == "customer_closed"


def test_what_became_of_events_is_forgotten_after_a_month(api):
    acme = on(pro())
    later(api, acme, 3)
    accepted(now=SOON)
    waiting = later(api, acme, 3)

    assert (forget(MAY_1), AcceptedEvent.objects.get().public_id) == (1, waiting["acceptedId"])
    assert UsageEvent.objects.count() == 1


def test_an_id_nobody_was_given_is_not_found(api):
    assert told(api, "acc_nope")["code"] == "accepted_event_not_found"


def test_a_check_does_not_know_yet_what_is_not_counted(api):
    acme = on(pro(credits=5))
    later(api, acme, 5)

    assert world.access(acme).allowed is True
    accepted(now=SOON)
    assert world.access(acme).allowed is False
    use(acme, -5)


def test_what_was_accepted_before_a_change_of_plan_is_counted_after_it_as_use_of_the_past(api):
    acme = on(pro(credits=100))
    later(api, acme, 30)
    world.enable(acme, world.team(credits=500), now=day("2026-03-05"))

    accepted(now=day("2026-03-05"))

    assert AcceptedEvent.objects.get().error is None
    assert UsageEvent.objects.get().at == MARCH_1


def test_what_was_accepted_before_a_reset_is_counted_in_the_window_that_is_over(api):
    acme = on(world.assigned("partner", allowance(100)))
    use(acme, 1)
    later(api, acme, 30)
    reset_due(now=APRIL_1)

    accepted(now=APRIL_1)

    assert (int(world.access(acme, now=APRIL_1).used), int(acme.balances.get(starts_at=MARCH_1).used)) == (0, 31)
