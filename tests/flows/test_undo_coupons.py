"""Taking back coupons and money that comes off invoices."""

from decimal import Decimal

import pytest

from billing_admin.flows.rewards import give_invoice_credit, remove, void_invoice_credit
from catalog.models import Coupon
from tests import builders as a
from tests.flows import coupon_world as c
from tests.flows.undo_world import changes, last, seen, take_back, why
from tests.instants import APRIL_1, JUNE_1, MARCH_16, MAY_1

pytestmark = pytest.mark.django_db


def test_an_applied_coupon_is_removed_and_counts_as_redeemed():
    who = a.on(a.pro())
    applied = c.apply(who, c.percent(20), now=MARCH_16)
    operation = last(who, "coupon.applied")

    taken = seen(operation, now=MARCH_16)
    take_back(operation, now=MARCH_16)

    applied.refresh_from_db()
    assert changes(taken)["Next invoice of API"] == ("$40.00 on 1 Apr 2026", "$50.00 on 1 Apr 2026")
    assert taken.stays == ("It still counts as redeemed.",)
    assert applied.removed_at == MARCH_16


def test_what_invoices_took_of_a_coupon_stays():
    who = a.on(a.pro())
    c.apply(who, c.percent(20), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)
    operation = last(who, "coupon.applied")

    taken = seen(operation, now=APRIL_1)
    take_back(operation, now=APRIL_1)
    a.pass_time(who, to=MAY_1)

    assert taken.stays[0] == "$10.00 came off ACME-0002; that stays."
    assert a.totals(who)[-2:] == [4000, 5000]


def test_a_removed_coupon_holds_again_with_what_is_left_of_it():
    who = a.on(a.pro())
    twice = c.percent(20, duration=Coupon.Duration.REPEATING, periods=2)
    applied = c.apply(who, twice, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)
    remove(applied, actor=a.STAFF, now=APRIL_1)

    take_back(last(who, "coupon.removed"), now=APRIL_1)
    a.pass_time(who, to=JUNE_1)

    assert a.totals(who)[-3:] == [4000, 4000, 5000]


def test_a_removed_coupon_stays_away_where_the_customer_has_it_again():
    who = a.on(a.pro())
    what = c.percent(20)
    remove(c.apply(who, what, now=MARCH_16), actor=a.STAFF, now=MARCH_16)
    c.apply(who, what, now=MARCH_16)

    assert "again" in why(last(who, "coupon.removed"), now=MARCH_16)


def test_units_of_a_removed_coupon_come_back_as_far_as_they_were_left():
    who = a.on(a.pro())
    what = c.coupon(Coupon.Kind.FEATURE_GRANT, feature=a.feature("credits"), units=Decimal(40))
    applied = c.apply(who, what, now=MARCH_16)
    a.use(who, 110, now=MARCH_16)
    remove(applied, actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "coupon.removed"), now=MARCH_16)

    assert a.access(who, now=MARCH_16).remaining == 30


def test_a_free_product_ends_with_its_coupon_and_comes_back_with_it():
    who = a.on(a.pro())
    partner = a.assigned()
    applied = c.apply(who, c.coupon(Coupon.Kind.FREE_PRODUCT, free_plan=partner), now=MARCH_16)
    take_back(last(who, "coupon.applied"), now=MARCH_16)
    assert a.left(who, now=MARCH_16) == 100

    take_back(last(who, "coupon.removed"), now=MARCH_16)

    applied.refresh_from_db()
    assert (a.left(who, now=MARCH_16), applied.subscription.is_live) == (1100, True)


def test_an_invoice_credit_is_taken_back_as_far_as_it_is_left():
    who = a.on(a.pro())
    give_invoice_credit(who, amount=7000, currency="USD", label="Sorry", reason="outage", actor=a.STAFF, now=MARCH_16)
    a.pass_time(who, to=APRIL_1)
    operation = last(who, "invoice_credit.given")

    taken = seen(operation, now=APRIL_1)
    take_back(operation, now=APRIL_1)
    a.pass_time(who, to=MAY_1)

    assert (taken.sentence, taken.stays) == ("Takes back $20.00 of Sorry.", ("$50.00 came off invoices; that stays.",))
    assert a.totals(who)[-2:] == [0, 5000]


def test_an_invoice_credit_that_was_taken_back_is_given_again():
    who = a.on(a.pro())
    credit = give_invoice_credit(
        who, amount=2000, currency="USD", label="Sorry", reason="outage", actor=a.STAFF, now=MARCH_16
    )
    void_invoice_credit(credit, reason="a slip", actor=a.STAFF, now=MARCH_16)

    take_back(last(who, "invoice_credit.voided"), now=MARCH_16)
    a.pass_time(who, to=APRIL_1)

    assert a.totals(who)[-1] == 3000
