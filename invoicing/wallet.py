"""Verbs: money that a customer paid ahead. Top up, pay out, correct, and take what use costs event by event.

Whoever writes holds the customer's row, or shares it while an event is counted, and then the wallet's: always in this
order. A wallet never goes below zero, and the sum of its entries is its balance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.money import exponent, format_rate, plain, to_major, to_minor
from catalog.terms import ItemTerms
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from entitlements.models import UsageEvent
from entitlements.readings import item_terms
from invoicing.instant import Span, given_back
from invoicing.models import Wallet, WalletEntry

LARGEST = Decimal(10) ** 12
Kind = WalletEntry.Kind


class InsufficientFunds(ValidationError):
    """The wallet does not cover it: nothing was done. `is_use` says how to go on; who takes money out knows."""

    def __init__(self, balance: Decimal, needed: Decimal, currency: str, *, is_use: bool = False):
        self.balance, self.needed, self.currency = balance, needed, currency
        has, takes, lacks = (format_rate(amount, currency) for amount in (balance, needed, needed - balance))
        how = f" Top up at least {lacks}, on the customer's page or through the API, and try again." if is_use else ""
        super().__init__(
            f"The wallet has {has} and this takes {takes}, so nothing was done.{how}", code="insufficient_funds"
        )


class BadAmount(ValidationError):
    field = "amount"

    def __init__(self, why: str):
        super().__init__(why, code="bad_amount")


class ReferenceRequired(ValidationError):
    field = "reference"

    def __init__(self) -> None:
        super().__init__("Give the bank's or the provider's word for this payment.", code="reference_required")


class ForeignWallet(ValidationError):
    field = "currency"

    def __init__(self, wanted: str, own: str):
        super().__init__(
            f"This customer is billed in {own}, so their wallet cannot take {wanted}.", code="currency_locked"
        )


class NoWallet(ValidationError):
    def __init__(self) -> None:
        super().__init__("This customer has no wallet yet. Top it up first.", code="no_wallet")


class KeyReused(ValidationError):
    def __init__(self, key: str):
        super().__init__(f"The key {key!r} was used for another top-up.", code="idempotency_conflict")


@dataclass(frozen=True, slots=True)
class TopUp:
    """`applied` is false for a repeated key: then `entry` is the first one."""

    applied: bool
    entry: WalletEntry


# Money that comes and goes by hand ------------------------------------------------------------------------------------


@transaction.atomic
def top_up(
    customer: Customer,
    amount: Decimal,
    currency: str,
    *,
    reference: str,
    key: str | None = None,
    actor: Actor,
    now: datetime,
) -> TopUp:
    """Put in money that arrived: major units, rounded to the currency's minor unit; once per key, for good.

    The first one settles the currency of a customer who has none. Raises `BadAmount`, `ReferenceRequired`,
    `ForeignWallet`, `KeyReused`.
    """
    rounded = _rounded(amount, currency)
    if rounded <= 0:
        raise BadAmount("Top up an amount above zero.")
    reference = _require_reference(reference)
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    if key and (first := WalletEntry.objects.filter(wallet__customer=customer, key=key).first()):
        if (first.amount, first.wallet.currency) != (rounded, currency):
            raise KeyReused(key)
        return TopUp(applied=False, entry=first)
    _refuse_closed(customer)
    if customer.currency and customer.currency != currency:
        raise ForeignWallet(currency, customer.currency)
    if not customer.currency:
        customer.currency = currency
        customer.save(update_fields=["currency"])
    operation = _record(customer, "wallet.topped_up", "Topped up the wallet by", rounded, currency, actor, now)
    wallet = _opened(customer, currency)
    entry = _write(wallet, Kind.TOP_UP, rounded, operation=operation, key=key or None, reference=reference, now=now)
    return TopUp(applied=True, entry=entry)


@transaction.atomic
def withdraw(
    customer: Customer, amount: Decimal | None, *, reason: str, reference: str = "", actor: Actor, now: datetime
) -> WalletEntry:
    """Pay money out of the wallet, back to the customer: major units, rounded to the minor unit; None is all of it.

    Raises `BadAmount`, `NoWallet`, `ReasonRequired`, `InsufficientFunds`.
    """
    reason = require_reason(reason, "paying out of a wallet")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    wallet = _present(customer)
    # All of it is more than whole minor units: what stands behind them would keep the wallet open for ever.
    leaves = wallet.balance if amount is None else _rounded(amount, wallet.currency)
    if leaves <= 0:
        raise BadAmount("The wallet is empty." if amount is None else "Pay out an amount above zero.")
    _refuse_uncovered(wallet, leaves)
    words = "Paid out of the wallet"
    operation = _record(customer, "wallet.paid_out", words, leaves, wallet.currency, actor, now, reason=reason)
    return _write(wallet, Kind.WITHDRAWAL, -leaves, operation=operation, reference=reference.strip(), now=now)


@transaction.atomic
def correct(customer: Customer, amount: Decimal, *, reason: str, actor: Actor, now: datetime) -> WalletEntry:
    """Change what the wallet holds by an exact amount, up or down, because it is wrong.

    Raises `BadAmount`, `NoWallet`, `ReasonRequired`, `InsufficientFunds`.
    """
    reason = require_reason(reason, "the correction of a wallet")
    _refuse_huge(amount)
    if amount != amount.quantize(Decimal("1e-12")):
        raise BadAmount("At most 12 decimals.")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    wallet = _present(customer)
    if not amount:
        raise BadAmount("A correction changes the balance: give an amount above or below zero.")
    _refuse_uncovered(wallet, -amount)
    words = "Corrected the wallet by"
    operation = _record(customer, "wallet.corrected", words, amount, wallet.currency, actor, now, reason=reason)
    return _write(wallet, Kind.CORRECTION, amount, operation=operation, now=now)


def _rounded(amount: Decimal, currency: str) -> Decimal:
    exponent(currency)
    _refuse_huge(amount)
    return to_major(to_minor(amount, currency), currency)


def _refuse_huge(amount: Decimal) -> None:
    if not amount.is_finite() or abs(amount) >= LARGEST:
        raise BadAmount("Give a number below 1,000,000,000,000.")


def _require_reference(reference: str) -> str:
    if not (reference or "").strip():
        raise ReferenceRequired
    return reference.strip()


def _refuse_closed(customer: Customer) -> None:
    if customer.closed_at:
        raise ValidationError("This customer is closed.", code="customer_closed")


def _record(
    customer: Customer,
    verb: str,
    words: str,
    amount: Decimal,
    currency: str,
    actor: Actor,
    now: datetime,
    *,
    reason: str = "",
) -> Operation:
    summary = f"{words} {signed_rate(amount, currency)}"
    inputs = {"amount": plain(amount), "currency": currency}
    return record(customer, verb, summary, actor=actor, now=now, reason=reason, inputs=inputs)


def signed_rate(amount: Decimal, currency: str) -> str:
    """An exact amount as people read it, with a real minus: `−$0.002`, `$17.97`."""
    return f"−{format_rate(-amount, currency)}" if amount < 0 else format_rate(amount, currency)


# Use -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstantUse:
    """The priced units that an event moves in a window: from `start` to `end`, lower where they are given back."""

    item: ItemTerms
    balance_id: int
    start: Decimal
    end: Decimal

    @property
    def span(self) -> Span:
        assert self.item.price is not None, "only priced use is charged at once"
        return Span(self.item.price, self.start, self.end)


def charge(customer: Customer, event: UsageEvent, use: InstantUse, *, currency: str, now: datetime) -> None:
    """Take what an event costs, or give back what its units were charged at. The caller counts it in a transaction.

    Raises `InsufficientFunds`.
    """
    span = use.span
    if span.is_back:
        _give_back(customer, event, use, currency=currency, now=now)
    elif cost := span.cost:
        wallet = _opened(customer, currency)
        derivation = _derived(use) | {"sum": span.words(currency)}
        if cost > 0:
            debit(wallet, cost, event, derivation=derivation, now=now)
        else:
            _write(wallet, Kind.RETURN, -cost, event=event, derivation=derivation, now=now)


def debit(
    wallet: Wallet, amount: Decimal, event: UsageEvent, *, derivation: dict[str, Any] | None = None, now: datetime
) -> WalletEntry:
    """Take an exact amount for an event. The caller holds the wallet's row. Raises `InsufficientFunds`."""
    if amount > wallet.balance:
        raise InsufficientFunds(wallet.balance, amount, wallet.currency, is_use=True)
    return _write(wallet, Kind.DEBIT, -amount, event=event, derivation=derivation or {}, now=now)


