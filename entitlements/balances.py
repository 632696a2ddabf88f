"""Buckets as values: which one holds at an instant, how use burns them, what a change of plan does to them. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from catalog.periods import CALENDAR_WEEK_ORIGIN, ONCE, Cadence, Period, boundary, count_until, window
from catalog.terms import CALENDAR, SOFT, FeatureTerms, ItemTerms
from customers.contracts import Contract
from entitlements.meters import Gauge

ZERO = Decimal(0)
NOBODY: tuple[int | None, int | None] = (None, None)
FAR = CALENDAR_WEEK_ORIGIN.replace(year=9999)


class Mode(StrEnum):
    """What to do with use that does not fit: refuse all of it, take what fits, or count everything."""

    REJECT = "reject"
    CAP = "cap"
    OVERFLOW = "overflow"


class Kind(StrEnum):
    """What a bucket comes from. Only the plan's own may go below zero by use: the others end at nothing."""

    PLAN = "plan"
    BONUS = "bonus"
    PURCHASE = "purchase"
    ROLLOVER = "rollover"
    OVERRIDE = "override"


EXTRAS = (Kind.BONUS, Kind.PURCHASE)


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """A bonus or a purchase: units once, or again in each window of `recurs`, counted from its start."""

    id: int
    units: Decimal
    starts_at: datetime
    ends_at: datetime | None
    recurs: str = ""

    def window(self, at: datetime) -> Period:
        """The window that contains an instant of its life."""
        if not self.recurs:
            return Period(self.starts_at, self.ends_at)
        cadence = Cadence.parse(self.recurs)
        n = count_until(self.starts_at, cadence, at)
        starts_at, ends_at = (boundary(self.starts_at, cadence, k) for k in (n, n + 1))
        return Period(starts_at, ends_at if self.ends_at is None else min(ends_at, self.ends_at))

    def lives(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One metered item of one contract: what it promises, and over which windows."""

    contract: Contract
    item: ItemTerms

    @property
    def owner(self) -> tuple[int | None, int | None]:
        """(subscription id, None) or (None, plan id): whose buckets these are."""
        if self.contract.follows_contract:
            return self.contract.subscription_id, None
        return None, self.contract.plan_id

    @property
    def slug(self) -> str:
        assert self.item.feature is not None, "only metered items contribute"
        return self.item.feature.slug

    @property
    def granted(self) -> Decimal | None:
        granted = self.item.granted
        return None if granted is None else granted * self.contract.multiplier

    def whole_window(self, at: datetime) -> Period:
        """The window of the reset cadence that contains the instant, whatever cuts it short."""
        on_calendar = self.item.reset_anchor == CALENDAR
        return window(self.item.reset, self.contract.anchor, at, on_calendar=on_calendar)

    def window(self, at: datetime) -> Period:
        """The regular window that contains the instant."""
        regular = self.whole_window(at)
        trial_end = self.contract.trial_ends_at
        if trial_end is not None and regular.ends_at is not None:
            regular = Period(regular.starts_at, min(regular.ends_at, trial_end))
        if self.contract.follows_contract and regular.starts_at < self.contract.since:
            return Period(self.contract.since, regular.ends_at)
        return regular


@dataclass(frozen=True, slots=True)
class Bucket:
    """A balance as a value. `id` is None while it is only projected: the row is opened by the first write.

    A bonus or a purchase has no owner, a `label` of its own, and an item that only says of which feature it is; so has
    the override of a customer. `withheld` is the part of `adjusted` that the override `withheld_by` takes. `gauge` is
    what the main bucket of a window keeps of the feature's meter.
    """

    item: ItemTerms
    owner: tuple[int | None, int | None]
    starts_at: datetime
    ends_at: datetime | None
    granted: Decimal | None
    adjusted: Decimal = ZERO
    used: Decimal = ZERO
    priority: int = 0
    since: datetime = CALENDAR_WEEK_ORIGIN
    add_on: bool = False
    is_default: bool = False
    kind: Kind = Kind.PLAN
    label: str = ""
    withheld: Decimal = ZERO
    withheld_by: int | None = None
    override_id: int | None = None
    grant: GrantTerms | None = None
    gauge: Gauge | None = None
    id: int | None = None

    @property
    def is_extra(self) -> bool:
        """A bonus or a purchase: units of the customer's own, beside what any plan promises."""
        return self.kind in EXTRAS

    @property
    def is_bonus(self) -> bool:
        return self.kind is Kind.BONUS

    @property
    def is_plan(self) -> bool:
        """The plan's own bucket, which use beyond everything may go to."""
        return self.kind is Kind.PLAN

    def lives(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)

    @property
    def unlimited(self) -> bool:
        return self.granted is None

    @property
    def left(self) -> Decimal | None:
        """Below zero when more was used than granted; None without a limit."""
        return None if self.granted is None else self.granted + self.adjusted - self.used

    @property
    def remaining(self) -> Decimal | None:
        return None if self.left is None else max(ZERO, self.left)

    @property
    def overage(self) -> Decimal:
        return ZERO if self.left is None else max(ZERO, -self.left)

    @property
    def is_soft(self) -> bool:
        """Use beyond it is counted: the limit is soft, or the use is paid for."""
        return self.kind is Kind.PLAN and (self.item.limit == SOFT or self.item.price is not None)

    @property
    def beyond(self) -> Decimal | None:
        """Units that may still be counted beyond the bucket; None without a cap, 0 for a hard limit."""
        if not self.is_soft:
            return ZERO
        cap = self.item.max_overage
        return None if cap is None else max(ZERO, cap - self.overage)

    def age(self) -> tuple:
        """The order of rollovers: the one that ends first is the oldest."""
        return self.ends_at or FAR, self.starts_at

    def burn_order(self) -> tuple:
        """Priority, rollovers before others, the earliest end, the earliest start, the oldest row."""
        rolled = self.kind is Kind.ROLLOVER
        return self.priority, not rolled, self.ends_at or FAR, self.starts_at, self.id or 2**62


def fresh(contribution: Contribution, at: datetime, *, not_before: datetime | None = None) -> Bucket:
    """The bucket that a contribution opens for the window containing the instant."""
    span = contribution.window(at)
    starts_at = max(span.starts_at, not_before) if not_before else span.starts_at
    return Bucket(
        item=contribution.item,
        owner=contribution.owner,
        starts_at=starts_at,
        ends_at=span.ends_at,
        granted=contribution.granted,
        since=contribution.contract.since,
        add_on=contribution.contract.add_on,
        is_default=contribution.contract.is_default,
    )


def carried(bucket: Bucket, contribution: Contribution) -> Bucket:
    """The same bucket under another item: what was used and edited stays, the allowance is the new item's.

    What an override takes comes back: it takes anew from the new allowance.
    """
    return replace(given_back(bucket), item=contribution.item, granted=contribution.granted)


def given_back(bucket: Bucket) -> Bucket:
    """The bucket without what an override takes."""
    if bucket.withheld_by is None:
        return bucket
    return replace(bucket, adjusted=bucket.adjusted + bucket.withheld, withheld=ZERO, withheld_by=None)


def holds(bucket: Bucket, contribution: Contribution, at: datetime) -> bool:
    """Whether an open bucket is still the one to use: in its window, and not from before a switch of the plan."""
    if bucket.ends_at is not None and bucket.ends_at <= at:
        return False
    if not contribution.contract.follows_contract:
        # Leaving an assigned plan and coming back resumes its bucket; one that lasted for ever has no end to wait for.
        return bucket.ends_at is not None or keeps_for_ever(contribution.item)
    return bucket.item.id == contribution.item.id or bucket.starts_at >= contribution.contract.phase_starts_at


def end_of(bucket: Bucket, contribution: Contribution | None, at: datetime) -> datetime:
    """When a bucket that no longer holds came to its end: its own date, or the switch of the plan before it.

    A bucket that a switch carried on is under the item of the present phase already: it ran to its own date.
    """
    ends = [bucket.ends_at] if bucket.ends_at else []
    if contribution and contribution.contract.follows_contract and bucket.item.id != contribution.item.id:
        switched_at = contribution.contract.phase_starts_at
        if bucket.starts_at < switched_at <= at:
            ends.append(switched_at)
    return min(ends, default=at)


def keeps_for_ever(item: ItemTerms) -> bool:
    """Levels and balances that never reset survive every change of plan."""
    return item.reset == "never"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true of one contribution at an instant: the bucket to use, and the one that `ended` before it.

    `row` is the bucket as it is written, where it is; `is_closed` says that an override lets nobody use it.
    """

    contribution: Contribution
    bucket: Bucket
    ended: Bucket | None = None
    row: Bucket | None = None
    is_closed: bool = False

    @property
    def is_carried(self) -> bool:
        """Whether the row goes on under another item, allowance or override than it was written with."""
        return self.row is not None and _written(self.row) != _written(self.bucket)

    @property
    def needs_writing(self) -> bool:
        return self.bucket.id is None or self.is_carried


def _written(bucket: Bucket) -> tuple:
    """What of a row a projection may change; of use only that of a level, which outlives what ends beside it."""
    used = bucket.used if bucket.item.feature and bucket.item.feature.is_allocated else None
    return bucket.item.id, bucket.granted, bucket.adjusted, bucket.withheld, bucket.withheld_by, used


def project(contributions: Sequence[Contribution], rows: Iterable[Bucket], at: datetime) -> list[Standing]:
    """For each contribution the bucket that counts at the instant, as a punctual worker would have opened it.

    `rows` are the buckets that nobody closed yet. A window that was missed altogether had no use, so only the last
    row of a contribution can have a say in where the present window starts.
    """
    by_owner = {(row.owner, row.item.feature.slug): row for row in rows if row.item.feature and row.is_plan}
    return [_standing(contribution, by_owner, at) for contribution in contributions]


def _standing(
    contribution: Contribution, by_owner: dict[tuple[tuple[int | None, int | None], str], Bucket], at: datetime
) -> Standing:
    contract = contribution.contract
    row = by_owner.get((contribution.owner, contribution.slug))
    left = by_owner.get(((contract.subscription_id, None), contribution.slug))
    if row is None and left is not None and keeps_for_ever(contribution.item):
        opened = fresh(contribution, at, not_before=contract.phase_starts_at)
        ended = replace(left, ends_at=contract.phase_starts_at)
        return Standing(contribution, moved_to(opened, left), ended=ended)
    if row is None:
        return Standing(contribution, fresh(contribution, at))
    if holds(row, contribution, at) or (row.ends_at is None and keeps_for_ever(contribution.item)):
        same = row.item.id == contribution.item.id and row.granted == contribution.granted
        return Standing(contribution, row if same else carried(row, contribution), row=row)
    ended = replace(row, ends_at=end_of(row, contribution, at))
    opened = fresh(contribution, at, not_before=ended.ends_at)
    return Standing(contribution, replace(opened, adjusted=-debt_of(ended, contribution, at)), ended=ended)


def debt_of(ended: Bucket, contribution: Contribution, at: datetime) -> Decimal:
    """What a window owes to those before it: overage that is kept is worked off window by window, never billed."""
    debt = ended.overage if ended.item.keeps_overage and contribution.item.keeps_overage else ZERO
    granted = contribution.granted
    if not debt or granted is None or ended.ends_at is None:
        return ZERO
    for _ in missed(contribution, ended.ends_at, at):
        debt = max(ZERO, debt - granted)
        if not debt:
            break
    return debt


def missed(contribution: Contribution, since: datetime, at: datetime) -> Iterator[Period]:
    """The windows from an instant on that ended before another: those that nobody opened, because nobody used them."""
    span = contribution.window(since)
    while span.ends_at is not None and span.ends_at <= at:
        yield span
        span = contribution.window(span.ends_at)


@dataclass(frozen=True, slots=True)
class Burn:
    """How an amount is shared over buckets: (index of the bucket, units); `refused` when nothing may be counted."""

    parts: tuple[tuple[int, Decimal], ...]
    taken: Decimal
    refused: bool = False


REFUSED = Burn((), ZERO, refused=True)


def burn(buckets: Sequence[Bucket], amount: Decimal, mode: Mode) -> Burn:
    """Share use over buckets in burn order; what fits nowhere goes beyond the oldest paid or soft one, if any."""
    if amount < 0:
        return give_back(buckets, -amount, mode)
    order = sorted(range(len(buckets)), key=lambda i: buckets[i].burn_order())
    parts: dict[int, Decimal] = {}
    rest = amount
    for i in order:
        remaining = buckets[i].remaining
        step = rest if remaining is None else min(rest, remaining)
        if step:
            parts[i] = step
            rest -= step
    if rest:
        beyond = overage_bucket(buckets)
        if beyond is not None:
            cap = buckets[beyond].beyond
            step = rest if cap is None or mode is Mode.OVERFLOW else min(rest, cap)
            if step:
                parts[beyond] = parts.get(beyond, ZERO) + step
                rest -= step
    if rest and mode is Mode.OVERFLOW and buckets:
        first = min(range(len(buckets)), key=lambda i: (not buckets[i].is_plan, buckets[i].add_on, buckets[i].since))
        parts[first] = parts.get(first, ZERO) + rest
        rest = ZERO
    if rest and mode is not Mode.CAP:
        return REFUSED
    return Burn(tuple(parts.items()), amount - rest)


def overage_bucket(buckets: Sequence[Bucket]) -> int | None:
    """The bucket that use beyond everything goes to: the oldest contributor that is paid by use, else a soft one."""
    soft = [i for i, b in enumerate(buckets) if b.is_soft]
    return min(soft, key=lambda i: (buckets[i].item.price is None, buckets[i].add_on, buckets[i].since), default=None)


def give_back(buckets: Sequence[Bucket], amount: Decimal, mode: Mode) -> Burn:
    """Reverse a burn: overage first, then the bucket that was burnt last."""
    parts: dict[int, Decimal] = {}
    rest = amount
    order = sorted(range(len(buckets)), key=lambda i: buckets[i].burn_order(), reverse=True)
    for i in order:
        rest = _take(parts, i, min(rest, buckets[i].overage, max(ZERO, buckets[i].used)), rest)
    for i in order:
        rest = _take(parts, i, min(rest, max(ZERO, buckets[i].used + parts.get(i, ZERO))), rest)
    if rest and mode is Mode.OVERFLOW and buckets:
        rest = _take(parts, min(reversed(order), key=lambda i: not buckets[i].is_plan), rest, rest)
    if rest and mode is Mode.REJECT:
        return REFUSED
    return Burn(tuple((i, part) for i, part in parts.items() if part), rest - amount)


def _take(parts: dict[int, Decimal], i: int, step: Decimal, rest: Decimal) -> Decimal:
    if step:
        parts[i] = parts.get(i, ZERO) - step
    return rest - step


class Fate(StrEnum):
    """What a change of plan does to one bucket."""

    OPENED = "opened"
    CARRIED = "carried"
    RENEWED = "renewed"
    CLOSED = "closed"
    KEPT = "kept"
    ROLLED = "rolled"


@dataclass(frozen=True, slots=True)
class BucketMove:
    """One bucket in a change of plan: `before` is the row there is, `after` the bucket there will be.

    What is kept of a bucket are units that were bought once and not used: they go over into a purchase. What rolled
    over from earlier windows goes on under the new item, trimmed to its cap.
    """

    fate: Fate
    before: Bucket | None
    after: Bucket | None


def reprovision(
    before: Sequence[Bucket],
    contributions: Sequence[Contribution],
    at: datetime,
    *,
    renew_consumables: bool,
    new_cycle: bool,
    waiting: Sequence[Bucket] = (),
    paid_again: Contract | None = None,
) -> list[BucketMove]:
    """What happens to the buckets of one contract when its items are replaced at an instant.

    Use is carried under the new allowance, with the reset date kept, unless consumables start afresh; levels and
    lasting balances are always carried. A new cycle brings new reset dates where windows follow the contract. A
    change of the reset cadence applies from the end of the open window. `waiting` are the buckets that an assigned
    plan left behind when the customer left it: coming back resumes them. `paid_again` is the contract as it was,
    when what it asked for once is asked for again: its unused units stay the customer's as a purchase.
    """
    rows = {row.item.feature.slug: row for row in before if row.item.feature and row.is_plan}
    left_behind = {row.item.feature.slug: row for row in waiting if row.item.feature}
    moves = list(_roll_on([row for row in before if row.kind is Kind.ROLLOVER], contributions, at))
    for slug, bought in list(rows.items()) if paid_again else []:
        if paid_again and (kept := purchase_of(given_back(bought), paid_again.multiplier, at)):
            moves.append(BucketMove(Fate.KEPT, rows.pop(slug), kept))
    for contribution in contributions:
        assert contribution.item.feature is not None
        row = rows.pop(contribution.item.feature.slug, None)
        resumed = left_behind.get(contribution.item.feature.slug)
        if resumed and (row is None or not keeps_for_ever(contribution.item)):
            moves += [BucketMove(Fate.CLOSED, row, None)] if row else []
            row = resumed
        elif resumed:
            moves.append(BucketMove(Fate.CLOSED, resumed, None))
        opened = fresh(contribution, at, not_before=at)
        if row is None:
            moves.append(BucketMove(Fate.OPENED, None, opened))
        else:
            renews = renew_consumables and row is not resumed
            moves.append(_move(row, contribution, opened, renews=renews, new_cycle=new_cycle))
    moves += [BucketMove(Fate.CLOSED, row, None) for row in rows.values()]
    return moves


def _roll_on(rollovers: Sequence[Bucket], contributions: Sequence[Contribution], at: datetime) -> Iterator[BucketMove]:
    """What becomes of rollovers: trimmed to the new item's cap, oldest first; without a rule there, they end."""
    for contribution in contributions:
        rule, granted = contribution.item.rollover, contribution.granted
        own = [row for row in rollovers if row.item.feature and row.item.feature.slug == contribution.slug]
        if rule is None:
            continue
        own = sorted(own, key=Bucket.age)
        for row, kept in zip(own, trim(own, None if granted is None else rule.cap(granted)), strict=True):
            after = replace(kept, item=contribution.item, is_default=contribution.contract.is_default)
            if row.owner != contribution.owner:
                after = replace(
                    after,
                    owner=contribution.owner,
                    id=None,
                    starts_at=at,
                    granted=kept.remaining,
                    adjusted=ZERO,
                    used=ZERO,
                )
            yield BucketMove(Fate.ROLLED, row, after)
    ruled = {contribution.slug for contribution in contributions if contribution.item.rollover is not None}
    for row in rollovers:
        if row.item.feature and row.item.feature.slug not in ruled:
            yield BucketMove(Fate.CLOSED, row, None)


def trim(rollovers: Sequence[Bucket], cap: Decimal | None) -> list[Bucket]:
    """Bring rollovers, oldest first, to a cap on all together by taking from the oldest."""
    if cap is None:
        return list(rollovers)
    over = sum((bucket.remaining or ZERO for bucket in rollovers), ZERO) - cap
    kept = []
    for bucket in rollovers:
        cut = max(ZERO, min(over, bucket.remaining or ZERO))
        over -= cut
        kept.append(replace(bucket, adjusted=bucket.adjusted - cut) if cut else bucket)
    return kept


def purchase_of(row: Bucket, multiplier: int, at: datetime) -> Bucket | None:
    """The units of a bucket that were bought once and not used, as a lasting purchase; None when there are none."""
    item = row.item
    bought_once = item.is_prepaid and item.cadence == ONCE and keeps_for_ever(item)
    if not bought_once or row.left is None or row.granted is None:
        return None
    unused = min(row.left, row.granted - (item.included or ZERO) * multiplier)
    if unused <= 0 or item.feature is None:
        return None
    return extra(item.feature, unused, starts_at=at, ends_at=None, label=f"{item.label}, bought before")


def extra(
    feature: FeatureTerms,
    granted: Decimal,
    *,
    starts_at: datetime,
    ends_at: datetime | None,
    label: str,
    kind: Kind = Kind.PURCHASE,
) -> Bucket:
    """Units that no plan promises, with a hard end."""
    item = ItemTerms(key=feature.slug, name=label, feature=feature, included=granted)
    return Bucket(item, NOBODY, starts_at, ends_at, granted, since=starts_at, kind=kind, label=label)


def _move(row: Bucket, contribution: Contribution, opened: Bucket, *, renews: bool, new_cycle: bool) -> BucketMove:
    """One bucket that goes on, afresh or with what was used of it; under another owner it goes on in a new row."""
    same_owner = row.owner == contribution.owner
    new_dates = not same_owner or (new_cycle and contribution.contract.follows_contract)
    lasts = keeps_for_ever(contribution.item)
    ends_at = None if lasts else opened.ends_at if new_dates or row.ends_at is None else row.ends_at
    if renews and not lasts and row.ends_at is not None:
        level = row.gauge.carried(opened.starts_at) if row.gauge and row.gauge.accrues else None
        return BucketMove(Fate.RENEWED, row, replace(opened, ends_at=ends_at, priority=row.priority, gauge=level))
    if same_owner:
        return BucketMove(Fate.CARRIED, row, replace(carried(row, contribution), ends_at=ends_at))
    return BucketMove(Fate.CARRIED, row, moved_to(opened, row))


def moved_to(opened: Bucket, row: Bucket) -> Bucket:
    """A new bucket with what was used and edited of the one that it carries on."""
    row = given_back(row)
    return replace(opened, used=row.used, adjusted=row.adjusted, priority=row.priority, gauge=row.gauge)
