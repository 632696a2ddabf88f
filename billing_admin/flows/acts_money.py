"""Money that goes back to customers, as acts that can need a second person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from billing_admin.approving import AddsUp, Effect, Shown, Size, guarded
from billing_admin.flows.acts import about, customer_again, instant, invoice_again, money, subscription_again, text
from billing_admin.flows.cancel import Cancellation, cancel, preview_cancel
from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.wallets import correct_wallet, pay_out_wallet, top_up_wallet
from catalog.money import format_minor, format_rate, plain
from customers.journal import Actor
from customers.models import Customer, Operation, Subscription
from invoicing.credit_note import preview_credit
from invoicing.models import Invoice, Wallet
from invoicing.wallet import NoWallet, signed_rate, wallet_of

CREDIT = ("invoicing.credit_invoice",)
WALLET = ("invoicing.top_up_wallet",)


@guarded
@dataclass(frozen=True)
class CreditInvoice(AddsUp):
    """A credit note of lines, of an amount, or of all that is left. Amounts in minor units."""

    invoice: Invoice
    settlement: str
    lines: Sequence[tuple[int, int]] | None = None
    amount: int | None = None
    whole: bool = False
    reference: str = ""

    key: ClassVar[str] = "invoice.credited"
    title: ClassVar[str] = "A credit note"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount", "refund": "refund"}
    together: ClassVar[tuple[str, ...]] = ("amount", "refund")
    permissions: ClassVar[tuple[str, ...]] = CREDIT

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        lines = inputs["lines"]
        return cls(
            invoice_again(inputs["invoice"]),
            inputs["settlement"],
            lines=None if lines is None else [(line, net) for line, net in lines],
            amount=inputs["amount"],
            whole=inputs["whole"],
            reference=inputs["reference"],
        )

    def to_json(self) -> dict[str, Any]:
        return {"invoice": self.invoice.public_id, **self._asked(), "reference": self.reference}

    def _asked(self) -> dict[str, Any]:
        return {"lines": self.lines, "amount": self.amount, "whole": self.whole, "settlement": self.settlement}

    def customer(self) -> Customer:
        return self.invoice.customer

    def sizes(self, now: datetime) -> Sequence[Size]:
        size = preview_credit(self.invoice, **self._asked()).amount
        measures = ["amount"] + ["refund"] * (self.settlement == Invoice.Settlement.REFUND)
        return [money(measure, size, self.invoice.currency) for measure in measures]

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        """A note that was voided since gives nothing any more, but gave it then."""
        refunded = operation.inputs.get("settlement") == Invoice.Settlement.REFUND
        measures = ["amount"] + ["refund"] * refunded
        return [money(measure, -operation.effects["total"], customer.currency) for measure in measures]

    def shown(self, now: datetime) -> Shown:
        planned = preview_credit(self.invoice, **self._asked())
        currency = self.invoice.currency
        rows = [(line.description, format_minor(line.amount, currency)) for line in planned.document.lines]
        effects = [about(self.customer()), *(Effect(label, "", amount) for label, amount in rows)]
        effects.append(Effect("The customer gets, with tax", "", format_minor(planned.amount, currency)))
        facts = {"total": planned.amount, "lines": rows, "state": self.invoice.state}
        sentence = f"Credit {self.invoice}: {planned.sentence}"
        return Shown(sentence, tuple(effects), warnings=planned.limits, facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        asked = {**self._asked(), "reference": self.reference}
        return credit_invoice(self.invoice, **asked, reason=reason, actor=actor, now=now).operation


@guarded
@dataclass(frozen=True)
class CancelWithRefund:
    """A cancellation that pays unused fees out. What becomes account credit is the customer's anyway."""

    subscription: Subscription
    answers: Mapping[str, Any] = field(default_factory=dict)

    key: ClassVar[str] = "subscription.canceled"
    title: ClassVar[str] = "A cancellation"
    measures: ClassVar[Mapping[str, str]] = {"refund": "refund"}
    permissions: ClassVar[tuple[str, ...]] = ("customers.cancel_subscription", *CREDIT)

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        answers = dict(inputs["answers"])
        dates = {name: instant(answers[name]) for name in ("ends_at", "access_until")}
        return cls(subscription_again(inputs["subscription"]), answers | dates)

    def to_json(self) -> dict[str, Any]:
        dates = {name: text(self.answers[name]) for name in ("ends_at", "access_until")}
        return {"subscription": self.subscription.public_id, "answers": {**self.answers, **dates}}

    def customer(self) -> Customer:
        return self.subscription.customer

    def _planned(self, now: datetime) -> Cancellation:
        return preview_cancel(self.subscription, **self.answers, now=now)

    def sizes(self, now: datetime) -> Sequence[Size]:
        planned = self._planned(now)
        return [money("refund", planned.refund, planned.currency)] if planned.refund else []

    def shown(self, now: datetime) -> Shown:
        """What is unused shrinks with every second, so the amounts decorate."""
        planned = self._planned(now)
        refund = format_minor(planned.refund, planned.currency)
        effects = [about(self.customer()), Effect("Paid back, if it were done now", "", refund, is_passing=True)]
        facts = {"period ends": self.subscription.period_ends_at, "state": self.subscription.state}
        facts |= {"withdraws": planned.withdraws, "use is billed": self.answers["bill_use"]}
        sentence = f"Cancel {self.subscription.public_id} of {self.customer().name} and pay back what is unused"
        return Shown(sentence, tuple(effects), warnings=(planned.withdraws,) if planned.withdraws else (), facts=facts)

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation:
        operation, _ = cancel(self.subscription, **self.answers, reason=reason, actor=actor, now=now)
        return operation


