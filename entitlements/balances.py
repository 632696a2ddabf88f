"""Buckets as values: which one holds at an instant, how use burns them, what a change of plan does to them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from catalog.periods import CALENDAR_WEEK_ORIGIN, ONCE, Period, window
from catalog.terms import CALENDAR, SOFT, FeatureTerms, ItemTerms
from customers.contracts import Contract

ZERO = Decimal(0)
NOBODY: tuple[int | None, int | None] = (None, None)
FAR = CALENDAR_WEEK_ORIGIN.replace(year=9999)


class Mode(StrEnum):
    """What to do with use that does not fit: refuse all of it, take what fits, or count everything."""

    REJECT = "reject"
    CAP = "cap"
    OVERFLOW = "overflow"


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
    def granted(self) -> Decimal | None:
        granted = self.item.granted
        return None if granted is None else granted * self.contract.multiplier

    def window(self, at: datetime) -> Period:
        """The regular window that contains the instant."""
        on_calendar = self.item.reset_anchor == CALENDAR
        regular = window(self.item.reset, self.contract.anchor, at, on_calendar=on_calendar)
        trial_end = self.contract.trial_ends_at
        if trial_end is not None and regular.ends_at is not None:
            regular = Period(regular.starts_at, min(regular.ends_at, trial_end))
        if self.contract.follows_contract and regular.starts_at < self.contract.since:
            return Period(self.contract.since, regular.ends_at)
        return regular


@dataclass(frozen=True, slots=True)
class Bucket:
    """A balance as a value. `id` is None while it is only projected: the row is opened by the first write.

    A bonus or a purchase has no owner, a `label` of its own, and an item that only says of which feature it is.
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
    is_bonus: bool = False
    label: str = ""
    id: int | None = None

    @property
    def is_extra(self) -> bool:
        """A bonus or a purchase: units of the customer's own, beside what any plan promises."""
        return self.owner == NOBODY

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
        return self.item.limit == SOFT or self.item.price is not None

    @property
    def beyond(self) -> Decimal | None:
        """Units that may still be counted beyond the bucket; None without a cap, 0 for a hard limit."""
        if not self.is_soft:
            return ZERO
        cap = self.item.max_overage
        return None if cap is None else max(ZERO, cap - self.overage)

    def burn_order(self) -> tuple:
        return self.priority, self.ends_at or FAR, self.starts_at, self.id or 2**62


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
    """The same bucket under another item: what was used and edited stays, the allowance is the new item's."""
    return replace(bucket, item=contribution.item, granted=contribution.granted)


def holds(bucket: Bucket, contribution: Contribution, at: datetime) -> bool:
    """Whether an open bucket is still the one to use: in its window, and not from before a switch of the plan."""
    if bucket.ends_at is not None and bucket.ends_at <= at:
        return False
    if not contribution.contract.follows_contract:
        # Leaving an assigned plan and coming back resumes its bucket; one that lasted for ever has no end to wait for.
        return bucket.ends_at is not None or keeps_for_ever(contribution.item)
    return bucket.item.id == contribution.item.id or bucket.starts_at >= contribution.contract.phase_starts_at


def end_of(bucket: Bucket, contribution: Contribution | None, at: datetime) -> datetime:
    """When a bucket that no longer holds came to its end: its own date, or the switch of the plan before it."""
    ends = [bucket.ends_at] if bucket.ends_at else []
    if contribution and contribution.contract.follows_contract:
        switched_at = contribution.contract.phase_starts_at
        if bucket.starts_at < switched_at <= at:
            ends.append(switched_at)
    return min(ends, default=at)


