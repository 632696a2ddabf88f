"""Where the months of a deal lie, and how use that is assumed by the month falls into windows. Pure.

A month of use is a month counted from the anchor of the term, whatever its number of days; a part of one is its exact
share by the second. So a window of a quarter holds three times the use of a month, and the windows of a month hold
together what the month holds, to the last millionth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from catalog.periods import Cadence, boundary, count_until
from catalog.terms import HARD, ItemTerms
from deals.terms import DealTerms, Value

MONTH = Cadence(months=1)
SMALLEST = Decimal("0.000001")  # quantities have six decimals


@dataclass(frozen=True, slots=True)
class Term:
    """The months of a deal: counted from `anchor`, `first` months before the one in which they begin.

    `opens_at` is when it gives access, `starts_at` when it is charged: later by a trial. A term that begins inside a
    period counts that period as a whole one, so that no phase runs longer than agreed.
    """

    anchor: datetime
    opens_at: datetime
    starts_at: datetime
    months: int
    first: int = 0
    step: int = 1
    labels: tuple[tuple[int, str], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it begins with a period."""
        return boundary(self.anchor, MONTH, self.first) == self.starts_at

    @property
    def ends_at(self) -> datetime:
        return self.at(self.months)

    def at(self, month: int) -> datetime:
        """The end of so many months of the term."""
        return boundary(self.anchor, MONTH, self.first + month)

    def since(self, month: int) -> datetime:
        """The same, where month 0 is when access begins."""
        return self.at(month) if month else self.opens_at

    def label(self, at: datetime) -> str:
        """What the phase is called that runs at the instant; the last one's at the end."""
        begun = [label for month, label in self.labels if self.since(month) <= at]
        return begun[-1] if begun else self.labels[0][1] if self.labels else ""

    def passed(self, at: datetime) -> int:
        """Whole periods' months of the term that are over at the instant."""
        months = count_until(self.anchor, MONTH, at) - self.first
        return max(0, months - months % self.step)


def term_from(terms: DealTerms, *, opens_at: datetime, anchor: datetime, trial_ends_at: datetime | None) -> Term:
    """The term of a deal that begins at the instant, with periods counted from the anchor."""
    step = Cadence.parse(terms.cadence).months
    starts_at = trial_ends_at or opens_at
    first = count_until(anchor, Cadence(months=step), starts_at) * step
    labels = tuple((start, phase.label) for phase, (start, _) in zip(terms.phases, terms.spans(), strict=True))
    return Term(anchor, opens_at, starts_at, terms.term_months, first, step, labels)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another value of a feature over a part of the term."""

    feature: str
    value: Value
    starts_at: datetime
    ends_at: datetime | None

    def covers(self, at: datetime) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class DealUse:
    """What is assumed: units a month by feature, in each part of the term; and what overrides make of allowances.

    `levels` are units held from the first day on, by the slug of their feature.
    """

    anchor: datetime
    parts: tuple[tuple[datetime, Mapping[str, Decimal]], ...]
    replaced: tuple[Replaced, ...] = ()
    levels: Mapping[str, Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, terms: DealTerms, term: Term) -> "DealUse":
        items = [item for phase in terms.phases for item in phase.items]
        held = {item.feature.slug for item in items if item.feature and item.feature.is_allocated}
        parts = [
            (term.since(start), {k: v for k, v in terms.use_in(phase).items() if k not in held})
            for phase, (start, _) in zip(terms.phases, terms.spans(), strict=True)
        ]
        replaced = tuple(
            Replaced(
                o.feature,
                o.value,
                term.since(o.from_month),
                None if o.until_month is None else term.at(o.until_month),
            )
            for o in terms.overrides
        )
        levels = {slug: units for slug, units in terms.use_in(terms.phases[0]).items() if slug in held}
        return cls(term.anchor, tuple(parts), replaced, levels)

    def units(self, item: ItemTerms, since: datetime, until: datetime) -> Decimal:
        if item.feature is None:
            return Decimal(0)
        return self._total(item.feature.slug, until) - self._total(item.feature.slug, since)

    def _total(self, slug: str, at: datetime) -> Decimal:
        """Units used until the instant, counted from the anchor; what falls between two instants is a difference of
        such totals, so that nothing is lost between windows."""
        total = Fraction(0)
        for place, (starts_at, rates) in enumerate(self.parts):
            since = self.anchor if place == 0 else starts_at
            if place and at <= since:
                break
            until = at if place + 1 == len(self.parts) else min(at, self.parts[place + 1][0])
            total += Fraction(rates.get(slug, Decimal(0))) * (self._months(until) - self._months(since))
        return (Decimal(total.numerator) / Decimal(total.denominator)).quantize(SMALLEST)

    def _months(self, at: datetime) -> Fraction:
        """Months from the anchor, a part of one by the second."""
        n = count_until(self.anchor, MONTH, at)
        since, until = boundary(self.anchor, MONTH, n), boundary(self.anchor, MONTH, n + 1)
        return n + Fraction(int((at - since).total_seconds()), int((until - since).total_seconds()))

    def included(self, item: ItemTerms, granted: Decimal, since: datetime, until: datetime) -> Decimal:
        """What is covered of a window: the allowance, or the value that replaces it meanwhile. What nobody may use is
        covered, too: it is refused, not charged."""
        used = self.units(item, since, until)
        covered = granted
        for replaced in self.replaced:
            ends = replaced.ends_at
            apart = item.feature is None or replaced.feature != item.feature.slug
            if apart or replaced.starts_at >= until or (ends is not None and ends <= since):
                continue
            if not isinstance(replaced.value, Decimal):
                return max(used, granted)
            inside = self.units(item, max(since, replaced.starts_at), min(until, ends or until))
            more = replaced.value - granted
            covered += min(more, inside) if more > 0 else more if replaced.covers(since) else Decimal(0)
        most = item.max_overage if item.limit != HARD else Decimal(0)
        return covered if most is None else max(covered, used - most)
