"""The quick way of the billing run writes, row by row, what the ordinary way writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from billing_admin import runs
from billing_admin.flows.billing_run import prepare
from billing_admin.flows.cancel import cancel
from billing_admin.flows.collection import pause
from billing_admin.flows.plan_change import Timing
from catalog.models import Coupon, Plan
from customers.models import AppliedCoupon, Customer, Subscription
from entitlements.edit import edit_balance
from invoicing.issue import enter_credit
from invoicing.models import BillingSettings, CreditEntry, TaxAssignment, TaxExemption, TaxRate
from tests import builders as a
from tests.books import books
from tests.instants import APRIL_1, MARCH_1, MAY_1

pytestmark = pytest.mark.django_db
MID_MARCH = MARCH_1 + timedelta(days=14)


@pytest.fixture
def sold() -> list[Plan]:
    return [
        a.plan("fee", a.fee(50), a.allowance(100)),
        a.plan("calls", a.fee("19.90"), a.allowance(100), a.allowance(10, of="calls", price="0.125")),
        a.plan("seats", a.fee(30), a.paid_seats(2, price="7"), a.seats(3, of="projects")),
        a.plan("packs", a.fee(5), a.prepaid(100, price="8", of="tokens"), a.switch(), a.static()),
        a.plan("arrears", a.in_arrears(40), a.allowance(10, of="calls", price="1")),
        a.plan("quarter", a.fee(90, cadence="P3M"), a.allowance(5, resets="P1D"), cadence="P3M"),
        a.plan("usage", a.allowance(0, of="calls", price="0.01"), a.lasting(7, of="stamps")),
        a.plan("calendar", a.fee(12), a.allowance(100, calendar=True)),
        a.free(),
    ]


# What happened to a customer before the boundary: each may make a renewal unusual, none may change what is billed.
Fate = Callable[[Customer, Subscription, Plan], None]


def overuse(who: Customer, contract: Subscription, other: Plan) -> None:
    known = "calls" in {b.feature.slug for b in who.balances.select_related("feature")}
    if known and a.access(who, of="calls", now=MID_MARCH).has_access:
        a.overuse(who, 133, of="calls", now=MID_MARCH)


def fill_seats(who: Customer, contract: Subscription, other: Plan) -> None:
    if "seats" in {b.feature.slug for b in who.balances.select_related("feature")}:
        a.overuse(who, 5, of="seats", now=MID_MARCH)


def have_credit(who: Customer, contract: Subscription, other: Plan) -> None:
    invoice = who.invoices.first()
    if invoice:
        enter_credit(who, CreditEntry.Kind.OVERPAID, 1_234, invoice=invoice, now=MID_MARCH)


def have_much_credit(who: Customer, contract: Subscription, other: Plan) -> None:
    invoice = who.invoices.first()
    if invoice:
        enter_credit(who, CreditEntry.Kind.OVERPAID, 1_000_000, invoice=invoice, now=MID_MARCH)


def be_exempt(who: Customer, contract: Subscription, other: Plan) -> None:
    TaxExemption.objects.create(customer=who, reason="charity", created_by="tests", created_at=MARCH_1)


def have_own_tax(who: Customer, contract: Subscription, other: Plan) -> None:
    rate = TaxRate.objects.create(name="VAT", percent=Decimal(19), inclusive=True)
    TaxAssignment.objects.create(rate=rate, customer=who)


def cancel_later(who: Customer, contract: Subscription, other: Plan) -> None:
    cancel(contract, reason="moves on", actor=a.STAFF, now=MID_MARCH)


def is_on(contract: Subscription, plan: Plan) -> bool:
    return any(phase.version.plan_id == plan.pk for phase in contract.kept_phases())


def switch_later(who: Customer, contract: Subscription, other: Plan) -> None:
    if not is_on(contract, other):
        a.enable(who, other, now=MID_MARCH, timing=Timing.CYCLE_END)


def switch_now(who: Customer, contract: Subscription, other: Plan) -> None:
    if not is_on(contract, other):
        a.enable(who, other, now=MID_MARCH, timing=Timing.NOW)


def be_paused(who: Customer, contract: Subscription, other: Plan) -> None:
    pause(contract, behavior="void", reason="dispute", actor=a.STAFF, now=MID_MARCH)


def have_coupon(who: Customer, contract: Subscription, other: Plan) -> None:
    coupon, _ = Coupon.objects.get_or_create(name="Ten", defaults={"kind": "percent", "percent": Decimal(10)})
    AppliedCoupon.objects.create(customer=who, coupon=coupon, applied_at=MARCH_1, applied_by="tests")


def pay_later(who: Customer, contract: Subscription, other: Plan) -> None:
    contract.net_terms_days = 30
    contract.save()


def use_early(who: Customer, contract: Subscription, other: Plan) -> None:
    """The boundary has passed, and use opens the next window before the worker comes."""
    early = APRIL_1 + timedelta(minutes=1)
    for slug in {b.feature.slug for b in who.balances.select_related("feature")} & {"credits", "calls"}:
        if a.access(who, of=slug, now=early).has_access:
            a.overuse(who, 3, of=slug, now=early)


def be_edited(who: Customer, contract: Subscription, other: Plan) -> None:
    if who.balances.filter(feature__slug="calls", closed_at=None).exists():
        edit_balance(who, feature="calls", to=Decimal(-4), reason="goodwill", actor=a.STAFF, now=MID_MARCH)


FATES: list[Fate] = [
    overuse,
    fill_seats,
    have_credit,
    have_much_credit,
    be_exempt,
    have_own_tax,
    cancel_later,
    switch_later,
    switch_now,
    be_paused,
    have_coupon,
    pay_later,
    use_early,
    be_edited,
]


@contextmanager
def taken_back() -> Iterator[None]:
    """All that is written inside is undone at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def quickly(now: datetime) -> None:
    runs.renewals(now=now)


