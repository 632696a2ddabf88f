from dataclasses import replace
from decimal import Decimal

import pytest

from catalog.models import Plan
from catalog.rollovers import Rollover
from entitlements.models import Balance
from entitlements.reset import Reset, reset_due
from tests.builders import allowance, customer, default, enable, fee, lasting, left, on, plan, pro, use
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def test_a_reset_closes_what_ended_and_opens_what_follows():
    """A-33"""
    acme = on(pro(50))
    use(acme, 60)

    assert reset_due(now=APRIL_1) == Reset(customers=1, closed=1)

    assert list(acme.balances.values_list("starts_at", "closed_at")) == [(MARCH_1, APRIL_1), (APRIL_1, None)]


def test_a_second_reset_finds_nothing():
    """Law 6"""
    use(on(pro(50)), 60)
    reset_due(now=APRIL_1)

    assert reset_due(now=APRIL_1) == Reset()


def test_windows_missed_altogether_leave_no_rows():
    """A-38"""
    acme = on(pro(50))
    use(acme, 60)

    reset_due(now=day("2026-07-10"))

    assert [b.starts_at for b in acme.balances.order_by("id")] == [MARCH_1, day("2026-07-01")]


def test_a_balance_that_never_resets_is_left_alone():
    """A-33"""
    acme = on(plan("pro", lasting(200), allowance(10)))
    use(acme, 50, of="tokens")
    use(acme, 5)

    reset_due(now=APRIL_1)

    assert (left(acme, of="tokens", now=APRIL_1), left(acme, now=APRIL_1)) == (150, 10)


def test_balances_of_the_default_product_reset_without_a_contract():
    """P-14"""
    default(allowance(5))
    acme = customer()
    use(acme, 5)

    reset_due(now=APRIL_1)

    assert left(acme, now=APRIL_1) == 5


def test_a_batch_takes_no_more_customers_than_its_limit():
    """Law 6: remaining work is a query."""
    made = pro(50)
    for name in ("Acme", "Globex", "Initech"):
        who = customer(name)
        enable(who, made)
        use(who, 1)

    assert [reset_due(now=APRIL_1, limit=2).customers for _ in range(3)] == [2, 1, 0]


def test_customers_to_be_skipped_are():
    acme = on(pro(50))
    use(acme, 1)

    assert reset_due(now=APRIL_1, skip=[acme.pk]) == Reset()


def test_the_queries_of_a_reset_grow_slowly_with_the_balances(django_assert_max_num_queries):
    acme = on(plan("pro", *(allowance(10, of=f"f{number}") for number in range(8))))
    for number in range(8):
        use(acme, 1, of=f"f{number}")

    with django_assert_max_num_queries(8 * 7 + 12):
        reset_due(now=APRIL_16)

    assert Balance.objects.filter(closed_at=None, customer=acme).count() == 8


def test_a_window_that_a_change_carried_on_runs_to_its_own_end_and_rolls_over():
    """A-35, A-38"""
    rolls = replace(allowance(100), rollover=Rollover())
    acme = on(plan("pro", fee(50), rolls))
    use(acme, 30)
    enable(acme, Plan.objects.get(key="pro"), fee(50), replace(rolls, included=Decimal(200)), now=MARCH_16)

    reset_due(now=APRIL_1)

    carried = Balance.objects.get(closed_at=APRIL_1)
    assert (carried.starts_at, carried.ends_at) == (MARCH_1, APRIL_1)
    assert left(acme, now=APRIL_1) == 170 + 200
