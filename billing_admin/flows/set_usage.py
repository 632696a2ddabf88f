"""Say what the use of a customer is, with what that costs at once."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import transaction

from billing_admin.flows.renew import catch_up
from billing_admin.flows.use import as_the_wallet_allows, bill_levels, pay_at_once
from catalog.terms import ALLOCATED
from customers.models import Customer
from entitlements.balances import Mode
from entitlements.readings import find_feature
from entitlements.set_usage import set_usage
from entitlements.track import Tracked


def set_use(
    customer: Customer,
    *,
    feature: str,
    value: Decimal,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.OVERFLOW,
    reason: str = "",
) -> Tracked:
    """Make `value` the use of the open windows, with the money that the difference moves: see `track_use`."""
    said: dict[str, Any] = {"feature": feature, "value": value, "now": now, "key": key, "mode": mode, "reason": reason}
    known = find_feature(feature)
    if known is None or known.usage != ALLOCATED:
        tracked = set_usage(customer, **said, charge=partial(pay_at_once, customer))
        [access] = as_the_wallet_allows(customer, [tracked.access], now=now)
        return replace(tracked, access=access)
    with transaction.atomic():
        # Documents need the customer's row; taken before any balance, so that two who count cannot deadlock.
        customer = Customer.objects.select_for_update().get(pk=customer.pk)
        catch_up(customer, now=now)
        tracked = set_usage(customer, **said)
        if tracked.applied:
            bill_levels(customer, feature, now=now)
        return tracked
