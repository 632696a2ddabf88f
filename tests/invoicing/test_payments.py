import pytest

from customers.journal import ReasonRequired
from invoicing.issue import BadPayment, receive_payment, void
from invoicing.models import Invoice, InvoiceLine
from invoicing.readings import account_credit
from invoicing.states import NEXT, CannotMove, InvoiceState
from tests.builders import STAFF, customer, enable, on, pass_time, pro
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


def owing(amount=50):
    acme = customer()
    [invoice] = enable(acme, pro(amount)).invoices
    return acme, invoice


def pay(invoice, amount, *, reference="bank 1", now=MARCH_16):
    payment = receive_payment(invoice, amount=amount, reference=reference, actor=STAFF, now=now)
    invoice.refresh_from_db()
    return payment


def cancel(invoice, reason="wrong address"):
    void(invoice, reason=reason, actor=STAFF, now=MARCH_16)
    invoice.refresh_from_db()


def test_an_invoice_is_paid_when_its_payments_reach_what_is_due():
    """Design 6"""
    _, invoice = owing()
    pay(invoice, 2000)
    assert (invoice.state, invoice.due) == ("open", 3000)

    pay(invoice, 3000)

    assert (invoice.state, invoice.due, invoice.paid_at) == ("paid", 0, MARCH_16)


def test_what_is_paid_too_much_becomes_account_credit_that_the_next_invoice_uses():
    """Design 6"""
    acme, invoice = owing()

    pay(invoice, 6000)
    assert account_credit(acme) == 1000
    pass_time(acme, to=APRIL_1, pays=False)

    renewal = acme.invoices.get(number="ACME-0002")
    assert (renewal.total, renewal.credit_applied, renewal.due, account_credit(acme)) == (5000, 1000, 4000, 0)


def test_an_invoice_covered_by_account_credit_is_paid_at_once():
    """Design 6"""
    acme, invoice = owing()
    pay(invoice, 20000)

    pass_time(acme, to=APRIL_1, pays=False)

    assert (acme.invoices.get(number="ACME-0002").state, account_credit(acme)) == ("paid", 10000)


@pytest.mark.parametrize(("amount", "reference"), [(0, "bank"), (-5, "bank"), (100, "  ")])
def test_a_payment_has_an_amount_and_a_reference(amount, reference):
    _, invoice = owing()

    with pytest.raises(BadPayment):
        pay(invoice, amount, reference=reference)


def test_a_paid_invoice_takes_no_payment():
    _, invoice = owing()
    pay(invoice, 5000)

    with pytest.raises(BadPayment):
        pay(invoice, 1)


def test_a_credit_note_takes_no_payment():
    _, invoice = owing()
    Invoice.objects.filter(pk=invoice.pk).update(kind="credit_note", subtotal=0, total=0)

    with pytest.raises(BadPayment):
        pay(invoice, 1)


def test_an_invoice_that_was_written_off_can_still_be_paid():
    _, invoice = owing()
    Invoice.objects.filter(pk=invoice.pk).update(state=InvoiceState.UNCOLLECTIBLE)

    pay(invoice, 5000)

    assert invoice.state == "paid"


def test_a_payment_stands_in_the_journal():
    """Law 10"""
    acme, invoice = owing()

    pay(invoice, 2000)

    assert acme.operations.newest().first().summary == "$20.00 received for ACME-0001"


def test_a_voided_invoice_is_not_owed_and_gives_back_what_came_in():
    """Design 6"""
    acme, invoice = owing()
    pay(invoice, 2000)

    cancel(invoice)

    assert (invoice.state, invoice.due, invoice.void_reason, account_credit(acme)) == (
        "void",
        0,
        "wrong address",
        2000,
    )


def test_account_credit_comes_back_from_a_voided_invoice():
    """Design 6"""
    acme, invoice = owing()
    pay(invoice, 6000)
    pass_time(acme, to=APRIL_1, pays=False)

    cancel(acme.invoices.get(number="ACME-0002"))

    assert account_credit(acme) == 1000


def test_a_period_whose_invoice_was_voided_stays_settled():
    """Design 6"""
    acme = on(pro(50))
    pass_time(acme, to=APRIL_1, pays=False)
    cancel(acme.invoices.unpaid().get())

    pass_time(acme, to=APRIL_1, pays=False)

    assert acme.invoices.count() == 2


def test_voiding_needs_a_reason():
    """Law 10"""
    _, invoice = owing()

    with pytest.raises(ReasonRequired):
        cancel(invoice, reason="")


@pytest.mark.parametrize("state", [InvoiceState.PAID, InvoiceState.VOID])
def test_what_is_settled_cannot_be_voided(state):
    """Law 11"""
    _, invoice = owing()
    Invoice.objects.filter(pk=invoice.pk).update(state=state)

    with pytest.raises(CannotMove):
        cancel(invoice)


def test_paid_and_void_are_the_end():
    assert {state for state in InvoiceState if state not in NEXT} == {InvoiceState.PAID, InvoiceState.VOID}


def test_an_invoice_carries_what_it_covers():
    _, invoice = owing()
    [line] = InvoiceLine.objects.filter(invoice=invoice)

    assert (invoice.covers_from, invoice.covers_until) == (MARCH_1, APRIL_1)
    assert (line.description, line.derivation["sum"]) == ("Pro", "Pro, whole period: $50.00 = $50.00")
