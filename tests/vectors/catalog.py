"""Plans of a vectors file as plans of ours: items become `ItemTerms`, plans become products, plans and versions."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.utils.text import slugify

from catalog.charges import GRADUATED, PACKAGE, Price, Tier
from catalog.models import Feature, Plan, Product
from catalog.periods import NEVER
from catalog.publish import create_plan, make_default, open_draft, publish, write_conditions, write_items
from catalog.rollovers import Rollover
from catalog.terms import (
    ALLOCATED,
    BOOLEAN,
    CHARGE,
    CONSUMABLE,
    HARD,
    IN_ADVANCE,
    IN_FULL,
    METERED,
    NEXT_CYCLE,
    PRORATE,
    SOFT,
    Conditions,
    ItemTerms,
)

RESETS = {
    "hour": "PT1H",
    "day": "P1D",
    "week": "P1W",
    "month": "P1M",
    "quarter": "P3M",
    "semi_annual": "P6M",
    "half_year": "P6M",
    "year": "P1Y",
    "one_off": "never",
    None: "never",
}
PRORATIONS = {
    None: PRORATE,
    "prorate_immediately": PRORATE,
    "prorate": PRORATE,
    "bill_immediately": IN_FULL,
    "prorate_next_cycle": NEXT_CYCLE,
    "bill_next_cycle": NEXT_CYCLE,
    "none": NEXT_CYCLE,
    "no_prorations": NEXT_CYCLE,
}
INTERVALS = {"month": "P1M", "quarter": "P3M", "year": "P1Y", "one_off": "P0D"}


class Later(Exception):
    """The vector needs a part of the product that does not exist yet; the message says which."""


def item_terms(raw: dict[str, Any]) -> ItemTerms:
    """One item of the file. Raises `Later` for what the product cannot sell yet."""
    if raw.get("per_entity"):
        raise Later("per entity")
    kind = raw["kind"]
    if kind == "base_price":
        cadence = INTERVALS.get(raw.get("interval", "month"))
        if cadence is None:
            raise Later(f"a fee per {raw['interval']}")
        return ItemTerms(key="base", amount=Decimal(str(raw["amount"])), cadence=cadence)
    if raw.get("feature_type") == "credit_system":
        raise Later("credit systems")
    feature = the_feature(raw)
    if kind == "boolean":
        return ItemTerms(key=feature.slug, feature=feature.terms())
    return metered_terms(raw, feature)


def the_feature(raw: dict[str, Any]) -> Feature:
    slug = slugify(raw["feature"]) or raw["feature"]
    allocated = raw.get("feature_type") == "allocated"
    found, _ = Feature.objects.get_or_create(
        slug=slug.replace("_", "-"),
        defaults={
            "name": raw["feature"].replace("_", " ").capitalize(),
            "type": BOOLEAN if raw["kind"] == "boolean" else METERED,
            "usage": ALLOCATED if allocated else CONSUMABLE,
        },
    )
    return found


def metered_terms(raw: dict[str, Any], feature: Feature) -> ItemTerms:
    included = raw.get("included")
    unlimited = included == "unlimited"
    price = raw.get("price")
    allocated = feature.usage == ALLOCATED
    rate, cap, cadence = None, None, ""
    if price:
        rate, cap, cadence = price_of(price)
    prepaid = bool(price) and price.get("billing_method") == "prepaid"
    proration = raw.get("proration", {})
    return ItemTerms(
        key=feature.slug,
        feature=feature.terms(),
        included=None if unlimited or included is None else Decimal(str(included)),
        unlimited=unlimited,
        reset="never" if allocated else RESETS[raw.get("reset")],
        # A level may go beyond its allowance unless somebody forbids it; what is used up stops at it.
        limit=SOFT if (rate is not None and not prepaid) or allocated else HARD,
        max_overage=cap,
        price=rate,
        cadence=cadence,
        term=IN_ADVANCE if prepaid else "",
        on_increase=PRORATIONS[proration.get("on_increase")],
        on_decrease=PRORATIONS[proration.get("on_decrease")],
        rollover=rollover_of(raw["rollover"]) if raw.get("rollover") else None,
    )


def rollover_of(raw: dict[str, Any]) -> Rollover:
    units = {"day": "P{}D", "month": "P{}M", "year": "P{}Y"}
    forever = raw["duration"] == "forever"
    return Rollover(
        lasts=NEVER if forever else units[raw["duration"]].format(raw["length"]),
        most=Decimal(str(raw["max"])) if raw.get("max") is not None else None,
        percent=Decimal(str(raw["max_percentage"])) if raw.get("max_percentage") is not None else None,
    )


def price_of(price: dict[str, Any]) -> tuple[Price, Decimal | None, str]:
    """The price, the cap on units beyond what is included, and the interval."""
    pack = Decimal(str(price.get("billing_units", 1)))
    if price.get("tiers"):
        model = price.get("tier_behavior", GRADUATED)
        made = Price(model=model, pack=pack, tiers=tuple(map(_tier, price["tiers"])))
    elif pack != 1:
        made = Price(model=PACKAGE, rate=Decimal(str(price["amount"])), pack=pack)
    else:
        made = Price(rate=Decimal(str(price["amount"])))
    cap = price.get("max_purchase")
    interval = INTERVALS.get(price.get("interval", "month"))
    prepaid = price.get("billing_method") == "prepaid"
    if interval is None or (interval == "P0D" and not prepaid):
        raise Later(f"use billed per {price.get('interval')}")
    return made, None if cap is None else Decimal(str(cap)), interval


def _tier(raw: dict[str, Any]) -> Tier:
    up_to = None if raw["to"] == "inf" else Decimal(str(raw["to"]))
    return Tier(up_to, Decimal(str(raw.get("amount") or 0)), Decimal(str(raw.get("flat_amount") or 0)))


def plan_cadence(items: Iterable[ItemTerms]) -> str:
    """A plan runs as long as its longest recurring price."""
    order = ["P1M", "P3M", "P1Y"]
    used = [item.cadence for item in items if item.cadence in order]
    return max(used, key=order.index, default="P1M")


def plan_items(raw_items: list[dict[str, Any]]) -> list[ItemTerms]:
    """The items of one plan. Raises `Later` for two balances of one feature, which a plan cannot hold yet."""
    items = [item_terms(raw) for raw in raw_items]
    keys = [item.key for item in items]
    if len(set(keys)) < len(keys):
        raise Later("two items of one kind on a plan")
    return items


def make_plan(raw: dict[str, Any], *, keeps_overage: bool = False, now: Any) -> Plan:
    """A plan of the file, published; `keeps_overage` takes unpaid overage from the next window on every item."""
    for part in ("free_trial", "credit_systems"):
        if raw.get(part):
            raise Later(part.replace("_", " "))
    group = raw.get("group") or "main"
    product, _ = Product.objects.get_or_create(key=slugify(group), defaults={"name": group.capitalize()})
    items = [
        replace(item, keeps_overage=keeps_overage and item.is_metered and item.price is None)
        for item in plan_items(raw["items"])
    ]
    plan = create_plan(
        product,
        name=raw["id"],
        key=slugify(raw["id"]),
        kind=Plan.Kind.ASSIGNED if raw.get("is_default") else Plan.Kind.BILLED,
        by="vectors",
        currency="USD",
        cadence=plan_cadence(items),
        add_on=bool(raw.get("add_on")),
        items=items,
    )
    if trial := raw.get("trial"):
        write_conditions(plan.versions.get(), Conditions(trial_days=trial["days"], trial_end=CHARGE))
    publish(plan.versions.get(), message="from the file", by="vectors", now=now)
    plan.refresh_from_db()
    if raw.get("is_default"):
        make_default(plan, confirmed=False)
    return plan


def edit_plan(plan: Plan, raw_items: list[dict[str, Any]], *, now: Any) -> None:
    items = plan_items(raw_items)
    draft = open_draft(plan, by="vectors")
    write_items(draft, items, cadence=plan_cadence(items))
    publish(draft, message="from the file", by="vectors", now=now)
