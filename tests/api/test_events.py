"""Events and usage over time through the API."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from entitlements import partitions
from entitlements.archive import archive_month
from entitlements.models import UsageEvent
from tests import builders as a
from tests.api.conftest import caller_with
from tests.builders import allowance, on, plan, use
from tests.instants import APRIL_16, JUNE_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db

LATE_MARCH = day("2026-03-20T12:00")


@pytest.fixture
def acme():
    """On a plan with credits and calls; four events in March, one of them voided."""
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = on(plan("pro", a.fee(50), allowance(1000), allowance(1000, of="calls")))
    use(who, 3, now=day("2026-03-02T09:10"), key="job-1", properties={"model": "large", "tries": 2})
    use(who, 5, now=day("2026-03-02T10:00"), properties={"model": "small"})
    use(who, 7, of="calls", now=MARCH_16, key="job-2", properties={"model": "large", "fast": True})
    use(who, 11, now=MARCH_16 + timedelta(hours=1), key="job-3")
    UsageEvent.objects.filter(key="job-3").update(voided_at=LATE_MARCH)
    return who


@pytest.fixture
def late(api):
    return api.at(LATE_MARCH)


def counted(answer) -> list[float]:
    return [row["counted"] for row in answer["data"]]


def events(api, who, **asked):
    return api.get(f"customers/{who.customer_id}/events", **asked)


def usage(api, who, **asked):
    return api.get(f"customers/{who.customer_id}/usage", **{"featureSlug": "credits"} | asked)


def test_events_come_newest_first_with_what_was_reported(late, acme):
    answer = events(late, acme)

    assert counted(answer) == [11, 7, 5, 3]
    assert answer["data"][3] | {"id": ""} == {
        "id": "",
        "featureSlug": "credits",
        "name": "",
        "value": 3,
        "counted": 3,
        "at": "2026-03-02T09:10:00Z",
        "recordedAt": "2026-03-02T09:10:00Z",
        "eventKey": "job-1",
        "mode": "reject",
        "properties": {"model": "large", "tries": 2},
        "voidedAt": None,
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"featureSlug": "calls"}, [7]),
        ({"property": "model=large"}, [7, 3]),
        ({"property": "tries=2"}, [3]),
        ({"property": "fast=true"}, [7]),
        ({"property": "tries=3"}, []),
        ({"voided": "true"}, [11]),
        ({"voided": "false"}, [7, 5, 3]),
        ({"search": "small"}, [5]),
        ({"search": "2"}, [3]),
        ({"search": "job-2"}, [7]),
        ({"search": "cal"}, [7]),
        ({"from": "2026-03-10T00:00:00Z"}, [11, 7]),
        ({"to": "2026-03-02T09:30:00Z", "from": "2026-03-01T00:00:00Z"}, [3]),
        ({"name": "completion"}, []),
    ],
)
def test_events_are_found_by(late, acme, asked, found):
    assert counted(events(late, acme, **asked)) == found


def test_an_id_or_a_key_is_found_whenever_it_happened(api, acme):
    event = UsageEvent.objects.get(key="job-1")
    much_later = api.at(day("2026-12-01"))

    assert counted(events(much_later, acme, search="job-1")) == [3]
    assert counted(events(much_later, acme, search=event.public_id)) == [3]
    assert counted(events(much_later, acme)) == []


def test_pages_go_on_where_the_last_one_ended_while_events_come_in(late, acme):
    first = events(late, acme, limit=2)
    use(acme, 13, now=LATE_MARCH)
    second = events(late, acme, limit=2, cursor=first["nextCursor"])

    assert (counted(first), counted(second), second["nextCursor"]) == ([11, 7], [5, 3], None)


def test_a_page_costs_the_same_number_of_queries_however_many_rows(late, acme, django_assert_max_num_queries):
    with django_assert_max_num_queries(12):
        events(late, acme)


def test_no_page_counts_the_table(late, acme, django_capture_on_commit_callbacks):
    connection.force_debug_cursor = True
    try:
        events(late, acme)
        said = " ".join(query["sql"].lower() for query in connection.queries)
    finally:
        connection.force_debug_cursor = False

    assert "count(" not in said


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"cursor": "job-1"}, "bad_cursor", None),
        ({"cursor": "1-zz"}, "bad_cursor", None),
        ({"property": "model"}, "bad_property", "property"),
        ({"from": "2026-03-10T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "invalid", "to"),
        ({"from": "2020-03-10T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "invalid", "to"),
        ({"limit": 0}, "invalid", "limit"),
        ({"search": "a\0b"}, "invalid", "search"),
    ],
)
def test_what_cannot_be_asked_is_refused(late, acme, asked, code, field):
    answer = events(late, acme, **asked)

    assert (answer.status, answer["code"], answer.body.get("field")) == (400, code, field)


def test_unknown_features_and_customers_are_not_found(late, acme):
    assert events(late, acme, featureSlug="nothing").status == 404
    assert late.get("customers/nobody/events").status == 404


def test_one_event_says_which_balances_it_used(late, acme):
    a.enable(acme, plan("extra", allowance(5), add_on=True), now=MARCH_16)
    use(acme, 984, now=LATE_MARCH, key="big")
    event = UsageEvent.objects.get(key="big")

    answer = late.get(f"events/{event.public_id}")

    [feature] = answer["features"]
    buckets = [(bucket["label"], bucket["units"], bucket["endsAt"]) for bucket in feature["buckets"]]
    assert sum(units for _, units, _ in buckets) == 984
    assert {label for label, _, _ in buckets} == {"Pro", "Extra"}
    assert (answer["customerId"], answer["eventKey"], feature["featureSlug"]) == (acme.customer_id, "big", "credits")


def test_an_event_that_there_is_not_is_not_found(late, acme):
    answer = late.get("events/evt_0000000000000000")

    assert (answer.status, answer["code"]) == (404, "event_not_found")


def test_usage_by_day_leaves_out_what_was_voided(late, acme):
    answer = usage(late, acme)

    assert answer["data"] == [{"at": "2026-03-02T00:00:00Z", "value": None, "units": 8, "events": 2}]


def test_usage_by_hour_and_by_month(late, acme):
    hours = usage(late, acme, per="hour", **{"from": "2026-03-01T00:00:00Z"})
    months = usage(late, acme, per="month")

    assert [(row["at"], row["units"]) for row in hours["data"]] == [
        ("2026-03-02T09:00:00Z", 3),
        ("2026-03-02T10:00:00Z", 5),
    ]
    assert [(row["at"], row["units"]) for row in months["data"]] == [("2026-03-01T00:00:00Z", 8)]


def test_usage_is_split_by_the_most_frequent_values_of_a_property(late, acme):
    for number in range(8):
        use(acme, 1, now=LATE_MARCH, properties={"model": f"rare-{number}"})
    for _ in range(3):
        use(acme, 2, now=LATE_MARCH, properties={"model": "large"})

    answer = usage(late, acme, by="model")

    last = [row for row in answer["data"] if row["at"] == "2026-03-20T00:00:00Z"]
    assert [(row["value"], row["units"]) for row in last if row["value"] in ("large", None)] == [
        ("large", 6),
        (None, 4),
    ]
    assert len({row["value"] for row in answer["data"]}) == 6


def test_usage_per_hour_of_a_year_is_too_much(late, acme):
    answer = usage(late, acme, per="hour", **{"from": "2025-06-01T00:00:00Z"})

    assert (answer.status, answer["field"]) == (400, "per")


def test_usage_by_day_remembers_months_that_are_archived(late, acme, tmp_path):
    """A-37"""
    before = usage(late, acme)["data"]
    use(acme, 2, now=APRIL_16)
    archive_month(partitions.month_of(MARCH_1), folder=tmp_path, now=day("2028-04-01"))

    assert UsageEvent.objects.count() == 1
    assert usage(late, acme)["data"] == before


def test_a_key_of_an_archived_event_counts_nothing_and_says_where_it_is(late, acme, tmp_path):
    """L-38"""
    archive_month(partitions.month_of(MARCH_1), folder=tmp_path, now=day("2028-04-01"))

    answer = late.post(
        "track", {"customerId": acme.customer_id, "featureSlug": "credits", "value": 3, "eventKey": "job-1"}
    )

    assert (answer.status, answer["code"]) == (409, "event_archived")


def test_the_application_may_read_events_and_a_key_without_the_right_may_not(acme):
    key = caller_with("Application").at(LATE_MARCH)
    assert events(key, acme).status == 200

    finance = caller_with("Finance", called="finance").at(LATE_MARCH)
    Group.objects.get(name="Finance").permissions.filter(codename="view_usageevent").delete()

    assert [events(finance, acme).status, usage(finance, acme).status, finance.get("events/evt_x").status] == [403] * 3
