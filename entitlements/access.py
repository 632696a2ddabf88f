"""The answer of a check, with its reasons. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial

from catalog.money import grouped
from catalog.terms import BOOLEAN, METERED, FeatureTerms
from entitlements.allowances import Source, Value, static_value
from entitlements.balances import ZERO, Bucket, Kind, Mode, burn
from entitlements.overrides import NOTHING_REPLACED, Override, Replaced

# Why: allowed; nothing was bought; what was bought is without it; an override closes it; used up; the wallet is empty.
OK, NO_PLAN, NOT_IN_PLAN = "ok", "no_plan", "not_in_plan"
NO_ACCESS, LIMIT_REACHED, INSUFFICIENT_FUNDS = "no_access", "limit_reached", "insufficient_funds"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source of an answer: where it comes from and what it gives, in words for people.

    `override` names the override that says so, or that changes what a plan gives.
    """

    name: str
    gives: str
    subscription_id: int | None
    is_default: bool
    is_extra: bool = False
    override: Override | None = None


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
    `reason` is `ok`, `no_plan`, `not_in_plan`, `no_access` (an override closes it) or `limit_reached`. A bonus is no
    part of the limit nor of what was used of it: its numbers stand in `bonus`; what remains counts it. What rolled
    over is part of both.
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
    def overrides(self) -> tuple[Override, ...]:
        return tuple(line.override for line in self.sources if line.override is not None)

    @property
    def source(self) -> str:
        """In one word, where the answer comes from: `override` where one has a say, else `plan`, else `bonus` (or a
        purchase) where nothing but one gives access, or `default` for the default product and for nothing."""
        if self.overrides:
            return "override"
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
    replaced: Replaced = NOTHING_REPLACED,
) -> Access:
    """The one place where access is decided; `buckets` are those of a metered feature that may be used, with its
    bonuses and purchases, which give access without any plan, too. `replaced` are the overrides in force."""
    lines = tuple(_line(source, replaced.of(source.contract.subscription_id)) for source in sources)
    mentioned = {source.contract.subscription_id for source in sources}
    lines += tuple(_override_line(o) for pk, o in replaced.of_subscriptions.items() if pk not in mentioned)
    if replaced.of_customer:
        lines += (_override_line(replaced.of_customer),)
    if feature.type == METERED:
        own = (b for b in sorted(buckets, key=Bucket.burn_order) if b.is_extra)
        lines += tuple(SourceLine(b.label, _gives(b), None, is_default=False, is_extra=True) for b in own)
    answer = partial(Access, feature.slug, feature.type, required=required, sources=lines)
    if not any(_gives_access(line) for line in lines) or replaced.closed:
        reason = NO_ACCESS if replaced.all else NOT_IN_PLAN if holds_plan else NO_PLAN
        return answer(has_access=False, allowed=False, reason=reason)
    if feature.type == BOOLEAN:
        return answer(has_access=True, allowed=True, reason=OK, value=True)
    if feature.type != METERED:
        return _static(answer, sources, replaced)
    return _metered(answer, buckets, required)


def _line(source: Source, override: Override | None) -> SourceLine:
    gives = source.item.describe_allowance()
    if override is not None:
        gives = f"{override.describe()} instead of {gives}"
    return SourceLine(
        source.name, gives, source.contract.subscription_id, source.contract.is_default, override=override
    )


def _override_line(override: Override) -> SourceLine:
    until = f" until {override.ends_at:%-d %b %Y}" if override.ends_at else ""
    of_customer = override.is_of_customer
    name = "Override for the customer" if of_customer else "Override for the subscription"
    return SourceLine(
        name, f"{override.describe()}{until}", override.subscription_id, is_default=False, override=override
    )


def _gives_access(line: SourceLine) -> bool:
    return line.override is None or not line.override.closes


def _static(answer: "partial[Access]", sources: Sequence[Source], replaced: Replaced) -> Access:
    """The merged value under its overrides: a subscription's replaces its own, the customer's replaces the result."""
    said: dict[int | None, Value | None] = {
        s.contract.subscription_id: Value(s.item.value, unlimited=s.item.unlimited) for s in sources
    }
    said |= {pk: _replaced_value(override) for pk, override in replaced.of_subscriptions.items()}
    # A subscription whose plan does not mention the feature is asked in its turn, too.
    asked = [pk for pk in replaced.asked if pk in said] or list(said)
    values = [value for pk in asked if (value := said[pk])]
    of_customer = _replaced_value(replaced.of_customer)
    merged = static_value([of_customer] if of_customer else values)
    return answer(
        has_access=True,
        allowed=True,
        reason=OK,
        value=merged.value if merged.number is None else merged.number,
        unlimited=merged.unlimited,
        conflicts=merged.conflicts,
    )


def _replaced_value(override: Override | None) -> Value | None:
    if override is None or not (override.text or override.unlimited):
        return None
    return Value(override.text, unlimited=override.unlimited)


def _metered(answer: "partial[Access]", buckets: Sequence[Bucket], required: Decimal) -> Access:
    unlimited = any(b.unlimited for b in buckets)
    fits = bool(buckets) and not burn(buckets, required, Mode.REJECT).refused
    promised = [b for b in buckets if not b.is_bonus]
    resets = [b.ends_at for b in buckets if b.ends_at is not None and b.is_plan]
    return answer(
        has_access=True,
        allowed=fits,
        reason=OK if fits else LIMIT_REACHED,
        unlimited=unlimited,
        limit=None if unlimited else sum((_limit_of(b) for b in promised), ZERO),
        used=sum((b.used for b in promised), ZERO),
        remaining=None if unlimited else sum((b.remaining or ZERO for b in buckets), ZERO),
        overage=sum((b.overage for b in buckets), ZERO),
        net=None if unlimited else sum((b.left or ZERO for b in buckets), ZERO),
        next_reset_at=min(resets, default=None),
        bonus=bonus_of(buckets),
        buckets=tuple(sorted(buckets, key=Bucket.burn_order)),
    )


def _limit_of(bucket: Bucket) -> Decimal:
    """What a bucket adds to the limit: an override takes from it, and a rollover was trimmed for good."""
    trimmed = bucket.adjusted if bucket.kind is Kind.ROLLOVER else ZERO
    return (bucket.granted or ZERO) + trimmed - bucket.withheld


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
