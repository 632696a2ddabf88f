"""Events are kept by the month in which they were reported."""

import pytest
from django.db import connection
from psycopg.sql import SQL, Identifier

from entitlements import partitions
from entitlements.models import UsageEvent
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def rows_in(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
        return cursor.fetchone()[0]


def plan_of(rows) -> str:
    return rows.explain()


def test_the_months_from_one_instant_to_another_are_made_once():
    first = partitions.make_months(since=MARCH_16, until=day("2026-05-31T23:59"))
    again = partitions.make_months(since=MARCH_16, until=JUNE_1)

    assert [f"{month:%m}" for month in first] == ["03", "04", "05"]
    assert [f"{month:%m}" for month in again] == ["06"]


def test_the_next_three_months_are_made_ahead():
    partitions.make_ahead(now=day("2026-11-30T12:00"))

    assert [f"{month:%Y-%m}" for month in partitions.months()] == ["2026-11", "2026-12", "2027-01", "2027-02"]


def test_an_event_lies_in_the_month_of_its_report():
    partitions.make_months(since=MARCH_1, until=APRIL_16)
    a.use(a.on(a.pro()), 3, now=MARCH_16)

    assert [rows_in(partitions.table_of(month)) for month in partitions.months()] == [1, 0]


def test_what_was_put_aside_moves_to_its_month():
    who = a.on(a.pro())
    a.use(who, 3, now=MARCH_16)
    a.use(who, 4, now=day("2026-03-31T23:59:59"))
    a.use(who, 5, now=APRIL_1)

    partitions.make_month(partitions.month_of(MARCH_1))

    assert (rows_in(partitions.table_of(MARCH_1)), rows_in(partitions.DEFAULT)) == (2, 1)
    assert sorted(UsageEvent.objects.values_list("taken", flat=True)) == [3, 4, 5]


def test_months_that_nobody_made_in_time_are_made_from_what_was_put_aside():
    a.use(a.on(a.pro()), 3, now=MARCH_16)

    made = partitions.make_ahead(now=JUNE_1)

    assert partitions.month_of(MARCH_1) in made
    assert rows_in(partitions.DEFAULT) == 0


def test_a_reading_by_time_opens_the_months_in_question_only():
    partitions.make_months(since=MARCH_1, until=JUNE_1)

    plan = plan_of(UsageEvent.objects.since(day("2026-05-03")))

    assert "2026_05" in plan
    assert "2026_04" not in plan


def test_use_of_the_first_minutes_of_a_month_may_have_been_reported_before_by_another_clock():
    partitions.make_months(since=MARCH_1, until=JUNE_1)

    plan = plan_of(UsageEvent.objects.since(day("2026-05-01T00:03")))

    assert "2026_04" in plan
    assert "2026_03" not in plan


def test_events_keep_their_keys_to_customers_and_features_in_every_month():
    partitions.make_months(since=MARCH_1, until=MARCH_16)
    table = partitions.table_of(MARCH_1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'", [table])
        [foreign] = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass", [table])
        [indexes] = cursor.fetchone()

    assert (foreign, indexes) == (3, 5)


def test_a_key_counts_once_across_months():
    """L-38"""
    partitions.make_months(since=MARCH_1, until=JUNE_1)
    who = a.on(a.pro(credits=500))
    first = a.use(who, 3, now=MARCH_16, key="job-1")

    again = a.use(who, 3, now=APRIL_16, key="job-1")

    assert (again.applied, again.event.pk, UsageEvent.objects.count()) == (False, first.event.pk, 1)
