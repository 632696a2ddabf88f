"""Verbs that open, carry and close buckets. Callers hold the customer's row; buckets are locked in id order."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.db import connection

from catalog.terms import ItemTerms, PlanTerms
from customers.contracts import Contract
from customers.holdings import contracts_at, next_edges
from customers.models import Customer, Operation
from entitlements.accrual import MONTH, Piece, dates_of, gauges_of, next_piece
from entitlements.allowances import contributions_of
from entitlements.balances import Bucket, BucketMove, Contribution, Fate, Kind, Standing, fresh
from entitlements.events import write_event
from entitlements.levels import tell_levels
from entitlements.meters import Gauge, rounded
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet, Grant, MeterMember, UsageEvent
from entitlements.pool import Beside, Pool, is_level
from entitlements.readings import (
    bucket_of,
    came_back,
    feature_terms,
    gauge_of,
    grant_terms,
    item_terms,
    locked,
    open_rows,
    overrides_of,
    pool,
    pool_under,
)

PROMISED = (Balance.Source.PLAN_ITEM, Balance.Source.DEFAULT)
BESIDE_OTHERS = "SELECT 1 FROM customers_customer WHERE id = %s FOR KEY SHARE"
ALONE = "SELECT 1 FROM customers_customer WHERE id = %s FOR NO KEY UPDATE"


def hold(customer: Customer, *, alone: bool = False) -> None:
    """Keep plan changes away while balances are written: they lock the customer for update, use only shares it.

    `alone` also keeps away whoever else would open a window, edits or resets, but nobody who only counts. Taken
    before any bucket, so that all of them meet in the same order and cannot deadlock.
    """
    with connection.cursor() as cursor:
        cursor.execute(ALONE if alone else BESIDE_OTHERS, [customer.pk])


SOURCES = {
    Kind.BONUS: Balance.Source.BONUS,
    Kind.PURCHASE: Balance.Source.PURCHASE,
    Kind.ROLLOVER: Balance.Source.ROLLOVER,
    Kind.OVERRIDE: Balance.Source.OVERRIDE,
}


def row_of(customer: Customer, bucket: Bucket, *, now: datetime) -> Balance:
    """A bucket as a row that is not written yet."""
    assert bucket.item.feature is not None and bucket.item.feature.id is not None
    subscription_id, plan_id = bucket.owner
    of_item = bucket.kind in (Kind.PLAN, Kind.ROLLOVER)
    usual = Balance.Source.DEFAULT if bucket.is_default else Balance.Source.PLAN_ITEM
    return Balance(
        customer=customer,
        feature_id=bucket.item.feature.id,
        source=SOURCES.get(bucket.kind, usual),
        subscription_id=subscription_id,
        plan_id=plan_id,
        item_id=bucket.item.row if of_item else None,
        grant_id=bucket.grant.id if bucket.grant else None,
        override_id=bucket.override_id,
        label=bucket.label,
        starts_at=bucket.starts_at,
        ends_at=bucket.ends_at,
        opened_at=now,
        granted=bucket.granted,
        used=bucket.used,
        adjusted=bucket.adjusted,
        withheld=bucket.withheld,
        withheld_by_id=bucket.withheld_by,
        priority=bucket.priority,
        **_columns(bucket.gauge),
    )


def _columns(gauge: Gauge | None) -> dict[str, Any]:
    if gauge is None:
        return {}
    return {
        "level": gauge.level,
        "level_at": gauge.at,
        "level_units": gauge.units,
        "level_counted": gauge.counted if gauge.accrues else None,
    }


def keep(balance: Balance, gauge: Gauge | None) -> None:
    """Keep what a meter says of the window of a balance."""
    columns = _columns(gauge) or dict.fromkeys(("level", "level_at", "level_units", "level_counted"))
    for name, value in columns.items():
        setattr(balance, name, value)
    balance.save(update_fields=list(columns))


def open_bucket(customer: Customer, bucket: Bucket, *, now: datetime, operation: Operation | None = None) -> Balance:
    """Write a projected bucket; one that is open already is returned, with what the other brings.

    The caller holds the customer alone, so nobody else opens it meanwhile.
    """
    row = row_of(customer, bucket, now=now)
    same = {"subscription_id": row.subscription_id, "plan_id": row.plan_id}
    promised = open_rows(customer, [row.feature_id]).filter(source__in=[*PROMISED])
    for present in locked(promised.filter(**same)):
        if bucket.used or bucket.adjusted:
            present.used, present.adjusted = present.used + bucket.used, present.adjusted + bucket.adjusted
            present.save(update_fields=["used", "adjusted"])
            enter(present, BalanceEntry.Kind.MOVED, bucket.adjusted - bucket.used, now=now, operation=operation)
        return present
    row.save(force_insert=True)
    _enter_opening(row, now=now, operation=operation)
    _enter_brought(row, bucket, now=now, operation=operation)
    return row


def _enter_opening(row: Balance, *, now: datetime, operation: Operation | None) -> None:
    """The line of who opened it; when nobody did, the row says all there is to say."""
    if operation is not None:
        enter(row, BalanceEntry.Kind.GRANT, row.granted, now=now, operation=operation)


def enter_grant(row: Balance) -> None:
    """Keep what a row was opened with as a line of its ledger, before its allowance or its item changes."""
    if not row.entries.filter(kind=BalanceEntry.Kind.GRANT).exists():
        enter(row, BalanceEntry.Kind.GRANT, row.granted, now=row.opened_at)


def _enter_brought(row: Balance, bucket: Bucket, *, now: datetime, operation: Operation | None) -> None:
    """The lines of what a bucket begins with: an override's share, what a window owed, what moved in."""
    if bucket.withheld:
        enter(row, BalanceEntry.Kind.OVERRIDE, -bucket.withheld, now=now, operation=operation)
    brought = bucket.adjusted + bucket.withheld - bucket.used
    if brought:
        kept = bucket.item.keeps_overage and not bucket.used and brought < 0
        enter(row, BalanceEntry.Kind.KEPT if kept else BalanceEntry.Kind.MOVED, brought, now=now, operation=operation)


