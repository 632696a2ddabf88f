"""Taking a change back that gave money: what is left of it is taken back, what was used stays. March has 31 days."""

import pytest

from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.rewards import apply_coupon
from customers.models import Customer
from invoicing.issue import receive_payment
from invoicing.models import Invoice
from invoicing.readings import account_credit
from invoicing.states import InvoiceState
from tests import builders as a
from tests.approving import coupon
from tests.flows.undo_world import changes, last, seen, take_back
from tests.instants import APRIL_1, MARCH_16, day

pytestmark = pytest.mark.django_db
MARCH_20 = day("2026-03-20")


def lowered() -> Customer:
    """From $200 to $50 in the middle of March: $103.23 less $25.81 become account credit."""
    who = a.on(a.team())
    a.enable(who, a.pro(), now=MARCH_16, timing=Timing.NOW)
    assert account_credit(who) == 7742
    return who


def spend(who: Customer, amount: int) -> None:
    """Another product takes so much of the account credit, in dollars."""
    a.enable(who, a.plan("extra", a.fee(amount, cadence="P0D"), of="extras"), now=MARCH_16)


def stands(who: Customer) -> int:
    """What the customer has with us, in cents: credit less debts."""
    owed = sum(invoice.due for invoice in who.invoices.unpaid())
    return int(account_credit(who) - owed)


def back(who: Customer) -> None:
    take_back(last(who, "plan.enabled"), now=MARCH_20)


def test_credit_that_nobody_used_is_taken_back():
    """L-47"""
    who = lowered()

    taken = seen(last(who, "plan.enabled"), now=MARCH_20)
    back(who)

    note = who.invoices.get(kind=Invoice.Kind.CREDIT_NOTE)
    assert changes(taken)["ACME-CN-0001"] == ("credit note, $77.42", "void")
    assert (note.state, account_credit(who)) == (InvoiceState.VOID, 0)


def test_the_plan_that_was_left_for_credit_goes_on_and_is_renewed():
    """L-47"""
    who = lowered()

    back(who)
    a.pass_time(who, to=APRIL_1)

    assert a.totals(who)[-1] == 20000


def test_credit_that_was_used_in_part_is_charged_again_as_far_as_it_is_there():
    """L-47: $30.00 went into an add-on."""
    who = lowered()
    operation = last(who, "plan.enabled")
    spend(who, 30)

    taken = seen(operation, now=MARCH_20)
    take_back(operation, now=MARCH_20)

    assert changes(taken)["ACME-CN-0001"][1] == "$47.42 of it charged again by an invoice"
    assert taken.stays[-1] == (
        "$30.00 of the account credit that ACME-CN-0001 gave is used already; it stays with the customer."
    )
    made = who.invoices.latest("id")
    assert (made.total, made.credit_applied, made.state) == (4742, 4742, InvoiceState.PAID)
    assert (account_credit(who), stands(who)) == (0, 0)


def test_credit_that_is_used_whole_stays():
    """L-47"""
    who = lowered()
    operation = last(who, "plan.enabled")
    spend(who, 200)
    before = list(who.invoices.values_list("number", "state"))

    taken = seen(operation, now=MARCH_20)
    take_back(operation, now=MARCH_20)

    assert taken.stays[-1].startswith("$77.42 of the account credit")
    assert list(who.invoices.values_list("number", "state")) == before


def test_a_later_change_gives_back_what_was_paid_for_and_no_cent_more():
    """What was charged again counts for its time: to leave the plan at once gives back $47.42 and $25.81 of $73.23."""
    who = lowered()
    operation = last(who, "plan.enabled")
    spend(who, 30)
    take_back(operation, now=MARCH_16)

    free = a.preview(who, a.plan("zero", a.allowance(1)), now=MARCH_16, timing=Timing.NOW)

    assert free.total == -(4742 + 2581)


def test_taxes_of_the_credit_are_taken_back_with_it():
    """L-47"""
    a.tax_rate("19", is_default=True)
    who = lowered_with_tax()

    back(who)

    assert account_credit(who) == 0


def test_taxes_are_charged_again_in_proportion():
    """Of $92.13 credit (19 % within) $36.00 are spent: the rest comes back, to the cent."""
    a.tax_rate("19", is_default=True)
    who = lowered_with_tax()
    operation = last(who, "plan.enabled")
    spend(who, 30)
    there = account_credit(who)

    take_back(operation, now=MARCH_16)

    made = who.invoices.latest("id")
    assert (made.total, made.total - made.subtotal, account_credit(who)) == (there, made.tax_added, 0)
    assert made.tax_added == round((there - made.tax_added) * 0.19)


