"""The customer's page as plain rows, read in a fixed number of queries; the templates only print."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import takewhile

from django.db.models import Count, DateField, Q, Sum
from django.db.models.functions import Cast, TruncDay

from billing_admin.admin.billing_settings import TERMS
from billing_admin.admin.cancel import CANCEL
from billing_admin.admin.collection import PAUSE
from billing_admin.admin.contracts import ContractRow, contract_row
from billing_admin.admin.enable import ENABLE, permission
from billing_admin.admin.links import link
from billing_admin.coming import NINETY_DAYS, Coming, contract_coming
from billing_admin.flows.collection import pauses
from billing_admin.flows.upcoming import Upcoming, coming, upcoming, use_so_far
from catalog.models import Feature, Plan
from catalog.money import format_rate, grouped
from catalog.periods import ONCE, every
from catalog.terms import BOOLEAN, METERED, STATIC, ItemTerms, PlanTerms
from customers.contracts import MULTIPLYING, Contract, order
from customers.holdings import contract_of, default_contract
from customers.models import Customer, Phase, PriceOverride, Subscription
from customers.states import SubscriptionState
from entitlements.access import Access
from entitlements.balances import ZERO, Bucket, Kind
from entitlements.check import decide_all
from entitlements.models import Balance, FeatureOverride, UsageEvent
from entitlements.pool import Pool, slug_of
from entitlements.readings import bucket_of, open_rows, override_of, pool, pool_under
from invoicing.overrides import read_specials
from invoicing.readings import unbilled_use
from invoicing.special import Special

DAYS = 30
OVERRIDES_READ = 200
MOST_INVOICES = 4  # of one contract within ninety days
Allows = Callable[[str], bool]


# The customer's state, for dots ---------------------------------------------------------------------------------------


def state_of(customer: Customer, subscriptions: Sequence[Subscription]) -> tuple[str, str]:
    """(word, label) of the one state that a reader should see first."""
    if customer.erased_at:
        return "closed", "Erased"
    if customer.closed_at:
        return "closed", "Closed"
    if any(s.state == SubscriptionState.PAST_DUE for s in subscriptions):
        return "past_due", ""
    if any(s.parked_at for s in subscriptions):
        return "failed", "Parked"
    if any(is_canceling(s) for s in subscriptions):
        return "pending_payment", "Canceling"
    if subscriptions and all(s.state == SubscriptionState.TRIALING for s in subscriptions):
        return "trialing", ""
    if subscriptions and all(s.state == SubscriptionState.SCHEDULED for s in subscriptions):
        return "pending_payment", f"Begins {min(s.started_at for s in subscriptions):%-d %b %Y}"
    return ("active", "") if subscriptions else ("off", "No plan")


def is_canceling(subscription: Subscription) -> bool:
    """An end was asked for, not agreed on from the start."""
    return subscription.ends_at is not None and subscription.end_reason == "canceled"


# Products -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The next change of a contract, and in words those after it."""

    at: datetime
    title: str
    price: str
    then: tuple[tuple[datetime, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ProductRow:
    """One contract of the customer, or the default product that applies because there is none."""

    title: str
    version: str
    custom_reason: str
    price: str
    state: tuple[str, str]
    limits: tuple[str, ...]
    quantity: int = 1
    add_on: bool = False
    since: datetime | None = None
    renews_at: datetime | None = None
    ends_at: datetime | None = None
    waits: bool = False
    canceling: bool = False
    scheduled: Scheduled | None = None
    parked_because: str = ""
    paused: str = ""
    collection_url: str = ""
    change_url: str = ""
    cancel_url: str = ""
    withdraw_url: str = ""
    contract: ContractRow = field(default_factory=ContractRow)
    terms_url: str = ""

    @property
    def is_custom(self) -> bool:
        return bool(self.custom_reason)


def price_of(terms: PlanTerms, quantity: int = 1) -> str:
    """`$50.00 / month`, `$50.00 / month + use`, `Pay per use`, `Free`; of a mirrored plan what Stripe asks for."""
    if not terms.is_invoiced and terms.kind != Plan.Kind.STRIPE:
        return "Not invoiced"
    by_cadence: dict[str, Decimal] = {}
    for item in terms.sold(quantity).fees:
        if item.amount:
            by_cadence[item.cadence] = by_cadence.get(item.cadence, ZERO) + item.amount * item.quantity
    fees = [
        f"{format_rate(amount, terms.currency)} {'once' if cadence == ONCE else f'/ {every(cadence)}'}"
        for cadence, amount in by_cadence.items()
    ]
    paid_use = any(item.price and (item.is_usage or item.is_instant) for item in terms.items)
    if not fees and terms.kind == Plan.Kind.STRIPE:
        return "Priced in Stripe"
    if not fees:
        return "Pay per use" if paid_use else "Free"
    return " + ".join(fees) + (" + use" if paid_use else "")


def limits_of(terms: PlanTerms, standard: PlanTerms | None, quantity: int = 1) -> tuple[str, ...]:
    """What is promised, in words; a custom plan says the standard value where it differs."""
    return tuple(_limit(item, standard, terms, quantity) for item in terms.items if item.feature)


def _limit(item: ItemTerms, standard: PlanTerms | None, terms: PlanTerms, quantity: int) -> str:
    assert item.feature is not None
    times = quantity if terms.kind in MULTIPLYING and item.feature.type == METERED else 1
    text = _promise(item, times)
    before = standard.for_feature(item.feature.slug) if standard else None
    if standard is None or (before and before.describe_allowance() == item.describe_allowance()):
        return text
    return f"{text} ({'not in the standard plan' if before is None else f'standard {_amount(before, times)}'})"


def _promise(item: ItemTerms, times: int) -> str:
    assert item.feature is not None
    name = item.feature.name
    if item.feature.type == BOOLEAN:
        return name
    if item.feature.type == STATIC:
        return f"{name}: {item.describe_allowance()}"
    resets = "" if item.reset == "never" else f" / {every(item.reset)}"
    if not item.unlimited and not item.granted and item.price is not None:
        return f"{name} by use"
    return f"{_amount(item, times)} {name.lower() if name[1:].islower() else name}{resets}"


def _amount(item: ItemTerms, times: int) -> str:
    return item.describe_allowance() if item.granted is None else grouped(item.granted * times)


def product_row(
    customer: Customer, subscription: Subscription, now: datetime, allows: Allows, accesses: Sequence[Access] = ()
) -> ProductRow:
    """Reads only what `with_phases` prefetched. The acts a person may not do have no address."""
    begins = subscription.state == SubscriptionState.SCHEDULED
    phase = subscription.phase_at(now) or subscription.kept_phases()[0 if begins else -1]
    terms, version = phase.terms(), phase.version
    if version.plan.is_read_only:
        allows = nothing
    custom = getattr(version, "custom", None)
    following = None if begins else subscription.next_phase(now)
    later = [] if begins else subscription.later_phases(now)
    canceling = is_canceling(subscription)
    state = state_of(customer, [subscription])
    return ProductRow(
        title=title_of(phase),
        version=version.label,
        custom_reason=custom.reason if custom else "",
        price=price_of(terms, phase.quantity),
        state=state,
        limits=limits_of(terms, custom.base_version.terms() if custom else None, phase.quantity),
        quantity=phase.quantity,
        add_on=subscription.add_on,
        since=subscription.started_at,
        renews_at=None if subscription.ends_at else subscription.period_ends_at,
        ends_at=subscription.ends_at,
        waits=begins and subscription.waits_for_payment,
        canceling=canceling,
        scheduled=scheduled(phase, following, later) if following else None,
        parked_because=subscription.parked_because if subscription.parked_at else "",
        paused=paused_words(subscription, now),
        collection_url=collection_url(subscription, now) if terms.is_invoiced and allows(PAUSE) else "",
        change_url=change_url(customer, subscription, phase) if allows(permission(version.plan)) and not begins else "",
        cancel_url=link("cancel_subscription", subscription.public_id) if allows(CANCEL) and not canceling else "",
        withdraw_url=withdraw_url(subscription, following, allows)
        if (following or canceling) and subscription.settled_at is None
        else "",
        contract=contract_row(
            subscription, phase, accesses, now, allows, ENABLE if version.tailored else permission(version.plan)
        ),
        terms_url=link("contract_terms", subscription.public_id) if terms.is_invoiced and allows(TERMS) else "",
    )


def nothing(_permission: str) -> bool:
    """What follows Stripe is changed there, whoever asks."""
    return False


def paused_words(subscription: Subscription, now: datetime) -> str:
    """`until 1 Jun 2026: void them`; nothing while invoices are collected."""
    if not pauses(subscription, now):
        return ""
    resumes, behavior = subscription.collection_resumes_at, subscription.collection_behavior
    until = f"until {resumes:%-d %b %Y}" if resumes else "until somebody resumes it"
    return f"{until}: {Subscription.WhilePaused(behavior).label.lower()}"


def collection_url(subscription: Subscription, now: datetime) -> str:
    if not subscription.is_live:
        return ""
    return link("resume_collection" if pauses(subscription, now) else "pause_collection", subscription.public_id)


def change_url(customer: Customer, subscription: Subscription, phase: Phase) -> str:
    return link("enable_plan", customer.pk, plan=phase.version.plan.key, subscription=subscription.public_id)


def withdraw_url(subscription: Subscription, following: Phase | None, allows: Allows) -> str:
    """Whoever may make a change may take it back; the same goes for a cancellation."""
    needed = CANCEL
    if following is not None:
        needed = ENABLE if following.version.tailored else permission(following.version.plan)
    return link("withdraw_change", subscription.public_id) if allows(needed) else ""


def scheduled(phase: Phase, following: Phase, later: Sequence[Phase] = ()) -> Scheduled:
    name = following.version.plan.name
    if following.version.tailored:
        name += " (custom)"
    elif phase.version.tailored and following.version.plan_id == phase.version.plan_id:
        name += " (standard)"
    if following.quantity != phase.quantity:
        name += f" × {following.quantity}"
    then = tuple((each.starts_at, price_of(each.terms(), each.quantity)) for each in later)
    return Scheduled(following.starts_at, name, price_of(following.terms(), following.quantity), then)


def title_of(phase: Phase) -> str:
    return str(phase.version.plan.title)


def default_row(contract: Contract) -> ProductRow:
    return ProductRow(
        title=contract.plan_name,
        version="",
        custom_reason="",
        price=price_of(contract.terms),
        state=("default", "Default product"),
        limits=limits_of(contract.terms, None),
    )


# Features -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One bucket under a feature that has several, or whose bucket was edited."""

    name: str
    bucket: Bucket
    ledger_url: str
    void_url: str = ""

    @property
    def by_hand(self) -> Decimal:
        """What staff added or took; what an override withholds, or the cap of a rollover trimmed, is no edit."""
        return ZERO if self.bucket.kind is Kind.ROLLOVER else self.bucket.adjusted + self.bucket.withheld

    @property
    def adjusted(self) -> str:
        """`+150`, `−20`; nothing when nobody edited it."""
        return f"+{grouped(self.by_hand)}" if self.by_hand > 0 else grouped(self.by_hand)

    @property
    def kind(self) -> str:
        """What it comes from, where its name does not say so."""
        return self.bucket.kind.value if self.bucket.is_extra else ""

    @property
    def recurs(self) -> str:
        """`500 every month`, of a grant that comes again."""
        terms = self.bucket.grant
        return f"{grouped(terms.units)} every {every(terms.recurs)}" if terms and terms.recurs else ""


def bucket_name(bucket: Bucket, owners: Mapping[tuple[int | None, int | None], str]) -> str:
    """What a bucket is called: after its plan, or by its own label; an override says on which level it stands."""
    if bucket.is_plan:
        return owners.get(bucket.owner, "Plan")
    if bucket.kind is Kind.OVERRIDE:
        return f"Override on {owners.get(bucket.owner, 'a plan')}" if bucket.owner[0] else "Override"
    return bucket.label or bucket.kind.value.capitalize()


@dataclass(frozen=True, slots=True)
class FeatureRow:
    slug: str
    name: str
    unit: str
    access: Access
    buckets: tuple[BucketRow, ...]
    days: tuple[Decimal, ...]
    overage_cost: int
    currency: str
    edit_url: str
    ledger_url: str
    coming: tuple[BucketRow, ...] = ()

    @property
    def is_metered(self) -> bool:
        return self.access.type == METERED

    @property
    def is_boolean(self) -> bool:
        return self.access.type == BOOLEAN

    @property
    def pays_at_once(self) -> bool:
        """Nothing is included: the wallet pays each event."""
        return bool(self.access.buckets) and all(b.item.is_instant and not b.adjusted for b in self.access.buckets)

    @property
    def is_paid_ahead(self) -> bool:
        """A level that is paid for beyond what is included: going over it is no overrun."""
        return any(b.item.is_seats for b in self.access.buckets)

    @property
    def allowance(self) -> Decimal | None:
        """What use is measured against: what was granted and what staff added."""
        if self.access.unlimited:
            return None
        return max(ZERO, sum(((b.granted or ZERO) + b.adjusted for b in self.access.buckets), ZERO))

    @property
    def used(self) -> Decimal:
        """Of the allowance and of bonuses."""
        return self.access.used + (self.access.bonus.used if self.access.bonus else ZERO)

    @property
    def is_edited(self) -> bool:
        return any(b.adjusted for b in self.access.buckets)

    @property
    def is_closed(self) -> bool:
        """An override lets nobody use it."""
        return self.access.reason == "no_access"

    @property
    def is_overridden(self) -> bool:
        return bool(self.access.overrides)

    @property
    def shows_buckets(self) -> bool:
        beside = any(not part.bucket.is_plan or part.bucket.withheld for part in self.buckets)
        return len(self.buckets) > 1 or self.is_edited or beside or bool(self.coming)

    @property
    def value(self) -> str:
        """A static feature's value, for people."""
        found = self.access.value
        return "unlimited" if self.access.unlimited else grouped(found) if isinstance(found, Decimal) else str(found)


def feature_rows(
    customer: Customer,
    contracts: Sequence[Contract],
    accesses: Iterable[Access],
    features: dict[str, Feature],
    days: dict[int, list[Decimal]],
    costs: dict[int, int],
    coming: Iterable[Bucket] = (),
) -> list[FeatureRow]:
    owners: dict[tuple[int | None, int | None], str] = {
        (c.subscription_id, None) if c.follows_contract else (None, c.plan_id): c.plan_name for c in reversed(contracts)
    }
    currency = next((c.terms.currency for c in contracts), customer.currency)
    rows = []
    for access in accesses:
        feature = features[access.feature]
        buckets = tuple(_bucket_row(customer, b, owners) for b in access.buckets)
        limited = [b for b in access.buckets if not b.unlimited and not b.is_extra]
        rows.append(
            FeatureRow(
                slug=feature.slug,
                name=feature.name,
                unit=feature.unit,
                access=access,
                buckets=buckets,
                days=tuple(days.get(feature.pk, ())),
                overage_cost=sum(costs.get(b.id or 0, 0) for b in access.buckets),
                currency=currency,
                edit_url=link("customer_balance", customer.pk, feature.slug) if limited else "",
                ledger_url=next((b.ledger_url for b in buckets if b.ledger_url), ""),
                coming=tuple(_bucket_row(customer, b, owners) for b in coming if slug_of(b) == feature.slug),
            )
        )
    return rows


def _bucket_row(customer: Customer, bucket: Bucket, owners: Mapping[tuple[int | None, int | None], str]) -> BucketRow:
    return BucketRow(
        bucket_name(bucket, owners),
        bucket,
        link("customer_ledger", customer.pk, bucket.id) if bucket.id else "",
        link("grant_void", bucket.grant.id) if bucket.grant else "",
    )


# Everything together --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the events' chart: `share` is its height in percent of the highest."""

    at: datetime
    count: int
    share: int


@dataclass(frozen=True, slots=True)
class CustomerPanels:
    state: tuple[str, str]
    products: tuple[ProductRow, ...]
    features: tuple[FeatureRow, ...]
    upcoming: tuple[Upcoming, ...]
    overrides: tuple[tuple[Special, PriceOverride], ...]
    days: tuple[Day, ...]
    contracts: tuple[Contract, ...] = ()
    overridden: tuple[FeatureOverride, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    coming: tuple[Coming, ...] = ()


def read_panels(customer: Customer, *, now: datetime, allows: Allows) -> CustomerPanels:
    """Products, features and what is billed next, in at most ten queries whatever the customer holds."""
    subscriptions = list(customer.subscriptions.standing().with_phases())
    contracts = _contracts(customer, subscriptions, now)
    features: dict[str, Feature] = {}
    overridden = read_overrides(customer)
    rows = list(open_rows(customer))
    accesses = decide_all(contracts, _pool(customer, contracts, rows, overridden, now), features)
    use = unbilled_use(subscriptions) if any(_bills_use(c) for c in contracts) else {}
    terms = {c.subscription_id: c.terms for c in contracts}
    costs = {
        row.pk: use_so_far(row, terms[owner])
        for owner, rows in use.items()
        for row in rows
        if owner in terms and terms[owner].is_invoiced
    }
    units, days = read_days(customer, now=now)
    overrides = _overrides(subscriptions)
    return CustomerPanels(
        state=state_of(customer, subscriptions),
        products=tuple(product_row(customer, s, now, allows, accesses) for s in subscriptions)
        or tuple(default_row(c) for c in contracts if c.is_default),
        features=tuple(feature_rows(customer, contracts, accesses, features, units, costs, _coming(rows, now))),
        upcoming=tuple(sorted(_upcoming(subscriptions, use, overrides), key=lambda u: u.at)),
        overrides=overrides,
        days=days,
        contracts=tuple(contracts),
        overridden=tuple(overridden),
        subscriptions=tuple(subscriptions),
        coming=tuple(_next_days(subscriptions, use, overrides, now)),
    )


def read_overrides(customer: Customer) -> list[FeatureOverride]:
    """The newest overrides of features, whatever their dates: the panel shows them and the pool asks them."""
    rows = customer.feature_overrides.select_related("feature__meter", "subscription__product", "batch")
    return list(rows.order_by("-id")[: OVERRIDES_READ + 1])


def _coming(rows: Iterable[Balance], now: datetime) -> list[Bucket]:
    """Grants whose first window is still to come, the soonest first."""
    return [
        bucket_of(row) for row in sorted(rows, key=lambda row: row.starts_at) if row.is_extra and row.starts_at > now
    ]


def _pool(
    customer: Customer,
    contracts: Sequence[Contract],
    rows: Sequence[Balance],
    read: Sequence[FeatureOverride],
    now: datetime,
) -> Pool:
    if len(read) > OVERRIDES_READ:  # then an older one may count as well
        return pool(customer, contracts, rows, now)
    return pool_under([override_of(row) for row in read], contracts, rows, now)


def _upcoming(
    subscriptions: Sequence[Subscription],
    use: Mapping[int, list[Balance]],
    overrides: Iterable[tuple[Special, PriceOverride]],
) -> Iterator[Upcoming]:
    for s in subscriptions:
        specials = [special for special, row in overrides if row.subscription_id == s.pk]
        if found := upcoming(s, use.get(s.pk, []), specials=specials):
            yield found


def _next_days(
    subscriptions: Sequence[Subscription],
    use: Mapping[int, list[Balance]],
    overrides: Iterable[tuple[Special, PriceOverride]],
    now: datetime,
) -> Iterator[Coming]:
    """What comes for the contracts within the panel's days, from rows that were read."""
    until = now + NINETY_DAYS
    for s in subscriptions:
        specials = [special for special, row in overrides if row.subscription_id == s.pk]
        invoices = coming(s, use.get(s.pk, []), specials=specials, most=MOST_INVOICES)
        yield from contract_coming(s, takewhile(lambda invoice: invoice.at < until, invoices), now=now, until=until)


def _overrides(subscriptions: Sequence[Subscription]) -> tuple[tuple[Special, PriceOverride], ...]:
    """Special prices of these contracts, each with the contract and its phases as they were read."""
    held = {s.pk: s for s in subscriptions}
    rows = list(PriceOverride.objects.filter(subscription__in=held).order_by("id"))
    for row in rows:
        row.subscription = held[row.subscription_id]
    return tuple(read_specials(rows))


def _contracts(customer: Customer, subscriptions: Iterable[Subscription], now: datetime) -> list[Contract]:
    phases = [phase for s in subscriptions if (phase := s.phase_at(now))]
    held = order(contract_of(phase, customer) for phase in phases)
    if held or customer.closed_at:
        return held
    return [c for c in [default_contract(customer)] if c]


def _bills_use(contract: Contract) -> bool:
    return contract.terms.is_invoiced and any(item.price for item in contract.terms.usage_items)


def read_days(
    customer: Customer, *, now: datetime, among: Q | None = None
) -> tuple[dict[int, list[Decimal]], tuple[Day, ...]]:
    """Units per feature and day, and events per day, of the last 30 days (today last), in one query."""
    first = (now - timedelta(days=DAYS - 1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    counted = (
        UsageEvent.objects.since(first)
        .filter(among or Q(), customer=customer, voided_at=None)
        .order_by()
        .annotate(day=Cast(TruncDay("at", tzinfo=UTC), DateField()))
        .values("feature_id", "day")
        .annotate(units=Sum("taken"), events=Count("id"))
    )
    units: dict[int, list[Decimal]] = {}
    events = [0] * DAYS
    for row in counted:
        place = (row["day"] - first.date()).days
        if 0 <= place < DAYS:
            units.setdefault(row["feature_id"], [ZERO] * DAYS)[place] = row["units"]
            events[place] += row["events"]
    top = max(events) or 1
    days = tuple(
        Day(first + timedelta(days=place), count, round(count * 100 / top)) for place, count in enumerate(events)
    )
    return units, days


def balances_of(customer: Customer, feature: Feature) -> list[Balance]:
    """All windows of a feature, newest first: what the ledger page lists beside the one shown."""
    rows = Balance.objects.filter(customer=customer, feature=feature).select_related("item__version__plan")
    return list(rows.order_by("-starts_at", "-id")[:24])
