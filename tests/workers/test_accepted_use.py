"""Use that nobody waited for survives a worker that is killed while it counts."""

import pytest
from django.utils import timezone

from billing_admin.flows.accepted import Use, accept
from entitlements.models import AcceptedEvent, UsageEvent
from tests import builders as a
from tests.workers.conftest import Workers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = 60


def test_what_was_accepted_is_counted_exactly_once_by_whoever_comes_after_a_killed_worker(workers: Workers):
    now = timezone.now().replace(microsecond=0)
    who = a.customer(since=now)
    a.default(a.allowance(10_000))
    accept([(who, Use("credits")) for _ in range(EVENTS)], now=now)
    killed = workers.start()
    workers.tick("count_accepted")
    wait_until(lambda: UsageEvent.objects.count() >= 3, "some events to be counted")

    workers.kill(killed)
    left = AcceptedEvent.objects.filter(settled_at=None).count()
    workers.start()
    workers.tick("count_accepted")
    wait_until(lambda: not AcceptedEvent.objects.filter(settled_at=None).exists(), "the rest")

    assert 0 < left < EVENTS
    assert (UsageEvent.objects.count(), who.balances.get().used) == (EVENTS, EVENTS)
