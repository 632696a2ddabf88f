"""Phases follow each other without gap or overlap, whatever is done to a contract and whenever."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.plan_change import Timing
from catalog.models import Plan
from customers.models import Phase, Subscription
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    enable,
    fee,
    left,
    on,
    pass_time,
    plan,
    pro,
    team,
    the_subscription,
    totals,
    use,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db


def named(key):
    return Plan.objects.get(key=key)


def spans(who):
    phases = the_subscription(who).phases.kept().order_by("starts_at", "id")
    return [(p.version.plan.key, p.starts_at, p.ends_at) for p in phases]


def beside(phase, starts_at, ends_at):
    return Phase(
        subscription=phase.subscription,
        version=phase.version,
        anchor=phase.anchor,
        starts_at=starts_at,
        ends_at=ends_at,
    )


@pytest.mark.parametrize(("starts_at", "ends_at"), [(MARCH_1, APRIL_1), (MARCH_16, None), (day("2020-01-01"), None)])
def test_the_database_refuses_phases_that_overlap(starts_at, ends_at):
    """Law 9"""
    acme = on(pro(50))
    phase = the_subscription(acme).phases.get()

    with pytest.raises(IntegrityError, match="phases_do_not_overlap"), transaction.atomic():
        beside(phase, starts_at, ends_at).save()


def test_phases_that_touch_do_not_overlap():
    """Law 1: half-open."""
    acme = on(pro(50))
    phase = the_subscription(acme).phases.get()
    Phase.objects.filter(pk=phase.pk).update(ends_at=APRIL_1)

    beside(phase, APRIL_1, None).save()

    assert [p.covers(APRIL_1) for p in phase.subscription.kept_phases()] == [False, True]


def test_a_withdrawn_phase_is_in_nobodys_way():
    """Law 9"""
    acme = on(pro(50))
    phase = the_subscription(acme).phases.get()
    other = beside(phase, MARCH_16, None)
    other.withdrawn_at = MARCH_16

    other.save()


def test_phases_of_two_contracts_may_overlap():
    on(pro(50))
    globex = customer("Globex")

    enable(globex, named("pro"))

    assert Phase.objects.in_force(MARCH_16).count() == 2


def test_the_database_refuses_a_second_main_plan_of_a_product():
    """Law 9"""
    contract = the_subscription(on(pro(50)))

    with pytest.raises(IntegrityError, match="one_main_plan_per_product"), transaction.atomic():
        Subscription.objects.create(
            customer=contract.customer, product=contract.product, state="active", started_at=MARCH_16
        )


def test_a_change_now_ends_one_phase_where_the_other_begins():
    acme = on(pro(50))

    enable(acme, team(), now=MARCH_16)

    assert spans(acme) == [("pro", MARCH_1, MARCH_16), ("team", MARCH_16, None)]


def test_two_changes_at_one_instant_leave_an_empty_phase_between_them():
    acme = on(pro(50))
    enable(acme, team(200), now=MARCH_16)

    change = enable(acme, named("team"), fee(300), allowance(500), now=MARCH_16).change

    assert [end - start for _, start, end in spans(acme) if end] == [timedelta(days=15), timedelta(0)]
    # 16 of 31 days: what was charged a moment ago comes off its own open invoice, whole.
    assert sorted(line.amount for line in change.lines) == sorted([-10323 + 2581, -2581, 15484])


def test_a_change_on_the_boundary_belongs_to_the_new_period():
    """A-28"""
    acme = on(pro(30))

    enable(acme, team(60), now=APRIL_1)

    assert totals(acme) == [3000, 3000, 6000, -3000]
    assert spans(acme)[-1] == ("team", APRIL_1, None)


def test_a_change_a_second_before_the_boundary_belongs_to_the_old_one():
    """A-28"""
    acme = on(pro(30))
    eve = day("2026-03-31T23:59:59")

    enable(acme, team(60), now=eve)
    pass_time(acme, to=APRIL_1)

    assert totals(acme) == [3000, 0, 6000]


def test_an_act_within_a_second_counts_from_its_beginning():
    """Law 2: shares of time are exact by the second."""
    acme = on(pro(30))

    enable(acme, team(60), now=MARCH_16 + timedelta(microseconds=999_999))

    assert spans(acme)[-1][1] == MARCH_16


def test_a_contract_from_leap_day_keeps_to_month_ends():
    """Y-20"""
    leap_day = day("2028-02-29")
    acme = on(plan("yearly", fee(600, cadence="P1Y"), allowance(10), cadence="P1Y"), since=leap_day)

    pass_time(acme, to=day("2029-03-01"))

    starts = acme.invoices.order_by("id").values_list("covers_from", "covers_until")
    assert list(starts) == [(leap_day, day("2029-02-28")), (day("2029-02-28"), day("2030-02-28"))]


def test_scheduling_replaces_what_was_scheduled():
    """A-15"""
    acme = on(team(200))
    pro(50)
    plan("small", fee(20), allowance(10))
    enable(acme, named("pro"), now=MARCH_16)

    change = enable(acme, named("small"), now=MARCH_16).change

    assert change.replaces == "Replaces the change to Pro on 1 Apr 2026."
    assert spans(acme) == [("team", MARCH_1, APRIL_1), ("small", APRIL_1, None)]


def test_cancelling_withdraws_a_schedule_and_taking_it_back_does_not_bring_it_again():
    """A-25, A-26"""
    acme = on(team(200))
    enable(acme, pro(50), now=MARCH_16)
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)
    assert spans(acme) == [("team", MARCH_1, APRIL_1)]

    withdraw(the_subscription(acme), actor=STAFF, now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert spans(acme) == [("team", MARCH_1, None)]
    assert totals(acme) == [20000, 20000]


def test_scheduling_takes_a_cancellation_back_and_says_so():
    """A-15"""
    acme = on(team(200))
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)

    change = enable(acme, pro(50), now=MARCH_16).change

    assert change.replaces == "Takes back the cancellation on 1 Apr 2026."
    assert (the_subscription(acme).ends_at, spans(acme)[-1]) == (None, ("pro", APRIL_1, None))


def test_an_upgrade_takes_a_schedule_back():
    """A-15"""
    acme = on(pro(50))
    plan("small", fee(20), allowance(10))
    enable(acme, named("small"), now=MARCH_16)

    enable(acme, team(200), now=MARCH_16)
    pass_time(acme, to=APRIL_1)

    assert spans(acme) == [("pro", MARCH_1, MARCH_16), ("team", MARCH_16, None)]


def test_a_features_only_change_keeps_a_cancellation():
    """Design 4"""
    acme = on(pro(50))
    cancel(the_subscription(acme), reason="leaves", actor=STAFF, now=MARCH_16)

    enable(acme, named("pro"), fee(50), allowance(300), now=MARCH_16)

    assert left(acme, now=MARCH_16) == 300
    assert (spans(acme)[-1][2], access(acme, now=APRIL_1).reason) == (APRIL_1, "no_plan")


def test_a_scheduled_change_that_is_withdrawn_never_happens():
    """A-15"""
    acme = on(team(200))
    enable(acme, pro(50), now=MARCH_16)
    use(acme, 40, now=MARCH_16)

    withdraw(the_subscription(acme), actor=STAFF, now=MARCH_16)
    pass_time(acme, to=MAY_1)

    assert spans(acme) == [("team", MARCH_1, None)]
    assert totals(acme) == [20000, 20000, 20000]


def test_a_new_cycle_may_wait_for_the_end_of_the_old_one():
    """A-07"""
    acme = on(pro(20))

    enable(
        acme,
        named("pro"),
        fee(200, cadence="P1Y"),
        allowance(100),
        cadence="P1Y",
        now=MARCH_16,
        timing=Timing.CYCLE_END,
    )
    pass_time(acme, to=day("2026-09-10"))

    assert totals(acme) == [2000, 20000]
    assert the_subscription(acme).period_ends_at == day("2027-04-01")
