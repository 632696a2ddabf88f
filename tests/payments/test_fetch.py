"""A webhook that never came is found within the hour; one that came while everything was away, when it is over."""

from datetime import timedelta
from typing import Any

import pytest

from billing_admin import stripe_runs
from billing_admin.flows import stripe_fetch
from billing_admin.flows.stripe_account import connect
from payments.models import StripeAccount, StripeEvent
from tests.instants import MARCH_1
from tests.payments.inbox_world import use
from tests.stripe_double import Double

pytestmark = pytest.mark.django_db

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def stripe(double: Double, settings: Any) -> Double:
    use(settings, double)
    double.set_clock(MARCH_1)
    double.plant("product", "prod", id="prod_1", name="API", active=True, type="service")
    connect(MARCH_1)
    return double


def tick(now: Any) -> int:
    """What the clockwork does; how many events were found."""
    before = StripeEvent.objects.count()
    stripe_runs.work(stripe_runs.FETCH, now=now).finish(now)
    return StripeEvent.objects.count() - before


def lists(double: Double) -> int:
    return sum(request.path == "/v1/events" for request in double.requests)


def happen(double: Double, at: Any) -> None:
    double.set_clock(at)
    double.emit("product.updated", "prod_1")


def test_an_event_that_never_came_is_found_within_the_hour(stripe: Double):
    tick(MARCH_1)
    happen(stripe, MARCH_1 + 20 * MINUTE)

    found = [tick(MARCH_1 + minutes * MINUTE) for minutes in range(21, 62)]

    assert (sum(found), found[-2]) == (1, 1)
    assert (StripeEvent.objects.get().was_fetched, lists(stripe)) == (True, 2)


def test_within_the_hour_stripe_is_asked_once(stripe: Double):
    for minutes in range(59):
        tick(MARCH_1 + minutes * MINUTE)

    assert lists(stripe) == 1


def test_after_an_outage_everything_since_it_began_is_fetched_at_once(stripe: Double):
    tick(MARCH_1)
    stripe.fault("*", "/v1/**", "down")
    away = [tick(MARCH_1 + hours * HOUR) for hours in range(1, 7)]
    since = StripeAccount.present().failing_since
    for hours in range(1, 7):
        happen(stripe, MARCH_1 + hours * HOUR)
    stripe.lift()

    found = tick(MARCH_1 + 6 * HOUR + MINUTE)

    assert (away, found, since) == ([0] * 6, 6, MARCH_1 + HOUR)
    assert StripeAccount.present().failing_since is None


def test_after_the_clockwork_stood_still_everything_since_is_fetched(stripe: Double):
    tick(MARCH_1)
    for days in range(1, 5):
        happen(stripe, MARCH_1 + timedelta(days=days))

    assert tick(MARCH_1 + timedelta(days=5)) == 4


def test_more_than_stripe_lists_is_not_asked_for(stripe: Double):
    tick(MARCH_1)
    happen(stripe, MARCH_1 + timedelta(days=39))

    assert tick(MARCH_1 + timedelta(days=40)) == 1


def test_while_stripe_is_away_a_tick_is_one_call(stripe: Double):
    stripe.fault("*", "/v1/**", "error", times=None)
    before = len(stripe.requests)

    tick(MARCH_1)

    assert len(stripe.requests) == before + 1


def test_a_range_of_several_pages_is_fetched_whole(stripe: Double):
    for _ in range(250):
        stripe.emit("product.updated", "prod_1")

    found = stripe_fetch.fetch(MARCH_1 - HOUR, MARCH_1 + HOUR, MARCH_1 + HOUR)

    assert (found.listed, found.new, found.left_before) == (250, 250, None)


def test_a_range_that_takes_too_many_pages_says_where_it_stopped(stripe: Double):
    for minutes in range(150):
        happen(stripe, MARCH_1 + minutes * MINUTE)

    found = stripe_fetch.fetch(MARCH_1, MARCH_1 + 3 * HOUR, MARCH_1 + 3 * HOUR, pages=1)

    assert (found.new, found.left_before) == (100, MARCH_1 + 50 * MINUTE)


def test_an_event_of_the_other_mode_is_not_kept(stripe: Double, settings: Any):
    stripe.edit(stripe.emit("product.updated", "prod_1")["id"], livemode=True)

    assert stripe_fetch.fetch(MARCH_1 - HOUR, MARCH_1 + HOUR, MARCH_1 + HOUR).new == 0


def test_without_keys_nothing_is_fetched(stripe: Double, settings: Any):
    settings.STRIPE_SECRET_KEY = ""

    assert (tick(MARCH_1), lists(stripe)) == (0, 0)
