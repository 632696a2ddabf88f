"""A contract lives through random acts that cost money; after each of them every document must be right."""

import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing_admin.flows.cancel import cancel, preview_cancel, withdraw
from billing_admin.flows.enable_plan import PreviewOutdated, confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.gate import collect, expire
from billing_admin.flows.plan_change import Activation, Timing
from billing_admin.flows.renew import catch_up
from billing_admin.flows.use import track_use
from catalog.charges import GRADUATED, VOLUME, Price, Tier
from catalog.models import Coupon, Plan
from customers.models import AppliedCoupon, Customer, Subscription
from entitlements.balances import Mode
from invoicing.models import Invoice, InvoiceCredit, InvoiceLine, TaxAssignment, TaxRate
from invoicing.readings import account_credit
from tests.builders import (
    STAFF,
    allowance,
    customer,
    fee,
    in_arrears,
    paid_seats,
    pay_all,
    plan,
    prepaid,
)
from tests.instants import MARCH_1

NOTHING_LEFT_OUT = [None, Timing.NOW, Timing.CYCLE_END]
ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("enable"),
            st.integers(0, 6),
            st.sampled_from([0, 0, 100, 250, 800]),
            st.sampled_from([1, 1, 2]),
            st.sampled_from(NOTHING_LEFT_OUT),
            st.sampled_from(list(Activation)),
        ),
        st.tuples(st.just("use"), st.integers(1, 400)),
        st.tuples(st.just("seat"), st.integers(-3, 5)),
        st.tuples(st.just("coupon"), st.integers(0, 3)),
        st.tuples(st.just("credit"), st.integers(1, 9000)),
        st.tuples(st.just("pay"), st.sampled_from([0.4, 1, 1, 1.5])),
        st.tuples(st.just("cancel"), st.booleans(), st.booleans()),
        st.tuples(st.just("withdraw")),
        st.tuples(st.just("wait"), st.integers(0, 40), st.sampled_from([0, 1, 43_200])),
    ),
    min_size=4,
    max_size=12,
)


@dataclass
class Bill:
    who: Customer
    plans: list[Plan]
    coupons: list[Coupon]
    now: datetime = MARCH_1
    granted: int = field(default=0)

    def live(self, act: tuple[Any, ...]) -> None:
        name, *given_ = act
        try:
            with transaction.atomic():
                getattr(self, name)(*given_)
        except PreviewOutdated:
            raise AssertionError("a preview was outdated although nothing moved") from None
        except ValidationError as refusal:
            note(f"refused: {refusal.messages}")
        self.who.refresh_from_db()

    def enable(self, which: int, units: int, quantity: int, timing: Timing | None, activation: Activation) -> None:
        chosen = self.plans[which]
        sells = any(item.is_prepaid for item in chosen.current_version.terms().items)
        proposal = propose(
            self.who,
            chosen,
            quantity=quantity,
            timing=timing,
            activation=activation,
            bought={"credits": Decimal(units)} if sells and units else None,
        )
        change = preview_plan(self.who, proposal, now=self.now)
        enabled = enable_plan(
            self.who, proposal, reason="test", actor=STAFF, now=self.now, confirmed=confirmation(change)
        )
        assert sum(invoice.total for invoice in enabled.invoices) == change.total
        issued = [x for invoice in enabled.invoices for x in invoice.lines.values_list("key", "kind", "amount")]
        assert sorted(issued) == sorted((line.key, line.kind, line.amount) for line in change.lines)

    def use(self, amount: int) -> None:
        track_use(self.who, feature="credits", amount=Decimal(amount), now=self.now, mode=Mode.CAP)

    def seat(self, amount: int) -> None:
        track_use(self.who, feature="seats", amount=Decimal(amount), now=self.now, mode=Mode.CAP)

    def coupon(self, which: int) -> None:
        if not AppliedCoupon.objects.filter(customer=self.who, coupon=self.coupons[which]).exists():
            AppliedCoupon.objects.create(
                customer=self.who, coupon=self.coupons[which], applied_at=self.now, applied_by="test"
            )

    def credit(self, amount: int) -> None:
        self.granted += amount
        InvoiceCredit.objects.create(
            customer=self.who, label="Sorry", amount=amount, currency="USD", created_by="test", created_at=self.now
        )

    def pay(self, share: float) -> None:
        for invoice in self.who.invoices.unpaid():
            if amount := int(invoice.due * share):
                collect(invoice, amount=amount, reference="bank", actor=STAFF, now=self.now)

    def cancel(self, at_once: bool, bill_use: bool) -> None:
        for subscription in self.who.subscriptions.live()[:1]:
            planned = preview_cancel(subscription, at_once=at_once, bill_use=bill_use, now=self.now)
            _, invoices = cancel(
                subscription, at_once=at_once, bill_use=bill_use, reason="test", actor=STAFF, now=self.now
            )
            assert sum(invoice.total for invoice in invoices) == (planned.total if planned.at_once else 0)

    def withdraw(self) -> None:
        for subscription in self.who.subscriptions.live()[:1]:
            withdraw(subscription, actor=STAFF, now=self.now)

    def wait(self, days: int, seconds: int) -> None:
        self.now += timedelta(days=days, seconds=seconds)
        for invoice in Invoice.objects.expired(self.now).filter(customer=self.who):
            expire(invoice, now=self.now)
        catch_up(self.who, now=self.now)

    def is_right(self) -> None:
        for invoice in self.who.invoices.prefetch_related("lines__credits", "deductions"):
            lines = list(invoice.lines.all())
            off = [sum(getattr(line, name) for line in lines) for name in ("discounted", "credited")]
            assert invoice.subtotal == sum(line.amount for line in lines)
            assert [invoice.discount_total, invoice.credit_total] == off
            assert sum(d.amount for d in invoice.deductions.all()) == sum(off)
            assert invoice.tax_added + invoice.tax_included == sum(line.tax for line in lines)
            assert invoice.total == invoice.subtotal - sum(off) + invoice.tax_added
            assert invoice.due >= 0
            for line in lines:
                assert line.amount < 0 or line.net >= 0
                given = sum(credit.amount for credit in line.credits.all())
                assert line.amount <= 0 or line.net + given >= 0, "credited more than was charged"
        assert account_credit(self.who) >= 0
        spent = sum(self.who.invoices.exclude(state="void").values_list("credit_total", flat=True))
        assert spent <= self.granted
        numbered = self.who.invoices.filter(kind="invoice").exclude(number=None).order_by("id")
        numbers = [int(number.rsplit("-", 1)[1]) for number in numbered.values_list("number", flat=True)]
        assert numbers == list(range(1, len(numbers) + 1))
        for subscription in self.who.subscriptions.all():
            periods_are_billed_once(subscription, self.now)
        connection.check_constraints()


