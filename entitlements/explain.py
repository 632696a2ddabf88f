"""An answer told as its story: who contributes, which overrides hold, how that merges, which buckets would give, what
decided. Pure.

Nothing is decided here: the verdict is that of `decide`, and who gives how much is that of `burn`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from catalog.money import grouped
from catalog.terms import BOOLEAN, METERED, STATIC, FeatureTerms, ItemTerms
from customers.contracts import Contract
from entitlements.access import INSUFFICIENT_FUNDS, LIMIT_REACHED, NO_ACCESS, Access, decide
from entitlements.allowances import Source, sources_of
from entitlements.balances import ZERO, Bucket, Contribution, Kind, Mode, burn, overage_bucket
from entitlements.overrides import Override, Replaced
from entitlements.pool import Pool, slug_of


class Rule(StrEnum):
    """How what the sources say becomes one answer."""

    NONE = "none"
    ANY = "any"
    LARGEST = "largest"
    FIRST = "first"
    SUM = "sum"
    UNLIMITED = "unlimited"
    OVERRIDE = "override"


class Limit(StrEnum):
    """What happens to use beyond all buckets."""

    HARD = "hard"
    SOFT = "soft"
    PRICED = "priced"


class Decider(StrEnum):
    """The step that settled the answer."""

    NOTHING = "nothing"
    OVERRIDE = "override"
    MERGE = "merge"
    UNLIMITED = "unlimited"
    BALANCE = "balance"
    BEYOND = "beyond"
    LIMIT = "limit"
    MAX_OVERAGE = "max_overage"
    WALLET = "wallet"


@dataclass(frozen=True, slots=True)
class Contributor:
    """One contract in force whose plan mentions the feature; `units` are those of one window, all its times together.

    `units` is None without a limit, and for what is not metered. `override` is what holds for this subscription.
    """

    contract: Contract
    item: ItemTerms
    units: Decimal | None
    override: Override | None = None

    @property
    def name(self) -> str:
        return Source(self.contract, self.item).name

    @property
    def times(self) -> int:
        """The quantity that multiplies the allowance."""
        metered = self.item.feature is not None and self.item.feature.type == METERED
        return self.contract.multiplier if metered else 1

    @property
    def promises(self) -> str:
        """For people: `on`, `100`, `2 × 100 = 200`, `unlimited`."""
        each = self.item.describe_allowance()
        if self.times == 1 or self.units is None:
            return each
        return f"{self.times} × {each} = {grouped(self.units)}"


@dataclass(frozen=True, slots=True)
class Applied:
    """An override in force: what it says `instead_of` what, and what that did to the units.

    `adds` is None for a bucket without a limit; `limits` says that it puts a limit to what has none. `is_outvoted`:
    another override, of the customer, decides instead.
    """

    override: Override
    instead_of: str
    adds: Decimal | None = ZERO
    takes: Decimal = ZERO
    limits: bool = False
    is_outvoted: bool = False


@dataclass(frozen=True, slots=True)
class Merge:
    """`result` is what the sources come to together, in words; `conflicts` when texts differ."""

    rule: Rule
    parts: tuple[str, ...]
    result: str
    conflicts: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """One bucket, and what it would give of the units asked for: from what is left of it, and beyond it.

    `closed_by` is the override that lets nobody use it.
    """

    name: str
    bucket: Bucket
    units: Decimal = ZERO
    beyond: Decimal = ZERO
    closed_by: Override | None = None


@dataclass(frozen=True, slots=True)
class Beyond:
    """What happens to use that fits in no bucket. `most` may still be owed (None: no cap; 0 where it is refused)."""

    limit: Limit
    bucket: Bucket | None
    name: str
    most: Decimal | None
    is_capped: bool
    units: Decimal


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story. `buckets` stand in burn order, those that an override closes at the end; `missing` are units
    that nothing would give. `silent` are contracts in force whose plans do not mention the feature."""

    feature: FeatureTerms
    at: datetime
    access: Access
    contributors: tuple[Contributor, ...]
    silent: tuple[Contract, ...]
    overrides: tuple[Applied, ...]
    merge: Merge
    buckets: tuple[Given, ...] = field(default=())
    beyond: Beyond | None = None
    missing: Decimal = ZERO

    @property
    def allowed(self) -> bool:
        return self.access.allowed

    @property
    def reason(self) -> str:
        return self.access.reason

    @property
    def is_default(self) -> bool:
        """Whether the default product answers, because there is no contract."""
        return any(c.is_default for c in (*(c.contract for c in self.contributors), *self.silent))

    @property
    def both_levels(self) -> bool:
        """Whether an override of the customer stands over one of a subscription."""
        return len({applied.override.is_of_customer for applied in self.overrides}) == 2

    @property
    def decided_by(self) -> Decider:
        access = self.access
        if access.reason == INSUFFICIENT_FUNDS:
            return Decider.WALLET
        if not access.has_access:
            return Decider.OVERRIDE if access.reason == NO_ACCESS else Decider.NOTHING
        if access.type != METERED:
            return Decider.OVERRIDE if self.overrides else Decider.MERGE
        if access.reason == LIMIT_REACHED:
            return Decider.MAX_OVERAGE if self.beyond and self.beyond.is_capped else Decider.LIMIT
        if access.unlimited:
            return Decider.UNLIMITED
        return Decider.BEYOND if any(given.beyond for given in self.buckets) else Decider.BALANCE

    @property
    def sentence(self) -> str:
        """What decided, for people."""
        name, access = self.feature.name, self.access
        asked = f"{grouped(access.required)} asked for"
        left = f"{grouped(access.remaining or ZERO)} left"
        resets = f" It resets on {access.next_reset_at:%-d %b %Y}." if access.next_reset_at else ""
        match self.decided_by:
            case Decider.NOTHING if self.silent:
                plans = ", ".join(contract.plan_name for contract in self.silent)
                return f"{name} is not part of {plans}, and nothing else gives it."
            case Decider.NOTHING:
                return f"There is no plan, no override and no bonus that gives {name}."
            case Decider.OVERRIDE if not access.has_access:
                return f"An override says that there is no access to {name}."
            case Decider.OVERRIDE:
                return f"An override says: {self.merge.result}."
            case Decider.MERGE:
                return f"The plans say: {self.merge.result}."
            case Decider.UNLIMITED:
                return f"There is no limit on {name}."
            case Decider.BALANCE:
                return f"{asked}, {left}: it fits."
            case Decider.BEYOND:
                over = sum((given.beyond for given in self.buckets), ZERO)
                paid = self.beyond is not None and self.beyond.limit is Limit.PRICED
                return f"{asked}, {left}: {grouped(over)} go beyond, {'which is paid for' if paid else 'only counted'}."
            case Decider.MAX_OVERAGE:
                most = grouped(self.beyond.most or ZERO) if self.beyond else "0"
                return f"{asked}, {left}, and at most {most} more may go beyond.{resets}"
            case Decider.LIMIT:
                return f"{asked}, {left}, and the limit is hard.{resets}"
            case Decider.WALLET:
                return f"The wallet does not cover the {asked}."


