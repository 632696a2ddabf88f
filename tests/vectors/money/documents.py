"""Documents: commitments, taxes, account credit, and the order in which they come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing_admin.flows.boundary import Stretch, commitment_of
from catalog.charges import Price, rate
from catalog.periods import Period
from catalog.terms import METERED, FeatureTerms, ItemTerms
from invoicing.commitment import Commitment
from invoicing.discounts import DiscountTerms
from invoicing.documents import BillingRules, Document, draw
from invoicing.lines import FEE, TRUE_UP, UNUSED, Line, RatedUse, opening_lines, usage_lines
from invoicing.pipeline import draw_up
from tests.vectors.money.charges import price_of
from tests.vectors.money.values import Minor, Vector, calendar_month, date, fee, instant, plan, tax_terms

JUNE = calendar_month("2025-06-01")


def charges(amounts: Sequence[int], currency: str) -> list[Line]:
    """Charges of these amounts in minor units, each of an item of its own."""
    return [Line(FEE, f"fee-{n}", f"Fee {n}", amount, currency) for n, amount in enumerate(amounts, 1)]


def usage(price: Price, units: Decimal, currency: str, *, month: Period = JUNE) -> list[Line]:
    """The use of a month under a price."""
    item = ItemTerms("usage", feature=FeatureTerms("usage", "Usage", METERED), price=price, reset="P1M")
    use = RatedUse(None, Decimal(0), Decimal(0), units, ((item, units),), month.starts_at, month.ends_at)
    return usage_lines(use, plan_name="Plan 1", currency=currency)


def invoice(vector: Vector) -> dict[str, Any]:
    """The document of what a vector names, in whatever part of the pipeline it is about."""
    given = vector.given
    lines = _lines(vector)
    rules = BillingRules(
        discounts=tuple(
            DiscountTerms(n, "coupon", amount=amount) for n, amount in enumerate(given.get("coupons_minor", []), 1)
        ),
        taxes=tuple(tax_terms(vector)),
        account_credit=vector.minor("wallet") if "wallet" in given else 0,
    )
    (document,) = draw(lines, rules, commitment=_commitment(vector), currency=vector.currency)
    found = _found(document, rules)
    if "model" in given:
        rated = rate(price_of(vector, given["model"]), Decimal(given["quantity"]))
        found["lines"] = [step.amount for step in rated.steps]
    return found


def _lines(vector: Vector) -> list[Line]:
    given, currency = vector.given, vector.currency
    if "lines_minor" in given:
        return charges(given["lines_minor"], currency)
    if "model" in given:
        return usage(price_of(vector, given["model"]), Decimal(given["quantity"]), currency)
    since = _started(vector)
    found = []
    if vector.has("fee"):
        terms = plan([fee(vector.amount("fee"), "P1M")], currency)
        found += opening_lines(terms, since.replace(day=1), since)
    if vector.has("usage"):
        found += usage(Price(rate=vector.amount("usage")), Decimal(1), currency, month=calendar_month(date(since)))
    return found


def _started(vector: Vector) -> datetime:
    return instant(vector.given["started"]) if "started" in vector.given else JUNE.starts_at


def _commitment(vector: Vector) -> Commitment | None:
    """The least that the period costs, for the part of it that the contract lasts."""
    name = next((name for name in ("commitment", "minimum") if vector.has(name)), None)
    if name is None:
        return None
    since = _started(vector)
    month = calendar_month(date(since))
    assert month.ends_at is not None
    terms = replace(plan([], vector.currency), commitment=vector.amount(name))
    charged = vector.minor("already_billed") if vector.has("already_billed") else 0
    return commitment_of([Stretch(terms, month.starts_at, since)], month.ends_at, charged=charged, closes=False)


def _found(document: Document, rules: BillingRules) -> dict[str, Any]:
    drawn = document.drawn
    true_up = Minor(sum(each.line.amount for each in drawn.lines if each.line.kind == TRUE_UP))
    tax, total = Minor(drawn.tax_total), Minor(drawn.total)
    return {
        "subtotal": Minor(drawn.subtotal),
        "lines": [Minor(each.line.amount) for each in drawn.lines],
        "coupon_total_minor": Minor(drawn.discount_total),
        "true_up": true_up,
        "true_up_minor": true_up,
        "tax": tax,
        "tax_minor": tax,
        "total": total,
        "total_minor": total,
        "wallet_left": Minor(rules.after([document]).account_credit),
    }


def tax(vector: Vector) -> dict[str, Any]:
    """One price with its tax, on top of it or inside."""
    amount = vector.minor(vector.first("taxable", "price"))
    rates = tax_terms(vector)
    drawn = draw_up(charges([amount], vector.currency), taxes=lambda line: rates)
    (total,) = drawn.tax_totals
    return {"net": Minor(total.taxable), "tax": Minor(total.amount), "gross": Minor(drawn.total)}


def credit_in_two_parts(vector: Vector) -> dict[str, Any]:
    """Credit notes with the tax of the invoice that they give back."""
    rates = tax_terms(vector)
    found: dict[str, Any] = {}
    notes = []
    for n, amount in enumerate(vector.given["credit_notes_minor"], 1):
        line = Line(UNUSED, "fee-1", "Credit", -amount, vector.currency)
        drawn = draw_up([line], taxes=lambda line: rates)
        notes.append(drawn.total)
        found[f"cn{n}"] = {"net": -drawn.subtotal, "tax": -drawn.tax_total, "total": -drawn.total}
    whole = draw_up(charges([vector.given["invoice_minor"]], vector.currency), taxes=lambda line: rates)
    return found | {"sum_total_minor": Minor(-sum(notes)) if whole.total == -sum(notes) else "not the invoice"}


PLAYERS = {
    "credit_in_two_parts": credit_in_two_parts,
    "final_split": invoice,
    "invoice": invoice,
    "tax": tax,
    "terminate": invoice,
}
