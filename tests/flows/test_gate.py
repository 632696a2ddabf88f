"""The first invoice: what is given before and after it is paid."""

from datetime import timedelta

import pytest

from billing_admin.flows.enable_plan import addable_plans
from billing_admin.flows.gate import NothingToActivate, activate_now, approve, collect, expire
from billing_admin.flows.plan_change import Activation
from catalog.models import Plan
from customers.journal import ReasonRequired
from entitlements.models import Balance
from invoicing.issue import enter_credit
from invoicing.models import BillingSettings, CreditEntry, Invoice
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    default,
    enable,
    fee,
    free,
    left,
    new_version,
    pass_time,
    plan,
    preview,
    pro,
    team,
    the_subscription,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db
GATED = {"activation": Activation.AFTER_PAYMENT}
LATER = MARCH_1 + timedelta(hours=5)


def pay(invoice, *, now=LATER):
    collect(invoice, amount=invoice.due, reference="bank", actor=STAFF, now=now)


def test_a_first_plan_with_money_due_waits_for_its_payment():
    """Y-23, Y-24"""
    acme = customer()

    enabled = enable(acme, pro(price=100), **GATED)

    [invoice] = enabled.invoices
    assert (invoice.total, invoice.state, enabled.subscription.state) == (10000, "open", "pending_payment")
    assert invoice.expires_at == MARCH_1 + timedelta(hours=24)
    assert not access(acme).has_access


def test_a_default_product_serves_until_the_payment():
    """Y-24"""
    default(allowance(5))
    acme = customer()

    enable(acme, pro(), **GATED)

    assert left(acme) == 5


def test_the_payment_gives_access_for_the_period_that_began_at_creation():
    """Y-25"""
    acme = customer()
    enabled = enable(acme, pro(), **GATED)

    pay(enabled.invoices[0])

    subscription = the_subscription(acme)
    assert (subscription.state, subscription.period_ends_at) == ("active", APRIL_1)
    assert left(acme, now=LATER) == 100


def test_a_payment_that_is_reported_again_activates_nothing_twice():
    """Y-25"""
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices
    pay(invoice)
    use(acme, 30, now=LATER)

    with pytest.raises(Exception, match="nothing to pay"):
        collect(invoice, amount=5000, reference="bank", actor=STAFF, now=LATER)

    assert (left(acme, now=LATER), Balance.objects.filter(customer=acme).count()) == (70, 1)
    assert acme.operations.filter(verb="plan.activated").count() == 1


def test_part_of_the_money_opens_nothing():
    """Y-24"""
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices

    collect(invoice, amount=4999, reference="bank", actor=STAFF, now=LATER)

    assert not access(acme, now=LATER).has_access


def test_an_unpaid_first_invoice_is_void_after_its_window():
    """Y-28"""
    acme = customer()
    enabled = enable(acme, pro(), **GATED)

    assert not expire(enabled.invoices[0], now=MARCH_1 + timedelta(hours=23))
    assert expire(enabled.invoices[0], now=MARCH_1 + timedelta(hours=24))

    enabled.subscription.refresh_from_db()
    assert (enabled.subscription.state, enabled.subscription.end_reason) == ("ended", "payment_expired")
    assert Invoice.objects.get().state == "void"
    assert enable(acme, Plan.objects.get(key="pro"), **GATED).subscription.pk != enabled.subscription.pk


def test_money_for_a_void_first_invoice_becomes_account_credit():
    """Design 4"""
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices
    expire(invoice, now=MARCH_1 + timedelta(hours=24))

    collect(Invoice.objects.get(), amount=5000, reference="late", actor=STAFF, now=MARCH_16)

    assert CreditEntry.objects.get(customer=acme).amount == 5000
    assert acme.operations.filter(verb="payment.late", effects__alert=True).exists()


def test_only_use_is_priced_so_nothing_is_due_and_the_plan_is_active():
    """Y-26"""
    acme = customer()

    enabled = enable(acme, plan("metered", allowance(0, price="0.10")), **GATED)

    assert [(i.total, i.state) for i in enabled.invoices] == [(0, "paid")]
    assert enabled.subscription.state == "active"


def test_a_plan_without_prices_never_invoices():
    """Design 6"""
    assert not enable(customer(), free(), **GATED).invoices


def test_account_credit_that_covers_everything_opens_the_gate():
    """Y-25"""
    acme = customer()
    note = Invoice.objects.create(customer=acme, currency="USD", total=0)
    enter_credit(acme, CreditEntry.Kind.OVERPAID, 5000, invoice=note, now=MARCH_1)

    enabled = enable(acme, pro(), **GATED)

    assert (enabled.subscription.state, enabled.invoices[0].state) == ("active", "paid")


