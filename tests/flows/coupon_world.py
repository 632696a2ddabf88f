"""Coupons in few words."""

from decimal import Decimal
from itertools import count
from typing import Any

from billing_admin.flows.rewards import apply_coupon
from catalog.coupons import CouponDraft, create_coupon
from catalog.models import Coupon
from customers.models import AppliedCoupon, Customer
from tests.builders import STAFF
from tests.instants import MARCH_1

CURRENCIES = ("USD", "EUR")
_numbers = count(1)


def coupon(kind: str = Coupon.Kind.PERCENT, **options: Any) -> Coupon:
    """A coupon with a name of its own; what is not said is left empty."""
    name = options.pop("name", f"Coupon {next(_numbers)}")
    return create_coupon(CouponDraft(name=name, kind=kind, **options), currencies=CURRENCIES, now=MARCH_1)


def percent(percent: int | str = 20, *, duration: str = Coupon.Duration.FOREVER, **options: Any) -> Coupon:
    return coupon(Coupon.Kind.PERCENT, percent=Decimal(percent), duration=duration, **options)


def fixed(
    cents: int = 300, *, duration: str = Coupon.Duration.FOREVER, currency: str = "USD", **options: Any
) -> Coupon:
    return coupon(Coupon.Kind.FIXED, amount=cents, currency=currency, duration=duration, **options)


def credit(cents: int = 5000, **options: Any) -> Coupon:
    return coupon(Coupon.Kind.INVOICE_CREDIT, amount=cents, currency="USD", **options)


def apply(who: Customer, what: Coupon | str, **options: Any) -> AppliedCoupon:
    now = options.pop("now", MARCH_1)
    return apply_coupon(who, what, actor=STAFF, now=now, **options)