def periods_are_billed_once(subscription: Subscription, now: datetime) -> None:
    """No gap and no overlap in what was paid ahead, item by item, over the time that its phases were in force."""
    lines = InvoiceLine.objects.filter(subscription=subscription, kind__in=["fee", "prepaid"]).exclude(
        derivation__has_key="inArrears"
    )
    covered: dict[str, list[tuple[datetime, datetime]]] = {}
    for line in lines.prefetch_related("credits"):
        credits = [credit.starts_at for credit in line.credits.all() if credit.kind == "unused"]
        ends_at = min([line.ends_at, *credits])
        if line.starts_at < ends_at:
            covered.setdefault(line.key, []).append((line.starts_at, ends_at))
    for key, spans in covered.items():
        spans.sort()
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start, f"{key} was billed twice for a time"
    never_began = subscription.end_reason in ("payment_expired", "replaced")
    if never_began or subscription.state not in ("trialing", "active", "past_due", "ended"):
        return
    for phase in subscription.phases.kept().filter(is_trial=False, starts_at__lte=now):
        for item in phase.sold().advance_items:
            until = min(phase.ends_at or now, now)
            if item.advance and not item.is_seats and phase.starts_at < until:
                told = covered.get(item.key, [])
                paid = sum(
                    (
                        min(end, until) - max(start, phase.starts_at)
                        for start, end in told
                        if end > phase.starts_at and start < until
                    ),
                    timedelta(),
                )
                assert paid == until - phase.starts_at, f"{item.key} was not billed for all of its time"


def world() -> tuple[list[Plan], list[Coupon]]:
    graduated = Price(GRADUATED, pack=Decimal(100), tiers=(Tier(Decimal(500), Decimal(10)), Tier(None, Decimal(5))))
    volume = Price(VOLUME, tiers=(Tier(Decimal(50), Decimal("0.37")), Tier(None, Decimal("0.19"))))
    plans = [
        plan("pro", fee(50), allowance(100, price="0.10"), paid_seats(2, price="7")),
        plan("packs", fee("19.99"), prepaid(50), paid_seats(0)),
        plan("tiers", fee(20), prepaid(price=graduated), fee(3, key="support"), in_arrears(31, key="audit")),
        plan("late", in_arrears("61.01"), by_use(volume), commitment="80"),
        plan("yearly", fee(480, cadence="P1Y"), allowance(100, price="0.05", cadence="P1M"), cadence="P1Y"),
        plan("tried", fee(33), fee(9, key="setup", cadence="P0D"), allowance(10), trial_days=10),
        plan("free", allowance(10)),
    ]
    for made in plans[:2]:
        TaxAssignment.objects.create(rate=TaxRate.objects.create(name="VAT", percent=Decimal("19")), plan=made)
    TaxAssignment.objects.create(
        rate=TaxRate.objects.create(name="GST", percent=Decimal("7.25"), inclusive=True), plan=plans[2]
    )
    shapes: list[dict[str, Any]] = [
        {"kind": "percent", "percent": Decimal("12.5"), "duration": "forever"},
        {"kind": "percent", "percent": Decimal(100), "duration": "once"},
        {"kind": "fixed", "amount": 700, "currency": "USD", "duration": "repeating", "periods": 2},
        {"kind": "percent", "percent": Decimal(33), "duration": "forever", "item_keys": ["base"]},
    ]
    return plans, [Coupon.objects.create(code=f"c{n}", name=f"C{n}", **shape) for n, shape in enumerate(shapes)]


def by_use(price: Price) -> Any:
    return replace(allowance(0, price="1"), price=price)


@pytest.mark.django_db
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(acts=ACTS)
def test_every_document_is_right_after_any_sequence_of_acts(acts):
    """Law 12, A-11, A-42: sums, deductions, taxes, credits, numbers; each period of each item is billed once."""
    with transaction.atomic():
        plans, coupons = world()
        bill = Bill(customer(), plans, coupons)
        for act in acts:
            note(f"{bill.now:%Y-%m-%d %H:%M:%S} {act}")
            bill.live(act)
            bill.is_right()
        pay_all(bill.who, now=bill.now)
        bill.is_right()
        transaction.set_rollback(True)
