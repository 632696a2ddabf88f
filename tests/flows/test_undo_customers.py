"""Taking back what was done to a customer: details, notes, the deletion, taxes, corrections of money."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.customers import close_customer, erase_due, update_customer
from billing_admin.flows.details import add_note
from customers.models import Customer
from invoicing.models import Invoice
from invoicing.readings import account_credit
from invoicing.states import InvoiceState
from invoicing.tax import tax_customer
from invoicing.wallet import correct
from tests import builders as a
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db


def renamed(who: Customer, **fields: str) -> None:
    update_customer(who, **fields, actor=a.STAFF, now=MARCH_16)


def test_details_change_back_field_by_field():
    """A-51"""
    who = a.customer()
    renamed(who, email="ops@acme.example")
    renamed(who, name="Acme Inc", email="billing@acme.example")
    operation = last(who, "customer.updated")

    taken = changes(seen(operation, now=MARCH_16))
    take_back(operation, now=MARCH_16)

    who.refresh_from_db()
    assert taken["Name"] == ("Acme Inc", "Acme Robotics")
    assert (who.name, who.email) == ("Acme Robotics", "ops@acme.example")


def test_a_detail_that_was_changed_since_is_not_changed_back():
    who = a.customer()
    renamed(who, name="Acme Inc")
    first = last(who, "customer.updated")
    renamed(who, name="Acme AG")

    assert why(first, now=MARCH_16) == "The name was changed again since."


def test_a_customer_id_that_somebody_else_has_by_now_is_not_given_back():
    who = a.customer(customer_id="acme")
    renamed(who, customer_id="acme-2")
    a.customer("Other", customer_id="acme")

    assert why(last(who, "customer.updated"), now=MARCH_16) == "Another customer has the id acme by now."


def test_the_start_of_usage_moves_back():
    who = a.customer()
    update_customer(who, usage_started_at=day("2026-03-10"), actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "customer.updated"), now=MARCH_16)

    who.refresh_from_db()
    assert who.usage_started_at is None


def test_a_note_is_removed_and_can_be_had_again_with_its_author():
    who = a.customer()
    add_note(who, text="Call before noon", actor=a.STAFF, now=MARCH_16)

    removed = take_back(last(who, "note.added"), now=MARCH_16)
    assert not who.notes.exists()

    take_back(removed, now=MARCH_16)
    note = who.notes.get()
    assert (note.text, note.author, note.created_at) == ("Call before noon", "ops", MARCH_16)


def test_a_deletion_is_taken_back_within_30_days():
    """A-52"""
    who = a.on(a.free())
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)

    taken = seen(last(who, "customer.closed"), now=MARCH_16)
    made = take_back(last(who, "customer.closed"), now=MARCH_16 + timedelta(days=29))

    who.refresh_from_db()
    assert taken.stays == ("1 plan that ended with it stays ended.",)
    assert (made.verb, who.closed_at, who.erase_at) == ("customer.reopened", None, None)


def test_a_deletion_that_was_carried_out_is_not_taken_back():
    """A-52"""
    who = a.customer()
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)
    erase_due(now=MARCH_16 + timedelta(days=30))

    assert why(last(who, "customer.closed"), now=MARCH_16 + timedelta(days=31)) == (
        "The data of this customer is erased."
    )


def test_nothing_else_is_taken_back_on_a_closed_customer():
    who = a.customer()
    renamed(who, email="billing@acme.example")
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)

    assert "Take the deletion back first." in why(last(who, "customer.updated"), now=MARCH_16)


def test_taxes_of_a_customer_change_back_with_their_exemption():
    who, rate = a.customer(), a.tax_rate()
    tax_customer(who, [rate], actor=a.STAFF, now=MARCH_16)
    tax_customer(who, [], exempt_because="reverse charge", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "taxes.changed"), now=MARCH_16)

    assert [row.rate for row in who.tax_assignments.all()] == [rate]
    assert not who.tax_exemptions.filter(ended_at=None).exists()


def test_a_credit_note_is_voided_while_what_it_gave_is_there():
    who = a.on(a.pro())
    invoice = who.invoices.get()
    credit_invoice(invoice, amount=1000, settlement="account_credit", reason="outage", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "invoice.credited"), now=MARCH_16)

    assert account_credit(who) == 0
    assert who.invoices.get(kind=Invoice.Kind.CREDIT_NOTE).state == InvoiceState.VOID


def test_a_correction_of_a_wallet_is_corrected():
    who = a.filled(5)
    correct(who, Decimal(3), reason="counted wrong", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "wallet.corrected"), now=MARCH_16)

    assert a.wallet_balance(who) == 5
