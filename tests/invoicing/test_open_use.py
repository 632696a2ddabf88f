"""Use that stands on no invoice yet: what a preview says of it, and where it is billed in the end."""

import pytest

from billing_admin.flows.cancel import cancel, preview_cancel
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from tests.builders import (
    STAFF,
    allowance,
    enable,
    fee,
    on,
    pass_time,
    plan,
    preview,
    pro,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


def weekly(name="pro", price=50):
    return plan(name, fee(price), allowance(10, resets="P1W", price="1"))


def test_a_cancellation_shows_the_use_of_windows_that_are_closed_already():
    """A-26: each answer with its amount."""
    acme = on(weekly())
    use(acme, 15, now=MARCH_1)
    use(acme, 12, now=MARCH_16)

    planned = preview_cancel(the_subscription(acme), at_once=True, unused="nothing", now=MARCH_16)
    _, invoices = cancel(
        the_subscription(acme), at_once=True, unused="nothing", reason="leaves", actor=STAFF, now=MARCH_16
    )

    assert planned.total == sum(invoice.total for invoice in invoices) == 700


def test_a_cancellation_shows_what_a_late_worker_has_not_settled():
    """A-26, law 7"""
    acme = on(weekly())
    use(acme, 15, now=MARCH_1)

    planned = preview_cancel(the_subscription(acme), at_once=True, now=day("2026-04-16"))
    _, invoices = cancel(the_subscription(acme), at_once=True, reason="leaves", actor=STAFF, now=day("2026-04-16"))

    assert planned.total == sum(invoice.total for invoice in invoices) == -2500


def with_an_add_on():
    acme = on(pro(50))
    enable(acme, plan("boost", fee(31), allowance(10, of="calls", price="1"), add_on=True))
    use(acme, 12, of="calls")
    return acme.subscriptions.live().get(add_on=False)


def test_a_cancellation_shows_what_its_add_ons_owe_and_get_back():
    """A-26"""
    main = with_an_add_on()

    planned = preview_cancel(main, at_once=True, now=MARCH_16)
    _, invoices = cancel(main, at_once=True, reason="leaves", actor=STAFF, now=MARCH_16)

    assert planned.total == sum(invoice.total for invoice in invoices) == -2581 - 1600 + 200


def test_forgiving_the_use_of_a_plan_forgives_that_of_its_add_ons():
    """A-26"""
    main = with_an_add_on()

    _, invoices = cancel(
        main, at_once=True, bill_use=False, unused="nothing", reason="leaves", actor=STAFF, now=MARCH_16
    )

    assert invoices == []


@pytest.mark.parametrize("kind", ["billed", "assigned"])
def test_another_plan_bills_the_windows_that_are_closed_already(kind):
    """Design 4: another plan bills the overage so far in full at the old rate."""
    acme = on(weekly())
    plan("other", *([fee(80)] if kind == "billed" else []), allowance(10), kind=kind)
    use(acme, 15, now=MARCH_1)
    use(acme, 12, now=MARCH_16)

    change = enable(acme, Plan.objects.get(key="other"), now=MARCH_16, timing=Timing.NOW).change

    assert sum(line.amount for line in change.lines if line.kind == "usage") == 700


def test_a_new_cycle_bills_the_windows_that_are_closed_already():
    """The next invoice may be a year away."""
    acme = on(weekly())
    use(acme, 15, now=MARCH_1)

    change = enable(
        acme,
        Plan.objects.get(key="pro"),
        fee(500, cadence="P1Y"),
        allowance(10, resets="P1W", price="1"),
        cadence="P1Y",
        now=MARCH_16,
    ).change

    assert [line.amount for line in change.lines if line.kind == "usage"] == [500]


def test_a_change_within_the_plan_leaves_closed_windows_to_the_renewal():
    """A-23"""
    acme = on(weekly())
    use(acme, 15, now=MARCH_1)
    change = enable(
        acme, Plan.objects.get(key="pro"), fee(60), allowance(10, resets="P1W", price="2"), now=MARCH_16
    ).change
    assert not [line for line in change.lines if line.kind == "usage"]

    pass_time(acme, to=APRIL_1)

    assert totals(acme)[-1] == 6000 + 500


def test_the_next_invoice_of_a_change_that_keeps_the_schedule_is_the_scheduled_plans():
    """A-15: features-only changes keep the schedule."""
    acme = on(pro(50))
    plan("small", fee(20), allowance(10))
    enable(acme, Plan.objects.get(key="small"), now=MARCH_16)

    change = preview(acme, Plan.objects.get(key="pro"), fee(50), allowance(300), now=MARCH_16)
    enable(acme, Plan.objects.get(key="pro"), fee(50), allowance(300), now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert change.next_invoice.total == totals(acme)[-1] == 2000


def test_the_next_invoice_of_a_change_that_keeps_a_cancellation_has_no_fees():
    """A-25"""
    acme = on(plan("pro", fee(50), allowance(10, price="1")))
    use(acme, 12)
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)

    change = preview(acme, Plan.objects.get(key="pro"), fee(50), allowance(11, price="1"), now=MARCH_16)

    assert (change.next_invoice.at, change.next_invoice.total) == (APRIL_1, 100)


def test_the_next_invoice_of_a_scheduled_change_counts_the_windows_that_are_closed_already():
    """A-23"""
    acme = on(weekly())
    plan("small", fee(20), allowance(10))
    use(acme, 15, now=MARCH_1)

    change = enable(acme, Plan.objects.get(key="small"), now=MARCH_16).change
    pass_time(acme, to=APRIL_1)

    assert change.next_invoice.total == totals(acme)[-1] == 2500