def explain(
    feature: FeatureTerms,
    contracts: Sequence[Contract],
    there: Pool,
    *,
    at: datetime,
    required: Decimal = Decimal(1),
) -> Explanation:
    """The story of a check at the instant, from what the check itself is decided from; `required` is 0 or more."""
    slug = feature.slug
    sources, replaced = sources_of(contracts, slug), there.overrides(slug)
    access = decide(feature, sources, there.of(slug), holds_plan=bool(contracts), required=required, replaced=replaced)
    contributors = tuple(_contributor(source, replaced) for source in sources)
    speaking = {source.contract.subscription_id for source in sources}
    names = _names(contracts)
    burnt = burn(access.buckets, required, Mode.CAP) if access.buckets else None
    parts = dict(burnt.parts) if burnt else {}
    given = [_given(b, names, parts.get(place, ZERO)) for place, b in enumerate(access.buckets)]
    return Explanation(
        feature=feature,
        at=at,
        access=access,
        contributors=contributors,
        silent=tuple(c for c in contracts if c.subscription_id not in speaking),
        overrides=tuple(_applied(override, contributors, there, replaced) for override in _as_applied(replaced)),
        merge=_merge(access, contributors, replaced, given),
        buckets=(*given, *_closed(there, slug, names)),
        beyond=_beyond(access, given) if access.buckets and not access.unlimited else None,
        missing=required - (burnt.taken if burnt else ZERO) if access.type == METERED else ZERO,
    )


def _contributor(source: Source, replaced: Replaced) -> Contributor:
    metered = source.item.is_metered
    units = Contribution(source.contract, source.item).granted if metered else None
    return Contributor(source.contract, source.item, units, replaced.of(source.contract.subscription_id))


def _names(contracts: Sequence[Contract]) -> dict[tuple[int | None, int | None], str]:
    """Plan names by the owner of their buckets; the oldest contract of a plan names it."""
    return {
        (c.subscription_id, None) if c.follows_contract else (None, c.plan_id): c.plan_name for c in reversed(contracts)
    }


def _name(bucket: Bucket, names: dict[tuple[int | None, int | None], str]) -> str:
    return names.get(bucket.owner, "Plan") if bucket.kind is Kind.PLAN else bucket.label or bucket.kind.value.title()


