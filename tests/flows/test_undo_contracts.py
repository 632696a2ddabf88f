"""Taking back what was planned or agreed for a contract."""

from datetime import timedelta

import pytest

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.collection import pause, pauses, resume
from billing_admin.flows.contract_terms import ContractTerms, change_contract_terms
from billing_admin.flows.trials import extend
from customers.models import Customer, Subscription
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db

KEEP = Subscription.WhilePaused.KEEP_AS_DRAFT


def downgraded() -> Customer:
    who = a.on(a.team())
    a.enable(who, a.pro(), now=MARCH_16)
    return who


def coming(who: Customer) -> str:
    phase = a.the_subscription(who).next_phase(MARCH_16)
    return phase.version.plan.key if phase else ""


def test_a_scheduled_change_is_withdrawn():
    who = downgraded()

    taken = seen(last(who, "plan.scheduled"), now=MARCH_16)
    made = take_back(last(who, "plan.scheduled"), now=MARCH_16)

    assert taken.sentence == "Withdraws the change to Pro on 1 Apr 2026."
    assert (made.verb, coming(who)) == ("change.withdrawn", "")


def test_what_a_scheduled_change_had_replaced_is_planned_again():
    who = downgraded()
    a.enable(who, a.plan("lite", a.fee(5), a.allowance(10)), now=MARCH_16)

    taken = seen(last(who, "plan.scheduled"), now=MARCH_16)
    take_back(last(who, "plan.scheduled"), now=MARCH_16)

    assert taken.sentence.endswith("Schedules Pro for 1 Apr 2026 again.")
    assert coming(who) == "pro"


def test_a_cancellation_that_a_scheduled_change_had_taken_back_is_planned_again():
    who = a.on(a.team())
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=MARCH_16)
    a.enable(who, a.pro(), now=MARCH_16)

    take_back(last(who, "plan.scheduled"), now=MARCH_16)

    assert a.the_subscription(who).ends_at == APRIL_1


def test_a_scheduled_change_that_took_effect_is_not_taken_back():
    who = downgraded()
    operation = last(who, "plan.scheduled")

    assert why(operation, now=APRIL_1) == "It took effect on 1 Apr 2026; change the plan again."


def test_a_withdrawn_change_is_scheduled_again_and_happens():
    who = downgraded()
    withdraw(a.the_subscription(who), actor=a.STAFF, now=MARCH_16)

    made = take_back(last(who, "change.withdrawn"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert made.verb == "plan.scheduled"
    assert a.totals(who)[-1] == 5000


def test_a_withdrawn_change_stays_so_once_its_date_has_come():
    who = downgraded()
    withdraw(a.the_subscription(who), actor=a.STAFF, now=MARCH_16)

    assert "would have begun on 1 Apr 2026" in why(last(who, "change.withdrawn"), now=APRIL_1)


def test_a_withdrawn_change_stays_so_where_something_else_is_planned():
    who = downgraded()
    withdraw(a.the_subscription(who), actor=a.STAFF, now=MARCH_16)
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=MARCH_16)

    assert "Its end on 1 Apr 2026 is planned" in why(last(who, "change.withdrawn"), now=MARCH_16)


def test_a_planned_end_is_taken_back_with_the_change_that_it_withdrew():
    who = downgraded()
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "subscription.canceled"), now=MARCH_16)

    assert (a.the_subscription(who).ends_at, coming(who)) == (None, "pro")


def test_a_cancellation_that_was_taken_back_is_planned_again_with_its_answers():
    who = a.on(a.pro())
    cancel(a.the_subscription(who), bill_use=False, reason="too dear", actor=a.STAFF, now=MARCH_16)
    withdraw(a.the_subscription(who), actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "cancellation.withdrawn"), now=MARCH_16)

    found = a.the_subscription(who)
    assert (found.ends_at, found.end_reason, found.bills_use_at_end) == (APRIL_1, "canceled", False)


def test_what_ended_at_once_stays_ended():
    who = a.on(a.pro())
    cancel(a.the_subscription(who), at_once=True, reason="too dear", actor=a.STAFF, now=MARCH_16)

    assert why(last(who, "subscription.canceled"), now=MARCH_16) == "It ended. Enable the plan again."


def test_terms_of_a_contract_change_back_unless_they_changed_since():
    who = a.on(a.pro())
    terms = {"reason": "their policy", "actor": a.STAFF, "now": MARCH_16}
    change_contract_terms(a.the_subscription(who), ContractTerms(net_terms_days=30), **terms)
    first = last(who, "subscription.terms_changed")
    assert changes(seen(first, now=MARCH_16))["Net terms"] == ("30", "as the account")

    change_contract_terms(a.the_subscription(who), ContractTerms(net_terms_days=45), **terms)
    assert why(first, now=MARCH_16) == "Net terms changed again since."

    take_back(last(who, "subscription.terms_changed"), now=MARCH_16)
    assert a.the_subscription(who).net_terms_days == 30


def test_a_pause_of_collection_is_taken_back_and_had_again():
    who = a.on(a.pro())
    pause(a.the_subscription(who), behavior=KEEP, resumes_at=MAY_1, reason="dispute", actor=a.STAFF, now=MARCH_16)

    resumed = take_back(last(who, "collection.paused"), now=MARCH_16)
    assert not pauses(a.the_subscription(who), MARCH_16)

    take_back(resumed, now=MARCH_16)
    found = a.the_subscription(who)
    assert pauses(found, MARCH_16) and found.collection_resumes_at == MAY_1


def test_a_changed_pause_goes_back_to_what_it_was():
    who = a.on(a.pro())
    pause(a.the_subscription(who), behavior=KEEP, resumes_at=MAY_1, reason="dispute", actor=a.STAFF, now=MARCH_16)
    pause(a.the_subscription(who), behavior="void", reason="dispute", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "collection.paused"), now=MARCH_16)

    found = a.the_subscription(who)
    assert (found.collection_behavior, found.collection_resumes_at) == (KEEP, MAY_1)


def test_a_resumed_collection_is_paused_as_it_was():
    who = a.on(a.pro())
    pause(a.the_subscription(who), behavior=KEEP, reason="dispute", actor=a.STAFF, now=MARCH_16)
    resume(a.the_subscription(who), actor=a.STAFF, now=MARCH_16 + timedelta(days=1))

    take_back(last(who, "collection.resumed"), now=MARCH_16 + timedelta(days=2))

    assert pauses(a.the_subscription(who), MARCH_16 + timedelta(days=3))


def test_a_longer_trial_is_as_short_as_before():
    who = a.customer()
    a.enable(who, a.plan("pro", a.fee(50), a.allowance(100), trial_days=14))
    extend(a.the_subscription(who), days=30, reason="still looking", actor=a.STAFF, now=day("2026-03-05"))

    made = take_back(last(who, "trial.extended"), now=day("2026-03-06"))

    assert (made.verb, a.the_subscription(who).trial_ends_at) == ("trial.shortened", MARCH_1 + timedelta(days=14))


def test_a_trial_that_would_be_over_by_now_is_not_shortened():
    who = a.customer()
    a.enable(who, a.plan("pro", a.fee(50), a.allowance(100), trial_days=14))
    extend(a.the_subscription(who), days=30, reason="still looking", actor=a.STAFF, now=day("2026-03-05"))

    assert "would have ended by now" in why(last(who, "trial.extended"), now=day("2026-03-20"))