def test_with_approval_the_first_invoice_is_a_draft_until_somebody_approves():
    """Y-27"""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices
    assert (invoice.state, invoice.awaits_approval, invoice.number) == ("draft", True, None)

    approved = approve(invoice, actor=STAFF, now=MARCH_16)

    assert (approved.state, approved.expires_at) == ("open", MARCH_16 + timedelta(hours=24))
    pay(approved, now=MARCH_16)
    assert left(acme, now=MARCH_16) == 100


def test_staff_activate_before_the_payment_only_with_a_reason():
    """Y-23"""
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices

    with pytest.raises(ReasonRequired):
        activate_now(invoice, reason=" ", actor=STAFF, now=LATER)
    activate_now(invoice, reason="Signed order form", actor=STAFF, now=LATER)

    assert left(acme, now=LATER) == 100
    invoice.refresh_from_db()
    assert (invoice.state, invoice.expires_at) == ("open", None)
    with pytest.raises(NothingToActivate):
        activate_now(invoice, reason="Again", actor=STAFF, now=LATER)


def test_net_terms_are_never_gated():
    """Design 6"""
    BillingSettings.objects.create(pk=1, net_terms_days=30)

    enabled = enable(customer(), pro(), **GATED)

    assert (enabled.subscription.state, enabled.invoices[0].due_at) == ("active", MARCH_1 + timedelta(days=30))


def test_billing_version_0_knows_no_gate():
    """Y-13"""
    legacy = plan("legacy", fee(20))
    legacy.billing_version = 0
    legacy.save()

    assert enable(customer(), legacy, **GATED).subscription.state == "active"


def test_the_free_plan_serves_until_the_paid_one_is_paid():
    """A-22, design 4"""
    acme = customer()
    enable(acme, free(credits=10))
    use(acme, 4)

    enabled = enable(acme, pro(), now=MARCH_16, **GATED)

    assert enabled.change.is_gated
    assert left(acme, now=MARCH_16) == 6
    pay(enabled.invoices[0], now=MARCH_16 + timedelta(hours=2))
    assert left(acme, now=MARCH_16 + timedelta(hours=2)) == 100
    subscription = the_subscription(acme)
    assert subscription.period_ends_at == MARCH_16.replace(month=4)
    pass_time(acme, to=MARCH_16.replace(month=4))
    assert [i.total for i in acme.invoices.order_by("id")] == [5000, 5000]


def test_an_upgrade_of_a_paid_plan_is_not_gated():
    """Design 6"""
    acme = customer()
    enable(acme, pro())

    assert not preview(acme, team(), now=MARCH_16, **GATED).is_gated


def test_a_newer_act_voids_what_still_waits():
    """Design 4"""
    acme = customer()
    first = enable(acme, pro(), **GATED)

    enable(acme, team(), now=LATER, **GATED)

    first.subscription.refresh_from_db()
    assert (first.subscription.state, first.subscription.end_reason) == ("ended", "replaced")
    assert list(acme.invoices.order_by("id").values_list("state", flat=True)) == ["void", "open"]


def test_what_was_enabled_is_what_starts_although_the_plan_moved_on():
    """Y-45"""
    acme = customer()
    bought = pro(credits=100)
    [invoice] = enable(acme, bought, **GATED).invoices
    new_version(bought, fee(50), allowance(10))

    pay(invoice)

    assert left(acme, now=LATER) == 100


def test_a_plan_that_waits_for_its_payment_is_changed_and_not_added():
    """Y-36"""
    acme, made = customer(), pro()
    enable(acme, made, **GATED)

    assert made not in addable_plans(acme)


def test_a_first_invoice_that_nobody_approves_in_time_is_void_without_a_number():
    """Y-27, Y-28"""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    acme = customer()
    enable(acme, pro(), **GATED)
    draft = acme.invoices.get()

    assert expire(draft, now=MARCH_16)

    draft.refresh_from_db()
    assert (draft.state, draft.number) == ("void", None)


def test_a_period_that_ended_before_the_payment_is_settled_after_it():
    """Y-25"""
    BillingSettings.objects.create(pk=1, payment_window_hours=24 * 60)
    acme = customer()
    [invoice] = enable(acme, pro(), **GATED).invoices

    pay(invoice, now=day("2026-04-20"))
    pass_time(acme, to=day("2026-04-20"))

    assert [i.total for i in acme.invoices.order_by("id")] == [5000, 5000]
    assert the_subscription(acme).period_ends_at == day("2026-05-01")
