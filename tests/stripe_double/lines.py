"""Invoice items and the lines they become. Only a draft takes them."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tests.stripe_double import catalog, lists, money, shapes
from tests.stripe_double.customers import alive, merge_metadata
from tests.stripe_double.errors import StripeError, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

MOST = 250  # items on one invoice
NOT_PLAYED = ("discounts", "tax_rates", "default_tax_rates", "tax_amounts", "shipping_cost", "transfer_data",
              "on_behalf_of", "from_invoice", "customer_account")  # fmt: skip


def refuse_unplayed(given: dict[str, Any]) -> None:
    """Better a refusal than an answer as if it had worked."""
    for name in NOT_PLAYED:
        if given.get(name):
            raise refused(f"The double does not play {name}.", param=name)


def editable(invoice: Thing) -> Thing:
    if invoice["status"] != "draft":
        raise not_editable()
    return invoice


def not_editable() -> StripeError:
    return refused("This invoice is no longer editable", code="invoice_not_editable")


# -- items -------------------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/invoiceitems")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    refuse_unplayed(given)
    invoice = world.get(given["invoice"], "invoice", "invoice") if "invoice" in given else None
    if invoice:
        editable(invoice)
    if "customer" not in given and invoice is None:
        raise refused("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = alive(world, given.get("customer") or invoice["customer"], "customer")  # type: ignore[index]
    if invoice and invoice["customer"] != customer["id"]:
        raise refused("The invoice belongs to another customer.", param="invoice")
    item = new_item(world, customer, invoice, given)
    if invoice:
        add_line(world, invoice, item)
        emit(world, "invoiceitem.created", item)
        refresh(world, invoice)
    else:
        emit(world, "invoiceitem.created", item)
    return item


def new_item(world: World, customer: Thing, invoice: Thing | None, given: dict[str, Any], **more: Any) -> Thing:
    if invoice and len(invoice["_lines"]) >= MOST:
        raise refused(f"An invoice can have up to {MOST} items.", param="invoice")
    currency = money.check_currency(
        given.get("currency") or (invoice or {}).get("currency") or customer["currency"] or "usd"
    )
    priced = price_item(world, given, currency)
    if invoice and priced["currency"] != invoice["currency"]:
        raise refused(
            f"The currency of an item ({priced['currency']}) must match the currency of its invoice "
            f"({invoice['currency']}).",
            param="currency",
        )
    money.check_step(priced["amount"], priced["currency"])
    period = given.get("period") or {"start": world.now(), "end": world.now()}
    if period["end"] < period["start"]:
        raise refused("The period's end must not be before its start.", param="period[end]")
    return world.make(
        "invoiceitem",
        "ii",
        customer=customer["id"],
        date=world.now(),
        description=given.get("description"),
        discountable=given.get("discountable", priced["amount"] > 0),
        discounts=[],
        frozen_fields=[],
        invoice=invoice and invoice["id"],
        metadata=given.get("metadata") or {},
        net_amount=priced["amount"],
        period=period,
        tax_rates=[],
        **{**priced, **more},
    )


def price_item(world: World, given: dict[str, Any], currency: str) -> dict[str, Any]:
    """Amount, currency, quantity and pricing, from exactly one way of saying them."""
    ways = [name for name in ("amount", "unit_amount_decimal", "price_data", "pricing") if name in given]
    if len(ways) > 1:
        message = f"You may only specify one of these parameters: {', '.join(ways)}."
        raise refused(message, code="parameters_exclusive", param=ways[1])
    if not ways:
        raise refused("Missing required param: amount.", code="parameter_missing", param="amount")
    quantity = given.get("quantity", given.get("quantity_decimal", 1))
    if quantity < 0:
        raise refused("Quantity must not be negative.", code="parameter_invalid_integer", param="quantity")
    if ways[0] == "amount":
        return priced(given["amount"], currency, quantity, None, Decimal(given["amount"]))
    if ways[0] == "unit_amount_decimal":
        unit = given["unit_amount_decimal"]
        return priced(catalog.whole(unit * quantity), currency, quantity, None, unit)
    price = find_price(world, given, ways[0])
    return priced(catalog.cost(price, quantity), price["currency"], quantity, price, price["unit_amount_decimal"])


def priced(amount: int, currency: str, quantity: Any, price: Thing | None, unit: Any) -> dict[str, Any]:
    exact = Decimal(quantity)
    return {
        "amount": amount,
        "currency": currency,
        "quantity": int(exact),
        "quantity_decimal": catalog.plain(exact),
        "pricing": {
            "price_details": price and {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": None if unit is None else catalog.plain(Decimal(unit)),
        },
    }


def find_price(world: World, given: dict[str, Any], way: str) -> Thing:
    if way == "pricing":
        return world.get(given["pricing"].get("price", ""), "price", "pricing[price]")
    inline = given["price_data"]
    if "product" in inline:
        product = world.get(inline["product"], "product", "price_data[product]")
    else:
        product = catalog.new_product(world, inline["product_data"]["name"])
    catalog.check_amounts(inline)
    return catalog.new_price(world, product, {**inline, "active": False})


@endpoint("POST", "/v1/invoiceitems/{}")
def update(call: Call) -> Thing:
    world, given = call.world, call.given
    refuse_unplayed(given)
    item = world.get(call.id, "invoiceitem")
    invoice = world.find(item["invoice"])
    if invoice:
        editable(invoice)
    changes = call.pick("description", "discountable", "period")
    if {"amount", "unit_amount_decimal", "price_data", "pricing", "quantity"} & given.keys():
        basis = {"amount": item["amount"]} if "quantity" in given and item["quantity"] == given["quantity"] else {}
        changes.update(price_item(world, {**basis, **repriced(item, given)}, item["currency"]))
    with watching(world, "invoiceitem.updated", item):
        item.update(changes)
        merge_metadata(item, given)
        item["net_amount"] = item["amount"]
    if invoice:
        mirror(world, item)
        refresh(world, invoice)
    return item


def repriced(item: Thing, given: dict[str, Any]) -> dict[str, Any]:
    """With only a new quantity the unit amount stays."""
    if {"amount", "unit_amount_decimal", "price_data", "pricing"} & given.keys():
        return given
    return {"unit_amount_decimal": Decimal(item["pricing"]["unit_amount_decimal"]), "quantity": given["quantity"]}


@endpoint("DELETE", "/v1/invoiceitems/{}")
def delete(call: Call) -> Thing:
    world = call.world
    item = world.get(call.id, "invoiceitem")
    invoice = world.find(item["invoice"])
    if invoice:
        editable(invoice)
        drop_line(world, invoice, line_of(world, item))
        refresh(world, invoice)
    emit(world, "invoiceitem.deleted", item)
    return world.forget(item)


@endpoint("GET", "/v1/invoiceitems/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "invoiceitem")


@endpoint("GET", "/v1/invoiceitems")
def list_items(call: Call) -> Thing:
    items = call.world.newest("invoiceitem")
    if "pending" in call.given:
        items = (item for item in items if (item["invoice"] is None) == call.given["pending"])
    return lists.page(call, items, "/v1/invoiceitems", "customer", "invoice")


# -- lines -------------------------------------------------------------------------------------------------------------


def add_line(world: World, invoice: Thing, item: Thing) -> Thing:
    """The line that shows the item on its invoice."""
    item["invoice"] = invoice["id"]
    details = item.get("_subscription_item")
    line = world.make(
        "line_item",
        "il",
        currency=item["currency"],
        discount_amounts=[],
        discountable=item["discountable"],
        invoice=invoice["id"],
        parent={
            "type": "invoice_item_details",
            "invoice_item_details": {
                "invoice_item": item["id"],
                "proration": item["proration"],
                "proration_details": {"credited_items": None},
                "subscription": details and details["subscription"],
            },
            "subscription_item_details": None,
        },
        pretax_credit_amounts=[],
        taxes=[],
        _item=item["id"],
        amount=item["amount"],
        period=item["period"],
    )
    invoice["_lines"].append(line["id"])
    copy_to(line, item)
    return line


def copy_to(line: Thing, item: Thing) -> None:
    names = ("amount", "description", "discountable", "period", "pricing", "quantity", "quantity_decimal")
    line.update({name: item[name] for name in names}, metadata=dict(item["metadata"]), subtotal=item["amount"])


def line_of(world: World, item: Thing) -> Thing:
    invoice = world.things[item["invoice"]]
    return next(line for line in lines_of(world, invoice) if line.get("_item") == item["id"])


def mirror(world: World, item: Thing) -> None:
    copy_to(line_of(world, item), item)


def drop_line(world: World, invoice: Thing, line: Thing) -> None:
    invoice["_lines"].remove(line["id"])
    world.forget(line)


def lines_of(world: World, invoice: Thing) -> list[Thing]:
    return [world.things[identity] for identity in invoice["_lines"]]


def refresh(world: World, invoice: Thing, *, quiet: bool = False) -> None:
    """Add up a draft again; the customer's balance will be applied when it is finalised."""
    total = sum(line["amount"] for line in lines_of(world, invoice))
    balance = world.things[invoice["customer"]].get("balance", 0)
    due = max(total + balance, 0)
    sums = {
        "subtotal": total, "subtotal_excluding_tax": total, "total": total, "total_excluding_tax": total,
        "amount_due": due, "amount_remaining": due, "starting_balance": balance,
    }  # fmt: skip
    if quiet:
        invoice.update(sums)
        return
    with watching(world, "invoice.updated", invoice, always=False):
        invoice.update(sums)


