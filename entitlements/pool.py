"""All buckets of a customer at an instant, as a punctual worker would have left them. Pure.

First what the plans promise (`balances.project`), then what stands beside it: overrides, rollovers, bonuses and
purchases. Each knows the row it was read from, so that what differs can be written.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from catalog.rollovers import Rollover
from entitlements.balances import (
    NOBODY,
    ZERO,
    Bucket,
    Contribution,
    Kind,
    Standing,
    extra,
    given_back,
    missed,
    project,
    trim,
)
from entitlements.overrides import NOTHING_REPLACED, Override, Replaced, in_force


@dataclass(frozen=True, slots=True)
class Beside:
    """A bucket beside what the plans promise, the row it is written as, and the one of the window that `ended`."""

    bucket: Bucket
    row: Bucket | None = None
    ended: Bucket | None = None

    @property
    def needs_writing(self) -> bool:
        row, bucket = self.row, self.bucket
        return row is None or (row.granted, row.adjusted, row.ends_at) != (
            bucket.granted,
            bucket.adjusted,
            bucket.ends_at,
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """`over` are rows that nobody closed yet and that have no successor; `replaced` the overrides by feature."""

    standings: tuple[Standing, ...] = ()
    beside: tuple[Beside, ...] = ()
    over: tuple[Bucket, ...] = ()
    replaced: tuple[tuple[str, Replaced], ...] = ()

    @property
    def buckets(self) -> list[Bucket]:
        """Those of the standings, then those beside them, in this order."""
        return [*(s.bucket for s in self.standings), *(b.bucket for b in self.beside)]

    @property
    def needs_writing(self) -> bool:
        return any(s.needs_writing for s in self.standings) or any(b.needs_writing for b in self.beside)

    @property
    def usable(self) -> list[int]:
        """The places of the buckets that may be used: an override may have closed some."""
        buckets = self.buckets
        if not self.replaced:
            return list(range(len(buckets)))
        closed = {place for place, standing in enumerate(self.standings) if standing.is_closed}
        return [
            place
            for place, bucket in enumerate(buckets)
            if place not in closed and not self.overrides(slug_of(bucket)).closed
        ]

    def overrides(self, slug: str) -> Replaced:
        return next((found for name, found in self.replaced if name == slug), NOTHING_REPLACED)

    def of(self, slug: str) -> list[Bucket]:
        """The buckets of one feature that may be used."""
        buckets = self.buckets
        return [buckets[place] for place in self.usable if slug_of(buckets[place]) == slug]


def slug_of(bucket: Bucket) -> str:
    assert bucket.item.feature is not None, "every bucket is of a feature"
    return bucket.item.feature.slug


def pool_of(
    contributions: Sequence[Contribution],
    rows: Sequence[Bucket],
    at: datetime,
    *,
    overrides: Sequence[Override] = (),
    subscriptions: Iterable[int | None] = (),
    slug: str | None = None,
    merges: bool = True,
) -> Pool:
    """The pool of one feature, or of all, from rows that nobody closed yet.

    `overrides` are those that may have a say between the oldest open window's end and now; `subscriptions` those in
    force. Without `merges` the contributions are a part only, so overrides of the whole customer are left as they are.
    """
    subscriptions = list(subscriptions)
    standings = [_as_it_ended(standing, overrides) for standing in project(contributions, rows, at)]
    by_override = {row.override_id: row for row in rows if row.kind is Kind.OVERRIDE}
    beside: list[Beside] = []
    replaced: dict[str, Replaced] = {}
    slugs = dict.fromkeys([c.slug for c in contributions] + [o.feature.slug for o in overrides if o.holds(at)])
    for name in [slug] if slug is not None else slugs:
        found = in_force(overrides, name, at, subscriptions)
        if not found.all:
            continue
        replaced[name] = found
        beside += _replace(standings, name, found, by_override, at, merges=merges)
    holding = {override.id for override in overrides if override.holds(at)}
    standings = [standing if standing.row is None else _released(standing, holding) for standing in standings]
    for standing in standings:
        beside += _rollovers(standing, rows, at)
    beside += _grants(rows, at)
    kept = {b.bucket.id for b in beside} | {b.ended.id for b in beside if b.ended}
    over = [row for row in rows if not row.is_plan and row.id not in kept and row.starts_at <= at]
    present = {(s.contribution.owner, s.contribution.slug): s.contribution for s in standings}
    standings = _with_levels(standings, [*over, *(b.ended for b in beside if b.ended)])
    return Pool(
        tuple(standings),
        tuple(beside),
        tuple(replace(row, ends_at=_end_of(row, present.get((row.owner, slug_of(row))), at)) for row in over),
        tuple(replaced.items()),
    )


def is_level(bucket: Bucket) -> bool:
    return bucket.item.feature is not None and bucket.item.feature.is_allocated


def _with_levels(standings: list[Standing], gone: Sequence[Bucket]) -> list[Standing]:
    """The standings with the parts of levels that buckets beside them held until they ended: seats stay in use."""
    found = list(standings)
    for bucket in gone:
        places = [i for i, s in enumerate(found) if s.contribution.slug == slug_of(bucket)]
        if is_level(bucket) and bucket.used and places:
            own = found[places[0]].bucket
            found[places[0]] = replace(found[places[0]], bucket=replace(own, used=own.used + bucket.used))
    return found


def _end_of(row: Bucket, contribution: Contribution | None, at: datetime) -> datetime:
    """When a bucket without a successor came to its end: its own date; a rollover with the switch to a plan without it.

    A rollover that a switch carried on is under the item of the present phase already.
    """
    ends = [at if row.ends_at is None else min(row.ends_at, at)]
    if row.kind is Kind.ROLLOVER and contribution is not None and row.item.id != contribution.item.id:
        switched_at = contribution.contract.phase_starts_at
        if row.starts_at < switched_at <= at:
            ends.append(switched_at)
    return min(ends)


# Overrides ------------------------------------------------------------------------------------------------------------


def _replace(
    standings: list[Standing],
    slug: str,
    found: Replaced,
    rows: dict[int | None, Bucket],
    at: datetime,
    *,
    merges: bool,
) -> list[Beside]:
    """Put the standings of a feature under its overrides, in place; returns the buckets that overrides add.

    Where the customer's override says how many units there are, those of subscriptions only add their buckets: what
    they would take or limit is the customer's to decide.
    """
    places = [i for i, s in enumerate(standings) if s.contribution.slug == slug]
    beside = []
    for subscription_id, override in found.of_subscriptions.items():
        own = [i for i in places if standings[i].contribution.contract.subscription_id == subscription_id]
        if override.closes:
            for i in own:
                standings[i] = replace(standings[i], is_closed=True)
        elif found.decides_units:
            for i in own:
                standings[i] = replace(standings[i], bucket=_free_of(override, standings[i].bucket))
            beside += _raised_to(standings, own, override, rows.get(override.id), (subscription_id, None), (), at)
        else:
            beside += _leveled(standings, own, override, rows.get(override.id), (subscription_id, None), at)
    if merges and found.of_customer is not None and not found.of_customer.closes:
        open_places = [i for i in places if not standings[i].is_closed]
        row = rows.get(found.of_customer.id)
        own_bucket = _raised_to(standings, open_places, found.of_customer, row, NOBODY, beside, at)
        if not own_bucket and found.of_customer.units is not None:
            beside = _lowered_to(standings, open_places, found.of_customer, found.of_customer.units, beside)
        beside += own_bucket
    return beside


def _leveled(
    standings: list[Standing],
    places: list[int],
    override: Override,
    row: Bucket | None,
    owner: tuple[int | None, int | None],
    at: datetime,
) -> list[Beside]:
    """Bring what these standings promise to the override's value."""
    raised = _raised_to(standings, places, override, row, owner, (), at)
    if not raised and override.units is not None:
        _lowered_to(standings, places, override, override.units, ())
    return raised


