"""Coupons: which can be given out (every bad field named at once), what each gives in words, and their verbs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.items import check_currency
from catalog.models import Coupon, Feature, Plan, PromoCode, unique_key
from catalog.money import format_minor, grouped, plain
from catalog.terms import METERED

Kind, Duration = Coupon.Kind, Coupon.Duration
CODE = re.compile(r"^[a-z0-9][a-z0-9_\-]*$")
PROMO = re.compile(r"^[A-Z0-9][A-Z0-9_\-]*$")
MOST_PERIODS, MOST_DAYS, MOST_TIMES, MOST_MINOR = 600, 36_500, 2**31 - 1, 10**15
MOST_UNITS = Decimal(10) ** 18

# Which of these say what a coupon of each kind gives; the others stay empty.
GIVES: dict[str, tuple[str, ...]] = {
    Kind.PERCENT: ("percent", "duration", "periods", "item_keys"),
    Kind.FIXED: ("amount", "currency", "duration", "periods", "item_keys"),
    Kind.INVOICE_CREDIT: ("amount", "currency", "lasts_days"),
    Kind.FREE_PRODUCT: ("free_plan", "lasts_days"),
    Kind.FEATURE_GRANT: ("feature", "units", "lasts_days"),
}
OF_A_KIND = tuple(dict.fromkeys(name for names in GIVES.values() for name in names))


class InvalidCoupon(ValidationError):
    """A coupon that cannot be given out; an error for each field."""


@dataclass(frozen=True, slots=True)
class CouponDraft:
    """A coupon as somebody wants it. `amount` in minor units; an empty code is made from the name."""

    name: str
    kind: str
    code: str = ""
    percent: Decimal | None = None
    amount: int | None = None
    currency: str = ""
    duration: str = ""
    periods: int | None = None
    plans: tuple[Plan, ...] = ()
    item_keys: tuple[str, ...] = ()
    first_time_only: bool = False
    max_redemptions: int | None = None
    redeem_by: datetime | None = None
    free_plan: Plan | None = None
    feature: Feature | None = None
    units: Decimal | None = None
    lasts_days: int | None = None


Wrong = Callable[[str, str, str], None]


def check_coupon(
    draft: CouponDraft, *, currencies: Sequence[str], now: datetime, present: Coupon | None = None
) -> None:
    """Refuse a coupon that cannot be given out, with every wrong field named at once. Raises `InvalidCoupon`.

    `currencies` are those of the account.
    """
    errors: dict[str, list[ValidationError]] = {}

    def wrong(field: str, message: str, code: str) -> None:
        errors.setdefault(field, []).append(ValidationError(message, code=code))

    if draft.kind not in Kind.values:
        wrong("kind", f"Choose what the coupon gives: {', '.join(Kind.values)}.", "unknown_kind")
    else:
        for name in OF_A_KIND:
            if name not in GIVES[draft.kind] and getattr(draft, name):
                wrong(name, f"“{Kind(draft.kind).label}” does not go with this field; leave it empty.", "not_for_kind")
        _CHECKS[draft.kind](draft, currencies, wrong)
    _check_names(draft, present, wrong)
    _check_limits(draft, now, present, wrong)
    _check_plans(draft, wrong)
    if errors:
        raise InvalidCoupon(errors)


def _check_names(draft: CouponDraft, present: Coupon | None, wrong: Wrong) -> None:
    if not draft.name.strip():
        wrong("name", "Give the coupon a name; customers read it on their invoices.", "name_required")
    elif len(draft.name) > 120:
        wrong("name", "A name has at most 120 characters.", "too_long")
    if not draft.code:
        return
    if len(draft.code) > 60 or not CODE.match(draft.code):
        wrong("code", "Use up to 60 lower-case letters, digits, - and _, starting with one.", "bad_key")
        return
    own = present.pk if present else 0
    others = Coupon.objects.filter(code=draft.code).exclude(pk=own)
    if others.exists() or PromoCode.objects.filter(code=draft.code.upper()).exclude(coupon_id=own).exists():
        wrong("code", f"The code {draft.code!r} is taken.", "unique")


def _check_percent(draft: CouponDraft, _currencies: Sequence[str], wrong: Wrong) -> None:
    percent = draft.percent
    if percent is None:
        wrong("percent", "Say how many percent are taken off.", "percent_required")
    elif not percent.is_finite() or not 0 < percent <= 100:
        wrong("percent", "A percent is above 0 and at most 100.", "bad_percent")
    elif percent != percent.quantize(Decimal("0.0001")):
        wrong("percent", "A percent has at most 4 decimals.", "bad_percent")
    _check_duration(draft, wrong)


def _check_amount(draft: CouponDraft, currencies: Sequence[str], wrong: Wrong) -> None:
    if draft.amount is None:
        wrong("amount", "Say how much money it gives.", "amount_required")
    elif not 0 < draft.amount <= MOST_MINOR:
        wrong("amount", "The amount is above 0.", "bad_amount")
    if not draft.currency:
        wrong("currency", "An amount needs its currency.", "currency_required")
        return
    try:
        check_currency(draft.currency, currencies)
    except ValidationError as refused:
        wrong("currency", refused.messages[0], "unknown_currency")


def _check_fixed(draft: CouponDraft, currencies: Sequence[str], wrong: Wrong) -> None:
    _check_amount(draft, currencies, wrong)
    _check_duration(draft, wrong)


def _check_credit(draft: CouponDraft, currencies: Sequence[str], wrong: Wrong) -> None:
    _check_amount(draft, currencies, wrong)
    _check_days(draft, wrong)


def _check_product(draft: CouponDraft, _currencies: Sequence[str], wrong: Wrong) -> None:
    plan = draft.free_plan
    if plan is None:
        wrong("free_plan", "Choose the plan that is given.", "plan_required")
    elif plan.kind != Plan.Kind.ASSIGNED or plan.is_default:
        wrong("free_plan", "Only an assigned plan can be given, and not the default product.", "bad_plan")
    elif plan.archived_at is not None or plan.current_version_id is None:
        wrong("free_plan", f"{plan.name} is archived or was never published, so nobody can get it.", "bad_plan")
    _check_days(draft, wrong)


def _check_grant(draft: CouponDraft, _currencies: Sequence[str], wrong: Wrong) -> None:
    feature, units = draft.feature, draft.units
    if feature is None:
        wrong("feature", "Choose the feature whose units are given.", "feature_required")
    elif feature.type != METERED:
        wrong("feature", f"{feature.name} is not metered, so there are no units of it to give.", "not_metered")
    elif feature.archived_at is not None:
        wrong("feature", f"{feature.name} is archived.", "archived")
    if units is None:
        wrong("units", "Say how many units are given.", "units_required")
    elif not units.is_finite() or not 0 < units < MOST_UNITS or units != units.quantize(Decimal("0.000001")):
        wrong("units", "Units are a number above 0 with at most 6 decimals.", "bad_units")
    _check_days(draft, wrong)


def _check_duration(draft: CouponDraft, wrong: Wrong) -> None:
    if draft.duration not in Duration.values:
        wrong("duration", f"Choose how long it lasts: {', '.join(Duration.values)}.", "unknown_duration")
    elif draft.duration == Duration.REPEATING:
        if draft.periods is None or not 1 <= draft.periods <= MOST_PERIODS:
            wrong("periods", f"Say for how many billing periods, 1 to {MOST_PERIODS}.", "bad_periods")
    elif draft.periods is not None:
        wrong("periods", "Only a coupon for several billing periods counts them.", "not_for_duration")


def _check_days(draft: CouponDraft, wrong: Wrong) -> None:
    if draft.lasts_days is not None and not 1 <= draft.lasts_days <= MOST_DAYS:
        wrong("lasts_days", f"It lasts 1 to {MOST_DAYS:,} days; empty: without end.", "bad_days")


def _check_limits(draft: CouponDraft, now: datetime, present: Coupon | None, wrong: Wrong) -> None:
    if draft.max_redemptions is not None and not 1 <= draft.max_redemptions <= MOST_TIMES:
        wrong("max_redemptions", "It can be redeemed at least once; empty: without limit.", "bad_limit")
    moved = present is None or present.redeem_by != draft.redeem_by
    if draft.redeem_by is not None and moved and draft.redeem_by <= now:
        wrong("redeem_by", "The last moment to redeem it lies in the future.", "in_the_past")


def _check_plans(draft: CouponDraft, wrong: Wrong) -> None:
    foreign = [plan.name for plan in draft.plans if draft.currency and plan.currency != draft.currency]
    if foreign:
        wrong("plans", f"{', '.join(foreign)}: not in {draft.currency}, so the amount cannot come off.", "bad_plan")
    if draft.item_keys and draft.plans:
        versions = [plan.current_version for plan in draft.plans if plan.current_version]
        known = {item.key for version in versions for item in version.terms().items}
        if unknown := [key for key in draft.item_keys if key not in known]:
            wrong("item_keys", f"These plans have no item {', '.join(unknown)}.", "unknown_item")


_CHECKS: dict[str, Callable[[CouponDraft, Sequence[str], Wrong], None]] = {
    Kind.PERCENT: _check_percent,
    Kind.FIXED: _check_fixed,
    Kind.INVOICE_CREDIT: _check_credit,
    Kind.FREE_PRODUCT: _check_product,
    Kind.FEATURE_GRANT: _check_grant,
}


# Verbs ----------------------------------------------------------------------------------------------------------------


@transaction.atomic
def create_coupon(draft: CouponDraft, *, currencies: Sequence[str], now: datetime) -> Coupon:
    """Raises `InvalidCoupon` with every bad field."""
    check_coupon(draft, currencies=currencies, now=now)
    return _write(Coupon(), draft)


@transaction.atomic
def change_coupon(coupon: Coupon, draft: CouponDraft, *, currencies: Sequence[str], now: datetime) -> Coupon:
    """Raises `InvalidCoupon` with every bad field."""
    check_coupon(draft, currencies=currencies, now=now, present=coupon)
    return _write(coupon, draft)


def _write(coupon: Coupon, draft: CouponDraft) -> Coupon:
    for field in fields(draft):
        if field.name not in ("plans", "item_keys", "duration", "code", "name"):
            setattr(coupon, field.name, getattr(draft, field.name))
    coupon.name = draft.name.strip()
    coupon.code = draft.code or coupon.code or unique_key(Coupon, draft.name, "code")
    coupon.duration = draft.duration or Duration.ONCE
    coupon.item_keys = list(draft.item_keys)
    coupon.save()
    coupon.plans.set(draft.plans)
    return coupon


def draft_of(coupon: Coupon) -> CouponDraft:
    """A coupon as its own draft, to change a part of it."""
    found = {f.name: getattr(coupon, f.name) for f in fields(CouponDraft) if f.name not in ("plans", "item_keys")}
    found["duration"] = coupon.duration if "duration" in GIVES[coupon.kind] else ""
    return CouponDraft(**found, plans=tuple(coupon.plans.all()), item_keys=tuple(coupon.item_keys))


def archive_coupon(coupon: Coupon, *, now: datetime) -> Coupon:
    """Nobody gets it any more; whoever has it keeps it. Safe to call twice."""
    if coupon.archived_at is None:
        coupon.archived_at = now
        coupon.save(update_fields=["archived_at"])
    return coupon


def restore_coupon(coupon: Coupon) -> Coupon:
    coupon.archived_at = None
    coupon.save(update_fields=["archived_at"])
    return coupon


@transaction.atomic
def add_promo_code(
    coupon: Coupon,
    code: str,
    *,
    max_redemptions: int | None = None,
    expires_at: datetime | None = None,
    first_time_only: bool = False,
    now: datetime,
) -> PromoCode:
    """A word for a coupon, kept in upper case. Raises `InvalidCoupon` with every bad field."""
    word = code.strip().upper()
    errors: dict[str, ValidationError] = {}
    if not PROMO.match(word) or len(word) > 40:
        errors["code"] = ValidationError("Use up to 40 letters, digits, - and _, starting with one.", "bad_key")
    elif (
        PromoCode.objects.filter(code=word).exists()
        or Coupon.objects.filter(code=word.lower()).exclude(pk=coupon.pk).exists()
    ):
        errors["code"] = ValidationError(f"The code {word} is taken.", "unique")
    if max_redemptions is not None and not 1 <= max_redemptions <= MOST_TIMES:
        errors["max_redemptions"] = ValidationError("It can be redeemed at least once; empty: no limit.", "bad_limit")
    if expires_at is not None and expires_at <= now:
        errors["expires_at"] = ValidationError("It expires in the future.", "in_the_past")
    if errors:
        raise InvalidCoupon(errors)
    return PromoCode.objects.create(
        coupon=coupon,
        code=word,
        max_redemptions=max_redemptions,
        expires_at=expires_at,
        first_time_only=first_time_only,
    )


def turn_promo_code(promo: PromoCode, *, on: bool) -> PromoCode:
    promo.is_active = on
    promo.save(update_fields=["is_active"])
    return promo


# Words ----------------------------------------------------------------------------------------------------------------


def gives(coupon: Coupon) -> str:
    """What it gives: `20 % off`, `$5.00 off`, `$50.00 for invoices`, `Partner for free`, `40 Credits`."""
    if coupon.kind == Kind.PERCENT:
        return f"{plain(coupon.percent or 0)} % off"
    if coupon.kind == Kind.FREE_PRODUCT:
        return f"{coupon.free_plan.title if coupon.free_plan else 'A plan'} for free"
    if coupon.kind == Kind.FEATURE_GRANT:
        return f"{grouped(coupon.units or 0)} {coupon.feature.name if coupon.feature else 'units'}"
    money = format_minor(coupon.amount or 0, coupon.currency)
    return f"{money} off" if coupon.kind == Kind.FIXED else f"{money} for invoices"


def lasts(coupon: Coupon) -> str:
    """For how long: `one invoice`, `3 billing periods`, `for ever`, `30 days`, `without end`."""
    if coupon.kind not in (Kind.PERCENT, Kind.FIXED):
        days = coupon.lasts_days
        return "without end" if days is None else "1 day" if days == 1 else f"{days:,} days"
    if coupon.duration == Duration.REPEATING:
        return "1 billing period" if coupon.periods == 1 else f"{coupon.periods} billing periods"
    return "for ever" if coupon.duration == Duration.FOREVER else "one invoice"
