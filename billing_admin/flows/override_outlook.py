"""What an override would make true, before anybody gives it. Reads, decides with the engine's own functions, writes
nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from catalog.models import Feature, Meter
from catalog.money import grouped, plain
from catalog.terms import METERED, FeatureTerms
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer, Subscription
from entitlements.access import Access, decide
from entitlements.allowances import Value, contributions_of, sources_of, static_value
from entitlements.models import Balance, FeatureOverride
from entitlements.override import Asked
from entitlements.overrides import Override
from entitlements.readings import open_rows, override_of, overrides_of, pool_under

# As many customers with the same override are a plan that nobody has written yet.
SAME_ON = 3
# Beyond so many nobody needs the exact number.
COUNTED = 100
WHOLE = (Meter.Aggregation.COUNT, Meter.Aggregation.UNIQUE_COUNT)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An override as it was asked for; without a subscription it is the customer's."""

    feature: Feature
    asked: Asked
    subscription: Subscription | None
    starts_at: datetime
    ends_at: datetime | None

    def value(self) -> Override:
        """As the engine reads it. No row has the id 0."""
        return Override(
            id=0,
            public_id="",
            feature=self.feature.terms(),
            subscription_id=self.subscription.pk if self.subscription else None,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            on=self.asked.on,
            units=self.asked.units,
            text=self.asked.text,
            unlimited=self.asked.unlimited,
        )


@dataclass(frozen=True, slots=True)
class Outlook:
    """The access at the start, without and with the override; those it overlaps, and on how many others it stands."""

    wanted: Wanted
    at: datetime
    before: Access
    after: Access
    overlapping: tuple[FeatureOverride, ...]
    same_on: int
    both_levels: bool
    plan_id: int | None
    starts_later: bool

    @property
    def sentence(self) -> str:
        """What will be true until when, and what then."""
        start = f"{self.at:%-d %b %Y}" if self.starts_later else "now"
        until = self.wanted.ends_at
        value, was = gives(self.after), gives(self.before)
        instead = f"{value} instead of {was}" if value != was else f"{value}, as it is already"
        span = f"From {start} on" if until is None else f"From {start} until {until:%-d %b %Y}"
        then = "It holds until somebody revokes it." if until is None else "Then the plan's own value again."
        return f"{span}: {self.wanted.feature.name} {instead}{_left(self.before, self.after)}. {then}"

    @property
    def stays_used(self) -> str:
        """Why a lower limit does not hold in full yet; empty where it does."""
        units, limit = self.wanted.asked.units, self.after.limit
        if units is None or limit is None or self.wanted.subscription is not None or limit <= units:
            return ""
        return (
            f"More than {grouped(units)} is used in this window already: what is used stays covered, the lower limit "
            "holds in full from the next window."
        )

    @property
    def misaligned(self) -> str:
        """Why the value does not fit how the feature is counted; empty where it does."""
        units = self.wanted.asked.units
        return "" if units is None else misfit(self.wanted.feature, units)

    @property
    def suggests_version(self) -> bool:
        return self.same_on >= SAME_ON


def misfit(feature: Feature, units: Decimal) -> str:
    """Why so many units do not fit how a feature is counted; reads `feature.meter`. Empty where they do."""
    if units == units.to_integral_value():
        return ""
    if feature.usage == Feature.Usage.ALLOCATED:
        return f"{feature.name} is a level of whole units, so {plain(units)} lets nobody use the fraction."
    if feature.meter is not None and feature.meter.aggregation in WHOLE:
        how = feature.meter.get_aggregation_display().lower()
        return f"{feature.name} is metered in whole numbers ({how}), so nobody can use the fraction of {plain(units)}."
    return ""


def gives(access: Access) -> str:
    """What an access gives, for people: `400`, `on`, `unlimited`, `no access`."""
    if not access.has_access:
        return "no access"
    if access.type == METERED:
        return "unlimited" if access.unlimited else grouped(access.limit or Decimal(0))
    if access.unlimited:
        return "unlimited"
    if access.value is True:
        return "on"
    return grouped(access.value) if isinstance(access.value, Decimal) else str(access.value)


