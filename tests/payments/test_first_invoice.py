"""The gate with Stripe: what a first invoice opens when it is paid there, and what becomes of it when it is not."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from billing_admin.flows import stripe_collect
from billing_admin.flows.dunning import to_collect
from billing_admin.flows.gate import approve, expire
from billing_admin.flows.plan_change import Activation
from customers.models import Customer, Subscription
from entitlements.models import Balance
from invoicing.models import BillingSettings, CreditEntry, Invoice
from payments.models import StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1
from tests.payments import fault_world as f
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
DEBIT = "DE89370400440532013000"
TOO_LATE = MARCH_1 + timedelta(hours=24)


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)


def of(invoice: Invoice) -> Subscription:
    return Subscription.objects.get(pk=invoice.subscription_id)


def test_a_plan_that_waits_for_its_payment_can_be_paid_on_stripes_page(double: "Double"):
    """Y-23, Y-24."""
    invoice = world.owing()

    row = world.collect(invoice)

    assert (invoice.total, invoice.state, of(invoice).state) == (5000, "open", "pending_payment")
    assert row.hosted_url.startswith(double.url)
    assert not a.access(invoice.customer).allowed


def test_what_is_paid_on_stripes_page_begins_once_however_often_it_is_told():
    """Y-25."""
    invoice = world.owing()
    f.pay_on_the_page(world.collect(invoice))

    for _ in range(3):
        stripe_collect.refresh(world.row_of(invoice), MARCH_1)

    assert of(invoice).state == "active"
    assert a.left(invoice.customer) == 100
    assert invoice.customer.operations.filter(verb="plan.activated").count() == 1
    assert invoice.customer.operations.filter(verb="payment.received").count() == 1
    assert Balance.objects.filter(customer=invoice.customer).count() == 1


def test_what_costs_nothing_never_comes_to_stripe(double: "Double"):
    """Y-26."""
    who = a.customer()
    a.enable(who, a.plan("calls", a.allowance(0, of="calls", price="0.01")), activation=Activation.AFTER_PAYMENT)

    assert stripe_collect.enqueue(MARCH_1) == 0
    assert a.the_subscription(who).state == "active"
    assert double.objects("invoice") == []


def test_a_first_invoice_comes_to_stripe_when_it_is_approved(double: "Double"):
    """Y-27."""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    invoice = world.owing()
    stripe_collect.enqueue(MARCH_1)
    assert not StripeInvoice.objects.exists()

    approve(invoice, actor=a.STAFF, now=MARCH_1)

    assert world.collect(invoice).status == "open"


def test_a_first_invoice_that_nobody_paid_is_void_here_and_there(double: "Double"):
    """Y-28."""
    invoice = world.owing()
    there = world.collect(invoice).stripe_id

    assert expire(invoice, now=TOO_LATE)
    f.until_done(double, TOO_LATE)

    assert (of(invoice).state, of(invoice).end_reason) == ("ended", "payment_expired")
    assert there is not None and double.object(there)["status"] == "void"


def test_money_that_came_as_the_window_ended_is_account_credit_and_somebody_is_told(double: "Double"):
    """Y-28: the customer paid on Stripe's page, and before we heard of it the invoice was void."""
    invoice = world.owing()
    f.pay_on_the_page(world.collect(invoice))

    expire(invoice, now=TOO_LATE)
    f.until_done(double, TOO_LATE)

    assert of(invoice).state == "ended"
    assert late_money(invoice.customer) == [5000]
    assert len(double.ledger()) == 1


def test_a_debit_that_is_under_way_as_the_window_ends_is_waited_for(double: "Double"):
    """Y-28: nobody gives up a plan while its money is on its way."""
    invoice = world.owing(card=DEBIT, double=double)
    row = world.collect(invoice)
    assert row.state == "processing"
    assert not expire(invoice, now=TOO_LATE)

    double.settle_processing(row.payment_intent)
    f.until_done(double, TOO_LATE)
    stripe_collect.refresh(row, TOO_LATE)

    assert of(invoice).state == "active"
    assert not CreditEntry.objects.filter(customer=invoice.customer).exists()


def test_a_debit_that_bounces_after_the_window_ends_the_plan(double: "Double"):
    """Y-28."""
    invoice = world.owing(card=DEBIT, double=double)
    row = world.collect(invoice)

    double.settle_processing(row.payment_intent, ok=False)
    stripe_collect.refresh(row, TOO_LATE)

    assert expire(invoice, now=TOO_LATE)
    assert (of(invoice).state, of(invoice).end_reason) == ("ended", "payment_expired")


def test_nobody_is_reminded_while_a_debit_is_under_way(double: "Double"):
    invoice = world.owing(card=DEBIT, double=double)
    Invoice.objects.filter(pk=invoice.pk).update(expires_at=None)
    row = world.collect(invoice)
    later = MARCH_1 + timedelta(days=8)

    waiting = to_collect(later).exists()
    double.settle_processing(row.payment_intent, ok=False)
    stripe_collect.refresh(row, later)

    assert (waiting, to_collect(later).exists()) == (False, True)


def late_money(who: Customer) -> list[int]:
    """What came too late, once somebody was told of it."""
    told = who.operations.get(verb="payment.late")
    assert told.effects["alert"] is True
    return list(CreditEntry.objects.filter(customer=who, kind="late").values_list("amount", flat=True))
