"""The words of the files as values of the product, and the product's values as the files write them.

Keys that end in `_minor` are whole minor units, other amounts major units as text. A date is midnight UTC; where the
policy says that days are inclusive, a period's last day is made its exclusive end.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from catalog.charges import Price
from catalog.money import exponent, to_major, to_minor
from catalog.periods import PLAN_CADENCES, Cadence, Period, boundary, period_containing
from catalog.terms import ALLOCATED, IN_ADVANCE, IN_ARREARS, METERED, FeatureTerms, ItemTerms, PlanTerms
from invoicing.discounts import DiscountTerms
from invoicing.taxes import TaxTerms

PLAN_ORDER = list(PLAN_CADENCES)
INTERVALS = {"month": "P1M", "quarter": "P3M", "year": "P1Y"}
# Their names of refusals, and our codes.
ERRORS = {
    "InvalidDateSequence": "dates_out_of_order",
    "timezone required": "naive_instant",
    "no_lock_acquired": "customer_not_locked",
}
# Credits that some sources write without their sign.
MAGNITUDES = ("credit", "credit_minor", "credits_minor")
# A month for each number of days, so that "5 of 31 days" and "1/2" become instants.
MONTHS_OF_DAYS = {28: (2025, 2), 29: (2024, 2), 30: (2025, 4), 31: (2025, 1)}


class Unplayed(Exception):
    """The vector has a shape that no player reads."""


@dataclass(frozen=True, slots=True)
class Minor:
    """Whole minor units that the file writes in major units or, under a key in `_minor`, as they are."""

    amount: int


@dataclass(frozen=True, slots=True)
class Other:
    """What another policy finds, which the file names beside ours: all we can say is that it is not this."""

    ours: Minor


@dataclass(frozen=True)
class Vector:
    raw: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def op(self) -> str:
        return str(self.raw["action"]["op"])

    @property
    def currency(self) -> str:
        return str(self.raw["currency"]["code"])

    @property
    def expected(self) -> dict[str, Any]:
        return dict(self.raw["expected"])

    @property
    def policy(self) -> dict[str, Any]:
        return dict(self.raw["policy"])

    @cached_property
    def given(self) -> dict[str, Any]:
        """The state before and the arguments of the act; no file uses one name in both."""
        return {**self.raw["setup"], **{k: v for k, v in self.raw["action"].items() if k != "op"}}

    def has(self, *names: str) -> bool:
        """Whether each is given, in minor units or in another form."""
        return all(name in self.given or f"{name}_minor" in self.given for name in names)

    def first(self, *names: str) -> str:
        """The first of these names that is given."""
        for name in names:
            if self.has(name):
                return name
        raise Unplayed(f"{self.op.replace('_', ' ')} without {' or '.join(names)}")

    def amounts(self, name: str) -> list[Decimal]:
        """One amount or several, in major units."""
        if f"{name}_minor" in self.given:
            found = self.given[f"{name}_minor"]
            return [to_major(minor, self.currency) for minor in (found if isinstance(found, list) else [found])]
        found = self.given[name]
        return [self._price(value)[0] for value in (found if isinstance(found, list) else [found])]

    def amount(self, name: str) -> Decimal:
        """One amount, in major units."""
        return self.amounts(name)[0]

    def minor(self, name: str) -> int:
        return to_minor(self.amount(name), self.currency)

    def _price(self, value: Any) -> tuple[Decimal, str]:
        """`249.95/month in advance` as an amount in major units and what follows it."""
        number, _, rest = str(value).partition("/")
        amount = Decimal(number)
        if self.policy.get("unit") == "cent" and (rest or isinstance(value, int)):
            amount = amount.scaleb(-exponent(self.currency))
        return amount, rest

    def interval(self, name: str) -> str | None:
        """The cadence that a price names: `2399.95/year`."""
        words = self._price(self.given[name])[1].split() if isinstance(self.given.get(name), str) else []
        return INTERVALS.get(words[0]) if words else None

    def in_arrears(self, name: str) -> bool:
        return "in arrears" in str(self.given.get(name, ""))

    def span(self, name: str) -> Period:
        """A period as the file gives it, half-open."""
        found = self.given[name]
        if isinstance(found, str):
            return calendar_month(f"{found}-01")
        start, end = map(instant, found)
        inclusive = "inclusive" in self.policy.get("basis", "")
        return Period(start, end + timedelta(days=1) if inclusive else end)

    def at(self) -> datetime:
        return instant(self.given[self.first("date", "at", "start")])


def instant(text: str) -> datetime:
    """A date is midnight UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC)


def date(at: datetime | None) -> str:
    assert at is not None
    return at.date().isoformat()


def calendar_month(day: str) -> Period:
    """The calendar month that contains a day."""
    at = instant(day)
    return period_containing(at.replace(day=1), Cadence(months=1), at)


def cadence_of(period: Period) -> str:
    """The cadence of a plan that this period is one of."""
    for code in PLAN_CADENCES:
        if boundary(period.starts_at, Cadence.parse(code), 1) == period.ends_at:
            return code
    raise Unplayed(f"a period that is no month, quarter or year: {period}")


