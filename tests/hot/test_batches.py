"""Batches of callers: one transaction that keeps all of it, or nothing and Django counts them one by one."""

from typing import Any

from customers.models import Customer
from entitlements.models import UsageEvent
from tests import builders as a
from tests.hot.conftest import Hot
from tests.hot.test_parity import as_typed, without_ids
from tests.instants import MARCH_1


def event(who: Customer, value: float = 1, **more: Any) -> dict[str, Any]:
    return {"customerId": who.customer_id, "featureSlug": "credits", "value": value, **more}


def test_a_batch_is_answered_as_django_answers_it(hot: Hot):
    """P-35"""
    pro = a.pro()
    told = {}
    for name in ("loop", "django"):
        who, other = a.on(pro), a.on(pro, name="Other")
        events = [event(who, 3), event(other, 0.5, eventKey=f"{name} 1"), event(who, 97), event(other, -0.25)]
        if name == "loop":
            told[name] = hot.track_batch(events)
        else:
            told[name] = hot.caller.at(MARCH_1).post("track/batch", {"events": events}).body
        told[f"{name} rows"] = list(
            UsageEvent.objects.filter(customer__in=[who, other])
            .order_by("id")
            .values_list("amount", "taken", "amounts")
        )

    for item in (*told["loop"]["data"], *told["django"]["data"]):
        item["event"].pop("eventKey")
    assert as_typed(without_ids(told["loop"])) == as_typed(without_ids(told["django"]))
    assert told["loop rows"] == told["django rows"]


def test_a_batch_with_an_event_that_is_not_plain_is_left_to_django_uncounted(hot: Hot):
    who = a.on(a.pro(credits=10))

    assert hot.track_batch([event(who, 4), event(who, 7)]) is None
    assert hot.track_batch([event(who), event(who, eventKey="k"), event(who, eventKey="k")]) is None
    assert hot.track_batch([event(who), {"customerId": "nobody", "featureSlug": "credits"}]) is None
    assert hot.track_batch([event(who), {"featureSlug": "credits"}]) is None
    assert UsageEvent.objects.count() == 0
    assert a.access(who).used == 0


def test_keys_by_place_come_from_the_header(hot: Hot):
    who = a.on(a.pro())
    hot.track_batch([event(who), event(who, eventKey="own")], header="job")

    assert sorted(UsageEvent.objects.values_list("key", flat=True)) == ["job:0", "own"]


def test_a_large_batch_is_counted_exactly(hot: Hot):
    pro = a.plan("pro", a.fee(50), a.allowance(100_000))
    customers = [a.on(pro, name=f"Customer {number}") for number in range(3)]

    answer = hot.track_batch([event(customers[n % 3], 2, eventKey=f"k{n}") for n in range(1000)])

    assert len(answer["data"]) == 1000
    assert sum(a.access(who).used for who in customers) == 2000
    assert answer["data"][-1]["remaining"] == 100_000 - 668
