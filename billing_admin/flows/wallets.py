"""Money that leaves a wallet, or is written into it, by hand: the engine's verbs behind the rules of approval."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from billing_admin.flows.approvals import guard_as, guard_done
from customers.journal import Actor, require_reason
from customers.models import Customer
from invoicing.models import WalletEntry
from invoicing.wallet import TopUp, correct, top_up, withdraw


@transaction.atomic
def top_up_wallet(
    customer: Customer,
    amount: Decimal,
    currency: str,
    *,
    reference: str,
    key: str | None = None,
    actor: Actor,
    now: datetime,
) -> TopUp:
    """Put in money that somebody says has arrived; see `invoicing.wallet.top_up`. Raises `ApprovalNeeded`."""
    done = top_up(customer, amount, currency, reference=reference, key=key, actor=actor, now=now)
    if done.applied:  # last, so that what cannot be is refused rather than asked for; all of it is rolled back
        asked: dict[str, Any] = {"who": customer, "amount": amount, "currency": currency, "reference": reference}
        guard_done("wallet.topped_up", actor=actor, now=now, idempotency_key=key, **asked)
    return done


@transaction.atomic
def pay_out_wallet(
    customer: Customer, amount: Decimal | None, *, reason: str, reference: str = "", actor: Actor, now: datetime
) -> WalletEntry:
    """Pay money out of the wallet, back to the customer; see `invoicing.wallet.withdraw`. Raises `ApprovalNeeded`."""
    reason = require_reason(reason, "paying out of a wallet")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    asked = {"who": customer, "amount": amount, "reference": reference}
    guard_as("wallet.paid_out", actor=actor, now=now, reason=reason, **asked)
    return withdraw(customer, amount, reason=reason, reference=reference, actor=actor, now=now)


@transaction.atomic
def correct_wallet(customer: Customer, amount: Decimal, *, reason: str, actor: Actor, now: datetime) -> WalletEntry:
    """Change what the wallet holds; see `invoicing.wallet.correct`. Raises `ApprovalNeeded`."""
    reason = require_reason(reason, "the correction of a wallet")
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    guard_as("wallet.corrected", actor=actor, now=now, reason=reason, who=customer, amount=amount)
    return correct(customer, amount, reason=reason, actor=actor, now=now)
