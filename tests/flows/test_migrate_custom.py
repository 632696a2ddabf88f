"""Custom plans while a move to another version is scheduled: the cohort leaves such a contract alone."""

import pytest

from billing_admin.flows.enable_plan import preview_plan, propose
from billing_admin.flows.migrate import progress, retry
from customers.models import MigrationRow, Phase
from tests import builders as a
from tests.flows.migrations_world import moved, order, second_version
from tests.instants import APRIL_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def own():
    return a.fee(50), a.allowance(500)


@pytest.fixture
def pro():
    return a.plan("pro", a.fee(50), a.allowance(100))


@pytest.fixture
def acme(pro):
    """On the first version, and to be moved to the second one on 1 April."""
    who = a.on(pro)
    second_version(pro, a.fee(60), a.allowance(200))
    moved(order(pro))
    return who


def tailor(who, pro, *items):
    a.enable(who, pro, *(items or own()), now=MARCH_16)


def the_row():
    return MigrationRow.objects.select_related("migration", "subscription").get()


def test_other_features_of_their_own_take_the_scheduled_move_away(acme, pro):
    """L-28"""
    tailor(acme, pro)

    row = the_row()
    assert (row.state, row.code) == ("skipped", "custom_plan")
    assert row.problem == "It got a custom plan since, so its move was taken away."
    assert progress(row.migration, MARCH_16).counts == progress(row.migration, MAY_1).counts
    assert progress(row.migration, MARCH_16).skipped == 1


def test_whoever_got_a_custom_plan_keeps_it_when_the_others_move(acme, pro):
    """L-28"""
    tailor(acme, pro)

    a.pass_time(acme, to=APRIL_1)

    assert a.totals(acme)[-1] == 5000
    assert Phase.objects.in_force(APRIL_1).get().version.tailored


def test_the_preview_says_that_the_move_goes_away(acme, pro):
    """L-28"""
    change = preview_plan(acme, propose(acme, a.reread(pro), items=own()), now=MARCH_16)

    assert change.replaces == (
        "Takes away the move to another version on 1 Apr 2026: custom plans are not moved with the others."
    )
    assert change.stays == ""


def test_a_custom_price_leaves_the_cohort_too(acme, pro):
    """L-28"""
    tailor(acme, pro, a.fee(55), a.allowance(100))

    assert the_row().code == "custom_plan"


def test_tried_again_it_is_left_alone_as_a_custom_plan(acme, pro):
    """L-28, L-29"""
    tailor(acme, pro)

    row = retry(the_row(), now=MARCH_16)

    assert (row.state, row.problem) == ("skipped", "It is on a custom plan, which stays as it is.")


def test_a_change_that_a_person_scheduled_stays_under_features_of_their_own(pro):
    """A-15"""
    who = a.on(pro)
    a.enable(who, pro, a.fee(30), a.allowance(100), now=MARCH_16)

    tailor(who, pro)

    assert Phase.objects.filter(withdrawn_at=None, starts_at=APRIL_1).count() == 1
