import pytest

from catalog.models import Plan
from entitlements.ledger import ledger
from tests.builders import allowance, enable, fee, left, on, pro, use
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db


def test_the_lines_of_a_balance_sum_to_what_is_left():
    """A-37, law 12"""
    acme = on(pro(50))
    use(acme, 30)
    use(acme, 10, now=MARCH_16)
    enable(acme, Plan.objects.get(key="pro"), fee(50), allowance(200), now=MARCH_16)

    lines = ledger(acme.balances.get())

    assert [line.amount for line in lines] == [100, -30, 100, -10]
    assert lines[-1].after == left(acme, now=MARCH_16) == 160


def test_use_of_one_day_is_one_line():
    """A-37"""
    acme = on(pro(50))
    for hour in (1, 5, 23):
        use(acme, 2, now=day(f"2026-03-05T{hour:02}:00"))

    lines = [line for line in ledger(acme.balances.get()) if line.kind == "used"]

    assert [line.amount for line in lines] == [-6]


def test_a_window_that_ended_says_so():
    acme = on(pro(50))
    use(acme, 30)
    use(acme, 1, now=day("2026-04-02"))

    first = acme.balances.order_by("id").first()

    assert ledger(first)[-1].title == "Window ended"
