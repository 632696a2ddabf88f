"""What is paid ahead by quantity: bought units and seats, through changes, renewals and the middle of a period."""

from decimal import Decimal

import pytest

from billing_admin.flows.cancel import cancel, preview_cancel
from billing_admin.flows.enable_plan import BadQuantity
from billing_admin.flows.plan_change import Timing
from catalog.charges import GRADUATED, VOLUME, Price, Tier
from catalog.models import Coupon, Plan
from catalog.terms import IN_FULL, NEXT_CYCLE
from customers.models import AppliedCoupon
from entitlements.models import UsageEvent
from invoicing.models import InvoiceLine
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    left,
    paid_seats,
    pass_time,
    pay_all,
    plan,
    prepaid,
    preview,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MAY_1, day

pytestmark = pytest.mark.django_db
NOON_16 = day("2026-03-16T12:00")  # half of a month of 31 days


def bought(units, *, of="credits"):
    return {"bought": {of: Decimal(units)}}


def on(what, **options):
    acme = customer()
    enable(acme, what, **options)
    pay_all(acme)
    return acme


@pytest.mark.parametrize(("units", "due"), [(0, 2000), (1, 3000), (100, 3000), (250, 5000)])
def test_bought_units_are_paid_in_whole_packs(units, due):
    """A-24"""
    change = preview(customer(), plan("pro", fee(20), prepaid()), **bought(units))

    assert change.total == due


def test_total_units_count_the_included_ones():
    """A-24"""
    acme = on(plan("pro", fee(20), prepaid(included=100)), **bought(250))

    assert (totals(acme), left(acme)) == ([4000], 300)


@pytest.mark.parametrize(("model", "due"), [(GRADUATED, 3500), (VOLUME, 1000)])
def test_more_units_on_tiers(model, due):
    """A-24"""
    tiers = (Tier(Decimal(500), Decimal(10)), Tier(None, Decimal(5)))
    acme = on(plan("pro", fee(20), prepaid(price=Price(model=model, pack=Decimal(100), tiers=tiers))), **bought(300))

    change = preview(acme, acme_plan(), **bought(800))

    assert change.total == due


def acme_plan():
    return Plan.objects.get()


def test_more_units_at_half_the_period_cost_half_and_are_there_at_once():
    """A-24"""
    acme = on(plan("pro", fee(20), prepaid()), **bought(100))
    use(acme, 80)

    enable(acme, acme_plan(), now=NOON_16, **bought(300))

    assert (totals(acme), left(acme, now=NOON_16)) == ([3000, 1000], 220)
    pass_time(acme, to=APRIL_1)
    assert (totals(acme)[-1], left(acme, now=APRIL_1)) == (5000, 300)


def test_fewer_units_wait_for_the_end_of_the_cycle():
    """A-24"""
    acme = on(plan("pro", fee(20), prepaid()), **bought(300))

    change = preview(acme, acme_plan(), now=NOON_16, **bought(100))
    assert (change.timing, change.total, change.next_invoice.total) == (Timing.CYCLE_END, 0, 3000)
    enable(acme, acme_plan(), now=NOON_16, **bought(100))
    pass_time(acme, to=APRIL_1)

    assert (totals(acme), left(acme, now=APRIL_1)) == ([5000, 3000], 100)


def test_used_units_are_not_given_back():
    """Design 4"""
    acme = on(plan("pro", fee(20), prepaid()), **bought(300))
    use(acme, 250)

    planned = preview_cancel(the_subscription(acme), at_once=True, now=MARCH_1)

    assert planned.total == -2000 - 500


def test_used_units_that_a_larger_purchase_of_several_grants_again_are_given_back():
    """Design 4"""
    acme = on(plan("pro", fee(20), prepaid()), quantity=3, **bought(100))
    use(acme, 300)

    enable(acme, acme_plan(), quantity=3, **bought(200))

    assert totals(acme) == [9000, 3000]


def test_units_that_are_bought_in_full_cost_a_whole_period():
    """Design 4"""
    acme = on(plan("pro", fee(20), prepaid(on_increase=IN_FULL)), **bought(100))

    enable(acme, acme_plan(), now=NOON_16, **bought(200))

    assert totals(acme) == [3000, 1000]


def test_units_that_are_charged_from_the_next_period_cost_nothing_now():
    """Design 4"""
    acme = on(plan("pro", fee(20), prepaid(on_increase=NEXT_CYCLE)), **bought(100))

    enable(acme, acme_plan(), now=NOON_16, **bought(200))
    pass_time(acme, to=APRIL_1)

    assert (totals(acme), left(acme, now=NOON_16)) == ([3000, 4000], 200)