def keep_bought(customer: Customer, row: Balance, kept: Bucket, *, now: datetime, operation: Operation) -> None:
    """End a bucket of units that were paid once; what was not used of them goes over into a purchase."""
    give_back(row, now=now, operation=operation)
    if kept.granted:
        row.adjusted -= kept.granted
        row.save(update_fields=["adjusted"])
        enter(row, BalanceEntry.Kind.MOVED, -kept.granted, now=now, operation=operation)
        bought = Grant.objects.create(
            customer=customer,
            feature_id=row.feature_id,
            source=Grant.Source.PURCHASE,
            units=kept.granted,
            label=kept.label,
            priority=kept.priority,
            starts_at=kept.starts_at,
            ends_at=kept.ends_at,
            created_by=operation.actor,
            created_at=now,
        )
        open_beside(customer, replace(kept, grant=grant_terms(bought)), now=now, operation=operation)
    close(row, ended_at=now, now=now, operation=operation)


def open_beside(customer: Customer, bucket: Bucket, *, now: datetime, operation: Operation | None = None) -> Balance:
    """Write a bucket that stands beside what the plans promise."""
    row = row_of(customer, bucket, now=now)
    row.save(force_insert=True)
    _enter_opening(row, now=now, operation=operation)
    if row.adjusted:
        enter(row, BalanceEntry.Kind.ROLLED, row.adjusted, now=now, operation=operation)
    return row


def move_out(balance: Balance, *, now: datetime, operation: Operation | None = None) -> None:
    """Take what was used and edited out of a bucket that another one carries on."""
    if moved := balance.used - balance.adjusted:
        enter(balance, BalanceEntry.Kind.MOVED, moved, now=now, operation=operation)
    balance.used, balance.adjusted = Decimal(0), Decimal(0)
    balance.save(update_fields=["used", "adjusted"])