class OfWallet(AddsUp):
    """Acts on a wallet say in the journal how much, and in which currency."""

    @classmethod
    def was(cls, operation: Operation, customer: Customer) -> Sequence[Size]:
        return [Size("amount", abs(Decimal(operation.inputs["amount"])), operation.inputs["currency"])]


@guarded
@dataclass(frozen=True)
class TopUpWallet(OfWallet):
    """Money that is said to have arrived: major units."""

    who: Customer
    amount: Decimal
    currency: str
    reference: str
    idempotency_key: str | None = None

    key: ClassVar[str] = "wallet.topped_up"
    title: ClassVar[str] = "A top-up of a wallet by hand"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = WALLET

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        amount, currency = Decimal(inputs["amount"]), inputs["currency"]
        return cls(customer_again(inputs), amount, currency, inputs["reference"], inputs["key"])

    def to_json(self) -> dict[str, Any]:
        return {
            "customer": self.who.public_id,
            "amount": plain(self.amount),
            "currency": self.currency,
            "reference": self.reference,
            "key": self.idempotency_key,
        }

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        return [Size("amount", self.amount, self.currency)]

    def shown(self, now: datetime) -> Shown:
        wallet, amount = wallet_of(self.who), format_rate(self.amount, self.currency)
        holds = _holds(self.who, wallet, self.amount) if wallet else (about(self.who),)
        effects = (*holds, Effect("Reference", "", self.reference))
        sentence = f"Top up the wallet of {self.who.name} by {amount}"
        return Shown(sentence, effects, facts={"currency": self.currency})

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        reference, key = self.reference, self.idempotency_key
        done = top_up_wallet(self.who, self.amount, self.currency, reference=reference, key=key, actor=actor, now=now)
        return done.entry.operation


@guarded
@dataclass(frozen=True)
class PayOutWallet(OfWallet):
    """Major units; no amount is all of it."""

    who: Customer
    amount: Decimal | None
    reference: str = ""

    key: ClassVar[str] = "wallet.paid_out"
    title: ClassVar[str] = "A payout of a wallet"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = WALLET

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        amount = inputs["amount"]
        return cls(customer_again(inputs), None if amount is None else Decimal(amount), inputs["reference"])

    def to_json(self) -> dict[str, Any]:
        amount = None if self.amount is None else plain(self.amount)
        return {"customer": self.who.public_id, "amount": amount, "reference": self.reference}

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        wallet = _wallet(self.who)
        return [Size("amount", self._leaves(wallet), wallet.currency)]

    def _leaves(self, wallet: Wallet) -> Decimal:
        return wallet.balance if self.amount is None else self.amount

    def shown(self, now: datetime) -> Shown:
        wallet = _wallet(self.who)
        sentence = f"Pay {format_rate(self._leaves(wallet), wallet.currency)} out of the wallet of {self.who.name}"
        return Shown(sentence, _holds(self.who, wallet, -self._leaves(wallet)), facts={"currency": wallet.currency})

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        entry = pay_out_wallet(self.who, self.amount, reason=reason, reference=self.reference, actor=actor, now=now)
        return entry.operation


@guarded
@dataclass(frozen=True)
class CorrectWallet(OfWallet):
    """By an exact amount, in major units."""

    who: Customer
    amount: Decimal

    key: ClassVar[str] = "wallet.corrected"
    title: ClassVar[str] = "A correction of a wallet"
    measures: ClassVar[Mapping[str, str]] = {"amount": "amount"}
    permissions: ClassVar[tuple[str, ...]] = WALLET

    @classmethod
    def from_json(cls, inputs: Mapping[str, Any]) -> Self:
        return cls(customer_again(inputs), Decimal(inputs["amount"]))

    def to_json(self) -> dict[str, Any]:
        return {"customer": self.who.public_id, "amount": plain(self.amount)}

    def customer(self) -> Customer:
        return self.who

    def sizes(self, now: datetime) -> Sequence[Size]:
        """Up or down: both are somebody's money."""
        return [Size("amount", abs(self.amount), _wallet(self.who).currency)]

    def shown(self, now: datetime) -> Shown:
        wallet = _wallet(self.who)
        sentence = f"Correct the wallet of {self.who.name} by {signed_rate(self.amount, wallet.currency)}"
        return Shown(sentence, _holds(self.who, wallet, self.amount), facts={"currency": wallet.currency})

    def carry_out(self, *, reason: str, actor: Actor, now: datetime) -> Operation | None:
        return correct_wallet(self.who, self.amount, reason=reason, actor=actor, now=now).operation


def _wallet(customer: Customer) -> Wallet:
    if not (wallet := wallet_of(customer)):
        raise NoWallet
    return wallet


def _holds(customer: Customer, wallet: Wallet, change: Decimal) -> tuple[Effect, ...]:
    """Use takes from a wallet all the time, so what it holds decorates."""
    before, after = (signed_rate(held, wallet.currency) for held in (wallet.balance, wallet.balance + change))
    return about(customer), Effect("The wallet holds", before, after, is_passing=True)
