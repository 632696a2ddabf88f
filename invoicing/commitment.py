"""Minimum commitments: what a period costs at least, topped up by a true-up line. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from catalog.money import format_minor, round_half_away
from invoicing.bounds import prorated
from invoicing.lines import ADVANCE, MAXIMUM, MINIMUM, OVERRIDE, TRUE_UP, UNUSED, USAGE, Line

# What is paid once, corrections and manual lines are not what was committed to.
COUNTED = frozenset({*ADVANCE, USAGE, OVERRIDE, MINIMUM, MAXIMUM, UNUSED})


@dataclass(frozen=True, slots=True)
class Committed:
    """An amount measured against a commitment: what counts towards it, what goes beyond, what is missing."""

    utilized: Fraction
    overage: Fraction
    true_up: Fraction

    @property
    def total(self) -> Fraction:
        return self.utilized + self.overage + self.true_up


def committed(
    charged: Fraction, commitment: Fraction, *, overage_factor: Fraction = Fraction(1), tops_up: bool = True
) -> Committed:
    """What is beyond the commitment costs `overage_factor` times its price; what is missing is asked for, or not."""
    return Committed(
        utilized=min(charged, commitment),
        overage=max(Fraction(0), charged - commitment) * overage_factor,
        true_up=max(Fraction(0), commitment - charged) if tops_up else Fraction(0),
    )


def true_up(commitment: int, charged: int, share: Fraction = Fraction(1)) -> int:
    """What is missing to the part of the commitment that falls to this share of its period, in minor units."""
    least = round_half_away(commitment * share)
    return int(committed(Fraction(charged), Fraction(least)).true_up)


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a period must cost at least, in minor units.

    `share` is the exact part of the period that the contract lasted, from `starts_at` to `ends_at`; only lines of
    that time count (None: whatever their time). `charged` is what earlier documents charged for it, after coupons.
    """

    amount: int
    currency: str
    share: Fraction = Fraction(1)
    charged: int = 0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    plan_name: str = ""
    key: str = ""

    @property
    def label(self) -> str:
        return f"{self.plan_name} · minimum commitment" if self.plan_name else "Minimum commitment"

    def counts(self, line: Line) -> bool:
        """Fees and use of the period, and the credits of such fees; the next period's fee may stand beside them."""
        if line.kind not in COUNTED:
            return False
        begun = not (self.ends_at and line.starts_at) or line.starts_at < self.ends_at
        # A change in the middle of a period gives back at the instant until which the period is settled.
        begun = begun or (line.kind == UNUSED and line.starts_at == self.ends_at)
        return begun and (not (self.starts_at and line.ends_at) or line.ends_at > self.starts_at)


def true_up_line(commitment: Commitment, lines: Sequence[Line], discounted: Sequence[int]) -> Line | None:
    """The line for what is missing; None where the charges after coupons reach the commitment."""
    here = sum(line.amount - off for line, off in zip(lines, discounted, strict=True) if commitment.counts(line))
    charged = here + commitment.charged
    amount = true_up(commitment.amount, charged, commitment.share)
    if not amount:
        return None
    currency = commitment.currency
    least = prorated(commitment.amount, commitment.share, currency)
    words = f"{least} − {format_minor(charged, currency)} charged = {format_minor(amount, currency)}"
    return Line(
        TRUE_UP,
        commitment.key,
        commitment.label,
        amount,
        currency,
        starts_at=commitment.starts_at,
        ends_at=commitment.ends_at,
        derivation={"sum": f"{commitment.label}: {words}"},
    )
