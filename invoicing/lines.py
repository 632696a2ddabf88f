"""Lines: what is charged and credited, and how each amount came about. Pure.

A share of time is exact by the second: the price of a whole period times the seconds that are left, over the seconds
of the anchored period that contains the start. A line is rounded once, half away from zero.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.charges import prepaid, rate, rate_use
from catalog.money import format_minor, format_rate, grouped, plain, round_half_away, to_minor
from catalog.periods import Cadence, Period, is_boundary, period_containing
from catalog.terms import IN_FULL, ItemTerms, PlanTerms

FEE, ONE_TIME, UNUSED, USAGE = "fee", "one_time", "unused", "usage"
PREPAID, SEATS, SEATS_ADDED = "prepaid", "seats", "seats_added"
OVERRIDE, MANUAL, MINIMUM, MAXIMUM, TRUE_UP = "override", "manual", "minimum", "maximum", "true_up"
CORRECTION = "correction"
# Paid for a span of time ahead: what a change may give back.
ADVANCE = (FEE, PREPAID, SEATS, SEATS_ADDED)


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
    override_id: int | None = None

    @property
    def share(self) -> Fraction:
        """The part of a whole period that a charge asks for."""
        return Fraction(self.derivation.get("share", 1))

    def identity(self) -> tuple:
        """What makes two lines the same to whoever confirmed them."""
        instants = [t.isoformat() if t else None for t in (self.starts_at, self.ends_at)]
        return self.kind, self.key, self.amount, self.currency, plain(self.quantity), *instants, self.offsets_id


@dataclass(frozen=True, slots=True)
class BilledFee:
    """A line paid ahead whose time is not over: what a change may credit.

    `price` is what the whole `period` cost after its discounts and without what was given back already; `net` is what
    is left of the line's charge, in minor units. `paid_share` is the part of its invoice that was paid by cash or
    account credit. Of `bought` units so many were `consumed`: those are given back only as far as what comes next
    grants them again. `listed` is the price before discounts (None: there were none).
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
    kind: str = FEE
    units: Decimal = Decimal(1)
    bought: Decimal = Decimal(0)
    consumed: Decimal = Decimal(0)
    listed: Fraction | None = None

    def share(self, at: datetime) -> Fraction:
        """The part that is given back at the instant: time that is left, and units that are."""
        left = self.period.left(at)
        return min(left, 1 - Fraction(self.consumed) / Fraction(self.bought)) if self.bought else left

    def granted_again(self, units: Decimal) -> "BilledFee":
        """The same, where what follows grants so many of the bought units."""
        return replace(self, consumed=max(Decimal(0), self.consumed - units))


def label(plan_name: str, item: ItemTerms) -> str:
    return f"{plan_name} · {item.name}" if item.name and item.name != plan_name else plan_name


def advance_line(item: ItemTerms, period: Period, *, since: datetime, plan_name: str, currency: str) -> Line:
    """A fee, bought packs or seats for a period from an instant in it: all from its start, else the share left."""
    share = period.left(since)
    amount = to_minor(item.advance * share, currency)
    what = label(plan_name, item) if item.is_fee else unit_label(plan_name, item)
    kind = FEE if item.is_fee else SEATS if item.is_seats else PREPAID
    return Line(
        kind,
        item.key,
        what if share == 1 else f"{what} (from {since:%-d %b %Y})",
        amount,
        currency,
        quantity=units_paid(item),
        rate=item.amount,
        starts_at=max(since, period.starts_at),
        ends_at=period.ends_at,
        derivation=_share_of_time(what, item, period, since, amount, currency),
        item_id=item.id,
    )


