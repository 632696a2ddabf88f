"""What Stripe's prices and subscriptions are here: plans and contracts, or a sentence that says why not. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.money import format_rate
from catalog.periods import PLAN_CADENCES
from catalog.terms import ItemTerms
from customers.states import LIVE, SubscriptionState
from payments.facts import PriceFacts
from payments.minor import digits

FEE = "stripe-price"
DECIMALS = 12
CADENCES = {("month", 1): "P1M", ("month", 3): "P3M", ("month", 12): "P1Y", ("year", 1): "P1Y"}
STATES = {
    "trialing": SubscriptionState.TRIALING,
    "active": SubscriptionState.ACTIVE,
    "past_due": SubscriptionState.PAST_DUE,
    "incomplete": SubscriptionState.PENDING_PAYMENT,
}
# Other words of Stripe's for an end are kept as they are.
REASONS = {"incomplete_expired": "payment_expired"}

# Prices ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """A price as Stripe has it, read back from what we keep of it."""

    currency: str
    interval: str
    count: int
    usage_type: str
    scheme: str
    exact_amount: str
    nickname: str
    tiers: tuple[Mapping[str, Any], ...]
    divided_by: int

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "PriceTerms":
        return cls(**{**kept, "tiers": tuple(kept["tiers"])})

    @property
    def repeats(self) -> bool:
        return bool(self.interval)

    @property
    def cadence(self) -> str:
        """The plan's; empty where plans have none like it."""
        return CADENCES.get((self.interval, self.count), "")

    @property
    def amount(self) -> Decimal | None:
        """What one unit costs each time, in major units; None where it depends on how many there are."""
        flat = self.scheme == "per_unit" and self.usage_type == "licensed" and self.divided_by == 1
        if not flat or not self.exact_amount:
            return None
        amount = Decimal(self.exact_amount).scaleb(-digits(self.currency))
        return amount if _decimals(amount) <= DECIMALS else None

    @property
    def every(self) -> str:
        """`month`, `2 weeks`."""
        return self.interval if self.count == 1 else f"{self.count} {self.interval}s"

    def describe(self) -> list[str]:
        """The price in words, its tiers a line each."""
        used = "used" if self.usage_type == "metered" else "each"
        if self.amount is not None:
            return [f"{format_rate(self.amount, self.currency)} {used} / {self.every}"]
        if self.tiers:
            how = {"tiered": "in tiers"}.get(self.scheme, self.scheme)
            return [f"{used.capitalize()}, {how} / {self.every}", *_tier_lines(self.tiers, self.currency)]
        if self.exact_amount:
            amount = format_rate(Decimal(self.exact_amount).scaleb(-digits(self.currency)), self.currency)
            per = f" per {self.divided_by}" if self.divided_by != 1 else ""
            return [f"{amount}{per} {used} / {self.every}"]
        return [f"The customer chooses the amount / {self.every}"]


def kept_of(price: PriceFacts) -> dict[str, Any]:
    """What is kept of a price beside its ids; numbers are text, as JSON has no decimals."""
    wanted = PriceTerms.__annotations__
    kept = {name: value for name, value in asdict(price).items() if name in wanted}
    return kept | {"tiers": [{name: _plain(value) for name, value in tier.items()} for tier in price.tiers]}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else str(value)


