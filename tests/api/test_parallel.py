"""The same customer, at once, from several processes with connections of their own."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from billing_admin.flows.customers import held_plans, update_customer
from customers.models import Customer, Subscription
from entitlements.models import Balance, UsageEvent
from invoicing.models import Invoice
from tests.api.conftest import Caller, caller_with
from tests.builders import STAFF, allowance, assigned, customer, plan, pro, team
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db(transaction=True)

PROCESSES = 8


def at_once(act: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """Carry out the calls in several processes that begin together; their results, in the order of the calls."""
    connections.close_all()  # a connection must not be shared with a forked process: each opens its own
    context = multiprocessing.get_context("fork")
    count = min(PROCESSES, len(calls))
    with context.Pool(count, initializer=_join, initargs=(context.Barrier(count),)) as pool:
        waiting = [pool.apply_async(_carry_out, (act, call)) for call in calls]
        return [result.get(timeout=60) for result in waiting]


_together: Any = None


def _join(together: Any) -> None:
    """In the new process: a place to wait for the others."""
    global _together
    _together = together


def _carry_out(act: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    global _together
    if _together is not None:
        _together.wait(timeout=60)
        _together = None
    return act(*call)


def track_one(secret: str, customer_id: str, key: str) -> int:
    body = {"customerId": customer_id, "featureSlug": "credits", "value": 1, "eventKey": key}
    return Caller(secret).post("track", body).status


def enable(secret: str, customer_id: str, plan_key: str, fingerprint: str) -> tuple[int, str]:
    body = {"planKey": plan_key, "fingerprint": fingerprint}
    answer = Caller(secret).post(f"customers/{customer_id}/plan-changes", body)
    return answer.status, answer.body.get("code", "")


def set_products(customer_pk: int, keys: list[str]) -> None:
    update_customer(Customer.objects.get(pk=customer_pk), custom_product_keys=keys, actor=STAFF, now=MARCH_1)


def create(secret: str, key: str) -> tuple[int, str]:
    answer = Caller(secret).post("customers", {"customerId": "acme", "name": "Acme"}, Idempotency_Key=key)
    return answer.status, json.dumps(answer.body, sort_keys=True)


def check_new(secret: str, customer_id: str) -> int:
    body = {"customerId": customer_id, "featureSlug": "credits", "autoCreate": True}
    return Caller(secret).post("check", body).status


def test_of_fifty_tracks_at_once_ten_fit_into_ten():
    """A-36"""
    who = customer(customer_id="acme")
    assigned("partner", allowance(10))
    set_products(who.pk, ["partner"])
    secret = caller_with().secret

    statuses = at_once(track_one, [(secret, "acme", f"e{number}") for number in range(50)])

    assert Counter(statuses) == {200: 10, 409: 40}
    [balance] = Balance.objects.all()
    assert (balance.left, UsageEvent.objects.count()) == (Decimal(0), 10)


def test_the_same_event_from_all_sides_counts_once():
    """P-33"""
    who = customer(customer_id="acme")
    assigned("partner", allowance(10))
    set_products(who.pk, ["partner"])
    secret = caller_with().secret

    statuses = at_once(track_one, [(secret, "acme", "e1")] * 16)

    assert set(statuses) == {200}
    assert (Balance.objects.get().used, UsageEvent.objects.count()) == (Decimal(1), 1)


def test_of_two_changes_at_once_exactly_one_succeeds():
    """A-12"""
    customer(customer_id="acme")
    pro()
    team()
    api = caller_with()
    seen = {
        key: api.post("customers/acme/plan-changes/preview", {"planKey": key})["fingerprint"] for key in ("pro", "team")
    }

    answers = at_once(enable, [(api.secret, "acme", key, seen[key]) for key in ("pro", "team")])

    assert sorted(answers) == [(201, ""), (409, "preview_outdated")]
    assert (Subscription.objects.count(), Invoice.objects.count()) == (1, 1)


def test_a_double_click_enables_once():
    """A-12"""
    customer(customer_id="acme")
    pro()
    api = caller_with()
    seen = api.post("customers/acme/plan-changes/preview", {"planKey": "pro"})["fingerprint"]

    answers = at_once(enable, [(api.secret, "acme", "pro", seen)] * 4)

    assert Counter(status for status, _ in answers) == {201: 1, 409: 3}
    assert (Subscription.objects.count(), Invoice.objects.count()) == (1, 1)


def test_two_lists_at_once_end_with_one_of_them():
    """P-45"""
    who = customer(since=MARCH_1 - timedelta(days=1))
    lists = [["a", "b"], ["c", "d"]]
    for key in "abcd":
        plan(key, allowance(5, of=f"units-{key}"), of=f"product-{key}", kind="assigned")

    for _ in range(3):
        at_once(set_products, [(who.pk, keys) for keys in lists] * 4)

        held = sorted(found.key for _, found in held_plans(who, MARCH_1))
        assert held in lists


def test_a_repeated_write_from_all_sides_acts_once():
    """A-12"""
    secret = caller_with().secret

    answers = at_once(create, [(secret, "k1")] * 8)

    assert len(set(answers)) == 1
    assert (answers[0][0], Customer.objects.count()) == (201, 1)


def test_an_unknown_customer_is_created_once():
    """P-36"""
    assigned("partner", allowance(10))
    secret = caller_with().secret

    statuses = at_once(check_new, [(secret, "acme")] * 8)

    assert (set(statuses), Customer.objects.count()) == ({200}, 1)