def more_line(
    before: ItemTerms, after: ItemTerms, period: Period, *, at: datetime, plan_name: str, currency: str
) -> Line:
    """The whole period's price of units that are bought on top of what was paid for already."""
    amount = to_minor(after.advance - before.advance, currency)
    units = units_paid(after) - units_paid(before)
    then, now = format_minor(to_minor(before.advance, currency), currency), price_words(after, currency)
    shown = format_minor(amount, currency)
    return Line(
        PREPAID,
        after.key,
        f"{plan_name} · {grouped(units)} more {after.label.lower() if not after.name else after.name}",
        amount,
        currency,
        quantity=units,
        starts_at=at,
        ends_at=period.ends_at,
        derivation={
            "sum": f"{now} − {then} paid already = {shown}, for the whole period",
            "price": str(after.advance - before.advance),
            "periodStartsAt": period.starts_at.isoformat(),
            "periodEndsAt": (period.ends_at or at).isoformat(),
        },
        item_id=after.id,
    )


def seats_line(
    item: ItemTerms, billed: Decimal, period: Period, *, at: datetime, plan_name: str, currency: str
) -> Line:
    """Seats that came on top of `billed` paid ones during a period: the share of it that is left, or all of it."""
    assert item.price is not None and item.feature is not None
    paid = units_paid(item)
    whole = rate(item.price, paid).amount - rate(item.price, billed).amount
    share = Fraction(1) if item.on_increase == IN_FULL else period.left(at)
    amount = to_minor(whole * share, currency)
    more = paid - billed
    price, shown = format_minor(to_minor(whole, currency), currency), format_minor(amount, currency)
    left = int(((period.ends_at or at) - max(at, period.starts_at)).total_seconds())
    passed = "" if share == 1 else f" × {left:,} s / {period.seconds:,} s"
    return Line(
        SEATS_ADDED,
        item.key,
        f"{plan_name} · {grouped(more)} more {item.label.lower() if not item.name else item.name}"
        f" (from {at:%-d %b %Y})",
        amount,
        currency,
        quantity=more,
        starts_at=at,
        ends_at=period.ends_at,
        derivation={
            "sum": f"{grouped(paid)} instead of {grouped(billed)}: {price}{passed} = {shown}",
            "price": str(whole),
            "share": str(share),
            "periodStartsAt": period.starts_at.isoformat(),
            "periodEndsAt": (period.ends_at or at).isoformat(),
        },
        item_id=item.id,
    )


def fewer_seats_lines(fees: Sequence[BilledFee], item: ItemTerms, billed: Decimal, at: datetime) -> list[Line]:
    """The credits for seats that were paid ahead and are given up: the newest charges first."""
    assert item.price is not None
    rest = rate(item.price, billed).amount - rate(item.price, units_paid(item)).amount
    units = billed - units_paid(item)
    given: list[BilledFee] = []
    for fee in reversed([fee for fee in fees if fee.key == item.key]):
        whole = fee.price if fee.listed is None else fee.listed
        listed = min(rest, whole)
        if listed <= 0:
            continue
        of_these = min(units, fee.units)
        given.append(replace(fee, price=fee.price * listed / whole, units=of_these))
        rest, units = rest - listed, units - of_these
    return [line for fee in given for line in _given_up(fee, at)]


def _given_up(fee: BilledFee, at: datetime) -> list[Line]:
    """The credit for a fee's units, which count once where a part of it comes off an open invoice."""
    lines = unused_lines([fee], at)
    return [replace(line, quantity=Decimal(0) if place else -fee.units) for place, line in enumerate(lines)]


def units_paid(item: ItemTerms) -> Decimal:
    """How many of it are paid for: the quantity of a fee, the units in bought packs, the seats beyond the included."""
    if item.is_fee:
        return Decimal(item.quantity)
    included = item.included or Decimal(0)
    if item.is_seats:
        return max(Decimal(0), (item.bought or Decimal(0)) - included * item.quantity)
    return ((item.granted or Decimal(0)) - included) * item.quantity


def unit_label(plan_name: str, item: ItemTerms) -> str:
    """`Pro · 300 credits`: what a line of bought units or seats is called."""
    assert item.feature is not None
    return f"{plan_name} · {grouped(units_paid(item))} {item.label.lower() if not item.name else item.name}"


