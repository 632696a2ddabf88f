"""Coupons: what they take off, how it is spread, and what remains of them."""

from decimal import Decimal
from typing import Any

from catalog.money import to_minor
from invoicing.allocation import allocate, allocate_within
from invoicing.discounts import DiscountTerms
from invoicing.pipeline import Drawn, draw_up
from tests.vectors.money.books import coupon_through_the_periods, issue_unlocked
from tests.vectors.money.documents import charges
from tests.vectors.money.values import Minor, Vector


def apply_coupon(vector: Vector) -> dict[str, Any]:
    given = vector.given
    if given.get("lock") == "not held":
        return issue_unlocked(vector.currency)
    if "frequency" in given:
        return coupon_through_the_periods(vector)
    drawn = draw_up(charges(given["lines_minor"], vector.currency), discounts=[_terms(given)])
    return {"credit_minor": Minor(drawn.discount_total), "line_shares": [each.discounted for each in drawn.lines]}


def _terms(given: dict[str, Any]) -> DiscountTerms:
    """The coupon as it holds for the customer: their own percent before the coupon's, and what is left of an amount."""
    if "coupon_minor" in given:
        return DiscountTerms(1, "coupon", amount=given["coupon_minor"] - given.get("already_used_minor", 0))
    percent = given.get("applied_percent_override", given["coupon_percent"])
    return DiscountTerms(1, "coupon", percent=Decimal(str(percent)))


def apply_coupons(vector: Vector) -> dict[str, Any]:
    """Percents one after the other."""
    terms = [DiscountTerms(n, "coupon", percent=Decimal(p)) for n, p in enumerate(vector.given["percents"], 1)]
    drawn: Drawn = draw_up(charges([vector.minor("subtotal")], vector.currency), discounts=terms)
    return {"total_discount": Minor(drawn.discount_total)}


def allocated(vector: Vector) -> dict[str, Any]:
    """An amount spread over weights, or a discount over lines that bound it."""
    given = vector.given
    if "weights" in given:
        parts = allocate(to_minor(given["amount"], vector.currency), given["weights"])
    else:
        parts = allocate_within(given["discount_minor"], given["lines_minor"])
    told = [Minor(part) for part in parts]
    return {"parts": told, "parts_minor": told}


PLAYERS = {"allocate": allocated, "apply_coupon": apply_coupon, "apply_coupons": apply_coupons}
