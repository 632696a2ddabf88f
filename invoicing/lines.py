"""Lines: what is charged and credited, and how each amount came about. Pure.

A share of time is exact by the second: the price of a whole period times the seconds that are left, over the seconds
of the anchored period that contains the start. A line is rounded once, half away from zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.money import format_minor, format_rate, grouped, plain, round_half_away, to_minor
from catalog.periods import ONCE, Cadence, Period, is_boundary, period_containing
from catalog.terms import ItemTerms, PlanTerms

FEE, ONE_TIME, UNUSED, USAGE = "fee", "one_time", "unused", "usage"


@dataclass(frozen=True, slots=True)
class Line:
    """One line before it is written. `amount` is in minor units, negative for a credit."""

    kind: str
    key: str
    description: str
    amount: int
    currency: str
    quantity: Decimal = Decimal(1)
    rate: Decimal | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    derivation: dict[str, Any] = field(default_factory=dict, compare=False)
    item_id: int | None = None
    balance_id: int | None = None
    source_id: int | None = None
    offsets_id: int | None = None

    def identity(self) -> tuple:
        """What makes two lines the same to whoever confirmed them."""
        instants = [t.isoformat() if t else None for t in (self.starts_at, self.ends_at)]
        return self.kind, self.key, self.amount, self.currency, plain(self.quantity), *instants, self.offsets_id


@dataclass(frozen=True, slots=True)
class BilledFee:
    """A fee line that was invoiced and whose time is not over: what a change may credit.

    `price` is what the whole `period` cost; `net` is what the line charged, in minor units. `paid_share` is the part
    of its invoice that was paid by cash or account credit.
    """

    line_id: int
    key: str
    label: str
    currency: str
    price: Fraction
    period: Period
    net: int
    ends_at: datetime
    invoice_id: int
    invoice_due: int = 0
    paid_share: Fraction = Fraction(1)


def label(plan_name: str, item: ItemTerms) -> str:
    return f"{plan_name} · {item.name}" if item.name and item.name != plan_name else plan_name


def fee_line(item: ItemTerms, period: Period, *, since: datetime, plan_name: str, currency: str) -> Line:
    """The fee of a period from an instant in it: all of it from its start, else the exact share that is left."""
    share = period.left(since)
    amount = to_minor(item.fee * share, currency)
    what = label(plan_name, item)
    return Line(
        FEE,
        item.key,
        what if share == 1 else f"{what} (from {since:%-d %b %Y})",
        amount,
        currency,
        quantity=Decimal(item.quantity),
        rate=item.amount,
        starts_at=max(since, period.starts_at),
        ends_at=period.ends_at,
        derivation=_share_of_time(what, item.fee, item.amount, item.quantity, period, since, amount, currency),
        item_id=item.id,
    )


def one_time_line(item: ItemTerms, *, at: datetime, plan_name: str, currency: str) -> Line:
    amount = to_minor(item.fee, currency)
    rate = format_rate(item.amount or Decimal(0), currency)
    sum_ = f"{item.quantity} × {rate} = {format_minor(amount, currency)}"
    return Line(
        ONE_TIME,
        item.key,
        f"{label(plan_name, item)} (once)",
        amount,
        currency,
        quantity=Decimal(item.quantity),
        rate=item.amount,
        starts_at=at,
        derivation={"sum": sum_},
        item_id=item.id,
    )


def _share_of_time(
    what: str,
    fee: Fraction,
    rate: Decimal | None,
    quantity: int,
    period: Period,
    since: datetime,
    amount: int,
    currency: str,
) -> dict[str, Any]:
    assert period.ends_at is not None
    price = format_rate(rate or Decimal(0), currency)
    price = f"{quantity} × {price}" if quantity != 1 else price
    left = int((period.ends_at - max(since, period.starts_at)).total_seconds())
    found: dict[str, Any] = {
        "price": str(fee),
        "periodStartsAt": period.starts_at.isoformat(),
        "periodEndsAt": period.ends_at.isoformat(),
        "seconds": left,
        "periodSeconds": period.seconds,
    }
    if left == period.seconds:
        found["sum"] = f"{what}, whole period: {price} = {format_minor(amount, currency)}"
    else:
        days = _days(left, period.seconds)
        found["sum"] = f"{what}, {days}: {price} × {left:,} s / {period.seconds:,} s = {format_minor(amount, currency)}"
    return found


def _days(left: int, whole: int) -> str:
    if left % 86_400 or whole % 86_400:
        return f"{left / 86_400:.2f} of {whole / 86_400:.2f} days".replace(".00", "")
    return f"{left // 86_400} of {whole // 86_400} days"


def unused_lines(fees: Iterable[BilledFee], at: datetime) -> list[Line]:
    """The credits for the time of fees that will not be used, at the price really paid.

    None exceeds what is left of its charge. The unpaid share comes as a line of its own that offsets the open
    invoice, since nobody should get money back that never came in; together they offset no more than is due.
    """
    lines: list[Line] = []
    offset: dict[int, int] = {}
    for fee in fees:
        whole = min(to_minor(fee.price * fee.period.left(at), fee.currency), fee.net)
        if whole <= 0:
            continue
        due = max(0, fee.invoice_due - offset.get(fee.invoice_id, 0))
        unpaid = min(to_minor_share(whole, 1 - fee.paid_share), due)
        offset[fee.invoice_id] = offset.get(fee.invoice_id, 0) + unpaid
        if whole > unpaid:
            lines.append(_unused(fee, at, whole - unpaid, None, whole))
        if unpaid:
            lines.append(_unused(fee, at, unpaid, fee.invoice_id, whole))
    return lines


def to_minor_share(minor: int, share: Fraction) -> int:
    return round_half_away(minor * share)


def _unused(fee: BilledFee, at: datetime, amount: int, offsets_id: int | None, whole: int) -> Line:
    assert fee.period.ends_at is not None
    left = max(0, int((fee.period.ends_at - max(at, fee.period.starts_at)).total_seconds()))
    price = format_minor(to_minor(fee.price, fee.currency), fee.currency)
    shown = format_minor(-whole, fee.currency)
    part = format_minor(-amount, fee.currency)
    note = f"; {part} of it was not paid yet and comes off the open invoice" if offsets_id else ""
    if not offsets_id and amount != whole:
        note = f"; {part} of it was paid"
    days = _days(left, fee.period.seconds)
    return Line(
        UNUSED,
        fee.key,
        f"Unused time on {fee.label} (from {at:%-d %b %Y})",
        -amount,
        fee.currency,
        starts_at=at,
        ends_at=fee.ends_at,
        derivation={
            "sum": f"{fee.label}, {days} unused: {price} × {left:,} s / {fee.period.seconds:,} s = {shown}{note}",
            "seconds": left,
            "periodSeconds": fee.period.seconds,
        },
        source_id=fee.line_id,
        offsets_id=offsets_id,
    )


@dataclass(frozen=True, slots=True)
class RatedUse:
    """Units used of one window: `segments` are (item, units used up to which total) in the order of use.

    What is included covers the earliest use first, so it is the newest allowance that counts.
    """

    balance_id: int | None
    granted: Decimal
    adjusted: Decimal
    used: Decimal
    segments: tuple[tuple[ItemTerms, Decimal], ...]
    starts_at: datetime
    ends_at: datetime | None

    @property
    def included(self) -> Decimal:
        return max(Decimal(0), self.granted + self.adjusted)

    @property
    def overage(self) -> Decimal:
        return max(Decimal(0), self.used - self.granted - self.adjusted)


def usage_lines(use: RatedUse, *, plan_name: str, currency: str) -> list[Line]:
    """Use beyond what was included, in full, each unit at the price that was in force when it was used.

    An edit that took more than was granted is charged with the first units.
    """
    return [
        _usage(use, item, units, plan_name, currency) for item, units in _units_beyond(use) if units > 0 and item.price
    ]


def _units_beyond(use: RatedUse) -> list[tuple[ItemTerms, Decimal]]:
    covered = use.granted + use.adjusted
    before = min(Decimal(0), covered)
    units: dict[int | str, tuple[ItemTerms, Decimal]] = {}
    for place, (item, upto) in enumerate(use.segments):
        end = use.used if place == len(use.segments) - 1 else min(upto, use.used)
        start = max(before, covered)
        name = item.id or item.key
        _, sofar = units.get(name, (item, Decimal(0)))
        units[name] = (item, sofar + max(Decimal(0), end - start))
        before = max(before, end)
    return list(units.values())


def _usage(use: RatedUse, item: ItemTerms, units: Decimal, plan_name: str, currency: str) -> Line:
    assert item.feature is not None and item.price is not None
    amount = to_minor(Fraction(item.price) * Fraction(units), currency)
    rate = format_rate(item.price, currency, item.price_per)
    what = label(plan_name, item) if item.name else f"{plan_name} · {item.feature.name}"
    beyond = f" beyond {grouped(use.included)}" if use.included else ""
    return Line(
        USAGE,
        item.key,
        f"{what}{beyond}",
        amount,
        currency,
        quantity=units,
        rate=item.price,
        starts_at=use.starts_at,
        ends_at=use.ends_at,
        derivation={
            "sum": f"{grouped(use.used)} used − {grouped(use.included)} included: "
            f"{grouped(units)} × {rate} = {format_minor(amount, currency)}",
            "used": plain(use.used),
            "included": plain(use.included),
            "adjusted": plain(use.adjusted),
        },
        item_id=item.id,
        balance_id=use.balance_id,
    )


def opening_lines(terms: PlanTerms, anchor: datetime, at: datetime, *, former: PlanTerms | None = None) -> list[Line]:
    """All fees of a new cycle: the anchor's periods that contain the instant, and the one-time fees that are new."""
    recurring = [
        fee_line(
            item,
            period_containing(anchor, Cadence.parse(item.cadence), at),
            since=at,
            plan_name=terms.plan_name,
            currency=terms.currency,
        )
        for item in terms.recurring_fees
        if item.amount
    ]
    return recurring + one_time_lines(terms, at, former=former)


