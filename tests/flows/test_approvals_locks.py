"""Whoever asks, decides or expires takes the customer's row first and the request's after it: nobody waits for a row
while they hold the one that the other needs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from queue import Queue
from time import monotonic, sleep
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction

from billing_admin.flows.approvals import ApprovalNeeded, approve, ask, expire_due, refuse, withdraw
from billing_admin.flows.rewards import apply_coupon
from billing_admin.models import ApprovalRequest
from catalog.models import Coupon
from customers.journal import Actor
from customers.models import Customer
from tests import builders as a
from tests.approving import FINANCE, coupon, person, rule
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def half() -> Coupon:
    for role, codename in ((FINANCE, "decide_approval"), ("Ops", "apply_coupon")):
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.add(Permission.objects.get(codename=codename))
    rule("coupon.applied", measure="discount", above="20")
    return coupon("half", percent="50")


def needed_by(acme: Customer, half: Coupon) -> ApprovalNeeded:
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, half, reason="they asked", actor=Actor.of(person("Ops")), now=MARCH_16)
    return needed.value


def asks_again(request: ApprovalRequest, needed: ApprovalNeeded) -> str:
    return ask(needed, actor=Actor.of(person("Ops")), now=MARCH_16).state


def approves(request: ApprovalRequest, needed: ApprovalNeeded) -> str:
    return approve(request, user=person(FINANCE), now=MARCH_16).state


def refuses(request: ApprovalRequest, needed: ApprovalNeeded) -> str:
    return refuse(request, reason="no", user=person(FINANCE), now=MARCH_16).state


def withdraws(request: ApprovalRequest, needed: ApprovalNeeded) -> str:
    return withdraw(request, actor=Actor.of(person("Ops")), now=MARCH_16).state


@pytest.mark.parametrize(
    ("act", "state"),
    [(asks_again, "waiting"), (approves, "applied"), (refuses, "refused"), (withdraws, "withdrawn")],
)
def test_who_waits_for_the_customer_holds_no_request(act: Callable[..., str], state: str, half: Coupon):
    """A-53"""
    acme = a.customer()
    needed = needed_by(acme, half)
    request = ask(needed, actor=Actor.of(person("Ops")), now=MARCH_16)
    backends: Queue[int] = Queue()

    def beside() -> str:
        try:
            backends.put(backend_id())
            return act(ApprovalRequest.objects.get(pk=request.pk), needed)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=acme.pk)
            other = pool.submit(beside)
            wait_until_blocked(backends.get(timeout=60))
            # As a verb does that asks while it holds the customer; at once, or not at all.
            ApprovalRequest.objects.select_for_update(nowait=True).get(pk=request.pk)
        assert other.result(timeout=60) == state


def test_the_clockwork_leaves_a_request_whose_customer_somebody_holds(half: Coupon):
    """It comes by again; to wait would hold up all the others."""
    acme = a.customer()
    request = ask(needed_by(acme, half), actor=Actor.of(person("Ops")), now=MARCH_16)
    late = MARCH_16 + timedelta(days=30)

    def expires() -> int:
        try:
            return expire_due(now=late)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        Customer.objects.select_for_update().get(pk=acme.pk)
        assert pool.submit(expires).result(timeout=60) == 0

    request.refresh_from_db()
    assert (request.state, expire_due(now=late)) == ("waiting", 1)


def backend_id() -> int:
    return int(one_value("SELECT pg_backend_pid()"))


def wait_until_blocked(backend: int) -> None:
    """Until another connection waits for a row that somebody holds."""
    end = monotonic() + 60
    while not one_value("SELECT cardinality(pg_blocking_pids(%s))", [backend]):
        assert monotonic() < end, "nobody waits for anybody"
        sleep(0.01)


def one_value(sql: str, values: list[Any] | None = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]