def aligned(day: int, cadence: str, start: datetime) -> datetime:
    """An instant that periods with this day are counted from; yearly ones keep the month of the start.

    January has every day, so it can stand for the anchor of months.
    """
    if cadence != "P1Y":
        return start.replace(month=1, day=day)
    return boundary(start.replace(month=1, day=day), Cadence(months=1), start.month - 1)


def left_of(days_left: Fraction | int, days: int) -> tuple[Period, datetime]:
    """A month of so many days, and the instant at which so many of them are left."""
    year, month = MONTHS_OF_DAYS[days]
    period = calendar_month(f"{year}-{month:02}-01")
    assert period.ends_at is not None
    return period, period.ends_at - timedelta(seconds=int(Fraction(days_left) * 86_400))


def fee(
    amount: Decimal | int | Fraction, cadence: str, *, key: str = "fee", quantity: int = 1, arrears: bool = False
) -> ItemTerms:
    """A fee in major units."""
    term = IN_ARREARS if arrears else IN_ADVANCE
    return ItemTerms(key, amount=Decimal(str(amount)), cadence=cadence, quantity=quantity, term=term)


def seats_item(price: Price, level: Decimal | int) -> ItemTerms:
    """A level of which all units are paid ahead."""
    feature = FeatureTerms("seats", "Seats", METERED, ALLOCATED)
    return ItemTerms("seats", feature=feature, included=Decimal(0), price=price, bought=Decimal(level))


def plan(items: Iterable[ItemTerms], currency: str, *, plan_id: int = 1) -> PlanTerms:
    """A rate card that renews at the longest interval of its fees."""
    items = tuple(items)
    cadence = max((item.cadence for item in items if item.cadence), key=PLAN_ORDER.index, default="P1M")
    return PlanTerms(plan_id, currency, cadence, items, plan_name=f"Plan {plan_id}")


def tax_terms(vector: Vector) -> list[TaxTerms]:
    """The taxes that a file puts on every line."""
    percents = vector.given.get("tax_percent", [])
    inclusive = vector.given.get("behaviour") == "inclusive"
    percents = percents if isinstance(percents, list) else [percents]
    return [TaxTerms(n, "VAT", Decimal(str(percent)), inclusive) for n, percent in enumerate(percents, 1)]


def discount(text: str | int | None, currency: str, *, id: int = 1) -> list[DiscountTerms]:
    """`25%` or `50.00 fixed` as a discount of every period; whole numbers are minor units; nothing gives none."""
    if text is None:
        return []
    if isinstance(text, int):
        return [DiscountTerms(id, "coupon", amount=text)]
    if percent := re.match(r"([\d.]+)\s*%", text):
        return [DiscountTerms(id, "coupon", percent=Decimal(percent[1]))]
    return [DiscountTerms(id, "coupon", amount=to_minor(text.removesuffix(" fixed"), currency))]


# How the product's answers are compared with what the file writes


def difference(name: str, found: Any, wanted: Any, currency: str) -> str:
    """In words; empty when the product found what the file expects."""
    if _same(name, found, wanted, currency):
        return ""
    return f"{name}: {_shown(name, found, currency)}, expected {wanted}"


def _same(name: str, found: Any, wanted: Any, currency: str) -> bool:
    if isinstance(wanted, dict):
        alike = isinstance(found, dict) and set(wanted) <= set(found)
        return alike and all(_same(key, found[key], wanted[key], currency) for key in wanted)
    if isinstance(wanted, list):
        alike = isinstance(found, Sequence) and len(found) == len(wanted)
        return alike and all(_same(name, f, w, currency) for f, w in zip(found, wanted, strict=True))
    if isinstance(found, Other):
        return not _same(name, found.ours, wanted, currency)
    if isinstance(found, bool) or isinstance(wanted, bool) or wanted is None:
        return found is wanted
    if isinstance(found, Minor):
        found = _written(name, found, currency)
    if isinstance(found, int | Decimal | Fraction):
        number = fraction(wanted)
        unsigned = name in MAGNITUDES and number is not None and number > 0
        return (abs(found) if unsigned else found) == number
    return bool(found == wanted)


def _written(name: str, found: Minor, currency: str) -> Decimal | int:
    """In minor units under a key that says so, and inside such a value; else in major units."""
    return found.amount if name.endswith("_minor") else to_major(found.amount, currency)


def _shown(name: str, found: Any, currency: str) -> Any:
    if isinstance(found, Minor):
        return _written(name, found, currency)
    if isinstance(found, Other):
        return f"ours is {_shown(name, found.ours, currency)}"
    if isinstance(found, list | tuple):
        return [_shown(name, each, currency) for each in found]
    if isinstance(found, dict):
        return {key: _shown(key, each, currency) for key, each in found.items()}
    return str(found)


def fraction(text: Any) -> Fraction | None:
    """A number as the files write it: `12.5`, `22/30`, `1+14/31`; None for anything else."""
    if isinstance(text, int):
        return Fraction(text)
    if not isinstance(text, str) or not re.fullmatch(r"[-\d./+]+", text):
        return None
    return sum((Fraction(part) for part in text.split("+")), Fraction(0))
