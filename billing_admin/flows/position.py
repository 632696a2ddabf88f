"""Where a customer stands, read once: everything that the decision about a change of plan depends on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeGuard

from django.db.models import prefetch_related_objects

from billing_admin.flows.boundary import Stretch, committed_period
from billing_admin.flows.migrate_leave import is_of_cohort
from catalog.models import Plan
from catalog.periods import Period
from catalog.terms import ALLOCATED, PlanTerms
from customers.contracts import Contract
from customers.holdings import contract_of, contracts_at, default_contract
from customers.models import Customer, Phase, Subscription
from customers.switch import plan_period
from entitlements.balances import Bucket
from entitlements.models import Balance
from entitlements.overrides import Override
from entitlements.readings import (
    bucket_of,
    ledger_position,
    open_rows,
    overrides_of,
    pool_under,
    used_since,
    without_ended_override,
)
from invoicing.documents import BillingRules
from invoicing.lines import BilledFee, Line, RatedUse
from invoicing.manual import pending_lines
from invoicing.models import BillingSettings, Invoice
from invoicing.overrides import specials_of
from invoicing.readings import billed_fees, charged_in, rated_use, unbilled
from invoicing.rules import billing_rules
from invoicing.special import Special

PREVIEW_LIVES = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Held:
    """The contract that a change would be made to; `following` is the one that is scheduled after it, `later` are
    those after that. `of_cohort`: what is scheduled is a move of many customers to another version."""

    subscription_id: int
    public_id: str
    phase_id: int
    contract: Contract
    period: Period | None
    bills_at: datetime | None
    ends_at: datetime | None
    following: Contract | None
    history: tuple[Stretch, ...] = ()
    later: tuple[Contract, ...] = ()
    of_cohort: bool = False

    @property
    def coming(self) -> tuple[Contract, ...]:
        """Everything that is scheduled, in order."""
        return (self.following, *self.later) if self.following else ()

    @property
    def terms(self) -> PlanTerms:
        return self.contract.terms

    @property
    def on_trial(self) -> bool:
        return self.contract.trial_ends_at is not None


@dataclass(frozen=True, slots=True)
class Gate:
    """When a first invoice has to be paid before anything is given: the account's rules and the contract's own."""

    payment_window: timedelta = timedelta(hours=24)
    net_terms_days: int = 0
    awaits_approval: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A customer at an instant and a ledger position, as values; nothing in it needs the database again.

    `waiting` are buckets that the proposed plan left behind. `use` is that of open windows by balance, `closed_use`
    that of windows that ended and wait for the renewal.
    """

    customer_id: int
    customer_name: str
    currency: str
    usage_anchor: datetime
    at: datetime
    ledger: int
    held: Held | None
    others: tuple[Contract, ...]
    default: Contract | None
    anchor_of_product: datetime | None
    buckets: tuple[Bucket, ...]
    waiting: tuple[Bucket, ...]
    use: dict[int, RatedUse]
    closed_use: tuple[RatedUse, ...]
    fees: tuple[BilledFee, ...]
    rules: BillingRules
    gate: Gate
    charged: int = 0
    had_trial: bool = False
    gated: tuple[int, ...] = ()
    specials: tuple[Special, ...] = ()
    pending: tuple[Line, ...] = ()
    overrides: tuple[Override, ...] = ()

    @property
    def account_credit(self) -> int:
        return self.rules.account_credit

    def levels(self, terms: PlanTerms) -> dict[str, Decimal]:
        """How much of each level (seats) is in use, by the keys of these terms."""
        own = (self.held.subscription_id, None) if self.held else None
        used = {b.item.feature.slug: b.used for b in self.buckets if b.item.feature and b.is_plan and b.owner == own}
        return {
            item.key: max(Decimal(0), used.get(item.feature.slug, Decimal(0)))
            for item in terms.items
            if item.is_seats and item.feature
        }

    def sold(self, terms: PlanTerms, quantity: int, bought: Mapping[str, Decimal]) -> PlanTerms:
        """Terms as this customer would have them: fees for the quantity, units they buy, seats they use."""
        return terms.sold(quantity, dict(bought) | self.levels(terms))

    @property
    def held_sold(self) -> PlanTerms:
        """What the held contract costs this customer."""
        assert self.held is not None
        contract = self.held.contract
        return self.sold(contract.terms, contract.quantity, dict(contract.bought))

    @property
    def contracts(self) -> list[Contract]:
        """What applies now: the held contract with the others, or the default product."""
        held = [self.held.contract] if self.held else []
        return [*held, *self.others] or ([self.default] if self.default else [])

    @property
    def next_edge(self) -> datetime | None:
        """The next instant at which this position changes by itself: a period, a window, a scheduled change."""
        edges = [b.ends_at for b in self.buckets if b.ends_at and b.ends_at > self.at]
        edges += [at for o in self.overrides for at in (o.starts_at, o.ends_at) if at and at > self.at]
        if self.held:
            following = self.held.following
            dates = (self.held.bills_at, self.held.ends_at, following.phase_starts_at if following else None)
            edges += [date for date in dates if date and date > self.at]
        return min(edges, default=None)

    @property
    def valid_until(self) -> datetime:
        """A preview of this position holds until then: 30 minutes, or the next edge if that comes first."""
        return min([self.at + PREVIEW_LIVES, *([self.next_edge] if self.next_edge else [])])


