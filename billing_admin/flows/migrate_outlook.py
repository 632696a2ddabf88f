"""What a migration would mean, contract by contract: prices, lost access, who cannot be moved and why. Writes nothing.

The same look at a contract is taken when its turn comes, under its customer's lock. It reads the contracts of a batch
in a fixed number of queries.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError

from billing_admin.flows.change import carry_bought, restarts_cycle
from billing_admin.flows.migrate_order import Order, Timing, check_order, choose, differing
from billing_admin.flows.migrate_terms import WHY, lost_access, price_of
from billing_admin.flows.plan_change import Proposal
from billing_admin.flows.plan_change import Timing as ChangeTiming
from billing_admin.flows.position import Held
from catalog.models import Plan
from catalog.money import grouped
from catalog.terms import ChangeKind, PlanTerms, compare
from customers.contracts import Contract
from customers.holdings import contract_of
from customers.models import Phase, Subscription
from customers.states import SubscriptionState
from customers.switch import plan_period
from entitlements.models import Balance
from invoicing.overrides import specials_by_contract
from invoicing.special import Special, priced_items

CHUNK = 500
# So many different cards, as sold, are kept while a cohort is looked at.
MOST_KEPT = 1_000
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RowOutlook:
    """What a migration would mean for one contract. Prices are of one period of the present cadence, minor units,
    without use, coupons and special prices. `at` is when the new version begins (None: at once, or never); `lost` is
    access that goes away, `above` what is in use beyond the new allowance. With a `code` it is left alone.
    """

    subscription_id: int
    subscription: str
    customer_id: int
    customer: str
    customer_name: str
    quantity: int
    currency: str
    old_price: int
    new_price: int
    at: datetime | None = None
    lost: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    code: str = ""
    problem: str = ""
    phase_id: int = field(default=0, compare=False)
    anchor: datetime | None = field(default=None, compare=False)
    bought: tuple[tuple[str, Decimal], ...] = ()

    @property
    def is_skipped(self) -> bool:
        return bool(self.code)

    @property
    def difference(self) -> int:
        return self.new_price - self.old_price

    def facts(self) -> tuple:
        """What must not move between looking and doing; use does, all the time."""
        money = (self.old_price, self.new_price, self.currency, self.quantity)
        return self.subscription_id, self.phase_id, *money, str(self.at), self.lost, self.code, repr(self.bought)


@dataclass(frozen=True, slots=True)
class Sum:
    """Of the contracts that would move, a period of the present cadence, minor units."""

    old: int = 0
    new: int = 0

    @property
    def difference(self) -> int:
        return self.new - self.old


@dataclass(frozen=True, slots=True)
class Outlook:
    """A dry run: every chosen contract with what it would mean. `differing` are the prices that differ."""

    order: Order
    rows: tuple[RowOutlook, ...]
    differing: tuple[str, ...]
    fingerprint: str

    @property
    def moving(self) -> list[RowOutlook]:
        return [row for row in self.rows if not row.code]

    @property
    def skipped(self) -> list[RowOutlook]:
        return [row for row in self.rows if row.code]

    @property
    def moves(self) -> int:
        return sum(not row.code for row in self.rows)

    @property
    def skips(self) -> dict[str, int]:
        """How many are left alone, by code."""
        return dict(sorted(Counter(row.code for row in self.rows if row.code).items()))

    @property
    def losing(self) -> int:
        """How many of those that would move lose access to something."""
        return sum(bool(row.lost) for row in self.rows if not row.code)

    @property
    def sums(self) -> dict[str, Sum]:
        """By currency, of those that would move."""
        found: dict[str, Sum] = {}
        for row in self.rows:
            if not row.code:
                so_far = found.get(row.currency, Sum())
                found[row.currency] = Sum(so_far.old + row.old_price, so_far.new + row.new_price)
        return found


class OutlookMoved(ValidationError):
    """Something of what was shown has changed since; `outlook` is how it would be now."""

    def __init__(self, outlook: Outlook):
        self.outlook = outlook
        super().__init__(
            "Something changed since the dry run was made. Look at the new one and confirm again.", "dry_run_outdated"
        )


def dry_run(order: Order, now: datetime) -> Outlook:
    """What the migration would do to each chosen contract. Raises `CannotMigrate`, `BadMapping`, `BadRows`."""
    check_order(order)
    rows = tuple(stream(order, now))
    return Outlook(order, rows, differing(order), fingerprint(order, rows))


def stream(order: Order, now: datetime) -> Iterator[RowOutlook]:
    """The same row by row, a batch of contracts at a time, in the order of their ids."""
    ids = list(choose(order.from_version, order.chosen, now).values_list("pk", flat=True))
    look = Look(order)
    for start in range(0, len(ids), CHUNK):
        yield from look.at(ids[start : start + CHUNK], now)


def fingerprint(order: Order, rows: Iterable[RowOutlook]) -> str:
    """Everything that was shown, in one word."""
    digest = hashlib.sha256(json.dumps(order.to_json(), sort_keys=True).encode())
    for row in rows:
        digest.update(repr(row.facts()).encode())
    return digest.hexdigest()[:32]


# One look at several contracts ----------------------------------------------------------------------------------------


@dataclass
class _World:
    """What the contracts of a batch need to know, read at once."""

    now: datetime
    phases: dict[int, list[Phase]]
    used: dict[tuple[int, str], Decimal]
    specials: Mapping[int, tuple[Special, ...]]


class Look:
    """How one order looks at contracts; what all of them share is made once."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.old, self.new, self.keys = order.old, order.new, order.keys
        self.plan = order.plan
        self._lost: dict[tuple, tuple[str, ...]] = {}
        self._as_sold: dict[tuple, tuple[PlanTerms, int]] = {}

    def at(self, contracts: Sequence[int], now: datetime) -> list[RowOutlook]:
        """The outlook of each of these contracts, in their order; those that are gone are left out."""
        rows = Subscription.objects.filter(pk__in=contracts).select_related("customer").order_by("pk")
        found = list(rows)
        world = self._read(found, now)
        return [self._row(subscription, world) for subscription in found]

    def _read(self, contracts: Sequence[Subscription], now: datetime) -> _World:
        own = {subscription.pk: subscription for subscription in contracts}
        phases: dict[int, list[Phase]] = {key: [] for key in own}
        rows = Phase.objects.filter(subscription__in=own, withdrawn_at=None).exclude(ends_at__lte=now)
        for phase in rows.select_related("version__plan").order_by("starts_at", "id"):
            phase.subscription = own[phase.subscription_id]
            phases[phase.subscription_id].append(phase)
        return _World(now, phases, self._used(own), specials_by_contract(contracts))

    def _used(self, own: Mapping[int, Subscription]) -> dict[tuple[int, str], Decimal]:
        """Units in use by contract and feature."""
        rows = Balance.objects.promised().filter(closed_at=None)
        if self.plan.kind == Plan.Kind.BILLED:
            found = rows.filter(subscription__in=own).values_list("subscription_id", "feature__slug", "used")
            return {(key, slug): max(Decimal(0), used) for key, slug, used in found}
        by_customer = {subscription.customer_id: key for key, subscription in own.items()}
        found = rows.filter(plan=self.plan, customer__in=by_customer).values_list(
            "customer_id", "feature__slug", "used"
        )
        return {(by_customer[customer], slug): max(Decimal(0), used) for customer, slug, used in found}

    def _row(self, subscription: Subscription, world: _World) -> RowOutlook:
        phases = [phase for phase in world.phases[subscription.pk] if phase.pending_since is None]
        phase = next((p for p in phases if p.covers(world.now)), None)
        customer = subscription.customer
        row = RowOutlook(
            subscription_id=subscription.pk,
            subscription=subscription.public_id,
            customer_id=customer.pk,
            customer=customer.customer_id,
            customer_name=customer.name,
            quantity=subscription.quantity,
            currency=self.plan.currency,
            old_price=0,
            new_price=0,
        )
        if phase is None:
            return _skipped(row, "not_on_version", old=self.order.from_version)
        return self._seen(row, subscription, phase, phases, world)

    def _seen(
        self, row: RowOutlook, subscription: Subscription, phase: Phase, phases: list[Phase], world: _World
    ) -> RowOutlook:
        contract = contract_of(phase, subscription.customer)
        present = phase.terms()
        units = phase.bought_units() | self._levels(subscription, present, world)
        before, price = self._sold(present, phase.quantity, units, present.cadence)
        row = replace(row, quantity=phase.quantity, old_price=price, new_price=price, phase_id=phase.pk)
        if phase.version.tailored:
            return _skipped(row, "custom_plan")
        proposal = proposal_for(self, contract)
        units = dict(proposal.bought) | self._levels(subscription, self.new, world)
        after, new_price = self._sold(self.new, phase.quantity, units, present.cadence)
        row = replace(
            row,
            new_price=new_price,
            lost=self._lost_by(phase, proposal),
            above=self._above(subscription, proposal, phase, world),
            bought=proposal.bought,
        )
        code, words = self._conflict(subscription, phase, phases, before, after, world)
        if code:
            return _skipped(row, code, **words)
        if self.order.timing == Timing.NOW:
            return row
        at = self._begins(present, phase.anchor, world.now)
        if at is None:
            return _skipped(row, "no_cycle")
        held = _held(subscription, phase, contract, world.now)
        return replace(row, at=at, anchor=at if restarts_cycle(held, proposal) else phase.anchor)

    def _sold(
        self, terms: PlanTerms, quantity: int, units: Mapping[str, Decimal], cadence: str
    ) -> tuple[PlanTerms, int]:
        """Terms as they are sold, with what a period of the cadence costs; most contracts have the same ones."""
        made = (terms.version_id, quantity, tuple(sorted(units.items())), cadence)
        if made not in self._as_sold:
            if len(self._as_sold) == MOST_KEPT:
                self._as_sold.clear()
            card = terms.sold(quantity, units)
            self._as_sold[made] = card, price_of(card, cadence)
        return self._as_sold[made]

    def _levels(self, subscription: Subscription, terms: PlanTerms, world: _World) -> dict[str, Decimal]:
        """Levels (seats) in use, by the keys of these terms."""
        return {
            item.key: world.used.get((subscription.pk, item.feature.slug), Decimal(0))
            for item in terms.items
            if item.is_seats and item.feature
        }

    def _begins(self, terms: PlanTerms, anchor: datetime, now: datetime) -> datetime | None:
        """The first boundary of the plan's periods after now, and not before the date that was asked for."""
        since = now if self.order.not_before is None else max(now, self.order.not_before - INSTANT)
        period = plan_period(terms, anchor, since)
        return period.ends_at if period else None

    def _conflict(
        self,
        subscription: Subscription,
        phase: Phase,
        phases: Sequence[Phase],
        before: PlanTerms,
        after: PlanTerms,
        world: _World,
    ) -> tuple[str, dict[str, object]]:
        """Why the contract is left alone, as a code with the words of its sentence; empty when it is not."""
        waiting = any(p.pending_since is not None for p in world.phases[subscription.pk])
        following = next((p for p in phases if p.starts_at > world.now and not p.continues(phase)), None)
        if phase.version.plan.kind == Plan.Kind.STRIPE:
            return "follows_stripe", {}
        if not subscription.is_live or phase.version_id != self.order.from_version.pk:
            return "not_on_version", {"old": self.order.from_version}
        if subscription.parked_at is not None:
            return "parked", {}
        if waiting or subscription.state == SubscriptionState.PENDING_PAYMENT:
            return "pending_payment", {}
        if following is not None:
            return "scheduled_change", {"day": following.starts_at}
        if subscription.ends_at is not None:
            return "end_planned", {"day": subscription.ends_at}
        if self.order.timing == Timing.NOW:
            if compare(before, after) not in (ChangeKind.FEATURES, ChangeKind.NOTHING):
                return _DIFFERS
        elif phase.is_trial:
            return "on_trial", {"day": phase.ends_at}
        left = self._left_behind(world.specials.get(subscription.pk, ()), world.now)
        return ("override_dropped", {"item": left}) if left else ("", {})

    def _left_behind(self, specials: Iterable[Special], now: datetime) -> str:
        """The item of a special price that is still in force and has nothing to follow to; empty when there is none."""
        targets = {item.key for item in priced_items(self.new)}
        for special in specials:
            if special.until is None and special.left != 0 and special.plan_id == self.plan.pk:
                key = special.key_at(now)  # an earlier move may have given it another one
                item = self.old.item(key) if key else None
                if item is not None and self.keys.get(item.key) not in targets:
                    return item.label
        return ""

    # Access

    def _lost_by(self, phase: Phase, proposal: Proposal) -> tuple[str, ...]:
        made = (phase.quantity, proposal.bought, tuple(sorted(phase.bought_units().items())))
        if made not in self._lost:
            before, after = self.old.sold(bought=phase.bought_units()), proposal.card
            self._lost[made] = tuple(lost_access(before, after, self._times(phase.quantity)))
        return self._lost[made]

    def _times(self, quantity: int) -> int:
        return quantity if self.plan.kind == Plan.Kind.BILLED else 1

    def _above(self, subscription: Subscription, proposal: Proposal, phase: Phase, world: _World) -> tuple[str, ...]:
        """What is in use beyond an allowance that becomes smaller."""
        before, after, times = self.old.sold(bought=phase.bought_units()), proposal.card, self._times(phase.quantity)
        found = []
        for item in before.metered:
            assert item.feature is not None
            new, used = after.for_feature(item.feature.slug), world.used.get((subscription.pk, item.feature.slug))
            if new is None or new.granted is None or used is None:
                continue
            shrinks = item.granted is None or new.granted < item.granted
            if shrinks and used > new.granted * times:
                found.append(f"{item.label}: {grouped(used)} in use, {grouped(new.granted * times)} included then")
        return tuple(found)


