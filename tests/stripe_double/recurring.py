"""What a subscription buys, for which period, and its invoice; what that invoice's payment means for it."""

from typing import Any

from tests.stripe_double import catalog, invoices, money, settling
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import add_line, refresh
from tests.stripe_double.periods import next_boundary
from tests.stripe_double.state import Thing, World

ENDED = {"canceled", "incomplete_expired"}
RUNNING = {"active", "past_due", "trialing", "unpaid"}


def price_of(world: World, item: dict[str, Any]) -> Thing:
    price = world.get(item.get("price", ""), "price", "items[price]")
    if not price["active"]:
        message = "The price specified is inactive. This field only accepts active prices."
        raise refused(message, param="items[price]")
    if price["type"] != "recurring":
        message = "The price specified is set to `type=one_time` but this field only accepts prices with `recurring`."
        raise refused(message, param="items[price]")
    return price


def items_of(world: World, subscription: Thing) -> list[Thing]:
    return [world.things[identity] for identity in subscription["_items"]]


def price_in(world: World, item: Thing) -> Thing:
    return world.things[item["_price"]]


def period_of(world: World, subscription: Thing) -> tuple[int, int]:
    items = items_of(world, subscription)
    return items[0]["current_period_start"], items[0]["current_period_end"]


def first_end(start: int, price: Thing) -> int:
    return next_boundary(start, start, price["recurring"]["interval"], price["recurring"]["interval_count"])


def new_subscription_item(
    world: World, subscription: Thing, price: Thing, given: dict[str, Any], period: tuple[int, int]
) -> Thing:
    item = world.make(
        "subscription_item",
        "si",
        current_period_start=period[0],
        current_period_end=period[1],
        metadata=given.get("metadata") or {},
        plan=None,
        price=None,
        quantity=given.get("quantity", 1),
        subscription=subscription["id"],
        tax_rates=[],
        _price=price["id"],
    )
    subscription["_items"].append(item["id"])
    return item


def bill(world: World, subscription: Thing, reason: str, *, trial: bool = False, auto: bool = True) -> Thing:
    """A draft for the items' present periods, with what else waits for this customer."""
    customer = world.things[subscription["customer"]]
    details = {
        "metadata": dict(subscription["metadata"]),
        "subscription": subscription["id"],
        "subscription_proration_date": None,
    }
    given = {
        "auto_advance": auto,
        "collection_method": subscription["collection_method"],
        "days_until_due": subscription["days_until_due"],
        "default_payment_method": subscription["default_payment_method"],
    }
    parent = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    invoice = invoices.new_invoice(world, customer, subscription["currency"], reason, given, parent=parent)
    for item in world.all("invoiceitem", customer=customer["id"], invoice=None, currency=invoice["currency"]):
        if item.get("_subscription", subscription["id"]) == subscription["id"]:
            add_line(world, invoice, item)
    for item in items_of(world, subscription):
        add_subscription_line(world, invoice, item, trial=trial)
    subscription["latest_invoice"] = invoice["id"]
    refresh(world, invoice, quiet=True)
    emit(world, "invoice.created", invoice)
    return invoice


def add_subscription_line(world: World, invoice: Thing, item: Thing, *, trial: bool) -> None:
    price = price_in(world, item)
    name = world.things[price["product"]]["name"]
    amount = 0 if trial else catalog.cost(price, item["quantity"])
    unit = money.shown(price["unit_amount"] or 0, price["currency"])
    every = price["recurring"]["interval"]
    details = {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    line = world.make(
        "line_item",
        "il",
        amount=amount,
        currency=invoice["currency"],
        description=f"Trial period for {name}" if trial else f"{item['quantity']} × {name} (at {unit} / {every})",
        discount_amounts=[],
        discountable=True,
        invoice=invoice["id"],
        parent={
            "invoice_item_details": None,
            "subscription_item_details": details,
            "type": "subscription_item_details",
        },
        period={"start": item["current_period_start"], "end": item["current_period_end"]},
        pretax_credit_amounts=[],
        pricing={
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": "0" if trial else price["unit_amount_decimal"],
        },
        quantity=item["quantity"],
        quantity_decimal=str(item["quantity"]),
        subscription=item["subscription"],
        subtotal=amount,
        taxes=[],
    )
    invoice["_lines"].append(line["id"])


def after_invoice(world: World, invoice: Thing, outcome: str) -> None:
    """A paid invoice revives its subscription, a failed one puts it behind."""
    subscription = world.find(invoices.subscription_of(invoice))
    if subscription is None or subscription["status"] in ENDED:
        return
    status = subscription["status"]
    if outcome == "paid" and status in {"incomplete", "past_due", "unpaid"}:
        move(world, subscription, "active")
    if outcome == "failed" and status == "active":
        move(world, subscription, "past_due")


settling.followers.append(after_invoice)


def move(world: World, subscription: Thing, status: str) -> None:
    with watching(world, "customer.subscription.updated", subscription):
        subscription["status"] = status


def end(world: World, subscription: Thing, status: str = "canceled") -> None:
    now = world.now()
    subscription.update(status=status, canceled_at=subscription["canceled_at"] or now, ended_at=now)
    for invoice in world.all("invoice", status="open"):
        if invoices.subscription_of(invoice) == subscription["id"]:
            invoice.update(auto_advance=False, next_payment_attempt=None, _collect_at=None)
    emit(world, "customer.subscription.deleted", subscription)
