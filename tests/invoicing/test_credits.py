"""What a change of plan gives back: never twice, never more than came in."""

import pytest

from billing_admin.flows.cancel import cancel
from billing_admin.flows.enable_plan import PreviewOutdated, confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from invoicing.issue import void
from invoicing.models import Invoice
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    on,
    pass_time,
    pay_all,
    plan,
    pro,
    reread,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, APRIL_16, day

pytestmark = pytest.mark.django_db

APRIL_21 = day("2026-04-21")


def test_time_that_was_given_back_once_is_not_given_back_by_the_next_change():
    """A-04; design 4: each changed line gets one credit."""
    acme = on(plan("pro", fee(30), allowance(100)), since=APRIL_1)
    enable(acme, Plan.objects.get(key="pro"), fee(60), allowance(100), now=APRIL_16)
    pay_all(acme, now=APRIL_16)

    enabled = enable(acme, Plan.objects.get(key="pro"), fee(90), allowance(100), now=APRIL_21)

    assert [line.amount for line in enabled.change.lines] == [-2000, 3000]


def test_two_fees_of_one_unpaid_invoice_do_not_offset_more_than_is_due():
    """Design 4: the unpaid share becomes an offset on its own open invoice."""
    acme = on(plan("pro", fee(30), fee(20, key="support"), allowance(100)), since=APRIL_1)
    enable(acme, Plan.objects.get(key="pro"), fee(60), fee(50, key="support"), allowance(100), now=APRIL_1)

    enable(acme, Plan.objects.get(key="pro"), fee(70), fee(60, key="support"), allowance(100), now=APRIL_1)

    upgrade = acme.invoices.get(number__endswith="-0002")
    assert (upgrade.total, upgrade.offset, upgrade.state) == (6000, 6000, "paid")
    assert totals(acme) == [5000, 6000, 8000, -6000]


def test_what_a_voided_upgrade_gave_back_can_be_given_back_again():
    """Law 11: a void document charges and credits nothing."""
    acme = on(plan("pro", fee(30), allowance(100)), since=APRIL_1)
    enable(acme, Plan.objects.get(key="pro"), fee(60), allowance(100), now=APRIL_1)
    void(acme.invoices.unpaid().get(), reason="agreed otherwise", actor=STAFF, now=APRIL_1)

    cancel(the_subscription(acme), at_once=True, reason="leaves", actor=STAFF, now=APRIL_16)

    assert account_credit(acme) == 1500


def test_a_fee_nobody_will_pay_gives_nothing_back_in_cash():
    acme = customer(since=APRIL_1)
    enable(acme, pro(30), now=APRIL_1)
    acme.invoices.update(state=Invoice.State.UNCOLLECTIBLE)

    cancel(the_subscription(acme), at_once=True, reason="never paid", actor=STAFF, now=APRIL_16)

    assert account_credit(acme) == 0


def test_a_feature_made_unlimited_leaves_no_use_to_bill():
    """Design 4: the newest allowance covers the earliest use."""
    acme = on(plan("pro", fee(30), allowance(100, price="0.10")), since=APRIL_1)
    use(acme, 150, now=APRIL_16)
    enable(acme, Plan.objects.get(key="pro"), fee(30), allowance(None), now=APRIL_16, timing=Timing.NOW)

    pass_time(acme, to=day("2026-05-01"))

    assert totals(acme) == [3000, 3000]


def test_a_preview_of_the_day_before_cannot_reopen_a_period_that_was_billed():
    """A-11: a preview is good until the next edge of its position, although the edge has been settled meanwhile."""
    acme = on(pro(30))
    late_in_march = day("2026-03-31T23:50")
    proposal = propose(acme, reread(Plan.objects.get(key="pro")), items=[fee(30), allowance(200)])
    confirmed = confirmation(preview_plan(acme, proposal, now=late_in_march))

    with pytest.raises(PreviewOutdated):
        enable_plan(acme, proposal, reason="more", actor=STAFF, now=day("2026-04-01T00:05"), confirmed=confirmed)
    pass_time(acme, to=day("2026-04-02"))

    assert totals(acme) == [3000, 3000]


def test_one_time_fees_of_a_plan_are_not_charged_again_when_its_cycle_restarts():
    """Y-32"""
    acme = on(plan("pro", fee(20), fee(100, key="setup", cadence="P0D"), allowance(100)))

    enabled = enable(
        acme,
        Plan.objects.get(key="pro"),
        fee(200, cadence="P1Y"),
        fee(100, key="setup", cadence="P0D"),
        allowance(100),
        cadence="P1Y",
    )

    assert enabled.change.total == 20000 - 2000


def test_a_one_time_fee_of_a_scheduled_plan_is_charged_when_it_begins():
    """Y-32"""
    acme = on(plan("team", fee(200), allowance(500)))
    cheaper = plan("small", fee(20), fee(100, key="setup", cadence="P0D"), allowance(100))
    change = enable(acme, cheaper).change

    pass_time(acme, to=APRIL_1)

    assert totals(acme)[-1] == change.next_invoice.total == 12000


def test_a_one_time_fee_that_a_scheduled_change_keeps_is_not_charged_again():
    """Y-32"""
    acme = on(plan("pro", fee(20), fee(100, key="setup", cadence="P0D"), allowance(100)))
    change = enable(
        acme, Plan.objects.get(key="pro"), fee(10), fee(100, key="setup", cadence="P0D"), allowance(100)
    ).change

    pass_time(acme, to=APRIL_1)

    assert totals(acme)[-1] == change.next_invoice.total == 1000
