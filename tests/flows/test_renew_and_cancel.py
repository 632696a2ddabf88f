import pytest

from billing_admin.flows.cancel import AlreadyEnded, cancel, preview_cancel, withdraw
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from customers.journal import ReasonRequired
from customers.models import Subscription
from customers.switch import NothingScheduled, TooLateToWithdraw
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    access,
    allowance,
    assigned,
    customer,
    default,
    enable,
    fee,
    free,
    left,
    on,
    overuse,
    pass_time,
    plan,
    pro,
    static,
    team,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, APRIL_16, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def test_a_renewal_bills_the_next_period_in_advance_and_use_in_arrears():
    """Y-39"""
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    use(acme, 130, now=MARCH_16)

    pass_time(acme, to=APRIL_1)

    [_, renewal] = acme.invoices.order_by("id")
    assert sorted(renewal.lines.values_list("amount", flat=True)) == [300, 5000]
    assert left(acme, now=APRIL_1) == 100


def test_missed_periods_are_invoiced_one_by_one_in_order():
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    use(acme, 110, now=MARCH_16)

    pass_time(acme, to=day("2026-06-10"))

    assert totals(acme) == [5000, 5100, 5000, 5000]
    assert the_subscription(acme).period_ends_at == day("2026-07-01")


def test_catching_up_twice_bills_once():
    acme = on(pro(50))

    catch_up(acme, now=APRIL_1)
    catch_up(acme, now=APRIL_1)

    assert totals(acme) == [5000, 5000]


def test_a_contract_that_lags_years_behind_is_parked_for_a_person():
    acme = on(pro(50))

    catch_up(acme, now=day("2031-03-01"))

    subscription = the_subscription(acme)
    assert "More than 36 periods" in subscription.parked_because
    assert len(totals(acme)) == 37
    assert acme.operations.filter(verb="subscription.parked").count() == 1


def test_boundaries_of_a_contract_from_the_31st_keep_to_month_ends():
    """A-28"""
    acme = on(pro(50), since=day("2026-05-31"))

    ends = []
    for to in (day("2026-06-30"), day("2026-07-31"), day("2026-08-31")):
        pass_time(acme, to=to)
        ends.append(the_subscription(acme).period_starts_at)

    assert ends == [day("2026-06-30"), day("2026-07-31"), day("2026-08-31")]


def test_a_change_on_a_boundary_belongs_to_the_new_period():
    """A-28"""
    acme = on(pro(50, 100))
    pass_time(acme, to=APRIL_1)

    change = enable(acme, team(200, 500), now=APRIL_1).change

    assert change.total == 15000


def test_a_free_plan_is_never_invoiced_and_refuses_beyond_its_limit():
    """Y-38"""
    acme = on(free(10))
    use(acme, 10)

    pass_time(acme, to=MAY_1)

    assert totals(acme) == []
    use(acme, 10, now=MAY_1)
    assert not access(acme, now=MAY_1).allowed


def test_paying_for_the_first_time_begins_a_new_cycle():
    acme = on(free(10))

    change = enable(acme, pro(50), now=MARCH_16).change

    assert (change.total, change.anchor) == (5000, MARCH_16)
    assert the_subscription(acme).period_ends_at == APRIL_16


def test_one_time_fees_appear_once():
    """Y-32"""
    acme = on(plan("pro", fee(50), fee(300, cadence="P0D", key="setup")))

    pass_time(acme, to=MAY_1)

    assert totals(acme) == [35000, 5000, 5000]


def test_a_fee_with_a_quantity_is_one_line():
    """Y-33"""
    acme = on(plan("pro", fee(10, quantity=5)))

    [line] = acme.invoices.get().lines.all()
    assert (line.amount, line.quantity) == (5000, 5)


def test_a_yearly_plan_may_bill_its_use_every_month():
    acme = on(plan("reserved", fee(1200, cadence="P1Y"), allowance(0, price="0.015", cadence="P1M"), cadence="P1Y"))
    use(acme, 1000, now=MARCH_16)

    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [120000, 1500]


def test_units_are_rated_at_the_price_in_force_when_they_were_used():
    acme = on(plan("pro", fee(50), allowance(0, price="0.10")))
    use(acme, 100, now=MARCH_16)
    enable(acme, Plan.objects.get(key="pro"), fee(50), allowance(0, price="0.20"), now=MARCH_16)
    use(acme, 50, now=MARCH_16)

    pass_time(acme, to=APRIL_1)

    renewal = acme.invoices.newest()[0]
    assert sorted(renewal.lines.filter(kind="usage").values_list("amount", flat=True)) == [1000, 1000]


def test_cancelling_at_the_end_of_the_cycle_keeps_the_plan_until_then():
    """A-25"""
    default(allowance(5))
    acme = on(plan("pro", fee(50), allowance(100, price="0.10")))
    use(acme, 120, now=MARCH_16)

    cancel(the_subscription(acme), reason="too dear", actor=STAFF, now=MARCH_16)

    assert access(acme, now=MARCH_16).limit == 100
    pass_time(acme, to=APRIL_1)
    assert access(acme, now=APRIL_1).limit == 5
    assert totals(acme) == [5000, 200]


