"""The four answers of a cancellation, each with its money."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from billing_admin.flows.cancel import AlreadyEnded, BadAccessEnd, cancel, preview_cancel, withdraw
from billing_admin.flows.plan_change import Activation
from billing_admin.flows.renew import catch_up
from customers.switch import AlreadySettled
from invoicing.models import Refund
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    default,
    enable,
    fee,
    on,
    overuse,
    pass_time,
    pay_all,
    plan,
    prepaid,
    preview,
    pro,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MID_MARCH = day("2026-03-16T12:00")  # half of March
MARCH_20 = day("2026-03-20")


@pytest.fixture
def acme():
    """$50 a month, paid; 50 credits beyond the 100 included were used, $0.10 each."""
    who = on(plan("pro", fee(50), allowance(100, price="0.10")))
    overuse(who, 150)
    return who


def canceled(who: Any, *, now=MID_MARCH, **answers: Any):
    return cancel(the_subscription(who), reason="leaves", actor=STAFF, now=now, **answers)


def planned(who: Any, *, now=MID_MARCH, **answers: Any):
    return preview_cancel(the_subscription(who), now=now, **{"at_once": False, **answers})


# Unused fees


def test_unused_fees_are_refunded_as_far_as_they_were_paid(acme):
    """A-26: 25.00 unused − 5.00 of use = 20.00."""
    _, [note] = canceled(acme, at_once=True, unused="refund")

    assert (note.total, note.settlement, note.refunds.get().amount) == (-2000, "refund", 2000)
    assert account_credit(acme) == 0


def test_what_was_paid_from_account_credit_goes_back_to_it():
    """A-26: of 50.00, 40.00 came as money."""
    who = customer()
    enable(who, pro(20), now=MARCH_1)
    pay_all(who)
    canceled(who, at_once=True, bill_use=False, now=MID_MARCH)  # 10.00 of account credit
    enable(who, plan("team", fee(50)), now=MID_MARCH)
    pay_all(who, now=MID_MARCH)

    _, [note] = cancel(the_subscription(who), at_once=True, unused="refund", reason="x", actor=STAFF, now=MID_MARCH)

    assert (note.total, note.refunds.get().amount, account_credit(who)) == (-5000, 4000, 1000)


def test_nothing_that_was_not_paid_is_refunded():
    """A-26: the credit of an unpaid fee comes off its own invoice."""
    who = customer()
    enable(who, pro())

    assert planned(who, at_once=True, unused="refund").refund == 0
    canceled(who, at_once=True, unused="refund")

    assert (totals(who), Refund.objects.count()) == ([5000, -2500], 0)
    assert who.invoices.unpaid().get().due == 2500


@pytest.mark.parametrize(
    ("unused", "sentence"),
    [
        ("account_credit", "Access ends at once. $20.00 is credited now."),
        ("refund", "Access ends at once. $20.00 is refunded now."),
        ("nothing", "Access ends at once. $5.00 is charged now."),
    ],
)
def test_a_preview_says_what_each_answer_comes_to(acme, unused, sentence):
    """A-26"""
    assert planned(acme, at_once=True, unused=unused).sentence == sentence


def test_an_answer_that_there_is_none_of_is_refused(acme):
    """A-26"""
    with pytest.raises(ValidationError) as refused:
        canceled(acme, at_once=True, unused="cash")
    assert refused.value.code == "bad_unused"


def test_unused_packs_come_back_by_the_smaller_of_time_and_units():
    """A-26: 300 bought, 200 used, half of the month left: a third of $30.00."""
    who = customer()
    enable(who, plan("pro", fee(20), prepaid()), bought={"credits": Decimal(300)})
    pay_all(who)
    use(who, 200)

    _, [note] = canceled(who, at_once=True)

    assert note.total == -1000 - 1000


# On a day


def test_on_a_day_the_answers_hold_when_it_comes(acme):
    """A-26, Y-50: 12 of 31 days are left of $50.00: 19.35 − 5.00 = 14.35."""
    assert planned(acme, ends_at=MARCH_20).sentence == (
        "Access ends on 20 Mar 2026. Nothing is due now. $14.35 is credited on 20 Mar 2026, as far as known by now."
    )
    canceled(acme, ends_at=MARCH_20, unused="refund")
    assert (totals(acme), access(acme, now=MARCH_16).has_access) == ([5000], True)

    pass_time(acme, to=MARCH_20)

    assert (totals(acme), Refund.objects.get().amount) == ([5000, -1435], 1435)
    assert access(acme, now=MARCH_20).reason == "no_plan"


def test_use_may_be_forgiven_on_a_day_to_come(acme):
    """A-26"""
    canceled(acme, ends_at=MARCH_20, bill_use=False, unused="nothing")

    pass_time(acme, to=MARCH_20)

    assert totals(acme) == [5000]


def test_beyond_the_period_nobody_knows_the_money_yet(acme):
    """A-26"""
    change = planned(acme, ends_at=day("2026-04-16"))

    assert (change.documents, change.due_now) == ((), 0)


def test_an_end_before_now_is_refused(acme):
    """Y-50"""
    with pytest.raises(ValidationError) as refused:
        canceled(acme, ends_at=MARCH_1)
    assert refused.value.code == "end_in_the_past"


def test_the_end_of_the_cycle_says_what_it_will_bill(acme):
    """A-26, A-25"""
    assert planned(acme).sentence == (
        "Access ends on 1 Apr 2026. Nothing is due now. $5.00 is charged on 1 Apr 2026, as far as known by now."
    )


# Access


def test_what_is_settled_now_may_keep_its_access_for_what_was_paid(acme):
    """A-26: the final invoice is made at once; nothing is billed after it."""
    change = planned(acme, at_once=True, unused="nothing", access_until=APRIL_1)
    assert change.sentence == "Access ends on 1 Apr 2026. $5.00 is charged now."

    canceled(acme, at_once=True, unused="nothing", access_until=APRIL_1)

    assert totals(acme) == [5000, 500]
    overuse(acme, 40, now=MARCH_20)
    assert access(acme, now=MARCH_20).has_access
    pass_time(acme, to=APRIL_1)
    assert totals(acme) == [5000, 500]
    assert not access(acme, now=APRIL_1).has_access


def test_add_ons_are_settled_and_end_with_their_plan():
    """A-26"""
    who = on(pro())
    enable(who, plan("boost", fee(10), add_on=True))
    pay_all(who)

    cancel(
        who.subscriptions.live().get(add_on=False),
        at_once=True,
        access_until=APRIL_1,
        reason="leaves",
        actor=STAFF,
        now=MID_MARCH,
    )

    assert totals(who) == [5000, 1000, -2500, -500]
    assert access(who, now=MARCH_20).has_access
    pass_time(who, to=APRIL_1)
    assert totals(who) == [5000, 1000, -2500, -500]
    assert not who.subscriptions.live().exists()


@pytest.mark.parametrize("until", [day("2026-04-02"), MARCH_1])
def test_access_lasts_at_most_for_what_was_paid(acme, until):
    """A-26"""
    with pytest.raises(BadAccessEnd):
        canceled(acme, at_once=True, access_until=until)


def test_what_is_settled_cannot_be_taken_back_but_can_be_ended(acme):
    """A-26"""
    canceled(acme, at_once=True, access_until=APRIL_1)

    with pytest.raises(AlreadySettled):
        withdraw(the_subscription(acme), actor=STAFF, now=MARCH_20)
    with pytest.raises(AlreadySettled):
        canceled(acme, now=MARCH_20)
    canceled(acme, at_once=True, now=MARCH_20)

    assert totals(acme) == [5000, -2000]
    assert not acme.subscriptions.live().exists()


def test_a_plan_enabled_after_the_settlement_is_billed_again(acme):
    """A-26"""
    canceled(acme, at_once=True, access_until=APRIL_1)

    enable(acme, plan("team", fee(200)), now=MARCH_20)

    assert the_subscription(acme).settled_at is None
    pass_time(acme, to=APRIL_1)
    assert totals(acme)[-1] == 20000


# First payments, trials, one-offs


def test_a_first_payment_that_nobody_made_is_given_up():
    """A-26, Y-61"""
    default()
    who = customer()
    enabled = enable(who, pro(), activation=Activation.AFTER_PAYMENT)
    subscription = enabled.subscription
    [invoice] = enabled.invoices
    change = preview_cancel(subscription, at_once=False, now=MARCH_1)
    assert change.sentence.endswith(f"{invoice} is void: nobody paid it, and nothing was given for it.")

    cancel(subscription, reason="changed their mind", actor=STAFF, now=MARCH_1)

    invoice.refresh_from_db()
    subscription.refresh_from_db()
    assert (invoice.state, subscription.state, subscription.end_reason) == ("void", "ended", "canceled")
    assert access(who).limit == 5


def test_a_free_plan_that_is_canceled_gives_up_the_paid_one_that_waits():
    """A-26"""
    who = customer()
    free = plan("free", allowance(10))
    enable(who, free)
    [invoice] = enable(who, pro(), activation=Activation.AFTER_PAYMENT).invoices

    canceled(who, at_once=True, now=MARCH_1)

    invoice.refresh_from_db()
    assert (invoice.state, who.subscriptions.live().count()) == ("void", 0)


def test_a_trial_is_canceled_without_money():
    """A-26, A-27"""
    who = customer()
    enable(who, plan("pro", fee(20), allowance(100, price="0.10"), trial_days=14))
    overuse(who, 150)

    assert planned(who, now=MARCH_1).sentence == "Access ends on 15 Mar 2026. Nothing is due now."
    canceled(who, at_once=True, now=MARCH_1)

    assert totals(who) == []


def test_a_one_off_plan_ends_at_once():
    """A-26"""
    who = on(plan("packs", prepaid(once=True), fee(10, cadence="P0D")))

    change = planned(who)

    assert (change.at_once, change.total) == (True, 0)


def test_it_is_written_down_who_ended_it_and_why_and_a_second_time_is_refused(acme):
    """Y-49, L-42"""
    subscription = the_subscription(acme)
    operation, _ = canceled(acme, at_once=True)

    subscription.refresh_from_db()
    assert (operation.actor, operation.reason, subscription.state) == ("ops", "leaves", "ended")
    assert not acme.balances.filter(closed_at=None).exists()
    with pytest.raises(AlreadyEnded):
        cancel(subscription, at_once=True, reason="again", actor=STAFF, now=MID_MARCH)


def test_a_term_that_was_agreed_ends_by_itself():
    """Y-62"""
    who = customer()
    enable(who, pro(), ends_at=APRIL_1)
    subscription = the_subscription(who)

    catch_up(who, now=APRIL_1)

    subscription.refresh_from_db()
    assert (subscription.state, subscription.end_reason, totals(who)) == ("ended", "term_ended", [5000])


def test_a_preview_writes_nothing(acme):
    before = totals(acme)

    planned(acme, at_once=True)

    assert (totals(acme), the_subscription(acme).ends_at) == (before, None)
    assert preview(acme, plan("team", fee(80)), now=MID_MARCH).lines
