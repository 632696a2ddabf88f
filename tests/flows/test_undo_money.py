"""A change of plan taken back, however its invoice was settled: nobody gains or loses a cent by it."""

from datetime import timedelta
from typing import Any

import pytest

from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.rewards import apply_coupon
from billing_admin.flows.undo import undo
from billing_admin.undoing import CannotTakeBack
from customers.journal import Actor
from customers.models import Customer, Subscription
from invoicing.issue import receive_payment
from invoicing.models import Invoice
from invoicing.readings import account_credit
from tests import builders as a
from tests.approving import coupon, person, rule
from tests.flows.undo_world import last, take_back, why
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db


def upgrade(who: Customer) -> Invoice:
    a.enable(who, a.team(), now=MARCH_16)
    made: Invoice = who.invoices.filter(kind=Invoice.Kind.INVOICE).latest("id")
    return made


def stands(who: Customer) -> int:
    """What the customer has with us, in cents: credit less debts."""
    owed = sum(invoice.due for invoice in who.invoices.unpaid())
    return int(account_credit(who) - owed)


def back(who: Customer) -> None:
    take_back(last(who, "plan.enabled"), now=MARCH_16)


def pay(invoice: Invoice, amount: int | None = None) -> int:
    paid = invoice.due if amount is None else amount
    receive_payment(invoice, amount=paid, reference="wire", actor=a.STAFF, now=MARCH_16)
    return paid


def credited(invoice: Invoice, amount: int, settlement: str = "account_credit") -> None:
    said: dict[str, Any] = {"reason": "sorry", "reference": "wire", "actor": a.STAFF, "now": MARCH_16}
    credit_invoice(invoice, amount=amount, settlement=settlement, **said)


def test_what_was_paid_of_an_invoice_in_part_becomes_account_credit():
    who = a.on(a.pro())
    invoice = upgrade(who)
    pay(invoice, 1000)

    back(who)

    assert (stands(who), account_credit(who)) == (1000, 1000)


def test_account_credit_that_paid_for_it_is_there_again():
    who = a.on(a.pro())
    credited(who.invoices.get(), 3000)
    before = stands(who)
    invoice = upgrade(who)
    assert invoice.credit_applied == 3000

    back(who)

    assert stands(who) == before


def test_account_credit_and_money_that_paid_for_it_are_both_credit():
    who = a.on(a.pro())
    credited(who.invoices.get(), 3000)
    before = stands(who)
    paid = pay(upgrade(who))

    back(who)

    assert stands(who) == before + paid


@pytest.mark.parametrize("pays", [True, False])
def test_taxes_and_coupons_of_it_come_back_too(pays: bool):
    who = a.on(a.pro())
    a.tax_rate("19", is_default=True)
    apply_coupon(who, coupon("half", percent="50"), actor=a.STAFF, now=MARCH_16)
    invoice = upgrade(who)
    paid = pay(invoice) if pays else 0

    back(who)

    assert stands(who) == paid


@pytest.mark.parametrize("settlement", ["account_credit", "refund"])
def test_what_a_credit_note_gave_already_is_not_given_twice(settlement: str):
    who = a.on(a.pro())
    invoice = upgrade(who)
    paid = pay(invoice)
    credited(invoice, 2000, settlement)

    back(who)

    assert stands(who) == paid - (2000 if settlement == "refund" else 0)


def test_an_open_invoice_that_was_credited_in_part_owes_nothing():
    who = a.on(a.pro())
    invoice = upgrade(who)
    credited(invoice, 2000, "offset")

    back(who)

    assert stands(who) == 0


def test_giving_money_back_takes_the_second_person_that_a_credit_note_takes():
    """A-53: nothing of it is done, and the plan stays."""
    who = a.on(a.pro())
    pay(upgrade(who))
    rule("invoice.credited", measure="amount", above="20")

    with pytest.raises(CannotTakeBack, match="needs approval by Finance"):
        undo(last(who, "plan.enabled"), reason="a mistake", actor=Actor.of(person("Ops")), now=MARCH_16)

    assert (a.the_subscription(who).phase_at(MARCH_16 + timedelta(days=1)).version.plan.key, stands(who)) == ("team", 0)


def test_a_change_of_a_parked_contract_waits_for_whoever_looks_at_it():
    """A parked contract is not brought up to date, so nothing can be put back as it was."""
    who = a.on(a.pro())
    upgrade(who)
    Subscription.objects.update(parked_at=MARCH_16, parked_because="Its card was refused.")

    assert why(last(who, "plan.enabled"), now=MARCH_16) == "The subscription is parked: Its card was refused."
