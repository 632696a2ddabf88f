from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from customers.journal import CLOCKWORK, Actor, ReasonRequired, record, require_reason
from tests.builders import STAFF, customer
from tests.instants import MARCH_1

pytestmark = pytest.mark.django_db


def test_an_act_keeps_who_what_why_and_when():
    """A-50, law 10"""
    acme = customer()

    operation = record(acme, "plan.enabled", "Enabled Pro", actor=STAFF, now=MARCH_1, reason="deal")

    assert (operation.actor, operation.verb, operation.reason, operation.at) == ("ops", "plan.enabled", "deal", MARCH_1)


def test_a_person_is_kept_by_name_and_by_row():
    alice = User.objects.create(username="alice")

    operation = record(customer(), "note.added", "Said something", actor=Actor.of(alice), now=MARCH_1)

    assert (operation.actor, operation.user) == ("alice", alice)


def test_the_clockwork_is_nobodys_row():
    assert record(None, "plan.published", "Published", actor=CLOCKWORK, now=MARCH_1).user is None


def test_inputs_and_effects_can_be_read_back():
    operation = record(
        customer(), "x.done", "Done", actor=STAFF, now=MARCH_1, inputs={"to": Decimal("0.5"), "at": MARCH_1}
    )

    operation.refresh_from_db()
    assert operation.inputs == {"to": "0.5", "at": "2026-03-01T00:00:00Z"}


def test_a_long_summary_is_cut():
    assert len(record(customer(), "x.done", "a" * 900, actor=STAFF, now=MARCH_1).summary) == 500


@pytest.mark.parametrize("reason", ["", "   ", None])
def test_an_act_that_needs_a_reason_takes_no_blank_one(reason):
    """L-06, law 10"""
    with pytest.raises(ReasonRequired):
        require_reason(reason)


def test_the_newest_act_comes_first():
    acme = customer()
    for summary in ("first", "second"):
        record(acme, "x.done", summary, actor=STAFF, now=MARCH_1)

    assert [o.summary for o in acme.operations.newest()] == ["second", "first"]
