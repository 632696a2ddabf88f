"""Stubs: the first and the last part of a period, starts in the past, pauses, another billing day."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.periods import Cadence, boundary, count_until
from invoicing.documents import BillingRules, draw
from invoicing.lines import Line, opening_lines, renewal_lines, total, unused_lines
from invoicing.pipeline import draw_up
from tests.vectors.money.acts import paid_for
from tests.vectors.money.values import (
    INTERVALS,
    Minor,
    Vector,
    aligned,
    cadence_of,
    calendar_month,
    date,
    fee,
    instant,
    plan,
    tax_terms,
)

MONTH = Cadence(months=1)


def share_of(line: Line) -> Fraction:
    """The share of its period that a line is for, as its derivation tells it."""
    return Fraction(line.derivation["seconds"], line.derivation["periodSeconds"])


def _rest(price: Decimal, code: str, anchor: datetime, since: datetime, currency: str) -> Line:
    """A fee for the rest of the anchored period that contains an instant."""
    (line,) = opening_lines(plan([fee(price, code)], currency), anchor, since)
    return line


def _span(line: Line) -> list[str]:
    return [date(line.starts_at), date(line.ends_at)]


def stub_charge(vector: Vector) -> dict[str, Any]:
    """A stub that ends on a date is part of the whole period that ends there."""
    start, end = instant(vector.given["start"]), instant(vector.given["end"])
    code = INTERVALS[vector.given.get("interval", "month")]
    line = _rest(vector.amount("price"), code, end, start, vector.currency)
    return {"amount": Minor(line.amount), "fraction": share_of(line)}


def start_paid_phase(vector: Vector) -> dict[str, Any]:
    at, code = vector.at(), vector.interval("price") or "P1M"
    line = _rest(vector.amount("price"), code, aligned(vector.given["bill_cycle_day"], code, at), at, vector.currency)
    return {"charge": Minor(line.amount), "charge_period": _span(line)}


def start(vector: Vector) -> dict[str, Any]:
    """A first fee in calendar months, after the trial if there is one."""
    at = vector.at() + timedelta(days=vector.given.get("trial_days", 0))
    line = _rest(vector.amount("amount"), "P1M", calendar_month(date(at)).starts_at, at, vector.currency)
    rates = tax_terms(vector)
    drawn = draw_up([line], taxes=lambda line: rates)
    return {"fee_minor": Minor(drawn.subtotal), "tax_minor": Minor(drawn.tax_total), "total_minor": Minor(drawn.total)}


def backdated_start(vector: Vector) -> dict[str, Any]:
    """A start in the past, up to the first regular period; or several months of it."""
    given = vector.given
    if "start" not in given:
        return _months_back(vector)
    anchor, since = instant(given["first_anchor"]), instant(given["start"])
    line = _rest(Decimal(1_000_000), INTERVALS[given["interval"]], anchor, since, vector.currency)
    digits = len(vector.expected["share"].partition(".")[2])
    return {"share": round(share_of(line), digits), "fraction": share_of(line)}


def pause(vector: Vector) -> dict[str, Any]:
    """Time that will not be used goes to account credit, on a credit note of its own."""
    period, terms = vector.span("paid"), plan([fee(vector.amount("price"), "P1Y")], vector.currency)
    (document,) = draw(unused_lines(paid_for(terms, period), vector.at()), BillingRules())
    return {"credit": Minor(document.total), "account_credit": Minor(-document.total)}


def resume(vector: Vector) -> dict[str, Any]:
    """The rest of the year that a bill-cycle day makes, paid by account credit as far as it goes."""
    at, code = vector.at(), vector.interval("price") or "P1M"
    line = _rest(vector.amount("price"), code, aligned(vector.given["bill_cycle_day"], code, at), at, vector.currency)
    (document,) = draw([line], BillingRules(account_credit=vector.minor("account_credit")))
    return {
        "charge": Minor(line.amount),
        "charge_period": _span(line),
        "credit_used": Minor(document.drawn.account_credit),
        "amount_due": Minor(document.drawn.due),
    }


def invoice_on_again(vector: Vector) -> dict[str, Any]:
    """A pause that is billed late: the paused time is given back, and the year ends later by what it lasted."""
    paid, paused = vector.span("paid"), vector.span("paused")
    assert paid.ends_at is not None and paused.ends_at is not None
    terms = plan([fee(vector.amount("price"), cadence_of(paid))], vector.currency)
    given_back = unused_lines(paid_for(terms, paid), paused.starts_at)
    again = opening_lines(terms, paid.starts_at, paused.ends_at)
    # The new year keeps the billing day and begins with the month in which the contract went on.
    anchor = boundary(paid.starts_at, MONTH, count_until(paid.starts_at, MONTH, paused.ends_at))
    (extension,) = opening_lines(terms, anchor, paid.ends_at)
    return {
        "credit": Minor(total(given_back + again)),
        "extension_charge": Minor(extension.amount),
        "extension": _span(extension),
    }


def change_plan_and_anchor(vector: Vector) -> dict[str, Any]:
    """A new price from a new billing day: the short stub until then, and all unused time given back."""
    period, at = vector.span("paid"), vector.at()
    old = plan([fee(vector.amount("old_price"), cadence_of(period))], vector.currency)
    credits = unused_lines(paid_for(old, period), at)
    anchor = aligned(vector.given["new_bill_cycle_day"], old.cadence, at)
    charge = _rest(vector.amount("new_price"), old.cadence, anchor, at, vector.currency)
    (document,) = draw([*credits, charge], BillingRules())
    return {
        "charge": Minor(charge.amount),
        "credit": Minor(total(credits)),
        "account_credit": Minor(max(0, -document.total)),
    }


def _months_back(vector: Vector) -> dict[str, Any]:
    """What half a year in the past asks for: a line for each of its periods, none over a boundary."""
    anchor = instant("2024-01-31")
    terms = plan([fee(Decimal(10), "P1M")], vector.currency)
    lines = opening_lines(terms, anchor, instant("2024-02-10"))
    for n in range(1, 7):
        lines += renewal_lines(terms, anchor, boundary(anchor, MONTH, n))
    ends = [boundary(anchor, MONTH, n) for n in range(1, 8)]
    return {"flexible": "one line per natural period" if [line.ends_at for line in lines] == ends else "other lines"}


PLAYERS = {
    "backdated_start": backdated_start,
    "change_plan_and_anchor": change_plan_and_anchor,
    "invoice_on_again": invoice_on_again,
    "pause": pause,
    "resume": resume,
    "start": start,
    "start_paid_phase": start_paid_phase,
    "stub_charge": stub_charge,
}
