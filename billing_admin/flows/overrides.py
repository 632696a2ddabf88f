"""Another value of one feature, by hand: the engine's verb behind the rules of approval."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from billing_admin.approving import Size
from billing_admin.flows.acts import days_between
from billing_admin.flows.approvals import guard_done
from catalog.models import Feature
from customers.journal import Actor
from customers.models import Customer, Subscription
from entitlements.models import FeatureOverride, OverrideBatch
from entitlements.override import MOST, Asked, override

Value = bool | str | Decimal | int | None


def sizes_of_override(asked: Asked, starts_at: datetime, ends_at: datetime | None) -> Sequence[Size]:
    """Units and days that a value gives; none where it takes access away."""
    if asked.on is False:
        return []
    units = MOST if asked.unlimited else asked.units
    days = Size("days", days_between(starts_at, ends_at))
    return [days] if units is None else [Size("units", units), days]


@transaction.atomic
def give_override(
    customer: Customer,
    feature: Feature,
    value: Value,
    *,
    subscription: Subscription | None = None,
    effective_from: datetime | None = None,
    effective_until: datetime | None,
    reason: str,
    supersede: bool = False,
    batch: OverrideBatch | None = None,
    actor: Actor,
    now: datetime,
) -> FeatureOverride:
    """Give another value; see `entitlements.override.override`. Raises `ApprovalNeeded`, and what that raises."""
    starts_at = None if effective_from == now else effective_from
    row = override(
        customer,
        feature,
        value,
        subscription=subscription,
        effective_from=starts_at,
        effective_until=effective_until,
        reason=reason,
        supersede=supersede,
        batch=batch,
        actor=actor,
        now=now,
    )
    # Last, so that what cannot be is refused rather than asked for; all of it is rolled back.
    guard_done(
        "override.given",
        actor=actor,
        now=now,
        reason=reason,
        who=customer,
        feature=feature,
        value=value,
        subscription=subscription,
        starts_at=starts_at,
        ends_at=effective_until,
        supersede=supersede,
    )
    return row
