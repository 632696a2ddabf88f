"""Reading: what is coming across customers, from rows and indexes of their own. Nothing is kept beside them.

Each kind of event is a source: a query that says when it comes and what it asks for. A list takes a page of each in
order of time and merges them; a calendar sums each by day. What runs out after a number of invoices has no date in the
database, so the newest of those are read and their dates derived.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    Exists,
    F,
    Model,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Cast, TruncDay

from billing_admin.coming import (
    Coming,
    Kind,
    Sums,
    change_words,
    end_words,
    phase_words,
    runs_out_at,
    start_words,
    sums_by_day,
)
from billing_admin.flows.override_outlook import words_of
from billing_admin.flows.position import levels_by_contract
from billing_admin.flows.upcoming import Upcoming, upcoming
from catalog.coupons import gives
from catalog.models import Coupon
from catalog.money import exponent, format_minor
from customers.models import AppliedCoupon, Customer, Phase, PriceOverride, Subscription
from customers.states import APPLYING, LIVE, SubscriptionState
from deals.models import Deal
from entitlements.models import FeatureOverride
from invoicing.manual import pending_by_contract
from invoicing.models import Invoice, InvoiceLine
from invoicing.overrides import read_specials, specials_by_contract
from invoicing.readings import unbilled_use
from invoicing.rewards import counted_periods, left_of
from invoicing.states import InvoiceState

# Of what runs out by the number of its invoices, so many of the newest are looked at.
MOST_COUNTED = 1_000
EVERY_KIND = frozenset(Kind)
# Where the end of a trial is still to come, if there is one.
BEFORE_PAID = (SubscriptionState.SCHEDULED, SubscriptionState.TRIALING)


@dataclass(frozen=True, slots=True)
class Asked:
    """A window `[since, until)` and what it is narrowed to. `least` is in major units of whatever currency."""

    since: datetime
    until: datetime
    kinds: frozenset[Kind] = EVERY_KIND
    product: str = ""
    plan: str = ""
    least: Decimal | None = None

    @property
    def on_contract(self) -> bool:
        """Whether only what belongs to a contract can match."""
        return bool(self.product or self.plan)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: when it comes, its kind's place, its key."""

    at: datetime
    rank: int
    key: int

    def __str__(self) -> str:
        return f"{self.at.astimezone(UTC).isoformat()}~{self.rank}~{self.key}"

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """None for what is no cursor."""
        at, _, rest = text.partition("~")
        rank, _, key = rest.partition("~")
        try:
            found = cls(datetime.fromisoformat(at), int(rank), int(key))
        except ValueError:
            return None
        return found if found.at.tzinfo else None


@dataclass(frozen=True, slots=True)
class Placed:
    """One row and its place in the order of all: `key` is unique within its kind."""

    at: datetime
    kind: Kind
    key: int
    row: Any

    @property
    def place(self) -> tuple[datetime, int, int]:
        return self.at, self.kind.rank, self.key


@dataclass(frozen=True, slots=True)
class Source:
    """A kind whose instants stand in the database. The rows carry `comes_at`, `key`, `asks` (minor units or nothing)
    and `in_currency`."""

    kind: Kind
    rows: Callable[[Asked], "QuerySet[Any]"]
    tell: Callable[[Any], Coming]


# The sources ----------------------------------------------------------------------------------------------------------

NOTHING = Cast(Value(None), BigIntegerField())
NO_CURRENCY = Value("", CharField())
OF_A_PHASE = ("subscription__customer", "subscription__product", "version__plan__product")


def _phases(asked: Asked) -> "QuerySet[Any]":
    """Kept phases of contracts that run or are to begin, narrowed to what was asked for, with their currency."""
    rows: QuerySet[Any] = Phase.objects.kept().filter(subscription__state__in=APPLYING)
    if asked.product:
        rows = rows.filter(subscription__product__key=asked.product)
    if asked.plan:
        rows = rows.filter(version__plan__key=asked.plan)
    return _placed(rows, in_currency=F("version__plan__currency"))


def _placed(rows: "QuerySet[Any]", **columns: Any) -> "QuerySet[Any]":
    """With the columns that every source has."""
    found: QuerySet[Any] = rows.annotate(**columns)
    return found


def _within(asked: Asked, column: str) -> Q:
    return Q(**{f"{column}__gte": asked.since, f"{column}__lt": asked.until})


