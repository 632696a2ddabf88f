"""Explain what a customer may use and why: now, or at an instant of the past."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from billing_admin.flows.use import as_the_wallet_allows
from catalog.models import PlanVersion
from catalog.terms import METERED
from customers.contracts import Contract
from customers.holdings import contracts_at
from customers.models import Customer, Subscription
from entitlements.check import UnknownFeature
from entitlements.explain import Explanation, explain
from entitlements.history import past
from entitlements.readings import find_feature, open_rows, pool


def explain_use(
    customer: Customer, feature: str, *, now: datetime, required: Decimal = Decimal(1), at: datetime | None = None
) -> Explanation:
    """The story of a check: of now, or of an earlier instant as it was answered then; nothing is written.

    What a wallet held in the past is not asked. Raises `UnknownFeature`, and `NoSuchPast` for an instant of which
    nothing can be told.
    """
    known = find_feature(feature)
    if known is None:
        raise UnknownFeature(feature)
    asked_at = now if at is None else at
    if asked_at != now or customer.closed_at is not None:
        then = past(customer, known, asked_at, now=now)
        return explain(known, then.contracts, then.pool, at=asked_at, required=required)
    contracts = contracts_at(customer, now)
    rows = open_rows(customer, [known.id or 0]) if known.type == METERED else []
    there = pool(customer, contracts, rows, now, feature)
    found = explain(known, contracts, there, at=now, required=required)
    [access] = as_the_wallet_allows(customer, [found.access], now=now)
    return replace(found, access=access)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that a story speaks of, by their keys."""

    versions: dict[int, PlanVersion]
    subscriptions: dict[int, Subscription]

    def version(self, contract: Contract) -> PlanVersion | None:
        return self.versions.get(contract.version_id or 0)

    def subscription(self, pk: int | None) -> Subscription | None:
        return self.subscriptions.get(pk or 0)


def rows_behind(found: Explanation) -> Rows:
    """Versions with their plans, and subscriptions; two queries."""
    contracts = [*(c.contract for c in found.contributors), *found.silent]
    versions = PlanVersion.objects.select_related("plan__product").in_bulk(
        [c.version_id for c in contracts if c.version_id is not None]
    )
    subscriptions = Subscription.objects.in_bulk(
        [c.subscription_id for c in contracts if c.subscription_id is not None]
    )
    return Rows(versions, subscriptions)