def enter(
    balance: Balance,
    kind: str,
    amount: Decimal | None,
    *,
    now: datetime,
    operation: Operation | None = None,
    rates_from: Decimal | None = None,
) -> BalanceEntry:
    """Append one line to a balance's ledger."""
    return BalanceEntry.objects.create(
        balance=balance,
        kind=kind,
        amount=amount,
        item_id=balance.item_id,
        rates_from=rates_from,
        operation=operation,
        at=now,
    )


def give_back(balance: Balance, *, now: datetime, operation: Operation | None = None) -> None:
    """Put back what an override takes of a bucket: it takes anew from what the bucket is from now on."""
    if balance.withheld_by_id is None:
        return
    returned = balance.withheld
    balance.adjusted, balance.withheld, balance.withheld_by_id = balance.adjusted + returned, Decimal(0), None
    balance.save(update_fields=["adjusted", "withheld", "withheld_by"])
    if returned:
        enter(balance, BalanceEntry.Kind.OVERRIDE, returned, now=now, operation=operation)


def close(balance: Balance, *, ended_at: datetime | None, now: datetime, operation: Operation | None = None) -> None:
    """End a bucket: what it counted stays, a successor may be opened."""
    if ended_at is not None and (balance.ends_at is None or ended_at < balance.ends_at):
        balance.ends_at = max(ended_at, balance.starts_at)
    balance.closed_at = now
    balance.save(update_fields=["ends_at", "closed_at"])
    if operation is not None:
        enter(balance, BalanceEntry.Kind.CLOSE, Decimal(0), now=now, operation=operation)


def regrant(
    balance: Balance,
    item: ItemTerms,
    granted: Decimal | None,
    *,
    ends_at: datetime | None,
    now: datetime,
    operation: Operation | None = None,
) -> None:
    """Put a bucket under another item: use and edits stay; from here on its use is rated by the new item."""
    before = balance.granted
    changed = None if granted is None or before is None else granted - before
    if before is None and granted is not None:
        changed = granted
    give_back(balance, now=now, operation=operation)
    enter_grant(balance)
    balance.item_id, balance.granted, balance.ends_at = item.row, granted, ends_at
    balance.save(update_fields=["item", "granted", "ends_at"])
    enter(balance, BalanceEntry.Kind.REGRANT, changed, now=now, operation=operation, rates_from=balance.used)


def settle(
    customer: Customer,
    there: Pool,
    rows: Iterable[Balance],
    *,
    now: datetime,
    operation: Operation | None = None,
) -> list[Balance]:
    """Write what was projected: close what ended, carry what goes on, open what is missing.

    Returns the row of each bucket of the pool, in its order. The rows must be locked, and the customer held alone
    where something has to be written.
    """
    by_id = {row.pk: row for row in rows}
    moved = [standing.bucket.owner[0] for standing in there.standings if _moves_level(standing, by_id)]
    for bucket in there.over:
        if bucket.id in by_id:
            _move_level_out(by_id[bucket.id], bucket, now=now, operation=operation)
            close(by_id[bucket.id], ended_at=bucket.ends_at, now=now, operation=operation)
    written = [_settle_standing(customer, standing, by_id, now, operation) for standing in there.standings]
    written += [_settle_beside(customer, beside, by_id, now, operation) for beside in there.beside]
    tell_levels(customer, moved, now=now)
    return written


def _moves_level(standing: Standing, by_id: dict[int, Balance]) -> bool:
    """Whether it changes what the plan's own bucket holds of a level."""
    bucket = standing.bucket
    if not is_level(bucket):
        return False
    return bool(bucket.used) if bucket.id is None else by_id[bucket.id].used != bucket.used


