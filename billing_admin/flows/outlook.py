"""What a change of plan will be felt as: the invoice that follows, and each feature before and after. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from billing_admin.flows.boundary import Stretch, boundary_lines, commitment_of, committed_since
from billing_admin.flows.plan_change import AccessChange, NextInvoice, Proposal
from billing_admin.flows.position import Held, Position
from catalog.terms import CANCEL
from customers.contracts import Contract
from customers.switch import next_bill
from entitlements.access import Access, decide
from entitlements.allowances import contributions_of, sources_of
from entitlements.balances import Bucket, BucketMove, Fate, Kind, fresh
from entitlements.pool import Beside, Pool, pool_of
from invoicing.commitment import COUNTED
from invoicing.documents import Document, bounds_of, draw
from invoicing.lines import UNUSED, Line, RatedUse
from invoicing.special import Special, counted


def next_invoice(
    position: Position,
    proposal: Proposal,
    after: Contract,
    starts_at: datetime,
    *,
    scheduled: bool,
    keeps_schedule: bool,
    documents_now: Sequence[Document],
    moves: Sequence[BucketMove],
    trial_ends_at: datetime | None,
) -> NextInvoice:
    """What is billed at the next boundary: what is paid ahead, and use as it stands now."""
    held = position.held
    lines_now = [line for document in documents_now for line in document.lines]
    terms = position.sold(proposal.terms, proposal.quantity, dict(proposal.bought))
    new = Stretch(terms, after.anchor, starts_at, is_trial=trial_ends_at is not None)
    history = (*held.history, new) if held and not scheduled else (new,) if held is None else held.history
    kept = held if keeps_schedule else None
    following = next(iter(following_of(position, new, kept, trial_ends_at)), None)
    ends_at = proposal.ends_at or (kept.ends_at if kept else None)
    if trial_ends_at and proposal.terms.trial_end == CANCEL:
        ends_at = trial_ends_at
    at = starts_at if scheduled else _next_stop(new, following, ends_at, trial_ends_at)
    if at is None:
        return NextInvoice(None)
    if scheduled:
        goes_on: Stretch | None = new
    elif at == ends_at:
        goes_on = None
    else:
        goes_on = following if following and following.starts_at == at else history[-1]
    uses = open_uses(position, at, scheduled=scheduled, lines_now=lines_now, moves=moves)
    specials = counted(specials_after(position, proposal), lines_now)
    pending = position.pending
    lines = boundary_lines(at, history=history, after=goes_on, uses=uses, specials=specials, pending=pending)
    kept_coupons = [coupon.terms for coupon in proposal.coupons if not coupon.for_this_act]
    rules = position.rules.with_discounts(kept_coupons).after(documents_now)
    closes = goes_on is not history[-1]
    charged = charged_by_then(position, new, documents_now, scheduled=scheduled)
    commitment = commitment_of(history, at, charged=charged, closes=closes)
    before = history[-1].terms
    documents = draw(
        lines, rules, bounds=bounds_of(before, lines), commitment=commitment, currency=proposal.terms.currency
    )
    return NextInvoice(at, tuple(documents), any(item.is_usage for item in proposal.terms.items))


def specials_after(position: Position, proposal: Proposal) -> tuple[Special, ...]:
    """The special prices that the contract has, and those that come with the act."""
    return (*position.specials, *(new.terms for new in proposal.specials))


def charged_by_then(position: Position, new: Stretch, documents: Sequence[Document], *, scheduled: bool) -> int:
    """What counts towards the minimum that is settled next, once these documents are issued: what was charged before
    where the minimum goes on, and of the documents what is for its time."""
    held = position.held
    goes_on = held is not None and (scheduled or committed_since((*held.history, new)) < new.starts_at)
    drawn = [each for document in documents for each in document.drawn.lines if each.line.kind in COUNTED]
    if not goes_on:
        drawn = [each for each in drawn if each.line.kind != UNUSED and _begins(each.line, new)]
    counts = sum(each.line.amount - each.discounted for each in drawn)
    return counts + (position.charged if goes_on else 0)


def _begins(line: Line, stretch: Stretch) -> bool:
    return line.starts_at is not None and line.starts_at >= stretch.starts_at


def _next_stop(
    new: Stretch, following: Stretch | None, ends_at: datetime | None, trial_ends_at: datetime | None
) -> datetime | None:
    stops = (
        trial_ends_at or next_bill(new.terms, new.anchor, new.starts_at),
        ends_at,
        following.starts_at if following else None,
    )
    return min((stop for stop in stops if stop), default=None)


def following_of(position: Position, new: Stretch, kept: Held | None, trial_ends_at: datetime | None) -> list[Stretch]:
    """What begins after the new phase, in order: what a trial is for, and the changes that stay scheduled."""
    since = trial_ends_at or new.starts_at
    found = [Stretch(new.terms, trial_ends_at, trial_ends_at)] if trial_ends_at else []
    for contract in kept.coming if kept else ():
        if contract.phase_starts_at > since:
            terms = position.sold(contract.terms, contract.quantity, dict(contract.bought))
            found.append(Stretch(terms, contract.anchor, contract.phase_starts_at))
    return found


def open_uses(
    position: Position,
    at: datetime,
    *,
    scheduled: bool,
    lines_now: Sequence[Line],
    moves: Sequence[BucketMove],
) -> list[RatedUse]:
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
    return uses


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
        kept = [
            b
            for b in position.buckets
            if b.id not in touched and not b.is_default and (b.owner != own or b.kind is Kind.OVERRIDE)
        ]
        if position.held and not position.held.contract.follows_contract:
            kept = [b for b in kept if b.owner != (None, position.held.contract.plan_id)]
        new = [m.after for m in moves if m.after]
    earlier = _under_overrides(position, before_contracts, position.buckets, position.at)
    afterwards = _under_overrides(position, after_contracts, [*kept, *new], max(starts_at, position.at))
    slugs = dict.fromkeys(
        item.feature.slug for c in [*after_contracts, *before_contracts] for item in c.terms.items if item.feature
    )
    rows = []
    for slug in slugs:
        before = _decided(slug, before_contracts, earlier)
        later = _decided(slug, after_contracts, afterwards)
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
    own = (b for b in position.buckets if b.item.feature and b.is_plan)
    row = next((b for b in own if b.item.feature and b.item.feature.slug == slug), None)
    return replace(bucket, used=row.used, adjusted=row.adjusted) if row and position.held else bucket


def _under_overrides(
    position: Position, contracts: Sequence[Contract], buckets: Sequence[Bucket], at: datetime
) -> Pool:
    """The buckets as overrides leave them; those of a contract that begins are of its first window."""
    if not any(override.holds(at) for override in position.overrides):
        return Pool(beside=tuple(Beside(bucket, row=bucket) for bucket in buckets))
    subscriptions = [contract.subscription_id for contract in contracts]
    contributions = contributions_of(contracts)
    return pool_of(contributions, buckets, at, overrides=position.overrides, subscriptions=subscriptions)


def _decided(slug: str, contracts: Sequence[Contract], there: Pool) -> Access | None:
    sources = sources_of(contracts, slug)
    if not sources:
        return None
    feature = sources[0].item.feature
    assert feature is not None
    return decide(feature, sources, there.of(slug), holds_plan=True, replaced=there.overrides(slug))