def _raised_to(
    standings: list[Standing],
    places: list[int],
    override: Override,
    row: Bucket | None,
    owner: tuple[int | None, int | None],
    others: Sequence[Beside],
    at: datetime,
) -> list[Beside]:
    """The bucket that an override above what these standings and `others` promise together adds, if it is above."""
    promised = [standings[i].contribution.granted for i in places] + [b.bucket.granted for b in others]
    merged = sum((granted for granted in promised if granted is not None), ZERO)
    if None in promised:
        return []
    if override.unlimited:
        return [_raised(standings, places, override, row, owner, None, at)]
    if override.units is None or override.units < merged or (override.units == merged and row is None):
        return []
    return [_raised(standings, places, override, row, owner, override.units - merged, at)]


def _lowered_to(
    standings: list[Standing], places: list[int], override: Override, units: Decimal, others: Sequence[Beside]
) -> list[Beside]:
    """Bring standings, in place, and `others` down to so many units; what is used already is not taken.

    Returns the others, those left out that hold nothing and were never written.
    """
    finite = sum((b.bucket.granted for b in others if b.bucket.granted is not None), ZERO)
    finite += sum((standings[i].bucket.granted or ZERO for i in places), ZERO)
    limited = _limit(standings, places, override, max(ZERO, units - finite))
    over, kept = finite - units + limited, []
    for beside in others:
        bucket = beside.bucket
        granted = max(bucket.used, units - finite) if bucket.granted is None else bucket.granted
        if bucket.granted is None:
            over += granted
        cut = max(ZERO, min(over, granted - bucket.used))
        over -= cut
        if granted - cut or beside.row is not None:
            kept.append(replace(beside, bucket=replace(bucket, granted=granted - cut)))
    if over > 0:
        _withhold(standings, [i for i in places if standings[i].contribution.granted is not None], override, over)
    return kept


