"""Reading: the price overrides of contracts as special prices, with the billing periods that they were used in."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce

from catalog.models import terms_of
from customers.models import MigrationRow, Phase, PriceOverride, Subscription
from invoicing.models import InvoiceLine
from invoicing.special import INSTANT, Special, priced_items, stored_components
from invoicing.states import InvoiceState


def specials_of(subscription: Subscription) -> tuple[Special, ...]:
    """Every special price of one contract, revoked ones too: they held until then."""
    return specials_by_contract([subscription]).get(subscription.pk, ())


def specials_by_contract(subscriptions: Iterable[Subscription]) -> dict[int, tuple[Special, ...]]:
    """The same for many contracts: one query when there are none, else three."""
    rows = PriceOverride.objects.filter(subscription__in=[s.pk for s in subscriptions]).order_by("id")
    found: dict[int, list[Special]] = {}
    for special, row in read_specials(rows):
        found.setdefault(row.subscription_id, []).append(special)
    return {subscription_id: tuple(specials) for subscription_id, specials in found.items()}


def read_specials(rows: QuerySet[PriceOverride] | Iterable[PriceOverride]) -> list[tuple[Special, PriceOverride]]:
    """Rows with what billing makes of them; one that no document can take (its plan is unknown) is left out."""
    overrides = list(rows)
    if not overrides:
        return []
    used, phases = used_cycles(overrides), _phases(overrides)
    plans = _plans(overrides, phases)
    found = [
        (_special(row, plans[row.pk], used.get(row.pk, set())), row, phases.get(row.subscription_id, []))
        for row in overrides
        if row.pk in plans
    ]
    return [(replace(special, moves=_moves(row, own)), row) for special, row, own in found]


def used_cycles(overrides: Iterable[PriceOverride]) -> dict[int, set[datetime]]:
    """The billing periods that documents count for each; a void document gives its period back."""
    lines = InvoiceLine.objects.filter(override__in=[row.pk for row in overrides], derivation__has_key="cycle")
    lines = lines.exclude(invoice__state=InvoiceState.VOID)
    found: dict[int, set[datetime]] = {}
    for override_id, cycle in lines.values_list("override_id", KT("derivation__cycle")).distinct():
        found.setdefault(override_id or 0, set()).add(datetime.fromisoformat(cycle))
    return found


def _phases(overrides: Iterable[PriceOverride]) -> dict[int, list[Any]]:
    return _phases_of({row.subscription_id for row in overrides})


def _phases_of(subscriptions: Iterable[int]) -> dict[int, list[Any]]:
    """The phases of contracts; `mapped` says which item became which with one that a migration made."""
    moved = MigrationRow.objects.filter(phase=OuterRef("pk")).exclude(state=MigrationRow.State.TAKEN_BACK)
    kept = Phase.objects.kept().filter(subscription__in=list(subscriptions))
    kept = kept.annotate(mapped=Subquery(moved.values("migration__mappings")[:1])).order_by("starts_at", "id")
    found: dict[int, list[Any]] = {}
    for phase in kept.select_related("version").only("subscription", "starts_at", "ends_at", "version__plan"):
        found.setdefault(phase.subscription_id, []).append(phase)
    return found


def dropped_with(special: Special, subscription: Subscription) -> Any:
    """The phase to come in which a special price has no item any more (another plan, an item that is dropped); None
    while its item goes on."""
    key: str | None = special.item_key
    for phase in _phases_of([subscription.pk]).get(subscription.pk, []):
        if phase.starts_at <= special.since:
            continue
        mapped = {mapping["from"]: mapping["to"] for mapping in phase.mapped or ()}
        key = mapped.get(key, key)
        kept = {item.key for item in priced_items(terms_of(phase.version_id))}
        if phase.version.plan_id != special.plan_id or key not in kept:
            return phase
    return None


def _moves(row: PriceOverride, phases: Iterable[Any]) -> tuple[tuple[datetime, str | None], ...]:
    """From when on it is a price of another item, as the migrations of its contract since then say."""
    moves, key = [], row.item_key
    for phase in phases:
        if not phase.mapped or phase.starts_at <= row.created_at:
            continue
        mapped = {mapping["from"]: mapping["to"] for mapping in phase.mapped}
        if key in mapped and mapped[key] != key:
            key = mapped[key]
            moves.append((phase.starts_at, key))
    return tuple(moves)


def _plans(overrides: Iterable[PriceOverride], phases: Mapping[int, list[Phase]]) -> dict[int, int]:
    """The plan that was in force when each was given: it is that plan's price."""
    found = {}
    for row in overrides:
        # One that comes with a plan is given in the last instant before it.
        held = next((p for p in phases.get(row.subscription_id, []) if p.covers(row.created_at + INSTANT)), None)
        if held is not None:
            found[row.pk] = held.version.plan_id
    return found


def _special(row: PriceOverride, plan_id: int, used: set[datetime]) -> Special:
    return Special(
        id=row.pk,
        plan_id=plan_id,
        item_key=row.item_key,
        mode=row.mode,
        components=stored_components(row.components),
        cycles=row.cycles,
        since=row.created_at,
        until=row.revoked_at,
        used=frozenset(used),
    )


def with_used(rows: QuerySet[PriceOverride]) -> QuerySet[PriceOverride]:
    """With the number of billing periods that documents count, as `used`: what lists are narrowed by."""
    lines = InvoiceLine.objects.filter(override=OuterRef("pk")).exclude(invoice__state=InvoiceState.VOID)
    cycles = lines.annotate(cycle=KT("derivation__cycle")).order_by().values("override")
    counted = cycles.annotate(count=Count("cycle", distinct=True)).values("count")
    return rows.annotate(used=Coalesce(Subquery(counted), 0))