def _give_back(customer: Customer, event: UsageEvent, use: InstantUse, *, currency: str, now: datetime) -> None:
    wallet = Wallet.objects.select_for_update().filter(customer=customer, currency=currency).first()
    if wallet is None:
        return  # nothing was ever charged
    amount = given_back(_spans(wallet, event, use), use.start, use.end)
    derivation = _derived(use) | {"sum": "at what it was charged"}
    if amount > 0:
        _write(wallet, Kind.RETURN, amount, event=event, derivation=derivation, now=now)
    elif amount < 0:  # fewer units of a volume price are dearer each
        debit(wallet, -amount, event, derivation=derivation, now=now)


def _spans(wallet: Wallet, event: UsageEvent, use: InstantUse) -> Iterator[Span]:
    """What was charged in the event's window, the newest first."""
    rows = wallet.entries.filter(event__feature_id=event.feature_id, derivation__balance=use.balance_id)
    for derivation in rows.order_by("-id").values_list("derivation", flat=True).iterator(chunk_size=100):
        price = item_terms(derivation["item"]).price
        assert price is not None, "only priced use is charged at once"
        yield Span(price, Decimal(derivation["start"]), Decimal(derivation["end"]))


def _derived(use: InstantUse) -> dict[str, Any]:
    start, end = plain(use.start), plain(use.end)
    return {"item": use.item.row, "balance": use.balance_id, "start": start, "end": end}


