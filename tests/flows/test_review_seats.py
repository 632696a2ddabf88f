"""Seats through what comes between: late workers, drafts, changes of plan, coupons, special prices, part payments."""

import pytest

from billing_admin.flows.gate import collect
from invoicing.models import BillingSettings, InvoiceLine
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    on,
    paid_seats,
    pass_time,
    pay_all,
    plan,
    special_price,
    totals,
    use,
)
from tests.flows.coupon_world import apply, fixed, percent
from tests.instants import APRIL_1, APRIL_16, day

pytestmark = pytest.mark.django_db
NOON_16 = day("2026-03-16T12:00")  # half of a month of 31 days
APRIL_2 = day("2026-04-02")


def seated(seats=4, *, included=2, items=()):
    """A customer whose seats of March are paid."""
    acme = on(plan("team", fee(50), paid_seats(included), *items))
    use(acme, seats, of="seats")
    pay_all(acme)
    return acme


def test_a_seat_that_comes_before_a_late_renewal_is_not_charged_twice():
    """Law 7"""
    acme = seated()

    use(acme, 1, of="seats", now=APRIL_2)
    pass_time(acme, to=APRIL_2)

    assert totals(acme) == [5000, 2000, 7000, 967]


def test_seats_on_a_draft_are_not_charged_again_with_the_next_seat():
    """Design 4"""
    BillingSettings.objects.update_or_create(pk=1, defaults={"grace_hours": 48})
    acme = seated(items=[allowance(10, price="1")])
    pass_time(acme, to=APRIL_1)

    use(acme, 1, of="seats", now=APRIL_2)

    assert totals(acme) == [5000, 2000, 7000, 967]


def test_seats_that_a_change_of_plan_gave_back_no_longer_count_as_paid():
    """A-22"""
    acme = seated()
    enable(acme, plan("business", fee(100), paid_seats(2)), now=NOON_16)
    pay_all(acme, now=NOON_16)

    use(acme, 1, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 2000, 2500, 500]


def test_seats_that_a_coupon_paid_whole_are_not_charged_with_the_next_one():
    """A-41"""
    acme = on(plan("team", fee(50), paid_seats(0)))
    apply(acme, percent(100, duration="once"))
    use(acme, 2, of="seats")

    use(acme, 1, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 0, 500]


def test_a_discounted_seat_comes_back_at_the_price_really_paid():
    """Design 4"""
    acme = on(plan("team", fee(50), paid_seats(0)))
    apply(acme, percent(50))
    use(acme, 4, of="seats")
    pay_all(acme)

    use(acme, -2, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 2000, -500]


def test_one_seat_after_the_other_shares_an_amount_off_like_both_at_once():
    """A-41"""
    acme = customer()
    enable(acme, plan("team", fee(100), paid_seats(0, price="50")))
    apply(acme, fixed(15000))
    use(acme, 2, of="seats")
    pay_all(acme)

    for _ in range(2):
        use(acme, 1, of="seats", now=NOON_16)
        pay_all(acme, now=NOON_16)

    assert sum(totals(acme)[2:]) == -1250 + 10000 - 5000


def test_a_special_price_instead_of_all_seats_holds_for_one_more():
    """Y-21"""
    acme = seated()
    special_price(acme, 3000, key="seats")
    pass_time(acme, to=APRIL_1)

    use(acme, 1, of="seats", now=APRIL_16)

    assert totals(acme) == [5000, 2000, 8000]


def test_a_seat_of_a_partly_paid_invoice_is_given_up_once():
    """A-39"""
    acme = on(plan("team", fee(50), paid_seats(0)))
    use(acme, 4, of="seats")
    collect(acme.invoices.get(total=4000), amount=2000, reference="bank", actor=STAFF, now=day("2026-03-01"))

    use(acme, -1, of="seats", now=NOON_16)
    use(acme, 1, of="seats", now=NOON_16)

    assert sum(totals(acme)) == 9000


def test_seats_of_a_parked_contract_are_charged_by_its_renewal_alone():
    """Law 7"""
    acme = seated()
    acme.subscriptions.update(parked_at=APRIL_1, parked_because="Looked at.")

    use(acme, 1, of="seats", now=APRIL_2)

    assert totals(acme) == [5000, 2000]
    assert not InvoiceLine.objects.filter(starts_at=APRIL_2).exists()
