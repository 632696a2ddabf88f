"""What one boundary of a contract asks for: use, elapsed fees, what is paid ahead. Pure.

The renewal writes these lines, the preview of a change announces them, the forecast adds them up: one function for all.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from catalog.money import to_minor
from catalog.periods import Cadence, Period, is_boundary, period_containing
from catalog.terms import ItemTerms, PlanTerms
from invoicing.commitment import Commitment
from invoicing.lines import Line, RatedUse, arrears_line, opening_lines, renewal_lines, switch_lines, usage_lines
from invoicing.special import Special, ahead_lines, behind_lines, not_below_zero

INSTANT_BEFORE = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase as billing sees it: the terms as they were sold, over `[starts_at, ends_at)`."""

    terms: PlanTerms
    anchor: datetime
    starts_at: datetime
    ends_at: datetime | None = None
    is_trial: bool = False

    @property
    def bills(self) -> bool:
        return self.terms.is_invoiced and not self.is_trial


def boundary_lines(
    at: datetime,
    *,
    history: Sequence[Stretch],
    after: Stretch | None,
    uses: Sequence[RatedUse],
    specials: Sequence[Special] = (),
    pending: Sequence[Line] = (),
) -> list[Line]:
    """The lines of one boundary. `history` ends with the stretch in force until it, `after` is the one in force from
    it (the same one at a renewal; None when the contract ends), `uses` are windows that nobody billed yet, `pending`
    what somebody added by hand."""
    before = history[-1]
    lines = past_lines(at, history=history, after=after, uses=uses, specials=specials)
    if after is not None and after.bills:
        former = before.terms if before.bills else PlanTerms(0, after.terms.currency, after.terms.cadence, ())
        if after is not before:
            opened = switch_lines(former, after.terms, after.anchor, at)
        elif before.starts_at == at:  # nothing was there before: a contract that begins on its day
            opened = opening_lines(after.terms, after.anchor, at)
        else:
            opened = renewal_lines(after.terms, after.anchor, at)
        lines += ahead_lines(opened, specials, after.terms, after.anchor, at)
    return [*not_below_zero(lines), *pending]


def past_lines(
    at: datetime,
    *,
    history: Sequence[Stretch],
    after: Stretch | None,
    uses: Sequence[RatedUse],
    specials: Sequence[Special] = (),
) -> list[Line]:
    """Of those, what is billed for the time before the boundary: use, and fees in arrears."""
    before = history[-1]
    closes = after is None or after is not before
    lines = use_lines(uses, before, at, closes=closes, ends=after is None)
    lines += elapsed_lines(history, at, closes=closes)
    if before.bills and specials:
        since = before.starts_at
        lines = behind_lines(lines, specials, before.terms, before.anchor, at, since=since, closes=closes)
    return lines


def use_lines(
    uses: Sequence[RatedUse], before: Stretch, at: datetime, *, closes: bool, ends: bool = False
) -> list[Line]:
    """Windows that have ended (all of them, when the contract does), of the items whose interval ends here."""
    if not before.terms.is_invoiced:
        return []
    lines: list[Line] = []
    for use in uses:
        # What lasts has no interval to ask for: units that were bought once never come to an end here.
        over = ends or (use.ends_at is not None and use.ends_at <= at)
        if over and (closes or _closes_interval(before, use, at)):
            lines += usage_lines(use, plan_name=before.terms.plan_name, currency=before.terms.currency)
    return lines


def _closes_interval(before: Stretch, use: RatedUse, at: datetime) -> bool:
    return is_boundary(before.anchor, Cadence.parse(before.terms.interval_of(use.segments[-1][0])), at)


def elapsed_lines(
    history: Sequence[Stretch], at: datetime, *, closes: bool, keys: Container[str] | None = None
) -> list[Line]:
    """Fees in arrears, for the time that passed since they were last billed.

    A fee that a change left alone counts through it; what a change touched was billed with the change.
    """
    before = history[-1]
    if not before.bills:
        return []
    lines = []
    for item in before.terms.arrears_fees:
        cadence = Cadence.parse(before.terms.interval_of(item))
        wanted = keys is None or item.key in keys
        if not item.amount or not wanted or not (closes or is_boundary(before.anchor, cadence, at)):
            continue
        period = period_containing(before.anchor, cadence, at - INSTANT_BEFORE)
        since = max(_unchanged_since(history, item), period.starts_at)
        if since < at:
            names = {"plan_name": before.terms.plan_name, "currency": before.terms.currency}
            lines.append(arrears_line(item, period, since=since, until=at, **names))
    return lines


def _unchanged_since(history: Sequence[Stretch], item: ItemTerms) -> datetime:
    """The start of the run of stretches that had this fee at this price in these periods."""
    last = history[-1]
    since = last.starts_at
    for former in reversed(history[:-1]):
        own = former.terms.item(item.key)
        same = own is not None and (own.fee, own.cadence, own.term) == (item.fee, item.cadence, item.term)
        if not same or former.anchor != last.anchor or former.terms.plan_id != last.terms.plan_id or former.is_trial:
            break
        since = former.starts_at
    return since


def committed_since(history: Sequence[Stretch]) -> datetime:
    """Since when the last minimum commitment runs: a change that leaves plan, periods and minimum goes on with it."""
    last = history[-1]
    since = last.starts_at
    for former in reversed(history[:-1]):
        if former.is_trial or _committed(former) != _committed(last):
            break
        since = former.starts_at
    return since


def _committed(stretch: Stretch) -> tuple:
    terms = stretch.terms
    return terms.plan_id, terms.commitment, terms.cadence, stretch.anchor


def committed_period(history: Sequence[Stretch], at: datetime, *, closes: bool) -> Period | None:
    """The part of the plan's period that a minimum commitment is settled for at this instant, if any."""
    before = history[-1]
    terms = before.terms
    if not before.bills or not terms.commitment:
        return None
    cadence = Cadence.parse(terms.cadence)
    if not closes and not is_boundary(before.anchor, cadence, at):
        return None
    period = period_containing(before.anchor, cadence, at - INSTANT_BEFORE)
    since = max(committed_since(history), period.starts_at)
    return Period(since, at) if since < at else None


def commitment_of(history: Sequence[Stretch], at: datetime, *, charged: int, closes: bool) -> Commitment | None:
    """The minimum for that part of the period, beside what was `charged` for it already (minor units)."""
    before, settled = history[-1], committed_period(history, at, closes=closes)
    if settled is None or before.terms.commitment is None:
        return None
    cadence = Cadence.parse(before.terms.cadence)
    whole = period_containing(before.anchor, cadence, at - INSTANT_BEFORE)
    return Commitment(
        amount=to_minor(before.terms.commitment, before.terms.currency),
        currency=before.terms.currency,
        share=Fraction(settled.seconds, whole.seconds),
        charged=charged,
        starts_at=settled.starts_at,
        ends_at=at,
        plan_name=before.terms.plan_name,
    )


def elapsed_share(history: Sequence[Stretch], at: datetime) -> Fraction:
    """The part of the plan's period that a contract has lasted when its account is closed at the instant."""
    before = history[-1]
    if not before.bills or before.terms.is_one_off:
        return Fraction(1)
    whole = period_containing(before.anchor, Cadence.parse(before.terms.cadence), at - INSTANT_BEFORE)
    since = max(history[0].starts_at, whole.starts_at)
    return Fraction(Period(since, max(since, at)).seconds, whole.seconds)
