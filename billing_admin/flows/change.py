"""The decision: what a change of plan does, when, and what it costs. Pure: no writes, no clock, no network.

The same `PlanChange` is shown by the page and the API and carried out by `enable`; its fingerprint says what a person
confirmed. Use counted after the position was read changes nothing in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from billing_admin.flows.boundary import commitment_of, elapsed_lines, elapsed_share
from billing_admin.flows.outlook import access_changes, next_invoice, specials_after
from billing_admin.flows.plan_change import Activation, Choice, FirstPeriod, PlanChange, Proposal, Timing
from billing_admin.flows.position import Held, Position
from catalog.periods import Cadence, Period, period_containing
from catalog.terms import NEXT_CYCLE, PRORATE, ChangeKind, ItemTerms, PlanTerms, compare, differences
from customers.contracts import MULTIPLYING, Contract
from entitlements.allowances import contributions_of
from entitlements.balances import BucketMove, Fate, keeps_for_ever, reprovision
from invoicing.commitment import Commitment
from invoicing.documents import BillingRules, Document, bounds_of, draw
from invoicing.lines import (
    BilledFee,
    Line,
    advance_line,
    advance_lines,
    more_line,
    one_time_lines,
    opening_lines,
    unused_lines,
    usage_lines,
)
from invoicing.special import ahead_lines, behind_lines, not_below_zero


def preview(position: Position, proposal: Proposal) -> PlanChange:
    """Decide one change of plan for a position, with the money of every other timing beside it."""
    proposal = carry_bought(position.held, proposal)
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


def carry_bought(present: Held | None, proposal: Proposal) -> Proposal:
    """Prepaid units that nobody named stay what they are, whatever the plan calls them; else the included ones."""
    named, held = dict(proposal.bought), {}
    if present:
        items = present.terms.items
        held = {i.feature.slug: i.bought for i in items if i.is_prepaid and i.feature and i.bought is not None}
    bought = {}
    for item in proposal.terms.items:
        if item.is_prepaid and item.feature:
            kept = Decimal(0) if proposal.terms.is_one_off else held.get(item.feature.slug, Decimal(0))
            slug = item.feature.slug
            bought[item.key] = max(named.get(item.key, named.get(slug, kept)), item.included or Decimal(0))
    return replace(proposal, bought=tuple(sorted(bought.items())))


def sold(position: Position, proposal: Proposal) -> PlanTerms:
    """What the proposal costs this customer."""
    return position.sold(proposal.terms, proposal.quantity, dict(proposal.bought))


def kind_of(position: Position, proposal: Proposal) -> ChangeKind:
    if position.held is None:
        return ChangeKind.ADD_ON if proposal.add_on else ChangeKind.FIRST
    kind = compare(position.held_sold, sold(position, proposal))
    if kind is ChangeKind.NOTHING and proposal.terms.is_one_off:
        return ChangeKind.UP  # bought once more
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
    if kind is ChangeKind.DOWN and _only_fewer_units(position, proposal):
        return [Timing.CYCLE_END]
    if kind is ChangeKind.FEATURES:
        return [Timing.NOW, Timing.CYCLE_END]
    if restarts_cycle(position.held, proposal):
        return [Timing.NOW, Timing.CYCLE_END]
    return [Timing.NOW, Timing.CYCLE_END, Timing.WITHOUT_BILLING]


def _only_fewer_units(position: Position, proposal: Proposal) -> bool:
    """Whether all that changes is that fewer units are bought, of items that are kept until the period ends."""
    old, new = position.held_sold, sold(position, proposal)
    changed = _changed_keys(old, new)
    pairs = [(old.item(key), new.item(key)) for key in changed]
    return bool(pairs) and all(_is_requantified(b, a) and a and a.on_decrease == NEXT_CYCLE for b, a in pairs)


def _is_requantified(before: ItemTerms | None, after: ItemTerms | None) -> bool:
    """Whether it is the same prepaid item with another number of units."""
    if before is None or after is None or not after.is_prepaid:
        return False
    return replace(before, bought=after.bought, id=None) == replace(after, id=None)


def restarts_cycle(held: Held | None, proposal: Proposal) -> bool:
    """A first payment, or another longest interval, begins a new billing cycle; so does leaving an assigned plan."""
    if held is None:
        return True
    old, new = held.terms, proposal.terms
    if old.kind not in MULTIPLYING or new.kind not in MULTIPLYING:
        return True
    if held.on_trial or (old.is_free and not new.is_free):
        return True
    return not new.is_free and old.longest_price_interval != new.longest_price_interval


def decide_change(position: Position, proposal: Proposal, kind: ChangeKind, timing: Timing) -> PlanChange:
    """One change at one timing."""
    held, at = position.held, position.at
    same_plan = held is not None and held.contract.plan_id == proposal.plan_id
    goes_on = held is not None and held.on_trial and kind is ChangeKind.FEATURES and same_plan
    new_cycle = restarts_cycle(position.held, proposal) and not goes_on
    scheduled = timing is Timing.CYCLE_END and held is not None and held.period is not None
    starts_at = held.period.ends_at if scheduled and held and held.period and held.period.ends_at else at
    trial_ends_at = None if scheduled else _trial_end(position, proposal, kind)
    anchor = trial_ends_at or _anchor(position, proposal, starts_at, new_cycle)
    leaves_cohort = proposal.is_custom and held is not None and held.of_cohort
    keeps_schedule = kind is ChangeKind.FEATURES and not scheduled and same_plan and not leaves_cohort
    running = held.contract.trial_ends_at if held and keeps_schedule else None
    after = _contract(position, proposal, anchor, starts_at, trial_ends_at or running)
    moves: list[BucketMove] = []
    lines: list[Line] = []
    if not scheduled:
        moves = _moves(position, proposal, after, kind, same_plan, new_cycle)
        lines = _lines_now(position, proposal, kind, same_plan, new_cycle, anchor, timing, moves, trial_ends_at)
    documents = draw(
        lines,
        _rules(position, proposal),
        bounds=bounds_of(held.terms, lines, elapsed_share(held.history, position.at)) if held else [],
        commitment=None if scheduled else _commitment(position, proposal, kind, goes_on=same_plan and not new_cycle),
        currency=held.terms.currency if held else proposal.terms.currency,
    )
    could_wait = not scheduled and _could_wait(position, proposal, documents)
    return PlanChange(
        kind=kind,
        timing=timing,
        same_plan=same_plan,
        starts_at=starts_at,
        anchor=anchor,
        new_cycle=new_cycle,
        documents=tuple(documents),
        moves=tuple(moves),
        next_invoice=next_invoice(
            position,
            proposal,
            after,
            starts_at,
            scheduled=scheduled,
            keeps_schedule=keeps_schedule,
            documents_now=documents,
            moves=moves,
            trial_ends_at=trial_ends_at or running,
        ),
        access=access_changes(position, after, moves, starts_at, scheduled),
        differences=tuple(
            differences(held.terms if held else proposal.standard, proposal.card if held else proposal.terms)
        ),
        replaces="" if keeps_schedule else _replaces(position, leaves_cohort=leaves_cohort),
        keeps_schedule=keeps_schedule,
        currency=proposal.terms.currency,
        account_credit=position.account_credit,
        trial_ends_at=trial_ends_at,
        is_gated=could_wait and proposal.activation is Activation.AFTER_PAYMENT,
        valid_until=position.valid_until,
        position=position,
        proposal=proposal,
        could_wait=could_wait,
    )


def _trial_end(position: Position, proposal: Proposal, kind: ChangeKind) -> datetime | None:
    """When a trial that begins now ends. One per product, and only on the way to a first paid plan."""
    begins = position.held is None or (position.held.terms.is_free and not proposal.terms.is_free)
    days = proposal.terms.trial_days if proposal.trial_days is None else proposal.trial_days
    if not begins or not days or proposal.terms.is_free or (position.had_trial and proposal.trial_days is None):
        return None
    ends_at = position.at + timedelta(days=days)
    return ends_at if proposal.ends_at is None else min(ends_at, proposal.ends_at)


def _could_wait(position: Position, proposal: Proposal, documents: Sequence[Document]) -> bool:
    """Whether the first invoice has to be paid before anything is given."""
    held = position.held
    first = held is None or (held.terms.is_free and not proposal.terms.is_free)
    terms = proposal.terms
    due = sum(document.drawn.due for document in documents if not document.is_credit_note)
    days = position.gate.net_terms_days if proposal.net_terms_days is None else proposal.net_terms_days
    return first and not days and terms.is_invoiced and terms.billing_version != 0 and due > 0


def _rules(position: Position, proposal: Proposal) -> BillingRules:
    """What holds for the documents of the act: the customer's coupons and those that come with it."""
    return position.rules.with_discounts(coupon.terms for coupon in proposal.coupons)


