"""What acts of this desk have in common: whom they are about, and how they find again what was asked for."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from billing_admin.approving import Effect, Size
from catalog.models import Coupon, Feature
from catalog.money import grouped, to_major
from customers.models import Customer, Operation, Subscription
from invoicing.models import Invoice

# What has no end lasts longer than any rule can say.
FOREVER = Decimal(1_000_000)


class Gone(ValidationError):
    def __init__(self, what: str):
        super().__init__(f"{what} is not there any more.", code="gone")


def customer_again(inputs: Mapping[str, Any]) -> Customer:
    found = Customer.objects.filter(public_id=inputs["customer"]).first()
    if found is None:
        raise Gone("The customer")
    return found


def subscription_again(public_id: str) -> Subscription:
    found = Subscription.objects.select_related("customer").filter(public_id=public_id).first()
    if found is None:
        raise Gone("The subscription")
    return found


def invoice_again(public_id: str) -> Invoice:
    found = Invoice.objects.select_related("customer").filter(public_id=public_id).first()
    if found is None:
        raise Gone("The invoice")
    return found


def feature_again(slug: str) -> Feature:
    found = Feature.objects.filter(slug=slug).first()
    if found is None:
        raise Gone("The feature")
    return found


def instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def day(at: datetime | None, otherwise: str) -> str:
    return f"{at:%-d %b %Y}" if at else otherwise


def days_between(start: datetime, end: datetime | None) -> Decimal:
    """To a hundredth; without an end, for ever."""
    return FOREVER if end is None else round(Decimal((end - start) / timedelta(days=1)), 2)


def last_of(customer: Customer, verb: str) -> Operation | None:
    """The line that a verb has just written; the customer's row is held."""
    found: Operation | None = customer.operations.filter(verb=verb).order_by("-id").first()
    return found


def money(measure: str, minor: int, currency: str) -> Size:
    """Of an amount in minor units."""
    return Size(measure, to_major(minor, currency), currency)


def sizes_of_coupon(coupon: Coupon, discount: Decimal) -> list[Size]:
    """What a coupon gives, by the measures of its rules. Its discount depends on what it comes off."""
    found = [Size("discount", discount)]
    if coupon.amount:
        found.append(money("amount", coupon.amount, coupon.currency))
    if coupon.units:
        found.append(Size("units", coupon.units))
    return found


def percent(value: Decimal) -> str:
    return f"{grouped(value)} %"


def coupons_beside(customer: Customer) -> list[str]:
    """What else takes money off for this customer: a discount is another one beside a new coupon."""
    rows = customer.applied_coupons.filter(removed_at=None).order_by("id")
    return list(rows.values_list("public_id", flat=True))


def about(customer: Customer) -> Effect:
    return Effect("Customer", "", customer.name)
