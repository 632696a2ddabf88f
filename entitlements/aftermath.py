"""Verb: let the windows after one that has ended follow, when use of it is counted late or taken back.

What was left of it may have rolled over, and what was used beyond it may have been taken from the next window.
"""

from datetime import datetime
from decimal import Decimal

from catalog.rollovers import Rollover
from entitlements.balances import ZERO, Bucket, Kind
from entitlements.models import Balance, BalanceEntry, BalanceQuerySet
from entitlements.provision import enter, open_beside
from entitlements.readings import item_terms, locked


def follow(row: Balance, left: Decimal | None, *, now: datetime) -> None:
    """Bring what follows a window to what is left of it now; `left` is what was left before.

    Only what the same item brought into the next window follows. The caller holds the customer alone.
    """
    if row.item_id is None or not row.is_promised or row.closed_at is None or left is None or row.left is None:
        return
    item = item_terms(row.item_id)
    if item.rollover is None and not item.keeps_overage:
        return
    following = locked(_beside(row).promised().filter(starts_at=row.ends_at, item=row.item_id))
    if item.rollover is not None:
        _roll_over(row, item.rollover, max(ZERO, row.left) - max(ZERO, left), goes_on=bool(following), now=now)
    owed = max(ZERO, -row.left) - max(ZERO, -left)
    if item.keeps_overage and following and owed:
        [present] = following
        was, present.adjusted = present.left, present.adjusted - owed
        present.save(update_fields=["adjusted"])
        enter(present, BalanceEntry.Kind.KEPT, -owed, now=now)
        follow(present, was, now=now)


def _beside(row: Balance) -> BalanceQuerySet:
    """The balances of the same owner and feature, in the order of locks."""
    same = {"subscription_id": row.subscription_id, "plan_id": row.plan_id, "feature_id": row.feature_id}
    rows: BalanceQuerySet = Balance.objects.filter(customer_id=row.customer_id, **same).order_by("id")
    return rows


def _roll_over(row: Balance, rule: Rollover, more: Decimal, *, goes_on: bool, now: datetime) -> None:
    """Add to what rolled over of a window, as far as the cap goes, or take from it what is not used yet."""
    alive = locked(_beside(row).filter(source=Balance.Source.ROLLOVER, closed_at=None))
    own = next((rolled for rolled in alive if rolled.starts_at == row.ends_at), None)
    cap = None if row.granted is None else rule.cap(row.granted)
    if more > 0 and cap is not None:
        more = max(ZERO, min(more, cap - sum(map(_brought, alive), ZERO)))
    if more < 0 and own is not None:
        # What the cap had cut off is the first to go.
        cut = max(ZERO, _brought(own) - max(ZERO, row.left or ZERO))
        more = -min(cut, max(ZERO, own.left or ZERO))
    if own is not None and more:
        own.adjusted += more
        own.save(update_fields=["adjusted"])
        enter(own, BalanceEntry.Kind.ROLLED, more, now=now)
    elif more > 0 and goes_on:
        _open(row, rule, more, now=now)


def _brought(rolled: Balance) -> Decimal:
    units: Decimal = (rolled.granted or ZERO) + rolled.adjusted
    return units


def _open(row: Balance, rule: Rollover, units: Decimal, *, now: datetime) -> None:
    """Write the rollover of a window of which nothing had been left."""
    assert row.ends_at is not None, "a window that rolls over ends"
    bucket = Bucket(
        item=item_terms(row.item_id or 0),
        owner=(row.subscription_id, row.plan_id),
        starts_at=row.ends_at,
        ends_at=rule.ends_at(row.ends_at),
        granted=units,
        kind=Kind.ROLLOVER,
        label=f"Rolled over on {row.ends_at:%-d %b %Y}",
    )
    if bucket.lives(now):
        open_beside(row.customer, bucket, now=now)