def _commitment(position: Position, proposal: Proposal, kind: ChangeKind, *, goes_on: bool) -> Commitment | None:
    """The minimum of the running period's elapsed part, when its account is closed before its end."""
    held, new = position.held, proposal.terms
    if held is None or kind is ChangeKind.FEATURES:
        return None
    if goes_on and (held.terms.commitment, held.terms.cadence) == (new.commitment, new.cadence):
        return None
    return commitment_of(held.history, position.at, charged=position.charged, closes=True)


def _anchor(position: Position, proposal: Proposal, starts_at: datetime, new_cycle: bool) -> datetime:
    if position.held is None:
        return position.anchor_of_product or proposal.anchor or starts_at
    return starts_at if new_cycle else position.held.contract.anchor


def _contract(
    position: Position, proposal: Proposal, anchor: datetime, starts_at: datetime, trial_ends_at: datetime | None
) -> Contract:
    """The contract as it will be; its version may not exist yet."""
    held = position.held
    follows = proposal.kind in MULTIPLYING
    return Contract(
        plan_id=proposal.plan_id,
        plan_name=proposal.plan_name,
        kind=proposal.kind,
        version_id=proposal.version_id,
        terms=proposal.card,
        anchor=(starts_at if trial_ends_at else anchor) if follows else position.usage_anchor,
        since=held.contract.since if held else starts_at,
        phase_starts_at=starts_at,
        subscription_id=held.subscription_id if held else 0,
        add_on=proposal.add_on,
        quantity=proposal.quantity,
        is_custom=proposal.is_custom,
        bought=proposal.bought,
        trial_ends_at=trial_ends_at,
    )