def _settle_standing(
    customer: Customer, standing: Standing, by_id: dict[int, Balance], now: datetime, operation: Operation | None
) -> Balance:
    bucket, ended = standing.bucket, standing.ended
    if ended is not None and ended.id is not None:
        before = by_id[ended.id]
        if ended.owner != bucket.owner:
            move_out(before, now=now, operation=operation)
        _put_under_override(before, ended, now=now, operation=operation)
        close(before, ended_at=ended.ends_at, now=now, operation=operation)
    if bucket.id is None:
        row = open_bucket(customer, bucket, now=now, operation=operation)
        if ended is not None and ended.id is not None and ended.owner != bucket.owner:
            MeterMember.objects.filter(balance_id=ended.id).update(balance=row)
        return row
    row = by_id[bucket.id]
    if (row.item_id, row.granted) != (bucket.item.id, bucket.granted):
        regrant(row, bucket.item, bucket.granted, ends_at=bucket.ends_at, now=now, operation=operation)
    _put_under_override(row, bucket, now=now, operation=operation)
    if is_level(bucket) and row.used != bucket.used:
        moved, row.used = row.used - bucket.used, bucket.used
        row.save(update_fields=["used"])
        enter(row, BalanceEntry.Kind.MOVED, moved, now=now, operation=operation)
    return row


def _move_level_out(row: Balance, bucket: Bucket, *, now: datetime, operation: Operation | None) -> None:
    """Take the part of a level out of a bucket that ends: it is in use still, and counts on the plan's own."""
    if is_level(bucket) and row.used:
        enter(row, BalanceEntry.Kind.MOVED, row.used, now=now, operation=operation)
        row.used = Decimal(0)
        row.save(update_fields=["used"])


def _put_under_override(row: Balance, bucket: Bucket, *, now: datetime, operation: Operation | None) -> None:
    """Take from a row what an override takes, or give back what an earlier one took."""
    if (row.withheld, row.withheld_by_id) == (bucket.withheld, bucket.withheld_by):
        return
    changed = row.withheld - bucket.withheld
    row.adjusted, row.withheld, row.withheld_by_id = row.adjusted + changed, bucket.withheld, bucket.withheld_by
    row.save(update_fields=["adjusted", "withheld", "withheld_by"])
    if changed:
        enter(row, BalanceEntry.Kind.OVERRIDE, changed, now=now, operation=operation)


def _settle_beside(
    customer: Customer, beside: Beside, by_id: dict[int, Balance], now: datetime, operation: Operation | None
) -> Balance:
    bucket, ended = beside.bucket, beside.ended
    if ended is not None and ended.id is not None:
        _move_level_out(by_id[ended.id], ended, now=now, operation=operation)
        close(by_id[ended.id], ended_at=ended.ends_at, now=now, operation=operation)
    if bucket.id is None:
        return open_beside(customer, bucket, now=now, operation=operation)
    row = by_id[bucket.id]
    if row.granted != bucket.granted:
        changed = bucket.granted if row.granted is None or bucket.granted is None else bucket.granted - row.granted
        enter_grant(row)
        row.granted = bucket.granted
        row.save(update_fields=["granted"])
        enter(row, BalanceEntry.Kind.REGRANT, changed, now=now, operation=operation)
    if row.ends_at != bucket.ends_at:
        row.ends_at = bucket.ends_at
        row.save(update_fields=["ends_at"])
    if row.adjusted != bucket.adjusted:
        trimmed = bucket.adjusted - row.adjusted
        row.adjusted = bucket.adjusted
        row.save(update_fields=["adjusted"])
        enter(row, BalanceEntry.Kind.ROLLED, trimmed, now=now, operation=operation)
    return row


