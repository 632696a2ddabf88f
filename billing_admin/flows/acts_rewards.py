"""Coupons and invoice credits as acts that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

from billing_admin.approving import AddsUp, Effect, Shown, Size, guarded
from billing_admin.flows.acts import (
    Gone,
    about,
    coupons_beside,
    customer_again,
    day,
    instant,
    invoice_again,
    money,
    sizes_of_coupon,
    subscription_again,
    text,
)
from billing_admin.flows.coupons import BEGINS, Begins, Offer, find_offer
from billing_admin.flows.drafts import add_line
from billing_admin.flows.rewards import NextInvoices, apply_coupon, give_invoice_credit, preview_coupon
from catalog.coupons import gives, lasts
from catalog.models import Coupon
from catalog.money import format_minor
from catalog.off_list import WHOLE, share_off
from customers.journal import Actor
from customers.models import AppliedCoupon, Customer, Operation, Subscription
from invoicing.models import Invoice, InvoiceCredit
from invoicing.rewards import DISCOUNTS


@guarded
@dataclass(frozen=True)
class ApplyCoupon:
    who: Customer
    offer: Offer
    subscription: Subscription | None = None
    at: str = Begins.NEXT_INVOICE

    key: ClassVar[str] = "coupon.applied"
    title: ClassVar[str] = "A coupon"
    measures: ClassVar[Mapping[str, str]] = {
        "discount": "discount, in percent",
        "amount": "amount",
        "units": "units",
    }
    permissions: ClassVar[tuple[str, ...]] = ("customers.apply_coupon",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        contract = subscription_again(inputs["subscription"]) if inputs["subscription"] else None
        return cls(customer_again(inputs), find_offer(inputs["code"]), contract, inputs["at"])

    def to_json(self) -> dict[str, Any]:
        promo = self.offer.promo_code
        return {
            "customer": self.who.public_id,
            "code": promo.code if promo else self.offer.coupon.code,
            "subscription": self.subscription.public_id if self.subscription else None,
            "at": self.at,
        }

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return sizes_of_coupon(self.offer.coupon, self._discount(now))

    def _discount(self, now: datetime) -> Decimal:
        """In percent. An amount off is measured on the next invoices; what cannot be measured counts as all of it."""
        coupon = self.offer.coupon
        match coupon.kind:
            case Coupon.Kind.PERCENT:
                return coupon.percent or Decimal(0)
            case Coupon.Kind.FREE_PRODUCT:
                return WHOLE
            case Coupon.Kind.FIXED:
                shares = [_share(found) for found in self._invoices(now) if found.without.total > 0]
                return max(shares, default=WHOLE) if self.at == Begins.NEXT_INVOICE else WHOLE
        return Decimal(0)

    def _invoices(self, now: datetime) -> list[NextInvoices]:
        return preview_coupon(self.who, self._asked, subscription=self.subscription, at=self.at, now=now)

    @property
    def _asked(self) -> Any:
        return self.offer.promo_code or self.offer.coupon

    def shown(self, now: datetime) -> Shown:
        coupon, invoices = self.offer.coupon, self._invoices(now)
        counted = coupon.kind in DISCOUNTS or coupon.kind == Coupon.Kind.INVOICE_CREDIT
        effects = [about(self.who), Effect("Gives", "", f"{gives(coupon)}, {lasts(coupon)}")]
        effects.append(Effect("Begins", "", BEGINS[Begins(self.at)] if counted else "At once"))
        effects += [_effect(found) for found in invoices if counted]
        facts: dict[str, Any] = {"gives": gives(coupon), "lasts": lasts(coupon), "coupon": coupon.code}
        facts["other coupons"] = coupons_beside(self.who)
        return Shown(f"Give {self.who.name} the coupon {coupon.name}", tuple(effects), facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        applied = apply_coupon(
            self.who, self._asked, subscription=self.subscription, at=self.at, reason=reason, actor=actor, now=now
        )
        return _operation(applied)


def _share(found: NextInvoices) -> Decimal:
    return share_off(Fraction(found.without.total), Fraction(found.with_coupon.total))


def _effect(found: NextInvoices) -> Effect:
    """What an invoice comes to moves with use and the calendar."""
    currency = found.without.currency
    before, after = (format_minor(minor, currency) for minor in (found.without.total, found.with_coupon.total))
    return Effect(f"Invoice of {found.at:%-d %b %Y}, from what is known now", before, after, is_passing=True)


def _operation(applied: AppliedCoupon) -> Operation | None:
    rows = applied.customer.operations.filter(verb="coupon.applied", effects__applied=applied.public_id)
    found: Operation | None = rows.order_by("-id").first()
    return found


@guarded
@dataclass(frozen=True)
class GiveInvoiceCredit(AddsUp):
    who: Customer
    amount: int
    currency: str
    label: str
    expires_at: datetime | None = None
    priority: int = 0

    key: ClassVar[str] = "invoice_credit.given"
    title: ClassVar[str] = "An invoice credit"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = ("invoicing.add_invoicecredit",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        ends = instant(inputs["expires_at"])
        who, amount, currency = customer_again(inputs), inputs["amount"], inputs["currency"]
        return cls(who, amount, currency, inputs["label"], ends, inputs["priority"])

    def to_json(self) -> dict[str, Any]:
        return {
            "customer": self.who.public_id,
            "amount": self.amount,
            "currency": self.currency,
            "label": self.label,
            "expires_at": text(self.expires_at),
            "priority": self.priority,
        }

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [money("amount", self.amount, self.currency)]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        return [money("amount", operation.inputs["amount"], operation.inputs["currency"])]

    def shown(self, now: datetime) -> Shown:
        words = format_minor(self.amount, self.currency)
        ends = day(self.expires_at, "until it is used up")
        effects = (about(self.who), Effect("Comes off the next invoices", "", words), Effect("Ends", "", ends))
        live = InvoiceCredit.objects.live(now).filter(customer=self.who).count()
        facts = {"currency": self.who.currency, "credits that run already": live}
        return Shown(f"Give {self.who.name} {words} for the next invoices: {self.label}", effects, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        credit = give_invoice_credit(
            self.who,
            amount=self.amount,
            currency=self.currency,
            label=self.label,
            expires_at=self.expires_at,
            priority=self.priority,
            reason=reason,
            actor=actor,
            now=now,
        )
        rows = self.who.operations.filter(verb=self.key, inputs__credit=credit.public_id)
        found: Operation | None = rows.order_by("-id").first()
        if found is None:
            raise Gone("The line of the journal")
        return found


@guarded
@dataclass(frozen=True)
class AddCreditLine(AddsUp):
    """A line below zero, on a draft or on the next invoice of a subscription: by the rules of invoice credits."""

    description: str
    amount: int
    currency: str
    draft: Invoice | None = None
    subscription: Subscription | None = None

    key: ClassVar[str] = "line.added"
    ruled_as: ClassVar[str] = GiveInvoiceCredit.key
    title: ClassVar[str] = "A credit on a draft"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = ("invoicing.edit_draft",)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        draft = invoice_again(inputs["draft"]) if inputs["draft"] else None
        contract = subscription_again(inputs["subscription"]) if inputs["subscription"] else None
        return cls(inputs["description"], inputs["amount"], inputs["currency"], draft, contract)

    def to_json(self) -> dict[str, Any]:
        return {
            "draft": self.draft.public_id if self.draft else None,
            "subscription": self.subscription.public_id if self.subscription else None,
            "description": self.description,
            "amount": self.amount,
            "currency": self.currency,
        }

    @property
    def _where(self) -> Invoice | Subscription:
        where = self.draft or self.subscription
        assert where is not None, "a line belongs to one of them"
        return where

    def customer(self) -> Customer:
        who: Customer = self._where.customer
        return who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [money("amount", -self.amount, self.currency)]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """Lines above zero charge something, and make up for nothing."""
        return [money("amount", max(0, -operation.inputs["amount"]), customer.currency)]

    def shown(self, now: datetime) -> Shown:
        """The draft is drawn up anew with it, so what that comes to decorates."""
        words, where = format_minor(-self.amount, self.currency), f"{self.draft or 'the next invoice'}"
        effects = (about(self.customer()), Effect(f"Comes off {where}, before tax", "", words))
        facts = {"state": self._where.state}
        return Shown(f"Credit {self.customer().name} {words} on {where}: {self.description}", effects, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        add_line(
            draft=self.draft,
            subscription=self.subscription,
            description=self.description,
            amount=self.amount,
            currency=self.currency,
            actor=actor,
            now=now,
        )
        found: Operation | None = self.customer().operations.filter(verb=self.key).order_by("-id").first()
        return found
