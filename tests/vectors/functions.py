"""Vectors that are functions: cycle dates, reset dates, and whether a change is an upgrade."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.charges import GRADUATED, VOLUME, Price, Tier, rate_use
from catalog.periods import Cadence, boundary, count_until
from catalog.terms import METERED, ChangeKind, FeatureTerms, ItemTerms, PlanTerms, compare
from tests.vectors.catalog import Later

MONTHS = {"month": 1, "quarter": 3, "semi_annual": 6, "half_year": 6, "year": 12}


def instant(text: str, *, at_noon: bool = True) -> datetime:
    """Instants of the files are UTC; a date without a time is at noon."""
    if "T" not in text:
        text += "T12:00" if at_noon else "T00:00"
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC)


def cadence(interval: str, count: int = 1) -> Cadence:
    if interval in MONTHS:
        return Cadence(months=MONTHS[interval] * count)
    return Cadence.parse({"week": f"P{7 * count}D", "day": f"P{count}D", "hour": f"PT{count}H"}[interval])


def cycle_end(args: dict[str, Any]) -> datetime:
    """The first boundary after an instant; a floor says before which nothing ends."""
    anchor, span = instant(args["anchor"]), cadence(args["interval"], args.get("interval_count", 1))
    now = instant(args["now"])
    end = boundary(anchor, span, count_until(anchor, span, now) + 1)
    return max(end, instant(args["floor"])) if args.get("floor") else end


def next_reset_with_anchor(args: dict[str, Any]) -> datetime:
    current, span = instant(args["current_reset"]), cadence(args["interval"], args.get("interval_count", 1))
    # January has every day, so it can stand for any anchor day.
    anchor = datetime(current.year, 1, args["anchor_day"], 12, tzinfo=UTC)
    return boundary(anchor, span, count_until(anchor, span, current) + 1)


def is_upgrade(args: dict[str, Any]) -> bool:
    kind = compare(_card(1, args["from"]), _card(2, args["to"]))
    return kind is ChangeKind.UP


def _card(plan_id: int, prices: list[dict[str, Any]]) -> PlanTerms:
    """Prices as a rate card of another plan. What is prepaid counts with its first tier, as an in-advance amount."""
    items = []
    for place, price in enumerate(prices):
        key = f"{price['kind']}-{place}"
        if price["kind"] == "usage_based":
            feature = FeatureTerms(key, key, METERED)
            items.append(ItemTerms(key, feature=feature, price=Price(rate=Decimal(str(price["amount"]))), reset="P1M"))
        elif price["kind"] in ("fixed", "prepaid"):
            items.append(ItemTerms(key, amount=Decimal(str(price["amount"])), cadence=_duration(price)))
        else:
            raise Later(f"a {price['kind']} price")
    return PlanTerms(plan_id, "USD", "P1M", tuple(items))


def _duration(price: dict[str, Any]) -> str:
    count = price.get("interval_count", 1)
    if price["interval"] == "one_off":
        return "P0D"
    if price["interval"] == "week":
        return f"P{7 * count}D"
    return f"P{MONTHS[price['interval']] * count}M"


def graduated_amount(args: dict[str, Any]) -> Decimal:
    return _amount(GRADUATED, args)


def volume_amount(args: dict[str, Any]) -> Decimal:
    return _amount(VOLUME, args)


def _amount(model: str, args: dict[str, Any]) -> Decimal:
    tiers = tuple(
        Tier(None if t["to"] == "inf" else Decimal(str(t["to"])), Decimal(str(t["amount"]))) for t in args["tiers"]
    )
    price = Price(model=model, pack=Decimal(args["billing_units"]), tiers=tiers)
    found = rate_use(price, Decimal(args["usage"]), Decimal(args.get("allowance", 0))).amount
    return Decimal(found.numerator) / Decimal(found.denominator)


FUNCTIONS = {
    "graduated_amount": graduated_amount,
    "volume_amount": volume_amount,
    "cycle_end": cycle_end,
    "next_reset_with_anchor": next_reset_with_anchor,
    "is_upgrade": is_upgrade,
}


def check_function(vector: dict[str, Any]) -> str | None:
    """None when our answer is the file's; else what differs."""
    function = FUNCTIONS.get(vector["function"])
    if function is None:
        raise Later(vector["function"].replace("_", " "))
    found, wanted = function(vector["args"]), vector["result"]
    if isinstance(found, datetime):
        wanted = instant(wanted)
    if isinstance(found, Decimal):
        wanted = Decimal(str(wanted))
    return None if found == wanted else f"{vector['function']}: {found}, expected {wanted}"
