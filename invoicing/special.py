"""Special prices: what one item of one contract costs for a while, instead of its own price or beside it. Pure.

A special price is made of components, each a fixed amount with a rule that says when it falls due. It holds for the
contract's billing periods from the first one due after it was given; dates and documents decide which ones, so a late
worker changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.core.exceptions import ValidationError

from catalog.money import format_minor, grouped, round_half_away, to_major
from catalog.periods import ONCE, Cadence, Period, boundary, count_until, period_containing
from catalog.terms import ItemTerms, PlanTerms
from invoicing.lines import OVERRIDE, UNUSED, USAGE, Line

REPLACE, ADD = "replace", "add"
MODES = (REPLACE, ADD)
FIXED = "fixed"
STEPS = {
    "DAILY": Cadence(span=timedelta(days=1)),
    "WEEKLY": Cadence(span=timedelta(weeks=1)),
    "MONTHLY": Cadence(months=1),
    "YEARLY": Cadence(months=12),
}
MONTH = Cadence(months=1)
MOST_COMPONENTS = 10
MOST_COUNT = 10_000
MOST_CENTS = 10**12
INSTANT = timedelta(microseconds=1)


class BadComponent(ValidationError):
    """What cannot be charged like this. `row` counts from 0, `field` is the name in the payload."""

    def __init__(self, why: str, *, row: int, field: str, code: str = "bad_component"):
        self.row, self.name = row, field
        self.field = f"components.{row}.{field}" if field else f"components.{row}"
        super().__init__(why, code=code)


class BadRule(ValidationError):
    def __init__(self, why: str):
        super().__init__(why, code="bad_recurrence_rule")


# When a component falls due -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """Every so many days, weeks, months or years from a first time; at most `count` times, not after `until`."""

    freq: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """From `RRULE:FREQ=MONTHLY;INTERVAL=1`. Raises `BadRule` with a sentence for everything else."""
        parts = _parts(text)
        freq = parts.pop("FREQ", "")
        if freq not in STEPS:
            raise BadRule(f"FREQ is {', '.join(STEPS)}, not {freq!r}." if freq else "The rule lacks FREQ.")
        interval = _whole("INTERVAL", parts.pop("INTERVAL", "1"), most=1_000)
        count = _whole("COUNT", parts.pop("COUNT"), most=MOST_COUNT) if "COUNT" in parts else None
        until = _until(parts.pop("UNTIL")) if "UNTIL" in parts else None
        if parts:
            raise BadRule(f"{', '.join(sorted(parts))} cannot be used here: only FREQ, INTERVAL, COUNT and UNTIL can.")
        if count and until:
            raise BadRule("A rule has COUNT or UNTIL, not both.")
        if freq == "DAILY" and not (count or until):
            raise BadRule("A daily rule needs COUNT or UNTIL, so that it ends.")
        return cls(freq, interval, count, until)

    def __str__(self) -> str:
        ends = f";COUNT={self.count}" if self.count else f";UNTIL={self.until:%Y%m%dT%H%M%SZ}" if self.until else ""
        return f"RRULE:FREQ={self.freq};INTERVAL={self.interval}{ends}"

    @property
    def words(self) -> str:
        """`every month`, `every 2 weeks, 3 times`."""
        unit = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}[self.freq]
        if self.count == 1:
            return "once"
        every = f"every {unit}" if self.interval == 1 else f"every {self.interval} {unit}s"
        if self.count:
            return f"{every}, {self.count} times"
        return f"{every}, until {self.until:%-d %b %Y}" if self.until else every

    def time(self, n: int, first: datetime, anchor: datetime) -> datetime:
        """The n-th time it falls due. Months are counted from the anchor, so that none is skipped for being short."""
        step = STEPS[self.freq]
        if not step.months:
            return first + n * self.interval * step.span
        months = count_until(anchor, MONTH, first)
        if boundary(anchor, MONTH, months) != first:
            anchor, months = first, 0
        return boundary(anchor, MONTH, months + n * self.interval * step.months)

    def times_in(self, period: Period, first: datetime, anchor: datetime) -> int:
        """How often it falls due in a period, when the first time is `first`."""
        found = n = 0
        while self.count is None or n < self.count:
            at = self.time(n, first, anchor)
            if (period.ends_at and at >= period.ends_at) or (self.until and at > self.until):
                break
            found += at >= period.starts_at
            n += 1
        return found


def _parts(text: str) -> dict[str, str]:
    body = text.strip().removeprefix("RRULE:") if isinstance(text, str) else ""
    if not body:
        raise BadRule("Give a rule such as RRULE:FREQ=MONTHLY;INTERVAL=1.")
    if "TZID" in body.upper():
        raise BadRule("A rule has no time zone (TZID): all instants are UTC.")
    parts: dict[str, str] = {}
    for piece in body.split(";"):
        name, sign, value = piece.partition("=")
        if not sign or not name or not value or name in parts:
            raise BadRule(f"{piece[:40]!r} is not a part of a rule; one looks like RRULE:FREQ=MONTHLY;INTERVAL=1.")
        parts[name] = value
    return parts


def _whole(name: str, text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadRule(f"{name} is a whole number from 1 to {most:,}, not {text[:20]!r}.")
    return int(text)


def _until(text: str) -> datetime:
    for shape in ("%Y%m%dT%H%M%SZ", "%Y%m%d"):
        try:
            return datetime.strptime(text, shape).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise BadRule(f"UNTIL is a day or an instant in UTC such as 20261231T000000Z, not {text[:20]!r}.")


# What is charged ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Component:
    """A fixed amount in minor units, below zero for one that takes off."""

    label: str
    amount: int
    rule: Rule

    def to_json(self) -> dict[str, Any]:
        return {
            "type": FIXED,
            "label": self.label,
            "amount_cents": self.amount,
            "recurrence_rule": str(self.rule),
        }


def read_components(raw: Iterable[Mapping[str, Any]], *, mode: str, currency: str) -> tuple[Component, ...]:
    """Components as callers send them. Raises `BadComponent` beside the row and the field."""
    rows = list(raw)
    if not rows:
        raise ValidationError("A special price has at least one component.", code="no_components")
    if len(rows) > MOST_COMPONENTS:
        raise ValidationError(f"A special price has at most {MOST_COMPONENTS} components.", code="too_many_components")
    found: list[Component] = []
    for row, each in enumerate(rows):
        component = _component(each, row, mode=mode, currency=currency)
        if component.label in [other.label for other in found]:
            raise BadComponent("Each component has a label of its own.", row=row, field="label")
        found.append(component)
    return tuple(found)


def _component(raw: Mapping[str, Any], row: int, *, mode: str, currency: str) -> Component:
    if raw.get("type", FIXED) != FIXED:
        raise BadComponent(f"A component is of type {FIXED!r}.", row=row, field="type")
    if raw.get("currency", currency) != currency:
        why = f"This contract is in {currency}, so its special prices are, too."
        raise BadComponent(why, row=row, field="currency", code="foreign_currency")
    label, amount = str(raw.get("label") or "").strip(), raw.get("amount_cents")
    if not label or len(label) > 120:
        raise BadComponent("Say in up to 120 letters what the customer reads for it.", row=row, field="label")
    if not isinstance(amount, int) or isinstance(amount, bool) or abs(amount) > MOST_CENTS:
        raise BadComponent("The amount is a whole number of minor units (cents).", row=row, field="amount_cents")
    if amount < 0 and mode != ADD:
        why = "An amount below zero can only stand beside the item's own price (mode add)."
        raise BadComponent(why, row=row, field="amount_cents")
    try:
        rule = Rule.parse(raw.get("recurrence_rule") or "")
    except BadRule as bad:
        raise BadComponent(str(bad.message), row=row, field="recurrence_rule", code="bad_recurrence_rule") from bad
    return Component(label, amount, rule)


def stored_components(raw: Iterable[Mapping[str, Any]]) -> tuple[Component, ...]:
    """As they were written; what was accepted once is not asked about again."""
    return tuple(Component(c["label"], c["amount_cents"], Rule.parse(c["recurrence_rule"])) for c in raw)


# On which lines -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Special:
    """A special price as billing sees it: of one item of one plan, given at `since`, revoked at `until`.

    `cycles` are the billing periods it was given for (None: until revoked); `used` those that documents count by
    now, each by its start.
    """

    id: int
    plan_id: int
    item_key: str
    mode: str
    components: tuple[Component, ...]
    cycles: int | None
    since: datetime
    until: datetime | None = None
    used: frozenset[datetime] = frozenset()
    # From when on it is a price of another item, because the contract was moved to another version (None: of none).
    moves: tuple[tuple[datetime, str | None], ...] = ()

    def key_at(self, at: datetime) -> str | None:
        """The item that it is a price of at the instant."""
        key: str | None = self.item_key
        for since, moved_to in self.moves:
            if since <= at:
                key = moved_to
        return key

    @property
    def left(self) -> int | None:
        """Billing periods to come; None without an end."""
        return None if self.cycles is None else max(0, self.cycles - len(self.used))

    def holds(self, at: datetime, cycle: datetime, *, opens: bool) -> bool:
        """Whether a document of this instant takes it: every document of a period that counts it, or opens one."""
        in_force = self.since < at and (self.until is None or at < self.until)
        return in_force and (cycle in self.used or (opens and self.left != 0))


def priced_items(terms: PlanTerms) -> list[ItemTerms]:
    """What a special price can be given for: whatever is billed again and again."""
    if not terms.is_invoiced:
        return []
    priced = [item for item in terms.items if item.is_fee or (item.price is not None and not item.is_instant)]
    return [item for item in priced if terms.interval_of(item) != ONCE]


def ahead_lines(
    lines: Sequence[Line], specials: Iterable[Special], terms: PlanTerms, anchor: datetime, at: datetime
) -> list[Line]:
    """Lines of what is paid in advance, with the special prices of the periods that begin or go on at the instant.

    In the middle of a period that is charged again (a change of plan), the special price that it had holds for the
    rest of it.
    """
    found = list(lines)
    for special, item in _of(specials, terms, at):
        if not item.in_advance:
            continue
        period = period_containing(anchor, Cadence.parse(terms.interval_of(item)), at)
        cycle = period_containing(anchor, Cadence.parse(terms.cadence), at).starts_at
        opens, own = period.starts_at == at, [line for line in found if _is_own(line, item)]
        if special.holds(at, cycle, opens=opens) and (opens or own):
            part = Period(at, period.ends_at)
            drawn = _drawn(special, item, terms, anchor, period=period, part=part, cycle=cycle, own=own)
            found = _placed(found, own, drawn, special)
    return found


def behind_lines(
    lines: Sequence[Line],
    specials: Iterable[Special],
    terms: PlanTerms,
    anchor: datetime,
    at: datetime,
    *,
    since: datetime,
    closes: bool,
) -> list[Line]:
    """Lines of use and of fees in arrears, with the special prices of the periods that end at the instant.

    `since` is when the contract came to be billed like this; a fee's elapsed share counts from there.
    """
    found = list(lines)
    for special, item in _of(specials, terms, at - INSTANT):
        period = period_containing(anchor, Cadence.parse(terms.interval_of(item)), at - INSTANT)
        if item.in_advance or not (closes or period.ends_at == at):
            continue
        cycle = period_containing(anchor, Cadence.parse(terms.cadence), at - INSTANT).starts_at
        if special.holds(at, cycle, opens=True):
            own = [line for line in found if _is_own(line, item)]
            begun = min((line.starts_at for line in own if line.starts_at and item.is_fee), default=since)
            part = Period(max(begun, period.starts_at) if item.is_fee else period.starts_at, at)
            drawn = _drawn(special, item, terms, anchor, period=period, part=part, cycle=cycle, own=own)
            found = _placed(found, own, drawn, special)
    return found


def counted(specials: Iterable[Special], lines: Iterable[Line]) -> tuple[Special, ...]:
    """The same, once a document with these lines is written."""
    cycles: dict[int, set[datetime]] = {}
    for line in lines:
        if line.override_id is not None and "cycle" in line.derivation:
            cycles.setdefault(line.override_id, set()).add(datetime.fromisoformat(line.derivation["cycle"]))
    return tuple(replace(s, used=s.used | cycles[s.id]) if s.id in cycles else s for s in specials)


def not_below_zero(lines: Sequence[Line]) -> list[Line]:
    """What takes off takes no more than is charged beside it."""
    left = sum(line.amount for line in lines if line.kind != UNUSED and line.amount > 0)
    found = []
    for line in lines:
        if line.kind == OVERRIDE and line.amount < 0:
            taken = max(line.amount, -left)
            left += taken
            if taken != line.amount:
                line = _cut(line, taken)
        found.append(line)
    return found


def _cut(line: Line, amount: int) -> Line:
    words = f"{line.derivation['sum']}, of which {format_minor(amount, line.currency)} fits"
    facts = line.derivation | {"sum": words}
    if "price" in facts:
        facts["price"] = str(Fraction(facts["price"]) * Fraction(amount, line.amount))
    return replace(line, amount=amount, derivation=facts)


def _of(specials: Iterable[Special], terms: PlanTerms, at: datetime) -> list[tuple[Special, ItemTerms]]:
    """The special prices of these terms with their items, as of the instant."""
    items = {item.key: item for item in priced_items(terms)}
    ours = [(s, s.key_at(at)) for s in specials if s.plan_id == terms.plan_id]
    found = [(special, items[key]) for special, key in ours if key is not None and key in items]
    return sorted(found, key=lambda pair: (pair[0].mode == ADD, pair[0].id))


def _is_own(line: Line, item: ItemTerms) -> bool:
    return line.key == item.key and line.kind not in (OVERRIDE, UNUSED) and line.override_id is None


def _placed(lines: list[Line], own: Sequence[Line], drawn: list[Line], special: Special) -> list[Line]:
    """The special lines in the place of the item's own ones, or after them."""
    place = lines.index(own[-1]) + 1 if own else len(lines)
    before, behind = lines[:place], lines[place:]
    if special.mode == REPLACE:
        # A window that was used is settled with its line; the line stays, at nothing.
        settled = [_settled(line, special) for line in own if line.kind == USAGE]
        before = [line for line in before if line not in own]
        drawn = [*settled, *drawn]
    return [*before, *drawn, *behind]


