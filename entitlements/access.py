"""The answer of a check, with its reasons. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.money import grouped
from catalog.terms import BOOLEAN, METERED, FeatureTerms
from entitlements.allowances import Source, static_value
from entitlements.balances import ZERO, Bucket, Mode, burn


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source of an answer: where it comes from and what it gives, in words for people."""

    name: str
    gives: str
    subscription_id: int | None
    is_default: bool
    is_extra: bool = False


@dataclass(frozen=True, slots=True)
class Bonus:
    """The bonuses of a feature together: units granted (edits counted), used of them, left of them."""

    granted: Decimal
    used: Decimal
    remaining: Decimal
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Access:
    """May they? `has_access`: it is in the package. `allowed`: `required` units may be used now.

    `limit`, `used`, `remaining` and `overage` are units of the open buckets (None: without a limit, or not metered);
    `reason` is `ok`, `no_plan`, `not_in_plan` or `limit_reached`. A bonus is no part of the limit nor of what was used
    of it: its numbers stand in `bonus`; what remains counts it.
    """

    feature: str
    type: str
    has_access: bool
    allowed: bool
    reason: str
    required: Decimal = Decimal(1)
    value: bool | str | Decimal | None = None
    unlimited: bool = False
    limit: Decimal | None = None
    used: Decimal = ZERO
    remaining: Decimal | None = None
    overage: Decimal = ZERO
    net: Decimal | None = None
    next_reset_at: datetime | None = None
    conflicts: bool = False
    bonus: Bonus | None = None
    sources: tuple[SourceLine, ...] = ()
    buckets: tuple[Bucket, ...] = ()

    @property
    def has_reached_limit(self) -> bool:
        return self.has_access and self.remaining is not None and self.remaining <= 0 and self.type == METERED

    @property
    def source(self) -> str:
        """In one word, where the answer comes from: `plan`, else `bonus` (or a purchase) where nothing but one gives
        access, or `default` for the default product and for nothing."""
        if any(not line.is_default and not line.is_extra for line in self.sources):
            return "plan"
        return "bonus" if self.sources and all(line.is_extra for line in self.sources) else "default"


def decide(
    feature: FeatureTerms,
    sources: Sequence[Source],
    buckets: Sequence[Bucket],
    *,
    holds_plan: bool,
    required: Decimal = Decimal(1),
) -> Access:
    """The one place where access is decided; `buckets` are the projected ones of a metered feature, with its bonuses
    and purchases, which give access without any plan, too."""
    lines = tuple(
        SourceLine(s.name, s.item.describe_allowance(), s.contract.subscription_id, s.contract.is_default)
        for s in sources
    )
    if feature.type == METERED:
        own = (b for b in sorted(buckets, key=Bucket.burn_order) if b.is_extra)
        lines += tuple(SourceLine(b.label, _gives(b), None, is_default=False, is_extra=True) for b in own)
    if not lines:
        reason = "not_in_plan" if holds_plan else "no_plan"
        return Access(feature.slug, feature.type, has_access=False, allowed=False, reason=reason, required=required)
    if feature.type == BOOLEAN:
        return Access(
            feature.slug,
            feature.type,
            has_access=True,
            allowed=True,
            reason="ok",
            required=required,
            value=True,
            sources=lines,
        )
    if feature.type != METERED:
        merged = static_value(sources)
        value = merged.value if merged.number is None else merged.number
        return Access(
            feature.slug,
            feature.type,
            has_access=True,
            allowed=True,
            reason="ok",
            required=required,
            value=value,
            unlimited=merged.unlimited,
            conflicts=merged.conflicts,
            sources=lines,
        )
    return _metered(feature, lines, buckets, required)


def _metered(
    feature: FeatureTerms, lines: tuple[SourceLine, ...], buckets: Sequence[Bucket], required: Decimal
) -> Access:
    unlimited = any(b.unlimited for b in buckets)
    fits = not burn(buckets, required, Mode.REJECT).refused
    promised = [b for b in buckets if not b.is_bonus]
    resets = [b.ends_at for b in buckets if b.ends_at is not None and not b.is_extra]
    return Access(
        feature.slug,
        feature.type,
        has_access=True,
        allowed=fits,
        reason="ok" if fits else "limit_reached",
        required=required,
        unlimited=unlimited,
        limit=None if unlimited else sum((b.granted or ZERO for b in promised), ZERO),
        used=sum((b.used for b in promised), ZERO),
        remaining=None if unlimited else sum((b.remaining or ZERO for b in buckets), ZERO),
        overage=sum((b.overage for b in buckets), ZERO),
        net=None if unlimited else sum((b.left or ZERO for b in buckets), ZERO),
        next_reset_at=min(resets, default=None),
        bonus=bonus_of(buckets),
        sources=lines,
        buckets=tuple(sorted(buckets, key=Bucket.burn_order)),
    )


def bonus_of(buckets: Sequence[Bucket]) -> Bonus | None:
    """The bonuses among these buckets as one; `ends_at` is the first end that comes."""
    own = [b for b in buckets if b.is_bonus]
    if not own:
        return None
    return Bonus(
        granted=sum(((b.granted or ZERO) + b.adjusted for b in own), ZERO),
        used=sum((b.used for b in own), ZERO),
        remaining=sum((b.remaining or ZERO for b in own), ZERO),
        ends_at=min((b.ends_at for b in own if b.ends_at), default=None),
    )


def _gives(bucket: Bucket) -> str:
    until = f" until {bucket.ends_at:%-d %b %Y}" if bucket.ends_at else ""
    return f"{grouped(bucket.left or ZERO)} left{until}"
