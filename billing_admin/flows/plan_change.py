"""A change of plan as a value: what was asked for, what will be done, and the words for it. Pure."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from billing_admin.flows.position import Position
from catalog.money import format_minor
from catalog.terms import ChangeKind, ItemDifference, PlanTerms
from entitlements.access import Access
from entitlements.balances import BucketMove
from invoicing.lines import (
    Line,
    total,
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


def explain(change: PlanChange) -> str:
    """What will be true, in one line for the journal: `Enabled Pro (custom) now: $26.67 due`."""
    name = f"{change.proposal.plan_name}{' (custom)' if change.proposal.is_custom else ''}"
    if change.is_scheduled:
        return f"Scheduled {name} for {change.starts_at:%-d %b %Y}"
    verb = "Enabled" if change.kind in (ChangeKind.FIRST, ChangeKind.ADD_ON) else "Changed to"
    money = f": {format_minor(change.total, change.currency)}" if change.lines else ""
    return f"{verb} {name}{money}"
