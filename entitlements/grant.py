"""Verbs: units of a customer's own, beside every plan: give them, change them while unused, take them back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, Sum

from catalog.models import Feature
from catalog.money import plain
from catalog.periods import NEVER, RESETS
from catalog.terms import METERED
from customers.holdings import contracts_at
from customers.models import Customer, Operation
from entitlements.balances import Kind, extra
from entitlements.models import UNITS, Balance, BalanceEntry, Grant
from entitlements.provision import close, enter, enter_grant, held_until, hold, open_beside, settle
from entitlements.readings import grant_terms, open_rows, pool

MOST = Decimal(10) ** (UNITS["max_digits"] - UNITS["decimal_places"])


class NotGrantable(ValidationError):
    def __init__(self, feature: Feature):
        super().__init__(f"{feature.name} is not metered, so there are no units of it to give.", code="not_metered")


class BadGrant(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_grant")


class GrantIsOver(ValidationError):
    def __init__(self) -> None:
        super().__init__("This grant has ended or was taken back already.", code="grant_is_over")


class GrantIsUsed(ValidationError):
    def __init__(self, used: Decimal):
        super().__init__(
            f"{plain(used)} units of this grant are used; it can be taken back, but no longer changed.",
            code="grant_is_used",
        )


class GrantKeyReused(ValidationError):
    def __init__(self, key: str):
        super().__init__(f"The key {key!r} was used for another grant.", code="idempotency_conflict")


@transaction.atomic
def grant(
    customer: Customer,
    feature: Feature,
    units: Decimal,
    *,
    ends_at: datetime | None,
    label: str,
    source: str = Grant.Source.BONUS,
    starts_at: datetime | None = None,
    priority: int = 0,
    recurs: str = "",
    reason: str = "",
    metadata: Mapping[str, Any] | None = None,
    key: str | None = None,
    operation: Operation | None = None,
    now: datetime,
) -> Grant:
    """Give units until an instant (None: they last), once or again in each window of `recurs`.

    They are burnt in the common order and give access by themselves. The same `key` gives the same grant again, and
    nothing twice. Raises `NotGrantable` for what is not metered, `BadGrant` for units, a rhythm or dates that cannot
    be, `GrantKeyReused` for a key that gave something else.
    """
    if feature.type != METERED:
        raise NotGrantable(feature)
    hold(customer, alone=True)
    if key and (same := customer.grants.filter(idempotency_key=key).first()):
        if (same.feature_id, same.units, same.ends_at, same.recurs) != (feature.pk, units, ends_at, recurs):
            raise GrantKeyReused(key)
        return same
    starts_at = starts_at or now
    _refuse_bad(units, starts_at, ends_at, now)
    if recurs and (recurs not in RESETS or recurs == NEVER):
        raise BadGrant(f"A grant recurs with one of {', '.join(k for k in RESETS if k != NEVER)}.")
    row = Grant.objects.create(
        customer=customer,
        feature=feature,
        source=source,
        units=units,
        label=label[: Grant._meta.get_field("label").max_length],
        priority=priority,
        starts_at=starts_at,
        ends_at=ends_at,
        recurs=recurs,
        reason=reason,
        metadata=dict(metadata or {}),
        idempotency_key=key,
        created_by=operation.actor if operation else "",
        created_at=now,
    )
    terms = grant_terms(row)
    window = terms.window(max(now, starts_at))
    bucket = extra(
        feature.terms(),
        units,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        label=row.label,
        kind=Kind.BONUS if source == Grant.Source.BONUS else Kind.PURCHASE,
    )
    open_beside(customer, replace(bucket, priority=priority, grant=terms), now=now, operation=operation)
    return row


@transaction.atomic
def change_grant(
    given: Grant,
    *,
    units: Decimal | None = None,
    ends_at: datetime | None,
    label: str | None = None,
    priority: int | None = None,
    reason: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    operation: Operation | None = None,
    now: datetime,
) -> Grant:
    """Another number of units, end, label, priority, reason or metadata, while nothing is used.

    Raises `GrantIsOver`, `GrantIsUsed`, `BadGrant`.
    """
    given, row = _held(given, now)
    if used := given.balances.aggregate(used=Sum("used", filter=Q(used__gt=0)))["used"]:
        raise GrantIsUsed(used)
    units = given.units if units is None else units
    _refuse_bad(units, given.starts_at, ends_at, now)
    given.units, given.ends_at = units, ends_at
    given.label = given.label if label is None else label
    given.priority = given.priority if priority is None else priority
    given.reason = given.reason if reason is None else reason
    given.metadata = given.metadata if metadata is None else dict(metadata)
    given.save()
    before = row.granted or Decimal(0)
    enter_grant(row)
    row.granted, row.label, row.priority = units, given.label, given.priority
    row.ends_at = grant_terms(given).window(max(now, row.starts_at)).ends_at
    row.save(update_fields=["granted", "ends_at", "label", "priority"])
    enter(row, BalanceEntry.Kind.REGRANT, units - before, now=now, operation=operation)
    return given


@transaction.atomic
def void_grant(given: Grant, *, now: datetime, reason: str = "", operation: Operation | None = None) -> Decimal:
    """Take back what is left of a grant, and all that would still come of it. What was used stays used.

    Returns the units taken back; a grant that was voided before gives back nothing more.
    """
    hold(given.customer, alone=True)
    given = Grant.objects.select_for_update(of=("self",)).select_related("customer", "feature").get(pk=given.pk)
    if given.voided_at is not None:
        return Decimal(0)
    _bring_up_to_date(given, now=now)
    given.voided_at, given.void_reason = now, reason
    given.voided_by = operation.actor if operation else ""
    given.save(update_fields=["voided_at", "voided_by", "void_reason"])
    taken = Decimal(0)
    for row in given.balances.filter(closed_at=None).order_by("id").select_for_update():
        rest = max(Decimal(0), row.left or Decimal(0))
        if rest:
            row.adjusted -= rest
            row.save(update_fields=["adjusted"])
            enter(row, BalanceEntry.Kind.EDIT, -rest, now=now, operation=operation)
        taken += rest
        if row.starts_at > now:
            close(row, ended_at=now, now=now, operation=operation)
        else:
            row.ends_at = now
            row.save(update_fields=["ends_at"])
    _bring_up_to_date(given, now=now, operation=operation)
    return taken


def _bring_up_to_date(given: Grant, *, now: datetime, operation: Operation | None = None) -> None:
    """Close what ended of the feature, and open what follows; seats that it held stay in use. The customer is held."""
    customer, feature = given.customer, given.feature
    rows = held_until(customer, open_rows(customer, [feature.pk]), now, now=now)
    there = pool(customer, contracts_at(customer, now), rows, now, feature.slug)
    settle(customer, there, rows, now=now, operation=operation)


def _held(given: Grant, now: datetime) -> tuple[Grant, Balance]:
    """The grant and its present window, opened if nobody has, and locked."""
    hold(given.customer, alone=True)
    given = Grant.objects.select_for_update(of=("self",)).select_related("customer", "feature").get(pk=given.pk)
    _bring_up_to_date(given, now=now)
    row: Balance | None = given.balances.filter(closed_at=None).select_for_update().first()
    over = given.ends_at is not None and given.ends_at <= now
    if given.voided_at is not None or row is None or over:
        raise GrantIsOver
    return given, row


def _refuse_bad(units: Decimal, starts_at: datetime, ends_at: datetime | None, now: datetime) -> None:
    if not units.is_finite() or units <= 0 or units >= MOST:
        raise BadGrant("A grant is a number of units above 0, with at most 24 digits before the point.")
    if units != units.quantize(Decimal(1).scaleb(-UNITS["decimal_places"])):
        raise BadGrant("Units have at most 6 decimals.")
    if ends_at is not None and ends_at <= max(now, starts_at):
        raise BadGrant("The end of a grant lies in the future, after its start.")
