"""Count use, with what it costs at once: seats that come or go within a period, events that a wallet pays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import transaction

from billing_admin.flows.collection import finish, issuing
from billing_admin.flows.drafts import drafts_of, is_billed, issue_draft, refresh
from billing_admin.flows.position import levels_of, stretch_of
from billing_admin.flows.renew import catch_up
from catalog.periods import Cadence, period_containing
from catalog.terms import ALLOCATED, IN_FULL, METERED, PRORATE, ItemTerms, PlanTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.journal import CLOCKWORK, record
from customers.models import Customer, Phase, Subscription
from entitlements.access import INSUFFICIENT_FUNDS, Access
from entitlements.balances import Bucket, Mode, burn
from entitlements.check import check, check_all
from entitlements.late import track_late
from entitlements.metered import Ask, Reported, ask_of, asks_of, report
from entitlements.models import Balance, UsageEvent
from entitlements.readings import find_feature
from entitlements.track import Counted, HappenedBefore, Tracked, track
from invoicing.documents import BillingRules, Document, draw
from invoicing.instant import Span
from invoicing.issue import issue
from invoicing.lines import (
    SEATS,
    SEATS_ADDED,
    BilledFee,
    Line,
    advance_lines,
    fewer_seats_lines,
    seats_line,
    units_paid,
    unused_lines,
)
from invoicing.models import Invoice
from invoicing.overrides import specials_of
from invoicing.readings import billed_fees
from invoicing.rules import billing_rules
from invoicing.special import REPLACE, Special
from invoicing.wallet import InstantUse, charge

# The clock of whoever reports use may be ahead of ours by so much.
CLOCKS_DIFFER = timedelta(minutes=5)


def track_use(
    customer: Customer,
    *,
    feature: str,
    amount: Decimal = Decimal(1),
    at: datetime | None = None,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.REJECT,
    properties: Mapping[str, Any] | None = None,
) -> Tracked:
    """Count use, with the money that it moves in the same transaction.

    Of a level that is paid in advance what changes is billed; what a plan charges at once is taken from the wallet,
    and an event that it does not cover is refused with `InsufficientFunds`, whatever the mode. `at`: when it happened,
    if that is not now; see `track_late`.
    """
    if at is not None and now < at <= now + CLOCKS_DIFFER:
        at = now
    known = find_feature(feature)
    event: dict[str, Any] = {"key": key, "mode": mode, "properties": properties}
    if known is not None and known.meter_id is not None and known.type == METERED:
        asks = [ask_of(known, properties or {}, amount)]
        [tracked] = report_readings(customer, asks, at=at, now=now, **event).tracked
        return tracked
    if at is not None and at != now and (at > now or (known is not None and known.usage == ALLOCATED)):
        return count_late(customer, feature=feature, amount=amount, at=at, now=now, **event)
    if known is None or known.usage != ALLOCATED:
        pay = partial(pay_at_once, customer)
        try:
            tracked = track(customer, feature=feature, amount=amount, at=at, now=now, **event, charge=pay)
        except HappenedBefore:
            return count_late(customer, feature=feature, amount=amount, at=at or now, now=now, **event)
        [access] = as_the_wallet_allows(customer, [tracked.access], now=now)
        return replace(tracked, access=access)
    with transaction.atomic():
        # Documents need the customer's row; taken before any balance, so that two who count cannot deadlock.
        customer = Customer.objects.select_for_update().get(pk=customer.pk)
        # A period that began is billed with the level it began with; what comes now comes on top.
        catch_up(customer, now=now)
        tracked = track(customer, feature=feature, amount=amount, now=now, **event)
        if tracked.applied:
            bill_levels(customer, feature, now=now)
        return tracked


def report_use(
    customer: Customer,
    *,
    name: str,
    properties: Mapping[str, Any],
    value: Decimal | None = None,
    at: datetime | None = None,
    now: datetime,
    key: str | None = None,
    mode: Mode = Mode.REJECT,
) -> Reported:
    """Count an event on every feature whose meter reads it, with the money that it moves; all of it or nothing.

    Raises `UnknownEvent`, `BadEvent` for a value that its meter cannot read, and what `track_use` raises.
    """
    asks = asks_of(name, properties, value)
    return report_readings(customer, asks, at=at, now=now, key=key, mode=mode, properties=properties)


def report_readings(
    customer: Customer, asks: Sequence[Ask], *, at: datetime | None = None, now: datetime, **event: Any
) -> Reported:
    """The same for an event that was read already."""
    at = now if at is None or now < at <= now + CLOCKS_DIFFER else at
    if any(ask.feature.usage == ALLOCATED for ask in asks):
        return _report_levels(customer, asks, at=at, now=now, **event)
    try:
        pay = partial(pay_at_once, customer)
        found = report(customer, asks, at=at, now=now, **event, charge=pay)
    except HappenedBefore:
        found = _report_late(customer, asks, at=at, now=now, **event)
    accesses = as_the_wallet_allows(customer, [tracked.access for tracked in found.tracked], now=now)
    tracked = (replace(one, access=access) for one, access in zip(found.tracked, accesses, strict=True))
    return replace(found, tracked=tuple(tracked))


@transaction.atomic
def _report_levels(customer: Customer, asks: Sequence[Ask], *, at: datetime, now: datetime, **event: Any) -> Reported:
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    catch_up(customer, now=now)
    found = report(customer, asks, at=at, now=now, **event, charge=partial(pay_at_once, customer))
    if found.applied:
        for ask in asks:
            bill_levels(customer, ask.feature.slug, now=now)
    return found


@transaction.atomic
def _report_late(customer: Customer, asks: Sequence[Ask], *, at: datetime, now: datetime, **event: Any) -> Reported:
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    catch_up(customer, now=now)
    pay = partial(pay_at_once, customer)
    found = report(customer, asks, at=at, now=now, **event, charge=pay, is_billed=partial(is_billed, now=now))
    if found.applied:
        for one in found.tracked:
            refresh_drafts(one.event.balance_ids, now=now)
    return found


@transaction.atomic
def count_late(customer: Customer, *, at: datetime, now: datetime, **event: Any) -> Tracked:
    """Count use of the past into its own window while no document with it is issued; a draft takes it at once.

    What is due is settled first: whether an event comes too late does not depend on the worker.
    """
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    catch_up(customer, now=now)
    tracked = track_late(customer, at=at, now=now, is_billed=partial(is_billed, now=now), **event)
    if tracked.applied:
        refresh_drafts(tracked.event.balance_ids, now=now)
    return tracked


def refresh_drafts(balance_ids: Sequence[int], *, now: datetime) -> None:
    """Draw up anew the drafts of contracts whose ended windows were counted on. The caller holds the customer."""
    windows = Balance.objects.filter(pk__in=balance_ids, ends_at__lte=now)
    contracts = windows.filter(subscription__isnull=False).values("subscription")
    for draft in Invoice.objects.drafts().filter(subscription__in=contracts, boundary_at__isnull=False):
        refresh(draft, now=now)


def pay_at_once(customer: Customer, event: UsageEvent, parts: Sequence[Counted]) -> None:
    """Take what an event costs from the wallet, part by part; what is used in a trial is free."""
    for part in parts:
        item, balance_id = part.after.item, part.after.id
        if item.is_instant and part.contract.trial_ends_at is None and balance_id is not None:
            use = InstantUse(item, balance_id, start=part.before.overage, end=part.after.overage)
            charge(customer, event, use, currency=part.contract.terms.currency, now=event.at)


def check_use(customer: Customer, feature: str, *, now: datetime, required: Decimal = Decimal(1)) -> Access:
    """May this customer use a feature now, and does the wallet cover it where it has to? Raises `UnknownFeature`."""
    [access] = as_the_wallet_allows(customer, [check(customer, feature, now=now, required=required)], now=now)
    return access


def check_all_use(customer: Customer, *, now: datetime) -> list[Access]:
    """The same of every feature."""
    return as_the_wallet_allows(customer, check_all(customer, now=now), now=now)


def as_the_wallet_allows(customer: Customer, found: Sequence[Access], *, now: datetime) -> list[Access]:
    """Answers with `insufficient_funds` where the wallet does not cover the required units.

    Reads nothing unless a plan charges at once.
    """
    if not any(bucket.item.is_instant for access in found for bucket in access.buckets):
        return list(found)
    contracts = {contract.subscription_id: contract for contract in contracts_at(customer, now)}
    paying = {pk: c.terms.currency for pk, c in contracts.items() if pk is not None and c.trial_ends_at is None}
    money = dict(customer.wallets.values_list("currency", "balance"))
    return [_as_the_wallet_allows(access, paying, money) for access in found]


def _as_the_wallet_allows(access: Access, paying: Mapping[int, str], money: Mapping[str, Decimal]) -> Access:
    burnt = burn(access.buckets, access.required, Mode.REJECT)
    for place, units in burnt.parts:
        bucket = access.buckets[place]
        currency = paying.get(bucket.owner[0] or 0)
        if currency and cost_at_once(bucket, units) > money.get(currency, Decimal(0)):
            return replace(access, allowed=False, reason=INSUFFICIENT_FUNDS)
    return access


def cost_at_once(bucket: Bucket, units: Decimal) -> Decimal:
    """What so many more units would take from the wallet: 0 where they are billed later, or included. Pure."""
    if not bucket.item.is_instant or bucket.item.price is None:
        return Decimal(0)
    return Span(bucket.item.price, bucket.overage, replace(bucket, used=bucket.used + units).overage).cost


def bill_levels(customer: Customer, feature: str, *, now: datetime) -> list[Invoice]:
    """Charge or give back what a level differs from what was paid for it. The caller holds the customer's row."""
    at = now.replace(microsecond=0)
    invoices: list[Invoice] = []
    for contract in contracts_at(customer, now):
        item = contract.terms.for_feature(feature)
        if item is None or not item.is_seats or contract.trial_ends_at or not contract.terms.is_invoiced:
            continue
        subscription = Subscription.objects.get(pk=contract.subscription_id or 0)
        if subscription.parked_at is not None or subscription.settled_at is not None:
            continue  # the running period is billed later with the level by then, or for the last time already
        _issue_levels(subscription, item, now=now)
        phase = Phase.objects.select_related("version__plan").get(pk=contract.phase_id or 0)
        terms = stretch_of(phase, levels_of(subscription)).terms
        plan = phase.version.plan
        rules = billing_rules(customer, plan, subscription, at=at)
        if _is_replaced(item, contract, specials_of(subscription), at):
            continue
        fees = billed_fees(subscription, at)
        documents = level_documents(terms, item.key, fees, rules, anchor=phase.anchor, at=at)
        lines = [line for document in documents for line in document.lines]
        if not lines:
            continue
        operation = record(
            customer,
            "seats.changed",
            f"{item.label} changed on {plan.name}",
            actor=CLOCKWORK,
            now=now,
            effects={"lines": [{"description": line.description, "amount": line.amount} for line in lines]},
        )
        how = issuing(subscription, phase, operation=operation, at=at, has_use=False)
        invoices += finish(issue(customer, documents, now=now, how=how), subscription, now=now)
    return invoices