def one_time_lines(terms: PlanTerms, at: datetime, *, former: PlanTerms | None) -> list[Line]:
    """One-time fees that the former terms of the same plan did not have: those were charged when they began."""
    same_plan = former if former is not None and former.plan_id == terms.plan_id else None
    return [
        one_time_line(item, at=at, plan_name=terms.plan_name, currency=terms.currency)
        for item in terms.fees
        if item.cadence == ONCE and item.amount and (same_plan is None or same_plan.item(item.key) is None)
    ]


def switch_lines(former: PlanTerms, terms: PlanTerms, anchor: datetime, at: datetime) -> list[Line]:
    """Fees of a scheduled change at its boundary: a new cycle's, or those due then and what is charged once."""
    if anchor == at:
        return opening_lines(terms, anchor, at, former=former)
    return renewal_lines(terms, anchor, at) + one_time_lines(terms, at, former=former)


def renewal_lines(terms: PlanTerms, anchor: datetime, at: datetime) -> list[Line]:
    """The recurring fees whose period begins at this boundary."""
    lines = []
    for item in terms.recurring_fees:
        cadence = Cadence.parse(item.cadence)
        if item.amount and is_boundary(anchor, cadence, at):
            period = period_containing(anchor, cadence, at)
            lines.append(fee_line(item, period, since=at, plan_name=terms.plan_name, currency=terms.currency))
    return lines


