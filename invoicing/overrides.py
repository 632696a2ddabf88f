"""Reading: the price overrides of contracts as special prices, with the billing periods that they were used in."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce

from customers.models import Phase, PriceOverride, Subscription
from invoicing.models import InvoiceLine
from invoicing.special import Special, stored_components
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
    used, plans = used_cycles(overrides), _plans(overrides)
    return [(_special(row, plans[row.pk], used.get(row.pk, set())), row) for row in overrides if row.pk in plans]


def used_cycles(overrides: Iterable[PriceOverride]) -> dict[int, set[datetime]]:
    """The billing periods that documents count for each; a void document gives its period back."""
    lines = InvoiceLine.objects.filter(override__in=[row.pk for row in overrides], derivation__has_key="cycle")
    lines = lines.exclude(invoice__state=InvoiceState.VOID)
    found: dict[int, set[datetime]] = {}
    for override_id, cycle in lines.values_list("override_id", KT("derivation__cycle")).distinct():
        found.setdefault(override_id or 0, set()).add(datetime.fromisoformat(cycle))
    return found


def _plans(overrides: Iterable[PriceOverride]) -> dict[int, int]:
    """The plan that was in force when each was given: it is that plan's price."""
    overrides = list(overrides)
    phases: dict[int, list[Phase]] = {}
    kept = Phase.objects.kept().filter(subscription__in={row.subscription_id for row in overrides})
    for phase in kept.select_related("version").only("subscription", "starts_at", "ends_at", "version__plan"):
        phases.setdefault(phase.subscription_id, []).append(phase)
    found = {}
    for row in overrides:
        held = next((p for p in phases.get(row.subscription_id, []) if p.covers(row.created_at)), None)
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
