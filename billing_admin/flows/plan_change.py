"""A change of plan as a value: what was asked for, what will be done, and the words for it. Pure."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from billing_admin.flows.position import Position
from catalog.money import format_minor, plain
from catalog.terms import ChangeKind, ItemDifference, PlanTerms
from entitlements.access import Access
from entitlements.balances import BucketMove
from invoicing.discounts import DiscountTerms
from invoicing.documents import Document
from invoicing.lines import Line
from invoicing.special import Special


class Timing(StrEnum):
    NOW = "now"
    CYCLE_END = "cycle_end"
    WITHOUT_BILLING = "without_billing"


WORDS = {
    Timing.NOW: "Now",
    Timing.CYCLE_END: "At the end of the cycle",
    Timing.WITHOUT_BILLING: "Now, without billing",
}


class Activation(StrEnum):
    """When a first plan that costs something gives access."""

    AFTER_PAYMENT = "after_payment"
    NOW = "now"


class FirstPeriod(StrEnum):
    """What a first period costs that an anchor in the past makes shorter."""

    PRORATE = "prorate"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class NewCoupon:
    """A coupon that is applied with the act, to its contract or to the customer. `for_this_act` ends it with the
    documents of the act."""

    coupon_id: int
    terms: DiscountTerms
    promo_code_id: int | None = None
    for_this_act: bool = False
    for_customer: bool = False


@dataclass(frozen=True, slots=True)
class NewSpecial:
    """A special price that is given with the act and holds for its charges too, where they open a period.

    The id of its terms is not that of any row there is: below zero, and written when the act is carried out.
    """

    terms: Special
    label: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a customer should be on. `version_id` names a version that exists; None: one is made for them.

    `is_custom` is true of both: of items to be tailored, and of a version that was tailored for them before.
    `bought` are prepaid units by item key; those that are not named are carried over. `trial_days` is None for what
    the terms say, `net_terms_days` for what the contract or the account does. `anchor` is where the periods of a first
    plan are counted from: now, unless it is an instant before.
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
    bought: tuple[tuple[str, Decimal], ...] = ()
    trial_days: int | None = None
    activation: Activation = Activation.AFTER_PAYMENT
    coupons: tuple[NewCoupon, ...] = ()
    net_terms_days: int | None = None
    anchor: datetime | None = None
    first_period: FirstPeriod = FirstPeriod.PRORATE
    specials: tuple[NewSpecial, ...] = ()

    @property
    def card(self) -> PlanTerms:
        """The terms with the units that this customer buys."""
        return self.terms.sold(bought=dict(self.bought))


@dataclass(frozen=True, slots=True)
class NextInvoice:
    """The first invoice after the change: when, with which lines. `estimated` while use may still be added."""

    at: datetime | None
    documents: tuple[Document, ...] = ()
    estimated: bool = False

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(drawn.line for document in self.documents for drawn in document.drawn.lines)

    @property
    def total(self) -> int:
        return sum(document.total for document in self.documents)


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
    """What will be done when it is confirmed. Money in minor units of `currency`.

    `is_gated`: access waits for the first payment; `could_wait`: it would, unless staff gives it now.
    """

    kind: ChangeKind
    timing: Timing
    same_plan: bool
    starts_at: datetime
    anchor: datetime
    new_cycle: bool
    documents: tuple[Document, ...]
    moves: tuple[BucketMove, ...]
    next_invoice: NextInvoice
    access: tuple[AccessChange, ...]
    differences: tuple[ItemDifference, ...]
    replaces: str
    keeps_schedule: bool
    currency: str
    account_credit: int
    trial_ends_at: datetime | None
    is_gated: bool
    valid_until: datetime
    position: Position = field(compare=False)
    proposal: Proposal = field(compare=False)
    choices: tuple[Choice, ...] = field(default=(), compare=False)
    could_wait: bool = False

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(drawn.line for document in self.documents for drawn in document.drawn.lines)

    @property
    def total(self) -> int:
        """What the act charges (below zero: gives back), discounts and tax counted, account credit not."""
        return sum(document.total for document in self.documents)

    @property
    def is_scheduled(self) -> bool:
        return self.timing is Timing.CYCLE_END

    @property
    def credit_used(self) -> int:
        """How much of what is due now comes out of account credit."""
        return sum(document.drawn.account_credit for document in self.documents)

    @property
    def stays(self) -> str:
        """What was scheduled and comes all the same: what is enabled now holds until then."""
        held = self.position.held
        if not self.keeps_schedule or held is None or held.following is None:
            return ""
        plan, on = held.following.plan_name, f"{held.following.phase_starts_at:%-d %b %Y}"
        return f"The change to {plan} on {on} stays scheduled: these items hold until then."

    @property
    def net_terms_days(self) -> int:
        """Days to pay what the act charges."""
        asked = self.proposal.net_terms_days
        return self.position.gate.net_terms_days if asked is None else asked

    @property
    def why(self) -> str:
        """The timing and its reason in one sentence."""
        day = f"{self.starts_at:%-d %b %Y}"
        if self.is_gated and self.position.gate.awaits_approval:
            return "Takes effect once its first invoice is approved and paid"
        if self.is_gated:
            return "Takes effect once its first invoice is paid"
        if self.trial_ends_at:
            return f"Takes effect now — a trial until {self.trial_ends_at:%-d %b %Y}"
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
        held, at = self.position.held, self.position.at
        facts = {
            "kind": self.kind,
            "timing": self.timing,
            "startsAt": self.starts_at.isoformat(),
            "anchor": self.anchor.isoformat(),
            "documents": [document.identity() for document in self.documents],
            "gated": self.is_gated,
            "trial": self.trial_ends_at and self.trial_ends_at.isoformat(),
            "bought": [(key, plain(units)) for key, units in self.proposal.bought],
            "phase": held.phase_id if held else None,
            "next": [contract.phase_id for contract in held.coming] if held else [],
            "endsAt": held.ends_at.isoformat() if held and held.ends_at else None,
            "terms": self.proposal.version_id or repr(sorted(map(repr, self.proposal.terms.items))),
            "standard": self.proposal.standard.version_id,
            "plan": self.proposal.plan_id,
            "quantity": self.proposal.quantity,
            "netTerms": self.net_terms_days,
            "waiting": list(self.position.gated),
            "others": [(c.subscription_id, c.phase_id) for c in self.position.others],
            "overrides": [
                (o.id, str(o.ends_at)) for o in self.position.overrides if o.ends_at is None or o.ends_at > at
            ],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def explain(change: PlanChange) -> str:
    """What will be true, in one line for the journal: `Enabled Pro (custom) now: $26.67 due`."""
    name = f"{change.proposal.plan_name}{' (custom)' if change.proposal.is_custom else ''}"
    if change.is_scheduled:
        return f"Scheduled {name} for {change.starts_at:%-d %b %Y}"
    if change.is_gated:
        return f"{name} waits for its first invoice: {format_minor(change.total, change.currency)}"
    if change.trial_ends_at:
        return f"Began a trial of {name} until {change.trial_ends_at:%-d %b %Y}"
    verb = "Enabled" if change.kind in (ChangeKind.FIRST, ChangeKind.ADD_ON) else "Changed to"
    money = f": {format_minor(change.total, change.currency)}" if change.lines else ""
    return f"{verb} {name}{money}"