def _issue_levels(subscription: Subscription, item: ItemTerms, *, now: datetime) -> None:
    """Issue drafts that charge for a level, before more or less of it is priced beside them."""
    for draft in drafts_of(subscription):
        if draft.lines.filter(key=item.key, kind__in=[SEATS, SEATS_ADDED]).exists():
            issue_draft(draft, actor=CLOCKWORK, now=now)


def _is_replaced(item: ItemTerms, contract: Contract, specials: Iterable[Special], at: datetime) -> bool:
    """Whether a special price stands for all units of the running period, however many there are."""
    cycle = period_containing(contract.anchor, Cadence.parse(contract.terms.cadence), at).starts_at
    own = (s for s in specials if s.mode == REPLACE and (s.plan_id, s.key_at(at)) == (contract.plan_id, item.key))
    return any(special.holds(at, cycle, opens=False) for special in own)


def level_documents(
    terms: PlanTerms, key: str, fees: list[BilledFee], rules: BillingRules, *, anchor: datetime, at: datetime
) -> list[Document]:
    """The documents of a change of level. Pure.

    An amount off every period is shared by all that is paid for the period: more seats shift those shares, so they are
    given back and charged anew beside the rest, instead of being discounted alone.
    """
    lines = level_lines(terms, key, fees, anchor=anchor, at=at)
    shared = any(d.amount is not None and not d.once for d in rules.discounts)
    if not shared or not any(line.amount > 0 for line in lines):
        return draw(lines, rules)
    item = terms.item(key)
    assert item is not None
    if item.on_increase == IN_FULL:
        return draw(lines, rules)
    again = [replace(line, kind=SEATS_ADDED) for line in advance_lines(terms, anchor, at, keys={key})]
    anew = unused_lines([fee for fee in fees if fee.key == key], at) + again
    others = {other.key for other in terms.advance_items} - {key}
    return draw(anew, rules, beside=advance_lines(terms, anchor, at, keys=others))


def level_lines(terms: PlanTerms, key: str, fees: list[BilledFee], *, anchor: datetime, at: datetime) -> list[Line]:
    """What a level costs beside what was billed for the running period. Pure; `terms` are sold at the present level."""
    item: ItemTerms | None = terms.item(key)
    assert item is not None
    own = [fee for fee in fees if fee.key == key and fee.kind in (SEATS, SEATS_ADDED)]
    billed, paid = sum((fee.units for fee in own), Decimal(0)), units_paid(item)
    period = period_containing(anchor, Cadence.parse(terms.interval_of(item)), at)
    if paid > billed and item.on_increase in (PRORATE, IN_FULL):
        line = seats_line(item, billed, period, at=at, plan_name=terms.plan_name, currency=terms.currency)
        return [line] if line.amount else []
    if paid < billed and item.on_decrease == PRORATE:
        return fewer_seats_lines(own, item, billed, at)
    return []