def arrears_line(
    item: ItemTerms, period: Period, *, since: datetime, until: datetime, plan_name: str, currency: str
) -> Line:
    """A fee for the share of its period that has passed between two instants."""
    since, until = max(since, period.starts_at), min(until, period.ends_at or until)
    share = Fraction(max(0, int((until - since).total_seconds())), period.seconds)
    amount = to_minor(item.fee * share, currency)
    what = label(plan_name, item)
    price = price_words(item, currency)
    whole = share == 1
    passed = f"{int((until - since).total_seconds()):,} s / {period.seconds:,} s"
    days = _days(int((until - since).total_seconds()), period.seconds)
    return Line(
        FEE,
        item.key,
        f"{what} ({since:%-d %b} – {until:%-d %b %Y})",
        amount,
        currency,
        quantity=Decimal(item.quantity),
        rate=item.amount,
        starts_at=since,
        ends_at=until,
        derivation={
            "sum": f"{what}, whole period: {price} = {format_minor(amount, currency)}"
            if whole
            else f"{what}, {days}: {price} × {passed} = {format_minor(amount, currency)}",
            "inArrears": True,
            "share": str(share),
        },
        item_id=item.id,
    )


def one_time_line(item: ItemTerms, *, at: datetime, plan_name: str, currency: str) -> Line:
    """What is paid once: a set-up fee, or units that last."""
    amount = to_minor(item.advance, currency)
    what = label(plan_name, item) if item.is_fee else unit_label(plan_name, item)
    return Line(
        ONE_TIME,
        item.key,
        f"{what} (once)",
        amount,
        currency,
        quantity=units_paid(item),
        rate=item.amount,
        starts_at=at,
        derivation={"sum": f"{price_words(item, currency)} = {format_minor(amount, currency)}"},
        item_id=item.id,
    )


def price_words(item: ItemTerms, currency: str) -> str:
    """How the whole amount of an item comes about: `5 × $10.00`, `3 packs × $10.00`."""
    if item.is_fee:
        price = format_rate(item.amount or Decimal(0), currency)
        return f"{item.quantity} × {price}" if item.quantity != 1 else price
    assert item.price is not None
    if item.is_seats:
        return rate(item.price, units_paid(item)).words(currency)
    times = f"{item.quantity} × " if item.quantity != 1 else ""
    words = prepaid(item.price, item.bought or Decimal(0), item.included or Decimal(0)).words(currency)
    return f"{times}{words}"