def moves_to(position: Position, proposal: Proposal, after: Contract) -> list[BucketMove]:
    """What happens to the buckets when a change that was confirmed before begins: a first payment came."""
    kind = kind_of(position, proposal)
    same_plan = position.held is not None and position.held.contract.plan_id == proposal.plan_id
    return _moves(position, proposal, after, kind, same_plan, new_cycle=True)


def _moves(
    position: Position, proposal: Proposal, after: Contract, kind: ChangeKind, same_plan: bool, new_cycle: bool
) -> list[BucketMove]:
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
        # A trial is a period of its own: what was used in it counts for nothing that is paid.
        renew_consumables=(held.on_trial and new_cycle)
        or _renews_consumables(position.held_sold, sold(position, proposal), kind, same_plan),
        new_cycle=new_cycle,
        waiting=position.waiting,
        paid_again=_paid_again(held.contract, kind, same_plan),
    )


def _paid_again(contract: Contract, kind: ChangeKind, same_plan: bool) -> Contract | None:
    """The former contract, where what is paid once is asked for anew: another plan, or a one-off one bought again."""
    if kind is ChangeKind.FEATURES or (same_plan and not contract.terms.is_one_off):
        return None
    return contract


def _renews_consumables(old: PlanTerms, new: PlanTerms, kind: ChangeKind, same_plan: bool) -> bool:
    if same_plan or kind is ChangeKind.FEATURES:
        return False
    if old.is_free and not new.is_free:
        return True
    return kind is ChangeKind.DOWN or new.monthly(listed=True) > old.monthly(listed=True)


def _lines_now(
    position: Position,
    proposal: Proposal,
    kind: ChangeKind,
    same_plan: bool,
    new_cycle: bool,
    anchor: datetime,
    timing: Timing,
    moves: Sequence[BucketMove],
    trial_ends_at: datetime | None,
) -> list[Line]:
    held, at, new = position.held, position.at, proposal.terms
    if kind is ChangeKind.FEATURES:
        return _overage(position, moves)
    wanted = sold(position, proposal)
    if held is None:
        whole = proposal.first_period is FirstPeriod.FULL
        opening = whole_opening_lines(wanted, anchor, at) if whole else opening_lines(wanted, anchor, at)
        opening = not_below_zero(ahead_lines(opening, specials_after(position, proposal), wanted, anchor, at))
        return [] if trial_ends_at else _priced(opening, new)
    old = position.held_sold
    changed = None if new_cycle or not same_plan else _changed_keys(old, wanted)
    lines: list[Line] = []
    if timing is not Timing.WITHOUT_BILLING:
        lines += _fees_now(position, proposal, wanted, anchor, changed, trial_ends_at)
    closes = not same_plan or new_cycle
    past = elapsed_lines(held.history, at, closes=True, keys=changed) if held.terms.is_invoiced else []
    past += _closed_overage(position) if closes else []
    return not_below_zero(lines + _specially(position, past + _overage(position, moves), closes=closes))


def whole_opening_lines(terms: PlanTerms, anchor: datetime, at: datetime) -> list[Line]:
    """All that a first period asks for, at its whole price however short the anchor makes it."""
    lines = []
    for item in terms.advance_items:
        ends_at = period_containing(anchor, Cadence.parse(terms.interval_of(item)), at).ends_at
        if item.advance:
            names = {"plan_name": terms.plan_name, "currency": terms.currency}
            lines.append(advance_line(item, Period(at, ends_at), since=at, **names))
    return lines + one_time_lines(terms, at, former=None)


