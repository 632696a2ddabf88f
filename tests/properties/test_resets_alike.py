"""Resets of many in one statement, and of each by the verb: the same rows, whatever happened before."""

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.customers import update_customer
from catalog.models import Plan
from catalog.rollovers import Rollover
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.edit import edit_balance
from entitlements.provision import open_missing
from entitlements.reset import reset_due
from entitlements.reset_many import START, reset_many
from entitlements.track import LimitReached, track
from tests import builders as a
from tests.instants import MARCH_1
from tests.properties.test_life_of_access import Life

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(1, 200), st.sampled_from([Mode.REJECT, Mode.OVERFLOW])),
        st.tuples(st.just("call"), st.integers(1, 20)),
        st.tuples(
            st.just("override"),
            st.one_of(st.integers(0, 400), st.sampled_from(["unlimited", "no_access"])),
            st.booleans(),
            st.integers(0, 20),
            st.sampled_from([None, 3, 12, 40]),
        ),
        st.tuples(st.just("edit"), st.integers(0, 5), st.integers(0, 400)),
        st.tuples(st.just("reset_on"), st.integers(1, 400)),
        st.tuples(st.just("give"), st.integers(1, 90), st.none(), st.sampled_from(["", "P1W"]), st.just(0)),
        st.tuples(st.just("move_anchor"), st.integers(0, 60), st.integers(0, 23)),
        st.tuples(st.just("enable"), st.integers(0, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 50), st.integers(0, 86_399)),
    ),
    max_size=8,
)


@dataclass
class Longer(Life):
    """With a second feature, and dates that staff move."""

    def call(self, amount: int) -> str:
        try:
            track(self.who, feature="calls", amount=Decimal(amount), now=self.now)
        except LimitReached:
            return "limit reached"
        return "called"

    def reset_on(self, hours: int) -> str:
        own = [bucket for bucket in self.buckets() if bucket.id and bucket.is_plan]
        if not own:
            return "nothing to reset"
        edit_balance(
            self.who,
            feature="credits",
            to=Decimal(10),
            balance_id=own[0].id,
            reset_at=self.now + timedelta(hours=hours),
            reason="test",
            actor=a.STAFF,
            now=self.now,
        )
        return "edited"

    def move_anchor(self, days: int, hours: int) -> None:
        since = self.now - timedelta(days=days, hours=hours)
        update_customer(self.who, usage_started_at=since, actor=a.STAFF, now=self.now)


def world() -> list[Plan]:
    a.default(a.allowance(15), a.allowance(7, of="calls", resets="P1D"))
    calls = a.allowance(20, of="calls", resets="P1W", calendar=True)
    return [
        a.plan("pro", a.fee(50), a.allowance(100), calls),
        a.plan("yearly", a.fee(500), a.allowance(100, price="0.10"), replace(calls, reset="PT1H"), cadence="P1Y"),
        a.plan("packs", a.fee(10), a.prepaid(100), a.seats(2)),
        a.plan("rolling", a.fee(20), replace(a.allowance(60), rollover=Rollover(lasts="P2M")), calls),
        a.plan("kept", a.fee(20), replace(a.allowance(60, soft=True), keeps_overage=True), calls),
        a.assigned("partner", a.allowance(40, resets="P1W"), a.allowance(9, of="calls", resets="P3M", calendar=True)),
        a.plan("endless", a.fee(500), a.allowance(None), a.lasting(50, of="calls"), trial_days=10),
    ]


def by_statement(life: Life) -> None:
    """As the clockwork does: what is alike together, the rest by customer."""
    place, closed = START, 0
    while place is not None:
        step = reset_many(now=life.now, after=place, most=2)
        place, closed = step.upto, closed + step.reset.closed
    event(f"alike: {min(closed, 3)}")
    by_customer(life)


def by_customer(life: Life) -> None:
    while reset_due(now=life.now).customers:
        continue


def written(life: Life, way: Any) -> tuple[list[Any], list[Any]]:
    """All rows, and the lines of their ledgers, once everything is open that the next use would open."""
    with transaction.atomic():
        way(life)
        open_missing(life.who, contracts_at(life.who, life.now), now=life.now, merges=True)
        found = books_of(life.who)
        transaction.set_rollback(True)
    return found


def books_of(who: Customer) -> tuple[list[Any], list[Any]]:
    rows, lines = [], []
    for row in who.balances.all():
        words = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields if f.attname != "id"}
        rows.append(words)
        for line in row.entries.all():
            own = {f.attname: getattr(line, f.attname) for f in line._meta.concrete_fields}
            lines.append(own | {"id": None, "balance_id": str(words)})
    return sorted(rows, key=str), sorted(lines, key=str)


@pytest.mark.django_db
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 7), acts=ACTS, days=st.integers(0, 120), seconds=st.integers(0, 86_399))
def test_the_statement_and_the_verb_write_the_same_rows(first, acts, days, seconds):
    """Law 7, A-38"""
    with transaction.atomic():
        life = Longer(a.customer(), world(), MARCH_1, punctual=False)
        for act in [*([("enable", first)] if first < 7 else [("call", 1)]), *acts, ("wait", days, seconds)]:
            note(f"{act}: {life.live(act)}")

        assert written(life, by_statement) == written(life, by_customer)
        transaction.set_rollback(True)