def _decimals(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _tier_lines(tiers: Sequence[Mapping[str, Any]], currency: str) -> list[str]:
    lines, since = [], 1
    for tier in tiers:
        upper = tier.get("up_to")
        span = f"from {since:,}" if upper in (None, "inf") else f"{since:,} to {int(upper):,}"
        parts = [f"{_shown(tier, 'unit_amount', currency)} each", f"{_shown(tier, 'flat_amount', currency)} flat"]
        lines.append(f"{span}: " + " + ".join(part for part in parts if not part.startswith("- ")))
        since = since if upper in (None, "inf") else int(upper) + 1
    return lines


def _shown(tier: Mapping[str, Any], name: str, currency: str) -> str:
    exact = tier.get(f"{name}_decimal") or tier.get(name)
    return "-" if exact is None else format_rate(Decimal(str(exact)).scaleb(-digits(currency)), currency)


def why_no_plan(price: PriceTerms, currencies: Collection[str]) -> str:
    """Why a price is no plan here; empty when it is one."""
    if not price.repeats:
        return "It is paid once; only prices that repeat are plans."
    if not price.cadence:
        allowed = ", ".join(PLAN_CADENCES.values())
        return f"It repeats every {price.every}; plans here are {allowed}."
    if price.currency not in currencies:
        return f"{price.currency} is not a currency of this account. Allowed: {', '.join(currencies)}."
    return ""


def fees_of(price: PriceTerms) -> list[ItemTerms]:
    """The mirrored line of a plan; none where the amount depends on how many there are."""
    if price.amount is None:
        return []
    return [ItemTerms(key=FEE, name="Price in Stripe", amount=price.amount, cadence=price.cadence)]


def names_of(product: str, prices: Mapping[int, PriceTerms]) -> dict[int, str]:
    """What the plans of a product are called, by the keys of their prices: `Pro`, or `Pro · monthly` and so on."""
    if len(prices) == 1:
        return {key: _short(price.nickname or product) for key, price in prices.items()}
    plain = {key: price.nickname or f"{product} · {PLAN_CADENCES[price.cadence]}" for key, price in prices.items()}
    named = _told_apart(plain, {key: price.currency for key, price in prices.items()})
    return _told_apart(named, {key: price.describe()[0] for key, price in prices.items()})


def _told_apart(names: Mapping[int, str], by: Mapping[int, str]) -> dict[int, str]:
    """Names that stand more than once get more words, where those differ."""
    often = Counter(names.values())
    words = {name: {by[key] for key in names if names[key] == name} for name in often}
    return {key: _short(f"{n} · {by[key]}" if often[n] > 1 and len(words[n]) > 1 else n) for key, n in names.items()}


def _short(name: str) -> str:
    return name[:120]


# Subscriptions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followable:
    """An item of a Stripe subscription, as far as it says whether something follows it here.

    `product` is ours, None where its price is no plan, for which `why_not` is the sentence; `name` is for people.
    """

    key: str
    status: str
    quantity: int
    started_at: datetime
    product: int | None
    is_removed: bool = False
    why_not: str = ""
    name: str = ""

    @property
    def is_running(self) -> bool:
        return self.status in STATES and not self.is_removed

    def order(self) -> tuple[Any, ...]:
        """Of two plans of one product the older one counts, one that gives access before one that waits."""
        return STATES[self.status] not in LIVE, self.started_at, self.key


def conflicts_of(items: Sequence[Followable], taken: Mapping[int, str]) -> dict[str, str]:
    """Why nothing follows an item that runs, by its key; empty for those that are followed.

    `taken` are products of which the customer has a main plan of another kind, with its name.
    """
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for item in sorted((item for item in items if item.is_running), key=Followable.order):
        found[item.key] = why = _why_not(item, taken, first)
        if not why and item.product is not None:
            first[item.product] = item.name
    return found


def _why_not(item: Followable, taken: Mapping[int, str], first: Mapping[int, str]) -> str:
    if item.product is None:
        return f"Its price is no plan here. {item.why_not}".strip()
    if item.quantity == 0:
        return "Its quantity is 0."
    if name := taken.get(item.product):
        return f"The customer has another plan of this product here: {name}."
    if other := first.get(item.product):
        return f"The customer has another plan of this product in Stripe: {other}. Only one can be followed."
    return ""


def reason_of(status: str, *, is_removed: bool) -> str:
    """Why a contract ended that follows an item."""
    return "removed" if is_removed else REASONS.get(status, status)[:20]