def _raised(
    standings: list[Standing],
    places: list[int],
    override: Override,
    row: Bucket | None,
    owner: tuple[int | None, int | None],
    granted: Decimal | None,
    at: datetime,
) -> Beside:
    """The bucket of an override above what it replaces: over the plan's window, while it is in force.

    One that was opened before there was a plan ends with the plan's window from then on.
    """
    starts_at, ends_at = override.starts_at, override.ends_at
    if places:
        window = standings[places[0]].bucket
        starts_at = max(starts_at, window.starts_at)
        ends_at = min((end for end in (ends_at, window.ends_at) if end is not None), default=None)
    if row is not None and row.lives(at):
        ends = [end for end in (row.ends_at, ends_at) if end is not None]
        kept = granted if granted is None or row.granted is None else max(granted, row.used)
        return Beside(replace(row, granted=kept, ends_at=min(ends, default=None)), row=row)
    if row is not None and row.ends_at is not None:
        starts_at = max(starts_at, row.ends_at)
    opened = extra(
        override.feature, granted or ZERO, starts_at=starts_at, ends_at=ends_at, label="Override", kind=Kind.OVERRIDE
    )
    return Beside(replace(opened, owner=owner, granted=granted, override_id=override.id), ended=row)


def _withhold(standings: list[Standing], places: list[int], override: Override, units: Decimal) -> None:
    """Take units from the buckets that are burnt last; what is used already is not taken."""
    for i in places:
        if _keeps(standings[i], override):
            units -= standings[i].bucket.withheld
    for i in sorted(places, key=lambda i: standings[i].bucket.burn_order(), reverse=True):
        if _keeps(standings[i], override):
            continue
        bucket = given_back(standings[i].bucket)
        taken = max(ZERO, min(units, bucket.left or ZERO))
        units -= taken
        held = replace(bucket, adjusted=bucket.adjusted - taken, withheld=taken, withheld_by=override.id)
        standings[i] = replace(standings[i], bucket=held)


def _limit(standings: list[Standing], places: list[int], override: Override, units: Decimal) -> Decimal:
    """Give buckets without a limit one: the first the units that are left to give, the others nothing.

    Returns what they hold together.
    """
    together = ZERO
    for i in places:
        bucket, row = standings[i].bucket, standings[i].row
        if bucket.granted is not None:
            continue
        if (
            row is not None
            and row.granted is not None
            and row.withheld_by == override.id
            and row.item.id == bucket.item.id
        ):
            granted = row.granted
        else:
            granted = max(units, bucket.used - bucket.adjusted)
        limited = replace(bucket, granted=granted, withheld=ZERO, withheld_by=override.id)
        standings[i] = replace(standings[i], bucket=limited)
        together += granted
        units = ZERO
    return together


def _keeps(standing: Standing, override: Override) -> bool:
    """Whether the row has what this override takes already, of the allowance that it still has."""
    row, bucket = standing.row, standing.bucket
    return row is not None and row.withheld_by == override.id and row.granted == bucket.granted


