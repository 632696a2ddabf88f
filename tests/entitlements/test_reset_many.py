from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Thread

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import periods
from catalog.models import Plan
from catalog.rollovers import Rollover
from customers.models import Customer
from entitlements.models import Balance
from entitlements.override import override
from entitlements.reset import Reset
from entitlements.reset_many import CADENCES, START, WINDOWS, reset_many, window_values
from tests import builders as a
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day
from tests.workers.test_runs import the_database_refusing

pytestmark = pytest.mark.django_db

YEARS = 6 * 366 * 24 * 3600 * 1_000_000
INSTANTS = st.integers(-YEARS, YEARS).map(lambda number: MARCH_1 + timedelta(microseconds=number))
RESETS = [reset for reset in periods.RESETS if reset != periods.NEVER]


def reset(now=APRIL_1, **options):
    return reset_many(now=now, **options).reset


@given(
    st.lists(st.tuples(st.sampled_from(RESETS), st.sampled_from(["billing_period", "calendar"]), INSTANTS), max_size=8),
    INSTANTS,
)
@settings(max_examples=200, deadline=None)
def test_windows_in_sql_are_those_of_the_calendar(rows, now):
    """Law 1: boundaries are counted from the anchor, days clamped to the month's end."""
    given_ = "SELECT * FROM unnest(%(own)s::text[], %(anchored)s::text[], %(anchors)s::timestamptz[])"
    source = (
        f"({given_} WITH ORDINALITY AS given (of, reset_anchor, anchor, place)"
        f" JOIN {CADENCES} ON cadence.reset = given.of)"
    )
    own = {"own": [row[0] for row in rows], "anchored": [row[1] for row in rows], "anchors": [row[2] for row in rows]}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT begins, ends FROM ({WINDOWS.format(source=source)}) AS windows ORDER BY place",  # noqa: S608
            window_values(now) | own,
        )
        found = cursor.fetchall()

    expected = [periods.window(reset, anchor, now, on_calendar=kind == "calendar") for reset, kind, anchor in rows]
    assert found == [(period.starts_at, period.ends_at) for period in expected]


def test_a_window_of_a_contract_is_followed_by_the_next():
    """A-33"""
    acme = a.on(a.pro(50))
    a.use(acme, 60)

    assert reset() == Reset(customers=1, closed=1)

    before, after = acme.balances.order_by("id")
    assert (before.ends_at, before.closed_at, before.used) == (APRIL_1, APRIL_1, 60)
    assert (after.starts_at, after.ends_at, after.granted, after.used) == (APRIL_1, MAY_1, 100, 0)
    assert (after.source, after.opened_at, after.closed_at) == ("plan_item", APRIL_1, None)


def test_a_quantity_goes_on():
    """A-13"""
    acme = a.customer()
    a.enable(acme, a.pro(50), quantity=3)

    reset()

    assert acme.balances.get(closed_at=None).granted == 300


def test_units_that_were_bought_are_granted_again():
    """P-20"""
    acme = a.customer()
    a.enable(acme, a.plan("packs", a.prepaid(100)), bought={"credits": Decimal(300)})

    assert reset().closed == 1

    assert acme.balances.get(closed_at=None).granted == 300


def test_windows_of_the_default_product_follow_the_customer():
    """P-14"""
    a.default()
    acme = a.customer(since=day("2026-01-31"))
    a.use(acme, 5, now=day("2026-02-10"))

    assert reset(day("2026-03-01")).closed == 1

    after = acme.balances.get(closed_at=None)
    assert (after.starts_at, after.ends_at) == (day("2026-02-28"), day("2026-03-31"))
    assert after.source == Balance.Source.DEFAULT


def test_windows_of_an_assigned_plan_follow_the_customer():
    """P-16"""
    acme = a.customer(since=day("2026-01-10"))
    a.enable(acme, a.assigned(), now=MARCH_1)
    a.use(acme, 5)

    assert reset().closed == 1

    after = acme.balances.get(closed_at=None)
    assert (after.starts_at, after.ends_at, after.source) == (day("2026-03-10"), day("2026-04-10"), "plan_item")


def test_an_edited_reset_date_is_followed_by_the_regular_boundary():
    """A-30"""
    acme = a.on(a.pro(50))
    acme.balances.update(ends_at=MARCH_16)

    assert reset(day("2026-03-20")).closed == 1

    after = acme.balances.get(closed_at=None)
    assert (after.starts_at, after.ends_at) == (MARCH_16, APRIL_1)


def test_windows_missed_altogether_leave_no_rows():
    """A-38"""
    acme = a.on(a.pro(50))

    reset(day("2026-07-10"))

    assert [b.starts_at for b in acme.balances.order_by("id")] == [MARCH_1, day("2026-07-01")]


def rolls_over():
    return a.on(a.plan("pro", replace(a.allowance(100), rollover=Rollover())))


def keeps_overage():
    return a.on(a.plan("pro", replace(a.allowance(100, soft=True), keeps_overage=True)))