def one_by_one(now: datetime) -> None:
    this = runs.Pass(runs.RENEWALS, now)
    for batch in runs._due_customers(now, runs.MOST):
        for customer_id in batch:
            runs._settle(this, customer_id)


# Worlds take a second each: shrinking one would take minutes, and the note tells enough.
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(
    lives=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.lists(st.sampled_from(FATES), max_size=3, unique=True)),
        min_size=1,
        max_size=6,
    ),
    taxed=st.booleans(),
    grace=st.sampled_from([0, 0, 24]),
    now=st.sampled_from([APRIL_1, APRIL_1 + timedelta(hours=5), APRIL_1 + timedelta(days=3), MAY_1]),
)
def test_both_ways_write_the_same_rows(
    sold: list[Plan], lives: list[tuple[int, int, list[Fate]]], taxed: bool, grace: int, now: datetime
) -> None:
    """Laws 5 to 7: how fast it is done changes nothing."""
    with taken_back():
        BillingSettings.objects.create(pk=1, grace_hours=grace)
        if taxed:
            TaxRate.objects.create(name="Sales tax", percent=Decimal("8.25"), is_default=True)
        customers = []
        for place, (plan, other, fates) in enumerate(lives):
            who = a.on(sold[plan], name=f"Customer {place}")
            customers.append(who)
            for fate in fates:
                if who.subscriptions.live().exists():
                    fate(who, a.the_subscription(who), sold[other])
        note(f"{[(sold[p].key, sold[o].key, [f.__name__ for f in fates]) for p, o, fates in lives]}, {now}")
        found = []
        for way in (quickly, one_by_one):
            with taken_back():
                way(now)
                connection.check_constraints()
                found.append(books(customers))
        for table, rows in found[1].items():
            assert found[0][table] == rows, table


@pytest.mark.parametrize("place", range(9))
def test_what_is_ordinary_takes_the_quick_way(sold: list[Plan], place: int) -> None:
    """So that the property above compares two ways, and the run is fast where it matters."""
    plan = sold[place]
    who = a.on(plan)
    for fate in (overuse, fill_seats, have_credit, be_exempt, pay_later):
        fate(who, a.the_subscription(who), plan)

    assert set(prepare([who.pk], now=a.the_subscription(who).bills_at or APRIL_1)) == {who.pk}


def test_a_customer_who_moved_since_the_batch_was_read_is_done_the_ordinary_way() -> None:
    """What is decided on has to hold when it is written."""
    who = a.on(a.plan("calls", a.fee(20), a.allowance(0, of="calls", price="1")))
    prepared = prepare([who.pk], now=APRIL_1)

    a.overuse(who, 5, of="calls", now=APRIL_1 - timedelta(seconds=1))
    this = runs.Pass(runs.RENEWALS, APRIL_1)

    assert not runs._write(this, prepared[who.pk])
    runs.renewals(now=APRIL_1)
    assert a.totals(who) == [2_000, 2_500]
