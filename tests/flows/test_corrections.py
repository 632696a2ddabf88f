"""What follows from correcting an invoice: voids, new invoices in the place of old ones, write-offs."""

from datetime import timedelta

import pytest

from billing_admin.flows.corrections import (
    CannotReissue,
    CannotWriteOff,
    credit_invoice,
    mark_uncollectible,
    reissue,
    void_invoice,
)
from billing_admin.flows.dunning import collect_overdue
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import Activation
from catalog.models import Coupon
from customers.journal import ReasonRequired
from customers.models import AppliedCoupon, Subscription
from invoicing.models import BillingSettings, TaxRate
from invoicing.readings import account_credit
from invoicing.states import CannotMove
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    enable,
    fee,
    on,
    pass_time,
    plan,
    pro,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db
LATER = MARCH_1 + timedelta(hours=3)


def owing(*items):
    acme = customer()
    [invoice] = enable(acme, plan("own", *items) if items else pro()).invoices
    return acme, invoice


def gated():
    acme = customer()
    [invoice] = enable(acme, pro(), activation=Activation.AFTER_PAYMENT).invoices
    return acme, invoice


def overdue():
    """A customer whose renewal is past due."""
    acme = on(pro())
    pass_time(acme, to=APRIL_1, pays=False)
    collect_overdue(acme, now=APRIL_16)
    return acme, acme.invoices.newest()[0]


def again(invoice, *, reason="wrong tax", now=APRIL_1):
    made = reissue(invoice, reason=reason, actor=STAFF, now=now)
    invoice.refresh_from_db()
    return made


def test_an_invoice_is_issued_anew_in_the_place_of_a_void_one():
    """Design 6"""
    acme, invoice = owing()

    made = again(invoice)

    assert (invoice.state, invoice.void_reason) == ("void", "wrong tax")
    assert (made.number, made.state, made.total, made.replaces) == ("ACME-0002", "open", 5000, invoice)
    assert [(line.kind, line.amount, line.phase) for line in made.lines.all()] == [
        (line.kind, line.amount, line.phase) for line in invoice.lines.all()
    ]
    assert acme.operations.newest()[0].summary == "Voided ACME-0001 and issued ACME-0002 in its place"


def test_the_lines_of_the_void_invoice_say_that_they_were_replaced():
    """Design 6"""
    _, invoice = owing()

    made = again(invoice)

    assert [line.is_replaced for line in (*invoice.lines.all(), *made.lines.all())] == [True, False]


def test_a_new_invoice_has_the_taxes_of_its_day():
    """Design 6"""
    _, invoice = owing()
    TaxRate.objects.create(name="VAT", percent=20, is_default=True)

    assert again(invoice).total == 6000


def test_a_new_invoice_has_the_coupons_of_its_day():
    """Design 6"""
    acme, invoice = owing()
    coupon = Coupon.objects.create(name="Half", kind="percent", percent=50, duration="once")
    AppliedCoupon.objects.create(customer=acme, coupon=coupon, applied_at=MARCH_16, applied_by="ops")

    made = again(invoice)

    assert (made.total, again(made).total) == (2500, 2500)


def test_a_minimum_that_came_after_the_coupons_stays_what_it_is():
    """Design 6"""
    acme = on(plan("least", fee(10), commitment="100"))
    pass_time(acme, to=APRIL_1, pays=False)
    coupon = Coupon.objects.create(name="Half", kind="percent", percent=50, duration="forever")
    AppliedCoupon.objects.create(customer=acme, coupon=coupon, applied_at=APRIL_1, applied_by="ops")

    made = again(acme.invoices.newest()[0])

    assert {line.kind: line.discounted for line in made.lines.all()} == {"true_up": 0, "fee": 500}


def test_what_was_paid_goes_over_to_the_new_invoice():
    """Design 6"""
    acme, invoice = owing()
    collect(invoice, amount=2000, reference="bank", actor=STAFF, now=MARCH_16)

    made = again(invoice)

    assert (made.credit_applied, made.due, account_credit(acme)) == (2000, 3000, 0)


def test_a_period_that_was_billed_anew_is_not_billed_again():
    """Design 6"""
    acme = on(plan("metered", fee(50), allowance(10, price="1")))
    use(acme, 15, now=MARCH_16)
    pass_time(acme, to=APRIL_1, pays=False)
    again(acme.invoices.newest()[0])

    pass_time(acme, to=MAY_1, pays=False)

    assert [i.total for i in acme.invoices.order_by("id")] == [5000, 5500, 5500, 5000]


def test_a_new_first_invoice_opens_the_same_gate():
    """Y-24"""
    acme, invoice = gated()

    made = reissue(invoice, reason="wrong name", actor=STAFF, now=LATER)
    assert made.expires_at == invoice.expires_at
    assert not access(acme, now=LATER).has_access
    collect(made, amount=5000, reference="bank", actor=STAFF, now=LATER)

    assert access(acme, now=LATER).has_access


