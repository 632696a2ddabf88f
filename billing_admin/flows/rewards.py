"""Coupons on a customer: apply, remove, see what the next invoices would be; and money that comes off invoices."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.cancel import cancel
from billing_admin.flows.coupons import (
    BEGINS,
    Begins,
    NotADiscount,
    Offer,
    bonuses_of,
    end_spent,
    held,
    offer_of,
    plans_of,
    refuse,
)
from billing_admin.flows.courses import read_courses
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.forecast import Course, Expected, forecast
from billing_admin.flows.position import held_subscription
from billing_admin.flows.renew import catch_up
from catalog.coupons import gives
from catalog.models import Coupon, PromoCode
from catalog.money import format_minor
from customers.journal import Actor, record, require_reason
from customers.models import AppliedCoupon, Customer, Operation, Subscription
from entitlements.grant import grant, void_grant
from invoicing.grants import MoneyGrant
from invoicing.models import InvoiceCredit
from invoicing.rewards import DISCOUNTS, discount_terms, most_periods, taken_of_credits


class CouponNotHeld(ValidationError):
    def __init__(self) -> None:
        super().__init__("This coupon was removed, or has ended already.", code="coupon_not_held")


class ProductHeld(ValidationError):
    def __init__(self, product: str):
        super().__init__(
            f"This customer has a plan of {product} already, which a free one would replace.", code="product_held"
        )


class BadCredit(ValidationError):
    def __init__(self, field: str, why: str):
        self.field = field
        super().__init__(why, code="bad_credit")


class CreditIsOver(ValidationError):
    def __init__(self) -> None:
        super().__init__("This invoice credit is void, or has ended already.", code="credit_is_over")


# Apply ----------------------------------------------------------------------------------------------------------------


@transaction.atomic
def apply_coupon(
    customer: Customer,
    coupon: Coupon | PromoCode | str,
    *,
    subscription: Subscription | None = None,
    at: str = Begins.NEXT_INVOICE,
    reason: str = "",
    actor: Actor,
    now: datetime,
) -> AppliedCoupon:
    """Give a customer (or one contract of theirs) a coupon: a discount from the next invoice or with the next plan
    that is enabled, everything else at once.

    What is overdue is billed first, without it. Raises the refusals of `flows.coupons`, `ProductHeld`, and
    `ApprovalNeeded`.
    """
    customer = _locked(customer, now)
    offer = held(offer_of(coupon))
    _refuse(offer, customer, subscription, at, now)
    asked = {"who": customer, "offer": offer, "subscription": subscription, "at": at}
    guard_as("coupon.applied", actor=actor, now=now, reason=reason, **asked)
    end_spent(customer, offer.coupon, now=now)
    applied = AppliedCoupon.objects.create(
        customer=customer,
        subscription=subscription,
        coupon=offer.coupon,
        promo_code=offer.promo_code,
        applied_at=now,
        applied_by=actor.name,
        reason=reason.strip(),
        waits=at == Begins.ENABLE,
        ends_at=_end(offer.coupon, now),
    )
    operation = record(
        customer,
        "coupon.applied",
        f"Applied {offer.coupon.name}: {gives(offer.coupon)}",
        actor=actor,
        now=now,
        reason=reason.strip(),
        inputs={
            "coupon": offer.coupon.code,
            "promoCode": offer.promo_code.code if offer.promo_code else None,
            "subscription": subscription.public_id if subscription else None,
            "at": at,
        },
        effects={"applied": applied.public_id, "endsAt": applied.ends_at},
    )
    _give(applied, operation, actor=actor, now=now)
    return applied


def _locked(customer: Customer, now: datetime) -> Customer:
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    if customer.closed_at is not None:
        raise ValidationError("This customer is closed.", code="customer_closed")
    catch_up(customer, now=now)
    return customer


def _refuse(offer: Offer, customer: Customer, subscription: Subscription | None, at: str, now: datetime) -> None:
    if at not in BEGINS:
        raise ValidationError(f"Choose when it begins: {', '.join(BEGINS)}.", code="bad_begin")
    if at == Begins.ENABLE and offer.coupon.kind not in DISCOUNTS:
        raise NotADiscount(offer.coupon)
    if subscription is not None and (subscription.customer_id != customer.pk or subscription.ended_at is not None):
        raise ValidationError("This subscription has ended, or is another customer's.", code="bad_subscription")
    plans = None if at == Begins.ENABLE else plans_of(customer, subscription, now)
    refuse(offer, customer, plans=plans, now=now)


def _end(coupon: Coupon, now: datetime) -> datetime | None:
    """A discount ends with its documents; what is given at once lasts so many days."""
    if coupon.kind in DISCOUNTS or coupon.lasts_days is None:
        return None
    return now + timedelta(days=coupon.lasts_days)


def _give(applied: AppliedCoupon, operation: Operation, *, actor: Actor, now: datetime) -> None:
    """Money, a product or units: each with its own end."""
    customer, coupon = applied.customer, applied.coupon
    if coupon.kind == Coupon.Kind.INVOICE_CREDIT:
        InvoiceCredit.objects.create(
            customer=customer,
            applied_coupon=applied,
            label=coupon.name,
            amount=coupon.amount or 0,
            currency=coupon.currency,
            expires_at=applied.ends_at,
            created_by=actor.name,
            created_at=now,
        )
    elif coupon.kind == Coupon.Kind.FEATURE_GRANT and coupon.feature and coupon.units:
        units, ends_at = coupon.units, applied.ends_at
        grant(customer, coupon.feature, units, ends_at=ends_at, label=coupon.name, operation=operation, now=now)
    elif coupon.kind == Coupon.Kind.FREE_PRODUCT and coupon.free_plan:
        plan = coupon.free_plan
        if held_subscription(customer, plan):
            raise ProductHeld(plan.product.name)
        proposal = propose(customer, plan, ends_at=applied.ends_at)
        because = f"Given by the coupon {coupon.name}."
        applied.subscription = enable_plan(customer, proposal, reason=because, actor=actor, now=now).subscription
        applied.save(update_fields=["subscription"])


# Remove ---------------------------------------------------------------------------------------------------------------


@transaction.atomic
def remove(applied: AppliedCoupon, *, reason: str = "", actor: Actor, now: datetime) -> Operation:
    """Take a coupon off a customer. Invoices that had it keep it; of money and units the rest is gone, a free product
    ends. Raises `CouponNotHeld`.
    """
    customer = Customer.objects.select_for_update().get(pk=applied.customer_id)
    catch_up(customer, now=now)
    applied = AppliedCoupon.objects.select_related("coupon", "customer", "subscription").get(pk=applied.pk)
    if applied.removed_at is not None or (applied.ends_at is not None and applied.ends_at <= now):
        raise CouponNotHeld
    applied.removed_at, applied.removed_by = now, actor.name
    applied.save(update_fields=["removed_at", "removed_by"])
    operation = record(
        customer,
        "coupon.removed",
        f"Removed {applied.coupon.name}",
        actor=actor,
        now=now,
        reason=reason.strip(),
        inputs={"applied": applied.public_id, "coupon": applied.coupon.code},
    )
    applied.invoice_credits.filter(voided_at=None).update(voided_at=now)
    for bonus in bonuses_of(applied):
        void_grant(bonus, now=now, operation=operation)
    given = applied.subscription
    if applied.coupon.kind == Coupon.Kind.FREE_PRODUCT and given is not None and given.is_live:
        because = f"The coupon {applied.coupon.name} was removed."
        cancel(given, at_once=True, reason=reason.strip() or because, actor=actor, now=now)
    return operation


# What the next invoices would be --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NextInvoices:
    """The next invoice of one contract, as it stands and with a coupon. Totals in minor units."""

    subscription: Subscription
    without: Expected
    with_coupon: Expected

    @property
    def at(self) -> datetime:
        return self.without.at

    @property
    def saves(self) -> int:
        return self.without.total - self.with_coupon.total


def preview_coupon(
    customer: Customer,
    coupon: Coupon | PromoCode | str,
    *,
    subscription: Subscription | None = None,
    at: str = Begins.NEXT_INVOICE,
    now: datetime,
) -> list[NextInvoices]:
    """The next invoice of each contract that bills something, without and with the coupon, from what is known now.

    The functions that bill draw both. Raises what `apply_coupon` would; nothing is written but what is overdue.
    """
    catch_up(customer, now=now)
    offer = offer_of(coupon)
    _refuse(offer, customer, subscription, at, now)
    contracts = list(customer.subscriptions.live().with_phases())
    found = []
    for contract, course in read_courses(customer, contracts, now=now):
        expected = forecast(course, {}, most=1)
        if not expected:
            continue
        counts = at == Begins.NEXT_INVOICE and subscription in (None, contract)
        changed = forecast(_with(course, offer.coupon, now), {}, most=1) if counts else expected
        found.append(NextInvoices(contract, expected[0], changed[0]))
    return found


def _with(course: Course, coupon: Coupon, now: datetime) -> Course:
    """The same course with a coupon that has no row yet."""
    rules = course.rules
    currency = course.legs[-1].stretch.terms.currency
    if coupon.currency and coupon.currency != currency:
        return course
    if coupon.kind in DISCOUNTS:
        rules = rules.with_discounts([discount_terms(coupon, -coupon.pk, periods=most_periods(coupon))])
    elif coupon.kind == Coupon.Kind.INVOICE_CREDIT:
        given = MoneyGrant(-coupon.pk, coupon.name, coupon.amount or 0, _end(coupon, now), 0, now)
        rules = replace(rules, grants=(*rules.grants, given))
    return replace(course, rules=rules)


# Invoice credits ------------------------------------------------------------------------------------------------------


@transaction.atomic
def give_invoice_credit(
    customer: Customer,
    *,
    amount: int,
    currency: str,
    label: str,
    expires_at: datetime | None = None,
    priority: int = 0,
    reason: str,
    actor: Actor,
    now: datetime,
) -> InvoiceCredit:
    """Money that comes off the customer's next invoices before tax until it is used up. Raises `BadCredit`,
    `ApprovalNeeded`.
    """
    reason = require_reason(reason, "an invoice credit")
    customer = _locked(customer, now)
    if amount <= 0:
        raise BadCredit("amount", "An invoice credit is more than zero.")
    if customer.currency and customer.currency != currency:
        raise BadCredit("currency", f"This customer is billed in {customer.currency}.")
    if not label.strip():
        raise BadCredit("label", "Say what it is called; customers read it on their invoices.")
    if expires_at is not None and expires_at <= now:
        raise BadCredit("expires_at", "It ends in the future.")
    asked = {"amount": amount, "currency": currency, "label": label, "expires_at": expires_at, "priority": priority}
    guard_as("invoice_credit.given", actor=actor, now=now, reason=reason, who=customer, **asked)
    credit = InvoiceCredit.objects.create(
        customer=customer,
        label=label.strip(),
        amount=amount,
        currency=currency,
        priority=priority,
        expires_at=expires_at,
        created_by=actor.name,
        created_at=now,
    )
    record(
        customer,
        "invoice_credit.given",
        f"Gave {format_minor(amount, currency)} for the next invoices: {credit.label}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"credit": credit.public_id, "amount": amount, "currency": currency, "expiresAt": expires_at},
    )
    return credit


@transaction.atomic
def void_invoice_credit(credit: InvoiceCredit, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Take back what is left of an invoice credit; invoices that had it keep it. Raises `CreditIsOver`."""
    reason = require_reason(reason, "taking back an invoice credit")
    customer = _locked(credit.customer, now)
    present = InvoiceCredit.objects.live(now).filter(pk=credit.pk).first()
    if present is None:
        raise CreditIsOver
    left = present.amount - taken_of_credits([present]).get(present.pk, 0)
    present.voided_at = now
    present.save(update_fields=["voided_at"])
    return record(
        customer,
        "invoice_credit.voided",
        f"Took back {format_minor(left, present.currency)} of {present.label}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"credit": present.public_id},
        effects={"left": left},
    )
