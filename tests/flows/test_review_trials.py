"""What was used in a trial is free, what comes after it is not; an end that is agreed upon comes before the trial's."""

import pytest

from tests.builders import access, allowance, customer, enable, fee, left, pass_time, plan, totals, use
from tests.instants import day

pytestmark = pytest.mark.django_db
MARCH_5, MARCH_6, MARCH_8, MARCH_9 = (day(f"2026-03-0{n}") for n in (5, 6, 8, 9))
APRIL_5 = day("2026-04-05")


def trial_plan(key="pro", price=20):
    return plan(key, fee(price), allowance(100, price="0.10"), trial_days=14)


def test_use_in_a_trial_is_not_billed_by_a_change_to_another_plan():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan())
    use(acme, 500)

    enable(acme, plan("team", fee(50), allowance(500, price="0.10")), now=MARCH_5)

    assert totals(acme) == [5000]


def test_use_after_a_trial_that_a_larger_quantity_ended_is_billed():
    """A-27"""
    acme, pro = customer(), trial_plan()
    enable(acme, pro)
    use(acme, 40)

    enable(acme, pro, now=MARCH_5, quantity=2)
    assert left(acme, now=MARCH_5) == 200
    use(acme, 500, now=MARCH_6)
    pass_time(acme, to=APRIL_5)

    assert totals(acme) == [4000, 4000 + 3000]


def test_a_contract_that_ends_before_its_trial_would_gives_no_access_beyond_its_end():
    """A-27"""
    acme = customer()
    enable(acme, trial_plan(), ends_at=MARCH_8)

    assert not access(acme, now=MARCH_9).allowed
    pass_time(acme, to=MARCH_9)
    assert (acme.subscriptions.get().state, totals(acme)) == ("ended", [])