@shapes.computed("invoice", "lines")
def first_lines(world: World, invoice: Thing) -> Thing:
    return lists.whole(lines_of(world, invoice), f"/v1/invoices/{invoice['id']}/lines")


@endpoint("GET", "/v1/invoices/{}/lines")
def list_lines(call: Call) -> Thing:
    invoice = call.world.get(call.id, "invoice")
    return lists.page(call, lines_of(call.world, invoice), f"/v1/invoices/{call.id}/lines")


@endpoint("POST", "/v1/invoices/{}/add_lines")
def add_lines(call: Call) -> Thing:
    world = call.world
    invoice = editable(world.get(call.id, "invoice"))
    customer = alive(world, invoice["customer"], "customer")
    for given in call.given["lines"]:
        refuse_unplayed(given)
        if "invoice_item" in given:
            item = pending_item(world, invoice, given["invoice_item"])
        else:
            item = new_item(world, customer, invoice, given)
            emit(world, "invoiceitem.created", item)
        add_line(world, invoice, item)
    if "invoice_metadata" in call.given:
        merge_metadata(invoice, {"metadata": call.given["invoice_metadata"]})
    refresh(world, invoice)
    return invoice


def pending_item(world: World, invoice: Thing, identity: str) -> Thing:
    item = world.get(identity, "invoiceitem", "invoice_item")
    if item["invoice"] or item["customer"] != invoice["customer"]:
        raise refused("This invoice item is not pending for this customer.", param="invoice_item")
    return item


@endpoint("POST", "/v1/invoices/{}/remove_lines")
def remove_lines(call: Call) -> Thing:
    world = call.world
    invoice = editable(world.get(call.id, "invoice"))
    for given in call.given["lines"]:
        line = world.get(given["id"], "line_item", "lines")
        item = world.get(line["_item"], "invoiceitem")
        drop_line(world, invoice, line)
        item["invoice"] = None
        if given["behavior"] == "delete":
            emit(world, "invoiceitem.deleted", item)
            world.forget(item)
    refresh(world, invoice)
    return invoice


def pending_items(world: World, customer: str, currency: str) -> Iterable[Thing]:
    found = world.all("invoiceitem", customer=customer, invoice=None, currency=currency)
    return list(reversed(found))
