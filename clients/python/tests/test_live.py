"""The client at the real server, over HTTP."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from back_office import Conflict, Forbidden, KeyUsedOtherwise, LimitReached, NotFound, Unauthorized, Use
from billing_admin.models import ApiKey
from catalog.models import Feature, Meter
from conftest import Make
from customers.models import Customer
from entitlements.models import Grant, UsageEvent
from misbehaving import Misbehaving, forwards
from tests import builders as a
from tests.api.conftest import role

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def billing(connect_blocking: Make, live_server: Any, secret: str, patient: Any) -> Any:
    return connect_blocking(live_server.url, patient, secret)


@pytest.fixture
def either(connect: Make, live_server: Any, secret: str, patient: Any) -> Any:
    """One client after the other: what one of them asks rightly, so does the other."""
    return connect(live_server.url, patient, secret)


@pytest.fixture
def acme_id(acme: Customer) -> str:
    return acme.customer_id


def test_a_check_says_what_is_left_and_until_when(either: Any, acme_id: str, acme: Customer, now: datetime) -> None:
    """L-34"""
    a.use(acme, 28, now=now)

    access = either.check(acme_id, "credits", required=3)

    assert (access.allowed, access.has_access, access.reason, access.source) == (True, True, "ok", "plan")
    assert (access.limit, access.used, access.remaining) == (100, 28, 72)
    assert access.next_reset_at > now
    assert access.next_reset_at.utcoffset() == timedelta(0)
    assert [bucket.remaining for bucket in access.buckets] == [Decimal(72)]


def test_a_denied_check_names_the_plans_that_would_allow_it(billing: Any, acme_id: str) -> None:
    access = billing.check(acme_id, "credits", required=200)

    assert (access.allowed, access.reason) == (False, "limit_reached")
    assert [plan.key for plan in access.upgrade_to] == ["team"]


def test_an_unknown_customer_is_not_found_unless_they_are_to_be_created(billing: Any, acme_id: str) -> None:
    """P-36"""
    with pytest.raises(NotFound) as refused:
        billing.check("newcomer", "credits")

    assert refused.value.code == "customer_not_found"
    assert billing.check("newcomer", "credits", auto_create=True).reason == "no_plan"


def test_all_features_come_at_once(billing: Any, acme_id: str) -> None:
    assert billing.features(acme_id)["credits"].remaining == 100


def test_a_track_counts_exactly(either: Any, acme_id: str) -> None:
    tracked = either.track(acme_id, "credits", Decimal("0.000001"), properties={"model": "large"})

    assert (tracked.applied, tracked.event.counted) == (True, Decimal("0.000001"))
    assert tracked.event.properties == {"model": "large"}
    assert tracked.access.remaining == Decimal("99.999999")


def test_the_same_key_counts_once_and_answers_with_the_first_event(billing: Any, acme_id: str) -> None:
    """P-33, L-38"""
    first = billing.track(acme_id, "credits", 3, key="job-4711")
    again = billing.track(acme_id, "credits", 3, key="job-4711")

    assert (first.applied, again.applied) == (True, False)
    assert again.event.id == first.event.id
    assert again.access.remaining == 97
    with pytest.raises(KeyUsedOtherwise):
        billing.track(acme_id, "credits", 4, key="job-4711")


def test_what_does_not_fit_is_refused_with_what_is_left(either: Any, acme_id: str, now: datetime) -> None:
    with pytest.raises(LimitReached) as refused:
        either.track(acme_id, "credits", 101, key="too-much")

    assert refused.value.remaining == 100
    assert refused.value.resets_at > now
    assert either.track(acme_id, "credits", 100, key="too-much").applied


@pytest.mark.parametrize("key", [None, "job-1"])
def test_a_track_whose_answer_was_lost_counts_once(
    connect: Make, live_server: Any, secret: str, patient: Any, acme_id: str, key: str | None
) -> None:
    """P-33"""
    url = live_server.url
    with Misbehaving(forwards(url, loses_the_answer=True), forwards(url)) as proxy:
        tracked = connect(proxy.url, patient, secret).track(acme_id, "credits", 3, key=key)

    [event] = UsageEvent.objects.all()
    assert event.taken == 3
    assert tracked.access.remaining == 97
    # Under its own key the call knows that it was the first; under the caller's it cannot know.
    assert tracked.applied is (key is None)


def test_balances_come_with_their_ledgers(billing: Any, acme_id: str) -> None:
    billing.track(acme_id, "credits", 3)

    [balance] = billing.balances(acme_id, feature="credits", ledger=True)

    assert (balance.feature, balance.plan, balance.bucket.remaining) == ("credits", "Pro", 97)
    assert sum(line.amount for line in balance.ledger) == 97


def test_a_key_may_do_what_its_role_may(
    connect_blocking: Make, live_server: Any, secret: str, patient: Any, acme_id: str
) -> None:
    _, looks_only = ApiKey.issue("report", role("Read-only"), by="tests")

    reader = connect_blocking(live_server.url, patient, looks_only)
    assert reader.check(acme_id, "credits").allowed
    with pytest.raises(Forbidden):
        reader.track(acme_id, "credits")
    with pytest.raises(Unauthorized):
        connect_blocking(live_server.url, patient, "bk_unknown").check(acme_id, "credits")


def test_events_are_found_and_say_which_balances_they_used(billing: Any, acme_id: str, now: datetime) -> None:
    billing.track(acme_id, "credits", 3, key="job-1", properties={"model": "large"})
    billing.track(acme_id, "credits", 5, properties={"model": "small"})

    newest = billing.events(acme_id, limit=1)
    rest = billing.events(acme_id, limit=1, cursor=newest.next_cursor)
    [found] = billing.events(acme_id, feature="credits", where=("model", "large"), since=now - timedelta(1)).data
    detail = billing.event(found.id)

    assert [event.counted for event in (*newest.data, *rest.data)] == [5, 3]
    assert (found.key, found.recorded_at >= now, found.voided_at) == ("job-1", True, None)
    assert (detail.customer, detail.properties) == (acme_id, {"model": "large"})
    [counted] = detail.features
    assert [(used.units, used.kind) for used in counted.buckets] == [(3, "plan_item")]


def test_usage_comes_by_day_and_property(billing: Any, acme_id: str) -> None:
    billing.track(acme_id, "credits", 3, properties={"model": "large"})
    billing.track(acme_id, "credits", 5, properties={"model": "small"})

    points = billing.usage(acme_id, "credits", per="month", by="model")

    assert {point.value: (point.units, point.events) for point in points} == {"large": (3, 1), "small": (5, 1)}


def test_an_override_counts_at_once_until_it_is_revoked(billing: Any, acme_id: str, now: datetime) -> None:
    """L-07, L-08, L-33"""
    until = now + timedelta(days=5)
    given = billing.create_override(acme_id, "credits", 500, effective_until=until, reason="load test")

    assert (given.state, given.value, given.effective_until) == ("in_force", 500, until)
    assert billing.check(acme_id, "credits").remaining == 500
    assert [row.id for row in billing.overrides(acme_id, state="in_force").data] == [given.id]
    assert billing.revoke_override(given.id, reason="done").state == "revoked"
    assert billing.check(acme_id, "credits").remaining == 100


def test_a_permanent_override_that_closes_a_feature_is_said_so(billing: Any, acme_id: str) -> None:
    """L-03"""
    given = billing.create_override(acme_id, "credits", "no_access", effective_until=None, reason="abuse")

    assert (given.value, given.effective_until) == ("no_access", None)
    assert not billing.check(acme_id, "credits").has_access


def test_overrides_that_overlap_are_a_conflict_unless_one_supersedes(billing: Any, acme_id: str) -> None:
    """L-12"""
    first = billing.create_override(acme_id, "credits", 200, effective_until=None, reason="deal")

    with pytest.raises(Conflict) as refused:
        billing.create_override(acme_id, "credits", 300, effective_until=None, reason="deal")
    second = billing.create_override(acme_id, "credits", 300, effective_until=None, reason="deal", supersede=True)

    assert refused.value.code == "override_overlaps"
    assert {row.id: row.state for row in billing.overrides(acme_id).data} == {
        first.id: "superseded",
        second.id: "in_force",
    }


def test_several_features_are_checked_at_once(billing: Any, acme_id: str) -> None:
    """L-44"""
    a.feature("calls")

    answers = billing.check_many(acme_id, ["calls", "credits"], required=5)

    assert {slug: access.allowed for slug, access in answers.items()} == {"calls": False, "credits": True}


def test_an_answer_explains_itself(billing: Any, acme_id: str, now: datetime) -> None:
    explained = billing.explain(acme_id, "credits", required=200, at=now - timedelta(days=1))

    assert not explained.allowed
    assert explained.explanation["denied"]["limit"] == 100
    assert billing.explain(acme_id, "credits").allowed


def test_a_grant_stands_beside_the_plan_until_it_is_voided(billing: Any, acme_id: str) -> None:
    """P-32, P-38"""
    given = billing.create_grant(acme_id, "credits", 50, reason="outage", recurs="P1M", metadata={"ticket": 7})

    access = billing.check(acme_id, "credits")
    assert (access.limit, access.remaining, access.bonus_remaining) == (100, 150, 50)
    assert (given.state, given.recurs, given.metadata) == ("active", "P1M", {"ticket": 7})
    assert [row.id for row in billing.grants(acme_id, feature="credits").data] == [given.id]
    assert billing.void_grant(given.id, reason="mistake").state == "voided"
    assert billing.check(acme_id, "credits").remaining == 100


def test_a_grant_whose_answer_was_lost_is_given_once(
    connect_blocking: Make, live_server: Any, secret: str, patient: Any, acme_id: str
) -> None:
    url = live_server.url
    with Misbehaving(forwards(url, loses_the_answer=True), forwards(url)) as proxy:
        given = connect_blocking(proxy.url, patient, secret).create_grant(acme_id, "credits", 50, reason="outage")

    [row] = Grant.objects.all()
    assert row.public_id == given.id


def test_a_reported_event_feeds_the_features_that_read_it(billing: Any, acme_id: str) -> None:
    meter = Meter.objects.create(
        slug="tokens-used", name="Tokens", event_name="completion", aggregation="sum", property="tokens"
    )
    Feature.objects.filter(slug="credits").update(meter=meter)

    told = billing.report(acme_id, "completion", properties={"tokens": 12})

    assert told.applied
    assert [(one.feature, one.counted, one.access.remaining) for one in told.features] == [("credits", 12, 88)]
    [voided] = billing.void_event(told.id, reason="reported twice")
    assert voided.voided_at is not None
    assert billing.check(acme_id, "credits").remaining == 100


def test_a_bad_event_of_a_batch_stops_no_other(either: Any, acme_id: str) -> None:
    """P-35"""
    told = either.track_batch(
        [
            Use(acme_id, "credits", 3, key="job-1"),
            Use("nobody", "credits"),
            Use(acme_id, "credits", 98),
            Use(acme_id, "credits", Decimal("0.5")),
        ]
    )

    assert [item.applied for item in told] == [True, False, False, True]
    assert [type(item.error) for item in told] == [type(None), NotFound, LimitReached, type(None)]
    assert told[2].error.remaining == 97
    assert told[3].remaining == Decimal("96.5")


def test_a_batch_whose_answer_was_lost_counts_once(
    connect_blocking: Make, live_server: Any, secret: str, patient: Any, acme_id: str
) -> None:
    url = live_server.url
    with Misbehaving(forwards(url, loses_the_answer=True), forwards(url)) as proxy:
        billing = connect_blocking(proxy.url, patient, secret)
        told = billing.track_batch([Use(acme_id, "credits", 3), Use(acme_id, "credits", 5, key="job-2")])

    assert [item.applied for item in told] == [True, False]
    assert sorted(UsageEvent.objects.values_list("taken", flat=True)) == [3, 5]


def test_accepted_use_waits_to_be_counted(billing: Any, acme_id: str) -> None:
    [item, unknown] = billing.accept([Use(acme_id, "credits", 3, key="job-1"), Use("nobody", "credits")])

    found = billing.accepted(item.accepted_id)
    assert (found.state, found.customer, found.key) == ("waiting", acme_id, "job-1")
    assert isinstance(unknown.error, NotFound)


def test_usage_is_said_as_a_whole(billing: Any, acme_id: str) -> None:
    """P-34"""
    billing.track(acme_id, "credits", 10)

    told = billing.set_usage(acme_id, "credits", 25, reason="as counted elsewhere")

    assert (told.applied, told.event.counted, told.access.used) == (True, 15, 25)
