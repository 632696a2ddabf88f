"""What a change of plan will be felt as: the invoice that follows, and each feature before and after. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from billing_admin.flows.plan_change import AccessChange, NextInvoice, Proposal
from billing_admin.flows.position import Position
from catalog.terms import PlanTerms
from customers.contracts import Contract
from customers.switch import next_bill
from entitlements.access import Access, decide
from entitlements.allowances import contributions_of, sources_of
from entitlements.balances import Bucket, BucketMove, Fate, fresh
from invoicing.lines import Line, renewal_lines, switch_lines, total, usage_lines


def next_invoice(
    position: Position,
    proposal: Proposal,
    after: Contract,
    starts_at: datetime,
    *,
    scheduled: bool,
    keeps_schedule: bool,
    lines_now: Sequence[Line],
    moves: Sequence[BucketMove],
) -> NextInvoice:
    """What is billed at the next boundary: its fees, and overage as it stands now."""
    held = position.held
    at = starts_at if scheduled else next_bill(proposal.terms, after.anchor, starts_at)
    if at is None:
        return NextInvoice(None, (), 0)
    kept = held if keeps_schedule else None
    ends_at = proposal.ends_at or (kept.ends_at if kept else None)
    following = kept.following if kept else None
    at = min(date for date in (at, ends_at, following.phase_starts_at if following else None) if date)
    former, next_terms, anchor = proposal.terms, proposal.sold, after.anchor
    if scheduled and held:
        former = held.terms
    if following and following.phase_starts_at == at:
        next_terms, anchor = following.terms.times(following.quantity), following.anchor
    lines: list[Line] = []
    if at != ends_at:
        switched = scheduled or (following is not None and following.phase_starts_at == at)
        fees = switch_lines(former, next_terms, anchor, at) if switched else renewal_lines(next_terms, anchor, at)
        lines += fees if next_terms.is_invoiced else []
    lines += _open_overage(position, former, at, scheduled=scheduled, lines_now=lines_now, moves=moves)
    return NextInvoice(at, tuple(lines), total(lines), any(item.price for item in proposal.terms.items))


def _open_overage(
    position: Position,
    terms: PlanTerms,
    at: datetime,
    *,
    scheduled: bool,
    lines_now: Sequence[Line],
    moves: Sequence[BucketMove],
) -> list[Line]:
    """Use of windows that will have ended by the next boundary, as far as it is known and not billed at once."""
    held = position.held
    billed = {line.balance_id for line in lines_now}
    uses = [use for use in position.closed_use if use.balance_id not in billed]
    buckets = [b for b in position.buckets if held and b.owner[0] == held.subscription_id]
    if not scheduled:
        buckets = [m.after for m in moves if m.after is not None and m.fate is Fate.CARRIED]
    for bucket in buckets:
        use = position.use.get(bucket.id or 0)
        if use is None or bucket.granted is None or (bucket.ends_at and bucket.ends_at > at):
            continue
        segments = use.segments
        if not scheduled and segments[-1][0].id != bucket.item.id:
            segments = (*segments[:-1], (segments[-1][0], use.used), (bucket.item, use.used))
        uses.append(replace(use, granted=bucket.granted, segments=segments, ends_at=bucket.ends_at))
    return [line for use in uses for line in usage_lines(use, plan_name=terms.plan_name, currency=terms.currency)]


def access_changes(
    position: Position, after: Contract, moves: Sequence[BucketMove], starts_at: datetime, scheduled: bool
) -> tuple[AccessChange, ...]:
    """Every feature before and after, against present use. A scheduled change begins with fresh windows."""
    before_contracts = position.contracts
    after_contracts = [after, *position.others]
    own = (position.held.subscription_id, None) if position.held else None
    if scheduled:
        kept = [b for b in position.buckets if b.owner != own]
        new = [
            _at_switch(position, b)
            for b in (fresh(c, starts_at, not_before=starts_at) for c in contributions_of([after]))
        ]
    else:
        touched = {m.before.id for m in moves if m.before}
        kept = [b for b in position.buckets if b.id not in touched and not b.is_default and b.owner != own]
        if position.held and not position.held.contract.follows_contract:
            kept = [b for b in kept if b.owner != (None, position.held.contract.plan_id)]
        new = [m.after for m in moves if m.after]
    slugs = dict.fromkeys(
        item.feature.slug for c in [*after_contracts, *before_contracts] for item in c.terms.items if item.feature
    )
    rows = []
    for slug in slugs:
        before = _decided(slug, before_contracts, position.buckets)
        later = _decided(slug, after_contracts, [*kept, *new])
        item = after.terms.for_feature(slug) or next(
            i for c in before_contracts + after_contracts if (i := c.terms.for_feature(slug))
        )
        assert item.feature is not None
        rows.append(AccessChange(slug, item.feature.name, before, later))
    return tuple(rows)


def _at_switch(position: Position, bucket: Bucket) -> Bucket:
    """Levels and lasting balances go on with what is used of them."""
    if bucket.item.reset != "never" or bucket.item.feature is None:
        return bucket
    slug = bucket.item.feature.slug
    row = next((b for b in position.buckets if b.item.feature and b.item.feature.slug == slug), None)
    return replace(bucket, used=row.used, adjusted=row.adjusted) if row and position.held else bucket


def _decided(slug: str, contracts: Sequence[Contract], buckets: Sequence[Bucket]) -> Access | None:
    sources = sources_of(contracts, slug)
    if not sources:
        return None
    feature = sources[0].item.feature
    assert feature is not None
    own = [b for b in buckets if b.item.feature and b.item.feature.slug == slug]
    return decide(feature, sources, own, holds_plan=True)
