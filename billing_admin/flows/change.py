"""The decision: what a change of plan does, when, and what it costs. Pure: no writes, no clock, no network.

The same `PlanChange` is shown by the page and the API and carried out by `enable`; its fingerprint says what a person
confirmed. Use counted after the position was read changes nothing in it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from billing_admin.flows.position import Position
from catalog.money import format_minor
from catalog.periods import Cadence, period_containing
from catalog.terms import ChangeKind, ItemDifference, PlanTerms, compare, differences
from customers.contracts import MULTIPLYING, Contract
from customers.switch import next_bill
from entitlements.access import Access, decide
from entitlements.allowances import contributions_of, sources_of
from entitlements.balances import Bucket, BucketMove, Fate, fresh, keeps_for_ever, reprovision
from invoicing.lines import (
    Line,
    fee_line,
    one_time_lines,
    opening_lines,
    renewal_lines,
    switch_lines,
    total,
    unused_lines,
    usage_lines,
)


class Timing(StrEnum):
    NOW = "now"
    CYCLE_END = "cycle_end"
    WITHOUT_BILLING = "without_billing"


WORDS = {
    Timing.NOW: "Now",
    Timing.CYCLE_END: "At the end of the cycle",
    Timing.WITHOUT_BILLING: "Now, without billing",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a customer should be on. `version_id` names a version that exists; None: one is made for them.

    `is_custom` is true of both: of items to be tailored, and of a version that was tailored for them before.
    """

    plan_id: int
    plan_name: str
    kind: str
    add_on: bool
    terms: PlanTerms
    standard: PlanTerms
    version_id: int | None = None
    is_custom: bool = False
    quantity: int = 1
    timing: Timing | None = None
    ends_at: datetime | None = None

    @property
    def sold(self) -> PlanTerms:
        """What this customer would pay: the fees for the whole quantity."""
        return self.terms.times(self.quantity)


@dataclass(frozen=True, slots=True)
class NextInvoice:
    """The first invoice after the change: when, with which lines. `estimated` while use may still be added."""

    at: datetime | None
    lines: tuple[Line, ...]
    total: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class AccessChange:
    """One feature before and after; None where it is not in the package."""

    slug: str
    name: str
    before: Access | None
    after: Access | None

    @property
    def is_same(self) -> bool:
        return _plain(self.before) == _plain(self.after)


def _plain(access: Access | None) -> tuple | None:
    if access is None:
        return None
    return access.value, access.unlimited, access.limit, access.net, access.next_reset_at, access.allowed


