"""The passes of the clockwork, in process and at chosen instants."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection

from billing_admin import runs
from billing_admin.flows.customers import close_customer
from billing_admin.models import Heartbeat, WorkerFailure, WorkerRun
from customers.models import Customer, Subscription
from entitlements.models import Balance
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MAY_1

pytestmark = pytest.mark.django_db


@contextmanager
def the_database_refusing(table: str, condition: str) -> Iterator[None]:
    """A real failure, made by the database: rows of a table that break a condition cannot be written."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK ({condition}) NOT VALID")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT broken")


def refusing_invoices_of(who: Customer, *, of: Subscription | None = None):
    """Nothing can be invoiced to this customer (or for this contract)."""
    refused = f"subscription_id <> {of.pk}" if of else f"customer_id <> {who.pk}"
    return the_database_refusing("invoicing_invoice", refused)


def renew(now=APRIL_1) -> WorkerRun | None:
    return runs.renewals(now=now).finish(now + timedelta(seconds=1))


def test_a_pass_renews_what_is_due_and_says_how_many_and_how_much() -> None:
    """The run page's numbers come from the rows that a pass wrote."""
    pro = a.pro()
    for name in ("Acme", "Globex"):
        a.on(pro, name=name)

    run = renew()

    assert run is not None
    assert (run.done, run.failed, run.effects) == (2, 0, {"invoices": 2, "money": {"USD": 10_000}})
    assert run.finished_at == APRIL_1 + timedelta(seconds=1)


def test_a_second_pass_finds_nothing_to_do() -> None:
    """Law 6: safe to run twice."""
    acme = a.on(a.pro())
    renew()

    assert renew() is None
    assert a.totals(acme) == [5_000, 5_000]


def test_an_idle_pass_leaves_only_its_heartbeat() -> None:
    """Law 6"""
    assert renew() is None

    assert not WorkerRun.objects.exists()
    assert Heartbeat.objects.get(name=runs.RENEWALS).at == APRIL_1 + timedelta(seconds=1)


def test_a_scheduled_downgrade_is_carried_out_by_the_pass() -> None:
    """A-15"""
    pro, team = a.pro(), a.team()
    acme = a.on(team)
    a.enable(acme, pro, now=MARCH_1 + timedelta(days=9))

    renew()

    assert a.the_subscription(acme).phase_at(APRIL_1).version.plan == pro
    assert a.totals(acme) == [20_000, 5_000]


def test_an_assigned_plan_ends_by_itself() -> None:
    """P-44, Y-62: no invoice is needed, and nobody renews it."""
    acme = a.customer()
    a.enable(acme, a.assigned(), ends_at=APRIL_1)

    renew()

    [subscription] = acme.subscriptions.all()
    assert (subscription.state, subscription.end_reason, subscription.ended_at) == ("ended", "term_ended", APRIL_1)
    assert not acme.invoices.exists()


def test_a_customer_who_cannot_be_renewed_holds_up_nobody() -> None:
    """One transaction per customer."""
    pro = a.pro()
    acme, globex = a.on(pro, name="Acme"), a.on(pro, name="Globex")

    with refusing_invoices_of(acme):
        run = renew()

    assert run is not None
    assert (run.done, run.failed) == (1, 1)
    assert (a.totals(acme), a.totals(globex)) == ([5_000], [5_000, 5_000])
    [failure] = run.failures.all()
    assert failure.what == a.the_subscription(acme).public_id
    assert failure.cause.startswith("IntegrityError: new row for relation")
    assert "Traceback" in failure.detail


def test_the_next_pass_tries_again_and_closes_the_failure() -> None:
    """What is left is a query; nothing is lost by a failure."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        renew()

    renew()

    assert a.totals(acme) == [5_000, 5_000]
    assert WorkerFailure.objects.get().resolved_at == APRIL_1


def test_a_failing_contract_does_not_hold_back_the_customers_other_one() -> None:
    """A failure names the contract that failed."""
    acme = a.on(a.pro())
    other = a.plan("warehouse", a.fee(30), a.allowance(10, of="queries"), of="warehouse")
    broken = a.the_subscription(acme)
    a.enable(acme, other)

    with refusing_invoices_of(acme, of=broken):
        run = renew()

    assert run is not None
    assert run.effects == {"invoices": 1, "money": {"USD": 3_000}}
    assert [failure.what for failure in run.failures.all()] == [broken.public_id]


def test_a_contract_that_fails_five_times_in_a_row_waits_for_a_person() -> None:
    """Parked with its cause; the clockwork keeps away from it."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        for minutes in range(6):
            renew(APRIL_1 + timedelta(minutes=minutes))

    parked = a.the_subscription(acme)
    assert parked.parked_at == APRIL_1 + timedelta(minutes=4)
    assert parked.parked_because.startswith("Failed 5 times in a row: IntegrityError")
    assert WorkerFailure.objects.count() == 5
    assert acme.operations.newest()[0].verb == "subscription.parked"


