"""The answer of a check."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Self

from back_office.fields import Json, Units, exact, instant_in, maybe_instant, maybe_units, units_in, value_in

FAIL_OPEN, FAIL_CLOSED = "fail_open", "fail_closed"


@dataclass(frozen=True)
class PlanRef:
    key: str
    name: str

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(key=found["key"], name=found["name"])


@dataclass(frozen=True)
class Source:
    """Who says so: a plan, an override, a grant."""

    name: str
    gives: str
    is_default: bool

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(name=found["name"], gives=found["gives"], is_default=found.get("isDefault", False))


@dataclass(frozen=True)
class Bucket:
    """One balance: what was granted for `[starts_at, ends_at)`, adjusted by staff, used. None is "no limit"."""

    id: int | None
    kind: str
    label: str | None
    starts_at: datetime
    ends_at: datetime | None
    unlimited: bool
    granted: Decimal | None
    adjusted: Decimal
    used: Decimal
    remaining: Decimal | None
    overage: Decimal

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            id=found.get("id"),
            kind=found["kind"],
            label=found.get("label"),
            starts_at=instant_in(found["startsAt"]),
            ends_at=maybe_instant(found.get("endsAt")),
            unlimited=found["unlimited"],
            granted=maybe_units(found.get("granted")),
            adjusted=units_in(found["adjusted"]),
            used=units_in(found["used"]),
            remaining=maybe_units(found.get("remaining")),
            overage=units_in(found["overage"]),
        )


@dataclass(frozen=True)
class Access:
    """May they? `allowed`: `required` units may be used now. `has_access`: the feature is in the package.

    `value` is what an on/off or static feature says. `limit` and `remaining` are None without a limit. `source` is
    where it comes from; `fail_open` or `fail_closed` when the service did not answer and the client did. `age` is how
    many seconds ago the service said so: above 0 only for a remembered answer.
    """

    feature: str
    type: str
    has_access: bool
    allowed: bool
    reason: str
    source: str
    required: Decimal
    value: bool | Decimal | str | None = None
    unlimited: bool = False
    limit: Decimal | None = None
    used: Decimal = Decimal(0)
    remaining: Decimal | None = None
    overage: Decimal = Decimal(0)
    bonus_remaining: Decimal = Decimal(0)
    has_reached_limit: bool = False
    next_reset_at: datetime | None = None
    conflicts: bool = False
    sources: tuple[Source, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    upgrade_to: tuple[PlanRef, ...] = ()
    explanation: Json | None = None
    age: float = 0.0

    @classmethod
    def of(cls, found: Json) -> Self:
        return cls(
            feature=found["featureSlug"],
            type=found["type"],
            has_access=found["hasAccess"],
            allowed=found["allowed"],
            reason=found["reason"],
            source=found["source"],
            required=units_in(found["required"]),
            value=value_in(found.get("value")),
            unlimited=found["unlimited"],
            limit=maybe_units(found.get("limit")),
            used=units_in(found["used"]),
            remaining=maybe_units(found.get("remaining")),
            overage=units_in(found["overage"]),
            bonus_remaining=units_in(found.get("bonusRemaining", 0)),
            has_reached_limit=found["hasReachedLimit"],
            next_reset_at=maybe_instant(found.get("nextResetAt")),
            conflicts=found.get("conflicts", False),
            sources=tuple(Source.of(source) for source in found.get("sources") or ()),
            buckets=tuple(Bucket.of(bucket) for bucket in found.get("buckets") or ()),
            upgrade_to=tuple(PlanRef.of(plan) for plan in found.get("upgradeTo") or ()),
            explanation=found.get("explanation"),
        )

    @classmethod
    def unknown(cls, feature: str, required: Units, *, allowed: bool) -> Self:
        """What the client says itself while the service is away: everybody may, or nobody."""
        return cls(
            feature=feature,
            type="unknown",
            has_access=allowed,
            allowed=allowed,
            reason="unavailable",
            source=FAIL_OPEN if allowed else FAIL_CLOSED,
            required=exact(required),
        )

    def aged(self, seconds: float) -> Self:
        return replace(self, age=seconds)