def total(lines: Sequence[Line]) -> int:
    return sum(line.amount for line in lines)


@dataclass(frozen=True, slots=True)
class Document:
    """Lines that go on one document: an invoice, or a credit note when they sum to less than zero."""

    lines: tuple[Line, ...]
    currency: str
    offsets_id: int | None = None

    @property
    def total(self) -> int:
        return total(self.lines)

    @property
    def is_credit_note(self) -> bool:
        return self.total < 0


def documents(lines: Sequence[Line]) -> list[Document]:
    """How lines are split over documents: one for what is charged and given back, one per open invoice offset."""
    found = []
    plain_lines = tuple(line for line in lines if line.offsets_id is None)
    if plain_lines:
        found.append(Document(plain_lines, plain_lines[0].currency))
    for offsets_id in dict.fromkeys(line.offsets_id for line in lines if line.offsets_id is not None):
        rows = tuple(line for line in lines if line.offsets_id == offsets_id)
        found.append(Document(rows, rows[0].currency, offsets_id))
    return found


def with_items(lines: Sequence[Line], ids: dict[str, int]) -> list[Line]:
    """Lines of a proposal, once its items have been written: they now point at the rows."""
    return [replace(line, item_id=ids.get(line.key)) if line.item_id is None else line for line in lines]