def held_subscription(customer: Customer, plan: Plan) -> Subscription | None:
    """The live contract that enabling this plan would change: its product's main one, or the add-on itself."""
    live = customer.subscriptions.live().filter(product_id=plan.product_id, add_on=plan.add_on)
    if plan.add_on:
        live = live.filter(phases__version__plan=plan).distinct()
    return live.order_by("started_at", "id").first()


def read_position(
    customer: Customer, plan: Plan, *, at: datetime, ledger: int | None = None, subscription: Subscription | None = None
) -> Position:
    """Read a position as of an instant; `ledger` leaves out use that was counted after an earlier reading."""
    position = ledger_position(customer) if ledger is None else ledger
    later = used_since(customer, position)
    subscription = subscription or held_subscription(customer, plan)
    contracts = [c for c in contracts_at(customer, at) if not c.is_default]
    held = _held(customer, subscription, at) if subscription else None
    others = tuple(c for c in contracts if held is None or c.subscription_id != held.subscription_id)
    rows = [_as_of(row, later) for row in open_rows(customer).select_related("item", "grant", "withheld_by")]
    default = default_contract(customer)
    applying = contracts or ([default] if default else [])
    overrides = overrides_of(customer, min([at, *(row.ends_at for row in rows if row.ends_at)]))
    buckets = tuple(pool_under(overrides, applying, rows, at).buckets)
    return Position(
        customer_id=customer.pk,
        customer_name=customer.name,
        currency=customer.currency,
        usage_anchor=customer.usage_anchor,
        at=at,
        ledger=position,
        held=held,
        others=others,
        default=default,
        anchor_of_product=_product_anchor(customer, plan, at),
        buckets=buckets,
        waiting=_waiting(rows, buckets, plan, at),
        use=_rated(rows, subscription, at),
        closed_use=tuple(rated_use(row) for row in unbilled(subscription, at)) if _bills(subscription) else (),
        fees=tuple(billed_fees(subscription, at)) if subscription else (),
        rules=billing_rules(customer, plan, subscription, at=at, enables=True),
        gate=_gate(subscription),
        charged=_charged(subscription, held, at),
        had_trial=customer.subscriptions.filter(product_id=plan.product_id, trial_ends_at__isnull=False).exists(),
        gated=_gated(customer, plan),
        specials=specials_of(subscription) if subscription else (),
        pending=pending_lines(subscription) if subscription else (),
        overrides=tuple(overrides),
    )


def _gated(customer: Customer, plan: Plan) -> tuple[int, ...]:
    """Phases of this product that wait for their first payment."""
    same = {"customer": customer, "product_id": plan.product_id, "add_on": plan.add_on}
    found = Invoice.objects.gating().filter(subscription__in=Subscription.objects.filter(**same))
    return tuple(found.order_by("gates_id").values_list("gates_id", flat=True))


def _gate(subscription: Subscription | None) -> Gate:
    account = BillingSettings.present()
    own = subscription
    hours = own.payment_window_hours if own and own.payment_window_hours is not None else account.payment_window_hours
    days = own.net_terms_days if own and own.net_terms_days is not None else account.net_terms_days
    asks = own.approve_first_invoice if own and own.approve_first_invoice is not None else None
    return Gate(timedelta(hours=hours), days, account.approve_first_invoices if asks is None else asks)


def _charged(subscription: Subscription | None, held: Held | None, at: datetime) -> int:
    """What counts towards the minimum commitment of the running period already."""
    if subscription is None or held is None or not held.terms.commitment:
        return 0
    period = committed_period(held.history, at, closes=True)
    return charged_in(subscription, period) if period else 0