def lowered_with_tax() -> Customer:
    who = a.on(a.team())
    a.enable(who, a.pro(), now=MARCH_16, timing=Timing.NOW)
    assert account_credit(who) == 9213  # 77.42 and 19 %, rounded per line
    return who


def test_a_coupon_that_made_the_plan_cheaper_makes_its_credit_smaller_both_ways():
    """L-47"""
    who = a.customer()
    apply_coupon(who, coupon("half", percent="50"), actor=a.STAFF, now=day("2026-03-01"))
    a.enable(who, a.team())
    a.pay_all(who)
    a.enable(who, a.pro(), now=MARCH_16, timing=Timing.NOW)
    assert account_credit(who) == 5161 - 2581  # the coupon held for one invoice

    back(who)

    assert account_credit(who) == 0


def half_paid() -> tuple[Customer, Invoice]:
    """Team, of which $80.00 of $200.00 are paid, left for Pro: credit and debt are both cut."""
    who = a.customer()
    a.enable(who, a.team())
    invoice = who.invoices.get()
    receive_payment(invoice, amount=8000, reference="wire", actor=a.STAFF, now=day("2026-03-02"))
    a.enable(who, a.pro(), now=MARCH_16, timing=Timing.NOW)
    return who, Invoice.objects.get(pk=invoice.pk)


def test_what_came_off_an_open_invoice_is_owed_again():
    """L-47"""
    who, invoice = half_paid()
    assert invoice.due < 12000

    back(who)

    invoice.refresh_from_db()
    assert (invoice.due, stands(who)) == (12000, -12000)


def test_what_came_off_an_invoice_that_was_paid_since_is_charged_again():
    """L-47: the invoice is settled, so what the customer owes more stands on another one."""
    who, invoice = half_paid()
    paid = invoice.due
    receive_payment(invoice, amount=paid, reference="rest", actor=a.STAFF, now=MARCH_16)

    back(who)

    assert stands(who) == 8000 + paid - 20000


def test_an_upgrade_from_an_unpaid_plan_leaves_its_debt_as_it_was():
    """L-47"""
    who = a.customer()
    a.enable(who, a.pro())
    a.enable(who, a.team(), now=MARCH_16)

    back(who)

    assert (who.invoices.get(number="ACME-0001").due, stands(who)) == (5000, -5000)


def test_the_credit_note_of_an_upgrade_charges_the_former_plan_again_for_its_time():
    """The next change counts from the same lines as if nothing had been: half of $50.00 is left on 16 March."""
    who = a.on(a.pro())
    a.enable(who, a.team(), now=MARCH_16)
    a.pay_all(who, now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)

    note = who.invoices.filter(kind=Invoice.Kind.CREDIT_NOTE).get()
    assert list(note.lines.values_list("amount", flat=True)) == [-10323, 2581]
    free = a.preview(who, a.plan("zero", a.allowance(1)), now=MARCH_16, timing=Timing.NOW)
    assert free.total == -2581


def test_a_credit_note_of_staff_for_the_invoice_of_the_change_is_not_given_twice():
    """L-47"""
    who = a.on(a.pro())
    a.enable(who, a.team(), now=MARCH_16)
    a.pay_all(who, now=MARCH_16)
    invoice = who.invoices.latest("id")
    operation = last(who, "plan.enabled")
    said = {"settlement": "account_credit", "reason": "sorry", "actor": a.STAFF, "now": MARCH_16}
    credit_invoice(invoice, amount=3000, **said)

    take_back(operation, now=MARCH_20)

    assert account_credit(who) == 7742


@pytest.mark.parametrize("pays", [True, False])
def test_fees_in_arrears_for_the_time_before_the_change_stay_billed(pays: bool):
    """L-47: 15 of 31 days of $31.00 were billed by the change, the 16 since are at the end of the month."""
    who = a.on(a.plan("pro", a.in_arrears(31), a.allowance(100)))
    a.enable(who, a.plan("team", a.in_arrears(62), a.fee(93, key="support"), a.allowance(500)), now=MARCH_16)
    if pays:
        a.pay_all(who, now=MARCH_16)

    taken = seen(last(who, "plan.enabled"), now=MARCH_16)
    take_back(last(who, "plan.enabled"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert taken.stays[0].startswith("$15.00 for the time before the change")
    assert a.totals(who)[-1] == 1600
    assert who.invoices.filter(kind=Invoice.Kind.CREDIT_NOTE).get().total == -4800
