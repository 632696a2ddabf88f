"""What only the books can tell: how often a coupon was used, and what a wallet holds. Nothing stays behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import Coupon
from catalog.periods import Cadence, boundary
from customers.models import AppliedCoupon, Customer
from invoicing.discounts import DiscountTerms
from invoicing.documents import BillingRules, draw
from invoicing.issue import CustomerNotLocked, issue
from invoicing.lines import FEE, Line
from invoicing.models import Invoice
from invoicing.rewards import periods_left
from tests import builders
from tests.vectors.money.values import Minor, Vector, instant

START = instant("2025-06-01")
MONTH = Cadence(months=1)
FREQUENCIES = {
    "once": Coupon.Duration.ONCE,
    "recurring": Coupon.Duration.REPEATING,
    "forever": Coupon.Duration.FOREVER,
}
_numbers = count(1)


@contextmanager
def the_books() -> Iterator[None]:
    """A transaction that leaves nothing behind."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def coupon_through_the_periods(vector: Vector) -> dict[str, Any]:
    """A coupon on a customer who was invoiced as often as it was used before, and once more."""
    given = vector.given
    with the_books():
        fees = [
            builders.fee(str(amount), key=f"fee-{n}", cadence="P1M") for n, amount in enumerate(vector.amounts("lines"))
        ]
        plan = builders.plan(f"vectors-{next(_numbers)}", *fees, currency=vector.currency, now=START)
        who = builders.customer(since=START)
        applied = _apply(_coupon(given, vector.currency), who)
        builders.enable(who, plan, now=START)
        before = given["periods"] - given["remaining"] if "periods" in given else 1
        for n in range(1, before + 1):
            builders.pass_time(who, to=boundary(START, MONTH, n))
        latest = Invoice.objects.filter(customer=who).latest("id")
        left = periods_left(applied)
        return {
            "credit_minor": Minor(latest.discount_total),
            # One that holds for ever counts nothing down.
            "remaining_after": given["remaining"] if left is None else left,
        }


def issue_unlocked(currency: str) -> dict[str, Any]:
    """A document with a coupon, issued where nobody can hold the customer's row."""
    lines = [Line(FEE, "fee-1", "Fee", 300, currency)]
    rules = BillingRules(discounts=(DiscountTerms(1, "coupon", amount=12),))
    try:
        return {"issued": issue(Customer(name="Nobody"), draw(lines, rules), now=START)}
    except CustomerNotLocked as refusal:
        raise ValidationError(str(refusal), code="customer_not_locked") from refusal


def _coupon(given: dict[str, Any], currency: str) -> Coupon:
    number = next(_numbers)
    fixed = "coupon_minor" in given
    return Coupon.objects.create(
        code=f"vectors-{number}",
        name=f"Coupon {number}",
        kind=Coupon.Kind.FIXED if fixed else Coupon.Kind.PERCENT,
        amount=given["coupon_minor"] if fixed else None,
        currency=currency if fixed else "",
        percent=None if fixed else Decimal(str(given["coupon_percent"])),
        duration=FREQUENCIES[given["frequency"]],
        periods=given.get("periods"),
    )


def _apply(coupon: Coupon, who: Customer, *, at: datetime = START) -> AppliedCoupon:
    return AppliedCoupon.objects.create(customer=who, coupon=coupon, applied_at=at, applied_by="vectors")
