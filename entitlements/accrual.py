"""Levels that are averaged over time: what they come to by an instant, as a punctual worker would have counted. Pure.

A level is counted piece by piece: a piece reaches to the next date at which anything of the pool changes (a window, a
bonus or an override begins or ends), so that every unit is taken from the buckets that were open when it was held.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count

from catalog.periods import Period, window
from entitlements.balances import Bucket, Contribution, Mode, Standing, burn
from entitlements.meters import Gauge, Happened, held
from entitlements.overrides import Override
from entitlements.pool import Beside, Pool, slug_of

MONTH = "P1M"
MICROSECOND = timedelta(microseconds=1)
# The pool of one feature at an instant, from rows as they are by then.
PoolAt = Callable[[datetime, Sequence[Bucket], str], Pool]


def main_place(there: Pool, slug: str) -> int | None:
    """The place of the bucket whose window a meter counts over: the first contributor's, else the first beside."""
    return next((place for place, bucket in enumerate(there.buckets) if slug_of(bucket) == slug), None)


def whole_window(there: Pool, place: int, at: datetime) -> Period:
    """The window that a level is averaged over; months where the bucket never resets."""
    bucket = there.buckets[place]
    found = Period(bucket.starts_at, None)
    anchor = bucket.starts_at
    if place < len(there.standings):
        contribution: Contribution = there.standings[place].contribution
        found, anchor = contribution.whole_window(at), contribution.contract.anchor
    return window(MONTH, anchor, at) if found.ends_at is None else found