def open_missing(customer: Customer, contracts: list[Contract], *, now: datetime, merges: bool = False) -> None:
    """Bring the buckets of these contracts up to date, as a punctual worker would have.

    `merges` says that these are all the contracts in force, so that overrides of the customer have their say.
    """
    hold(customer, alone=True)
    rows = held_until(customer, open_rows(customer), now, now=now)
    if not merges:
        owners = {contribution.owner for contribution in contributions_of(contracts)}
        rows = [row for row in rows if (row.subscription_id, row.plan_id) in owners]
    settle(customer, pool(customer, contracts, rows, now, merges=merges), rows, now=now)


def apply_moves(
    customer: Customer,
    moves: Sequence[BucketMove],
    *,
    used_later: dict[int, Decimal],
    now: datetime,
    operation: Operation,
) -> None:
    """Carry out what the preview decided. Use counted after the preview belongs to the bucket that follows."""
    ids = [move.before.id for move in moves if move.before and move.before.id]
    rows = {row.pk: row for row in Balance.objects.filter(pk__in=ids).order_by("id").select_for_update()}
    for move in moves:
        row = rows.get(move.before.id) if move.before and move.before.id else None
        if move.fate is Fate.CARRIED and row and move.after and move.after.id:
            regrant(row, move.after.item, move.after.granted, ends_at=move.after.ends_at, now=now, operation=operation)
            continue
        if move.fate is Fate.CARRIED and row and move.after:
            give_back(row, now=now, operation=operation)
            after = replace(move.after, used=row.used, adjusted=row.adjusted, gauge=gauge_of(row))
            move_out(row, now=now, operation=operation)
            close(row, ended_at=now, now=now, operation=operation)
            opened = open_bucket(customer, after, now=now, operation=operation)
            MeterMember.objects.filter(balance=row).update(balance=opened)
            continue
        if move.fate is Fate.KEPT and row and move.after and move.after.granted is not None:
            later = used_later.get(row.pk, Decimal(0))
            units = max(Decimal(0), move.after.granted - later)
            keep_bought(customer, row, replace(move.after, granted=units), now=now, operation=operation)
            continue
        if move.fate is Fate.ROLLED and row and move.after:
            _roll_on(customer, row, move.after, used_later.get(row.pk, Decimal(0)), now=now, operation=operation)
            continue
        later = Decimal(0)
        if row:
            if move.fate is Fate.RENEWED:
                # What was given back meanwhile was used before: it makes room in the old window, not in the fresh one.
                later = max(Decimal(0), used_later.get(row.pk, Decimal(0)))
                if later:
                    row.used -= later
                    row.save(update_fields=["used"])
                    enter(row, BalanceEntry.Kind.MOVED, later, now=now, operation=operation)
            close(row, ended_at=now, now=now, operation=operation)
        if move.after:
            level = gauge_of(row) if row and move.after.gauge else None
            gauge = level.carried(move.after.starts_at) if level else None
            open_bucket(customer, replace(move.after, used=later, gauge=gauge), now=now, operation=operation)
    tell_levels(customer, _with_levels_moved(moves), now=now)


def _with_levels_moved(moves: Sequence[BucketMove]) -> set[int | None]:
    """The contracts in which a level comes or goes; what is only put under another item stays as it is."""
    found: set[int | None] = set()
    for move in moves:
        before, after = move.before, move.after
        stays = before is not None and after is not None and before.id == after.id
        for bucket in (before, after):
            if bucket is not None and is_level(bucket) and not stays and (before is not None or bucket.used):
                found.add(bucket.owner[0])
    return found


def _roll_on(
    customer: Customer, row: Balance, after: Bucket, later: Decimal, *, now: datetime, operation: Operation
) -> None:
    """Put a rollover under another item, trimmed to its cap; under another owner it goes on in a row of its own.

    What was used after the preview was used before the trim: so much less is there to cut.
    """
    if after.id is None:
        rest = max(Decimal(0), min(after.granted or Decimal(0), row.left or Decimal(0)))
        if rest:
            row.adjusted -= rest
            row.save(update_fields=["adjusted"])
            enter(row, BalanceEntry.Kind.MOVED, -rest, now=now, operation=operation)
        close(row, ended_at=now, now=now, operation=operation)
        if rest:
            open_beside(customer, replace(after, granted=rest), now=now, operation=operation)
        return
    cut = max(Decimal(0), row.adjusted - after.adjusted - later)
    enter_grant(row)
    row.item_id, row.adjusted = after.item.row, row.adjusted - cut
    row.save(update_fields=["item", "adjusted"])
    if cut:
        enter(row, BalanceEntry.Kind.ROLLED, -cut, now=now, operation=operation)


