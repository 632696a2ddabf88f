"""Another price or quantity in the middle of a period: the rest of it is credited and charged by the second."""

from decimal import Decimal
from typing import Any

from tests.stripe_double import catalog, collecting, invoices
from tests.stripe_double.customers import merge_metadata
from tests.stripe_double.errors import missing, refused
from tests.stripe_double.events import emit
from tests.stripe_double.lines import add_line, new_item, refresh
from tests.stripe_double.recurring import (
    new_subscription_item,
    period_of,
    price_in,
    price_of,
)
from tests.stripe_double.state import Thing, World


def change_items(world: World, subscription: Thing, given: dict[str, Any]) -> None:
    """Apply the items given; what was paid ahead is credited and the rest of the period charged, by the second."""
    behaviour = given.get("proration_behavior", "create_prorations")
    changed = False
    for each in given.get("items") or []:
        changed |= change_item(world, subscription, each, prorate=behaviour != "none")
    if changed and behaviour == "always_invoice":
        invoice_now(world, subscription)


def change_item(world: World, subscription: Thing, given: dict[str, Any], *, prorate: bool) -> bool:
    start, stop = period_of(world, subscription)
    prorate = prorate and subscription["status"] in {"active", "past_due"}
    item = own_item(world, subscription, given["id"]) if "id" in given else None
    price = price_of(world, given) if "price" in given else None
    if item is None and price is None:
        raise refused("Missing required param: items[price].", code="parameter_missing", param="items[price]")
    if item and prorate:
        prorated(world, subscription, item, -1, (world.now(), stop))
    if given.get("deleted") and item:
        subscription["_items"].remove(item["id"])
        world.forget(item)
        return True
    if item is None:
        item = new_subscription_item(world, subscription, price or {}, given, (start, stop))
    item["_price"] = price["id"] if price else item["_price"]
    item["quantity"] = given.get("quantity", item["quantity"])
    if "metadata" in given:
        merge_metadata(item, given)
    if prorate:
        prorated(world, subscription, item, 1, (world.now(), stop))
    return True


def own_item(world: World, subscription: Thing, identity: str) -> Thing:
    item = world.get(identity, "subscription_item", "items[id]")
    if item["subscription"] != subscription["id"]:
        raise missing("subscription_item", identity, "items[id]")
    return item


def prorated(world: World, subscription: Thing, item: Thing, sign: int, rest: tuple[int, int]) -> None:
    price = price_in(world, item)
    whole = item["current_period_end"] - item["current_period_start"]
    share = Decimal(rest[1] - rest[0]) / whole
    amount = sign * catalog.whole(Decimal(catalog.cost(price, item["quantity"])) * share)
    name = world.things[price["product"]]["name"]
    customer = world.things[subscription["customer"]]
    words = "Remaining time on" if sign > 0 else "Unused time on"
    given = {
        "amount": amount,
        "currency": price["currency"],
        "description": f"{words} {item['quantity']} × {name}",
        "period": {"start": rest[0], "end": rest[1]},
    }
    details = {"subscription": subscription["id"], "subscription_item": item["id"]}
    made = new_item(
        world,
        customer,
        None,
        given,
        parent={"subscription_details": details, "type": "subscription_details"},
        proration=True,
        _subscription=subscription["id"],
        _subscription_item=details,
    )
    emit(world, "invoiceitem.created", made)


def invoice_now(world: World, subscription: Thing) -> None:
    """What waits for this subscription, invoiced and collected at once."""
    customer = world.things[subscription["customer"]]
    waiting = world.all("invoiceitem", customer=customer["id"], invoice=None, currency=subscription["currency"])
    details = {"metadata": {}, "subscription": subscription["id"], "subscription_proration_date": None}
    parent = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    given = {"collection_method": subscription["collection_method"], "days_until_due": subscription["days_until_due"]}
    invoice = invoices.new_invoice(
        world, customer, subscription["currency"], "subscription_update", given, parent=parent
    )
    for item in waiting:
        add_line(world, invoice, item)
    refresh(world, invoice, quiet=True)
    emit(world, "invoice.created", invoice)
    subscription["latest_invoice"] = invoice["id"]
    invoices.finalize(world, invoice)
    if invoice["status"] == "open" and subscription["collection_method"] == "charge_automatically":
        collecting.collect_by_itself(world, invoice)
