"""Two worlds live through the same acts, one with a punctual worker and one with a late one: the books are the same."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.change import Timing
from billing_admin.flows.enable_plan import confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.renew import catch_up
from entitlements.balances import Mode
from entitlements.check import check_all
from entitlements.edit import edit_balance
from entitlements.models import Balance
from entitlements.reset import reset_due
from entitlements.track import track
from invoicing.models import InvoiceLine
from tests.builders import STAFF, allowance, assigned, customer, default, fee, lasting, pay_all, plan, seats
from tests.instants import MARCH_1

FEATURES = ["credits", "seats", "tokens", "calls"]
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.sampled_from(FEATURES), st.integers(-3, 40)),
        st.tuples(st.just("edit"), st.sampled_from(FEATURES), st.integers(-10, 50)),
        st.tuples(
            st.just("enable"),
            st.integers(0, 7),
            st.sampled_from([None, *Timing]),
            st.sampled_from([1, 1, 1, 2, 3]),
        ),
        st.tuples(st.just("cancel"), st.booleans(), st.sampled_from([None, 3, 45])),
        st.tuples(st.just("withdraw")),
        st.tuples(st.just("wait"), st.integers(0, 75), st.sampled_from([0, 1, 43_200])),
        st.tuples(st.just("reset")),
    ),
    min_size=7,
    max_size=14,
)


class World:
    def __init__(self, name, plans, *, punctual):
        self.who, self.plans, self.now, self.punctual = customer(name), plans, MARCH_1, punctual
        self.refusals = []

    def live(self, act):
        name, *rest = act
        try:
            with transaction.atomic():
                getattr(self, name)(*rest)
            self.refusals.append("")
        except ValidationError as refusal:
            self.refusals.append(refusal.messages[0].replace(self.who.name, ""))
        self.who.refresh_from_db()

    def work(self, to):
        """Everything at the very instant when it is due."""
        while True:
            stops = [s.bills_at for s in self.who.subscriptions.live() if s.bills_at]
            windows = Balance.objects.filter(customer=self.who, closed_at=None, ends_at__isnull=False)
            stops += list(windows.values_list("ends_at", flat=True))
            stop = min((s for s in stops if s <= to), default=None)
            if stop is None:
                return
            catch_up(self.who, now=stop)

    def wait(self, days, seconds):
        self.now += timedelta(days=days, seconds=seconds)
        if self.punctual:
            self.work(self.now)

    def reset(self):
        reset_due(now=self.now)

    def use(self, of, amount):
        track(self.who, feature=of, amount=Decimal(amount), now=self.now, mode=Mode.CAP)

    def edit(self, of, to):
        edit_balance(self.who, feature=of, to=Decimal(to), reason="test", actor=STAFF, now=self.now)

    def enable(self, which, timing, quantity):
        proposal = propose(self.who, self.plans[which], timing=timing, quantity=quantity)
        catch_up(self.who, now=self.now)
        pay_all(self.who, now=self.now)
        confirmed = confirmation(preview_plan(self.who, proposal, now=self.now))
        enable_plan(self.who, proposal, reason="test", actor=STAFF, now=self.now, confirmed=confirmed)

    def cancel(self, at_once, days):
        for subscription in self.who.subscriptions.live().order_by("id")[:1]:
            ends_at = self.now + timedelta(days=days) if days and not at_once else None
            cancel(subscription, at_once=at_once, ends_at=ends_at, reason="test", actor=STAFF, now=self.now)

    def withdraw(self):
        for subscription in self.who.subscriptions.live().order_by("id")[:1]:
            withdraw(subscription, actor=STAFF, now=self.now)

    def answers(self):
        found = check_all(self.who, now=self.now)
        return [(a.feature, a.allowed, a.limit, a.used, a.net, a.next_reset_at) for a in found]

    def books(self):
        lines = InvoiceLine.objects.filter(invoice__customer=self.who)
        return sorted((str(x.starts_at), x.kind, x.key, x.amount, x.quantity, str(x.ends_at)) for x in lines)


def world():
    default(allowance(5))
    return [
        plan("pro", fee(50), allowance(10, resets="P1W", price="0.10"), seats(3)),
        plan("team", fee(200), allowance(50), seats(10), lasting(50), calls("1")),
        plan("yearly", fee(480, cadence="P1Y"), fee(7, key="support"), allowance(10, price="0.05"), cadence="P1Y"),
        plan("free", allowance(10, resets="P1W"), seats(1)),
        plan("metered", allowance(0, price="0.20"), allowance(7, of="calls", resets="P1D", price="2")),
        assigned("partner", allowance(100, calendar=True), seats(2), lasting(5), of="api"),
        plan("boost", fee(9), calls("3"), add_on=True),
        plan(
            "quarterly",
            fee(99, cadence="P3M"),
            fee(5, key="setup", cadence="P0D"),
            allowance(10, price="0.3", cadence="P1M"),
            cadence="P3M",
        ),
    ]


def calls(price):
    return allowance(20, of="calls", resets="P1W", price=price)


@pytest.mark.django_db
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS)
def test_a_late_worker_writes_the_same_books(acts):
    """Law 7, A-38"""
    with transaction.atomic():
        plans = world()
        punctual, late = World("Acme", plans, punctual=True), World("Globex", plans, punctual=False)
        for act in [*acts, ("wait", 40, 0)]:
            note(f"{late.now} {act}")
            punctual.live(act)
            late.live(act)
            note(f"   {punctual.refusals[-1]} | {late.refusals[-1]}")
            assert late.answers() == punctual.answers()
        catch_up(late.who, now=late.now)
        assert late.answers() == punctual.answers()
        assert late.books() == punctual.books()
        transaction.set_rollback(True)
