"""Acts on the coupons that we give out: each calls one verb of the catalog and writes one line in the journal.

What the catalog cannot know is asked here first: whether somebody has the coupon already.
"""

from dataclasses import fields, replace
from datetime import datetime

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from catalog import coupons as verbs
from catalog.coupons import CouponDraft, InvalidCoupon, draft_of, gives, lasts
from catalog.models import Coupon, PromoCode
from customers.journal import Actor, record

# Whoever has a coupon keeps what it gives; what may change are its name and who may still get it.
FREE_TO_CHANGE = ("name", "code", "plans", "first_time_only", "max_redemptions", "redeem_by")


@transaction.atomic
def make_coupon(draft: CouponDraft, *, actor: Actor, now: datetime) -> Coupon:
    """Raises `InvalidCoupon` with every bad field."""
    coupon = verbs.create_coupon(draft, currencies=settings.CURRENCIES, now=now)
    told = f"Coupon {coupon.name} was created: {gives(coupon)}, {lasts(coupon)}"
    record(None, "coupon.created", told, actor=actor, now=now, effects={"coupon": coupon.code})
    return coupon


@transaction.atomic
def edit_coupon(coupon: Coupon, draft: CouponDraft, *, actor: Actor, now: datetime) -> Coupon:
    """What it gives is fixed once somebody has it. Raises `InvalidCoupon` with every bad field."""
    coupon = Coupon.objects.select_for_update().get(pk=coupon.pk)
    before = draft_of(coupon)
    draft = draft if draft.code else replace(draft, code=before.code)
    changed = [f.name for f in fields(CouponDraft) if getattr(before, f.name) != getattr(draft, f.name)]
    fixed = [name for name in changed if name not in FREE_TO_CHANGE]
    if fixed and is_held(coupon):
        why = "Customers have this coupon, so what it gives is fixed. Make another one."
        raise InvalidCoupon({name: ValidationError(why, code="fixed") for name in fixed})
    coupon = verbs.change_coupon(coupon, draft, currencies=settings.CURRENCIES, now=now)
    if changed:
        effects = {"coupon": coupon.code, "changed": changed}
        record(None, "coupon.changed", f"Coupon {coupon.name} was changed", actor=actor, now=now, effects=effects)
    return coupon


def is_held(coupon: Coupon) -> bool:
    """Whether it was ever given to somebody."""
    return bool(coupon.applied.exists())


@transaction.atomic
def archive_coupon(coupon: Coupon, *, actor: Actor, now: datetime) -> Coupon:
    coupon = verbs.archive_coupon(coupon, now=now)
    told = f"Coupon {coupon.name} was archived"
    record(None, "coupon.archived", told, actor=actor, now=now, effects={"coupon": coupon.code})
    return coupon


@transaction.atomic
def restore_coupon(coupon: Coupon, *, actor: Actor, now: datetime) -> Coupon:
    coupon = verbs.restore_coupon(coupon)
    told = f"Coupon {coupon.name} is given out again"
    record(None, "coupon.restored", told, actor=actor, now=now, effects={"coupon": coupon.code})
    return coupon


@transaction.atomic
def make_promo_code(
    coupon: Coupon,
    code: str,
    *,
    max_redemptions: int | None = None,
    expires_at: datetime | None = None,
    first_time_only: bool = False,
    actor: Actor,
    now: datetime,
) -> PromoCode:
    """Raises `InvalidCoupon` with every bad field."""
    promo = verbs.add_promo_code(
        coupon,
        code,
        max_redemptions=max_redemptions,
        expires_at=expires_at,
        first_time_only=first_time_only,
        now=now,
    )
    told = f"Promo code {promo.code} was added to {coupon.name}"
    record(None, "promo_code.added", told, actor=actor, now=now, effects={"coupon": coupon.code, "code": promo.code})
    return promo


@transaction.atomic
def turn_promo_code(promo: PromoCode, *, on: bool, actor: Actor, now: datetime) -> PromoCode:
    """Switch a promo code off, or on again. Whoever has its coupon keeps it."""
    promo = verbs.turn_promo_code(promo, on=on)
    told = f"Promo code {promo.code} was switched {'on' if on else 'off'}"
    record(None, "promo_code.turned", told, actor=actor, now=now, effects={"code": promo.code, "active": on})
    return promo
