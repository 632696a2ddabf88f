"""What is kept in the process never outlives the truth: every statement says whether it still holds."""

import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from billing_admin.flows.keys import revoke_key
from billing_admin.hot import holdings
from billing_admin.models import ApiKey
from catalog.publish import open_draft, publish, write_items
from customers.models import Customer
from entitlements.grant import grant
from entitlements.models import UsageEvent
from entitlements.override import override, revoke
from tests import builders as a
from tests.hot.conftest import Hot
from tests.instants import MARCH_1, MARCH_16

SOON = MARCH_1 + timedelta(minutes=1)


def test_a_change_of_plan_shows_with_the_next_check(hot: Hot):
    who = a.on(a.pro())
    assert hot.check(who)["limit"] == 100

    a.enable(who, a.team(), now=SOON)
    a.pay_all(who, now=SOON)

    assert hot.check(who, at=SOON)["limit"] == 500


def test_an_override_shows_at_once_and_its_end_too(hot: Hot):
    """L-04, L-08, L-33"""
    who = a.on(a.pro())
    assert hot.check(who)["remaining"] == 100

    given = override(
        who, a.feature(), Decimal(400), effective_until=MARCH_16, reason="deal", actor=a.STAFF, now=MARCH_1
    )
    assert hot.check(who)["remaining"] == 400
    revoke(given, reason="over", actor=a.STAFF, now=SOON)

    assert hot.check(who, at=SOON)["remaining"] == 100


def test_a_grant_shows_at_once(hot: Hot):
    who = a.on(a.pro())
    assert hot.check(who)["remaining"] == 100

    grant(who, a.feature(), Decimal(50), label="Sorry", ends_at=None, now=MARCH_1)

    assert hot.check(who)["remaining"] == 150


def test_a_new_version_of_the_default_product_shows_at_once(hot: Hot):
    community = a.default(a.allowance(20))
    who = a.customer()
    assert hot.check(who)["limit"] == 20

    draft = open_draft(community, by="tests")
    write_items(draft, [a.allowance(30)])
    publish(draft, message="more", by="tests", now=MARCH_1)

    assert hot.check(who)["limit"] == 30


def test_use_that_others_count_shows_at_once(hot: Hot):
    who = a.on(a.pro())
    hot.check(who)

    a.use(who, 12)

    assert hot.check(who)["used"] == 12


def test_a_revoked_key_stops_at_once(hot: Hot):
    who = a.on(a.pro())
    assert hot.check(who)
    assert hot.track(who)

    revoke_key(ApiKey.objects.get(), reason="leaked", actor=a.STAFF, now=MARCH_1)

    assert hot.check(who) is None
    assert hot.track(who) is None
    assert UsageEvent.objects.count() == 1


def test_a_closed_customer_is_not_answered_any_more(hot: Hot):
    who = a.on(a.pro())
    assert hot.check(who)

    who.closed_at = MARCH_1
    who.save(update_fields=["closed_at"])

    assert hot.check(who) is None
    assert hot.track(who) is None


def test_a_customer_is_found_by_our_own_id_too(hot: Hot):
    who = a.on(a.pro())

    assert hot.check(who.public_id)["limit"] == 100


def test_what_is_not_of_the_plain_kind_is_left_to_django_uncounted(hot: Hot):
    """A-36: what does not fit, what is billed by level, what was counted before, what nobody knows."""
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100), a.paid_seats()))
    hot.track(who, eventKey="known")

    assert hot.track(who, value=200) is None
    assert hot.track(who, "seats") is None
    assert hot.track(who, eventKey="known") is None
    assert hot.track(who, "nothing") is None
    assert hot.track("nobody") is None
    assert UsageEvent.objects.count() == 1


def test_use_that_opens_a_window_is_left_to_django(hot: Hot):
    """A-38"""
    who = a.on(a.plan("hourly", a.fee(9), a.allowance(5, resets="PT1H")))
    hot.track(who)

    assert hot.track(who, at=MARCH_1 + timedelta(hours=3)) is None


def test_a_plan_that_is_being_changed_holds_up_nobody_else(hot: Hot):
    pro = a.pro()
    changed, other = a.on(pro, name="Changed"), a.on(pro, name="Other")
    for who in (changed, other):
        hot.track(who)

    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=changed.pk)
        answers = hot.track_all([{"customerId": who.customer_id, "featureSlug": "credits"} for who in (changed, other)])

    assert [answer and answer["access"]["used"] for answer in answers] == [None, 2]


def test_events_of_one_batch_see_each_other(hot: Hot):
    """A-36: twelve at once on ten left: ten are counted; a key that comes twice counts once."""
    who = a.on(a.pro(credits=10))
    hot.check(who)
    body = {"customerId": who.customer_id, "featureSlug": "credits"}

    answers = hot.track_all([body | {"eventKey": key} for key in "aabcdefghijkl"])

    assert sum(answer is not None for answer in answers) == 10
    assert [answer["access"]["used"] for answer in answers if answer] == list(range(1, 11))
    assert a.access(who).used == 10


def test_another_name_of_a_plan_shows_within_seconds(hot: Hot, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(holdings, "LOOKS_EVERY", 0.05)
    pro = a.pro()
    who = a.on(pro)
    time.sleep(0.2)
    assert hot.check(who)["sources"][0]["name"] == "Pro"

    pro.name = "Professional"
    pro.save(update_fields=["name"])

    deadline = time.monotonic() + 10
    while hot.check(who)["sources"][0]["name"] != "Professional":
        assert time.monotonic() < deadline
        time.sleep(0.05)
