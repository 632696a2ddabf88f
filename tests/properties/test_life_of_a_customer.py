"""A customer lives through random acts; after each of them the books must still balance."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel, withdraw
from billing_admin.flows.enable_plan import PreviewOutdated, confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.plan_change import PlanChange, Timing
from billing_admin.flows.renew import catch_up
from catalog.models import Plan
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.check import check_all
from entitlements.edit import edit_balance
from entitlements.ledger import ledger
from entitlements.models import UsageEvent
from entitlements.track import track
from invoicing.models import Invoice
from invoicing.readings import account_credit
from tests.builders import STAFF, allowance, assigned, customer, default, fee, lasting, pay_all, plan, seats
from tests.instants import MARCH_1

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(-40, 160), st.sampled_from(list(Mode))),
        st.tuples(st.just("seat"), st.integers(-2, 4)),
        st.tuples(st.just("edit"), st.integers(-30, 400), st.sampled_from([None, 3, 40])),
        st.tuples(st.just("enable"), st.integers(0, 5), st.sampled_from([None, *Timing]), st.integers(0, 60)),
        st.tuples(
            st.just("custom"),
            st.integers(0, 3),
            st.integers(10, 90),
            st.integers(0, 300),
            st.sampled_from([None, *Timing]),
        ),
        st.tuples(st.just("cancel"), st.booleans()),
        st.tuples(st.just("withdraw")),
        st.tuples(st.just("pay")),
        st.tuples(st.just("wait"), st.integers(0, 70), st.integers(0, 86_399)),
    ),
    min_size=3,
    max_size=12,
)


@dataclass
class Life:
    who: Customer
    plans: list[Plan]
    now: datetime

    def live(self, act: tuple[Any, ...]) -> None:
        name, *given_ = act
        try:
            getattr(self, name)(*given_)
        except PreviewOutdated:
            raise AssertionError("a preview was outdated although nothing moved") from None
        except ValidationError as refusal:
            note(f"refused: {refusal.messages}")
        self.who.refresh_from_db()

    def use(self, amount: int, mode: Mode) -> None:
        track(self.who, feature="credits", amount=Decimal(amount), now=self.now, mode=mode)

    def seat(self, amount: int) -> None:
        track(self.who, feature="seats", amount=Decimal(amount), now=self.now, mode=Mode.CAP)

    def edit(self, to: int, days: int | None) -> None:
        reset_at = self.now + timedelta(days=days) if days else None
        edit_balance(
            self.who, feature="credits", to=Decimal(to), reset_at=reset_at, reason="test", actor=STAFF, now=self.now
        )

    def enable(self, which: int, timing: Timing | None, used_meanwhile: int) -> None:
        self.change(propose(self.who, self.plans[which], timing=timing), used_meanwhile)

    def custom(self, which: int, price: int, credits: int, timing: Timing | None) -> None:
        items = [fee(price), allowance(credits, price="0.37"), seats(3)]
        self.change(propose(self.who, self.plans[which], items=items, timing=timing), 0)

    def change(self, proposal: Any, used_meanwhile: int) -> None:
        change = preview_plan(self.who, proposal, now=self.now)
        if used_meanwhile:
            self.use(used_meanwhile, Mode.CAP)
        later = min(self.now + timedelta(minutes=7, microseconds=5), change.valid_until - timedelta(seconds=1))
        before = Invoice.objects.filter(customer=self.who).count()
        enabled = enable_plan(
            self.who, proposal, reason="test", actor=STAFF, now=max(later, self.now), confirmed=confirmation(change)
        )
        self.now = max(later, self.now)
        self.the_previewed_is_the_issued(change, list(enabled.invoices), before)

    def the_previewed_is_the_issued(self, change: PlanChange, invoices: list[Invoice], before: int) -> None:
        issued = [line for invoice in invoices for line in invoice.lines.all()]
        assert sorted((x.key, x.kind, x.amount) for x in issued) == sorted(
            (x.key, x.kind, x.amount) for x in change.lines
        )

    def cancel(self, at_once: bool) -> None:
        for subscription in self.who.subscriptions.live()[:1]:
            cancel(subscription, at_once=at_once, reason="test", actor=STAFF, now=self.now)

    def withdraw(self) -> None:
        for subscription in self.who.subscriptions.live()[:1]:
            withdraw(subscription, actor=STAFF, now=self.now)

    def pay(self) -> None:
        pay_all(self.who, now=self.now)

    def wait(self, days: int, seconds: int) -> None:
        self.now += timedelta(days=days, seconds=seconds)
        late = self.answers()
        catch_up(self.who, now=self.now)
        assert self.answers() == late, "the worker changed an answer"

    def answers(self) -> list[tuple]:
        found = check_all(self.who, now=self.now)
        return [(a.feature, a.allowed, a.limit, a.used, a.net, a.next_reset_at, a.unlimited) for a in found]

    def books_balance(self) -> None:
        balances = list(self.who.balances.all())
        events = list(UsageEvent.objects.filter(customer=self.who))
        for event in events:
            assert sum(event.amounts) == event.taken
        for slug in ("credits", "seats"):
            counted = sum(e.taken for e in events if e.feature.slug == slug)
            assert sum(b.used for b in balances if b.feature.slug == slug) == counted, slug
        for balance in balances:
            lines = ledger(balance)
            if balance.granted is not None:
                assert lines[-1].after == balance.left, (balance.pk, lines)
        self.money_balances()
        connection.check_constraints()

    def money_balances(self) -> None:
        for invoice in self.who.invoices.prefetch_related("lines"):
            assert sum(line.amount for line in invoice.lines.all()) == invoice.total
            assert invoice.due >= 0
            for line in invoice.lines.all():
                credited = sum(line.credits.values_list("amount", flat=True))
                assert line.kind != "fee" or line.amount + credited >= 0, "credited more than was charged"
        assert account_credit(self.who) >= 0
        numbers = [i.number for i in self.who.invoices.order_by("id") if i.kind == "invoice"]
        assert [int(number.rsplit("-", 1)[1]) for number in numbers] == list(range(1, len(numbers) + 1))


def world() -> list[Plan]:
    default(allowance(5))
    return [
        plan("pro", fee(50), allowance(100, price="0.10"), seats(3)),
        plan("team", fee(200), allowance(500), seats(10), lasting(50)),
        plan("yearly", fee(480, cadence="P1Y"), allowance(100, price="0.05"), cadence="P1Y"),
        plan("free", allowance(10, resets="P1W"), seats(1)),
        plan("metered", allowance(0, price="0.20"), allowance(7, of="calls", resets="P1D")),
        assigned("partner", allowance(1000, calendar=True), seats(2), of="api"),
    ]


@pytest.mark.django_db
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(acts=ACTS)
def test_the_books_balance_after_any_sequence_of_acts(acts):
    """Law 12; A-11: what was previewed is what is issued; A-38: a late worker changes no answer."""
    with transaction.atomic():
        life = Life(customer(), world(), MARCH_1)
        for act in acts:
            note(f"{life.now:%Y-%m-%d %H:%M:%S} {act}")
            life.live(act)
            life.books_balance()
        transaction.set_rollback(True)
