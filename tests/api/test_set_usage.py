"""Saying what the use is."""

import pytest

from catalog.models import Meter
from entitlements.models import BalanceEntry, UsageEvent
from entitlements.reset import reset_due
from tests import builders as world
from tests.api.conftest import caller_with
from tests.builders import allowance, customer, feature, fee, on, paid_seats, plan, pro, seats, use
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db


def say(api, who, value, slug="credits", **more):
    return api.post(f"customers/{who.customer_id}/usage", {"featureSlug": slug, "value": value, **more})


def test_the_difference_is_stored_as_an_event(api):
    """P-34"""
    who = on(pro(credits=2000))
    use(who, 1000)

    answer = say(api, who, 1200, eventKey="sync-1", reason="counted elsewhere")

    assert (answer.status, answer["applied"], answer["access"]["used"]) == (200, True, 1200)
    event = UsageEvent.objects.latest("id")
    assert (event.amount, event.key) == (200, "sync-1")
    assert event.properties == {"usageSetTo": "1200", "usageWas": "1000", "reason": "counted elsewhere"}


def test_less_use_gives_back(api):
    """P-34"""
    who = on(pro(credits=2000))
    use(who, 1000)

    answer = say(api, who, 300)

    assert (answer["event"]["value"], answer["access"]["used"], answer["access"]["remaining"]) == (-700, 300, 1700)


def test_saying_the_same_again_changes_nothing(api):
    """P-34"""
    who = on(pro())
    say(api, who, 30)

    answer = say(api, who, 30)

    assert (answer["event"]["value"], answer["access"]["used"]) == (0, 30)


def test_a_key_counts_once_and_says_one_thing(api):
    """P-33"""
    who = on(pro())
    first = say(api, who, 30, eventKey="sync-1")
    use(who, 5)

    again, other = say(api, who, 30, eventKey="sync-1"), say(api, who, 31, eventKey="sync-1")

    assert (again["applied"], again["event"]["id"], again["access"]["used"]) == (False, first["event"]["id"], 35)
    assert (other.status, other["code"]) == (409, "idempotency_conflict")


def test_the_header_may_carry_the_key(api):
    """P-33"""
    who = on(pro())
    asked = {"featureSlug": "credits", "value": 30}

    answers = [api.post(f"customers/{who.customer_id}/usage", asked, Idempotency_Key="sync-1") for _ in range(2)]

    assert [answer["applied"] for answer in answers] == [True, False]


def test_use_beyond_the_limit_is_a_fact_unless_it_is_to_be_refused(api):
    """P-34"""
    who = on(pro(credits=100))

    refused, counted = say(api, who, 130, mode="reject"), say(api, who, 130)

    assert (refused.status, refused["code"]) == (409, "limit_reached")
    assert (counted["access"]["used"], counted["access"]["overage"], counted["access"]["allowed"]) == (130, 30, False)


def test_use_is_that_of_the_open_window(api):
    """P-34"""
    who = on(pro(credits=100))
    use(who, 80)

    answer = say(api.at(APRIL_1), who, 30)

    assert (answer["event"]["value"], answer["access"]["used"]) == (30, 30)


def test_bonuses_count_with_what_was_used_of_them_in_this_window(api):
    """P-34"""
    who = on(pro(credits=100))
    made = {"featureSlug": "credits", "units": 50, "reason": "welcome", "priority": -1}
    api.post(f"customers/{who.customer_id}/grants", made)
    use(who, 20)
    reset_due(now=APRIL_1)
    use(who, 10, now=APRIL_1)

    answer = say(api.at(APRIL_1), who, 45)

    assert (answer["event"]["value"], answer["access"]["bonusUsed"], answer["access"]["used"]) == (35, 50, 15)
    assert say(api.at(APRIL_1), who, 45)["event"]["value"] == 0


def test_of_a_level_it_is_the_level_and_what_is_paid_for_it_follows(api):
    """P-34"""
    who = on(plan("pro", fee(50), paid_seats(2)))

    answer = say(api, who, 5, "seats")

    assert (answer["access"]["used"], world.totals(who)) == (5, [5000, 3000])
    assert say(api.at(MARCH_16), who, 4, "seats")["access"]["used"] == 4


def test_a_level_that_is_not_paid_for_may_be_set_too(api):
    who = on(plan("pro", fee(50), seats(5)))

    assert say(api, who, 3, "seats")["access"]["remaining"] == 2


def test_the_ledger_still_sums_to_what_is_left(api):
    """A-37"""
    who = on(pro(credits=100))
    use(who, 10)
    say(api, who, 40)

    [balance] = api.get(f"customers/{who.customer_id}/balances", ledger="true")["data"]

    assert sum(line["amount"] for line in balance["ledger"]) == balance["remaining"] == 60
    assert BalanceEntry.objects.filter(kind="edit").count() == 0


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ({"value": -1}, 400, "invalid", "value"),
        ({"value": "many"}, 400, "invalid", "value"),
        ({"featureSlug": "nope"}, 404, "feature_not_found", "featureSlug"),
        ({"featureSlug": "sso"}, 400, "not_metered", "featureSlug"),
        ({"eventKey": ""}, 400, "invalid", "eventKey"),
        ({"mode": "some"}, 400, "invalid", "mode"),
    ],
)
def test_what_cannot_be_said_is_refused(api, asked, status, code, field):
    """L-39"""
    who = on(pro())
    feature("sso", type="boolean")

    answer = api.post(f"customers/{who.customer_id}/usage", {"featureSlug": "credits", "value": 1, **asked})

    assert (answer.status, answer["code"], answer["field"]) == (status, code, field)
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize(("aggregation", "status"), [("max", 400), ("time_average", 400), ("sum", 200)])
def test_what_a_meter_keeps_follows_from_its_events(api, aggregation, status):
    who = on(plan("pro", fee(50), allowance(100, of="storage")))
    meter = Meter.objects.create(
        slug="gb", name="GB", event_name="stored", aggregation=aggregation, property="gb", filters={}
    )
    feature("storage")
    type(meter).objects.get().features.set([feature("storage")])

    assert say(api, who, 5, "storage").status == status


def test_a_feature_that_the_customer_does_not_have_is_refused(api):
    feature("credits")

    answer = say(api, customer(), 5)

    assert (answer.status, answer["code"]) == (409, "limit_reached")


def test_only_who_may_report_use_may_set_it(api):
    who = on(pro())

    assert say(caller_with("Read-only", called="reader"), who, 5).status == 403
    assert say(caller_with("Application", called="app"), who, 5).status == 200
