"""Overrides that end soon are told once, to those who may give them."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from billing_admin import runs
from billing_admin.admin.dashboard import tasks
from billing_admin.flows.override_notices import recipients, tell_ending
from catalog.models import Feature
from customers.models import Operation
from entitlements.models import FeatureOverride
from entitlements.override import override, revoke
from tests import builders as a
from tests.admin.enable_desk import person
from tests.instants import APRIL_1, MARCH_16

pytestmark = pytest.mark.django_db
A_WEEK = timedelta(days=7)


def with_address(role: str) -> User:
    user = person(role)
    user.email = f"{user.username}@example.com"
    user.save()
    return user


def given(until: datetime | None = APRIL_1, name: str = "Acme") -> FeatureOverride:
    who = a.on(a.pro()) if not Feature.objects.exists() else a.customer(name)
    credits = Feature.objects.get(slug="credits")
    return override(
        who,
        credits,
        Decimal(400),
        effective_from=MARCH_16,
        effective_until=until,
        reason="migration deal",
        actor=a.STAFF,
        now=MARCH_16,
    )


def test_what_ends_within_a_week_is_mailed_to_those_who_may_give_it(mailoutbox, django_capture_on_commit_callbacks):
    """L-48"""
    given()
    ops, _reader = with_address("Ops"), with_address("Read-only")

    with django_capture_on_commit_callbacks(execute=True):
        told = tell_ending(APRIL_1 - A_WEEK)

    [mail] = mailoutbox
    assert (told, mail.to) == (1, [ops.email])
    assert "1 Apr 2026  Acme Robotics: Credits 400" in mail.body and "migration deal" in mail.body
    assert Operation.objects.get(verb="override.ends_soon").actor == "clockwork"


def test_each_override_is_told_once(mailoutbox, django_capture_on_commit_callbacks):
    given()
    with_address("Ops")

    with django_capture_on_commit_callbacks(execute=True):
        counts = [tell_ending(APRIL_1 - timedelta(days=days)) for days in (7, 6, 1)]

    assert (counts, len(mailoutbox)) == ([1, 0, 0], 1)


def test_all_that_comes_due_on_a_day_is_one_mail(mailoutbox, django_capture_on_commit_callbacks):
    given(until=APRIL_1)
    given(until=APRIL_1 + timedelta(hours=20))
    with_address("Ops")

    with django_capture_on_commit_callbacks(execute=True):
        tell_ending(APRIL_1 - A_WEEK)

    assert [mail.subject for mail in mailoutbox] == ["2 overrides end soon"]


def test_what_is_far_away_lasts_is_revoked_or_has_a_successor_is_not_told():
    given(until=APRIL_1 + A_WEEK)
    given(until=None, name="Lasting")
    revoke(given(name="Revoked"), reason="off", actor=a.STAFF, now=MARCH_16)
    replaced = given(until=None, name="Replaced")
    override(
        replaced.customer,
        replaced.feature,
        Decimal(500),
        effective_from=APRIL_1,
        effective_until=None,
        reason="more",
        supersede=True,
        actor=a.STAFF,
        now=MARCH_16,
    )

    assert tell_ending(APRIL_1 - A_WEEK) == 0


def test_without_an_address_it_is_written_down_and_the_first_page_lists_it(mailoutbox):
    given()

    run = runs.override_ends(now=APRIL_1 - A_WEEK).finish(APRIL_1 - A_WEEK)

    assert run is not None and run.done == 1
    assert not mailoutbox
    [task] = [task for task in tasks(APRIL_1 - A_WEEK) if "Credits 400 ends" in task.what]
    assert (task.what, task.at) == ("Acme Robotics's Credits 400 ends", APRIL_1)


def test_superusers_are_told_and_who_left_is_not():
    User.objects.create_superuser("boss", "boss@example.com")
    gone = with_address("Ops")
    gone.is_active = False
    gone.save()

    assert [user.username for user in recipients()] == ["boss"]