def share(there: Pool, place: int, since: datetime, until: datetime) -> Fraction:
    """What a level of one comes to between two instants: the parts of whole windows."""
    total, at = Fraction(0), since
    while at < until:
        whole = whole_window(there, place, at)
        assert whole.ends_at is not None, "levels are averaged over windows that end"
        stop = min(whole.ends_at, until)
        total += Fraction((stop - at) // MICROSECOND, (whole.ends_at - whole.starts_at) // MICROSECOND)
        at = stop
    return total


def total_of(there: Pool, place: int, events: Iterable[Happened], since: datetime, until: datetime) -> Gauge:
    """The gauge of a window by all its events: nothing of it is counted yet."""
    gauge = Gauge(Decimal(0), since, Decimal(0))
    for level, start, stop in held(events, since, until):
        gauge = replace(gauge, level=level).after(share(there, place, start, stop), stop)
    return gauge


@dataclass(frozen=True, slots=True)
class Piece:
    """A level over a time in which nothing of the pool changed: units by place, and the gauge afterwards.

    `main` is None while nobody promises the feature; then, and while an override closes it, nothing is counted.
    """

    level: Decimal
    since: datetime
    until: datetime
    main: int | None
    parts: tuple[tuple[int, Decimal], ...]
    gauge: Gauge
    is_closed: bool = False

    @property
    def units(self) -> Decimal:
        return sum((part for _, part in self.parts), Decimal(0))


def gauges_of(rows: Iterable[Bucket]) -> dict[str, Gauge]:
    """The level of each feature that has one: that of the bucket that knew it last."""
    found: dict[str, Gauge] = {}
    for row in rows:
        if row.gauge is not None and row.gauge.accrues:
            slug = slug_of(row)
            if slug not in found or found[slug].at <= row.gauge.at:
                found[slug] = row.gauge
    return found


def with_gauges(there: Pool, gauges: dict[str, Gauge]) -> Pool:
    """The pool with each level in its main bucket, wherever it was before."""
    for slug, gauge in gauges.items():
        place = main_place(there, slug)
        if place is None:
            continue
        bucket = there.buckets[place]
        if bucket.gauge is None or bucket.gauge.at < gauge.at:
            there = _put(there, place, replace(bucket, gauge=gauge.carried(bucket.starts_at)))
    return there


def next_piece(there: Pool, slug: str, gauge: Gauge, until: datetime, dates: Collection[datetime]) -> Piece:
    """From where a level was counted to the next date, at most to an instant.

    `there` is the pool at the gauge's instant; `dates` are those of what is not in it yet.
    """
    main = main_place(there, slug)
    places = [place for place in there.usable if slug_of(there.buckets[place]) == slug]
    own = [b.ends_at for b in there.buckets if slug_of(b) == slug and b.ends_at is not None]
    stop = min(date for date in [*own, *dates, until] if date > gauge.at)
    if main is not None:
        gauge = there.buckets[main].gauge or gauge.carried(gauge.at)
    if main is None or not places:
        return Piece(gauge.level, gauge.at, stop, main, (), replace(gauge, at=stop), is_closed=True)
    after = gauge.after(share(there, main, gauge.at, stop), stop)
    burnt = burn([there.buckets[place] for place in places], after.due, Mode.OVERFLOW)
    parts = tuple((places[i], part) for i, part in burnt.parts)
    return Piece(gauge.level, gauge.at, stop, main, parts, replace(after, counted=after.counted + burnt.taken))


def dates_of(overrides: Iterable[Override], rows: Iterable[Bucket]) -> set[datetime]:
    """The instants at which something begins or ends that a pool may not show yet."""
    dates = {date for override in overrides for date in (override.starts_at, override.ends_at) if date}
    for row in rows:
        dates |= {date for date in (row.starts_at, row.ends_at) if date}
        if row.grant is not None:
            dates |= {date for date in (row.grant.starts_at, row.grant.ends_at) if date}
    return dates


def accrued(rows: Sequence[Bucket], at: datetime, pool_at: PoolAt, dates: Iterable[datetime]) -> list[Bucket]:
    """The rows as a punctual worker would have left them who had counted every level up to the instant.

    Buckets that he would have opened have ids below zero.
    """
    found, numbers, known = list(rows), count(-1, -1), set(dates)
    for slug, gauge in gauges_of(rows).items():
        if not gauge.level or gauge.at >= at:
            continue
        own = [row for row in found if slug_of(row) == slug]
        found = [row for row in found if slug_of(row) != slug] + _held_until(at, own, slug, pool_at, known, numbers)
    return found


def _held_until(
    at: datetime, rows: list[Bucket], slug: str, pool_at: PoolAt, dates: Collection[datetime], numbers: "count[int]"
) -> list[Bucket]:
    while (gauge := gauges_of(rows)[slug]).at < at:
        there = pool_at(gauge.at, rows, slug)
        piece = next_piece(there, slug, gauge, at, dates)
        rows = [replace(row, gauge=piece.gauge if row.gauge == gauge else row.gauge) for row in rows]
        if piece.main is not None:
            rows = _left_by(there, piece, rows, numbers)
    return rows


def _left_by(there: Pool, piece: Piece, rows: Sequence[Bucket], numbers: "count[int]") -> list[Bucket]:
    parts = dict(piece.parts)
    buckets = []
    for place, bucket in enumerate(there.buckets):
        gauge = piece.gauge if place == piece.main else bucket.gauge
        used = bucket.used + parts.get(place, Decimal(0))
        buckets.append(replace(bucket, id=next(numbers) if bucket.id is None else bucket.id, used=used, gauge=gauge))
    gone = {bucket.id for bucket in buckets} | {row.id for row in there.over}
    gone |= {s.ended.id for s in there.standings if s.ended} | {b.ended.id for b in there.beside if b.ended}
    return [row for row in rows if row.id not in gone] + buckets


def unwritten(there: Pool) -> Pool:
    """The pool without the ids of what is only projected."""
    if all(bucket.id is None or bucket.id > 0 for bucket in there.buckets):
        return there
    return replace(
        there,
        standings=tuple(map(_unwritten_standing, there.standings)),
        beside=tuple(map(_unwritten_beside, there.beside)),
        over=tuple(row for row in there.over if (row.id or 0) > 0),
    )


def _unwritten_standing(standing: Standing) -> Standing:
    ended = standing.ended if standing.ended and (standing.ended.id or 0) > 0 else None
    if standing.bucket.id is None or standing.bucket.id > 0:
        return replace(standing, ended=ended)
    return replace(standing, bucket=replace(standing.bucket, id=None), row=None, ended=ended)


def _unwritten_beside(beside: Beside) -> Beside:
    ended = beside.ended if beside.ended and (beside.ended.id or 0) > 0 else None
    if beside.bucket.id is None or beside.bucket.id > 0:
        return replace(beside, ended=ended)
    return replace(beside, bucket=replace(beside.bucket, id=None), row=None, ended=ended)


def _put(there: Pool, place: int, bucket: Bucket) -> Pool:
    if place < len(there.standings):
        standings = list(there.standings)
        standings[place] = replace(standings[place], bucket=bucket)
        return replace(there, standings=tuple(standings))
    beside = list(there.beside)
    at = place - len(there.standings)
    beside[at] = replace(beside[at], bucket=bucket)
    return replace(there, beside=tuple(beside))