def test_failures_with_a_success_between_them_do_not_add_up() -> None:
    """Only failures in a row park a contract."""
    acme = a.on(a.pro())
    for month in (APRIL_1, MAY_1):
        with refusing_invoices_of(acme):
            for minutes in range(3):
                renew(month + timedelta(minutes=minutes))
        renew(month + timedelta(hours=1))

    assert a.the_subscription(acme).parked_at is None
    assert len(a.totals(acme)) == 3


def test_unparking_tries_again_at_once() -> None:
    """A person who has removed the cause need not wait for the next tick."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        for _ in range(5):
            renew()

    operation, run = runs.unpark(a.the_subscription(acme), actor=a.STAFF, now=APRIL_1)

    assert run is not None
    assert run.done == 1
    assert a.the_subscription(acme).parked_at is None
    assert a.totals(acme) == [5_000, 5_000]
    assert (operation.verb, operation.actor) == ("subscription.unparked", "ops")
    assert not runs.open_failures().exists()


def test_a_person_can_retry_failures_and_the_run_says_who_asked() -> None:
    """Retry one, retry all: the same call."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        renew()

    [run] = runs.retry(runs.open_failures(), actor=a.STAFF, now=APRIL_1)

    assert run.effects == {"asked_by": "ops", "invoices": 1, "money": {"USD": 5_000}}
    assert not runs.open_failures().exists()


def test_a_retry_that_fails_again_is_recorded_again() -> None:
    """A failure stays visible until it is gone."""
    acme = a.on(a.pro())
    with refusing_invoices_of(acme):
        renew()
        [run] = runs.retry(runs.open_failures(), actor=a.STAFF, now=APRIL_1)

    assert (run.done, run.failed) == (0, 1)
    assert runs.open_failures().count() == 2


def test_equal_causes_read_the_same_whoever_they_happened_to() -> None:
    """Failures are grouped by cause."""
    pro = a.pro()
    customers = [a.on(pro, name=name) for name in ("Acme", "Globex")]
    with the_database_refusing("invoicing_invoice", f"customer_id NOT IN ({customers[0].pk}, {customers[1].pk})"):
        renew()

    assert WorkerFailure.objects.count() == 2
    assert WorkerFailure.objects.values("cause").distinct().count() == 1


def test_resets_open_the_next_windows_and_count_them() -> None:
    """A-38"""
    a.default()
    acme = a.customer()
    a.use(acme, 4)

    run = runs.resets(now=APRIL_1).finish(APRIL_1)

    assert (run.done, run.effects) == (1, {"windows": 1})
    assert a.left(acme, now=APRIL_1) == 5
    assert not Balance.objects.due(APRIL_1).exists()


def test_a_customer_who_cannot_be_reset_holds_up_nobody() -> None:
    """The batch goes on without them, and the failure is kept once, however often it happens."""
    a.default()
    acme, globex = a.customer("Acme"), a.customer("Globex")
    for who in (acme, globex):
        a.use(who, 4)

    with the_database_refusing("entitlements_balance", f"customer_id <> {acme.pk} OR closed_at IS NULL"):
        first = runs.resets(now=APRIL_1).finish(APRIL_1)
        runs.resets(now=APRIL_1 + timedelta(minutes=1))

    assert (first.done, first.failed) == (1, 1)
    assert list(Balance.objects.due(APRIL_1).values_list("customer_id", flat=True)) == [acme.pk]
    assert a.left(acme, now=APRIL_1) == 5  # a late worker changes no answer
    [failure] = WorkerFailure.objects.all()
    assert (failure.what, failure.at) == (acme.public_id, APRIL_1 + timedelta(minutes=1))


def test_customers_are_erased_when_their_grace_has_passed() -> None:
    """The third pass of the clockwork."""
    acme = a.customer()
    close_customer(acme, confirm_name=acme.name, reason="asked for it", actor=a.STAFF, now=MARCH_1)

    assert runs.erasures(now=MARCH_1 + timedelta(days=29)).finish(APRIL_1) is None
    run = runs.erasures(now=MARCH_1 + timedelta(days=31)).finish(APRIL_1)

    assert run.done == 1
    assert Customer.objects.get(pk=acme.pk).name != "Acme Robotics"


@pytest.mark.django_db(transaction=True)
def test_a_customer_on_whom_somebody_works_is_left_to_them() -> None:
    """Claimed with SKIP LOCKED: a pass never waits."""
    acme = a.on(a.pro())
    rival = connection.copy()
    try:
        rival.set_autocommit(False)
        with rival.cursor() as cursor:
            cursor.execute("SELECT 1 FROM customers_customer WHERE id = %s FOR UPDATE", [acme.pk])

        assert renew() is None
        assert not WorkerFailure.objects.exists()
    finally:
        rival.rollback()
        rival.close()
    assert renew().done == 1
