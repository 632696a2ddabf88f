"""Several phases to come: one after the other, replaced and withdrawn together, whatever the worker's delay."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.courses import read_courses
from billing_admin.flows.forecast import forecast
from billing_admin.flows.renew import catch_up
from billing_admin.flows.trials import extend
from catalog.models import Plan, PlanVersion
from catalog.periods import Cadence, boundary
from customers import switch
from customers.models import Customer, Subscription
from tests.books import books
from tests.builders import (
    STAFF,
    allowance,
    customer,
    enable,
    fee,
    new_version,
    on,
    overuse,
    pass_time,
    plan,
    preview,
    pro,
    the_subscription,
    totals,
)
from tests.instants import APRIL_1, JUNE_1, MARCH_1, MARCH_16, MAY_1, day

pytestmark = pytest.mark.django_db
JULY_1 = day("2026-07-01")


def versions(*amounts: int) -> list[PlanVersion]:
    """Further versions of Pro, each with another fee."""
    return [new_version(the_plan(), fee(amount), allowance(100, price="0.10")) for amount in amounts]


def the_plan() -> Plan:
    return PlanVersion.objects.select_related("plan").order_by("id")[0].plan


def ramped(
    who: Customer, *amounts: int, starts: tuple[datetime, ...] = (APRIL_1, MAY_1), ends_at: datetime | None = None
) -> Subscription:
    """The customer's contract with a phase to come for each amount."""
    contract = the_subscription(who)
    anchor = contract.phase_at(MARCH_1).anchor
    stages = [switch.Stage(v, anchor, at) for v, at in zip(versions(*amounts), starts, strict=False)]
    switch.schedule_all(contract, stages, ends_at=ends_at, at=MARCH_1, now=MARCH_1)
    return contract


def kept(contract: Subscription) -> list[tuple[datetime, datetime | None]]:
    return list(contract.phases.kept().order_by("starts_at").values_list("starts_at", "ends_at"))


def test_phases_follow_one_another():
    contract = ramped(on(pro()), 60, 70)

    assert kept(contract) == [(MARCH_1, APRIL_1), (APRIL_1, MAY_1), (MAY_1, None)]


def test_each_is_billed_from_its_start():
    who = on(pro())
    ramped(who, 60, 70)

    pass_time(who, to=JUNE_1)

    assert totals(who) == [5000, 6000, 7000, 7000]


def test_the_contract_ends_after_the_last_one():
    who = on(pro())
    contract = ramped(who, 60, 70, ends_at=JUNE_1)

    pass_time(who, to=JULY_1)

    contract.refresh_from_db()
    assert (contract.ended_at, contract.end_reason) == (JUNE_1, "term_ended")
    assert totals(who) == [5000, 6000, 7000]


def test_withdrawing_takes_all_of_them_back():
    contract = ramped(on(pro()), 60, 70)

    withdraw(contract, actor=STAFF, now=MARCH_16)

    assert kept(contract) == [(MARCH_1, None)]


def test_a_change_that_is_scheduled_replaces_all_of_them():
    who = on(pro())
    contract = ramped(who, 60, 70)

    enable(who, the_plan(), fee(20), allowance(100), now=MARCH_16)

    assert kept(contract) == [(MARCH_1, APRIL_1), (APRIL_1, None)]


def test_a_change_says_how_many_it_replaces():
    who = on(pro())
    ramped(who, 60, 70)

    change = preview(who, the_plan(), fee(20), allowance(100), now=MARCH_16)

    assert change.replaces == "Replaces the change to Pro on 1 Apr 2026 and 1 more after it."


def test_a_change_of_features_keeps_all_of_them():
    who = on(pro())
    contract = ramped(who, 60, 70)

    enable(who, the_plan(), fee(50), allowance(300), now=MARCH_16, version=the_plan().versions.get(number=1))

    assert kept(contract) == [(MARCH_1, MARCH_16), (MARCH_16, APRIL_1), (APRIL_1, MAY_1), (MAY_1, None)]


def test_a_cancellation_takes_all_of_them_back():
    contract = ramped(on(pro()), 60, 70)

    cancel(contract, reason="leaving", actor=STAFF, now=MARCH_16)

    assert kept(contract) == [(MARCH_1, APRIL_1)]


