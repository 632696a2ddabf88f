"""What is coming for customers: renewals, changes, ends. Pure: values, what they are called, and days of a calendar."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from billing_admin.flows.upcoming import Upcoming
from catalog.money import format_minor
from catalog.periods import Cadence, boundary, count_until
from customers.models import Customer, Phase, Subscription

A_DAY, A_WEEK = timedelta(days=1), timedelta(days=7)
NINETY_DAYS = timedelta(days=90)


class Kind(StrEnum):
    """What happens. At one instant they stand in this order."""

    START = "start"
    TRIAL_END = "trial_end"
    CHANGE = "change"
    RENEWAL = "renewal"
    DRAFT = "draft"
    END = "end"
    OVERRIDE_END = "override_end"
    PRICE_END = "price_end"
    COUPON_END = "coupon_end"
    OFFER_END = "offer_end"

    @property
    def rank(self) -> int:
        return list(Kind).index(self)


# How one is called, several are, and the tone of its dot.
WORDS: dict[str, tuple[str, str, str]] = {
    Kind.START: ("Contract begins", "contracts begin", "good"),
    Kind.TRIAL_END: ("Trial ends", "trials end", "info"),
    Kind.CHANGE: ("Plan changes", "plan changes", "wait"),
    Kind.RENEWAL: ("Renews", "renewals", "good"),
    Kind.DRAFT: ("Draft is issued", "drafts are issued", "good"),
    Kind.END: ("Contract ends", "contracts end", "bad"),
    Kind.OVERRIDE_END: ("Override ends", "overrides end", "off"),
    Kind.PRICE_END: ("Special price runs out", "special prices run out", "off"),
    Kind.COUPON_END: ("Coupon ends", "coupons end", "off"),
    Kind.OFFER_END: ("Offer expires", "offers expire", "wait"),
}


@dataclass(frozen=True, slots=True)
class Coming:
    """One thing that will happen, unless somebody changes it.

    `amount` is what it asks for as far as it is fixed now (fees and bought units, or a draft's total), `expected` what
    the next invoice of the contract will be as things stand; minor units, None where it asks for nothing.
    """

    kind: Kind
    at: datetime
    what: str
    why: str = ""
    currency: str = ""
    amount: int | None = None
    expected: int | None = None
    so_far: bool = False
    customer: Customer | None = None
    row: int = 0  # the key of what comes: a phase, a draft, an override, …

    @property
    def word(self) -> str:
        return WORDS[self.kind][0]

    @property
    def tone(self) -> str:
        return WORDS[self.kind][2]


# Sums of days ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sums:
    """What comes together: how many of each kind, and what they ask for by currency, minor units."""

    kinds: Mapping[str, int] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(_added(self.kinds, other.kinds), _added(self.amounts, other.amounts))

    @property
    def count(self) -> int:
        return sum(self.kinds.values())

    @property
    def money(self) -> list[str]:
        """`$1,250.00`, `€80.00`: the largest first."""
        found = sorted(self.amounts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [format_minor(minor, currency) for currency, minor in found if minor]

    @property
    def said(self) -> list[tuple[str, str]]:
        """(tone, `12 renewals`) of each kind that there is, in their order."""
        return [
            (WORDS[kind][2], f"{self.kinds[kind]:,} {WORDS[kind][1]}" if self.kinds[kind] > 1 else f"1 {_one(kind)}")
            for kind in Kind
            if self.kinds.get(kind)
        ]


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in {*left, *right}}


def _one(kind: Kind) -> str:
    singular = {Kind.RENEWAL: "renewal", Kind.CHANGE: "plan change", Kind.DRAFT: "draft is issued"}
    return singular.get(kind, WORDS[kind][0].lower())


def sums_by_day(rows: Iterable[tuple[str, date, str, int, int]]) -> dict[date, Sums]:
    """From (kind, day, currency, how many, minor units), each at most once."""
    found: dict[date, Sums] = {}
    for kind, day, currency, number, minor in rows:
        here = Sums({kind: number}, {currency: minor} if minor else {})
        found[day] = found.get(day, Sums()) + here
    return found


def total(sums: Iterable[Sums]) -> Sums:
    return sum(sums, Sums())


def weeks(month: date) -> list[list[date]]:
    """The days of a month's calendar, week by week from Monday, with the days around it that fill its weeks."""
    first = month.replace(day=1)
    start = first - timedelta(days=first.weekday())
    following = next_month(first)
    found = []
    while start < following:
        found.append([start + timedelta(days=n) for n in range(7)])
        start += A_WEEK
    return found


def next_month(month: date, n: int = 1) -> date:
    place = month.year * 12 + month.month - 1 + n
    return date(place // 12, place % 12 + 1, 1)


def midnight(day: date) -> datetime:
    """When a day begins; billing counts days in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# One customer ---------------------------------------------------------------------------------------------------------


def contract_coming(
    subscription: Subscription, invoices: Iterable[Upcoming], *, now: datetime, until: datetime
) -> list[Coming]:
    """Everything of one contract in a window: its changes and its end, and its invoices as they are expected."""
    found = {row.at: row for row in contract_comes(subscription, now=now, until=until)}
    for invoice in invoices:
        row = found.get(invoice.at) or Coming(Kind.RENEWAL, invoice.at, invoice.plan, currency=invoice.currency)
        found[invoice.at] = replace(row, currency=invoice.currency, expected=invoice.total, so_far=invoice.so_far)
    return list(soonest(found.values(), now=now, until=until))


def contract_comes(subscription: Subscription, *, now: datetime, until: datetime) -> list[Coming]:
    """The end of its trial, its changes and its end, from the prefetched phases; renewals are what its invoices say."""
    found = [
        _phase_begins(subscription, phase) for phase in subscription.kept_phases() if now < phase.starts_at < until
    ]
    if subscription.ends_at is not None and now < subscription.ends_at < until:
        found.append(Coming(Kind.END, subscription.ends_at, subscription.product.name, end_words(subscription)))
    return found


def _phase_begins(subscription: Subscription, phase: Phase) -> Coming:
    before = next((p for p in reversed(subscription.kept_phases()) if p.starts_at < phase.starts_at), None)
    kind = Kind.START if before is None else Kind.TRIAL_END if before.is_trial else Kind.CHANGE
    return Coming(
        kind,
        phase.starts_at,
        change_words(phase, before),
        start_words(subscription) if kind is Kind.START else "",
        currency=phase.version.plan.currency,
        amount=0 if phase.is_trial else phase.fees,
    )


def change_words(phase: Phase, before: Phase | None) -> str:
    """`API · Team → API · Pro`, `API · Pro × 3`, of a scheduled phase and the one before it."""
    name = phase_words(phase)
    if before is None or phase.continues(before):
        return name
    return f"{phase_words(before)} → {name}"


def phase_words(phase: Phase) -> str:
    custom = " (custom)" if phase.version.tailored else ""
    times = f" × {phase.quantity}" if phase.quantity > 1 else ""
    return f"{phase.version.plan.title}{custom}{times}"


def start_words(subscription: Subscription) -> str:
    """What access of a contract to come waits for; nothing where it begins by its date."""
    return "access waits for its payment" if subscription.waits_for_payment else ""


def end_words(subscription: Subscription) -> str:
    return subscription.end_reason.replace("_", " ") or "planned"


def soonest(rows: Iterable[Coming], *, now: datetime, until: datetime) -> Sequence[Coming]:
    """Those of a window, the soonest first."""
    return sorted((row for row in rows if now < row.at < until), key=lambda row: (row.at, row.kind.rank))


def runs_out_at(subscription: Subscription, phase: Phase, left: int | None, *, key: str = "") -> datetime | None:
    """When the last billing period is over that takes something of which so many are left; None where that is not
    known. Of a named item that is billed afterwards, the running period is the first."""
    starts_at = subscription.period_ends_at
    if not left or starts_at is None:
        return None
    terms = phase.terms()
    item, cadence = terms.item(key), Cadence.parse(terms.cadence)
    n = count_until(phase.anchor, cadence, starts_at)
    return boundary(phase.anchor, cadence, n + left - (0 if item is None or item.in_advance else 1))