def _waiting(rows: Sequence[Balance], buckets: Sequence[Bucket], plan: Plan, at: datetime) -> tuple[Bucket, ...]:
    """Open buckets that the proposed plan left behind when the customer left it."""
    counting = {bucket.id for bucket in buckets}
    left = [bucket_of(row) for row in rows if row.plan_id == plan.pk and row.is_promised and row.pk not in counting]
    return tuple(bucket for bucket in left if bucket.ends_at is None or bucket.ends_at > at)


def _as_of(row: Balance, later: dict[int, Decimal]) -> Balance:
    row.used -= later.get(row.pk, Decimal(0))
    return row


def _bills(subscription: Subscription | None) -> TypeGuard[Subscription]:
    """Whether its use is still to be billed: a final invoice was not made yet."""
    return subscription is not None and subscription.settled_at is None


def _rated(rows: Sequence[Balance], subscription: Subscription | None, at: datetime) -> dict[int, RatedUse]:
    if not _bills(subscription):
        return {}
    own = [r for r in rows if r.subscription_id == subscription.pk and r.is_promised]
    own = [row for row in own if without_ended_override(row, at).granted is not None]
    prefetch_related_objects(own, "entries")
    return {row.pk: rated_use(row, used=row.used) for row in own}


def _held(customer: Customer, subscription: Subscription, at: datetime) -> Held | None:
    phases = list(
        subscription.phases.kept().select_related("subscription", "version__plan").order_by("starts_at", "id")
    )
    levels = levels_of(subscription)
    current = next((p for p in phases if p.covers(at)), None)
    if current is None:
        return None
    contract = contract_of(current, customer)
    planned = [p for p in phases if p.starts_at > at and not p.continues(current)]
    coming = [contract_of(p, customer) for p in planned]
    return Held(
        subscription_id=subscription.pk,
        public_id=subscription.public_id,
        phase_id=current.pk,
        contract=contract,
        period=Period(current.starts_at, current.ends_at)
        if current.is_trial
        else plan_period(contract.terms, contract.anchor, at),
        bills_at=subscription.bills_at,
        ends_at=subscription.ends_at,
        following=coming[0] if coming else None,
        later=tuple(coming[1:]),
        of_cohort=bool(planned) and is_of_cohort(planned[0]),
        history=_history(subscription, [stretch_of(p, levels) for p in phases if p.starts_at <= at]),
    )


def _history(subscription: Subscription, stretches: list[Stretch]) -> tuple[Stretch, ...]:
    """What was in force; after a final invoice the last stretch is as free as a trial."""
    if subscription.settled_at is None:
        return tuple(stretches)
    return (*stretches[:-1], replace(stretches[-1], is_trial=True))


def stretch_of(phase: Phase, levels: Mapping[str, Decimal]) -> Stretch:
    """A phase as billing sees it; `levels` are units in use by the slug of their feature."""
    by_key = {
        item.key: levels[item.feature.slug]
        for item in phase.terms().items
        if item.is_seats and item.feature and item.feature.slug in levels
    }
    return Stretch(phase.sold(by_key), phase.anchor, phase.starts_at, phase.ends_at, phase.is_trial)


def levels_of(subscription: Subscription) -> dict[str, Decimal]:
    """Units in use of every level of a contract, by the slug of its feature."""
    return levels_by_contract([subscription]).get(subscription.pk, {})


def levels_by_contract(subscriptions: Iterable[Subscription]) -> dict[int, dict[str, Decimal]]:
    """The same of many, in one query."""
    rows = Balance.objects.promised().filter(
        subscription__in=[s.pk for s in subscriptions], closed_at=None, feature__usage=ALLOCATED
    )
    found: dict[int, dict[str, Decimal]] = {}
    for subscription_id, slug, used in rows.values_list("subscription_id", "feature__slug", "used"):
        found.setdefault(subscription_id or 0, {})[slug] = max(Decimal(0), used)
    return found


def _product_anchor(customer: Customer, plan: Plan, at: datetime) -> datetime | None:
    """Where an add-on's periods are counted from: its product's main contract, if it is invoiced."""
    if not plan.add_on:
        return None
    phase = (
        Phase.objects.in_force(at)
        .filter(
            subscription__customer=customer,
            subscription__product_id=plan.product_id,
            subscription__add_on=False,
            version__plan__kind=Plan.Kind.BILLED,
        )
        .first()
    )
    return phase.anchor if phase else None
