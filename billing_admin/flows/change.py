"""The decision: what a change of plan does, when, and what it costs. Pure: no writes, no clock, no network.

The same `PlanChange` is shown by the page and the API and carried out by `enable`; its fingerprint says what a person
confirmed. Use counted after the position was read changes nothing in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from billing_admin.flows.outlook import access_changes, next_invoice
from billing_admin.flows.plan_change import Choice, PlanChange, Proposal, Timing
from billing_admin.flows.position import Position
from catalog.periods import Cadence, period_containing
from catalog.terms import ChangeKind, PlanTerms, compare, differences
from customers.contracts import MULTIPLYING, Contract
from entitlements.allowances import contributions_of
from entitlements.balances import BucketMove, Fate, keeps_for_ever, reprovision
from invoicing.lines import Line, fee_line, one_time_lines, opening_lines, unused_lines, usage_lines


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
        next_invoice=next_invoice(
            position,
            proposal,
            after,
            starts_at,
            scheduled=scheduled,
            keeps_schedule=keeps_schedule,
            lines_now=lines,
            moves=moves,
        ),
        access=access_changes(position, after, moves, starts_at, scheduled),
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
