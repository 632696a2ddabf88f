"""A scheduled move that another change took away: it is the migration's again once that change is taken back."""

import pytest

from billing_admin.flows.cancel import withdraw
from billing_admin.flows.migrate import progress, take_back_row
from customers.models import Customer, MigrationRow, PlanMigration
from tests import builders as a
from tests.flows.migrations_world import moved, order, second_version
from tests.flows.undo_world import last, seen, take_back, why
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db
MARCH_17, MARCH_18, APRIL_2 = day("2026-03-17"), day("2026-03-18"), day("2026-04-02")


@pytest.fixture
def pro():
    return a.pro()


@pytest.fixture
def acme(pro):
    """To be moved from $50 to $60 on 1 April."""
    who = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(100))
    moved(order(pro), MARCH_16)
    return who


def the_row() -> MigrationRow:
    return MigrationRow.objects.select_related("migration", "subscription", "customer", "operation").get()


def take_the_move_back() -> None:
    take_back_row(the_row(), reason="too dear", actor=a.STAFF, now=MARCH_18)


def counted(state: str) -> int:
    return progress(PlanMigration.objects.get(), MARCH_18).counts[state]


def billed_in_april(who: Customer) -> int:
    a.pass_time(who, to=APRIL_2)
    return a.totals(who)[-1]


def test_after_a_custom_plan_that_is_taken_back_the_migration_has_its_move_again(acme, pro):
    """L-28, L-46"""
    a.enable(acme, pro, a.fee(50), a.allowance(170), now=MARCH_17)

    take_back(last(acme, "plan.enabled"), now=MARCH_18)

    assert (the_row().state, the_row().problem, counted("scheduled")) == ("scheduled", "", 1)
    assert billed_in_april(acme) == 6000


def test_a_move_that_is_planned_again_can_be_taken_back(acme):
    """L-46"""
    withdraw(a.the_subscription(acme), reason="a mistake", actor=a.STAFF, now=MARCH_17)
    take_back(last(acme, "change.withdrawn"), now=MARCH_18)
    assert counted("scheduled") == 1

    take_the_move_back()

    assert (the_row().state, billed_in_april(acme)) == ("taken_back", 5000)


def test_a_move_that_was_taken_back_is_not_planned_again_with_what_had_replaced_it(acme):
    """L-46"""
    team = a.team()
    a.enable(acme, team, now=MARCH_17)
    take_the_move_back()

    taken = seen(last(acme, "plan.enabled"), now=MARCH_18)
    take_back(last(acme, "plan.enabled"), now=MARCH_18)

    assert "Schedules" not in taken.sentence
    assert billed_in_april(acme) == 5000


def test_the_withdrawal_of_a_move_that_was_taken_back_stays(acme):
    """L-46"""
    withdraw(a.the_subscription(acme), reason="a mistake", actor=a.STAFF, now=MARCH_17)

    take_the_move_back()

    assert why(last(acme, "change.withdrawn"), now=MARCH_18).startswith("It was a move of many customers")
