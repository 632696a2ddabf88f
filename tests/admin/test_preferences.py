"""In which time zone the desk says instants."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext

from billing_admin.display import shown_in, zone_names
from billing_admin.models import Preference
from tests.admin.catalog_desk import staff

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)


def said(tag: str) -> str:
    return Template("{% load desk %}{% " + tag + " at %}").render(Context({"at": MIDNIGHT}))


def test_without_a_choice_days_are_utc():
    assert ">1 Dec 2026</time>" in said("when")


def test_a_day_is_the_readers_and_says_the_hour_where_it_is_another_one():
    with shown_in("America/New_York"):
        text = said("when")

    assert ">30 Nov 2026, 19:00</time>" in text
    assert 'title="1 Dec 2026, 00:00:00 UTC"' in text


def test_a_day_that_is_the_same_stays_short():
    with shown_in("Europe/Berlin"):
        assert ">1 Dec 2026</time>" in said("when")


def test_an_instant_is_told_in_the_readers_zone_with_utc_on_hover():
    with shown_in("Asia/Kolkata"):
        text = said("instant")

    assert "05:30" in text and "00:00:00 UTC" in text


def test_a_zone_that_is_unknown_reads_as_utc():
    with shown_in("Mars/Olympus"):
        assert ">1 Dec 2026</time>" in said("when")


def test_zones_are_those_of_towns():
    assert "Europe/Berlin" in zone_names() and "EST5EDT" not in zone_names()


@pytest.mark.django_db
def test_a_choice_is_kept_for_the_next_session():
    client = staff("Read-only")

    answer = client.post("/preferences/", {"time_zone": "Europe/Berlin"}, follow=True)
    user = Preference.objects.get().user
    client.logout()
    client.force_login(user)

    assert b"shown in Europe/Berlin now" in answer.content
    assert client.session["time_zone"] == "Europe/Berlin"


@pytest.mark.django_db
def test_a_zone_that_does_not_exist_is_refused_at_its_field():
    answer = staff("Read-only").post("/preferences/", {"time_zone": "Europe/Atlantis"})

    assert answer.status_code == 200 and b"not one of the available choices" in answer.content
    assert not Preference.objects.exists()


@pytest.mark.django_db
def test_pages_are_said_in_the_zone_of_the_session():
    client = staff("Read-only")
    client.post("/preferences/", {"time_zone": "Pacific/Auckland"})

    assert b'value="Pacific/Auckland" selected' in client.get("/preferences/").content


@pytest.mark.django_db
def test_the_zone_costs_no_query(django_assert_num_queries):
    plain, zoned = staff("Read-only"), staff("Read-only")
    zoned.post("/preferences/", {"time_zone": "Europe/Berlin"})
    plain.get("/preferences/")
    zoned.get("/preferences/")

    with CaptureQueriesContext(connection) as first:
        plain.get("/preferences/")
    with django_assert_num_queries(len(first)):
        zoned.get("/preferences/")