def test_a_feature_that_is_not_sold_in_advance_takes_no_quantity():
    """Y-33"""
    with pytest.raises(BadQuantity, match="not sold in advance"):
        preview(customer(), plan("pro", fee(20), allowance(100)), **bought(100))


def test_units_that_last_are_paid_once_and_stay():
    """Y-32, Y-57"""
    acme = on(plan("pro", fee(20), prepaid(of="tokens", once=True)), **bought(200, of="tokens"))
    use(acme, 150, of="tokens")

    pass_time(acme, to=APRIL_1)
    pass_time(acme, to=MAY_1)

    assert (totals(acme), left(acme, of="tokens", now=MAY_1)) == ([4000, 2000, 2000], 50)


# Seats


def test_seats_beyond_the_included_ones_are_paid_with_each_period():
    """L-40"""
    acme = on(plan("team", fee(50), paid_seats(2)))
    use(acme, 4, of="seats")
    pay_all(acme)

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [5000, 2000, 7000]
    line = InvoiceLine.objects.get(kind="seats")
    assert (line.quantity, line.starts_at, line.ends_at) == (2, APRIL_1, MAY_1)


def test_a_seat_in_the_middle_of_a_period_costs_the_share_that_is_left():
    """L-40"""
    acme = on(plan("team", fee(50), paid_seats(2)))

    use(acme, 3, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 500]


def test_a_seat_given_up_comes_back_as_credit():
    """Design 4"""
    acme = on(plan("team", fee(50), paid_seats(2)))
    use(acme, 4, of="seats")
    pay_all(acme)

    use(acme, -1, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 2000, -500]
    pass_time(acme, to=APRIL_1)
    assert totals(acme)[-1] == 6000


def test_a_seat_that_goes_and_comes_costs_nothing_in_the_end():
    """Design 4"""
    acme = on(plan("team", fee(50), paid_seats(2)))
    use(acme, 4, of="seats")
    pay_all(acme)

    for amount in (-1, 1, -2, 2):
        use(acme, amount, of="seats", now=NOON_16)

    assert sum(totals(acme)) == 7000


def test_seats_that_are_kept_until_the_period_ends_are_not_charged_again():
    """Design 4"""
    acme = on(plan("team", fee(50), paid_seats(2, on_decrease=NEXT_CYCLE)))
    use(acme, 4, of="seats")
    pay_all(acme)

    use(acme, -1, of="seats", now=NOON_16)
    use(acme, 1, of="seats", now=NOON_16)

    assert totals(acme) == [5000, 2000]


def test_a_refused_seat_costs_nothing():
    """A-36"""
    acme = on(plan("team", fee(50), paid_seats(2)))
    use(acme, 3, of="seats", key="a")
    before = totals(acme)

    use(acme, 3, of="seats", key="a")

    assert (totals(acme), UsageEvent.objects.count()) == (before, 1)


def test_an_amount_off_every_month_is_shared_by_the_seats_and_not_given_to_new_ones_alone():
    """A-41"""
    acme = customer()
    coupon = Coupon.objects.create(
        code="partner", name="Partner", kind="fixed", amount=15000, currency="USD", duration="forever"
    )
    enable(acme, plan("team", fee(100), paid_seats(0, price="50")))
    AppliedCoupon.objects.create(customer=acme, coupon=coupon, applied_at=MARCH_1, applied_by="ops")
    use(acme, 2, of="seats")
    pay_all(acme)

    use(acme, 2, of="seats", now=NOON_16)

    assert totals(acme) == [10000, 10000 - 7500, -1250 + 10000 - 5000]


def test_an_upgrade_gives_paid_seats_back_where_there_is_room():
    """A-20"""
    acme = on(plan("pro", fee(20), allowance(100, price="0.10"), paid_seats(2)))
    use(acme, 150)
    use(acme, 4, of="seats")
    pay_all(acme)

    change = preview(acme, plan("team", fee(50), allowance(500, price="0.10"), paid_seats(10)))

    assert change.total == 3000 - 2000 + 500
    assert {(line.kind, line.amount) for line in change.lines} >= {("unused", -2000), ("usage", 500), ("fee", 5000)}


def test_cancelling_gives_unused_seats_back():
    """A-26"""
    acme = on(plan("team", fee(31), paid_seats(0)))
    use(acme, 2, of="seats")
    pay_all(acme)

    cancel(the_subscription(acme), at_once=True, reason="closing", actor=STAFF, now=NOON_16)

    assert totals(acme)[-1] == -1550 - 1000