def _renewals(asked: Asked) -> "QuerySet[Any]":
    """The phase that goes on at the next billing date of its contract: nothing begins then, and nothing ends."""
    at = F("subscription__bills_at")
    rows = _phases(asked).filter(
        Q(ends_at=None) | Q(ends_at__gt=at),
        _within(asked, "subscription__bills_at"),
        starts_at__lt=at,
        subscription__parked_at=None,
    )
    whole = When(subscription__period_ends_at=at, then=F("fees"))
    return _placed(rows, comes_at=at, key=F("subscription_id"), asks=Case(whole, default=F("fees_between")))


def _starts(asked: Asked) -> "QuerySet[Any]":
    """The first phase of contracts that begin on a day to come; a trial asks for nothing yet."""
    rows = _phases(asked).filter(
        _within(asked, "starts_at"),
        subscription__state=SubscriptionState.SCHEDULED,
        starts_at=F("subscription__started_at"),
    )
    asks = Case(When(is_trial=True, then=Value(0, BigIntegerField())), default=F("fees"))
    return _placed(rows, comes_at=F("starts_at"), key=F("id"), asks=asks)


def _changes(asked: Asked) -> "QuerySet[Any]":
    """Scheduled phases, except those that a trial was begun for."""
    after_trial = Q(subscription__state__in=BEFORE_PAID, subscription__trial_ends_at=F("starts_at"))
    rows = _phases(asked).filter(_within(asked, "starts_at"), starts_at__gt=F("subscription__started_at"))
    return _placed(rows.exclude(after_trial), comes_at=F("starts_at"), key=F("id"), asks=F("fees"))


def _trial_ends(asked: Asked) -> "QuerySet[Any]":
    """Trials, asking for the fees of what follows them."""
    rows = _phases(asked).filter(
        _within(asked, "subscription__trial_ends_at"),
        subscription__state__in=BEFORE_PAID,
        is_trial=True,
        ends_at=F("subscription__trial_ends_at"),
    )
    following = Phase.objects.kept().filter(subscription=OuterRef("subscription"), starts_at=OuterRef("ends_at"))
    return _placed(rows, comes_at=F("ends_at"), key=F("id"), asks=Subquery(following.values("fees")[:1]))


def _ends(asked: Asked) -> "QuerySet[Any]":
    """The last phase of contracts with a planned end; that of a trial is told with the trial."""
    at = F("subscription__ends_at")
    in_trial = Q(subscription__state__in=BEFORE_PAID, subscription__trial_ends_at=at)
    rows = _phases(asked).filter(
        Q(ends_at=None) | Q(ends_at__gte=at), _within(asked, "subscription__ends_at"), starts_at__lt=at
    )
    return _placed(rows.exclude(in_trial), comes_at=at, key=F("subscription_id"), asks=NOTHING)


def _drafts(asked: Asked) -> "QuerySet[Any]":
    rows: QuerySet[Any] = Invoice.objects.filter(_within(asked, "issues_at"), state=InvoiceState.DRAFT)
    if asked.product:
        rows = rows.filter(subscription__product__key=asked.product)
    if asked.plan:
        lines = InvoiceLine.objects.filter(invoice=OuterRef("pk"), phase__version__plan__key=asked.plan)
        rows = rows.filter(Exists(lines))
    return _placed(rows, comes_at=F("issues_at"), key=F("id"), asks=F("total"), in_currency=F("currency"))


def _override_ends(asked: Asked) -> "QuerySet[Any]":
    rows: QuerySet[Any] = FeatureOverride.objects.filter(_within(asked, "stops_at")).exclude(
        stops_at=F("effective_from")
    )
    return _placed(
        _of_contract(rows, asked), comes_at=F("stops_at"), key=F("id"), asks=NOTHING, in_currency=NO_CURRENCY
    )


def _coupon_ends(asked: Asked) -> "QuerySet[Any]":
    rows: QuerySet[Any] = AppliedCoupon.objects.filter(_within(asked, "ends_at"), removed_at=None)
    return _placed(_of_contract(rows, asked), comes_at=F("ends_at"), key=F("id"), asks=NOTHING, in_currency=NO_CURRENCY)


