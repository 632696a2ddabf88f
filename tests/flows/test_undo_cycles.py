"""Taking a change back that began a new billing cycle: the former dates hold again. March has 31 days."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.plan_change import Activation, Timing
from billing_admin.flows.rewards import apply_coupon
from catalog.models import Plan
from customers.models import Customer
from entitlements.edit import edit_balance
from invoicing.models import Invoice
from invoicing.readings import account_credit
from invoicing.states import InvoiceState
from tests import builders as a
from tests.approving import coupon
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
MARCH_20 = day("2026-03-20")


def yearly(credits: int = 5000) -> Plan:
    return a.plan("yearly", a.fee(900, cadence="P1Y"), a.allowance(credits), cadence="P1Y")


def moved(*, pays: bool, used: int = 30) -> Customer:
    """From $50 a month to $900 a year on 16 March: 90 000 less 2 581 cents."""
    who = a.on(a.pro())
    a.use(who, used)
    a.enable(who, yearly(), now=MARCH_16)
    assert a.totals(who)[-1] == 87419
    if pays:
        a.pay_all(who, now=MARCH_16)
    return who


def back(who: Customer) -> None:
    take_back(last(who, "plan.enabled"), now=MARCH_20)


def test_the_former_period_and_its_anchor_hold_again():
    """L-47"""
    who = moved(pays=False)

    taken = seen(last(who, "plan.enabled"), now=MARCH_20)
    back(who)

    contract = a.the_subscription(who)
    assert taken.sentence == "Back to Pro v1. Its billing dates are the former ones again."
    assert (contract.period_starts_at, contract.period_ends_at, contract.bills_at) == (MARCH_1, APRIL_1, APRIL_1)
    assert contract.phase_at(MARCH_20).anchor == MARCH_1


@pytest.mark.parametrize("pays", [True, False])
def test_the_next_invoices_are_the_former_ones(pays: bool):
    """L-47"""
    who = moved(pays=pays)

    back(who)
    count = who.invoices.count()
    a.pass_time(who, to=MAY_1)

    assert a.totals(who)[count:] == [5000, 5000]


def test_the_invoice_of_the_new_cycle_is_void_while_nobody_paid_it():
    """L-47"""
    who = moved(pays=False)

    back(who)

    assert who.invoices.get(number="ACME-0002").state == InvoiceState.VOID
    assert account_credit(who) == 0


def test_the_invoice_of_the_new_cycle_is_credited_whole_once_it_was_paid():
    """L-47: the year is given back, and the rest of the month that had been given back is paid for again."""
    who = moved(pays=True)

    taken = seen(last(who, "plan.enabled"), now=MARCH_20)
    back(who)

    note = who.invoices.get(kind=Invoice.Kind.CREDIT_NOTE)
    assert list(note.lines.values_list("amount", flat=True)) == [-90000, 2581]
    assert changes(taken)["Account credit"] == ("$0.00", "$874.19")
    assert account_credit(who) == 87419


def test_nothing_of_the_new_cycle_is_left_to_give_back():
    """A month later, to leave the plan gives back what is left of that month, not of the year."""
    who = moved(pays=True)
    back(who)
    a.pass_time(who, to=APRIL_1)

    free = a.preview(who, a.plan("zero", a.allowance(1)), now=day("2026-04-16"), timing=Timing.NOW)

    assert free.total == -2500


def test_windows_end_when_they_would_have_with_all_that_was_used():
    """L-47"""
    who = moved(pays=True)
    a.use(who, 25, now=MARCH_16 + timedelta(days=1))

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, access.next_reset_at) == (100, 55, APRIL_1)


def test_a_reset_date_that_somebody_had_moved_holds_again():
    """L-47"""
    who = a.on(a.pro())
    given = {"reset_at": day("2026-03-29"), "reason": "agreed", "actor": a.STAFF, "now": MARCH_1}
    edit_balance(who, feature="credits", to=Decimal(90), **given)
    a.enable(who, yearly(), now=MARCH_16)

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.remaining, access.next_reset_at) == (90, day("2026-03-29"))


def test_equal_prices_carry_the_window_and_give_it_back():
    """L-47: nothing was granted afresh, only the dates had moved."""
    who = a.on(a.plan("pro", a.fee(75), a.allowance(100)))
    a.use(who, 30)
    a.enable(who, a.plan("yearly", a.fee(900, cadence="P1Y"), a.allowance(200), cadence="P1Y"), now=MARCH_16)

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, access.next_reset_at) == (100, 30, APRIL_1)


def test_a_free_plan_serves_again_with_what_was_used():
    """L-47"""
    who = a.on(a.free())
    a.use(who, 4)
    a.enable(who, a.pro(), now=MARCH_16)
    a.pay_all(who, now=MARCH_16)

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, access.next_reset_at) == (10, 4, APRIL_1)
    assert account_credit(who) == 5000


def test_a_free_plan_serves_again_after_its_own_month_was_over():
    """L-47: nobody would have billed it."""
    who = a.on(a.free())
    a.enable(who, a.pro(), now=MARCH_16)

    take_back(last(who, "plan.enabled"), now=day("2026-04-10"))

    assert a.access(who, now=day("2026-04-10")).next_reset_at == MAY_1


def test_a_plan_that_began_with_its_payment_goes_back_to_the_free_one():
    """L-47: its windows were ended by the payment, not by the act."""
    who = a.on(a.free())
    a.use(who, 4)
    a.enable(who, a.pro(), now=MARCH_16, activation=Activation.AFTER_PAYMENT)
    a.pay_all(who, now=MARCH_16 + timedelta(hours=3))

    back(who)

    assert (a.left(who, now=MARCH_20), account_credit(who)) == (6, 5000)


def test_a_plan_that_was_left_for_a_free_one_goes_on():
    """L-47"""
    who = a.on(a.pro())
    a.use(who, 30)
    a.enable(who, a.free(), now=MARCH_16, timing=Timing.NOW)
    assert account_credit(who) == 2581

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, access.next_reset_at) == (100, 30, APRIL_1)
    assert account_credit(who) == 0


def test_an_assigned_plan_of_the_same_product_goes_on_with_what_was_used_since():
    """L-47"""
    who = a.on(a.assigned("partner", of="api"))
    a.use(who, 100)
    a.enable(who, a.pro(), now=MARCH_16)
    a.use(who, 7, now=MARCH_16)

    back(who)

    assert a.left(who, now=MARCH_20) == 1000 - 107
    assert a.the_subscription(who).bills_at is None


def test_a_billed_plan_that_was_left_for_an_assigned_one_goes_on():
    """L-47"""
    who = a.on(a.pro())
    a.use(who, 30)
    a.enable(who, a.assigned("partner", of="api"), now=MARCH_16, timing=Timing.NOW)
    a.use(who, 7, now=MARCH_16)

    back(who)

    access = a.access(who, now=MARCH_20)
    assert (access.limit, access.used, access.next_reset_at) == (100, 37, APRIL_1)
    assert (a.the_subscription(who).bills_at, account_credit(who)) == (APRIL_1, 0)


@pytest.mark.parametrize("pays", [True, False])
def test_taxes_and_coupons_of_a_new_cycle_come_back_to_the_cent(pays: bool):
    """L-47"""
    a.tax_rate("19", is_default=True)
    who = a.on(a.pro())
    apply_coupon(who, coupon("third", percent="33"), actor=a.STAFF, now=MARCH_16)
    a.enable(who, yearly(), now=MARCH_16)
    due = who.invoices.latest("id").due
    if pays:
        a.pay_all(who, now=MARCH_16)

    back(who)

    assert account_credit(who) == (due if pays else 0)
    assert not who.invoices.unpaid().exists()


def test_a_cycle_that_was_cut_short_and_would_have_been_billed_since_stays_cut():
    """L-47"""
    who = moved(pays=True)

    assert why(last(who, "plan.enabled"), now=day("2026-04-02")) == (
        "Pro would have been billed on 1 Apr 2026, which nobody did. Enable Pro again; it is priced anew from then on."
    )


def test_a_change_that_was_billed_again_inside_its_period_is_not_taken_back():
    """L-47: its fee is paid by the year, another one by the month."""
    who = a.on(a.free())
    support = a.fee(10, key="support")
    a.enable(who, a.plan("yearly", a.fee(900, cadence="P1Y"), support, cadence="P1Y"), now=MARCH_16)
    operation = last(who, "plan.enabled")
    a.pass_time(who, to=day("2026-04-16"))

    assert why(operation, now=day("2026-04-17")) == "It was billed again on 16 Apr 2026. Change the plan instead."


def test_a_trial_that_a_change_ended_does_not_begin_again():
    """L-47"""
    who = a.customer()
    a.enable(who, a.plan("pro", a.fee(50), a.allowance(100), trial_days=30))
    a.enable(who, a.team(), now=MARCH_16)

    assert "a trial does not begin again" in why(last(who, "plan.enabled"), now=MARCH_16)


def test_other_items_in_a_trial_go_back_and_the_trial_goes_on():
    """L-47"""
    who = a.customer()
    pro = a.plan("pro", a.fee(50), a.allowance(100), trial_days=30)
    a.enable(who, pro)
    a.enable(who, pro, a.fee(50), a.allowance(400), now=MARCH_16)

    back(who)

    contract = a.the_subscription(who)
    assert (contract.state, contract.trial_ends_at) == ("trialing", day("2026-03-31"))
    assert a.access(who, now=MARCH_20).limit == 100