# Rows ----------------------------------------------------------------------------------------------------------------


def _opened(customer: Customer, currency: str) -> Wallet:
    """The locked wallet of a currency, made when there is none."""
    rows = Wallet.objects.select_for_update().filter(customer=customer, currency=currency)
    if found := rows.first():
        return found
    Wallet.objects.get_or_create(customer=customer, currency=currency)
    return rows.get()


def _present(customer: Customer) -> Wallet:
    """The locked wallet that a person means: the one with money in it, else the customer's own currency's."""
    if not (wallet := wallet_of(customer)):
        raise NoWallet
    return Wallet.objects.select_for_update().get(pk=wallet.pk)


def _refuse_uncovered(wallet: Wallet, amount: Decimal) -> None:
    if amount > wallet.balance:
        raise InsufficientFunds(wallet.balance, amount, wallet.currency)


def _write(wallet: Wallet, kind: str, amount: Decimal, *, now: datetime, **more: Any) -> WalletEntry:
    wallet.balance += amount
    wallet.save(update_fields=["balance"])
    return WalletEntry.objects.create(
        wallet=wallet, kind=kind, amount=amount, balance_after=wallet.balance, at=now, **more
    )


# Readings ------------------------------------------------------------------------------------------------------------


def wallet_of(customer: Customer) -> Wallet | None:
    """The wallet to show: the one with money in it, else that of the customer's currency; one query."""
    wallets = list(customer.wallets.order_by("id"))
    own = [w for w in wallets if w.currency == customer.currency]
    return next((w for w in [*(w for w in wallets if w.balance), *own, *wallets]), None)


def money_in_wallets(customer: Customer) -> list[Wallet]:
    """Wallets that are not empty; they keep the customer's currency, and the customer from being deleted."""
    return list(customer.wallets.filter(balance__gt=0).order_by("id"))