_DIFFERS: tuple[str, dict[str, object]] = ("prices_differ", {})


def proposal_for(look: Look, contract: Contract) -> Proposal:
    """The new version for one contract: its quantity and the units it bought, by the mapping of their items."""
    new, held = look.new, dict(contract.bought)
    named = {}
    for key, units in held.items():
        target = look.keys.get(key)
        item = new.item(target) if target else None
        if item is not None and item.is_prepaid:
            named[item.key] = units
    dropped = {item.key: Decimal(0) for item in new.items if item.is_prepaid and item.key not in named}
    proposal = Proposal(
        plan_id=look.plan.pk,
        plan_name=look.plan.name,
        kind=look.plan.kind,
        add_on=look.plan.add_on,
        terms=new,
        standard=new,
        version_id=new.version_id,
        quantity=contract.quantity,
        timing=ChangeTiming.NOW if look.order.timing == Timing.NOW else ChangeTiming.CYCLE_END,
        bought=tuple(sorted((dropped | named).items())),
    )
    return carry_bought(None, proposal)


def _held(subscription: Subscription, phase: Phase, contract: Contract, now: datetime) -> Held:
    return Held(
        subscription_id=subscription.pk,
        public_id=subscription.public_id,
        phase_id=phase.pk,
        contract=contract,
        period=plan_period(contract.terms, contract.anchor, now),
        bills_at=subscription.bills_at,
        ends_at=subscription.ends_at,
        following=None,
    )


def _skipped(row: RowOutlook, code: str, **words: object) -> RowOutlook:
    said = {name: f"{value:%-d %b %Y}" if isinstance(value, datetime) else str(value) for name, value in words.items()}
    return replace(row, code=code, problem=WHY[code].format(**said))
