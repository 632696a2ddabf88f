"""Coupons and invoice credits of customers as plain rows, in a fixed number of queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.coupons import gives
from catalog.models import Coupon
from catalog.money import format_minor, grouped
from customers.models import AppliedCoupon, AppliedCouponQuerySet, Customer
from entitlements.models import Balance, BalanceEntry
from invoicing.models import InvoiceCredit
from invoicing.rewards import counted_periods, left_of, taken_of_credits


@dataclass(frozen=True, slots=True)
class RewardRow:
    """One coupon of a customer: what it gives, what is left of it, and until when."""

    applied: AppliedCoupon
    gives: str
    left: str
    periods_left: int | None
    is_spent: bool

    @property
    def name(self) -> str:
        return self.applied.coupon.name

    @property
    def ends_at(self) -> datetime | None:
        return self.applied.ends_at

    @property
    def scope(self) -> str:
        """The contract that it is limited to, in words; nothing when it holds for all of them."""
        contract = self.applied.subscription
        is_free_product = self.applied.coupon.kind == Coupon.Kind.FREE_PRODUCT
        return contract.product.name if contract is not None and not is_free_product else ""


@dataclass(frozen=True, slots=True)
class CreditRow:
    """One invoice credit: minor units given, taken by invoices, and left."""

    credit: InvoiceCredit
    taken: int

    @property
    def left(self) -> int:
        return self.credit.amount - self.taken


def rewards_of(customer: Customer, *, now: datetime) -> list[RewardRow]:
    """What a customer has and has not used up, in the order of application; at most seven queries."""
    kept = AppliedCoupon.objects.kept(now).filter(customer=customer)
    return [row for row in reward_rows(kept) if not row.is_spent]


def reward_rows(applied: AppliedCouponQuerySet) -> list[RewardRow]:
    """Any applied coupons as rows, those of many customers included."""
    rows = list(
        applied.select_related(
            "customer", "coupon__free_plan__product", "coupon__feature", "subscription__product", "promo_code"
        )
        .prefetch_related("invoice_credits")
        .order_by("id")
    )
    periods = counted_periods(rows)
    taken = taken_of_credits(credit for row in rows for credit in row.invoice_credits.all())
    units = _units_left(rows)
    return [_row(row, left_of(row, periods), taken, units.get(row.public_id)) for row in rows]


def _units_left(rows: Sequence[AppliedCoupon]) -> dict[str, Decimal]:
    """What is left of the bonuses that coupons gave, by the applied coupon's public id."""
    granting = [row.public_id for row in rows if row.coupon.kind == Coupon.Kind.FEATURE_GRANT]
    if not granting:
        return {}
    entries = BalanceEntry.objects.filter(
        kind=BalanceEntry.Kind.GRANT,
        balance__source=Balance.Source.BONUS,
        operation__verb="coupon.applied",
        operation__effects__applied__in=granting,
    )
    return {
        entry.operation.effects["applied"]: max(Decimal(0), entry.balance.left or Decimal(0))
        for entry in entries.select_related("balance", "operation")
        if entry.operation is not None
    }


def _row(row: AppliedCoupon, periods: int | None, taken: dict[int, int], units: Decimal | None) -> RewardRow:
    left, is_spent, coupon = "", False, row.coupon
    if coupon.kind == Coupon.Kind.INVOICE_CREDIT:
        live = [credit for credit in row.invoice_credits.all() if credit.voided_at is None]
        money = sum(credit.amount - taken.get(credit.pk, 0) for credit in live)
        left, is_spent = f"{format_minor(money, coupon.currency)} left", money <= 0
    elif coupon.kind == Coupon.Kind.FEATURE_GRANT:
        left, is_spent = f"{grouped(units or 0)} left", not units
    elif coupon.kind == Coupon.Kind.FREE_PRODUCT:
        is_spent = row.subscription is not None and row.subscription.ended_at is not None
        left = "until it is removed" if row.ends_at is None else ""
    else:
        left = "for ever" if periods is None else "1 invoice left" if periods == 1 else f"{periods} invoices left"
        ended = row.subscription is not None and row.subscription.ended_at is not None
        is_spent = periods == 0 or ended
    return RewardRow(row, gives(coupon), left, periods, is_spent)


def credits_of(customer: Customer, *, now: datetime) -> list[CreditRow]:
    """Invoice credits given by hand of which something is left, as invoices take them; two queries."""
    rows = credit_rows(InvoiceCredit.objects.live(now).filter(customer=customer, applied_coupon=None))
    return [row for row in rows if row.left > 0]


def credit_rows(credits: Iterable[InvoiceCredit]) -> list[CreditRow]:
    found = list(credits)
    taken = taken_of_credits(found)
    return [CreditRow(credit, taken.get(credit.pk, 0)) for credit in found]
