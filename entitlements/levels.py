"""Verb: tell contracts how much of each level (seats) is in use, as their balances say it."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal

from catalog.terms import ALLOCATED
from customers.levels import keep_levels
from customers.models import Customer
from entitlements.models import Balance


def tell_levels(customer: Customer, subscription_ids: Iterable[int | None], *, now: datetime) -> None:
    """Keep with these contracts what their plans' own buckets hold of levels; None (no contract) is passed over.

    Whoever changes what such a bucket holds, opens one or closes one calls it last. The caller holds the customer.
    """
    wanted = {pk for pk in subscription_ids if pk is not None}
    if not wanted:
        return
    held = _held(customer, wanted)
    for pk in sorted(wanted):
        keep_levels(pk, held[pk], at=now.replace(microsecond=0))


def _held(customer: Customer, subscription_ids: Collection[int]) -> dict[int, dict[int, Decimal]]:
    rows = Balance.objects.promised().filter(
        customer=customer, subscription__in=subscription_ids, closed_at=None, feature__usage=ALLOCATED
    )
    found: dict[int, dict[int, Decimal]] = defaultdict(dict)
    for subscription_id, feature_id, used in rows.values_list("subscription_id", "feature_id", "used"):
        assert subscription_id is not None
        found[subscription_id][feature_id] = used
    return found
