"""Corrections: an event that is voided gives back what it took, and its window is counted anew."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing_admin.flows.void_use import void_use
from customers.journal import ReasonRequired
from customers.models import Customer
from entitlements.correct import CannotVoid, Voided
from entitlements.grant import grant
from entitlements.late import WindowBilled
from entitlements.ledger import ledger
from entitlements.models import Balance, UsageEvent
from entitlements.reset import reset_due
from invoicing.models import BillingSettings, Invoice
from tests import builders as a
from tests.entitlements.test_metered import metered, report, used
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def void(event: UsageEvent, *, reason: str = "counted twice", **more: Any) -> Voided:
    return void_use(event, **{"reason": reason, "actor": a.STAFF, "now": MARCH_16} | more)


def event_of(who: Customer, *, name: str = "") -> UsageEvent:
    found: UsageEvent = who.usage_events.filter(name=name).latest("id")
    return found


def sums(who: Customer) -> bool:
    """Whether each balance is the sum of its ledger."""
    return all(ledger(row)[-1].after == row.left for row in Balance.objects.filter(customer=who))


def test_a_voided_event_gives_back_to_each_balance_what_it_took():
    who = a.on(a.pro(credits=100))
    grant(who, a.feature(), Decimal(5), ends_at=APRIL_1 - HOUR, label="bonus", now=MARCH_1)
    a.use(who, 30)

    voided = void(event_of(who))

    assert set(Balance.objects.values_list("used", flat=True)) == {0}
    assert (voided.operation.verb, voided.operation.reason) == ("event.voided", "counted twice")
    assert event_of(who).voided_at == MARCH_16 and sums(who)


def test_an_event_is_voided_once():
    who = a.on(a.pro())
    a.use(who, 30)
    first = void(event_of(who))

    again = void(event_of(who))

    assert (used(who), again.operation) == (0, first.operation)


def test_a_void_takes_a_reason():
    who = a.on(a.pro())
    a.use(who, 30)

    with pytest.raises(ReasonRequired):
        void(event_of(who), reason=" ")


def test_a_voided_negative_event_counts_what_it_gave_back_again():
    who = a.on(a.pro())
    a.use(who, 30)
    a.use(who, -10)

    void(event_of(who))

    assert used(who) == 30 and sums(who)


def test_every_feature_that_counted_an_event_gives_it_back():
    metered("sum", by="tokens")
    metered("count", of="calls")
    who = a.on(a.plan("pro", a.allowance(100), a.allowance(2, of="calls")))
    report(who, properties={"tokens": 30})

    void(event_of(who, name="job"))

    assert (used(who), used(who, of="calls")) == (0, 0)


def test_the_largest_value_that_is_left_counts():
    metered("max")
    who = a.on(a.pro())
    for value in (5, 12, 8):
        report(who, value)

    void(who.usage_events.get(reported=12))
    report(who, 9, at=MARCH_16)

    assert used(who, at=MARCH_16) == 9 and sums(who)


def test_the_latest_value_that_is_left_counts():
    metered("latest")
    who = a.on(a.pro())
    report(who, 12)
    report(who, 3, at=MARCH_1 + HOUR)

    void(who.usage_events.get(reported=3))

    assert used(who, at=MARCH_16) == 12 and sums(who)


def test_a_value_counts_as_long_as_one_event_with_it_is_left():
    metered("unique_count", by="user")
    who = a.on(a.pro())
    for user in ("ada", "ada", "bob"):
        report(who, properties={"user": user})
    first, second = who.usage_events.filter(properties={"user": "ada"}).order_by("id")

    void(first)
    kept = used(who, at=MARCH_16)
    void(second)
    report(who, properties={"user": "ada"}, at=MARCH_16)

    assert (kept, used(who, at=MARCH_16)) == (2, 2) and sums(who)


def test_a_level_that_is_voided_was_never_held():
    metered("time_average")
    who = a.on(a.pro(), since=APRIL_1)
    report(who, 10, at=APRIL_1)
    report(who, 40, at=APRIL_1 + 3 * 24 * HOUR)

    void(who.usage_events.get(reported=40, name="job"), now=APRIL_16)

    assert used(who, at=APRIL_16) == 5 and sums(who)


def test_a_window_whose_only_level_is_voided_holds_nothing_whoever_counted_it_meanwhile():
    """A-38."""
    metered("time_average")
    who = a.on(a.pro(), since=APRIL_1)
    report(who, 7, at=APRIL_1)
    reset_due(now=APRIL_16)

    void(event_of(who, name="job"), now=APRIL_16)

    assert used(who, at=APRIL_16) == 0 and sums(who)


def test_a_level_voided_at_the_start_of_a_window_leaves_the_one_before_it():
    """A-38."""
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10, at=APRIL_1 - HOUR)
    report(who, 40, at=APRIL_1)

    void(who.usage_events.get(reported=40, name="job"), now=APRIL_16)

    assert used(who, at=APRIL_16) == 5 and sums(who)


def test_a_level_of_a_window_that_has_ended_stays():
    metered("time_average")
    who = a.on(a.pro())
    report(who, 10)

    with pytest.raises(CannotVoid):
        void(event_of(who, name="job"), now=APRIL_16)

    assert event_of(who, name="job").voided_at is None


def test_use_that_is_billed_cannot_be_voided():
    """Y-30"""
    who = a.on(a.plan("metered", a.allowance(10, price="1")))
    a.use(who, 30)
    a.pass_time(who, to=APRIL_16)

    with pytest.raises(WindowBilled):
        void(event_of(who), now=APRIL_16)


def test_a_void_while_the_invoice_is_open_draws_its_draft_up_anew():
    """Y-29"""
    settings = BillingSettings.present()
    settings.grace_hours = 72
    settings.save()
    who = a.on(a.plan("metered", a.fee(10), a.allowance(10, price="1")))
    a.use(who, 30)
    a.pass_time(who, to=APRIL_1 + HOUR)
    [draft] = Invoice.objects.drafts()
    before = draft.total

    void(event_of(who), now=APRIL_1 + 2 * HOUR)

    draft.refresh_from_db()
    assert (before, draft.total) == (3000, 1000)


def test_money_of_a_wallet_comes_back():
    who = a.paying_at_once(5)
    a.use(who, 4)

    void(event_of(who))

    assert a.wallet_balance(who) == 5


def test_a_seat_that_is_voided_is_credited():
    who = a.on(a.plan("team", a.fee(100), a.paid_seats(2)))
    a.use(who, 5, of="seats", now=MARCH_1)
    a.pay_all(who)

    void(event_of(who), now=MARCH_1)

    assert a.totals(who)[-1] < 0 and used(who, of="seats") == 0


def test_what_a_change_of_plan_carried_on_comes_back_where_it_is_now():
    who = a.customer()
    a.enable(who, a.assigned("one", a.lasting(100)))
    a.use(who, 30, of="tokens")
    event = event_of(who)
    a.enable(who, a.assigned("two", a.lasting(200)), now=MARCH_1 + HOUR)
    carried = used(who, of="tokens", at=MARCH_1 + HOUR)

    void(event)

    assert (carried, used(who, of="tokens", at=MARCH_16)) == (30, 0) and sums(who)
