"""Verb: keep how much of each level (seats) a contract has in use, and what that adds to its recurring revenue."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from customers.models import LevelInUse, LevelRevenue, Phase
from customers.recurring import levels_add, prices_levels


def keep_levels(subscription_id: int, units: Mapping[int, Decimal], *, at: datetime) -> None:
    """`units` in use by the id of their feature, from the instant on; what is left out is no longer in use.

    The caller holds the customer. Nothing is written while nothing changes.
    """
    known = {row.feature_id: row for row in LevelInUse.objects.filter(subscription=subscription_id, ends_at=None)}
    wanted = {feature_id: held for feature_id, held in units.items() if held > 0}
    if {feature_id: row.units for feature_id, row in known.items()} == wanted:
        return
    # What has begun at this very instant gives way; who comes later with an earlier instant does not change the past.
    at = max([at, *(row.starts_at for row in known.values())])
    changed = [row for row in known.values() if row.units != wanted.get(row.feature_id)]
    LevelInUse.objects.filter(pk__in=[row.pk for row in changed if row.starts_at == at]).delete()
    LevelInUse.objects.filter(pk__in=[row.pk for row in changed if row.starts_at < at]).update(ends_at=at)
    same = {row.feature_id for row in known.values()} - {row.feature_id for row in changed}
    LevelInUse.objects.bulk_create(
        LevelInUse(subscription_id=subscription_id, feature_id=feature_id, units=held, starts_at=at)
        for feature_id, held in wanted.items()
        if feature_id not in same
    )
    _bring(subscription_id, at=at)


def _bring(subscription_id: int, *, at: datetime) -> None:
    """Let what runs on, or waits, bring what the present levels add, from the instant on."""
    phases = _going_on(subscription_id, at)
    if not phases:
        return
    rows = LevelInUse.objects.filter(subscription=subscription_id, ends_at=None).select_related("feature")
    levels = {row.feature.slug: row.units for row in rows}
    present = {row.phase_id: row for row in LevelRevenue.objects.filter(phase__in=phases, ends_at=None)}
    for phase in phases:
        monthly = levels_add(phase.terms(), phase.quantity, phase.bought_units(), levels)
        _bring_of(phase, present.get(phase.pk), monthly, at)


def _going_on(subscription_id: int, at: datetime) -> Sequence[Phase]:
    """The phases with priced levels that are not over at the instant, those to come and those that wait included."""
    phases = Phase.objects.filter(Q(ends_at=None) | Q(ends_at__gt=at), subscription=subscription_id, withdrawn_at=None)
    return [phase for phase in phases.select_related("version") if prices_levels(phase.terms())]


def _bring_of(phase: Phase, present: LevelRevenue | None, monthly: int, at: datetime) -> None:
    if present is not None:
        if present.monthly == monthly:
            return
        if present.starts_at >= at:
            present.delete()
        else:
            present.ends_at = at
            present.save(update_fields=["ends_at"])
    if monthly:
        LevelRevenue.objects.create(phase=phase, starts_at=at, monthly=monthly)
