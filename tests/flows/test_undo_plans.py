"""Taking a change of plan back before it is renewed."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import Activation
from customers.models import Customer
from invoicing.models import Invoice
from invoicing.readings import account_credit
from invoicing.states import InvoiceState
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def upgraded(*, pays: bool) -> Customer:
    """From $50 to $200 in the middle of March: $77.42 are due."""
    who = a.on(a.pro())
    a.use(who, 30)
    a.enable(who, a.team(), now=MARCH_16)
    if pays:
        a.pay_all(who, now=MARCH_16)
    return who


def plan_of(who: Customer) -> str:
    return a.the_subscription(who).phase_at(MAY_1).version.plan.key


def test_an_upgrade_goes_back_and_its_unpaid_invoice_is_void():
    who = upgraded(pays=False)

    taken = seen(last(who, "plan.enabled"), now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert taken.sentence == "Back to Pro v1."
    assert changes(taken)["ACME-0002"] == ("open, $77.42", "void")
    assert (plan_of(who), Invoice.objects.get(number="ACME-0002").state) == ("pro", InvoiceState.VOID)
    assert account_credit(who) == 0


def test_an_upgrade_that_was_paid_becomes_account_credit_by_a_credit_note():
    who = upgraded(pays=True)

    taken = seen(last(who, "plan.enabled"), now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert changes(taken)["Account credit"] == ("$0.00", "$77.42")
    assert "is not paid back: it becomes account credit." in taken.stays[-1]
    note = who.invoices.get(kind=Invoice.Kind.CREDIT_NOTE)
    assert (note.corrects.number, account_credit(who)) == ("ACME-0002", 7742)


def test_the_next_invoice_is_that_of_the_former_plan():
    who = upgraded(pays=False)
    take_back(last(who, "plan.enabled"), now=MARCH_16)

    a.pass_time(who, to=APRIL_1)

    assert a.totals(who)[-1] == 5000


def test_what_was_used_of_both_plans_counts_under_the_former_allowance():
    who = upgraded(pays=True)
    a.use(who, 25, now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    access = a.access(who, now=MARCH_16)
    assert (access.limit, access.used, access.next_reset_at) == (100, 55, APRIL_1)


def test_more_units_of_the_same_plan_go_back():
    pro = a.pro()
    who = a.on(pro)
    a.enable(who, pro, now=MARCH_16, quantity=3)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert (a.the_subscription(who).quantity, a.left(who, now=MARCH_16)) == (1, 100)


def test_features_only_go_back_with_their_reset_dates():
    pro = a.pro()
    who = a.on(pro)
    a.use(who, 30)
    a.enable(who, pro, a.fee(50), a.allowance(400), now=MARCH_16)

    taken = seen(last(who, "plan.enabled"), now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert changes(taken)["Credits"] == (
        "370 left of 400, resets 1 Apr 2026",
        "70 left of 100, resets 1 Apr 2026",
    )
    access = a.access(who, now=MARCH_16)
    assert (access.limit, access.used, access.next_reset_at) == (100, 30, APRIL_1)


def test_a_first_plan_ends_as_if_it_had_never_been_billed():
    who = a.customer()
    a.enable(who, a.pro(), now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert not who.subscriptions.live().exists()
    assert who.invoices.get().state == InvoiceState.VOID
    assert not a.access(who, now=MARCH_16).allowed


def test_a_first_plan_that_was_paid_comes_back_whole():
    who = a.on(a.pro())

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert account_credit(who) == 5000


def test_a_plan_that_waits_for_its_payment_no_longer_does():
    who = a.on(a.free())
    a.enable(who, a.pro(), now=MARCH_16, activation=Activation.AFTER_PAYMENT)

    made = take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert (made.verb, plan_of(who)) == ("invoice.voided", "free")


def test_what_a_change_had_replaced_is_planned_again():
    who = a.on(a.pro())
    a.enable(who, a.plan("lite", a.fee(5), a.allowance(10)), now=MARCH_16)
    a.enable(who, a.team(), now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert a.the_subscription(who).next_phase(MARCH_16).version.plan.key == "lite"


def test_overage_that_was_billed_with_the_change_stays_billed():
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="1")))
    a.use(who, 110)
    a.enable(who, a.team(), now=MARCH_16)
    a.pay_all(who, now=MARCH_16)

    taken = seen(last(who, "plan.enabled"), now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)
    left = a.left(who, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert taken.stays[0] == "$10.00 for use on ACME-0002 stays billed."
    assert left == Decimal(0)
    assert a.totals(who)[-1] == 5000


def test_overage_on_an_invoice_that_was_not_paid_is_billed_at_the_close():
    who = a.on(a.plan("pro", a.fee(50), a.allowance(100, price="1")))
    a.use(who, 110)
    a.enable(who, a.team(), now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert a.totals(who)[-1] == 6000


def test_a_change_that_was_renewed_is_not_taken_back():
    who = upgraded(pays=True)
    operation = last(who, "plan.enabled")
    a.pass_time(who, to=APRIL_1)

    assert why(operation, now=APRIL_1) == "It was renewed on 1 Apr 2026. Change the plan instead."


def test_a_first_plan_waits_for_the_add_on_that_would_end_with_it():
    who = a.on(a.pro())
    first = last(who, "plan.enabled")
    a.enable(who, a.plan("extra", a.fee(20), add_on=True), now=MARCH_16)

    assert "Take that back first" in why(first, now=MARCH_16)


def test_an_end_that_came_with_the_change_goes_with_it():
    who = a.on(a.pro())
    a.enable(who, a.team(), now=MARCH_16, ends_at=MAY_1)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert a.the_subscription(who).ends_at is None


def test_an_end_that_was_planned_since_stays():
    who = upgraded(pays=False)
    operation = last(who, "plan.enabled")
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=MARCH_16)

    take_back(operation, now=MARCH_16)

    assert a.the_subscription(who).ends_at == APRIL_1


def test_an_assigned_plan_is_given_back_and_keeps_what_was_used_of_it():
    who = a.on(a.assigned("partner"))
    a.use(who, 100)
    a.enable(who, a.plan("gold", a.allowance(9000), of="partners", kind="assigned"), now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=MARCH_16)

    assert a.left(who, now=MARCH_16) == 900


def test_a_first_plan_that_waits_for_its_payment_ends_and_its_invoice_is_void():
    """Y-28: nobody has paid it, so it is given up with its contract, once."""
    who = a.customer()
    a.enable(who, a.pro(), activation=Activation.AFTER_PAYMENT)

    taken = seen(last(who, "plan.enabled"), now=MARCH_1)
    take_back(last(who, "plan.enabled"), now=MARCH_1)

    assert changes(taken)["ACME-0001"] == ("open, $50.00", "void")
    assert (who.subscriptions.get().state, who.invoices.get().state) == ("ended", InvoiceState.VOID)


def test_what_was_paid_in_part_for_a_first_plan_that_waits_becomes_account_credit():
    """Y-28"""
    who = a.customer()
    a.enable(who, a.pro(), activation=Activation.AFTER_PAYMENT)
    collect(who.invoices.get(), amount=2000, reference="bank", actor=a.STAFF, now=MARCH_1)

    take_back(last(who, "plan.enabled"), now=MARCH_1)

    assert (who.invoices.get().state, account_credit(who)) == (InvoiceState.VOID, 2000)


def test_of_two_changes_only_the_last_goes_back_and_the_other_says_what_to_do():
    who, team = a.on(a.pro()), a.team()
    first = a.enable(who, team, now=MARCH_16).operation
    second = a.enable(who, team, now=MARCH_16 + timedelta(days=1), quantity=2).operation
    at = MARCH_16 + timedelta(days=2)
    before = why(first, now=at)

    take_back(second, now=at)

    assert before.endswith("Enable the former plan instead.")
    assert why(first, now=at) == (
        "A later change was taken back since, which began the plan anew. Enable the former plan instead."
    )
