import pytest

from billing_admin.flows.enable_plan import BadEnd, carried_out, confirmation, enable_plan, preview_plan, propose
from tests.builders import STAFF, access, allowance, assigned, customer, enable, on, pass_time, plan, pro
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def test_an_assigned_plan_ends_by_itself_on_its_day():
    """P-44"""
    acme = customer()
    enable(acme, assigned(), ends_at=APRIL_1)

    pass_time(acme, to=APRIL_1)

    assert access(acme, now=APRIL_1).reason == "no_plan"


def test_a_change_to_another_assigned_plan_ends_on_its_day_too():
    """P-44"""
    partner = assigned()
    friend = plan("friend", allowance(50), of="partners", kind="assigned")
    acme = customer()
    enable(acme, partner)

    enable(acme, friend, now=MARCH_16, ends_at=APRIL_1)
    pass_time(acme, to=APRIL_1)

    assert access(acme, now=APRIL_1).reason == "no_plan"


def test_an_end_before_the_start_is_refused_with_a_sentence():
    """P-44"""
    acme, partner = customer(), assigned()

    with pytest.raises(BadEnd, match="after the start"):
        preview_plan(acme, propose(acme, partner, ends_at=MARCH_1), now=MARCH_16)


def test_a_scheduled_change_takes_no_end():
    """P-44"""
    acme = on(pro())
    free = plan("free", allowance(10))

    with pytest.raises(BadEnd, match="scheduled"):
        preview_plan(acme, propose(acme, free, ends_at=MAY_1), now=MARCH_16)


def test_what_was_carried_out_with_a_confirmation_is_found_again():
    """A-12"""
    acme = customer()
    proposal = propose(acme, pro())
    confirmed = confirmation(preview_plan(acme, proposal, now=MARCH_1))
    assert carried_out(acme, confirmed) is None

    enabled = enable_plan(acme, proposal, reason="", actor=STAFF, now=MARCH_1, confirmed=confirmed)

    assert carried_out(acme, confirmed) == enabled.operation
    assert carried_out(acme, "forged") is None
