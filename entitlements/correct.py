"""Verb: take back an event that should not have been counted, as if it had never come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from catalog.money import grouped
from catalog.terms import ALLOCATED
from customers.holdings import contracts_at
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation
from entitlements.balances import Bucket, Mode, burn
from entitlements.events import write_event
from entitlements.late import WindowBilled, add, main_of
from entitlements.levels import tell_levels
from entitlements.metered import (
    RECOUNT,
    counted_of,
    events_of,
    happened,
    level_events,
    meter_terms,
    total_over,
)
from entitlements.meters import Aggregation, Gauge, MeterTerms, recounted
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet, UsageEvent
from entitlements.provision import ACCRUED, enter, held_until, hold, keep
from entitlements.readings import bucket_of, gauge_of, locked, open_rows, pool_at

ZERO = Decimal(0)
STATELESS = (Aggregation.SUM, Aggregation.COUNT)


class CannotVoid(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="cannot_void")


@dataclass(frozen=True, slots=True)
class Returned:
    """What a balance got back of one event: itself before and after."""

    event: UsageEvent
    balance: Balance
    before: Bucket
    after: Bucket


@dataclass(frozen=True, slots=True)
class Voided:
    """`events` are the rows of one event, one per feature; `operation` is the act, the first one's when repeated."""

    events: tuple[UsageEvent, ...]
    operation: Operation
    returned: tuple[Returned, ...] = ()


@dataclass(slots=True)
class _Giving:
    """What balances got back so far."""

    now: datetime
    returned: list[Returned] = field(default_factory=list)

    def change(self, event: UsageEvent, row: Balance, units: Decimal) -> None:
        before = bucket_of(row)
        add(row, units, event.at, now=self.now)
        self.returned.append(Returned(event, row, before, replace(before, used=row.used)))


@transaction.atomic
def void_event(
    event: UsageEvent, *, reason: str, actor: Actor, now: datetime, is_billed: Callable[[Balance], bool]
) -> Voided:
    """Give back what an event took from its balances, on every feature that counted it, and count their windows anew.

    A second time nothing more happens. Raises `ReasonRequired`, `WindowBilled` where the use is settled, `CannotVoid`
    for what the clockwork wrote and for windows that were carried on elsewhere.
    """
    reason = require_reason(reason, "voiding an event")
    customer = event.customer
    hold(customer, alone=True)
    rows = list(
        UsageEvent.objects.select_for_update(of=("self",))
        .filter(public_id=event.public_id, recorded_at=event.recorded_at, customer=customer)
        .select_related("feature__meter", "void_operation")
        .order_by("feature_id")
    )
    if rows[0].void_operation is not None:
        return Voided(tuple(rows), rows[0].void_operation)
    if rows[0].mode in (ACCRUED, RECOUNT):
        raise CannotVoid("This was counted by the clockwork. Void the event that it follows from.")
    operation = record(
        customer,
        "event.voided",
        f"Voided {_words(rows)} of {rows[0].at:%-d %b %Y}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"event": rows[0].public_id},
        effects={row.feature.slug: row.taken for row in rows},
    )
    giving = _Giving(now)
    for row in rows:
        held_until(customer, open_rows(customer, [row.feature_id]), now, now=now)
        _give_back(customer, row, giving, is_billed, operation, now=now)
        row.voided_at, row.void_operation = now, operation
        row.save(update_fields=["voided_at", "void_operation"])
        _count_anew(customer, row, giving, is_billed, now=now)
    levels = [returned.balance for returned in giving.returned if returned.event.feature.usage == ALLOCATED]
    tell_levels(customer, [balance.subscription_id for balance in levels if balance.is_promised], now=now)
    return Voided(tuple(rows), operation, tuple(giving.returned))


def _words(rows: Sequence[UsageEvent]) -> str:
    return ", ".join(f"{grouped(row.taken)} {row.feature.name}" for row in rows)