def _share_of_time(
    what: str, item: ItemTerms, period: Period, since: datetime, amount: int, currency: str
) -> dict[str, Any]:
    assert period.ends_at is not None
    price = price_words(item, currency)
    left = int((period.ends_at - max(since, period.starts_at)).total_seconds())
    found: dict[str, Any] = {
        "price": str(item.advance),
        "periodStartsAt": period.starts_at.isoformat(),
        "periodEndsAt": period.ends_at.isoformat(),
        "seconds": left,
        "periodSeconds": period.seconds,
        "share": str(Fraction(left, period.seconds)),
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
        whole = min(to_minor(fee.price * fee.share(at), fee.currency), fee.net)
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
            "price": str(fee.price * Fraction(amount, whole)),
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
    transactions: tuple[Decimal, ...] = ()

    @property
    def included(self) -> Decimal:
        return max(Decimal(0), self.granted + self.adjusted)

    @property
    def overage(self) -> Decimal:
        return max(Decimal(0), self.used - self.granted - self.adjusted)


def usage_lines(use: RatedUse, *, plan_name: str, currency: str) -> list[Line]:
    """Use beyond what was included, in full, each unit at the price that was in force when it was used.

    An edit that took more than was granted is charged with the first units. Tiers count on from price to price; a
    price of the whole volume cannot be split, so the first one holds for the window.
    """
    lines: list[Line] = []
    before = Decimal(0)
    for item, units in _units_beyond(use):
        if item.price and item.is_usage and (units > 0 or item.price.charges_at_zero):
            lines.append(_usage(use, item, units, before, plan_name, currency))
        before += units
    return lines


def _units_beyond(use: RatedUse) -> list[tuple[ItemTerms, Decimal]]:
    first = use.segments[0][0]
    # What a wallet paid at once stays paid, so a window that was charged both ways is split whatever its price.
    if first.price is not None and first.price.is_indivisible and not any(i.is_instant for i, _ in use.segments):
        return [(first, use.overage)]
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


def _usage(use: RatedUse, item: ItemTerms, units: Decimal, before: Decimal, plan_name: str, currency: str) -> Line:
    assert item.feature is not None and item.price is not None
    if before:
        rated = rate(item.price, units, before=before)
    else:
        rated = rate_use(item.price, use.included + units, use.included, transactions=use.transactions)
    amount = to_minor(rated.amount, currency)
    what = label(plan_name, item) if item.name else f"{plan_name} · {item.feature.name}"
    beyond = f" beyond {grouped(use.included)}" if use.included else ""
    return Line(
        USAGE,
        item.key,
        f"{what}{beyond}",
        amount,
        currency,
        quantity=units,
        rate=item.price.rate or None,
        starts_at=use.starts_at,
        ends_at=use.ends_at,
        derivation={
            "sum": f"{grouped(use.used)} used − {grouped(use.included)} included: "
            f"{rated.words(currency)} = {format_minor(amount, currency)}",
            "used": plain(use.used),
            "included": plain(use.included),
            "adjusted": plain(use.adjusted),
            "exact": str(rated.amount),
        },
        item_id=item.id,
        balance_id=use.balance_id,
    )


def opening_lines(terms: PlanTerms, anchor: datetime, at: datetime, *, former: PlanTerms | None = None) -> list[Line]:
    """All that a new cycle asks for: the anchor's periods that contain the instant, and what is paid once and new."""
    return advance_lines(terms, anchor, at) + one_time_lines(terms, at, former=former)


def advance_lines(
    terms: PlanTerms, anchor: datetime, at: datetime, *, keys: Container[str] | None = None
) -> list[Line]:
    """The rest of the running period of everything paid in advance, of the given items (None: of all)."""
    return [
        advance_line(
            item,
            period_containing(anchor, Cadence.parse(terms.interval_of(item)), at),
            since=at,
            plan_name=terms.plan_name,
            currency=terms.currency,
        )
        for item in terms.advance_items
        if item.advance and (keys is None or item.key in keys)
    ]


def one_time_lines(terms: PlanTerms, at: datetime, *, former: PlanTerms | None) -> list[Line]:
    """What is paid once and the former terms of the same plan did not have: that was charged when they began."""
    same_plan = former if former is not None and former.plan_id == terms.plan_id else None
    return [
        one_time_line(item, at=at, plan_name=terms.plan_name, currency=terms.currency)
        for item in terms.once_items
        if item.advance and (same_plan is None or same_plan.item(item.key) is None or same_plan.is_one_off)
    ]


def switch_lines(former: PlanTerms, terms: PlanTerms, anchor: datetime, at: datetime) -> list[Line]:
    """What a scheduled change asks for at its boundary: a new cycle's, or what is due then and what is paid once."""
    if anchor == at:
        return opening_lines(terms, anchor, at, former=former)
    return renewal_lines(terms, anchor, at) + one_time_lines(terms, at, former=former)


def renewal_lines(terms: PlanTerms, anchor: datetime, at: datetime) -> list[Line]:
    """What is paid in advance for the periods that begin at this boundary."""
    due = {i.key for i in terms.advance_items if is_boundary(anchor, Cadence.parse(terms.interval_of(i)), at)}
    return advance_lines(terms, anchor, at, keys=due)


def total(lines: Sequence[Line]) -> int:
    return sum(line.amount for line in lines)