def test_what_was_credited_is_not_issued_anew():
    _, invoice = owing()
    credit_invoice(invoice, amount=100, settlement="offset", reason="kind", actor=STAFF, now=MARCH_16)

    with pytest.raises(CannotReissue, match="has been credited"):
        again(invoice)


def test_what_is_paid_is_not_issued_anew():
    acme = on(pro())

    with pytest.raises(CannotReissue, match="ACME-0001 is paid"):
        again(acme.invoices.get())


def test_issuing_anew_needs_a_reason():
    """Law 10"""
    _, invoice = owing()

    with pytest.raises(ReasonRequired):
        again(invoice, reason="")


# Void


def test_a_void_invoice_leaves_its_period_settled():
    """Design 6"""
    acme, invoice = owing()

    void_invoice(invoice, reason="goodwill", actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1, pays=False)

    assert [(i.state, i.total) for i in acme.invoices.order_by("id")] == [("void", 5000), ("open", 5000)]


def test_a_void_first_invoice_gives_up_what_waited_for_it():
    """Y-24"""
    acme, invoice = gated()

    void_invoice(invoice, reason="changed their mind", actor=STAFF, now=LATER)

    contract = acme.subscriptions.get()
    assert (contract.state, contract.end_reason) == ("ended", "voided")


def test_a_draft_can_be_voided():
    BillingSettings.objects.create(pk=1, grace_hours=48)
    acme = on(plan("metered", fee(50), allowance(10, price="1")))
    pass_time(acme, to=APRIL_1)

    voided = void_invoice(acme.invoices.drafts().get(), reason="goodwill", actor=STAFF, now=APRIL_1)

    assert (voided.state, voided.number) == ("void", None)


def test_a_contract_is_active_again_when_its_overdue_invoice_is_void():
    """Design 6"""
    acme, invoice = overdue()
    assert the_subscription(acme).state == "past_due"

    void_invoice(invoice, reason="goodwill", actor=STAFF, now=APRIL_16)

    assert the_subscription(acme).state == "active"


# Credit notes


def test_a_first_invoice_that_is_credited_in_full_opens_its_gate():
    """Y-51"""
    acme, invoice = gated()

    credit_invoice(invoice, whole=True, settlement="offset", reason="free start", actor=STAFF, now=LATER)

    assert access(acme, now=LATER).has_access


def test_a_contract_is_active_again_when_its_overdue_invoice_is_credited():
    """Y-51"""
    acme, invoice = overdue()

    credit_invoice(invoice, whole=True, settlement="offset", reason="goodwill", actor=STAFF, now=APRIL_16)

    assert the_subscription(acme).state == "active"


# Uncollectible


def test_an_invoice_can_be_given_up():
    """Design 6"""
    acme, invoice = overdue()

    given_up = mark_uncollectible(invoice, reason="insolvent", actor=STAFF, now=APRIL_16)

    assert (given_up.state, given_up.next_reminder_at, the_subscription(acme).state) == (
        "uncollectible",
        None,
        "active",
    )
    assert acme.operations.newest()[0].reason == "insolvent"


def test_what_was_given_up_can_still_be_paid():
    acme, invoice = overdue()
    mark_uncollectible(invoice, reason="insolvent", actor=STAFF, now=APRIL_16)

    collect(invoice, amount=5000, reference="bank", actor=STAFF, now=MAY_1)

    assert acme.invoices.get(pk=invoice.pk).state == "paid"


def test_giving_up_needs_a_reason_and_an_open_invoice():
    """Law 10"""
    _, invoice = owing()

    with pytest.raises(ReasonRequired):
        mark_uncollectible(invoice, reason=" ", actor=STAFF, now=MARCH_16)
    void_invoice(invoice, reason="wrong", actor=STAFF, now=MARCH_16)
    with pytest.raises(CannotMove):
        mark_uncollectible(invoice, reason="insolvent", actor=STAFF, now=MARCH_16)


def test_a_first_invoice_that_a_plan_waits_for_is_not_given_up():
    _, invoice = gated()

    with pytest.raises(CannotWriteOff, match="void it instead"):
        mark_uncollectible(invoice, reason="insolvent", actor=STAFF, now=LATER)


# Terms


def test_terms_that_change_leave_issued_invoices_alone():
    """Y-54"""
    acme, first = owing()
    Subscription.objects.filter(customer=acme).update(net_terms_days=30)

    pass_time(acme, to=APRIL_1, pays=False)

    first.refresh_from_db()
    assert [first.due_at, acme.invoices.newest()[0].due_at] == [MARCH_1, MAY_1]


def test_an_invoice_issued_anew_is_due_by_the_terms_of_its_day():
    """Y-54"""
    acme, invoice = owing()
    Subscription.objects.filter(customer=acme).update(net_terms_days=30)

    assert again(invoice).due_at == MAY_1
