"""Set what is left of a balance: the engine's verb behind the rules of approval."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from billing_admin.flows.approvals import guard_as
from customers.journal import Actor, require_reason
from customers.models import Customer, Operation
from entitlements.edit import edit_balance
from entitlements.models import Balance
from entitlements.provision import hold


@dataclass(frozen=True, slots=True)
class Wanted:
    """An edit as it was asked for; see `entitlements.edit.edit_balance`."""

    feature: str
    to: Decimal
    balance_id: int | None = None
    interval: str | None = None
    total: bool = False
    reset_at: datetime | None = None
    expires_at: datetime | None = None


@transaction.atomic
def set_balance(
    customer: Customer, wanted: Wanted, *, reason: str, actor: Actor, now: datetime
) -> tuple[Operation, Balance]:
    """Set what is left until the window ends. Raises `ApprovalNeeded`, and what `edit_balance` raises."""
    reason = require_reason(reason, "a balance edit")
    hold(customer, alone=True)
    guard_as("balance.edited", actor=actor, now=now, reason=reason, who=customer, wanted=wanted)
    return edit_balance(
        customer,
        feature=wanted.feature,
        to=wanted.to,
        reason=reason,
        actor=actor,
        now=now,
        balance_id=wanted.balance_id,
        interval=wanted.interval,
        total=wanted.total,
        reset_at=wanted.reset_at,
        expires_at=wanted.expires_at,
    )