def _give_back(
    customer: Customer,
    event: UsageEvent,
    giving: _Giving,
    is_billed: Callable[[Balance], bool],
    operation: Operation,
    *,
    now: datetime,
) -> None:
    """Each balance gets back what it gave; what has moved on from it comes back where it is now."""
    parts, moved_on = dict(zip(event.balance_ids, event.amounts, strict=True)), ZERO
    for row in locked(_rows(Q(pk__in=parts))):
        _refuse_billed(row, event, is_billed)
        part = parts[row.pk]
        stays = min(part, max(ZERO, row.used)) if part > 0 else part
        giving.change(event, row, -stays)
        if moved := part - stays:
            enter(row, BalanceEntry.Kind.MOVED, -moved, now=now, operation=operation)
            moved_on += moved
    if moved_on:
        _give_back_elsewhere(customer, event, moved_on, giving, operation, now=now)


def _give_back_elsewhere(
    customer: Customer, event: UsageEvent, units: Decimal, giving: _Giving, operation: Operation, *, now: datetime
) -> None:
    there = pool_at(customer, now, event.feature.slug)
    buckets = [bucket for bucket in there.of(event.feature.slug) if bucket.id is not None]
    burnt = burn(buckets, -units, Mode.CAP)
    if burnt.taken != -units:
        raise CannotVoid(f"The window that {event.feature.name} was counted in has moved on, and has ended since.")
    rows = {row.pk: row for row in locked(_rows(Q(pk__in=[bucket.id for bucket in buckets])))}
    for place, part in burnt.parts:
        row = rows[buckets[place].id or 0]
        giving.change(event, row, part)
        enter(row, BalanceEntry.Kind.MOVED, -part, now=now, operation=operation)


def _refuse_billed(row: Balance, event: UsageEvent, is_billed: Callable[[Balance], bool]) -> None:
    if row.closed_at is not None and is_billed(row):
        raise WindowBilled(event.feature.terms(), event.at)


# The window by the events that are left -------------------------------------------------------------------------------


def _count_anew(
    customer: Customer, event: UsageEvent, giving: _Giving, is_billed: Callable[[Balance], bool], *, now: datetime
) -> None:
    """Bring what a window counted to what its other events come to, where each asks for less after those before."""
    if not event.name or event.feature.meter is None:
        return
    meter = meter_terms(event.feature.meter)
    if meter.aggregation in STATELESS:
        return
    held = Q(customer=customer, feature=event.feature_id, starts_at__lte=event.at)
    rows = locked(_rows(held & (Q(ends_at=None) | Q(ends_at__gt=event.at))))
    main = main_of(rows, contracts_at(customer, event.at), event.feature.slug)
    if main is None:
        return
    _refuse_billed(main, event, is_billed)
    due, gauge = _due(customer, event, meter, main)
    if due:
        _adjust(customer, event, rows, due, giving, now=now)
    keep(main, gauge)


def _due(customer: Customer, event: UsageEvent, meter: MeterTerms, main: Balance) -> tuple[Decimal, Gauge | None]:
    """What the window lacks to what its events come to, and what it keeps then."""
    if meter.aggregation is Aggregation.TIME_AVERAGE:
        present = gauge_of(main)
        if main.closed_at is not None or present is None:
            raise CannotVoid(f"{event.feature.name} is averaged over time, and the window of this level has ended.")
        total = total_over(customer, event.feature.terms(), main, level_events(main), until=present.at)
        due = replace(total, counted=present.counted).due
        return due, replace(total, counted=present.counted + due)
    events = events_of(main)
    left = happened(events, meter)
    target, gauge = recounted(meter.aggregation, left)
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        main.members.exclude(digest__in={each.member for each in left if each.member}).delete()
    return target - counted_of(events), gauge


def _adjust(
    customer: Customer, event: UsageEvent, rows: Sequence[Balance], due: Decimal, giving: _Giving, *, now: datetime
) -> None:
    burnt = burn([bucket_of(row) for row in rows], due, Mode.OVERFLOW)
    for place, part in burnt.parts:
        giving.change(event, rows[place], part)
    write_event(
        customer,
        feature_id=event.feature_id,
        amount=due,
        taken=burnt.taken,
        at=event.at,
        now=now,
        key=None,
        mode=RECOUNT,
        properties={"voided": event.public_id},
        parts=[(rows[place].pk, part) for place, part in burnt.parts],
        name=event.name,
    )


def _rows(among: Q) -> BalanceQuerySet:
    return Balance.objects.filter(among).select_related("grant", "subscription", "item").order_by("id")
