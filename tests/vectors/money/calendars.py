"""Dates: cycles, month ends, anchors, and how much of a cycle a stub is."""

from datetime import datetime, timedelta
from fractions import Fraction
from itertools import count, pairwise, takewhile
from typing import Any

from django.core.exceptions import ValidationError

from catalog.money import round_half_away
from catalog.periods import (
    Cadence,
    Period,
    boundary,
    calendar_anchor,
    count_until,
    is_boundary,
    period_containing,
    window,
)
from catalog.terms import ItemTerms
from invoicing.lines import opening_lines, renewal_lines, unused_lines
from tests.vectors.money.acts import paid_lines
from tests.vectors.money.proration import share_of
from tests.vectors.money.values import INTERVALS, Minor, Unplayed, Vector, aligned, date, fee, instant, plan


def proration_ratio(vector: Vector) -> dict[str, Any]:
    """The stub that a first cycle is, as the share of its line."""
    given = vector.given
    if "start" not in given:
        return _ratio_without_zone()
    start, cadence = instant(given["start"]), INTERVALS[given["interval"]]
    anchor = aligned(given["bill_cycle_day"], cadence, start)
    (line,) = opening_lines(plan([_one(cadence)], vector.currency), anchor, start)
    if date(line.ends_at) != given["end"]:
        raise Unplayed(f"the stub ends on {date(line.ends_at)}, not {given['end']}")
    share = share_of(line)
    return {"ratio": at_scale(share, vector), "fraction": share}


def _ratio_without_zone() -> dict[str, Any]:
    """The share of a month between instants that nobody said the zone of."""
    start = instant("2024-01-01").replace(tzinfo=None)
    return {"ratio": period_containing(start, Cadence(months=1), start).left(start)}


def billing_cycles(vector: Vector) -> dict[str, Any]:
    """How many cycles are billed by a date: what was asked for in advance, less what is given back at the end."""
    given = vector.given
    if "rule" in given:
        return _out_of_order(vector)
    start, as_of = instant(given["start"]), instant(given["as_of"])
    end = instant(given["end"]) if given["end"] else None
    cadence = INTERVALS[given["interval"]]
    anchor = aligned(given["bill_cycle_day"], cadence, start)
    cycles = _cycles(anchor, cadence, Period(start, end), as_of, vector.currency)
    return {"cycles": cycles, "cycles_decimal": at_scale(cycles, vector)}


def _out_of_order(vector: Vector) -> dict[str, Any]:
    """Dates in the wrong order, one case for each that the rule names: all of them are refused."""
    early, late = instant("2024-01-01"), instant("2024-02-01")
    cases = {"as_of before start": (None, early), "or end before start": (early, late)}
    refusals = []
    for rule in vector.given["rule"].split(", "):
        end, as_of = cases[rule]
        try:
            found = _cycles(late, "P1M", Period(late, end), as_of, vector.currency)
        except ValidationError as refusal:
            refusals.append(refusal)
        else:
            return {"cycles": found}
    raise ValidationError(refusals)


def _cycles(anchor: datetime, code: str, contract: Period, as_of: datetime, currency: str) -> Fraction:
    asked, cadence = Period(contract.starts_at, as_of), Cadence.parse(code)
    terms = plan([_one(code)], currency)
    lines, given_back = opening_lines(terms, anchor, asked.starts_at), Fraction(0)
    first = count_until(anchor, cadence, asked.starts_at) + 1
    for n in count(first):
        at = boundary(anchor, cadence, n)
        if at > as_of or at not in contract:
            break
        lines += renewal_lines(terms, anchor, at)
    if contract.ends_at is not None:
        paid = paid_lines([line for line in lines if line.ends_at and line.ends_at > contract.ends_at])
        given_back = sum(map(share_of, unused_lines(paid, contract.ends_at)), Fraction(0))
    return sum(map(share_of, lines), Fraction(0)) - given_back


def _one(cadence: str) -> ItemTerms:
    """A fee large enough that none of its shares rounds to nothing."""
    return fee(1_000_000, cadence)


def at_scale(share: Fraction, vector: Vector) -> Fraction:
    """As the file prints it: with so many digits."""
    digits = vector.policy["scale"]
    return Fraction(round_half_away(share * 10**digits), 10**digits)