def keeps_for_ever(item: ItemTerms) -> bool:
    """Levels and balances that never reset survive every change of plan."""
    return item.reset == "never"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true of one contribution at an instant: the bucket to use, and the one that `ended` before it."""

    contribution: Contribution
    bucket: Bucket
    ended: Bucket | None = None
    is_carried: bool = False

    @property
    def needs_writing(self) -> bool:
        return self.bucket.id is None or self.is_carried


def project(contributions: Sequence[Contribution], rows: Iterable[Bucket], at: datetime) -> list[Standing]:
    """For each contribution the bucket that counts at the instant, as a punctual worker would have opened it.

    `rows` are the buckets that nobody closed yet. A window that was missed altogether had no use, so only the last
    row of a contribution can have a say in where the present window starts.
    """
    by_owner = {(row.owner, row.item.feature.slug): row for row in rows if row.item.feature and not row.is_extra}
    standings = []
    for contribution in contributions:
        assert contribution.item.feature is not None
        row = by_owner.get((contribution.owner, contribution.item.feature.slug))
        left = by_owner.get(((contribution.contract.subscription_id, None), contribution.item.feature.slug))
        if row is None and left is not None and keeps_for_ever(contribution.item):
            opened = fresh(contribution, at, not_before=contribution.contract.phase_starts_at)
            ended = replace(left, ends_at=contribution.contract.phase_starts_at)
            standings.append(Standing(contribution, moved_to(opened, left), ended=ended))
        elif row is None:
            standings.append(Standing(contribution, fresh(contribution, at)))
        elif holds(row, contribution, at):
            same = row.item.id == contribution.item.id and row.granted == contribution.granted
            bucket = row if same else carried(row, contribution)
            standings.append(Standing(contribution, bucket, is_carried=not same))
        elif row.ends_at is None and keeps_for_ever(contribution.item):
            standings.append(Standing(contribution, carried(row, contribution), is_carried=True))
        else:
            ended = replace(row, ends_at=end_of(row, contribution, at))
            standings.append(Standing(contribution, fresh(contribution, at, not_before=ended.ends_at), ended=ended))
    return standings


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
        first = min(range(len(buckets)), key=lambda i: (buckets[i].is_extra, buckets[i].add_on, buckets[i].since))
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
        rest = _take(parts, min(reversed(order), key=lambda i: buckets[i].is_extra), rest, rest)
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


@dataclass(frozen=True, slots=True)
class BucketMove:
    """One bucket in a change of plan: `before` is the row there is, `after` the bucket there will be.

    What is kept of a bucket are units that were bought once and not used: they go over into a purchase.
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
    rows = {row.item.feature.slug: row for row in before if row.item.feature}
    left_behind = {row.item.feature.slug: row for row in waiting if row.item.feature}
    moves = []
    for slug, bought in list(rows.items()) if paid_again else []:
        if paid_again and (kept := purchase_of(bought, paid_again.multiplier, at)):
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
    is_bonus: bool = False,
) -> Bucket:
    """A bonus or a purchase: units with a hard end, which no plan promises."""
    item = ItemTerms(key=feature.slug, name=label, feature=feature, included=granted)
    return Bucket(item, NOBODY, starts_at, ends_at, granted, since=starts_at, is_bonus=is_bonus, label=label)


def _move(row: Bucket, contribution: Contribution, opened: Bucket, *, renews: bool, new_cycle: bool) -> BucketMove:
    """One bucket that goes on, afresh or with what was used of it; under another owner it goes on in a new row."""
    same_owner = row.owner == contribution.owner
    new_dates = not same_owner or (new_cycle and contribution.contract.follows_contract)
    lasts = keeps_for_ever(contribution.item)
    ends_at = None if lasts else opened.ends_at if new_dates or row.ends_at is None else row.ends_at
    if renews and not lasts and row.ends_at is not None:
        return BucketMove(Fate.RENEWED, row, replace(opened, ends_at=ends_at, priority=row.priority))
    if same_owner:
        return BucketMove(Fate.CARRIED, row, replace(carried(row, contribution), ends_at=ends_at))
    return BucketMove(Fate.CARRIED, row, moved_to(opened, row))


def moved_to(opened: Bucket, row: Bucket) -> Bucket:
    """A new bucket with what was used and edited of the one that it carries on."""
    return replace(opened, used=row.used, adjusted=row.adjusted, priority=row.priority)
