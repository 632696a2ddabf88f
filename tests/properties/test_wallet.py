"""Whatever is done with a wallet: its balance is the sum of its entries, not below zero, and nothing is charged twice.

The reference remembers for each unit in use what it was paid with, and gives that back, the newest first.
"""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, Price, Tier, rate
from entitlements.track import LimitReached
from invoicing.instant import Span, exact, given_back
from invoicing.wallet import InsufficientFunds, correct, top_up, withdraw
from tests.builders import STAFF, customer, enable, instantly, plan, use, wallet_balance
from tests.instants import MARCH_1, MARCH_16

PRICES = [
    Price(rate=Decimal("0.000002")),
    Price(model=PACKAGE, rate=Decimal(1), pack=Decimal(3)),
    Price(
        model=GRADUATED,
        tiers=(Tier(Decimal(4)), Tier(Decimal(9), Decimal("0.3"), Decimal(2)), Tier(None, Decimal("0.1"))),
    ),
    Price(model=PERCENTAGE, percent=Decimal("2.9"), fixed=Decimal("0.3"), transaction_max=Decimal(2)),
]
MONEY = st.decimals(Decimal("0.01"), Decimal(20), places=4)
UNITS = st.integers(1, 12).map(Decimal)
ACTS = st.one_of(
    st.tuples(st.just("top_up"), MONEY),
    st.tuples(st.just("withdraw"), MONEY),
    st.tuples(st.just("correct"), st.decimals(-5, 5, places=12).filter(bool)),
    st.tuples(st.just("use"), UNITS),
    st.tuples(st.just("use"), UNITS),
    st.tuples(st.just("use"), UNITS.map(lambda units: -units)),
)


@pytest.mark.django_db
class AnySequence(TestCase):
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(price=st.sampled_from(PRICES), acts=st.lists(ACTS, max_size=12))
    def test_the_balance_is_the_sum_of_the_entries_and_the_use_in_force_is_paid(
        self, price: Price, acts: list[tuple[str, Decimal]]
    ) -> None:
        who = customer()
        enable(who, plan("metered", instantly(price), billing_version=0))
        by_hand, used = Decimal(0), Decimal(0)
        spans: list[Span] = []
        for act, amount in [("top_up", Decimal(8)), *acts]:
            with suppress(InsufficientFunds, LimitReached):
                if act == "use":
                    use(who, str(amount), now=MARCH_16)
                    spans.append(Span(price, used, used + amount))
                    used += amount
                else:
                    by_hand += by_the_desk(who, act, amount)
            assert wallet_balance(who) == by_hand - paid_for(spans)


def by_the_desk(who: Any, act: str, amount: Decimal) -> Decimal:
    now = MARCH_1
    if act == "top_up":
        return top_up(who, amount, "USD", reference="bank", actor=STAFF, now=now).entry.amount
    if act == "withdraw":
        return withdraw(who, amount, reason="asked", actor=STAFF, now=now).amount
    return correct(who, amount, reason="wrong", actor=STAFF, now=now).amount


def paid_for(spans: list[Span]) -> Decimal:
    """By replaying it: events stand on a stack, giving back shortens the last ones, and each that is left is paid."""
    stack: list[Span] = []
    for span in spans:
        if not span.is_back:
            stack.append(span)
            continue
        while stack and stack[-1].start >= span.end:
            stack.pop()
        if stack:
            stack[-1] = Span(stack[-1].price, stack[-1].start, min(stack[-1].end, span.end))
    return sum((span.cost for span in stack), Decimal(0))


spans_ = st.lists(st.tuples(st.sampled_from(PRICES), st.integers(-9, 9).filter(bool)), max_size=12)


@given(spans_)
def test_what_is_charged_less_what_comes_back_is_what_the_units_in_force_cost(moves: list[tuple[Price, int]]) -> None:
    """Also where the price changes within a window."""
    spans: list[Span] = []
    used = balance = Decimal(0)
    for price, units in moves:
        end = max(Decimal(0), used + units)
        span = Span(price, used, end)
        balance += given_back(reversed(spans), used, end) if span.is_back else -span.cost
        spans.append(span)
        used = end

    assert balance == -paid_for(spans)


@given(st.sampled_from(PRICES[:3]), st.lists(st.integers(1, 9), max_size=10))
def test_however_use_is_cut_into_events_it_costs_the_same(price: Price, parts: list[int]) -> None:
    total = Decimal(0)
    used = Decimal(0)
    for units in parts:
        total += Span(price, used, used + units).cost
        used += units

    assert total == (exact(rate(price, used).amount) if used else 0)
