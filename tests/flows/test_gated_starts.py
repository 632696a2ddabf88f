"""A first contract that begins on a day to come and whose access waits for the first payment."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from billing_admin.flows.cancel import cancel
from billing_admin.flows.coming import Asked, read_page
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.gate import approve, collect, expire
from billing_admin.flows.renew import catch_up
from billing_admin.flows.revenue import by_currency
from billing_admin.flows.undo import undo, why_not
from customers.models import Customer, Subscription
from deals.models import Deal
from deals.terms import AFTER_PAYMENT, DealCoupon, DealOverride, DealPhase
from invoicing.models import BillingSettings, CreditEntry, Invoice
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    default,
    fee,
    left,
    pass_time,
    pay_all,
    plan,
    tax_rate,
    totals,
)
from tests.flows.coupon_world import percent
from tests.flows.deal_world import deal_of, done, expected_of, planned, play, real, said, signed, units
from tests.instants import APRIL_1, MARCH_1, MAY_1, day

pytestmark = pytest.mark.django_db
AN_HOUR = timedelta(hours=1)
MORNING = APRIL_1 + 9 * AN_HOUR


def offered(who: Customer, **changes) -> Deal:
    """A year of Pro from 1 April, paid before it gives access."""
    what = plan("pro", fee(100), allowance(100, price="0.10"))
    terms = said(deal_of(None, what))
    return deal_of(who, what, replace(terms, **{"starts_at": APRIL_1, "activation": AFTER_PAYMENT, **changes}))


def agreed(who: Customer, **changes) -> Deal:
    return done(offered(who, **changes))


def arrived(who: Customer, *, at: datetime = APRIL_1) -> Invoice:
    """The first invoice, once the clock has passed the day."""
    catch_up(who, now=at)
    return who.invoices.get()


def contract(who: Customer) -> Subscription:
    """Whatever state it is in."""
    return who.subscriptions.get()


def pay(invoice: Invoice, *, now: datetime = MORNING) -> None:
    collect(invoice, amount=invoice.due, reference="bank", actor=STAFF, now=now)


def test_on_its_day_the_first_invoice_is_issued_and_access_waits_for_it():
    """Y-23, Y-24"""
    who = customer()
    agreed(who)

    invoice = arrived(who)

    assert (invoice.total, invoice.state, invoice.expires_at) == (10_000, "open", APRIL_1 + 24 * AN_HOUR)
    assert contract(who).state == "pending_payment"
    assert not access(who, now=MORNING).has_access


def test_its_day_alone_gives_no_access():
    """Y-24: a worker that is late is no gift."""
    who = customer()

    agreed(who)

    assert not access(who, now=MORNING).has_access


def test_a_default_product_serves_until_it_is_paid():
    """Y-24"""
    default(allowance(5))
    who = customer()

    agreed(who)
    arrived(who)

    assert left(who, now=MORNING) == 5


def test_the_payment_gives_access_for_the_period_that_began_on_the_day():
    """Y-25"""
    who = customer()
    agreed(who)

    pay(arrived(who))

    begun = contract(who)
    assert (begun.state, begun.period_starts_at, begun.period_ends_at) == ("active", APRIL_1, MAY_1)
    assert left(who, now=MORNING) == 100


def test_a_late_worker_leaves_the_whole_window_to_pay():
    """Y-28, law 7"""
    who = customer()
    agreed(who)

    invoice = arrived(who, at=day("2026-04-03"))

    assert invoice.expires_at == day("2026-04-04")
    pay(invoice, now=day("2026-04-03"))
    assert contract(who).period_starts_at == APRIL_1


def test_never_paid_it_ends_when_its_window_is_over():
    """Y-28"""
    who = customer()
    agreed(who)
    invoice = arrived(who)

    assert not expire(invoice, now=APRIL_1 + 23 * AN_HOUR)
    assert expire(invoice, now=APRIL_1 + 24 * AN_HOUR)

    pass_time(who, to=day("2026-06-02"))
    ended = contract(who)
    assert (ended.state, ended.end_reason) == ("ended", "payment_expired")
    assert [found.state for found in who.invoices.all()] == ["void"]


def test_paid_after_its_window_the_money_is_account_credit():
    """Design 4"""
    who = customer()
    agreed(who)
    invoice = arrived(who)
    expire(invoice, now=APRIL_1 + 24 * AN_HOUR)

    collect(invoice, amount=10_000, reference="late", actor=STAFF, now=day("2026-04-05"))

    assert CreditEntry.objects.get(customer=who).amount == 10_000
    assert not access(who, now=day("2026-04-05")).has_access


def test_paid_in_a_later_period_what_came_meanwhile_is_settled():
    """Y-25"""
    BillingSettings.objects.create(pk=1, payment_window_hours=24 * 60)
    who = customer()
    agreed(who)

    pay(arrived(who), now=day("2026-05-10"))

    assert (totals(who), contract(who).period_starts_at) == ([10_000, 10_000], MAY_1)


def test_a_first_invoice_that_takes_an_approval_is_a_draft_until_then():
    """Y-27"""
    BillingSettings.objects.create(pk=1, approve_first_invoices=True)
    who = customer()
    agreed(who)
    invoice = arrived(who)
    assert (invoice.state, invoice.awaits_approval) == ("draft", True)

    approve(invoice, actor=STAFF, now=MORNING)

    invoice.refresh_from_db()
    assert (invoice.state, invoice.expires_at) == ("open", MORNING + 24 * AN_HOUR)
    pay(invoice)
    assert contract(who).state == "active"


def test_account_credit_that_covers_everything_leaves_nothing_to_wait_for():
    """Y-25"""
    who = customer()
    note = Invoice.objects.create(customer=who, currency="USD", total=0)
    CreditEntry.objects.create(
        customer=who, currency="USD", kind=CreditEntry.Kind.OVERPAID, amount=10_000, invoice=note, at=MARCH_1
    )
    agreed(who)

    catch_up(who, now=APRIL_1)

    assert contract(who).state == "active"
    assert left(who, now=MORNING) == 100


@pytest.mark.parametrize("changes", [{"activation": "now"}, {"net_terms_days": 30}, {"trial_days": 14}])
def test_who_is_trusted_or_tries_it_first_has_access_on_the_day(changes):
    """Y-23"""
    who = customer()

    agreed(who, **changes)

    assert access(who, now=MORNING).has_access


def test_a_first_phase_that_costs_nothing_on_its_day_has_nothing_to_wait_for():
    """Y-26"""
    who = customer()

    agreed(who, phases=(DealPhase("Use", None, (allowance(100, price="0.10"),)),))

    assert access(who, now=MORNING).has_access


def test_a_worker_that_is_killed_after_the_invoice_leaves_nothing_half_done():
    """Law 6"""
    who = customer()
    agreed(who)
    with transaction.atomic():
        catch_up(who, now=APRIL_1)
        transaction.set_rollback(True)

    invoice = arrived(who)
    catch_up(who, now=MORNING)

    assert (who.invoices.get(), invoice.state) == (invoice, "open")


def test_its_calendar_is_what_is_billed():
    """Y-46: coupon, tax, two phases, use."""
    tax_rate("7.7", is_default=True)
    percent(15, name="Launch", duration="repeating", periods=6)
    who = customer()
    phases = tuple(DealPhase(f"Year {n}", 12, (fee(90 * n), allowance(100, price="0.10"))) for n in (1, 2))
    deal = offered(
        who,
        phases=phases,
        term_months=24,
        coupons=(DealCoupon("launch"),),
        overrides=(DealOverride("credits", Decimal(150), 0, 6),),
        use=units(credits=333),
        renews=False,
    )
    calendar = expected_of(deal, said(deal), now=MARCH_1)
    assert calendar.is_gated

    done(deal)
    play(who, said(deal), calendar.term)

    assert real(who) == planned(calendar)


def test_what_comes_beside_it_holds_from_its_payment_on():
    who = customer()
    agreed(who, overrides=(DealOverride("credits", Decimal(500), 0, 6),))

    pay(arrived(who))

    assert left(who, now=MORNING) == 500


def test_what_is_coming_says_that_access_waits():
    who = customer()
    agreed(who)

    [row] = read_page(Asked(MARCH_1, MAY_1)).rows

    assert (row.at, row.expected, row.why) == (APRIL_1, 10_000, "access waits for its payment")


def test_it_can_be_canceled_while_it_waits():
    who = customer()
    agreed(who)
    invoice = arrived(who)

    cancel(contract(who), reason="changed their mind", actor=STAFF, now=MORNING)

    invoice.refresh_from_db()
    assert (invoice.state, contract(who).state) == ("void", "ended")


def test_before_its_day_the_deal_can_be_taken_back():
    """Y-47"""
    who = customer()
    deal = agreed(who)

    undo(deal.operation, reason="the wrong customer", actor=STAFF, now=day("2026-03-10"))
    pass_time(who, to=day("2026-04-02"))

    deal.refresh_from_db()
    assert (deal.state, totals(who)) == ("accepted", [])


def test_while_it_waits_the_first_invoice_is_what_to_act_on():
    who = customer()
    deal = agreed(who)
    arrived(who)

    assert why_not(deal.operation, MORNING) == "It waits for its first payment. Void that invoice, or cancel the plan."


def test_executed_on_its_day_or_later_it_is_gated_at_once():
    """Y-23"""
    who = customer()
    deal = signed(offered(who))

    execute(deal, actor=STAFF, now=day("2026-04-02"))

    assert contract(who).state == "pending_payment"
    pay_all(who, now=day("2026-04-02"))
    assert contract(who).state == "active"


def test_executed_at_once_it_can_be_taken_back_while_it_waits():
    """Y-47"""
    who = customer()
    deal = execute(signed(offered(who)), actor=STAFF, now=day("2026-04-02"))

    undo(deal.operation, reason="the wrong customer", actor=STAFF, now=day("2026-04-02"))

    deal.refresh_from_db()
    assert (deal.state, contract(who).state, who.invoices.get().state) == ("accepted", "ended", "void")


def test_it_brings_nothing_from_its_day_until_it_is_paid_however_late_the_worker_is():
    """Law 7"""
    who, late = customer(), MORNING + AN_HOUR
    agreed(who)
    without_a_worker = by_currency(MORNING)

    invoice = arrived(who, at=MORNING)
    waiting = by_currency(late)
    pay(invoice, now=late)

    assert (without_a_worker, waiting, by_currency(late)) == ({}, {}, {"USD": 10_000})
