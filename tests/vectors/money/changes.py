"""Changes of plan and of quantity within a period: decided by the product's own preview."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing_admin.flows.boundary import Stretch, elapsed_lines
from billing_admin.flows.plan_change import PlanChange, Timing
from billing_admin.flows.use import level_documents
from catalog.charges import Price
from catalog.money import to_minor
from catalog.periods import Period
from catalog.terms import ItemTerms, PlanTerms
from invoicing.discounts import DiscountTerms
from invoicing.documents import BillingRules
from invoicing.lines import BilledFee, Line, advance_lines, seats_line, total, unused_lines
from tests.vectors.money.acts import decide, drawn_lines, less, paid_for, paid_lines, told
from tests.vectors.money.charges import price_of
from tests.vectors.money.values import (
    INTERVALS,
    Minor,
    Vector,
    cadence_of,
    calendar_month,
    date,
    discount,
    fee,
    fraction,
    instant,
    left_of,
    plan,
    seats_item,
)

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Asked:
    """What the customer has, what they shall have, and when."""

    old: PlanTerms
    new: PlanTerms
    period: Period
    at: datetime

    def decide(self, fees: Sequence[BilledFee] | None = None, **rules: Any) -> PlanChange:
        paid = paid_for(self.old, self.period) if fees is None else fees
        return decide(self.old, self.new, self.period, self.at, fees=paid, **rules)


def read(vector: Vector, *, same_plan: bool = False) -> Asked:
    """Fees before and after; where only items of one plan change, another of its fees stays what it is."""
    period, at = when(vector)
    before = vector.first("old", "old_amount", "old_fixed", "old_price", "paid_item")
    after = vector.first("new", "new_amount", "new_fixed", "new_price")
    cadence = vector.interval(before) or cadence_of(period)
    later = _new_interval(vector, after) or cadence
    old = [fee(amount, cadence, key=f"fee-{n}") for n, amount in enumerate(vector.amounts(before))]
    new = [fee(amount, later, key=f"fee-{n}") for n, amount in enumerate(vector.amounts(after))]
    if same_plan:
        stays = fee(Decimal(100), cadence, key=UNCHANGED)
        old, new = [stays, *old], [stays, *new]
    return Asked(plan(old, vector.currency), plan(new, vector.currency, plan_id=1 if same_plan else 2), period, at)


def when(vector: Vector) -> tuple[Period, datetime]:
    """The period in which something changes, and the instant."""
    given = vector.given
    if "days_left" in given:
        return left_of(given["days_left"], given["period_days"])
    if "share" in given:
        share = fraction(given["share"])
        assert share is not None
        return left_of(share * 30, 30)
    at = vector.at()
    span = next((vector.span(name) for name in ("paid", "period") if name in given), None)
    return span or calendar_month(date(at)), at


def _new_interval(vector: Vector, name: str) -> str | None:
    _, to, word = vector.given.get("kind", "").partition(",")[0].partition(" to ")
    return INTERVALS[word] if to else vector.interval(name)


def change_plan(vector: Vector) -> dict[str, Any]:
    """Credit for what is not used of the old, charge for the rest with the new."""
    given = vector.given
    off = discount(given.get("discount_minor"), vector.currency)
    asked = read(vector, same_plan=vector.op == "change")
    paid = paid_for(asked.old, asked.period, off)
    adjusted = -to_minor(vector.amount("item_adjustment"), vector.currency) if "item_adjustment" in given else 0
    change = asked.decide([less(each, adjusted) for each in paid], discounts=off)
    default = asked.decide(paid, discounts=off, timing=None)
    found = told(drawn_lines(change)) | {
        "period_restarts": change.new_cycle and change.anchor == asked.at,
        "invoice": "immediately" if default.timing is Timing.NOW and default.documents else "later",
        "uncapped_repair": told(drawn_lines(asked.decide(paid)))["repair"],
    }
    charges = [drawn.line for drawn in drawn_lines(change) if drawn.line.amount > 0]
    return found | ({"charge_period": [date(charges[0].starts_at), date(charges[0].ends_at)]} if charges else {})


def change_plan_and_discount(vector: Vector) -> dict[str, Any]:
    """Another coupon in the same act: the credit is what was really paid, the charge has the new one."""
    asked = read(vector)
    fees = paid_for(asked.old, asked.period, discount(vector.given["old_discount"], vector.currency))
    later = discount(vector.given["new_discount"], vector.currency, id=2)
    return told(drawn_lines(asked.decide(fees, discounts=later)))


def changes(vector: Vector) -> dict[str, Any]:
    """Changes one after the other: each gives back what the one before charged."""
    period = vector.span("period")
    fees, credit, found = None, 0, {}
    price = vector.amount("paid_item")
    for n, step in enumerate(vector.given["steps"], 1):
        new = Decimal(step["new_price"])
        old_plan, new_plan = (
            plan([fee(amount, "P1M")], vector.currency, plan_id=n + place) for place, amount in enumerate((price, new))
        )
        asked = Asked(old_plan, new_plan, period, instant(step["date"]))
        change = asked.decide(fees, account_credit=credit)
        added = max(0, -change.total)
        found[f"step{n}"] = told(drawn_lines(change)) | {
            "credit_added": Minor(added),
            "credit_used": Minor(change.credit_used),
        }
        charges = [drawn.line for drawn in drawn_lines(change) if drawn.line.amount > 0]
        fees, price, credit = paid_lines(charges), new, credit + added - change.credit_used
    return found


def upgrade(vector: Vector) -> dict[str, Any]:
    """What the sources name of an upgrade: a credit, the elapsed part of a fee in arrears, or the difference."""
    given = vector.given
    if "old" in given and vector.in_arrears("old"):
        return _elapsed(vector)
    if vector.has("old_fixed"):
        return _fixed_items(vector)
    return change_plan(vector)


def _elapsed(vector: Vector) -> dict[str, Any]:
    period, at = when(vector)
    terms = plan([fee(vector.amount("old"), vector.interval("old") or "P1M", arrears=True)], vector.currency)
    history = (Stretch(terms, period.starts_at, period.starts_at),)
    return {"old_fee_minor": Minor(total(elapsed_lines(history, at, closes=True)))}


def _fixed_items(vector: Vector) -> dict[str, Any]:
    """One item dearer and one that is new, beside another that stays; each on lines of its own."""
    period, at = when(vector)
    names = ("old_fixed", "new_fixed", "other_new")
    before, after, other = (fee(vector.amount(name), "P1M", key=name.split("_")[-1]) for name in names)
    added = fee(other.amount or 0, "P1M", key="other")
    stays = fee(Decimal(100), "P1M", key=UNCHANGED)
    old, new = plan([stays, before], vector.currency), plan([stays, after, added], vector.currency)
    change = Asked(old, new, period, at).decide()
    _left_is_as_given(vector, period, at)
    return {
        "delta_minor": Minor(sum(line.amount for line in change.lines if line.key == "fixed")),
        "other_minor": Minor(sum(line.amount for line in change.lines if line.key == "other")),
    }


def _left_is_as_given(vector: Vector, period: Period, at: datetime) -> None:
    if period.left(at) != fraction(vector.given["remaining"]):
        raise ValueError(f"{period.left(at)} of the period remains")


def cap_credit(vector: Vector) -> dict[str, Any]:
    """A credit that a share of time would come to, for a charge of which some was given back before."""
    period = calendar_month("2025-06-01")
    paid = paid_for(plan([fee(vector.amount("original_paid"), "P1M")], vector.currency), period)
    asked = [replace(each, price=Fraction(vector.amount("potential"))) for each in paid]
    lines = unused_lines([less(each, vector.minor("previous_credits")) for each in asked], period.starts_at)
    return {"credit": Minor(-total(lines))}


# Quantities


def change_quantity(vector: Vector) -> dict[str, Any]:
    given = vector.given
    if given.get("effective") == "next period":
        return _from_next_period(vector)
    if "coupon_added" in given:
        return _coupon_since(vector)
    return _more_seats(vector)


def _from_next_period(vector: Vector) -> dict[str, Any]:
    """The same fee at two quantities, for a whole period each."""
    period = calendar_month("2025-06-01")
    item = fee(vector.amount("unit_price"), "P1M")
    before, after = (
        advance_lines(plan([item], vector.currency).sold(quantity), period.starts_at, period.starts_at)
        for quantity in (vector.given["quantity"], vector.given["to"])
    )
    return {"before": Minor(total(before)), "after": Minor(total(after))}


def _coupon_since(vector: Vector) -> dict[str, Any]:
    """A quantity that changes after a coupon came: the credit is what was paid without it."""
    period, at = when(vector)
    item = fee(vector.amount("price_per_seat"), "P1M")
    old, new = (plan([item], vector.currency).sold(vector.given[name]) for name in ("seats", "to"))
    coupon = discount(vector.given["coupon_added"], vector.currency)
    return told(drawn_lines(Asked(old, new, period, at).decide(discounts=coupon)))


def _more_seats(vector: Vector) -> dict[str, Any]:
    """Seats on top of the paid ones, for the rest of the period, with the coupon that the others have."""
    period, at = when(vector)
    base = [fee(vector.amount("fixed"), "P1M")] if "fixed_minor" in vector.given else []
    price, coupon = Price(rate=vector.amount("price_per_seat")), _coupon(vector)
    old, new = (plan([*base, seats_item(price, vector.given[name])], vector.currency) for name in ("seats", "to"))
    fees = paid_for(old, period, coupon)
    rules = BillingRules(discounts=tuple(coupon))
    documents = level_documents(new, "seats", fees, rules, anchor=period.starts_at, at=at)
    return told([line for document in documents for line in document.drawn.lines])


def _coupon(vector: Vector) -> list[DiscountTerms]:
    percent = vector.given.get("discount_percent")
    return discount(f"{percent}%" if percent else vector.given.get("discount_minor"), vector.currency)


def add_unit(vector: Vector) -> dict[str, Any]:
    period, at = when(vector)
    seats = seats_item(Price(rate=vector.amount("unit")), 2)
    line = seats_line(seats, Decimal(1), period, at=at, plan_name="Plan 1", currency=vector.currency)
    return {"charge": Minor(line.amount)}


def subscription_amount(vector: Vector) -> dict[str, Any]:
    """A fee and seats in tiers, for a whole period."""
    period = calendar_month("2025-06-01")
    items: list[ItemTerms] = [
        fee(vector.amount("fixed"), "P1M"),
        seats_item(price_of(vector, "graduated"), vector.given["seats"]),
    ]
    lines: list[Line] = advance_lines(plan(items, vector.currency), period.starts_at, period.starts_at)
    return {"amount_minor": Minor(total(lines))}


PLAYERS = {
    "add_unit": add_unit,
    "cap_credit": cap_credit,
    "change": change_plan,
    "change_plan": change_plan,
    "change_plan_and_discount": change_plan_and_discount,
    "change_quantity": change_quantity,
    "changes": changes,
    "preview_change": change_plan,
    "subscription_amount": subscription_amount,
    "upgrade": upgrade,
}