def under_an_override():
    acme = a.on(a.pro(50))
    override(
        acme,
        a.feature(),
        200,
        effective_from=MARCH_16,
        effective_until=None,
        reason="agreed",
        actor=a.STAFF,
        now=MARCH_16,
    )
    return acme


def switched():
    acme = a.on(a.pro(50))
    a.enable(acme, Plan.objects.get(key="pro"), a.fee(50), a.allowance(200), now=MARCH_16)
    return acme


def scheduled():
    a.team(20)
    acme = a.on(a.pro(50))
    a.enable(acme, Plan.objects.get(key="team"), now=MARCH_16)
    return acme


def ended():
    acme = a.on(a.pro(50))
    acme.subscriptions.update(ends_at=APRIL_1)
    acme.subscriptions.get().phases.update(ends_at=APRIL_1)
    return acme


def on_trial():
    return a.on(a.plan("pro", a.fee(50), a.allowance(100), trial_days=40))


def left_the_default_product():
    a.default()
    acme = a.customer()
    a.use(acme, 1)
    a.enable(acme, a.pro(50), now=MARCH_16)
    acme.balances.filter(plan=None).update(closed_at=MARCH_16)
    return acme


def on_an_add_on():
    acme = a.on(a.pro(50))
    a.enable(acme, a.plan("extra", a.fee(5), a.allowance(10, of="seats-used"), add_on=True), now=MARCH_1)
    acme.balances.filter(feature__slug="credits").update(closed_at=MARCH_1)
    return acme


def granted_something_else():
    acme = a.on(a.pro(50))
    acme.balances.update(granted=70)
    return acme


@pytest.mark.parametrize(
    "out_of_the_ordinary",
    [
        rolls_over,
        keeps_overage,
        under_an_override,
        switched,
        scheduled,
        ended,
        on_trial,
        left_the_default_product,
        on_an_add_on,
        granted_something_else,
    ],
)
def test_what_is_out_of_the_ordinary_is_left(out_of_the_ordinary):
    """Law 7: it is reset customer by customer, as a punctual worker would have."""
    acme = out_of_the_ordinary()
    Balance.objects.filter(closed_at=None, ends_at__gt=APRIL_1, ends_at__lt=day("2026-04-15")).update(ends_at=APRIL_1)
    due = acme.balances.due(APRIL_1).count()

    assert due
    assert reset() == Reset()
    assert acme.balances.due(APRIL_1).count() == due


def test_a_walk_comes_to_its_end_step_by_step():
    """Law 6: remaining work is a query."""
    made = a.pro(50)
    for name in ("Acme", "Globex", "Initech"):
        a.enable(a.customer(name), made)

    steps, place = [], START
    while place is not None:
        step = reset_many(now=APRIL_1, after=place, most=2)
        steps.append(step.reset.customers)
        place = step.upto

    assert steps == [2, 1, 0]
    assert not Balance.objects.due(APRIL_1).exists()


def test_whom_the_database_refuses_is_left_and_holds_up_nobody():
    """A worker's failure is that of one customer."""
    made = a.pro(50)
    refused, *_ = [a.on(made, name=name) for name in ("Acme", "Globex", "Initech")]

    with the_database_refusing("entitlements_balance", f"customer_id <> {refused.pk} OR closed_at IS NULL"):
        assert reset() == Reset(customers=2, closed=2)

    assert Balance.objects.due(APRIL_1).get().customer_id == refused.pk


@pytest.mark.django_db(transaction=True)
def test_customers_whom_another_worker_holds_are_passed_by():
    """Two workers share the work."""
    made = a.pro(50)
    acme, _ = a.on(made, name="Acme"), a.on(made, name="Globex")
    found = []

    def other():
        found.append(reset())
        connection.close()

    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=acme.pk)
        worker = Thread(target=other)
        worker.start()
        worker.join()

    assert found == [Reset(customers=1, closed=1)]
    assert Balance.objects.due(APRIL_1).get().customer_id == acme.pk


@pytest.mark.django_db(transaction=True)
def test_two_workers_reset_everybody_once():
    """Law 6: safe to run at once."""
    made = a.pro(50)
    for number in range(12):
        a.enable(a.customer(f"Acme {number}"), made)
    closed = []

    def walk():
        place = START
        while place is not None:
            step = reset_many(now=APRIL_1, after=place, most=2)
            closed.append(step.reset.closed)
            place = step.upto
        connection.close()

    workers = [Thread(target=walk) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    reset()

    assert Balance.objects.filter(closed_at=None, starts_at=APRIL_1).count() == 12
    assert Balance.objects.filter(closed_at=APRIL_1).count() == 12


def test_the_statements_do_not_grow_with_the_customers(django_assert_max_num_queries):
    made = a.pro(50)
    for number in range(8):
        a.enable(a.customer(f"Acme {number}"), made)

    with django_assert_max_num_queries(7):
        assert reset().customers == 8