def _given(bucket: Bucket, names: dict[tuple[int | None, int | None], str], part: Decimal) -> Given:
    within = part if bucket.remaining is None else min(part, bucket.remaining)
    return Given(_name(bucket, names), bucket, within, part - within)


def _closed(there: Pool, slug: str, names: dict[tuple[int | None, int | None], str]) -> list[Given]:
    """The buckets that are there, and that an override lets nobody use."""
    replaced, usable, found = there.overrides(slug), set(there.usable), []
    for place, bucket in enumerate(there.buckets):
        if place in usable or slug_of(bucket) != slug:
            continue
        by = replaced.of_customer if replaced.closed else replaced.of(_subscription_at(there, place))
        found.append(Given(_name(bucket, names), bucket, closed_by=by))
    return found


def _subscription_at(there: Pool, place: int) -> int | None:
    """Whose standing it is; what stands beside the plans is closed for everybody, or for nobody."""
    return there.standings[place].contribution.contract.subscription_id if place < len(there.standings) else None


# Overrides ------------------------------------------------------------------------------------------------------------


def _as_applied(replaced: Replaced) -> list[Override]:
    """Those of subscriptions first: that of the customer is applied to what they come to."""
    of_customer = [replaced.of_customer] if replaced.of_customer else []
    return [*replaced.of_subscriptions.values(), *of_customer]


def _applied(override: Override, contributors: Sequence[Contributor], there: Pool, replaced: Replaced) -> Applied:
    buckets = [b for b in there.buckets if slug_of(b) == override.feature.slug]
    added = [b.granted for b in buckets if b.kind is Kind.OVERRIDE and b.override_id == override.id]
    outvoted = not override.is_of_customer and replaced.of_customer is not None
    decides = override.feature.type != METERED or replaced.closed or replaced.decides_units
    return Applied(
        override=override,
        instead_of=_instead_of(override, contributors),
        adds=None if None in added else sum((granted for granted in added if granted is not None), ZERO),
        takes=sum((b.withheld for b in buckets if b.withheld_by == override.id), ZERO),
        limits=any(b.withheld_by == override.id and b.item.unlimited for b in buckets),
        is_outvoted=outvoted and decides,
    )


def _instead_of(override: Override, contributors: Sequence[Contributor]) -> str:
    """What would be true without it, in words; what overrides of subscriptions say counts for the customer's."""
    if not override.is_of_customer:
        own = [c for c in contributors if c.contract.subscription_id == override.subscription_id]
        return own[0].promises if own else "nothing"
    said = [c.override.describe() if c.override else c.promises for c in contributors]
    return " and ".join(said) if said else "nothing"


# How it merges --------------------------------------------------------------------------------------------------------


def _merge(access: Access, contributors: Sequence[Contributor], replaced: Replaced, given: Sequence[Given]) -> Merge:
    said = [line.gives for line in access.sources if line.override is None or not line.override.is_of_customer]
    parts = tuple(said)
    if not access.has_access:
        return Merge(Rule.OVERRIDE if replaced.all else Rule.NONE, parts, "no access")
    if access.type == BOOLEAN:
        return Merge(Rule.OVERRIDE if replaced.of_customer else Rule.ANY, parts, "on")
    if access.type == STATIC:
        return Merge(_static_rule(access, replaced), parts, _static_result(access), access.conflicts)
    terms = tuple(f"{g.name}: {'unlimited' if g.bucket.granted is None else grouped(g.bucket.granted)}" for g in given)
    if access.unlimited:
        return Merge(Rule.UNLIMITED, terms, "unlimited")
    return Merge(Rule.SUM, terms, grouped(access.limit or ZERO))


def _static_rule(access: Access, replaced: Replaced) -> Rule:
    if replaced.of_customer is not None:
        return Rule.OVERRIDE
    if access.unlimited:
        return Rule.UNLIMITED
    return Rule.LARGEST if isinstance(access.value, Decimal) and not access.conflicts else Rule.FIRST


def _static_result(access: Access) -> str:
    value = access.value
    return "unlimited" if access.unlimited else grouped(value) if isinstance(value, Decimal) else str(value)


# Beyond everything ----------------------------------------------------------------------------------------------------


def _beyond(access: Access, given: Sequence[Given]) -> Beyond:
    place = overage_bucket(access.buckets)
    units = sum((g.beyond for g in given), ZERO)
    if place is None:
        return Beyond(Limit.HARD, None, "", ZERO, is_capped=False, units=units)
    bucket = access.buckets[place]
    limit = Limit.SOFT if bucket.item.price is None else Limit.PRICED
    capped = bucket.item.max_overage is not None
    return Beyond(limit, bucket, given[place].name, bucket.beyond, is_capped=capped, units=units)