def test_a_cancellation_can_be_taken_back_before_its_date():
    """A-25"""
    acme = on(pro(50))
    cancel(the_subscription(acme), reason="too dear", actor=STAFF, now=MARCH_16)

    withdraw(the_subscription(acme), actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [5000, 5000]


def test_cancelling_now_bills_open_use_and_gives_unused_fees_back():
    """A-26"""
    acme = on(plan("pro", fee(62), allowance(100, price="0.10")))
    overuse(acme, 120, now=MARCH_16)

    planned = preview_cancel(the_subscription(acme), at_once=True, now=MARCH_16)
    cancel(the_subscription(acme), at_once=True, reason="closing shop", actor=STAFF, now=MARCH_16)

    # 16 of 31 days unused: 62 × 16 / 31 = 32.00; 20 units at 0.10 = 2.00
    assert planned.total == 200 - 3200
    assert totals(acme) == [6200, -3000]
    assert account_credit(acme) == 3000


def test_cancelling_now_may_keep_the_fees_and_forgive_the_use():
    """A-26"""
    acme = on(plan("pro", fee(62), allowance(100, price="0.10")))
    overuse(acme, 120, now=MARCH_16)

    cancel(
        the_subscription(acme),
        at_once=True,
        bill_use=False,
        unused="nothing",
        reason="goodwill",
        actor=STAFF,
        now=MARCH_16,
    )

    assert totals(acme) == [6200]


def test_cancelling_withdraws_a_scheduled_change():
    """A-26"""
    acme = on(team(200, 500))
    enable(acme, pro(50), now=MARCH_16)

    cancel(the_subscription(acme), reason="leaving", actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert acme.subscriptions.live().count() == 0
    assert totals(acme) == [20000]


def test_a_cancellation_needs_a_reason_and_happens_once():
    """Y-49"""
    acme = on(pro(50))
    subscription = the_subscription(acme)

    with pytest.raises(ReasonRequired):
        cancel(subscription, at_once=True, reason="", actor=STAFF, now=MARCH_16)
    cancel(subscription, at_once=True, reason="leaving", actor=STAFF, now=MARCH_16)
    with pytest.raises(AlreadyEnded):
        cancel(subscription, at_once=True, reason="leaving", actor=STAFF, now=MARCH_16)


def test_a_scheduled_change_is_withdrawn_with_one_act():
    """A-15"""
    acme = on(team(200, 500))
    enable(acme, pro(50), now=MARCH_16)

    withdraw(the_subscription(acme), actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [20000, 20000]


def test_nothing_scheduled_cannot_be_withdrawn():
    acme = on(pro(50))

    with pytest.raises(NothingScheduled):
        withdraw(the_subscription(acme), actor=STAFF, now=MARCH_16)


def test_a_change_that_has_taken_effect_can_no_longer_be_withdrawn_although_the_worker_is_late():
    acme = on(team(200, 500))
    enable(acme, pro(50), now=MARCH_16)

    with pytest.raises(TooLateToWithdraw):
        withdraw(the_subscription(acme), actor=STAFF, now=day("2026-04-02"))


def test_an_add_on_stands_beside_the_main_plan_prorated_and_ends_with_it():
    """L-41"""
    acme = on(pro(50, 100))
    extra = plan("extra", fee(31), allowance(40, of="words"), add_on=True)

    change = enable(acme, extra, now=MARCH_16).change
    assert change.total == 1600  # 16 of 31 days
    assert left(acme, of="words", now=MARCH_16) == 40

    main = acme.subscriptions.live().get(add_on=False)
    cancel(main, at_once=True, reason="leaving", actor=STAFF, now=MARCH_16)
    assert acme.subscriptions.live().count() == 0


def test_an_assigned_plan_is_never_invoiced_and_may_end_by_itself():
    """P-44"""
    acme = customer()
    enable(acme, assigned("trial", allowance(1000)), ends_at=APRIL_1)

    assert access(acme).limit == 1000
    pass_time(acme, to=MAY_1)

    subscription = Subscription.objects.get(customer=acme)
    assert (subscription.state, subscription.end_reason) == ("ended", "term_ended")
    assert not access(acme, now=MAY_1).has_access
    assert totals(acme) == []


def test_a_credit_for_an_unpaid_fee_comes_off_the_open_invoice_instead_of_being_paid_out():
    acme = customer()
    enable(acme, pro(62, 100))

    enabled = enable(acme, Plan.objects.get(key="pro"), fee(31), allowance(100), now=MARCH_16, timing=Timing.NOW)

    # 16 of 31 days: 62 → 32.00 back, 31 → 16.00 due
    assert enabled.change.total == 1600 - 3200
    first = acme.invoices.order_by("id")[0]
    assert (first.offset, first.due) == (3200, 3000)
    assert account_credit(acme) == 0


def test_static_features_answer_with_their_value():
    """Y-58, L-31"""
    acme = on(plan("pro", fee(50), static("100")))

    assert access(acme, of="rate-limit").value == 100
    enable(acme, plan("max", fee(90), static("unlimited")), now=JUNE_1)
    assert access(acme, of="rate-limit", now=JUNE_1).unlimited


def test_the_default_product_serves_whoever_has_nothing_else():
    """P-14, P-16, P-17"""
    default(allowance(5))
    acme = customer()
    use(acme, 2)
    assert left(acme) == 3

    enable(acme, assigned("partner", allowance(1000)))
    assert access(acme).limit == 1000
    cancel(the_subscription(acme), at_once=True, reason="over", actor=STAFF, now=MARCH_1)

    assert left(acme) == 3
