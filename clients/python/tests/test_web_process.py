"""The client at the real web process, with a worker killed while it tracks."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from back_office import Client, LimitReached, Retries, Settings, Use
from entitlements.models import UsageEvent
from tests import builders as a
from tests.hot.test_processes import serving

pytestmark = pytest.mark.django_db(transaction=True)

PATIENT = Settings(timeout=20, deadline=60, check_deadline=60, retries=Retries(attempts=20, base=0.2))


def test_threads_of_one_client_count_exactly_while_a_worker_is_killed(
    secret: str, now: datetime, tmp_path: Path
) -> None:
    """A-36, P-33"""
    acme = a.on(a.pro(credits=1000), since=now - timedelta(days=10)).customer_id
    with serving(tmp_path) as server, Client(f"http://127.0.0.1:{server.port}", secret, PATIENT) as billing:

        def track(number: int) -> bool:
            if number == 20:
                server.kill_a_worker()
            return bool(billing.track(acme, "credits").applied)

        with ThreadPoolExecutor(8) as threads:
            applied = list(threads.map(track, range(100)))

        assert all(applied)
        assert billing.check(acme, "credits").remaining == 900
    assert UsageEvent.objects.count() == 100


def test_the_quick_answers_are_read_as_the_others(secret: str, now: datetime, tmp_path: Path) -> None:
    acme = a.on(a.pro(credits=100), since=now - timedelta(days=10)).customer_id
    with serving(tmp_path) as server, Client(f"http://127.0.0.1:{server.port}", secret, PATIENT) as billing:
        checked = quickly(lambda: billing.check(acme, "credits", required=3))
        tracked = billing.track(acme, "credits", 3, key="job-1", properties={"model": "large"})
        batch = billing.track_batch([Use(acme, "credits", 2), Use(acme, "credits", 200)])
        with pytest.raises(LimitReached) as refused:
            billing.track(acme, "credits", 96)
        granted = billing.create_grant(acme, "credits", 5, reason="outage")

    assert (checked.allowed, checked.remaining) == (True, 100)
    assert (tracked.event.counted, tracked.access.remaining, tracked.event.properties) == (3, 97, {"model": "large"})
    assert (batch[0].remaining, type(batch[1].error)) == (95, LimitReached)
    assert (refused.value.remaining, refused.value.access.feature) == (95, "credits")
    assert granted.remaining == 5


def quickly(ask: Callable[[], Any]) -> Any:
    """The second answer: the first one may have filled what a worker knows."""
    ask()
    time.sleep(0.1)
    return ask()
