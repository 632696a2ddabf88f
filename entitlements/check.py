"""Reading: may this customer use a feature now? Nothing is written; a late worker changes nothing."""

from collections.abc import Iterable
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
from entitlements.balances import Bucket
from entitlements.models import Balance
from entitlements.readings import extras, find_feature, open_rows, standings


class UnknownFeature(ValidationError):
    def __init__(self, slug: str):
        super().__init__(f"There is no feature {slug!r}.", code="feature_not_found")


def check(customer: Customer, feature: str, *, now: datetime, required: Decimal = Decimal(1)) -> Access:
    """The access of one feature, in at most four queries. Raises `UnknownFeature`."""
    found = find_feature(feature)
    if found is None:
        raise UnknownFeature(feature)
    contracts = contracts_at(customer, now)
    sources = sources_of(contracts, feature)
    rows = list(open_rows(customer, [found.id])) if found.id and found.type == METERED else []
    buckets = [s.bucket for s in standings(contracts, rows, now, feature)] + extras(rows, now, found.id)
    return decide(found, sources, buckets, holds_plan=bool(contracts), required=required)


def check_all(customer: Customer, *, now: datetime) -> list[Access]:
    """The access of every feature that the customer's plans mention, in the order of the plans, then of those that
    only a bonus or a purchase gives; four queries."""
    return decide_all(contracts_at(customer, now), open_rows(customer), now)


def decide_all(
    contracts: list[Contract], rows: Iterable[Balance], now: datetime, found: dict[str, Feature] | None = None
) -> list[Access]:
    """The same from contracts and rows that were read already; one query for the features, which go into `found`."""
    rows = list(rows)
    by_slug: dict[str, list[Bucket]] = {}
    for bucket in [s.bucket for s in standings(contracts, rows, now)] + extras(rows, now):
        assert bucket.item.feature is not None
        by_slug.setdefault(bucket.item.feature.slug, []).append(bucket)
    mentioned = (i.feature.slug for c in contracts for i in c.terms.items if i.feature)
    slugs = list(dict.fromkeys([*mentioned, *by_slug]))
    named = {row.slug: row for row in Feature.objects.filter(slug__in=slugs)}
    if found is not None:
        found.update(named)
    return [
        decide(named[slug].terms(), sources_of(contracts, slug), by_slug.get(slug, []), holds_plan=bool(contracts))
        for slug in slugs
    ]
