"""Coupons on a customer: apply, remove."""

from datetime import datetime

from billing_admin.flows.plan_change import NewCoupon
from customers.journal import Actor
from customers.models import AppliedCoupon, Customer, Subscription


def apply_new(
    customer: Customer, new: NewCoupon, *, subscription: Subscription, actor: Actor, now: datetime
) -> AppliedCoupon:
    """Write a coupon that came with an act; one for this act only has ended when the act is over."""
    return AppliedCoupon.objects.create(
        customer=customer,
        subscription=subscription,
        coupon_id=new.coupon_id,
        promo_code_id=new.promo_code_id,
        applied_at=now,
        applied_by=actor.name,
        ends_at=now if new.for_this_act else None,
    )
