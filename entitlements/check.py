"""Reading: may this customer use a feature now? Nothing is written; a late worker changes nothing."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.models import Feature
from catalog.terms import METERED
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer
from entitlements.access import Access, decide
from entitlements.allowances import sources_of
from entitlements.pool import Pool, slug_of
from entitlements.readings import find_feature, open_rows, pool


class UnknownFeature(ValidationError):
    def __init__(self, slug: str):
        super().__init__(f"There is no feature {slug!r}.", code="feature_not_found")


def check(customer: Customer, feature: str, *, now: datetime, required: Decimal = Decimal(1)) -> Access:
    """The access of one feature, in at most five queries. Raises `UnknownFeature`."""
    found = find_feature(feature)
    if found is None:
        raise UnknownFeature(feature)
    contracts = contracts_at(customer, now)
    sources = sources_of(contracts, feature)
    rows = list(open_rows(customer, [found.id])) if found.id and found.type == METERED else []
    there = pool(customer, contracts, rows, now, feature)
    return decide(
        found,
        sources,
        there.of(feature),
        holds_plan=bool(contracts),
        required=required,
        replaced=there.overrides(feature),
    )


def check_many(
    customer: Customer, features: Sequence[str], *, now: datetime, required: Decimal = Decimal(1)
) -> list[Access]:
    """The same of several features in their order, in as many queries as of one. Raises `UnknownFeature`."""
    named = {row.slug: row.terms() for row in Feature.objects.filter(slug__in=features)}
    for slug in features:
        if slug not in named:
            raise UnknownFeature(slug)
    contracts = contracts_at(customer, now)
    metered = [found.id for found in named.values() if found.id and found.type == METERED]
    there = pool(customer, contracts, open_rows(customer, metered) if metered else [], now)
    return [
        decide(
            named[slug],
            sources_of(contracts, slug),
            there.of(slug),
            holds_plan=bool(contracts),
            required=required,
            replaced=there.overrides(slug),
        )
        for slug in features
    ]


def check_all(customer: Customer, *, now: datetime) -> list[Access]:
    """The access of every feature that the customer's plans mention, in the order of the plans, then of those that
    only an override, a bonus or a purchase gives; five queries."""
    contracts = contracts_at(customer, now)
    return decide_all(contracts, pool(customer, contracts, open_rows(customer), now))


def decide_all(contracts: Sequence[Contract], there: Pool, found: dict[str, Feature] | None = None) -> list[Access]:
    """The same from a pool that was read already; one query for the features, which go into `found`."""
    mentioned = (i.feature.slug for c in contracts for i in c.terms.items if i.feature)
    beside = (slug_of(bucket) for bucket in there.buckets)
    slugs = list(dict.fromkeys([*mentioned, *beside, *(slug for slug, _ in there.replaced)]))
    named = {row.slug: row for row in Feature.objects.filter(slug__in=slugs)}
    if found is not None:
        found.update(named)
    return [
        decide(
            named[slug].terms(),
            sources_of(contracts, slug),
            there.of(slug),
            holds_plan=bool(contracts),
            replaced=there.overrides(slug),
        )
        for slug in slugs
    ]