def _of_contract(rows: "QuerySet[Any]", asked: Asked) -> "QuerySet[Any]":
    """What stands on a contract or on a customer: narrowed to a product or plan, only the former."""
    if asked.product:
        rows = rows.filter(subscription__product__key=asked.product)
    if asked.plan:
        on = Phase.objects.in_force(asked.since).filter(version__plan__key=asked.plan)
        rows = rows.filter(Exists(on.filter(subscription=OuterRef("subscription"))))
    return rows


def _offer_ends(asked: Asked) -> "QuerySet[Any]":
    rows: QuerySet[Any] = Deal.objects.open().filter(_within(asked, "expires_at"))
    if asked.product:
        rows = rows.filter(base_version__plan__product__key=asked.product)
    if asked.plan:
        rows = rows.filter(base_version__plan__key=asked.plan)
    return _placed(rows, comes_at=F("expires_at"), key=F("id"), asks=NOTHING, in_currency=NO_CURRENCY)


# Told as values -------------------------------------------------------------------------------------------------------


def _coming(kind: Kind, row: Any, what: str, why: str = "", *, customer: Customer | None) -> Coming:
    return Coming(
        kind,
        row.comes_at,
        what,
        why,
        currency=row.in_currency,
        amount=row.asks,
        customer=customer,
        row=row.pk,
    )


def _tell_renewal(row: Phase) -> Coming:
    paused = "collection is paused" if row.subscription.collection_paused_at else ""
    return _coming(Kind.RENEWAL, row, phase_words(row), paused, customer=row.subscription.customer)


def _tell_start(row: Phase) -> Coming:
    why = "on trial" if row.is_trial else start_words(row.subscription)
    return _coming(Kind.START, row, phase_words(row), why, customer=row.subscription.customer)


def _tell_change(row: Phase) -> Coming:
    """Reads the prefetched phases of the contract, for the one before."""
    before = [phase for phase in row.subscription.kept_phases() if phase.starts_at < row.starts_at]
    what = change_words(row, before[-1] if before else None)
    why = _step(before[-1], row) if before else ""
    return _coming(Kind.CHANGE, row, what, why, customer=row.subscription.customer)


def _step(before: Phase, after: Phase) -> str:
    currency = after.version.plan.currency
    if before.monthly == after.monthly or before.is_trial:
        return ""
    return f"{format_minor(before.monthly, currency)} → {format_minor(after.monthly, currency)} a month"


def _tell_trial_end(row: Phase) -> Coming:
    then = "then it ends" if row.asks is None else "then it is billed"  # type: ignore[attr-defined]
    return _coming(Kind.TRIAL_END, row, phase_words(row), then, customer=row.subscription.customer)


def _tell_end(row: Phase) -> Coming:
    terms, currency = row.terms(), row.version.plan.currency
    lost = f"−{format_minor(row.monthly, currency)} a month" if row.monthly else ""
    committed = "its minimum commitment ends" if terms.commitment else ""
    why = ", ".join(word for word in (end_words(row.subscription), lost, committed) if word)
    return _coming(Kind.END, row, phase_words(row), why, customer=row.subscription.customer)


def _tell_draft(row: Invoice) -> Coming:
    of = row.subscription.product.name if row.subscription else ""
    return _coming(Kind.DRAFT, row, str(row), of, customer=row.customer)


def _tell_override(row: FeatureOverride) -> Coming:
    what = f"{row.feature.name} {words_of(row)}"
    return _coming(Kind.OVERRIDE_END, row, what, row.reason, customer=row.customer)


def _tell_coupon(row: AppliedCoupon) -> Coming:
    return _coming(Kind.COUPON_END, row, f"{row.coupon.name}: {gives(row.coupon)}", row.reason, customer=row.customer)


def _tell_offer(row: Deal) -> Coming:
    return _coming(Kind.OFFER_END, row, row.name, f"{row.get_state_display()}, {row.owner}", customer=row.customer)


def _joined(rows: "QuerySet[Any]", *beside: str) -> "QuerySet[Any]":
    return rows.select_related(*beside)


