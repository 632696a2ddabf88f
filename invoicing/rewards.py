"""Coupons of a customer as discounts and invoice credits; what remains of them is counted from documents."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Q, Sum

from catalog.models import Coupon
from customers.models import AppliedCoupon, Customer, Subscription
from invoicing.discounts import DiscountTerms
from invoicing.grants import MoneyGrant
from invoicing.models import Deduction, InvoiceCredit
from invoicing.states import InvoiceState


def discounts_of(
    customer: Customer, subscription: Subscription | None, *, at: datetime, currency: str
) -> Iterator[DiscountTerms]:
    """The discounts that the next document of a contract takes, in the order in which they were applied."""
    wide = Q(subscription=None) | Q(subscription=subscription) if subscription else Q(subscription=None)
    applied = (
        AppliedCoupon.objects.in_force(at)
        .filter(wide, customer=customer, coupon__kind__in=[Coupon.Kind.PERCENT, Coupon.Kind.FIXED])
        .select_related("coupon")
        .prefetch_related("coupon__plans")
        .order_by("id")
    )
    for row in applied:
        terms = discount_terms(row.coupon, row.pk)
        is_foreign = row.coupon.kind == Coupon.Kind.FIXED and row.coupon.currency != currency
        if not is_foreign and periods_left(row) != 0:
            yield terms


def discount_terms(coupon: Coupon, id: int) -> DiscountTerms:
    """A coupon as a discount; `id` is the applied coupon's."""
    plans = frozenset(plan.pk for plan in coupon.plans.all())
    return DiscountTerms(
        id=id,
        label=coupon.name,
        percent=coupon.percent if coupon.kind == Coupon.Kind.PERCENT else None,
        amount=coupon.amount if coupon.kind == Coupon.Kind.FIXED else None,
        keys=frozenset(coupon.item_keys) or None,
        plans=plans or None,
        once=coupon.duration == Coupon.Duration.ONCE,
    )


def periods_left(applied: AppliedCoupon) -> int | None:
    """How many billing periods it still takes part in; None: for ever. Void documents give theirs back."""
    coupon = applied.coupon
    if coupon.duration == Coupon.Duration.FOREVER:
        return None
    most = 1 if coupon.duration == Coupon.Duration.ONCE else coupon.periods or 0
    taken = Deduction.objects.filter(applied_coupon=applied).exclude(invoice__state=InvoiceState.VOID)
    used = taken.values("invoice__subscription", "invoice__covers_from").distinct().count()
    return max(0, most - used)


def money_grants(customer: Customer, *, at: datetime, currency: str) -> Iterator[MoneyGrant]:
    """Invoice credits with something left, in the currency of the document."""
    live = Q(deductions__invoice__isnull=False) & ~Q(deductions__invoice__state=InvoiceState.VOID)
    rows = InvoiceCredit.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=at), customer=customer, currency=currency, voided_at=None
    ).annotate(taken=Sum("deductions__amount", filter=live))
    for row in rows:
        left = row.amount - (row.taken or 0)
        if left > 0:
            yield MoneyGrant(row.pk, row.label, left, row.expires_at, row.priority, row.created_at)