def test_taking_the_end_back_leaves_the_phases():
    contract = ramped(on(pro()), 60, 70, ends_at=JUNE_1)

    switch.uncancel(contract, at=MARCH_16)

    assert kept(contract)[-1] == (MAY_1, None)
    assert contract.ends_at is None


def test_phases_after_a_trial_follow_what_it_was_begun_for():
    who = customer()
    enable(who, plan("pro", fee(50), allowance(100, price="0.10"), trial_days=14))
    contract = the_subscription(who)
    trial_ends = day("2026-03-15")
    stages = [switch.Stage(v, trial_ends, day("2026-05-15")) for v in versions(60)]
    switch.schedule_all(contract, stages, ends_at=None, at=MARCH_1, now=MARCH_1)

    pass_time(who, to=day("2026-05-16"))

    assert totals(who) == [5000, 5000, 6000]


def test_a_longer_trial_moves_all_that_follows():
    who = customer()
    enable(who, plan("pro", fee(50), allowance(100, price="0.10"), trial_days=14))
    contract = the_subscription(who)
    stages = [switch.Stage(v, day("2026-03-15"), day("2026-05-15")) for v in versions(60)]
    switch.schedule_all(contract, stages, ends_at=day("2026-07-15"), at=MARCH_1, now=MARCH_1)

    extend(contract, until=day("2026-03-20"), reason="slow start", actor=STAFF, now=MARCH_1)

    contract.refresh_from_db()
    assert [starts_at for starts_at, _ in kept(contract)] == [MARCH_1, day("2026-03-20"), day("2026-05-20")]
    assert contract.ends_at == day("2026-07-20")


def test_the_forecast_knows_all_of_them():
    who = on(pro())
    contract = ramped(who, 60, 70, ends_at=JUNE_1)

    [(_, course)] = read_courses(who, [Subscription.objects.with_phases().get(pk=contract.pk)], now=MARCH_16)

    assert [expected.total for expected in forecast(course, {})] == [6000, 7000]


MONTH = Cadence(months=1)


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example lives for months: shrinking takes too long
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    months=st.lists(st.integers(1, 2), min_size=2, max_size=3),
    delays=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    ends=st.booleans(),
)
def test_a_late_worker_writes_the_same_books(months: list[int], delays: list[int], ends: bool):
    """Law 7, over several phases: punctual every month, or late by days or by phases."""
    made = the_plan() if PlanVersion.objects.exists() else plan("pro", fee(50), allowance(100, price="0.10"))
    last = boundary(MARCH_1, MONTH, sum(months) + 2)

    punctual, late = (_ramp_of(made, months, last if ends else None) for _ in range(2))
    for month in range(1, sum(months) + 4):
        catch_up(punctual, now=boundary(MARCH_1, MONTH, month))
    at = MARCH_1
    for delay in delays:
        at += timedelta(days=delay)
        catch_up(late, now=at)
    catch_up(late, now=boundary(MARCH_1, MONTH, sum(months) + 3))

    assert _facts(punctual) == _facts(late)


def _ramp_of(made: Plan, months: list[int], ends_at: datetime | None) -> Customer:
    who = customer()
    enable(who, made, version=made.versions.order_by("id")[0])
    contract, at = the_subscription(who), 0
    stages = []
    for number, length in enumerate(months):
        version = new_version(made, fee(60 + 10 * number), allowance(100, price="0.10"))
        stages.append(switch.Stage(version, MARCH_1, boundary(MARCH_1, MONTH, at + 1)))
        at += length
    switch.schedule_all(contract, stages, ends_at=ends_at, at=MARCH_1, now=MARCH_1)
    overuse(who, Decimal(150), now=MARCH_16)
    return who


def _facts(who: Customer) -> list[list[tuple]]:
    """What was billed, for which time; and the contract's phases and windows."""
    found = books([who])
    lines = [(row["amount"], row["starts_at"], row["ends_at"], row["key"]) for row in found["InvoiceLine"]]
    windows = [(row["starts_at"], row["ends_at"], row["granted"], row["used"]) for row in found["Balance"]]
    phases = [(row["starts_at"], row["ends_at"], row["withdrawn_at"]) for row in found["Phase"]]
    return [lines, windows, phases]