# Levels over time -----------------------------------------------------------------------------------------------------

# What a level came to over a time is an event of its own, written by the clockwork.
ACCRUED = "accrued"


def held_until(customer: Customer, rows: BalanceQuerySet, until: datetime, *, now: datetime) -> list[Balance]:
    """Open buckets of a customer who is held alone, locked, with what levels come to by an instant."""
    found = locked(rows)
    if any(row.level_units is not None for row in found):
        for feature_id in sorted({row.feature_id for row in found if row.level_units is not None}):
            accrue(customer, feature_id, until=until, now=now)
        found = locked(rows.all())
    return found


def accrue(customer: Customer, feature_id: int, *, until: datetime, now: datetime) -> None:
    """Count what the level of a feature comes to up to an instant, window by window, as a punctual worker would have.

    The caller holds the customer alone.
    """
    while _count_piece(customer, feature_id, until=until, now=now):
        pass


def _count_piece(customer: Customer, feature_id: int, *, until: datetime, now: datetime) -> bool:
    """Count a level up to the next date at which anything changes; False when there is nothing left to count."""
    rows = locked(open_rows(customer, [feature_id]))
    buckets = [bucket_of(row) for row in rows]
    slug, gauge = next(iter(gauges_of(buckets).items()), ("", None))
    if gauge is None or not gauge.level or gauge.at >= until:
        return False
    ends = [row.ends_at for row in rows if row.ends_at is not None]
    overrides = overrides_of(customer, min([gauge.at, *ends]))
    there = pool_under(overrides, contracts_at(customer, gauge.at), rows, gauge.at, slug)
    dates = dates_of(overrides, buckets) | set(next_edges([customer], gauge.at).values())
    piece = next_piece(there, slug, gauge, until, dates)
    if piece.main is None:  # nobody promises it at present, so the level is only kept
        for row in rows:
            if gauge_of(row) == gauge:
                keep(row, piece.gauge)
        return True
    _write_piece(customer, piece, settle(customer, there, rows, now=now), now=now)
    return True


def _write_piece(customer: Customer, piece: Piece, rows: Sequence[Balance], *, now: datetime) -> None:
    assert piece.main is not None, "what is counted has a main bucket"
    for place, part in piece.parts:
        rows[place].used += part
        rows[place].save(update_fields=["used"])
    keep(rows[piece.main], piece.gauge)
    if piece.is_closed:
        return
    write_event(
        customer,
        feature_id=rows[piece.main].feature_id,
        amount=piece.units,
        taken=piece.units,
        at=piece.since,
        now=now,
        key=None,
        mode=ACCRUED,
        properties={"until": piece.until.isoformat()},
        parts=[(rows[place].pk, part) for place, part in piece.parts],
        reported=piece.level,
    )


def close_all(customer: Customer, subscription_id: int, *, ended_at: datetime, now: datetime) -> None:
    """End the buckets of a contract that has ended. Buckets of assigned plans stay: coming back resumes them."""
    rows = locked(open_rows(customer).select_related("withheld_by").filter(subscription_id=subscription_id))
    for row in rows:
        if came_back(row, ended_at):
            give_back(row, now=now)
        close(row, ended_at=ended_at, now=now)
    tell_of_closed(customer, rows, now=ended_at)


