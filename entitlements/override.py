"""Verbs: give a customer, or one of their subscriptions, another value of a feature for a while; take it back."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.models import Feature
from catalog.terms import BOOLEAN, METERED, STATIC
from customers.holdings import contracts_at
from customers.journal import Actor, record, require_reason
from customers.models import Customer, Operation, Subscription
from entitlements.models import UNITS, FeatureOverride, FeatureOverrideQuerySet, OverrideBatch
from entitlements.provision import held_until, hold, settle
from entitlements.readings import open_rows, override_of, pool

MOST = Decimal(10) ** (UNITS["max_digits"] - UNITS["decimal_places"])


class BadOverride(ValidationError):
    """What was asked for cannot be; `field` names the part: value, from or until."""

    def __init__(self, field: str, why: str, code: str = "bad_override"):
        self.field = field
        super().__init__(why, code=code)


class Overlaps(ValidationError):
    def __init__(self, other: FeatureOverride):
        self.other = other
        until = f"until {other.stops_at:%-d %b %Y}" if other.stops_at else "for good"
        super().__init__(
            f"An override of {other.feature.name} ({describe(other)}, from {other.effective_from:%-d %b %Y} {until}) "
            "holds in that time. End it first, or let this one supersede it.",
            code="override_overlaps",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One value, typed by its feature: `on` (False: no access at all), `units`, `text` or `unlimited`."""

    on: bool | None = None
    units: Decimal | None = None
    text: str = ""
    unlimited: bool = False


def describe(row: FeatureOverride) -> str:
    """For people: `50,000`, `on`, `no access`, `unlimited`."""
    return override_of(row).describe()


def value_of(feature: Feature, value: bool | str | Decimal | int | None) -> Asked:
    """A value as it comes in, for its feature: true/false, a number, a text, `unlimited`, `no_access`.

    Raises `BadOverride` for a value of the wrong type.
    """
    if value is False or value == "no_access":
        return Asked(on=False)
    if value is True or (feature.type == BOOLEAN and value == "on"):
        if feature.type != BOOLEAN:
            raise BadOverride("value", f"{feature.name} takes {_wanted(feature)}, not on or off.", "wrong_value_type")
        return Asked(on=True)
    if feature.type == BOOLEAN or value is None:
        raise BadOverride("value", f"{feature.name} takes {_wanted(feature)}.", "wrong_value_type")
    if value == "unlimited":
        return Asked(unlimited=True)
    if feature.type == STATIC:
        text = f"{value.normalize():f}" if isinstance(value, Decimal) else str(value).strip()
        if not text or len(text) > 500:
            raise BadOverride("value", f"{feature.name} takes a number or a text of at most 500 signs.")
        return Asked(text=text)
    if not isinstance(value, Decimal | int):
        raise BadOverride("value", f"{feature.name} takes {_wanted(feature)}.", "wrong_value_type")
    units = Decimal(value)
    if not units.is_finite() or units < 0 or units >= MOST:
        raise BadOverride("value", "Units are 0 or more, with at most 24 digits before the point.")
    if units != units.quantize(Decimal(1).scaleb(-UNITS["decimal_places"])):
        raise BadOverride("value", "Units have at most 6 decimals.")
    return Asked(units=units)


def _wanted(feature: Feature) -> str:
    return {
        BOOLEAN: "on or off",
        METERED: "a number of units, unlimited or no access",
        STATIC: "a number or a text, unlimited or no access",
    }[feature.type]


