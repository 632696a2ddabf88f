"""What use, overrides and grants say of who a customer was, overwritten when the customer is erased."""

from collections.abc import Callable, Collection
from typing import Any

from django.db.models import Q

from customers.models import Customer, Operation
from entitlements.models import Balance, MeterMember, OverrideBatch

Scrub = Callable[[Any], Any]
ERASED = "(erased)"


def erase_use(customer: Customer, scrub: Scrub, ids: Collection[str]) -> None:
    """Numbers and dates stay; keys, properties and metadata go, and texts lose the words that `scrub` knows.

    `ids` are those that the customer ever had. Nobody can count for them any more, so no key has to be remembered.
    Events in the archive are left to its own pass.
    """
    customer.usage_events.exclude(Q(properties={}) & Q(key=None)).update(properties={}, key=None)
    customer.usage_keys.all().delete()
    MeterMember.objects.filter(balance__in=Balance.objects.filter(customer=customer)).delete()
    customer.accepted_events.all().delete()
    for override in customer.feature_overrides.all():
        override.reason, override.revoke_reason = scrub(override.reason), scrub(override.revoke_reason)
        override.save(update_fields=["reason", "revoke_reason"])
    for grant in customer.grants.all():
        grant.label, grant.reason, grant.void_reason = map(scrub, (grant.label, grant.reason, grant.void_reason))
        grant.metadata, grant.idempotency_key = {}, None
        grant.save(update_fields=["label", "reason", "void_reason", "metadata", "idempotency_key"])
    for balance in customer.balances.exclude(label=""):
        balance.label = scrub(balance.label)
        balance.save(update_fields=["label"])
    _erase_from_batches(customer, scrub, {*ids, customer.public_id})


def _erase_from_batches(customer: Customer, scrub: Scrub, ids: Collection[str]) -> None:
    """Batches of overrides keep what was asked for: only the rows of this customer lose their id."""
    named = Q(overrides__customer=customer)
    for name in ids:
        named |= Q(rows__contains=[{"customer_id": name}])
    known = OverrideBatch.objects.filter(named).values("pk")
    for batch in OverrideBatch.objects.filter(pk__in=known).select_for_update(no_key=True):
        own = {row["line"] for row in batch.rows if row["customer_id"] in ids}
        batch.rows = [
            {**row, "customer_id": ERASED, "reason": scrub(row["reason"])} if row["line"] in own else row
            for row in batch.rows
        ]
        batch.failures = [
            {**failure, "customer": ERASED, "why": scrub(failure["why"])} if failure["line"] in own else failure
            for failure in batch.failures
        ]
        batch.reason, batch.revoke_reason = scrub(batch.reason), scrub(batch.revoke_reason)
        batch.save(update_fields=["rows", "failures", "reason", "revoke_reason"])
        for operation in Operation.objects.filter(customer=None, inputs__batch=batch.public_id):
            operation.reason = scrub(operation.reason)
            operation.save(update_fields=["reason"])