def _specially(position: Position, past: list[Line], *, closes: bool) -> list[Line]:
    """What is closed at once, at its special prices: all of them, or those of the items that are billed here."""
    held = position.held
    if held is None or not held.history[-1].bills:
        return past
    last, billed = held.history[-1], {line.key for line in past}
    specials = [special for special in position.specials if closes or special.key_at(position.at) in billed]
    return behind_lines(past, specials, last.terms, last.anchor, position.at, since=last.starts_at, closes=True)


def _fees_now(
    position: Position,
    proposal: Proposal,
    wanted: PlanTerms,
    anchor: datetime,
    changed: set[str] | None,
    trial_ends_at: datetime | None,
) -> list[Line]:
    """Credits for what was paid ahead and charges for what replaces it; `changed` None: everything."""
    at, old, specials = position.at, position.held_sold, specials_after(position, proposal)
    held = position.held
    former = None if held is None or held.on_trial else old
    fees = _granted_again(position, wanted)
    if changed is None:
        lines = unused_lines(fees, at)
        opens = restarts_cycle(position.held, proposal)
        charges = opening_lines(wanted, anchor, at, former=former) if opens else advance_lines(wanted, anchor, at)
        charges = ahead_lines(charges, specials, wanted, anchor, at)
        once = [] if opens else one_time_lines(wanted, at, former=former)
        return lines + ([] if trial_ends_at else _priced(charges + once, proposal.terms))
    apart = {key for key in changed if _is_charged_apart(old.item(key), wanted.item(key))}
    lines = unused_lines([fee for fee in fees if fee.key in changed - apart], at)
    charges = advance_lines(wanted, anchor, at, keys=changed - apart)
    charges = ahead_lines(charges, specials, wanted, anchor, at)
    charges += [line for key in sorted(apart) for line in _more_units(old, wanted, key, anchor, at)]
    return lines + _priced(charges + one_time_lines(wanted, at, former=former), proposal.terms)


def _granted_again(position: Position, wanted: PlanTerms) -> list[BilledFee]:
    """What was paid ahead; consumed units that the new terms grant are given back, since they count against those."""
    found = []
    for fee in position.fees:
        item = position.held_sold.item(fee.key)
        new = wanted.for_feature(item.feature.slug) if fee.bought and item and item.feature else None
        if new is not None:
            included = (item and item.included) or Decimal(0)
            units = fee.bought if new.granted is None else (new.granted - included) * new.quantity
            fee = fee.granted_again(max(Decimal(0), units))
        found.append(fee)
    return found


def _is_charged_apart(before: ItemTerms | None, after: ItemTerms | None) -> bool:
    """Whether more units are bought of an item that charges them in full, or from the next period."""
    rises = before is not None and after is not None and after.advance > before.advance
    return rises and _is_requantified(before, after) and after is not None and after.on_increase != PRORATE


def _more_units(old: PlanTerms, new: PlanTerms, key: str, anchor: datetime, at: datetime) -> list[Line]:
    """The additional units for the whole running period; nothing, where they are charged from the next one."""
    before, after = old.item(key), new.item(key)
    assert before is not None and after is not None
    if after.on_increase == NEXT_CYCLE:
        return []
    period = period_containing(anchor, Cadence.parse(new.interval_of(after)), at)
    names = {"plan_name": new.plan_name, "currency": new.currency}
    return [more_line(before, after, period, at=at, **names)]


def _priced(lines: list[Line], terms: PlanTerms) -> list[Line]:
    return lines if terms.is_invoiced else []


def _changed_keys(old: PlanTerms, new: PlanTerms) -> set[str]:
    """Keys of what is paid in advance or as a fee and differs, or is only on one side."""
    before = {i.key: (i.advance, old.interval_of(i), i.term) for i in old.items if i.is_fee or i.in_advance}
    after = {i.key: (i.advance, new.interval_of(i), i.term) for i in new.items if i.is_fee or i.in_advance}
    return {key for key in before | after if before.get(key) != after.get(key)}


def _overage(position: Position, moves: Sequence[BucketMove]) -> list[Line]:
    """Use beyond the allowance of every bucket that ends with this change, in full at the old price."""
    held = position.held
    if held is None or held.on_trial or not held.terms.is_invoiced:
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


def _replaces(position: Position, *, leaves_cohort: bool) -> str:
    held = position.held
    if held is None:
        return ""
    if held.following and leaves_cohort:
        on = f"{held.following.phase_starts_at:%-d %b %Y}"
        return f"Takes away the move to another version on {on}: custom plans are not moved with the others."
    if held.following:
        more = f" and {len(held.later)} more after it" if held.later else ""
        on = f"{held.following.phase_starts_at:%-d %b %Y}"
        return f"Replaces the change to {held.following.plan_name} on {on}{more}."
    if held.ends_at:
        return f"Takes back the cancellation on {held.ends_at:%-d %b %Y}."
    return ""
