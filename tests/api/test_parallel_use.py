"""Use that is said as a whole, and use that nobody waits for, beside others, from several processes."""

from collections import Counter
from decimal import Decimal

import pytest

from billing_admin.runs import accepted
from customers.models import Customer
from entitlements.models import AcceptedEvent, Balance, UsageEvent
from tests.api.conftest import Caller, caller_with
from tests.api.test_parallel import at_once, track_one
from tests.builders import allowance, feature, fee, on, plan, pro
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db(transaction=True)


def set_to(secret: str, customer_id: str, value: int) -> int:
    body = {"featureSlug": "credits", "value": value}
    return int(Caller(secret).post(f"customers/{customer_id}/usage", body)["event"]["value"])


def track_batch(secret: str, customer_id: str, slugs: list[str], keys: list[str]) -> list[bool]:
    """One event of each feature in this order, under its key."""
    pairs = zip(slugs, keys, strict=True)
    events = [{"customerId": customer_id, "featureSlug": slug, "eventKey": key} for slug, key in pairs]
    return [item["applied"] for item in Caller(secret).post("track/batch", {"events": events})["data"]]


def count_accepted() -> None:
    accepted(now=MARCH_1)


def test_saying_what_the_use_is_neither_loses_nor_doubles_what_is_tracked_beside_it():
    """P-34"""
    who, api = on(pro(credits=10_000)), caller_with()
    tracks = [(api.secret, who.customer_id, f"e{n}") for n in range(24)]
    at_once(track_one, tracks[:8])

    said = at_once(
        _either, [*(("track", *call) for call in tracks[8:]), *(("set", api.secret, who.customer_id, 100),) * 2]
    )

    used = Balance.objects.get(customer=who).used
    differences = [value for value in said if value is not None]
    assert used == sum(event.taken for event in UsageEvent.objects.all()) == 24 + sum(differences)
    assert 100 <= used <= 116


def _either(what: str, secret: str, customer_id: str, key: str | int) -> int | None:
    if what == "set":
        return set_to(secret, customer_id, int(key))
    track_one(secret, customer_id, str(key))
    return None


def test_batches_with_the_same_keys_and_features_in_any_order_count_each_once():
    """P-33, P-35"""
    who, api = on(plan("pro", fee(50), allowance(1000), allowance(1000, of="tokens"))), caller_with()
    feature("tokens")
    slugs = ["credits", "tokens"] * 10
    there = [f"{slug}-{n // 2}" for n, slug in enumerate(slugs)]
    calls = [(slugs, there), (slugs[::-1], there[::-1])] * 2

    answers = at_once(track_batch, [(api.secret, who.customer_id, *call) for call in calls])

    assert Counter(applied for answer in answers for applied in answer) == {True: 20, False: 60}
    assert {row.feature.slug: row.used for row in Balance.objects.all()} == {
        "credits": Decimal(10),
        "tokens": Decimal(10),
    }


def test_accepted_use_that_several_workers_count_is_counted_once_and_in_order():
    api, customers = (
        caller_with(),
        [on(plan(f"p{n}", fee(1), allowance(10), of=f"x{n}"), name=f"C{n}") for n in range(3)],
    )
    for value in (10, -5, 5, -1, 1):
        for who in customers:
            api.post("track", {"customerId": who.customer_id, "featureSlug": "credits", "value": value, "async": True})

    at_once(count_accepted, [()] * 4)
    accepted(now=MARCH_1)

    assert AcceptedEvent.objects.filter(settled_at=None).count() == 0
    assert AcceptedEvent.objects.exclude(error=None).count() == 0
    assert {int(who.balances.get().used) for who in Customer.objects.all()} == {10}
    assert UsageEvent.objects.count() == 15
