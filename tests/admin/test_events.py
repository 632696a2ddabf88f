"""The pages of events: of a customer, of a feature, and of one event."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client

from billing_admin import event_search
from billing_admin.event_search import Search, TooSlow, newest, within
from billing_admin.flows.exports import write
from billing_admin.models import Export
from customers.models import Customer
from entitlements import partitions
from entitlements.models import UsageEvent
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.admin.taken_away import asked_for, taken_away
from tests.api.conftest import role
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    """Four events in March: credits thrice, one of them voided, and calls once."""
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.plan("pro", a.fee(50), a.allowance(1000), a.allowance(1000, of="calls")))
    a.use(who, 3, now=day("2026-03-02T09:10"), key="job-1", properties={"model": "large", "tries": 2})
    a.use(who, 5, now=day("2026-03-02T10:00"), properties={"model": "small"})
    a.use(who, 7, of="calls", now=day("2026-03-10"), key="job-2", properties={"model": "large"})
    a.use(who, 11, now=day("2026-03-11"), key="job-3")
    UsageEvent.objects.filter(key="job-3").update(voided_at=MARCH_16)
    return who


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def counted(page: Page) -> list[int]:
    return [int(row.taken) for row in page.answer.context["found"].rows]


def bars(page: Page) -> dict[str, int]:
    return {f"{bar.day:%m-%d}": int(bar.total) for bar in page.answer.context["chart"].bars if bar.total}


# The list


def test_the_page_lists_events_newest_first_and_draws_them_by_day(desk: CustomerDesk, acme: Customer):
    page = desk.get("customer_events", acme.pk)

    assert counted(page) == [11, 7, 5, 3]
    assert bars(page) == {"03-02": 2, "03-10": 1}
    assert "Voided" in page.text
    assert 'aria-label="Events on each day from 15 Feb 2026 to 16 Mar 2026, 3 in all"' in page.html


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"feature": "calls"}, [7]),
        ({"property": "model=large"}, [7, 3]),
        ({"voided": "yes"}, [11]),
        ({"voided": "no"}, [7, 5, 3]),
        ({"q": "small"}, [5]),
        ({"q": "job-1"}, [3]),
        ({"since": "2026-03-10"}, [11, 7]),
        ({"until": "2026-03-02"}, [5, 3]),
        ({"name": "completion"}, []),
    ],
)
def test_events_are_filtered_by(desk: CustomerDesk, acme: Customer, asked: dict[str, str], found: list[int]):
    assert counted(desk.get("customer_events", acme.pk, **asked)) == found


def test_an_id_is_found_whatever_the_days_say(desk: CustomerDesk, acme: Customer):
    event = UsageEvent.objects.get(key="job-1")

    page = desk.get("customer_events", acme.pk, q=event.public_id, since="2026-03-15")

    assert counted(page) == [3]
    assert "Found by its id, whatever the days say." in page.text


def test_another_customers_events_are_not_found(desk: CustomerDesk, acme: Customer):
    event = UsageEvent.objects.get(key="job-1")
    other = a.customer("Globex")

    assert counted(desk.get("customer_events", other.pk, q=event.public_id)) == []
    assert counted(desk.get("customer_events", other.pk, q="job-1")) == []


def test_pages_follow_each_other(desk: CustomerDesk, acme: Customer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("billing_admin.admin.events.A_PAGE", 3)
    first = desk.get("customer_events", acme.pk)
    second = desk.get("customer_events", acme.pk, before=str(first.answer.context["found"].older))

    assert f"before={first.answer.context['found'].older}" in first.html
    assert (counted(first), counted(second)) == ([11, 7, 5], [3])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"property": "model"}, "Write it as name=value, for example model=large."),
        ({"since": "2026-03-10", "until": "2026-03-01"}, "This is before the first day."),
        ({"since": "2020-03-10", "until": "2026-03-01"}, "Choose 366 days at most."),
        ({"since": "yesterday"}, "Enter a valid date."),
    ],
)
def test_what_cannot_be_looked_for_is_said_at_its_field(desk: CustomerDesk, acme: Customer, asked, sentence: str):
    page = desk.get("customer_events", acme.pk, **asked)

    assert page.status == 200
    assert sentence in page.text


def test_nothing_yet_and_nothing_found_say_so(desk: CustomerDesk, acme: Customer):
    empty = desk.get("customer_events", a.customer("Globex").pk)
    unmatched = desk.get("customer_events", acme.pk, q="nothing like it")

    assert "No events in these days" in empty.text
    assert "No event matches" in unmatched.text


# The chart


def test_bars_are_split_by_the_values_of_a_property(desk: CustomerDesk, acme: Customer):
    page = desk.get("customer_events", acme.pk, by="model", show="units")

    chart = page.answer.context["chart"]
    assert [(one.name, one.total) for one in chart.series] == [("large", 10), ("small", 5)]
    assert "2 Mar 2026: 8 (large 3, small 5)" in page.text


def test_events_without_the_property_are_named(desk: CustomerDesk, acme: Customer):
    page = desk.get("customer_events", acme.pk, by="tries")

    assert [one.name for one in page.answer.context["chart"].series] == ["without it", "2"]


# Slow searches


def test_a_search_that_takes_too_long_is_given_up(acme: Customer):
    with pytest.raises(TooSlow), within(0.05), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(2)")

    with within(1):
        assert newest(Search(MARCH_1, APRIL_1, customer=acme), after=None, limit=1)[0]


@pytest.mark.django_db(transaction=True)
def test_a_slow_search_leaves_a_page_that_says_what_to_do(client: Client, monkeypatch: pytest.MonkeyPatch):
    role("Read-only")
    who, desk = a.customer(), CustomerDesk(client, role="Read-only")
    monkeypatch.setattr("billing_admin.admin.events.PATIENCE", 0.2)
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE entitlements_usageevent")
        page = desk.get("customer_events", who.pk)
    other.close()

    assert "This search takes too long" in page.text
    assert "Too many events to sum while you wait" in page.text
    assert "wait=1" in page.html


# The feature's page


def test_the_page_of_a_feature_shows_all_customers(desk: CustomerDesk, acme: Customer):
    other = a.on(a.plan("basic", a.allowance(10)), name="Globex")
    a.use(other, 2, now=day("2026-03-12"), properties={"model": "tiny"})

    page = desk.get("feature_events", a.feature("credits").pk)

    assert counted(page) == [2, 11]
    assert "Globex" in page.text
    assert "Acme Robotics" in page.text


def test_the_feature_links_to_its_events(desk: CustomerDesk, acme: Customer):
    page = desk.get("catalog_feature_change", a.feature("credits").pk)

    assert f"/catalog/feature/{a.feature('credits').pk}/events/" in page.html


# One event


def test_an_event_shows_what_it_used_with_a_link_to_each_ledger(desk: CustomerDesk, acme: Customer):
    event = UsageEvent.objects.get(key="job-1")
    [balance] = acme.balances.filter(feature__slug="credits")

    dialog = desk.get("usage_event", event.public_id, dialog=True)

    assert "Pro Credits · plan 1 Mar 2026 – 1 Apr 2026 3" in dialog.text
    assert f"/customers/customer/{acme.pk}/ledger/{balance.pk}/" in dialog.html
    shown = json.loads(dialog.answer.context["json"])
    assert (shown["id"], shown["properties"]) == (event.public_id, {"model": "large", "tries": 2})
    assert shown["features"][0]["buckets"][0]["balanceId"] == balance.pk


def test_a_voided_event_says_so(desk: CustomerDesk, acme: Customer):
    event = UsageEvent.objects.get(key="job-3")

    assert "Voided on 16 Mar 2026" in desk.get("usage_event", event.public_id).text


def test_an_event_that_is_gone_is_not_found(desk: CustomerDesk, acme: Customer):
    assert desk.get("usage_event", "evt_0000000000000000").status == 404


# Export


def test_the_export_holds_what_the_page_finds_newest_first(desk: CustomerDesk, acme: Customer):
    lines = taken_away(desk, "events_of_customer", "customer_events", acme.pk, property="model=large")

    assert [(line["feature"], line["counted"], line["key"]) for line in lines] == [
        ("calls", "7", "job-2"),
        ("credits", "3", "job-1"),
    ]
    assert json.loads(lines[1]["properties"]) == {"model": "large", "tries": 2}


def test_the_export_marks_what_a_spreadsheet_would_run(desk: CustomerDesk, acme: Customer):
    a.use(acme, 1, now=day("2026-03-12"), key="=HYPERLINK(1)")

    lines = taken_away(desk, "events_of_customer", "customer_events", acme.pk)

    assert lines[0]["key"] == "'=HYPERLINK(1)"


def test_the_export_reads_a_few_rows_at_a_time(acme: Customer, django_assert_num_queries):
    search = Search(MARCH_1, APRIL_1, customer=acme)

    with django_assert_num_queries(2):
        rows = list(event_search.newest_first(search, at_a_time=2))

    assert [int(row.taken) for row in rows] == [11, 7, 5, 3]


def test_days_that_the_page_shows_by_itself_are_kept_with_the_export(desk: CustomerDesk, acme: Customer):
    asked = asked_for(desk, "customer_events", acme.pk)

    assert asked == {"since": "2026-02-15", "until": "2026-03-16", "customer": str(acme.pk)}


def test_what_cannot_be_searched_fails_with_the_reason(desk: CustomerDesk, acme: Customer):
    desk.post("export_ask", kind="events_of_customer", query=f"customer={acme.pk}&property=x")

    export = write(Export.objects.get(), clock=lambda: desk.now)

    assert (export.state, export.problem) == ("failed", "Write it as name=value, for example model=large.")


def test_a_feature_is_exported_for_all_customers(desk: CustomerDesk, acme: Customer):
    lines = taken_away(desk, "events_of_feature", "feature_events", a.feature("calls").pk)

    assert [line["customer"] for line in lines] == [acme.customer_id]


# Rights and costs


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Finance", "Sales engineer"])
def test_every_role_may_look(client: Client, acme: Customer, role: str):
    """A-53"""
    assert CustomerDesk(client, role=role).get("customer_events", acme.pk).status == 200


def test_without_the_right_no_page_of_events_opens(client: Client, acme: Customer):
    """A-53"""
    desk = CustomerDesk(client, role="Read-only")
    Group.objects.get(name="Read-only").permissions.filter(codename="view_usageevent").delete()
    event, feature = UsageEvent.objects.get(key="job-1"), a.feature("credits")

    pages = [
        desk.get("customer_events", acme.pk),
        desk.get("customer_events", acme.pk, dialog=True),
        desk.get("feature_events", feature.pk),
        desk.get("usage_event", event.public_id),
        desk.get("usage_event", event.public_id, dialog=True),
    ]

    assert [page.status for page in pages] == [403] * 5


def test_a_page_costs_the_same_however_many_events(desk: CustomerDesk, acme: Customer, django_assert_max_num_queries):
    for number in range(30):
        a.use(acme, 1, now=day("2026-03-12") + timedelta(minutes=number), properties={"model": f"m{number}"})

    with django_assert_max_num_queries(20):
        desk.get("customer_events", acme.pk, by="model")
    with django_assert_max_num_queries(20):
        desk.get("feature_events", a.feature("credits").pk)


def test_no_page_counts_all_rows(desk: CustomerDesk, acme: Customer, django_assert_max_num_queries):
    with django_assert_max_num_queries(20) as said:
        desk.get("customer_events", acme.pk)

    lists = [query["sql"] for query in said.captured_queries if "usageevent" in query["sql"]]
    assert len(lists) == 2
    assert "LIMIT 51" in lists[0]
    assert "count(*)" not in lists[0].lower()
