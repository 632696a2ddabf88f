"""A Celery worker in a process of its own, killed without mercy. It reads the real clock, so these worlds do too."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from billing_admin import runs
from billing_admin.models import WorkerFailure, WorkerRun
from catalog.models import Plan
from customers.models import Customer, Subscription
from entitlements.check import check
from invoicing.models import Invoice
from tests import builders as a
from tests.workers.conftest import Workers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now() -> datetime:
    return timezone.now().replace(microsecond=0)


def due_customers(number: int, *, since: datetime, pro: Plan, team: Plan, word: str = "") -> list[Customer]:
    """Customers of three kinds, in turn, whose second period has begun without anybody noticing."""
    made = []
    for place in range(number):
        who = a.customer(f"{word}{place} {['Pro', 'Team', 'Usage'][place % 3]}", since=since)
        a.enable(who, team if place % 3 == 1 else pro, now=since)
        if place % 3 == 2:
            a.overuse(who, 130, of="calls", now=since)
        made.append(who)
    return made


def plans(since: datetime) -> tuple[Plan, Plan]:
    pro = a.plan("pro", a.fee(50), a.allowance(100), a.allowance(100, of="calls", price="0.10"), now=since)
    return pro, a.plan("team", a.fee(200), a.allowance(500), now=since)


def what_they_have(who: Customer) -> list[object]:
    """Documents and balances in words that do not depend on who it is."""
    documents = [
        (
            document.number.split("-")[-1],
            document.total,
            document.state,
            [(line.description, line.amount, line.starts_at, line.ends_at) for line in document.lines.all()],
        )
        for document in who.invoices.order_by("id")
    ]
    balances = [
        (row.feature.slug, row.starts_at, row.ends_at, row.closed_at is None, row.granted, row.adjusted, row.used)
        for row in who.balances.select_related("feature").order_by("feature__slug", "starts_at")
    ]
    contracts = list(who.subscriptions.values_list("state", "period_starts_at", "period_ends_at", "bills_at"))
    return [documents, balances, contracts]


def second_invoices() -> int:
    return Invoice.objects.filter(number__endswith="-0002").count()


def test_the_worker_carries_out_a_scheduled_downgrade(workers: Workers, now: datetime) -> None:
    """A-15"""
    since = now - timedelta(days=35)
    pro, team = plans(since)
    acme = a.on(team, since=since)
    a.enable(acme, pro, now=since + timedelta(days=20))
    assert check(acme, "credits", now=now).limit == 100  # the switch holds already, worker or not
    workers.start()

    workers.tick("renew_due")

    wait_until(lambda: not Subscription.objects.due(now).exists(), "the downgrade")
    subscription = a.the_subscription(acme)
    phase = subscription.phase_at(now)
    assert phase is not None
    assert phase.version.plan == pro
    assert a.totals(acme) == [20_000, 5_000]
    assert subscription.bills_at > now


def test_a_worker_killed_in_the_middle_and_restarted_renews_every_contract_exactly_once(
    workers: Workers, now: datetime
) -> None:
    """A-38, law 6: the same as an undisturbed pass."""
    since = now - timedelta(days=35)
    pro, team = plans(since)
    undisturbed = due_customers(3, since=since, pro=pro, team=team, word="calm")
    runs.renewals(now=now).finish(now)
    expected = [what_they_have(who) for who in undisturbed]
    disturbed = due_customers(50, since=since, pro=pro, team=team, word="busy")
    first = workers.start()

    workers.tick("renew_due")
    wait_until(lambda: second_invoices() >= 3 + 8, "the first renewals")
    workers.kill(first)
    renewed_by_the_first = second_invoices() - 3
    workers.start()
    workers.tick("renew_due")
    wait_until(lambda: not Subscription.objects.due(now).exists(), "the rest")

    assert 8 <= renewed_by_the_first < 50
    assert [what_they_have(who) for who in disturbed] == [expected[place % 3] for place in range(50)]
    # What the killed pass had done is in its record too, though nobody closed it.
    wait_until(lambda: WorkerRun.objects.filter(finished_at=None).count() == 1, "the second run to be closed")
    renewing = WorkerRun.objects.filter(task=runs.RENEWALS)
    assert sum(renewing.values_list("done", flat=True)) == 3 + 50
    assert not WorkerFailure.objects.exists()


def test_two_workers_at_once_renew_every_contract_exactly_once(workers: Workers, now: datetime) -> None:
    """Law 6: safe to run at once."""
    since = now - timedelta(days=35)
    pro, team = plans(since)
    customers = due_customers(24, since=since, pro=pro, team=team)
    workers.start()
    workers.start()

    workers.tick("renew_due")
    workers.tick("renew_due")
    wait_until(lambda: not Subscription.objects.due(now).exists(), "the renewals")

    assert [len(a.totals(who)) for who in customers] == [2] * 24
    assert not WorkerFailure.objects.exists()
    wait_until(lambda: not WorkerRun.objects.filter(finished_at=None).exists(), "both runs to be closed")
    assert sum(WorkerRun.objects.filter(task="renew_due").values_list("done", flat=True)) == 24
