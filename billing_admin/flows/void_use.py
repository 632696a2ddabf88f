"""Void an event with what follows from it: money of a wallet, seats that were charged, drafts that count it."""

from datetime import datetime
from functools import partial

from django.db import transaction

from billing_admin.flows.drafts import is_billed
from billing_admin.flows.renew import catch_up
from billing_admin.flows.use import bill_levels, refresh_drafts
from catalog.terms import ALLOCATED
from customers.journal import Actor
from customers.models import Customer
from entitlements.correct import Returned, Voided, void_event
from entitlements.models import UsageEvent
from invoicing.wallet import InstantUse, charge


@transaction.atomic
def void_use(event: UsageEvent, *, reason: str, actor: Actor, now: datetime) -> Voided:
    """Void an event on every feature that counted it. What is due is settled first, so that a late worker changes
    nothing. Raises what `void_event` raises, and `InsufficientFunds` where what is left is dearer each.
    """
    customer = Customer.objects.select_for_update().get(pk=event.customer_id)
    catch_up(customer, now=now)
    voided = void_event(event, reason=reason, actor=actor, now=now, is_billed=partial(is_billed, now=now))
    for returned in voided.returned:
        _pay_back(customer, returned, now=now)
    if voided.returned:
        for row in voided.events:
            if row.feature.usage == ALLOCATED:
                bill_levels(customer, row.feature.slug, now=now)
        refresh_drafts([returned.balance.pk for returned in voided.returned], now=now)
    return voided


def _pay_back(customer: Customer, returned: Returned, *, now: datetime) -> None:
    """What use at once was paid for goes back into the wallet, at what its units were charged; a trial was free."""
    item, row = returned.before.item, returned.balance
    start, end = returned.before.overage, returned.after.overage
    if not item.is_instant or start == end or row.item is None or row.subscription is None:
        return
    trial_ends_at = row.subscription.trial_ends_at
    if trial_ends_at is not None and returned.event.at < trial_ends_at:
        return
    currency = row.item.version.plan.currency
    charge(customer, returned.event, InstantUse(item, row.pk, start=start, end=end), currency=currency, now=now)