@transaction.atomic
def override(
    customer: Customer,
    feature: Feature,
    value: bool | str | Decimal | int | None,
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
    """Give another value from an instant (None: now) until another (None: for good); in force at once when it begins.

    `supersede` ends what holds in that time at the new start. Raises `BadOverride`, `Overlaps`, `ReasonRequired`.
    """
    reason = require_reason(reason, "an override")
    asked = value_of(feature, value)
    effective_from = effective_from or now
    refuse_bad_dates(effective_from, effective_until, now=now)
    hold(customer, alone=True)
    if subscription is not None and (subscription.customer_id != customer.pk or subscription.ended_at is not None):
        raise BadOverride("subscription", "This subscription is not a live one of this customer.", "not_theirs")
    standing = overlapping(customer, feature, subscription, effective_from, effective_until)
    earlier = list(standing.select_for_update(of=("self",)))
    if earlier and not supersede:
        raise Overlaps(earlier[0])
    for other in earlier:
        other.stops_at = max(other.effective_from, effective_from)
        other.save(update_fields=["stops_at"])
    row = FeatureOverride.objects.create(
        customer=customer,
        subscription=subscription,
        feature=feature,
        on=asked.on,
        units=asked.units,
        text=asked.text,
        unlimited=asked.unlimited,
        reason=reason,
        effective_from=effective_from,
        effective_until=effective_until,
        stops_at=effective_until,
        batch=batch,
        created_by=actor.name,
        created_at=now,
    )
    for other in earlier:
        other.superseded_by = row
        other.save(update_fields=["superseded_by"])
    until = f"until {effective_until:%-d %b %Y}" if effective_until else "for good"
    whose = f" on {subscription.product.name}" if subscription else ""
    operation = record(
        customer,
        "override.given",
        f"Override {feature.name}{whose}: {describe(row)} {until}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={
            "override": row.public_id,
            "feature": feature.slug,
            "value": describe(row),
            "from": effective_from,
            "until": effective_until,
            "subscription": subscription.public_id if subscription else None,
        },
        effects={"superseded": [other.public_id for other in earlier]},
    )
    _put_in_force(customer, feature, now=now, operation=operation)
    return row


@transaction.atomic
def revoke(row: FeatureOverride, *, reason: str, actor: Actor, now: datetime) -> FeatureOverride:
    """Stop an override at once; the row stays. One that is over already stays as it is. Raises `ReasonRequired`."""
    reason = require_reason(reason, "a revocation")
    customer = row.customer
    hold(customer, alone=True)
    row = FeatureOverride.objects.select_for_update(of=("self",)).select_related("feature", "customer").get(pk=row.pk)
    if row.is_over(now):
        return row
    row.stops_at = max(now, row.effective_from)
    row.revoked_at, row.revoked_by, row.revoke_reason = now, actor.name, reason
    row.save(update_fields=["stops_at", "revoked_at", "revoked_by", "revoke_reason"])
    operation = record(
        customer,
        "override.revoked",
        f"Revoked the override of {row.feature.name} ({describe(row)})",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"override": row.public_id},
        effects={"used": _used(row)},
    )
    _put_in_force(customer, row.feature, now=now, operation=operation)
    return row


def refuse_bad_dates(effective_from: datetime, effective_until: datetime | None, *, now: datetime) -> None:
    """Raises `BadOverride` for a time that cannot be."""
    if effective_until is not None and effective_until <= effective_from:
        raise BadOverride("until", "An override ends after it begins.", "dates_out_of_order")
    if effective_until is not None and effective_until <= now:
        raise BadOverride("until", "That time is over: an override ends in the future.", "dates_out_of_order")
    if effective_from < now:
        raise BadOverride("from", "An override begins now or later: what was used was used.", "begins_in_the_past")


def overlapping(
    customer: Customer,
    feature: Feature,
    subscription: Subscription | None,
    starts_at: datetime,
    ends_at: datetime | None,
) -> FeatureOverrideQuerySet:
    """The overrides of the same level and feature that hold at some time between the instants, the first one first."""
    same = customer.feature_overrides.standing(starts_at).filter(feature=feature, subscription=subscription)
    if ends_at is not None:
        same = same.filter(effective_from__lt=ends_at)
    found: FeatureOverrideQuerySet = same.select_related("feature").order_by("effective_from")
    return found


def _used(row: FeatureOverride) -> Decimal:
    return sum((balance.used for balance in row.balances.all()), Decimal(0))


def put_under_overrides(customer: Customer, *, now: datetime, operation: Operation) -> None:
    """Write what overrides make of a plan that has just begun, so that their buckets end with its windows from its
    first one on. The caller holds the customer's row."""
    for feature in Feature.objects.filter(overrides__in=customer.feature_overrides.in_force(now)).distinct():
        _put_in_force(customer, feature, now=now, operation=operation)


def _put_in_force(customer: Customer, feature: Feature, *, now: datetime, operation: Operation) -> None:
    """Write what is true from now on, so that the ledger says who did it and when."""
    if feature.type != METERED:
        return
    rows = held_until(customer, open_rows(customer, [feature.pk]), now, now=now)
    there = pool(customer, contracts_at(customer, now), rows, now, feature.slug)
    settle(customer, there, rows, now=now, operation=operation)
