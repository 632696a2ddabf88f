"""Levels that are paid ahead: what is held now, and what is held from the next period."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from billing_admin.flows.use import level_lines
from catalog.charges import Price
from catalog.periods import Cadence, boundary
from catalog.terms import NEXT_CYCLE, PlanTerms
from invoicing.lines import BilledFee, opening_lines, renewal_lines, units_paid
from tests.vectors.money.acts import paid_lines
from tests.vectors.money.values import Unplayed, Vector, calendar_month, plan, seats_item

ANCHOR = calendar_month("2025-06-01").starts_at
MID_MONTH = ANCHOR.replace(day=16)
NEXT = boundary(ANCHOR, Cadence(months=1), 1)


def _terms(level: int, currency: str) -> PlanTerms:
    """Seats that stay paid until the period ends, whoever leaves."""
    return plan([replace(seats_item(Price(rate=Decimal(10)), level), on_decrease=NEXT_CYCLE)], currency)


def licences(vector: Vector) -> dict[str, Any]:
    """After each step: the seats that are paid for now, and those that the next period asks for."""
    level, at = vector.given["licenses"], MID_MONTH
    fees: Sequence[BilledFee] = paid_lines(opening_lines(_terms(level, vector.currency), ANCHOR, ANCHOR))
    ledger = []
    for step in vector.given["steps"]:
        match step.split():
            case ["users", "drop" | "rise", "to", number]:
                level = int(number)
                terms = _terms(level, vector.currency)
                fees = [*fees, *paid_lines(level_lines(terms, "seats", list(fees), anchor=ANCHOR, at=at))]
            case ["renewal"]:
                fees = paid_lines(renewal_lines(_terms(level, vector.currency), ANCHOR, NEXT))
                at = NEXT.replace(day=16)
            case _:
                raise Unplayed(f"the step {step}")
        (item,) = _terms(level, vector.currency).items
        ledger.append({"now": sum(fee.units for fee in fees), "renewal": units_paid(item)})
    return {"ledger": ledger}