def _free_of(override: Override, bucket: Bucket) -> Bucket:
    """The bucket without what this override takes."""
    return given_back(bucket) if bucket.withheld_by == override.id else bucket


def _released(standing: Standing, holding: set[int]) -> Standing:
    """What an override that is no longer in force took comes back."""
    bucket = standing.bucket
    return standing if bucket.withheld_by in (None, *holding) else replace(standing, bucket=given_back(bucket))


def _as_it_ended(standing: Standing, overrides: Sequence[Override]) -> Standing:
    """The window that ended, as it was in the end: what an override took that had ended before comes back."""
    ended = standing.ended
    if ended is None or ended.withheld_by is None or ended.ends_at is None:
        return standing
    by = next((o for o in overrides if o.id == ended.withheld_by), None)
    still = by is not None and (by.ends_at is None or by.ends_at >= ended.ends_at)
    return standing if still else replace(standing, ended=given_back(ended))


# Rollovers ------------------------------------------------------------------------------------------------------------


def _rollovers(standing: Standing, rows: Sequence[Bucket], at: datetime) -> list[Beside]:
    """What of earlier windows lives on: rows that are there, and those of windows that ended since."""
    contribution = standing.contribution
    rule, granted = contribution.item.rollover, contribution.granted
    if rule is None:
        return []
    own = [
        row
        for row in rows
        if row.kind is Kind.ROLLOVER and row.owner == contribution.owner and slug_of(row) == contribution.slug
    ]
    if standing.ended is None and not own:
        return []
    cap = None if granted is None else rule.cap(granted)
    alive = trim(sorted(own, key=Bucket.age), cap)
    for ends_at, rest in _rests(standing, rows, at):
        alive = [bucket for bucket in alive if bucket.ends_at is None or bucket.ends_at > ends_at]
        if rest > 0:
            alive.append(rollover(contribution, rule, ends_at, rest))
        alive = trim(alive, cap)
    by_id = {row.id: row for row in own}
    return [
        Beside(bucket, row=by_id.get(bucket.id) if bucket.id is not None else None)
        for bucket in alive
        if bucket.lives(at)
    ]


def rollover(contribution: Contribution, rule: Rollover, at: datetime, units: Decimal) -> Bucket:
    """The bucket that a window leaves behind at its end."""
    return Bucket(
        item=contribution.item,
        owner=contribution.owner,
        starts_at=at,
        ends_at=rule.ends_at(at),
        granted=units,
        since=contribution.contract.since,
        is_default=contribution.contract.is_default,
        kind=Kind.ROLLOVER,
        label=f"Rolled over on {at:%-d %b %Y}",
    )


def _rests(standing: Standing, rows: Sequence[Bucket], at: datetime) -> Iterator[tuple[datetime, Decimal]]:
    """The end of each window that ended since the rows were written, with what was left of it."""
    ended, contribution = standing.ended, standing.contribution
    if ended is None or ended.ends_at is None or ended.item.rollover is None:
        return
    written = next((row for row in rows if row.id == ended.id), None)
    if written is None or written.ends_at != ended.ends_at:
        return  # it was cut short by another plan
    yield ended.ends_at, ended.remaining or ZERO
    debt = ended.overage if contribution.item.keeps_overage else ZERO
    granted = contribution.granted or ZERO
    for window in missed(contribution, ended.ends_at, at):
        assert window.ends_at is not None
        yield window.ends_at, max(ZERO, granted - debt)
        debt = max(ZERO, debt - granted)


# Bonuses and purchases ------------------------------------------------------------------------------------------------


def _grants(rows: Sequence[Bucket], at: datetime) -> Iterator[Beside]:
    """Those that are alive, and the present window of those that come again."""
    for row in rows:
        if not row.is_extra:
            continue
        if row.lives(at):
            yield Beside(row, row=row)
        elif row.grant is not None and row.grant.recurs and row.starts_at <= at and row.grant.lives(at):
            span = row.grant.window(at)
            fresh = replace(
                row, starts_at=span.starts_at, ends_at=span.ends_at, granted=row.grant.units, adjusted=ZERO, used=ZERO
            )
            yield Beside(replace(fresh, id=None), ended=row)
