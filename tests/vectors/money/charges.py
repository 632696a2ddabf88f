"""Charge models: quantities under a price."""

from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any

from catalog.charges import GRADUATED, PACKAGE, PERCENTAGE, STAIRSTEP, VOLUME, Price, Tier, rate_use
from catalog.money import to_major
from catalog.terms import METERED, FeatureTerms, ItemTerms
from invoicing.documents import bounds_of
from invoicing.lines import MINIMUM, RatedUse, usage_lines
from invoicing.pipeline import draw_up
from tests.vectors.money.values import Minor, Unplayed, Vector, calendar_month, plan

MODELS = {
    "block": PACKAGE,
    "graduated": GRADUATED,
    "graduated_percentage": GRADUATED,
    "package": PACKAGE,
    "percentage": PERCENTAGE,
    "stairstep": STAIRSTEP,
    "volume": VOLUME,
}


def price_of(vector: Vector, model: str) -> Price:
    """The price that a vector describes, without what it gives for free."""
    given = vector.given
    if model not in MODELS:
        raise Unplayed(f"the charge model {model}")

    def number(name: str) -> Decimal | None:
        return None if given.get(name) is None else Decimal(str(given[name]))

    return Price(
        MODELS[model],
        rate=number("price") or Decimal(0),
        pack=number("size") or Decimal(1),
        tiers=_tiers(vector),
        percent=number("rate_percent") or Decimal(0),
        fixed=number("fixed_per_event") or Decimal(0),
        transaction_min=number("min_per_event"),
        transaction_max=number("max_per_event"),
        line_min=number("minimum"),
    )


def _tiers(vector: Vector) -> tuple[Tier, ...]:
    """Tiers with their bounds; a single unit price is one without a bound, slices are counted up to bounds."""
    given = vector.given
    if "tier_unit" in given:
        return (Tier(None, Decimal(given["tier_unit"])),)
    if "slices" in given:
        bounds = accumulate(Decimal(each["units"]) for each in given["slices"])
        return tuple(Tier(up_to, Decimal(each["unit"])) for up_to, each in zip(bounds, given["slices"], strict=True))
    return tuple(_tier(raw, vector) for raw in given.get("tiers", ()))


def _tier(raw: dict[str, Any], vector: Vector) -> Tier:
    """A step has one price; a percent of volume is a price per unit of volume."""
    up_to = None if raw["up_to"] is None else Decimal(raw["up_to"])
    if "rate_percent" in raw:
        return Tier(up_to, Decimal(raw["rate_percent"]) / 100, Decimal(raw["flat"]))
    if "price" in raw:
        return Tier(up_to, flat=Decimal(raw["price"]))
    unit = raw["unit"]
    amount = Decimal(unit) if isinstance(unit, str) else to_major(unit, vector.currency)
    return Tier(up_to, amount, Decimal(raw.get("flat", 0)))


def rate(vector: Vector) -> dict[str, Any]:
    """The exact amount of a quantity, the steps that it comes from, and the line that a minimum adds."""
    price = price_of(vector, vector.given["model"])
    transactions = _transactions(vector)
    included, free_events = _included(vector, transactions)
    used = sum(transactions, Decimal(0)) if transactions else Decimal(vector.given["quantity"])
    rated = rate_use(price, used, included, transactions=transactions if price.model == PERCENTAGE else ())
    found: dict[str, Any] = {
        "amount": rated.amount,
        "lines": [step.amount for step in rated.steps],
        "free_events_used": free_events,
    }
    return found | _with_minimum(vector, price, used) if price.line_min is not None else found


def _transactions(vector: Vector) -> list[Decimal]:
    """Single events; sources that give running totals mean the differences between them."""
    given = vector.given
    if "events" in given and isinstance(given["events"], list):
        return [Decimal(amount) for amount in given["events"]]
    if "running_totals" in given:
        totals = [Decimal(0), *map(Decimal, given["running_totals"]), Decimal(given["quantity"])]
        return [after - before for before, after in pairwise(totals)]
    return []


def _included(vector: Vector, transactions: list[Decimal]) -> tuple[Decimal, int]:
    """Units that are free, as we know them; events that are free are the units of the earliest ones."""
    given = vector.given
    units = given.get("free_units_total") or given.get("free_units")
    limits = [Decimal(units)] if units else []
    if given.get("free_events") and transactions:
        limits.append(sum(transactions[: int(given["free_events"])], Decimal(0)))
    included = min(limits, default=Decimal(0))
    covered, events = Decimal(0), 0
    for amount in transactions:
        covered += amount
        events += covered <= included
    return included, events


def _with_minimum(vector: Vector, price: Price, used: Decimal) -> dict[str, Any]:
    """The line of a period with what its minimum adds."""
    month = calendar_month("2025-06-01")
    item = ItemTerms("usage", feature=FeatureTerms("usage", "Usage", METERED), price=price, reset="P1M", id=1)
    terms = plan([item], vector.currency)
    use = RatedUse(None, Decimal(0), Decimal(0), used, ((item, used),), month.starts_at, month.ends_at)
    lines = usage_lines(use, plan_name="Plan 1", currency=vector.currency)
    drawn = draw_up(lines, bounds=bounds_of(terms, lines))
    added = [each.line.amount for each in drawn.lines if each.line.kind == MINIMUM]
    return {"amount": Minor(drawn.total), "minimum_line": Minor(sum(added))}


PLAYERS = {"rate": rate}
