"""From rows and a holding to what may be used: the pure code of the ordinary endpoints, with nothing read. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing_admin.hot.features import KnownFeature
from billing_admin.hot.holdings import Holding
from billing_admin.hot.rows import Values, balance_of
from entitlements.access import Access, decide
from entitlements.allowances import Source, sources_of
from entitlements.balances import Bucket
from entitlements.models import Balance
from entitlements.pool import Pool
from entitlements.readings import pool_under


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides about one feature of one customer at an instant."""

    holding: Holding
    feature: KnownFeature
    rows: Sequence[Balance]
    sources: Sequence[Source]
    pool: Pool
    buckets: Sequence[Bucket]

    @property
    def is_plain(self) -> bool:
        """Neither paid from a wallet at once, nor a level that counts up with time."""
        return not any(bucket.item.is_instant or bucket.gauge is not None for bucket in self.buckets)

    def access(self, buckets: Sequence[Bucket], required: Decimal) -> Access:
        """The answer for these buckets, which may have been used meanwhile."""
        return decide(
            self.feature.terms,
            self.sources,
            buckets,
            holds_plan=bool(self.holding.contracts),
            required=required,
            replaced=self.pool.overrides(self.feature.terms.slug),
        )

    def next_edge(self, now: datetime) -> datetime | None:
        """Until when the answer changes only with use: the first date of anything it was made from."""
        dates = [self.holding.until]
        for row in self.rows:
            dates += [row.starts_at, row.ends_at]
            if row.grant_id is not None and row.grant is not None:
                dates += [row.grant.starts_at, row.grant.ends_at, row.grant.voided_at]
        for bucket in self.pool.buckets:
            dates += [bucket.starts_at, bucket.ends_at]
        return min((date for date in dates if date is not None and date > now), default=None)


def situation(holding: Holding, feature: KnownFeature, found: Iterable[Values], now: datetime) -> Situation:
    """Made of what was read. Raises `SynchronousOnlyOperation` for terms that this process never met."""
    slug, contracts = feature.terms.slug, list(holding.contracts)
    rows = [balance_of(values) for values in found]
    pool = pool_under(holding.overrides, contracts, rows, now, slug)
    return Situation(holding, feature, rows, sources_of(contracts, slug), pool, pool.of(slug))