def tell_of_closed(customer: Customer, rows: Iterable[Balance], *, now: datetime) -> None:
    """What was held of levels in the plans' own buckets that were closed is no longer in use there."""
    own = [row for row in rows if row.is_promised and row.used]
    features = feature_terms(row.feature_id for row in own)
    tell_levels(customer, [row.subscription_id for row in own if features[row.feature_id].is_allocated], now=now)


def reanchor(customer: Customer, contracts: list[Contract], *, now: datetime, operation: Operation) -> list[Balance]:
    """Move the open buckets of assigned and default plans to the windows of a new usage anchor.

    Their use is recounted from the events of the new window; edits move along; closed windows stay as they were. Those
    of plans that the customer has left move, too: whoever comes back finds the window that holds then.
    """
    contributions = {
        (c.owner, c.item.feature.slug): c
        for c in contributions_of(contracts)
        if c.item.feature and not c.contract.follows_contract
    }
    moved = []
    own = open_rows(customer).filter(plan__isnull=False, ends_at__isnull=False, source__in=PROMISED)
    for row in held_until(customer, own.select_related("feature", "plan", "grant"), now, now=now):
        held = contributions.get(((None, row.plan_id), row.feature.slug))
        target = fresh(held or _left_behind(customer, row), now)
        accrued = _accrued(row, target.starts_at)
        used = _counted(row, target.starts_at) + accrued
        if used != row.used:
            enter(row, BalanceEntry.Kind.MOVED, row.used - used, now=now, operation=operation)
        row.starts_at, row.ends_at, row.used = target.starts_at, target.ends_at, used
        if row.level_units is not None:
            row.level_units = row.level_counted = accrued
        row.save(update_fields=["starts_at", "ends_at", "used", "level_units", "level_counted"])
        moved.append(row)
    return moved


def _left_behind(customer: Customer, row: Balance) -> Contribution:
    """What the bucket of a plan that the customer has left would contribute if they came back."""
    assert row.plan is not None and row.item_id is not None, "buckets of assigned plans are of an item"
    item, anchor = item_terms(row.item_id), customer.usage_anchor
    terms = PlanTerms(row.plan.pk, row.plan.currency, MONTH, (item,), kind=row.plan.kind)
    contract = Contract(
        plan_id=row.plan.pk,
        plan_name=row.plan.name,
        kind=row.plan.kind,
        version_id=None,
        terms=terms,
        anchor=anchor,
        since=anchor,
        phase_starts_at=anchor,
    )
    return Contribution(contract, item)


def _accrued(row: Balance, since: datetime) -> Decimal:
    """Units that a level came to on this bucket since the instant; of a piece that began before it, its share."""
    if row.level_units is None:
        return Decimal(0)
    total = Fraction(0)
    pieces = UsageEvent.objects.counted_on(row, since=row.starts_at).filter(mode=ACCRUED, voided_at=None)
    for piece in pieces:
        until = datetime.fromisoformat(piece.properties["until"])
        part = piece.amounts[piece.balance_ids.index(row.pk)]
        if until > since:
            total += Fraction(part) * Fraction((until - max(since, piece.at)) / (until - piece.at))
    return rounded(Decimal(total.numerator) / Decimal(total.denominator))


def _counted(row: Balance, since: datetime) -> Decimal:
    """Units of the plan's buckets of this feature that events since the instant were counted on, but for levels.

    What rollovers gave stays theirs.
    """
    same = Balance.objects.promised().filter(customer_id=row.customer_id, feature_id=row.feature_id, plan=row.plan)
    siblings = set(same.values_list("pk", flat=True))
    total = Decimal(0)
    events = UsageEvent.objects.since(since).filter(
        customer_id=row.customer_id, feature_id=row.feature_id, voided_at=None
    )
    if row.level_units is not None:
        events = events.exclude(mode=ACCRUED)
    for balance_ids, amounts in events.values_list("balance_ids", "amounts"):
        pairs = zip(balance_ids, amounts, strict=True)
        total += sum((amount for balance_id, amount in pairs if balance_id in siblings), Decimal(0))
    return total
