"""Verbs: units of a customer's own, beside every plan: give a bonus, change it while nobody used it, take it back."""

from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import Feature
from catalog.money import plain
from catalog.terms import METERED
from customers.models import Customer, Operation
from entitlements.balances import extra
from entitlements.models import UNITS, Balance, BalanceEntry
from entitlements.provision import close, enter, hold, open_extra

MOST = Decimal(10) ** (UNITS["max_digits"] - UNITS["decimal_places"])


class NotGrantable(ValidationError):
    def __init__(self, feature: Feature):
        super().__init__(f"{feature.name} is not metered, so there are no units of it to give.", code="not_metered")


class BadGrant(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_grant")


class GrantIsOver(ValidationError):
    def __init__(self) -> None:
        super().__init__("This bonus has ended or was taken back already.", code="grant_is_over")


class GrantIsUsed(ValidationError):
    def __init__(self, balance: Balance):
        super().__init__(
            f"{plain(balance.used)} units of this bonus are used; it can be taken back, but no longer changed.",
            code="grant_is_used",
        )


@transaction.atomic
def grant(
    customer: Customer,
    feature: Feature,
    units: Decimal,
    *,
    ends_at: datetime | None,
    label: str,
    source: str = Balance.Source.BONUS,
    operation: Operation | None = None,
    now: datetime,
) -> Balance:
    """Give units until an instant (None: they last). They are burnt in the common order and give access by themselves.

    Raises `NotGrantable` for what is not metered, `BadGrant` for units or an end that cannot be.
    """
    if feature.type != METERED:
        raise NotGrantable(feature)
    _refuse_bad(units, ends_at, now)
    hold(customer, alone=True)
    bucket = extra(
        feature.terms(),
        units,
        starts_at=now,
        ends_at=ends_at,
        label=label[: Balance._meta.get_field("label").max_length],
        is_bonus=source == Balance.Source.BONUS,
    )
    return open_extra(customer, bucket, feature_id=feature.pk, now=now, operation=operation)


@transaction.atomic
def change_grant(
    balance: Balance,
    *,
    units: Decimal | None = None,
    ends_at: datetime | None,
    label: str | None = None,
    operation: Operation | None = None,
    now: datetime,
) -> Balance:
    """Another number of units, end or label, while nothing is used. Raises `GrantIsOver`, `GrantIsUsed`, `BadGrant`."""
    row = _held(balance, now)
    if row.used:
        raise GrantIsUsed(row)
    units = row.granted if units is None else units
    assert units is not None
    _refuse_bad(units, ends_at, now)
    before = row.granted or Decimal(0)
    row.granted, row.ends_at, row.label = units, ends_at, row.label if label is None else label
    row.save(update_fields=["granted", "ends_at", "label"])
    enter(row, BalanceEntry.Kind.REGRANT, units - before, now=now, operation=operation)
    return row


@transaction.atomic
def void_grant(balance: Balance, *, now: datetime, operation: Operation | None = None) -> Decimal:
    """Take back what is left of a bonus. What was used stays used, and the row stays. Returns the units taken back."""
    row = _held(balance, now)
    rest = max(Decimal(0), row.left or Decimal(0))
    if rest:
        row.adjusted -= rest
        row.save(update_fields=["adjusted"])
        enter(row, BalanceEntry.Kind.EDIT, -rest, now=now, operation=operation)
    close(row, ended_at=now, now=now, operation=operation)
    return rest


def _held(balance: Balance, now: datetime) -> Balance:
    hold(balance.customer, alone=True)
    row: Balance = Balance.objects.select_for_update().get(pk=balance.pk)
    if not row.is_extra or row.closed_at is not None or (row.ends_at is not None and row.ends_at <= now):
        raise GrantIsOver
    return row


def _refuse_bad(units: Decimal, ends_at: datetime | None, now: datetime) -> None:
    if not units.is_finite() or units <= 0 or units >= MOST:
        raise BadGrant("A bonus is a number of units above 0, with at most 24 digits before the point.")
    if units != units.quantize(Decimal(1).scaleb(-UNITS["decimal_places"])):
        raise BadGrant("Units have at most 6 decimals.")
    if ends_at is not None and ends_at <= now:
        raise BadGrant("The end of a bonus lies in the future.")