def _left(before: Access, after: Access) -> str:
    if after.type != METERED or after.remaining is None or not after.has_access:
        return ""
    was = f" (was {grouped(before.remaining)})" if before.remaining is not None and before.has_access else ""
    return f"; {grouped(after.remaining)} left{was}"


def outlook(customer: Customer, wanted: Wanted, *, now: datetime) -> Outlook:
    """What giving an override would make true at its start, in at most ten queries."""
    at = max(now, wanted.starts_at)
    feature = wanted.feature.terms()
    contracts = contracts_at(customer, at)
    rows = list(open_rows(customer, [wanted.feature.pk])) if feature.type == METERED else []
    ends = [row.ends_at for row in rows if row.ends_at is not None]
    present = overrides_of(customer, min([now, *ends]))
    overlapping = overlapping_with(customer, wanted)
    ended = {row.pk for row in overlapping}
    kept = [replace(o, ends_at=max(o.starts_at, at)) if o.id in ended else o for o in present]
    changed = [*kept, wanted.value()]
    other_level = [o for o in kept if o.feature.slug == feature.slug and o.holds(at)]
    return Outlook(
        wanted=wanted,
        at=at,
        before=_access(feature, contracts, rows, present, at),
        after=_access(feature, contracts, rows, changed, at),
        overlapping=tuple(overlapping),
        same_on=same_elsewhere(customer, wanted, now=now),
        both_levels=any(o.is_of_customer != (wanted.subscription is None) for o in other_level),
        plan_id=next((s.contract.plan_id for s in sources_of(contracts, feature.slug)), None),
        starts_later=wanted.starts_at > now,
    )


def _access(
    feature: FeatureTerms,
    contracts: Sequence[Contract],
    rows: Sequence[Balance],
    overrides: Sequence[Override],
    at: datetime,
) -> Access:
    there = pool_under(overrides, contracts, rows, at, feature.slug)
    return decide(
        feature,
        sources_of(contracts, feature.slug),
        there.of(feature.slug),
        holds_plan=bool(contracts),
        replaced=there.overrides(feature.slug),
    )


def overlapping_with(customer: Customer, wanted: Wanted) -> list[FeatureOverride]:
    """Overrides of the same feature at the same level that hold at some time in which the wanted one would."""
    same = customer.feature_overrides.standing(wanted.starts_at).filter(
        feature=wanted.feature, subscription=wanted.subscription
    )
    if wanted.ends_at is not None:
        same = same.filter(effective_from__lt=wanted.ends_at)
    return list(same.select_related("feature").order_by("effective_from"))


def same_elsewhere(customer: Customer, wanted: Wanted, *, now: datetime) -> int:
    """On how many other customers the same value stands; counted as far as it matters."""
    asked = wanted.asked
    same = FeatureOverride.objects.standing(now).filter(
        feature=wanted.feature, on=asked.on, units=asked.units, text=asked.text, unlimited=asked.unlimited
    )
    others = same.exclude(customer=customer).order_by().values("customer").distinct()
    return len(others[:COUNTED])


def planned(contracts: Sequence[Contract], feature: FeatureTerms, subscription_id: int | None = None) -> str:
    """What the plans (or one subscription) give of a feature without any override, for people."""
    held = [c for c in contracts if subscription_id is None or c.subscription_id == subscription_id]
    sources = sources_of(held, feature.slug)
    if not sources:
        return "nothing"
    if feature.type == METERED:
        granted = [contribution.granted for contribution in contributions_of(held, feature.slug)]
        finite = [units for units in granted if units is not None]
        return "unlimited" if len(finite) < len(granted) else grouped(sum(finite, Decimal(0)))
    if any(source.item.value or source.item.unlimited for source in sources):
        return static_value([Value(s.item.value, unlimited=s.item.unlimited) for s in sources]).value
    return "on"


def words_of(row: FeatureOverride) -> str:
    """The value of an override, for people; reads `row.feature`."""
    return override_of(row).describe()