def _settled(line: Line, special: Special) -> Line:
    names = ", ".join(component.label for component in special.components)
    words = f"{grouped(line.quantity)} units at a special price: {names}"
    return replace(line, amount=0, rate=None, override_id=special.id, derivation=line.derivation | {"sum": words})


def _drawn(
    special: Special,
    item: ItemTerms,
    terms: PlanTerms,
    anchor: datetime,
    *,
    period: Period,
    part: Period,
    cycle: datetime,
    own: Sequence[Line],
) -> list[Line]:
    """One line per component that falls due in the period; a line of nothing where none does, so that it counts."""
    given = period_containing(anchor, Cadence.parse(terms.interval_of(item)), special.since)
    first = given.ends_at if item.in_advance else given.starts_at
    assert first is not None and part.ends_at is not None
    share = Fraction(part.seconds, period.seconds) if item.is_fee or item.in_advance else Fraction(1)
    times = [(c, c.rule.times_in(period, first, anchor)) for c in special.components]
    due = [(component, n) for component, n in times if n]
    instead = sum(line.amount for line in own) if special.mode == REPLACE and own else None
    facts: dict[str, Any] = {"cycle": cycle.isoformat()}
    base = Line(
        OVERRIDE,
        item.key,
        "",
        0,
        terms.currency,
        starts_at=part.starts_at,
        ends_at=part.ends_at,
        item_id=item.id,
        override_id=special.id,
    )
    if not due:
        label = f"{special.components[0].label} (nothing in this period)"
        return [replace(base, description=label, derivation=facts | {"sum": label})]
    lines = []
    for component, n in due:
        whole = component.amount * n
        amount = round_half_away(whole * share)
        if item.in_advance:
            # What a change of plan needs to give unused time back.
            facts = facts | {
                "price": str(Fraction(to_major(whole, terms.currency))),
                "periodStartsAt": period.starts_at.isoformat(),
                "periodEndsAt": (period.ends_at or part.ends_at).isoformat(),
            }
        words = _sum(component, n, part, period, share, amount, terms.currency, instead)
        label = component.label if share == 1 else f"{component.label} (from {part.starts_at:%-d %b %Y})"
        lines.append(
            replace(
                base,
                description=label,
                amount=amount,
                quantity=Decimal(n),
                rate=to_major(component.amount, terms.currency),
                derivation=facts | {"sum": words} | ({"share": str(share)} if share != 1 else {}),
            )
        )
        instead = None
    return lines


def _sum(
    component: Component,
    n: int,
    part: Period,
    period: Period,
    share: Fraction,
    amount: int,
    currency: str,
    instead: int | None,
) -> str:
    price = format_minor(component.amount, currency)
    words = f"{component.label}, {component.rule.words}: {f'{n} × ' if n != 1 else ''}{price}"
    if share != 1:
        words += f" × {part.seconds:,} s / {period.seconds:,} s"
    words += f" = {format_minor(amount, currency)}" if n != 1 or share != 1 else ""
    return words if instead is None else f"{words}, instead of {format_minor(instead, currency)}"