@dataclass(frozen=True, slots=True)
class Choice:
    """Another timing, with its money: `total` is due at once, minor units."""

    timing: Timing
    total: int
    starts_at: datetime
    is_default: bool

    @property
    def words(self) -> str:
        return WORDS[self.timing]


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What will be done when it is confirmed. Money in minor units of `currency`."""

    kind: ChangeKind
    timing: Timing
    same_plan: bool
    starts_at: datetime
    anchor: datetime
    new_cycle: bool
    lines: tuple[Line, ...]
    moves: tuple[BucketMove, ...]
    next_invoice: NextInvoice
    access: tuple[AccessChange, ...]
    differences: tuple[ItemDifference, ...]
    replaces: str
    keeps_schedule: bool
    currency: str
    account_credit: int
    valid_until: datetime
    position: Position = field(compare=False)
    proposal: Proposal = field(compare=False)
    choices: tuple[Choice, ...] = field(default=(), compare=False)

    @property
    def total(self) -> int:
        return total(self.lines)

    @property
    def is_scheduled(self) -> bool:
        return self.timing is Timing.CYCLE_END

    @property
    def credit_used(self) -> int:
        """How much of what is due now comes out of account credit."""
        charge = total([line for line in self.lines if line.offsets_id is None])
        return max(0, min(self.account_credit, charge))

    @property
    def why(self) -> str:
        """The timing and its reason in one sentence."""
        day = f"{self.starts_at:%-d %b %Y}"
        if self.kind is ChangeKind.FIRST:
            return "Takes effect now — a first plan"
        if self.kind is ChangeKind.ADD_ON:
            return "Takes effect now — an add-on beside the main plan"
        cause = {
            ChangeKind.FEATURES: "only features change",
            ChangeKind.UP: "higher price" if not self.new_cycle else "higher price, and a new billing cycle begins",
            ChangeKind.DOWN: "lower price",
        }[self.kind]
        if self.is_scheduled:
            return f"Takes effect on {day} — {cause}"
        billed = ", without billing the difference" if self.timing is Timing.WITHOUT_BILLING else ""
        return f"Takes effect now — {cause}{billed}"

    @property
    def fingerprint(self) -> str:
        """What was confirmed, in one word: the kind, the dates, every line, and the rows that it starts from."""
        held = self.position.held
        facts = {
            "kind": self.kind,
            "timing": self.timing,
            "startsAt": self.starts_at.isoformat(),
            "anchor": self.anchor.isoformat(),
            "lines": [line.identity() for line in self.lines],
            "phase": held.phase_id if held else None,
            "next": held.following.phase_id if held and held.following else None,
            "endsAt": held.ends_at.isoformat() if held and held.ends_at else None,
            "terms": self.proposal.version_id or repr(sorted(map(repr, self.proposal.terms.items))),
            "standard": self.proposal.standard.version_id,
            "plan": self.proposal.plan_id,
            "quantity": self.proposal.quantity,
            "others": [(c.subscription_id, c.phase_id) for c in self.position.others],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def preview(position: Position, proposal: Proposal) -> PlanChange:
    """Decide one change of plan for a position, with the money of every other timing beside it."""
    kind = kind_of(position, proposal)
    default = Timing.CYCLE_END if kind is ChangeKind.DOWN and _has_period(position) else Timing.NOW
    timing = proposal.timing or default
    allowed = timings(position, proposal, kind)
    change = decide_change(position, proposal, kind, timing if timing in allowed else default)
    choices = []
    for other in allowed:
        its = change if other is change.timing else decide_change(position, proposal, kind, other)
        choices.append(Choice(other, its.total, its.starts_at, other is default))
    return replace(change, choices=tuple(choices))


def kind_of(position: Position, proposal: Proposal) -> ChangeKind:
    if position.held is None:
        return ChangeKind.ADD_ON if proposal.add_on else ChangeKind.FIRST
    kind = compare(position.held.sold, proposal.sold)
    if kind is ChangeKind.NOTHING and proposal.quantity != position.held.contract.quantity:
        return ChangeKind.UP if proposal.quantity > position.held.contract.quantity else ChangeKind.DOWN
    if kind is ChangeKind.NOTHING and proposal.version_id not in (None, position.held.contract.version_id):
        return ChangeKind.FEATURES
    return kind


def _has_period(position: Position) -> bool:
    return position.held is not None and position.held.period is not None


def timings(position: Position, proposal: Proposal, kind: ChangeKind) -> list[Timing]:
    """What staff may choose from for this kind of change."""
    if kind in (ChangeKind.FIRST, ChangeKind.ADD_ON) or not _has_period(position):
        return [Timing.NOW]
    if kind is ChangeKind.FEATURES:
        return [Timing.NOW, Timing.CYCLE_END]
    if restarts_cycle(position, proposal):
        return [Timing.NOW, Timing.CYCLE_END]
    return [Timing.NOW, Timing.CYCLE_END, Timing.WITHOUT_BILLING]


def restarts_cycle(position: Position, proposal: Proposal) -> bool:
    """A first payment, or another longest interval, begins a new billing cycle; so does leaving an assigned plan."""
    held = position.held
    if held is None:
        return True
    old, new = held.terms, proposal.terms
    if old.kind not in MULTIPLYING or new.kind not in MULTIPLYING:
        return True
    if old.is_free and not new.is_free:
        return True
    return not new.is_free and old.longest_price_interval != new.longest_price_interval


def decide_change(position: Position, proposal: Proposal, kind: ChangeKind, timing: Timing) -> PlanChange:
    """One change at one timing."""
    held, at = position.held, position.at
    same_plan = held is not None and held.contract.plan_id == proposal.plan_id
    new_cycle = restarts_cycle(position, proposal)
    scheduled = timing is Timing.CYCLE_END and held is not None and held.period is not None
    starts_at = held.period.ends_at if scheduled and held and held.period and held.period.ends_at else at
    anchor = _anchor(position, proposal, starts_at, new_cycle)
    after = _contract(position, proposal, anchor, starts_at)
    moves: list[BucketMove] = []
    lines: list[Line] = []
    if not scheduled:
        moves = _moves(position, after, kind, same_plan, new_cycle)
        lines = _lines_now(position, proposal, kind, same_plan, new_cycle, anchor, timing, moves)
    keeps_schedule = kind is ChangeKind.FEATURES and not scheduled and same_plan
    return PlanChange(
        kind=kind,
        timing=timing,
        same_plan=same_plan,
        starts_at=starts_at,
        anchor=anchor,
        new_cycle=new_cycle,
        lines=tuple(lines),
        moves=tuple(moves),
        next_invoice=_next_invoice(
            position,
            proposal,
            after,
            starts_at,
            scheduled=scheduled,
            keeps_schedule=keeps_schedule,
            lines_now=lines,
            moves=moves,
        ),
        access=_access(position, after, moves, starts_at, scheduled),
        differences=tuple(differences(held.terms if held else proposal.standard, proposal.terms)),
        replaces="" if keeps_schedule else _replaces(position),
        keeps_schedule=keeps_schedule,
        currency=proposal.terms.currency,
        account_credit=position.account_credit,
        valid_until=position.valid_until,
        position=position,
        proposal=proposal,
    )


def _anchor(position: Position, proposal: Proposal, starts_at: datetime, new_cycle: bool) -> datetime:
    if position.held is None:
        return position.anchor_of_product or starts_at
    return starts_at if new_cycle else position.held.contract.anchor


def _contract(position: Position, proposal: Proposal, anchor: datetime, starts_at: datetime) -> Contract:
    """The contract as it will be; its version may not exist yet."""
    held = position.held
    follows = proposal.kind in MULTIPLYING
    return Contract(
        plan_id=proposal.plan_id,
        plan_name=proposal.plan_name,
        kind=proposal.kind,
        version_id=proposal.version_id,
        terms=proposal.terms,
        anchor=anchor if follows else position.usage_anchor,
        since=held.contract.since if held else starts_at,
        phase_starts_at=starts_at,
        subscription_id=held.subscription_id if held else 0,
        add_on=proposal.add_on,
        quantity=proposal.quantity,
        is_custom=proposal.is_custom,
    )


def _moves(position: Position, after: Contract, kind: ChangeKind, same_plan: bool, new_cycle: bool) -> list[BucketMove]:
    """What happens to the buckets at once. Consumables start afresh when the customer comes to pay more, or less."""
    held = position.held
    contributions = contributions_of([after])
    if held is None:
        waiting = position.waiting
        return reprovision([], contributions, position.at, renew_consumables=False, new_cycle=True, waiting=waiting)
    owner = (held.subscription_id, None) if held.contract.follows_contract else (None, held.contract.plan_id)
    rows = [b for b in position.buckets if b.owner == owner]
    if not held.contract.follows_contract and held.contract.plan_id != after.plan_id:
        rows = [row for row in rows if keeps_for_ever(row.item)]  # the others wait for their plan's return
    return reprovision(
        rows,
        contributions,
        position.at,
        renew_consumables=_renews_consumables(held.sold, after.terms.times(after.quantity), kind, same_plan),
        new_cycle=new_cycle,
        waiting=position.waiting,
    )


def _renews_consumables(old: PlanTerms, new: PlanTerms, kind: ChangeKind, same_plan: bool) -> bool:
    if old.is_free and not new.is_free:
        return True
    if same_plan or kind is ChangeKind.FEATURES:
        return False
    return kind is ChangeKind.DOWN or new.monthly() > old.monthly()


def _lines_now(
    position: Position,
    proposal: Proposal,
    kind: ChangeKind,
    same_plan: bool,
    new_cycle: bool,
    anchor: datetime,
    timing: Timing,
    moves: Sequence[BucketMove],
) -> list[Line]:
    held, at, new = position.held, position.at, proposal.terms
    if kind is ChangeKind.FEATURES:
        return _overage(position, moves)
    if held is None:
        return _priced(opening_lines(proposal.sold, anchor, at), new)
    lines: list[Line] = []
    if timing is not Timing.WITHOUT_BILLING:
        changed = None if new_cycle or not same_plan else _changed_fees(position, proposal)
        lines += unused_lines([fee for fee in position.fees if changed is None or fee.key in changed], at)
        if new_cycle:
            lines += _priced(opening_lines(proposal.sold, anchor, at, former=held.terms), new)
        else:
            lines += _priced(_charges(proposal.sold, anchor, at, changed, held.terms), new)
    lines += [] if same_plan and not new_cycle else _closed_overage(position)
    return lines + _overage(position, moves)


def _priced(lines: list[Line], terms: PlanTerms) -> list[Line]:
    return lines if terms.is_invoiced else []


def _changed_fees(position: Position, proposal: Proposal) -> set[str]:
    """Keys of fees whose amount differs from what is in force, or that are only on one side."""
    assert position.held is not None
    old = {i.key: (i.fee, i.cadence) for i in position.held.sold.fees}
    new = {i.key: (i.fee, i.cadence) for i in proposal.sold.fees}
    return {key for key in old | new if old.get(key) != new.get(key)}


def _charges(
    terms: PlanTerms, anchor: datetime, at: datetime, changed: set[str] | None, former: PlanTerms
) -> list[Line]:
    """The rest of the running period at the new price, for every changed fee (None: all)."""
    lines = []
    for item in terms.recurring_fees:
        if item.amount and (changed is None or item.key in changed):
            period = period_containing(anchor, Cadence.parse(item.cadence), at)
            lines.append(fee_line(item, period, since=at, plan_name=terms.plan_name, currency=terms.currency))
    return lines + one_time_lines(terms, at, former=former)


def _overage(position: Position, moves: Sequence[BucketMove]) -> list[Line]:
    """Use beyond the allowance of every bucket that ends with this change, in full at the old price."""
    held = position.held
    if held is None or not held.terms.is_invoiced:
        return []
    lines = []
    for move in moves:
        ended = move.fate in (Fate.RENEWED, Fate.CLOSED) and move.before is not None
        if ended and move.before and move.before.id in position.use:
            use = replace(position.use[move.before.id], ends_at=position.at)
            lines += usage_lines(use, plan_name=held.terms.plan_name, currency=held.terms.currency)
    return lines


def _closed_overage(position: Position) -> list[Line]:
    """Use of windows that ended since the last invoice: the former plan's account is closed, or its cycle is."""
    held = position.held
    if held is None or not held.terms.is_invoiced:
        return []
    name, currency = held.terms.plan_name, held.terms.currency
    return [line for use in position.closed_use for line in usage_lines(use, plan_name=name, currency=currency)]


def _replaces(position: Position) -> str:
    held = position.held
    if held is None:
        return ""
    if held.following:
        return f"Replaces the change to {held.following.plan_name} on {held.following.phase_starts_at:%-d %b %Y}."
    if held.ends_at:
        return f"Takes back the cancellation on {held.ends_at:%-d %b %Y}."
    return ""


def _next_invoice(
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
        lines += _priced(fees, next_terms)
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


def _access(
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


def explain(change: PlanChange) -> str:
    """What will be true, in one line for the journal: `Enabled Pro (custom) now: $26.67 due`."""
    name = f"{change.proposal.plan_name}{' (custom)' if change.proposal.is_custom else ''}"
    if change.is_scheduled:
        return f"Scheduled {name} for {change.starts_at:%-d %b %Y}"
    verb = "Enabled" if change.kind in (ChangeKind.FIRST, ChangeKind.ADD_ON) else "Changed to"
    money = f": {format_minor(change.total, change.currency)}" if change.lines else ""
    return f"{verb} {name}{money}"
