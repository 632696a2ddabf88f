"""Coupons at the door: who may have one, each refusal with its own sentence, and the row that says who has it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.core.exceptions import ValidationError

from billing_admin.flows.plan_change import NewCoupon
from catalog.models import Coupon, Plan, PromoCode
from customers.journal import Actor
from customers.models import AppliedCoupon, Customer, Phase, Subscription
from entitlements.models import Balance, Grant
from invoicing.models import Invoice
from invoicing.rewards import DISCOUNTS, discount_terms, most_periods, periods_left, taken_of_credits
from invoicing.states import InvoiceState


class UnknownCoupon(ValidationError):
    def __init__(self, code: str):
        super().__init__(f"There is no coupon or promo code {code!r}.", code="coupon_not_found")


class CouponExpired(ValidationError):
    def __init__(self, name: str, at: datetime):
        super().__init__(f"{name} could be redeemed until {at:%-d %b %Y}; it has expired.", code="coupon_expired")


class CouponNotActive(ValidationError):
    def __init__(self, name: str):
        super().__init__(f"{name} is no longer given out.", code="coupon_not_active")


class CouponNotForPlan(ValidationError):
    def __init__(self, coupon: Coupon):
        plans = ", ".join(sorted(plan.name for plan in coupon.plans.all()))
        super().__init__(
            f"{coupon.name} is only for {plans}; this customer is on none of them.", code="coupon_not_for_plan"
        )


class CouponForFirstTime(ValidationError):
    def __init__(self, name: str):
        super().__init__(
            f"{name} is only for new customers; this one has paid an invoice already.", code="coupon_for_first_time"
        )


class CouponUsedUp(ValidationError):
    def __init__(self, name: str, most: int):
        times = "once" if most == 1 else f"{most:,} times"
        super().__init__(f"{name} could be redeemed {times}; nothing is left of it.", code="coupon_used_up")


class CouponAppliedAlready(ValidationError):
    def __init__(self, coupon: Coupon):
        super().__init__(f"This customer has {coupon.name} already.", code="coupon_applied_already")


class CouponInOtherCurrency(ValidationError):
    def __init__(self, coupon: Coupon, currency: str):
        super().__init__(
            f"{coupon.name} is in {coupon.currency}, but this customer is billed in {currency}.",
            code="coupon_in_other_currency",
        )


class NotADiscount(ValidationError):
    def __init__(self, coupon: Coupon):
        super().__init__(
            f"{coupon.name} is given at once and cannot wait for a plan: add it on the customer's page.",
            code="not_a_discount",
        )


class Begins(StrEnum):
    """From when a discount counts."""

    NEXT_INVOICE = "next_invoice"
    ENABLE = "enable"


BEGINS = {Begins.NEXT_INVOICE: "From the next invoice", Begins.ENABLE: "With the next plan that is enabled"}


@dataclass(frozen=True, slots=True)
class Offer:
    """A coupon as it was asked for: by itself, or through one of its promo codes."""

    coupon: Coupon
    promo_code: PromoCode | None = None

    @property
    def name(self) -> str:
        return self.promo_code.code if self.promo_code else self.coupon.name


def find_offer(code: str) -> Offer:
    """By a promo code or a coupon's own code, whatever their case. Raises `UnknownCoupon`."""
    word = code.strip()
    promo = PromoCode.objects.select_related("coupon").filter(code=word.upper()).first()
    if promo is not None:
        return Offer(promo.coupon, promo)
    coupon = Coupon.objects.filter(code=word.lower()).first()
    if coupon is None:
        raise UnknownCoupon(word)
    return Offer(coupon)


def offer_of(asked: "Coupon | PromoCode | str") -> Offer:
    if isinstance(asked, str):
        return find_offer(asked)
    return Offer(asked.coupon, asked) if isinstance(asked, PromoCode) else Offer(asked)


def held(offer: Offer) -> Offer:
    """The offer with its coupon's row locked: whoever redeems the same coupon waits, so that limits are kept."""
    coupon = Coupon.objects.select_for_update().get(pk=offer.coupon.pk)
    promo = PromoCode.objects.get(pk=offer.promo_code.pk) if offer.promo_code else None
    return Offer(coupon, promo)


def coupon_for_act(customer: Customer, code: str, now: datetime, *, plan: Plan | None = None) -> NewCoupon:
    """A coupon that comes with an act, for `propose(coupons=…)`: it discounts the act's charges and what follows.

    `plan` is the one that is being enabled. Raises every refusal of a redemption, and `NotADiscount`.
    """
    offer = find_offer(code)
    if offer.coupon.kind not in DISCOUNTS:
        raise NotADiscount(offer.coupon)
    refuse(offer, customer, plans=None if plan is None else {plan.pk}, currency=plan.currency if plan else "", now=now)
    return NewCoupon(
        coupon_id=offer.coupon.pk,
        # Not the id of any row there is: the coupon is applied only when the act is carried out.
        terms=discount_terms(offer.coupon, -offer.coupon.pk, periods=most_periods(offer.coupon)),
        promo_code_id=offer.promo_code.pk if offer.promo_code else None,
    )


