"""Reading: which plans on sale would allow what was denied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import F, Q

from catalog.models import Plan, PlanItem, terms_of
from catalog.terms import METERED, FeatureTerms
from customers.contracts import MULTIPLYING, Contract, order
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import Access, decide
from entitlements.allowances import sources_of
from entitlements.readings import open_rows, overrides_of, pool_under


def upgrade_to(customer: Customer, access: Access, *, now: datetime) -> list[Plan]:
    """Plans that this customer could be put on, under which as much as was asked for would be allowed at once."""
    return upgrades(customer, [access], now=now).get(access.feature, [])


def upgrades(customer: Customer, denied: Sequence[Access], *, now: datetime) -> dict[str, list[Plan]]:
    """The same of several answers, by feature: decided as a check would be, with overrides, bonuses and use so far.

    Use is carried under the new plan, which is no more than what a change would leave. Six queries.
    """
    plans = _on_sale(customer, [access.feature for access in denied])
    if not plans:
        return {}
    contracts = contracts_at(customer, now)
    products = dict(Plan.objects.filter(pk__in={c.plan_id for c in contracts}).values_list("pk", "product"))
    metered = [feature.id or 0 for feature, _ in plans.values() if feature.type == METERED]
    rows = list(open_rows(customer, metered)) if metered else []
    overrides = overrides_of(customer, min([now, *(row.ends_at for row in rows if row.ends_at is not None)]))

    def allows(plan: Plan, feature: FeatureTerms, access: Access) -> bool:
        held = _with(plan, customer, contracts, products, now)
        there = pool_under(overrides, held, rows, now, feature.slug)
        buckets, replaced = there.of(feature.slug), there.overrides(feature.slug)
        sources, required = sources_of(held, feature.slug), access.required
        return decide(feature, sources, buckets, holds_plan=True, required=required, replaced=replaced).allowed

    found = {}
    for access in denied:
        if access.feature in plans:
            feature, candidates = plans[access.feature]
            found[access.feature] = [plan for plan in candidates if allows(plan, feature, access)]
    return found


def _on_sale(customer: Customer, slugs: Sequence[str]) -> dict[str, tuple[FeatureTerms, list[Plan]]]:
    """By feature, its terms and the plans whose present version mentions it; one query."""
    items = (
        PlanItem.objects.filter(
            Q(version__plan__reservation=None) | Q(version__plan__reservation__customer=customer),
            version=F("version__plan__current_version"),
            version__plan__archived_at=None,
            version__plan__product__archived_at=None,
            version__plan__is_default=False,
            feature__slug__in=slugs,
        )
        .exclude(version__plan__kind=Plan.Kind.STRIPE)
        .select_related("feature", "version__plan")
        .order_by("version__plan__product__name", "version__plan__name")
    )
    found: dict[str, tuple[FeatureTerms, list[Plan]]] = {}
    for item in items:
        feature = item.feature
        assert feature is not None
        found.setdefault(feature.slug, (feature.terms(), []))[1].append(item.version.plan)
    return found


def _with(
    plan: Plan, customer: Customer, contracts: Sequence[Contract], products: Mapping[int, int], now: datetime
) -> list[Contract]:
    """What would be held with this plan: in the place of the main plan of its product, else beside the others."""
    assert plan.current_version_id is not None
    terms = terms_of(plan.current_version_id)
    held = [contract for contract in contracts if not contract.is_default]
    present = next((c for c in held if not c.add_on and products[c.plan_id] == plan.product_id), None)
    named: dict[str, Any] = {
        "plan_id": plan.pk,
        "plan_name": plan.name,
        "kind": plan.kind,
        "version_id": plan.current_version_id,
    }
    if present is not None and not plan.add_on:
        changed = replace(present, **named, terms=terms, is_custom=False)
        return [changed if contract is present else contract for contract in held]
    follows = plan.kind in MULTIPLYING
    begun = Contract(
        **named,
        terms=terms,
        anchor=now if follows else customer.usage_anchor,
        since=now,
        phase_starts_at=now,
        subscription_id=0,  # that of no subscription
        add_on=plan.add_on,
    )
    return order([*held, begun])