def first_billing_cycle_date(vector: Vector) -> dict[str, Any]:
    start, code = instant(vector.given["start"]), INTERVALS[vector.given["interval"]]
    anchor, cadence = aligned(vector.given["bill_cycle_day"], code, start), Cadence.parse(code)
    period = period_containing(anchor, cadence, start)
    return {"date": date(start if is_boundary(anchor, cadence, start) else period.ends_at)}


def next_billing_date(vector: Vector) -> dict[str, Any]:
    """The end of the period that begins at a date; the anchor's day comes back after shorter months."""
    given = vector.given
    current, months = instant(given["current"]), Cadence.parse(INTERVALS[given["interval"]]).months
    cadence = Cadence(months=months * given["interval_count"])
    if given["alignment"] == "calendar":
        anchor = calendar_anchor(cadence, current)
    elif current.day == given["anchor_day"]:
        anchor = current
    else:
        anchor = aligned(given["anchor_day"], "P1M", current)
    return {"date": date(period_containing(anchor, cadence, current).ends_at)}


def billing_days(vector: Vector) -> dict[str, Any]:
    given, cadence = vector.given, Cadence.parse(INTERVALS[vector.given["interval"]])
    if "subscription_at" in given:
        anchor, start, end = map(instant, (given["subscription_at"], given["from_"], given["to"]))
        first = count_until(anchor, cadence, start - timedelta(seconds=1)) + 1
        days = takewhile(lambda at: at <= end, (boundary(anchor, cadence, n) for n in count(first)))
        return {"dates": [date(at) for at in days]}
    return {"dates_month_day": _month_days(given["anchor"], cadence, given["count"])}


def _month_days(anchor: str, cadence: Cadence, number: int) -> list[str]:
    """Boundaries as month and day, in a common year and, where it differs, in a leap year."""
    rows = []
    for year in (2023, 2024):
        at = datetime.strptime(f"{anchor} {year} +0000", "%b %d %Y %z")
        rows.append([f"{boundary(at, cadence, n):%m-%d}" for n in range(1, number + 1)])
    pairs = zip(*rows, strict=True)
    return [common if common == leap else f"{common} ({leap} in a leap year)" for common, leap in pairs]


def periods_inclusive(vector: Vector) -> dict[str, Any]:
    """Periods with their last day instead of their exclusive end."""
    given, cadence = vector.given, Cadence.parse(INTERVALS[vector.given["interval"]])
    anchor = at = instant(given["subscription_at"])
    found = []
    for _ in range(given["count"]):
        period = period_containing(anchor, cadence, at)
        assert period.ends_at is not None
        found.append([date(period.starts_at), date(period.ends_at - timedelta(days=1))])
        at = period.ends_at
    return {"periods": found}


def bucket_starts(vector: Vector) -> dict[str, Any]:
    anchor = at = instant(vector.given["anchor"])
    found = []
    for _ in range(vector.given["count"]):
        span = window(INTERVALS[vector.given["window"]], anchor, at)
        assert span.ends_at is not None
        found.append(date(span.starts_at))
        at = span.ends_at
    return {"dates": found}


def advance_months(vector: Vector) -> dict[str, Any]:
    """Every period of a fee after a free phase: whole ones only, whatever clocks do elsewhere."""
    given = vector.given
    created, (starts, free_until) = instant(given["created"]), map(instant, given["free_phase"].split(".."))
    anchor = boundary(created, Cadence(months=1), count_until(starts, Cadence(months=1), free_until))
    terms = plan([fee(vector.amount("price"), "P1M")], vector.currency)
    lines = opening_lines(terms, anchor, anchor)
    for n in range(1, given["count"]):
        lines += renewal_lines(terms, anchor, boundary(anchor, Cadence(months=1), n))
    if any(line.ends_at != after.starts_at for line, after in pairwise(lines)):
        raise Unplayed("periods overlap or leave a gap")
    stubs = [line for line in lines if share_of(line) != 1]
    amounts = {line.amount for line in lines}
    return {
        "each_period_amount": Minor(amounts.pop()) if len(amounts) == 1 else sorted(amounts),
        "stubs": len(stubs),
        "first_period": [date(lines[0].starts_at), date(lines[0].ends_at)],
    }


PLAYERS = {
    "advance_months": advance_months,
    "billing_cycles": billing_cycles,
    "billing_days": billing_days,
    "bucket_starts": bucket_starts,
    "first_billing_cycle_date": first_billing_cycle_date,
    "next_billing_date": next_billing_date,
    "periods_inclusive": periods_inclusive,
    "proration_ratio": proration_ratio,
}