def apply_new(
    customer: Customer, new: NewCoupon, *, subscription: Subscription, actor: Actor, now: datetime
) -> AppliedCoupon:
    """Write a coupon that came with an act; one for this act only has ended when the act is over.

    Asked again under the coupon's lock: the last redemption may have gone to somebody else meanwhile.
    """
    promo = PromoCode.objects.get(pk=new.promo_code_id) if new.promo_code_id else None
    offer = held(Offer(Coupon.objects.get(pk=new.coupon_id), promo))
    refuse_used_up(offer)
    if not new.for_this_act:
        end_spent(customer, offer.coupon, now=now)
    return AppliedCoupon.objects.create(
        customer=customer,
        subscription=None if new.for_customer else subscription,
        coupon=offer.coupon,
        promo_code=offer.promo_code,
        applied_at=now,
        applied_by=actor.name,
        ends_at=now if new.for_this_act else None,
    )


def begin_waiting(customer: Customer, subscription: Subscription, plan: Plan, *, now: datetime) -> None:
    """Coupons that waited for a plan belong to the one that is enabled now. The caller holds the customer's row."""
    for row in AppliedCoupon.objects.kept(now).filter(customer=customer, waits=True).prefetch_related("coupon__plans"):
        plans = {found.pk for found in row.coupon.plans.all()}
        if not plans or plan.pk in plans:
            row.waits, row.subscription = False, subscription
            row.save(update_fields=["waits", "subscription"])


# Refusals -------------------------------------------------------------------------------------------------------------


def refuse(offer: Offer, customer: Customer, *, plans: set[int] | None, currency: str = "", now: datetime) -> None:
    """Raise the first thing that stands in the way. `plans`: those that it would be for; None is not asked yet."""
    coupon, promo = offer.coupon, offer.promo_code
    if coupon.archived_at is not None or (promo is not None and not promo.is_active):
        raise CouponNotActive(offer.name)
    for until in (coupon.redeem_by, promo.expires_at if promo else None):
        if until is not None and until <= now:
            raise CouponExpired(offer.name, until)
    own = {plan.pk for plan in coupon.plans.all()}
    if own and plans is not None and not own & plans:
        raise CouponNotForPlan(coupon)
    currency = currency or customer.currency
    if coupon.currency and currency and coupon.currency != currency:
        raise CouponInOtherCurrency(coupon, currency)
    if (coupon.first_time_only or (promo is not None and promo.first_time_only)) and has_paid(customer):
        raise CouponForFirstTime(offer.name)
    if any(not is_spent(row) for row in held_rows(customer, coupon, now)):
        raise CouponAppliedAlready(coupon)
    refuse_used_up(offer)


def refuse_used_up(offer: Offer) -> None:
    """Each application is a redemption, also one that was removed since."""
    coupon, promo = offer.coupon, offer.promo_code
    if coupon.max_redemptions is not None and coupon.applied.count() >= coupon.max_redemptions:
        raise CouponUsedUp(coupon.name, coupon.max_redemptions)
    if promo is not None and promo.max_redemptions is not None and promo.applied.count() >= promo.max_redemptions:
        raise CouponUsedUp(promo.code, promo.max_redemptions)


def has_paid(customer: Customer) -> bool:
    paid = Invoice.objects.invoices().filter(customer=customer, state=InvoiceState.PAID, total__gt=0)
    return bool(paid.exists())


def plans_of(customer: Customer, subscription: Subscription | None, now: datetime) -> set[int]:
    """The plans that the customer is on, or the contract is: in force now, or waiting for their first payment."""
    phases = Phase.objects.filter(subscription__customer=customer, withdrawn_at=None).exclude(ends_at__lte=now)
    own = phases.filter(subscription=subscription) if subscription else phases
    return set(own.values_list("version__plan_id", flat=True))


def held_rows(customer: Customer, coupon: Coupon, now: datetime) -> list[AppliedCoupon]:
    rows = AppliedCoupon.objects.kept(now).filter(customer=customer, coupon=coupon)
    return list(rows.select_related("coupon", "subscription").order_by("id"))


def end_spent(customer: Customer, coupon: Coupon, *, now: datetime) -> None:
    """Close what has given everything, so that the coupon can be given again. Raises `CouponAppliedAlready`."""
    for row in held_rows(customer, coupon, now):
        if not is_spent(row):
            raise CouponAppliedAlready(coupon)
        row.ends_at = now
        row.save(update_fields=["ends_at"])


def is_spent(row: AppliedCoupon) -> bool:
    """Whether it has nothing more to give: no period left, no money, no units, or its contract is over."""
    kind = row.coupon.kind
    if kind == Coupon.Kind.INVOICE_CREDIT:
        credits = [credit for credit in row.invoice_credits.all() if credit.voided_at is None]
        taken = taken_of_credits(credits)
        return all(taken.get(credit.pk, 0) >= credit.amount for credit in credits)
    if kind == Coupon.Kind.FEATURE_GRANT:
        given = Balance.objects.filter(grant__in=bonuses_of(row), closed_at=None)
        return all((balance.left or 0) <= 0 for balance in given)
    if row.subscription is not None and row.subscription.ended_at is not None:
        return True
    return kind in DISCOUNTS and periods_left(row) == 0


def bonuses_of(row: AppliedCoupon) -> list[Grant]:
    """The bonuses that a coupon gave and that nobody took back, through the act that granted them."""
    acts = row.customer.operations.filter(verb="coupon.applied", effects__applied=row.public_id)
    granted = Balance.objects.filter(customer=row.customer_id, entries__operation__in=acts).values("grant")
    return list(Grant.objects.filter(pk__in=granted, voided_at=None).select_related("customer").order_by("id"))
