"""What a customer may use, through random acts: a late worker, a punctual one and the ledgers never disagree."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel
from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from catalog.rollovers import Rollover
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import Access
from entitlements.balances import Bucket, Mode
from entitlements.check import check_all
from entitlements.edit import edit_balance
from entitlements.grant import grant, void_grant
from entitlements.ledger import ledger
from entitlements.override import override, revoke
from entitlements.provision import open_missing
from entitlements.readings import pool_at
from entitlements.reset import reset_due
from entitlements.track import LimitReached, track
from tests import builders as a
from tests.instants import MARCH_1

NUMBERS = st.integers(0, 400)
DAYS = st.sampled_from([None, 3, 12, 40])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(-60, 200), st.sampled_from(list(Mode))),
        st.tuples(st.just("use"), st.integers(1, 120), st.just(Mode.REJECT)),
        st.tuples(st.just("give"), st.integers(1, 90), DAYS, st.sampled_from(["", "P1W", "P1M"]), st.integers(-1, 1)),
        st.tuples(st.just("void"), st.integers(0, 3)),
        st.tuples(
            st.just("override"),
            st.one_of(NUMBERS, st.sampled_from(["unlimited", "no_access"])),
            st.booleans(),
            st.integers(0, 20),
            DAYS,
        ),
        st.tuples(st.just("revoke"), st.integers(0, 3)),
        st.tuples(st.just("edit"), st.integers(0, 5), st.integers(-30, 400)),
        st.tuples(st.just("enable"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 50), st.integers(0, 86_399)),
    ),
    min_size=6,
    max_size=14,
)


@dataclass
class Life:
    """One customer. The punctual one's worker comes at every edge of a window, the late one's never."""

    who: Customer
    plans: list[Plan]
    now: datetime
    punctual: bool

    def live(self, act: tuple[Any, ...]) -> str:
        """Carry out one act; what came of it, in a word or two."""
        name, *how = act
        try:
            done: str = getattr(self, name)(*how) or "done"
        except ValidationError as refusal:
            done = f"refused: {getattr(refusal, 'code', '')}"
        self.who.refresh_from_db()
        return done

    def use(self, amount: int, mode: Mode) -> str:
        before = {bucket.id: bucket for bucket in self.buckets()}
        try:
            tracked = track(self.who, feature="credits", amount=Decimal(amount), now=self.now, mode=mode)
        except LimitReached:
            return "limit reached"
        burn_order_was_kept(before, dict(zip(tracked.event.balance_ids, tracked.event.amounts, strict=True)))
        return f"took {tracked.event.taken}"

    def give(self, units: int, days: int | None, recurs: str, priority: int) -> None:
        ends_at = self.now + timedelta(days=days) if days else None
        grant(
            self.who,
            a.feature("credits"),
            Decimal(units),
            ends_at=ends_at,
            label="Bonus",
            recurs=recurs,
            priority=priority,
            now=self.now,
        )

    def void(self, which: int) -> str:
        given_ = list(self.who.grants.order_by("id"))
        return f"took {void_grant(given_[which % len(given_)], now=self.now)}" if given_ else "nothing to void"

    def override(self, value: Any, of_contract: bool, begins: int, days: int | None) -> None:
        since = self.now + timedelta(days=begins // 4)
        subscription = self.who.subscriptions.live().order_by("id").first() if of_contract else None
        override(
            self.who,
            a.feature("credits"),
            Decimal(value) if isinstance(value, int) else value,
            subscription=subscription,
            effective_from=since,
            effective_until=since + timedelta(days=days) if days else None,
            reason="test",
            supersede=True,
            actor=a.STAFF,
            now=self.now,
        )

    def revoke(self, which: int) -> str:
        rows = list(self.who.feature_overrides.standing(self.now).order_by("id"))
        if not rows:
            return "nothing to revoke"
        revoke(rows[which % len(rows)], reason="test", actor=a.STAFF, now=self.now)
        return "revoked"

    def edit(self, which: int, to: int) -> str:
        """Edit any of the buckets, opened first as the desk does."""
        with transaction.atomic():
            open_missing(self.who, contracts_at(self.who, self.now), now=self.now, merges=True)
        own = sorted(self.buckets(), key=Bucket.burn_order)
        if not own:
            return "nothing to edit"
        edit_balance(
            self.who,
            feature="credits",
            to=Decimal(to),
            balance_id=own[which % len(own)].id,
            reason="test",
            actor=a.STAFF,
            now=self.now,
        )
        return "edited"

    def enable(self, which: int) -> str:
        proposal = propose(self.who, self.plans[which])
        change = preview_plan(self.who, proposal, now=self.now)
        enable_plan(self.who, proposal, reason="test", actor=a.STAFF, now=self.now, confirmed=confirmation(change))
        a.pay_all(self.who, now=self.now)
        return str(change.kind)

    def cancel(self, chance: int) -> None:
        for subscription in self.who.subscriptions.live()[: 0 if chance else 1]:
            cancel(subscription, at_once=True, reason="test", actor=a.STAFF, now=self.now)

    def wait(self, days: int, seconds: int) -> None:
        until = self.now + timedelta(days=days, seconds=seconds)
        while self.punctual and (edge := self.next_edge(until)):
            self.work(edge)
        self.now = until
        if self.punctual:
            self.work(until)

    def next_edge(self, until: datetime) -> datetime | None:
        """The next instant at which a worker has something to do."""
        ends = self.who.balances.filter(closed_at=None, ends_at__lte=until).values_list("ends_at", flat=True)
        return min(ends, default=None)

    def work(self, now: datetime) -> None:
        catch_up(self.who, now=now)
        while reset_due(now=now).customers:
            continue
        self.who.refresh_from_db()

    def buckets(self) -> list[Bucket]:
        return pool_at(self.who, self.now, "credits").of("credits")

    def answers(self) -> list[tuple]:
        return [answer_of(access) for access in check_all(self.who, now=self.now)]


def answer_of(access: Access) -> tuple:
    """What an application sees of an answer."""
    return (
        access.feature,
        access.has_access,
        access.allowed,
        access.reason,
        access.limit,
        access.used,
        access.remaining,
        access.overage,
        access.unlimited,
        access.next_reset_at,
        access.bonus and access.bonus.remaining,
        [(b.kind, b.ends_at, b.left) for b in access.buckets],
    )


def burn_order_was_kept(before: dict[int | None, Bucket], parts: dict[int, Decimal]) -> None:
    """Nothing was taken from a bucket while one that is burnt before it had something left."""
    if not set(parts) <= set(before) or any(part < 0 for part in parts.values()):
        return  # a window was opened, or units were given back
    left_some = False
    for bucket in sorted(before.values(), key=Bucket.burn_order):
        part = parts.get(bucket.id or 0, Decimal(0))
        assert not (left_some and part), bucket
        left_some = left_some or bucket.remaining is None or part < bucket.remaining


def the_books_balance(who: Customer) -> None:
    events = list(who.usage_events.all())
    assert sum(b.used for b in who.balances.all()) == sum(e.taken for e in events)
    for row in who.balances.all():
        if row.granted is not None:
            assert ledger(row)[-1].after == row.left, (row.pk, ledger(row))
        if not row.is_promised:
            assert row.granted is None or row.left is None or row.left >= 0, row.pk
        assert row.withheld >= 0


def world() -> list[Plan]:
    """Plans that differ in everything that makes windows and their rest."""
    a.default(replace(a.allowance(15), rollover=Rollover(lasts="P2M", most=Decimal(20))))
    return [
        a.plan("pro", a.fee(50), replace(a.allowance(100), rollover=Rollover(lasts="P1M", most=Decimal(80)))),
        a.plan("team", a.fee(200), replace(a.allowance(300), rollover=Rollover(percent=Decimal(50)))),
        a.plan("soft", a.fee(20), replace(a.allowance(60, soft=True), keeps_overage=True)),
        a.plan("paid", a.fee(30), a.allowance(50, price="0.10")),
        a.assigned("partner", replace(a.allowance(40, resets="P1W"), rollover=Rollover(lasts="P14D"))),
        a.plan("endless", a.fee(500), a.allowance(None)),
    ]


@pytest.mark.django_db
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 5), acts=ACTS)
def test_a_late_worker_a_punctual_one_and_the_ledgers_agree_after_every_act(first, acts):
    """A-35, A-37, A-38, L-04, L-33"""
    with transaction.atomic():
        plans = world()
        late = Life(a.customer("Late"), plans, MARCH_1, punctual=False)
        punctual = Life(a.customer("Punctual"), plans, MARCH_1, punctual=True)
        for act in [("enable", first), *acts]:
            note(str(act))
            done = [life.live(act) for life in (late, punctual)]
            assert done[0] == done[1], (act, done)
            assert late.answers() == punctual.answers(), act
            the_books_balance(late.who)
            the_books_balance(punctual.who)
        transaction.set_rollback(True)
