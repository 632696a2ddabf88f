"""Movements of recurring revenue, beside a reference that walks through the months of each customer. Levels come and go
before, in and after each phase: only what is in it counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_admin.flows.revenue import (
    INSTANT,
    Kind,
    Standing,
    held,
    month_after,
    month_of,
    monthly_total,
    months,
    moved_in,
    movements,
    until_of,
)
from catalog.models import Plan
from customers.levels import keep_levels
from customers.models import Customer, Phase, Subscription
from tests import builders as a
from tests.instants import day

BEGIN, NOW = day("2025-01-01"), day("2026-03-17T12:00")
MOST = 18
FIRST = month_of(NOW)


@dataclass(frozen=True)
class Stretch:
    """A phase of a contract of its own: `length` in days, None without an end. `levels`: units by day."""

    customer: int
    start: int
    length: int | None
    monthly: int
    fate: str = ""
    levels: tuple[tuple[int, int], ...] = ()

    @property
    def starts_at(self) -> datetime:
        return BEGIN + timedelta(days=self.start)

    @property
    def ends_at(self) -> datetime | None:
        return None if self.length is None else self.starts_at + timedelta(days=self.length)

    def brings(self, at: datetime) -> int:
        counts = not self.fate and self.starts_at <= at and (self.ends_at is None or at < self.ends_at)
        units = [held for start, held in self.levels if BEGIN + timedelta(days=start) <= at]
        seats = SEAT * max(0, units[-1] - INCLUDED) if units else 0
        return self.monthly + seats if counts else 0


INCLUDED, SEAT = 2, 1000
DAYS = st.one_of(st.sampled_from([0, 31, 59, 90, 365, 396]), st.integers(0, 500))
LEVELS = st.dictionaries(DAYS, st.integers(0, 6), max_size=4).map(lambda found: tuple(sorted(found.items())))

# Days 0, 31, 59, … are firsts of months: what begins or ends on a boundary has to fall on its right side.
STRETCHES = st.lists(
    st.builds(
        Stretch,
        customer=st.integers(0, 2),
        start=DAYS,
        length=st.one_of(st.none(), st.sampled_from([0, 31, 28, 59]), st.integers(0, 400)),
        monthly=st.sampled_from([0, 1000, 3000, 5000]),
        fate=st.sampled_from(["", "", "", "", "trial", "withdrawn", "pending", "unpaid"]),
        levels=LEVELS,
    ),
    max_size=14,
)


def written(stretches: Sequence[Stretch], customers: Sequence[Customer], plan: Plan) -> None:
    assert plan.current_version is not None
    seats = a.feature("seats").pk
    for stretch in stretches:
        state = Subscription.State.PENDING_PAYMENT if stretch.fate == "unpaid" else Subscription.State.ACTIVE
        contract = Subscription.objects.create(
            customer=customers[stretch.customer],
            product=plan.product,
            add_on=True,
            state=state,
            started_at=stretch.starts_at,
        )
        Phase.objects.bulk_create(
            [
                Phase(
                    subscription=contract,
                    version=plan.current_version,
                    anchor=stretch.starts_at,
                    starts_at=stretch.starts_at,
                    ends_at=stretch.ends_at,
                    is_trial=stretch.fate == "trial",
                    withdrawn_at=NOW if stretch.fate == "withdrawn" else None,
                    pending_since=NOW if stretch.fate == "pending" else None,
                    monthly=stretch.monthly,
                )
            ]
        )
        for start, units in stretch.levels:
            keep_levels(contract.pk, {seats: Decimal(units)}, at=BEGIN + timedelta(days=start))


def told_slowly(stretches: Sequence[Stretch], customer: int, first: datetime) -> tuple[int, int, str]:
    """(opening, closing, kind) of one customer in one month; no kind where nothing moved."""

    def at(instant: datetime) -> int:
        return sum(s.brings(instant) for s in stretches if s.customer == customer)

    opening, closing = at(first - INSTANT), at(min(month_after(first) - INSTANT, NOW))
    if opening == closing:
        return opening, closing, ""
    ends = [month_after(month_of(BEGIN), n) for n in range(60)]
    known = any(at(end - INSTANT) for end in ends if end <= first)
    if not opening:
        return opening, closing, Kind.REACTIVATION if known else Kind.NEW
    if not closing:
        return opening, closing, Kind.CHURN
    return opening, closing, Kind.EXPANSION if closing > opening else Kind.CONTRACTION


@pytest.mark.django_db
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(stretches=STRETCHES)
def test_months_are_what_a_walk_through_them_finds_and_each_figure_is_the_sum_of_its_list(stretches: list[Stretch]):
    """Opening and movements make the closing; every figure of the chart is what its list adds up to."""
    with transaction.atomic():
        plan = a.plan("pro", a.fee(50), a.paid_seats(INCLUDED, price="10"))
        customers = [a.customer(f"Customer {n}") for n in range(3)]
        written(stretches, customers, plan)
        told = months("USD", now=NOW, most=MOST)
        assert [month.first for month in told] == [month_after(FIRST, n - MOST + 1) for n in range(MOST)]
        for month in told:
            walked = [told_slowly(stretches, n, month.first) for n in range(3)]
            assert month.opening == sum(opening for opening, _, _ in walked)
            assert month.closing == sum(closing for _, closing, _ in walked)
            for kind in Kind:
                expected = {
                    customers[n].pk: closing - opening
                    for n, (opening, closing, its_kind) in enumerate(walked)
                    if its_kind == kind
                }
                rows = movements("USD", month.first, kind, now=NOW)
                assert {row.customer_id: row.change for row in rows} == expected
                assert month.amount(kind) == sum(expected.values())
                assert moved_in("USD", month.first, kind, now=NOW) == (sum(expected.values()), len(expected))
            for standing, until in ((Standing.OPENING, month.first), (Standing.CLOSING, until_of(month.first, NOW))):
                assert month.amount(standing) == sum(minor for _, minor in held("USD", until))
                assert month.amount(standing) == monthly_total("USD", until)
        transaction.set_rollback(True)
