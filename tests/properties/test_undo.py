"""An act that was taken back leaves no trace but what the preview named: the same access, invoices and money."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck, event, note, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel
from billing_admin.flows.collection import pause
from billing_admin.flows.courses import read_courses
from billing_admin.flows.customers import update_customer
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.forecast import forecast
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.plan_change import Activation, Timing
from billing_admin.flows.rewards import apply_coupon, give_invoice_credit
from billing_admin.undoing import CannotTakeBack, TakenBack
from catalog.models import Coupon, Plan
from customers.models import Customer, Operation
from entitlements.check import check_all
from entitlements.edit import edit_balance
from entitlements.override import override
from entitlements.track import LimitReached
from invoicing.models import Payment
from invoicing.readings import account_credit
from tests import builders as a
from tests.flows import coupon_world as c
from tests.flows.undo_world import seen, take_back
from tests.instants import MARCH_1, MARCH_16, MAY_1, day

LATER = day("2026-03-20")
ACTS = [
    "edit",
    "edit_with_a_date",
    "bonus",
    "override",
    "override_for_good",
    "close_a_feature",
    "special_price",
    "percent_off",
    "money_off",
    "invoice_credit",
    "downgrade",
    "end",
    "upgrade",
    "more_features",
    "more_units",
    "packs",
    "lower_now",
    "free_now",
    "yearly",
    "assigned",
    "add_on",
    "pause",
    "rename",
]
# Those that bill or give back: what is owed, taxed and spent beside them has to come out even.
CHANGES = {"upgrade", "packs", "lower_now", "free_now", "yearly", "assigned"}


@dataclass(frozen=True)
class World:
    """What there is before the act. Amounts in dollars and units; `priced`: use beyond the allowance is billed;
    `owes`: the first invoice is not paid yet; `spends`: another product is bought after the act."""

    used: int
    priced: bool
    pays: bool
    owes: bool
    taxed: bool
    spends: bool
    discount: int
    overridden: int
    credit: int
    planned: str

    def build(self) -> tuple[Customer, dict[str, Plan]]:
        plans = {
            "pro": a.plan("pro", a.fee(50), a.allowance(100, price="0.5" if self.priced else None), a.switch()),
            "team": a.plan("team", a.fee(200), a.allowance(500), a.switch()),
            "lite": a.plan("lite", a.fee(5), a.allowance(10)),
            "extra": a.plan("extra", a.fee(20), a.allowance(30), add_on=True),
            "yearly": a.plan("yearly", a.fee(900, cadence="P1Y"), a.allowance(400), cadence="P1Y"),
            "free": a.plan("free", a.allowance(5)),
            "partner": a.assigned("partner", a.allowance(50), of="api"),
            "once": a.plan("once", a.fee(10, cadence="P0D"), of="extras"),
        }
        if self.taxed:
            a.tax_rate("19", is_default=True)
        who = a.customer()
        a.enable(who, plans["pro"])
        if not self.owes:
            a.pay_all(who)
        if self.used:
            a.use(who, self.used, now=MARCH_1 + timedelta(days=2))
        if self.discount:
            c.apply(who, c.percent(self.discount), now=MARCH_1 + timedelta(days=3))
        if self.overridden:
            given(who, self.overridden, MARCH_1 + timedelta(days=4))
        if self.credit:
            money_off(who, self.credit, MARCH_1 + timedelta(days=5))
        if self.planned == "lite":
            change(who, plans["lite"], MARCH_1 + timedelta(days=6))
        elif self.planned == "end":
            end(who, MARCH_1 + timedelta(days=6))
        who.refresh_from_db()
        return who, plans


WORLDS = st.builds(
    World,
    used=st.integers(0, 95),
    priced=st.booleans(),
    pays=st.booleans(),
    owes=st.sampled_from([False, False, True]),
    taxed=st.booleans(),
    spends=st.sampled_from([False, False, True]),
    discount=st.sampled_from([0, 0, 20]),
    overridden=st.sampled_from([0, 0, 60, 300]),
    credit=st.sampled_from([0, 0, 10]),
    planned=st.sampled_from(["", "", "lite", "end"]),
)


# Acts -----------------------------------------------------------------------------------------------------------------


def given(who: Customer, to: int | bool, now: datetime, until: datetime | None = MAY_1) -> None:
    of = "sso" if to is False else "credits"
    override(who, a.feature(of), to, effective_until=until, reason="trial", supersede=True, actor=a.STAFF, now=now)


def money_off(who: Customer, dollars: int, now: datetime) -> None:
    give_invoice_credit(
        who, amount=dollars * 100, currency="USD", label="Sorry", reason="outage", actor=a.STAFF, now=now
    )


def change(who: Customer, plan: Plan, now: datetime, timing: Timing | None = None, **how: Any) -> None:
    items = how.pop("items", None)
    proposal = propose(who, a.reread(plan), items=items, timing=timing, activation=Activation.NOW, **how)
    enable_plan(who, proposal, reason="agreed", actor=a.STAFF, now=now)


def end(who: Customer, now: datetime) -> None:
    cancel(a.the_subscription(who), reason="too dear", actor=a.STAFF, now=now)


def act(name: str, who: Customer, plans: dict[str, Plan], now: datetime) -> None:
    main = who.subscriptions.live().get(add_on=False)
    credits = {"feature": "credits", "reason": "outage", "actor": a.STAFF, "now": now}
    wide = [a.fee(50), a.allowance(170, price=None), a.switch()]
    packs = {
        "items": [*plans["pro"].current_version.terms().items, a.prepaid(of="tokens")],
        "bought": {"tokens": Decimal(200)},
    }
    do: dict[str, Callable[[], object]] = {
        "edit": lambda: edit_balance(who, to=Decimal(140), **credits),
        "edit_with_a_date": lambda: edit_balance(who, to=Decimal(33), reset_at=day("2026-03-29"), **credits),
        "bonus": lambda: give_units(
            who,
            Wanted(a.feature("credits"), Decimal(40), None, "Sorry", priority=-1),
            reason="outage",
            actor=a.STAFF,
            now=now,
        ),
        "override": lambda: given(who, 250, now),
        "override_for_good": lambda: given(who, 90, now, None),
        "close_a_feature": lambda: given(who, False, now),
        "special_price": lambda: a.special_price(who, 3000, now=now),
        "percent_off": lambda: apply_coupon(who, c.percent(10), actor=a.STAFF, now=now),
        "money_off": lambda: apply_coupon(who, c.coupon(Coupon.Kind.INVOICE_CREDIT, amount=700, currency="USD"),
                                          actor=a.STAFF, now=now),
        "invoice_credit": lambda: money_off(who, 7, now),
        "downgrade": lambda: change(who, plans["lite"], now, Timing.CYCLE_END),
        "end": lambda: cancel(main, reason="too dear", actor=a.STAFF, now=now),
        "upgrade": lambda: change(who, plans["team"], now),
        "more_features": lambda: change(who, plans["pro"], now, items=wide),
        "more_units": lambda: change(who, plans["pro"], now, quantity=2),
        "packs": lambda: change(who, plans["pro"], now, **packs),
        "lower_now": lambda: change(who, plans["lite"], now, Timing.NOW),
        "free_now": lambda: change(who, plans["free"], now, Timing.NOW),
        "yearly": lambda: change(who, plans["yearly"], now),
        "assigned": lambda: change(who, plans["partner"], now, Timing.NOW),
        "add_on": lambda: change(who, plans["extra"], now),
        "pause": lambda: pause(main, behavior="void", reason="dispute", actor=a.STAFF, now=now),
        "rename": lambda: update_customer(who, name="Acme Inc", actor=a.STAFF, now=now),
    }  # fmt: skip
    do[name]()


# What is compared -----------------------------------------------------------------------------------------------------


def access_of(who: Customer) -> dict[str, Any]:
    return {
        found.feature: (found.has_access, found.unlimited, found.value, found.limit, found.next_reset_at)
        for found in check_all(who, now=LATER)
    }


def remaining_of(who: Customer) -> Decimal:
    """What may be used of credits; below zero, what was used beyond."""
    found = next((f for f in check_all(who, now=LATER) if f.feature == "credits"), None)
    if found is None:
        return Decimal(0)
    return found.remaining if found.remaining else found.net or Decimal(0)


def bills_of(who: Customer) -> list[Any]:
    contracts = list(who.subscriptions.live().with_phases())
    return [
        [(expected.at, expected.total) for expected in forecast(course, {}, most=3)]
        for _, course in read_courses(who, contracts, now=LATER)
    ]


def money_of(who: Customer) -> tuple[int, int]:
    """Account credit, and what is owed."""
    return account_credit(who), sum(invoice.due for invoice in who.invoices.unpaid())


def stands(who: Customer) -> int:
    """What the customer has with us beside the money that they sent, in cents: nobody gains or loses by an undo."""
    credit, owed = money_of(who)
    sent = Payment.objects.filter(invoice__customer=who).aggregate(sum=Sum("amount"))["sum"] or 0
    return credit - owed - sent


SPENT = re.compile(r"^\$([\d,.]+) of the account credit that")
TAKEN_OFF = re.compile(r" took off \S+ counts as used\.$")
PAID = re.compile(r"^\$([\d,.]+) that was paid for")
COVERED = re.compile(r"^([\d,.]+) Credits (of it were|were used of it)")


def named(taken: TakenBack, pattern: re.Pattern[str]) -> Decimal:
    """The sum of what the preview says will stay."""
    found = (pattern.match(sentence) for sentence in taken.stays)
    return sum((Decimal(match[1].replace(",", "")) for match in found if match), Decimal(0))


def used_between(who: Customer, units: int) -> bool:
    try:
        a.use(who, units, now=MARCH_16 + timedelta(days=1))
    except LimitReached:
        return False
    return True


def spend(who: Customer, plans: dict[str, Plan], world: World) -> None:
    """Account credit that is there pays for something else."""
    if world.spends and not world.credit:  # an invoice credit would pay for whichever comes first
        who.refresh_from_db()
        change(who, plans["once"], MARCH_16 + timedelta(days=2))


@pytest.mark.django_db
# The same worlds in every run: what fails here was changed, and is not a find of chance.
@settings(deadline=None, max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))
@hypothesis.given(name=st.sampled_from(ACTS), world=WORLDS, units=st.sampled_from([0, 0, 3]))
def test_an_act_and_its_undoing_leave_what_was_there(name: str, world: World, units: int):
    """The undo law"""
    if name not in CHANGES:
        world = replace(world, owes=False, taxed=False, spends=False)
    with transaction.atomic():
        who, plans = world.build()
        if world.pays:
            a.pay_all(who, now=MARCH_16)
        counted = not units or used_between(who, units)
        spend(who, plans, world)
        without = access_of(who), remaining_of(who), bills_of(who), money_of(who)
        stood = stands(who)
        transaction.set_rollback(True)

    with transaction.atomic():
        who, plans = world.build()
        first = Operation.objects.filter(customer=who).newest().first()
        act(name, who, plans, MARCH_16)
        if world.pays:
            a.pay_all(who, now=MARCH_16)
        between = bool(units) and counted and used_between(who, units)
        operation = the_act(who, first)
        spend(who, plans, world)
        try:
            taken = seen(operation, now=LATER)
            take_back(operation, now=LATER)
        except CannotTakeBack as refused:
            note(f"{name}: {refused.messages}")
            event(f"refused: {name}")
            transaction.set_rollback(True)
            return
        who.refresh_from_db()
        access, remaining, bills, money = access_of(who), remaining_of(who), bills_of(who), money_of(who)
        stand = stands(who)
        transaction.set_rollback(True)

    event(name)
    note(f"{name}: {taken}")
    assert access == without[0]
    if not any(TAKEN_OFF.search(sentence) for sentence in taken.stays):
        assert bills == without[2]
    assert stand == stood + int(named(taken, SPENT) * 100)
    if not (world.owes or world.spends):
        assert money == (without[3][0] + int(named(taken, PAID) * 100), without[3][1])
    if between or not units:
        assert remaining == without[1] + named(taken, COVERED)


def the_act(who: Customer, before: Operation | None) -> Operation:
    """The one that somebody did: what it wrote on the way, and what came in for it, are others."""
    rows = Operation.objects.filter(customer=who, pk__gt=before.pk if before else 0)
    found: Operation = rows.exclude(verb__in=["payment.received", "invoice.issued"]).order_by("id")[0]
    return found
