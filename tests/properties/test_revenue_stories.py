"""Recurring revenue of customers who take seats, change plans and leave, beside what contracts and balances say."""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel
from billing_admin.flows.plan_change import Timing
from billing_admin.flows.position import levels_of
from billing_admin.flows.revenue import (
    INSTANT,
    Kind,
    held,
    month_after,
    month_of,
    monthly_total,
    months,
    movements,
    until_of,
)
from billing_admin.flows.set_usage import set_use
from catalog.charges import GRADUATED, Price, Tier
from catalog.models import Plan
from customers.models import Customer, Phase
from customers.recurring import recurring
from tests import builders as a
from tests.flows.undo_world import last, take_back
from tests.instants import MARCH_1

TIERS = (Tier(Decimal(3), Decimal(12)), Tier(None, Decimal(5)))
MOST = 12


@dataclass(frozen=True)
class Step:
    """What one customer does so many days after the step before."""

    days: int
    who: int
    what: str
    units: int = 0
    now: bool = False


STEPS = st.lists(
    st.builds(
        Step,
        days=st.sampled_from([0, 3, 14, 31]),
        who=st.integers(0, 1),
        what=st.sampled_from(
            ["seats", "seats", "seats", "small", "large", "without", "yearly", "leave", "worker", "undo"]
        ),
        units=st.integers(0, 7),
        now=st.booleans(),
    ),
    min_size=3,
    max_size=8,
)


def plans() -> dict[str, Plan]:
    in_tiers = replace(a.paid_seats(1), price=Price(model=GRADUATED, tiers=TIERS))
    return {
        "small": a.plan("small", a.fee(50), a.paid_seats(2)),
        "large": a.plan("large", a.fee(200), in_tiers, commitment="230"),
        "without": a.plan("without", a.fee(80)),
        "yearly": a.plan("yearly", a.fee(600, cadence="P1Y"), a.paid_seats(0, price="60"), cadence="P1Y"),
    }


def act(step: Step, who: Customer, sold: dict[str, Plan], now: datetime) -> None:
    """What cannot be done at the moment is left out, as it would be refused."""
    contract = who.subscriptions.live().first()
    timing = Timing.NOW if step.now else None
    try:
        with transaction.atomic():
            if step.what == "worker":
                a.pass_time(who, to=now)
            elif step.what == "seats":
                set_use(who, feature="seats", value=Decimal(step.units), now=now)
            elif step.what == "leave" and contract is not None:
                cancel(contract, at_once=step.now, reason="too dear", actor=a.STAFF, now=now)
            elif step.what == "undo":
                take_back(last(who, "plan.enabled"), now=now)
            elif step.what in sold:
                a.enable(who, sold[step.what], now=now, timing=timing)
                a.pay_all(who, now=now)
    except ValidationError:
        return


def told_by_contracts(who: Customer, at: datetime) -> int:
    """What the phases in force bring at the levels that the balances hold, reckoned one by one."""
    phases = Phase.objects.in_force(at).filter(subscription__customer=who, is_trial=False)
    total = 0
    for phase in phases.select_related("subscription", "version"):
        levels = levels_of(phase.subscription)
        by_key = {
            item.key: levels[item.feature.slug]
            for item in phase.terms().items
            if item.is_seats and item.feature and item.feature.slug in levels
        }
        total += recurring(phase.sold(by_key)).monthly
    return total


@pytest.mark.django_db
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_customers_do_their_months_add_up_and_no_later_act_changes_what_was(steps: list[Step]):
    """Each instant stays as it was told; opening and movements make the closing, for each customer and for all."""
    with transaction.atomic():
        sold = plans()
        customers = [a.on(sold["small"], name=f"Customer {n}") for n in range(2)]
        now, told = MARCH_1, {MARCH_1: {who.pk: 5000 for who in customers}}
        for step in steps:
            now += timedelta(days=step.days)
            act(step, customers[step.who], sold, now)
            told[now] = {who.pk: told_by_contracts(who, now) for who in customers}
        for at, each in told.items():
            assert dict(held("USD", at + INSTANT)) == {pk: minor for pk, minor in each.items() if minor}
            assert monthly_total("USD", at + INSTANT) == sum(each.values())
        _months_add_up(now)
        transaction.set_rollback(True)


def _months_add_up(now: datetime) -> None:
    found = months("USD", now=now, most=MOST)
    assert found[-1].closing == monthly_total("USD", now + INSTANT)
    for month, following in zip(found, [*found[1:], None], strict=True):
        if following is not None:
            assert (month.closing, month_after(month.first)) == (following.opening, following.first)
        changes: dict[int, int] = defaultdict(int)
        for kind in Kind:
            rows = movements("USD", month.first, kind, now=now)
            assert sum(row.change for row in rows) == month.amount(kind)
            assert not changes.keys() & {row.customer_id for row in rows}
            changes.update({row.customer_id: row.change for row in rows})
        opening, closing = (dict(held("USD", at)) for at in (month.first, until_of(month.first, now)))
        assert {pk: closing.get(pk, 0) - opening.get(pk, 0) for pk in {*opening, *closing}} == {
            pk: changes[pk] for pk in {*opening, *closing}
        }
    assert found[-1].first == month_of(now)