SOURCES = (
    Source(Kind.START, lambda asked: _joined(_starts(asked), *OF_A_PHASE), _tell_start),
    Source(Kind.TRIAL_END, lambda asked: _joined(_trial_ends(asked), *OF_A_PHASE), _tell_trial_end),
    Source(Kind.CHANGE, lambda asked: _joined(_changes(asked), *OF_A_PHASE), _tell_change),
    Source(Kind.RENEWAL, lambda asked: _joined(_renewals(asked), *OF_A_PHASE), _tell_renewal),
    Source(Kind.DRAFT, lambda asked: _joined(_drafts(asked), "customer", "subscription__product"), _tell_draft),
    Source(Kind.END, lambda asked: _joined(_ends(asked), *OF_A_PHASE), _tell_end),
    Source(Kind.OVERRIDE_END, lambda asked: _joined(_override_ends(asked), "customer", "feature"), _tell_override),
    Source(
        Kind.COUPON_END,
        lambda asked: _joined(_coupon_ends(asked), "customer", "coupon__feature", "coupon__free_plan__product"),
        _tell_coupon,
    ),
    Source(Kind.OFFER_END, lambda asked: _joined(_offer_ends(asked), "customer"), _tell_offer),
)


def _narrowed(source: Source, asked: Asked) -> "QuerySet[Any]":
    rows = source.rows(asked)
    return rows if asked.least is None else rows.filter(_asks_at_least(asked.least))


def _asks_at_least(least: Decimal) -> Q:
    """An amount in major units, whatever the currency."""
    found = Q(pk__in=[])
    for digits in {exponent(code) for code in settings.CURRENCIES}:
        codes = [code for code in settings.CURRENCIES if exponent(code) == digits]
        found |= Q(in_currency__in=codes, asks__gte=int(least.scaleb(digits)))
    return found


# A page of the list ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[Coming]
    following: Cursor | None


def read_page(asked: Asked, *, after: Cursor | None = None, most: int = 50) -> Page:
    """The soonest first, in a fixed number of queries; what is expected of renewals is what billing would draw up."""
    found = sorted(_candidates(asked, after, most + 1), key=lambda placed: placed.place)
    shown = found[:most]
    following = Cursor(*shown[-1].place) if len(found) > most else None
    return Page(_told(shown), following)


def read_all(asked: Asked) -> Iterator[Coming]:
    """Every row, page by page however many there are."""
    after: Cursor | None = None
    while True:
        page = read_page(asked, after=after, most=500)
        yield from page.rows
        after = page.following
        if after is None:
            return


def _candidates(asked: Asked, after: Cursor | None, most: int) -> Iterator[Placed]:
    for source in SOURCES:
        if source.kind not in asked.kinds:
            continue
        rows = _narrowed(source, asked)
        if after is not None:
            rows = rows.filter(_beyond(after, source.kind))
        for row in rows.order_by("comes_at", "key")[:most]:
            yield Placed(row.comes_at, source.kind, row.key, row)
    for placed in _counted(asked):
        if after is None or placed.place > (after.at, after.rank, after.key):
            yield placed


def _beyond(after: Cursor, kind: Kind) -> Q:
    if kind.rank < after.rank:
        return Q(comes_at__gt=after.at)
    if kind.rank > after.rank:
        return Q(comes_at__gte=after.at)
    return Q(comes_at__gte=after.at) & (Q(comes_at__gt=after.at) | Q(key__gt=after.key))


def _told(placed: Sequence[Placed]) -> list[Coming]:
    """Rows as values, each contract with its next invoice."""
    contracts = _contracts({row.row.subscription_id for row in placed if isinstance(row.row, Phase)})
    invoices = expected(contracts.values())
    tell = {source.kind: source.tell for source in SOURCES}
    told = []
    for each in placed:
        if isinstance(each.row, Coming):
            told.append(each.row)
            continue
        if isinstance(each.row, Phase):
            contracts[each.row.subscription_id].customer = each.row.subscription.customer
            each.row.subscription = contracts[each.row.subscription_id]
        told.append(_with_invoice(tell[each.kind](each.row), each.row, invoices))
    return told


def _contracts(keys: Iterable[int]) -> dict[int, Subscription]:
    """With their phases, in two queries."""
    wanted = list(keys)
    return {s.pk: s for s in Subscription.objects.filter(pk__in=wanted).with_phases()} if wanted else {}


def _with_invoice(coming: Coming, row: Model, invoices: Mapping[int, Upcoming]) -> Coming:
    invoice = invoices.get(row.subscription_id) if isinstance(row, Phase) else None
    if invoice is None or invoice.at != coming.at:
        return coming
    return replace(coming, currency=invoice.currency, expected=invoice.total, so_far=invoice.so_far)


def expected(subscriptions: Iterable[Subscription]) -> dict[int, Upcoming]:
    """The next invoice of each contract, from prefetched phases; at most ten queries however many they are."""
    held = [s for s in subscriptions if s.bills_at is not None and s.settled_at is None]
    if not held:
        return {}
    use, specials, pending = unbilled_use(held), specials_by_contract(held), pending_by_contract(held)
    levels = levels_by_contract(held)
    found = {}
    for s in held:
        invoice = upcoming(s, use.get(s.pk, []), levels.get(s.pk, {}), specials.get(s.pk, ()), pending.get(s.pk, ()))
        if invoice is not None:
            found[s.pk] = invoice
    return found


# What runs out after a number of invoices -----------------------------------------------------------------------------


def _counted(asked: Asked) -> Iterator[Placed]:
    """Special prices and coupons whose last billing period ends within the window."""
    if asked.least is not None:
        return
    if Kind.PRICE_END in asked.kinds:
        yield from (placed for placed in _prices(asked) if asked.since <= placed.at < asked.until)
    if Kind.COUPON_END in asked.kinds:
        yield from (placed for placed in _repeating(asked) if asked.since <= placed.at < asked.until)


def _of_running(rows: "QuerySet[Any]", asked: Asked) -> "QuerySet[Any]":
    """The newest, with their contract and its phases."""
    phases = Phase.objects.kept().select_related("version__plan__product").order_by("starts_at", "id")
    rows = _of_contract(rows.filter(subscription__state__in=LIVE), asked).select_related("subscription__customer")
    return rows.prefetch_related(Prefetch("subscription__phases", queryset=phases)).order_by("-id")[:MOST_COUNTED]


def _prices(asked: Asked) -> Iterator[Placed]:
    rows = _of_running(PriceOverride.objects.in_force().filter(cycles__isnull=False), asked)
    for special, row in read_specials(rows):
        phase = row.subscription.phase_at(row.created_at)
        at = runs_out_at(row.subscription, phase, special.left, key=row.item_key) if phase else None
        if phase is None or at is None:
            continue
        item = phase.terms().item(row.item_key)
        what = f"{phase.version.plan.title} · {item.label if item else row.item_key}"
        yield Placed(at, Kind.PRICE_END, row.pk, _counted_coming(Kind.PRICE_END, at, what, row))


def _repeating(asked: Asked) -> Iterator[Placed]:
    """Coupons of one contract for some billing periods; one on a whole customer has no contract to count by."""
    lasting = AppliedCoupon.objects.filter(
        removed_at=None, waits=False, ends_at=None, coupon__duration=Coupon.Duration.REPEATING
    )
    rows = list(_of_running(lasting, asked).select_related("coupon", "subscription__customer"))
    periods = counted_periods(rows)
    for row in rows:
        left, contract = left_of(row, periods), row.subscription
        phase = contract.phase_at(asked.since)
        at = runs_out_at(contract, phase, left) if phase else None
        if at is not None:
            what = f"{row.coupon.name}: {gives(row.coupon)}"
            # Those with a date have keys of their own kind, so these are told apart by a sign.
            yield Placed(at, Kind.COUPON_END, -row.pk, _counted_coming(Kind.COUPON_END, at, what, row))


def _counted_coming(kind: Kind, at: datetime, what: str, row: Any) -> Coming:
    return Coming(kind, at, what, row.reason, customer=row.subscription.customer, row=row.pk)


# Sums -----------------------------------------------------------------------------------------------------------------


def read_days(asked: Asked) -> dict[date, Sums]:
    """What comes on each day of the window that has anything, one query for each kind."""
    found: list[tuple[str, date, str, int, int]] = []
    for source in SOURCES:
        if source.kind in asked.kinds:
            rows = _narrowed(source, asked).order_by().annotate(day=TruncDay("comes_at", tzinfo=UTC))
            sums = rows.values_list("day", "in_currency").annotate(number=Count("pk"), sum=Sum("asks"))
            found += [(source.kind, day.date(), code, number, sum_ or 0) for day, code, number, sum_ in sums]
    found += [(placed.kind, placed.at.astimezone(UTC).date(), "", 1, 0) for placed in _counted(asked)]
    return sums_by_day(found)
