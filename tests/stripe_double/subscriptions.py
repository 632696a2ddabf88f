"""Subscriptions: they begin, renew, change and end, and their invoices go the way of all invoices."""

from decimal import Decimal
from typing import Any

from tests.stripe_double import catalog, invoices, lists, money, shapes
from tests.stripe_double.customers import alive, merge_metadata, own_method
from tests.stripe_double.errors import missing, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import add_line, new_item, refresh, refuse_unplayed
from tests.stripe_double.periods import next_boundary
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

DAY = 24 * 3600
GIVE_UP = 23 * 3600  # seconds an incomplete subscription may wait for its first payment
ENDED = {"canceled", "incomplete_expired"}
RUNNING = {"active", "past_due", "trialing", "unpaid"}
UNPLAYED = (
    "add_invoice_items",
    "backdate_start_date",
    "billing_cycle_anchor",
    "billing_cycle_anchor_config",
    "billing_schedules",
    "billing_thresholds",
    "pending_invoice_item_interval",
)
PLAIN = ("cancel_at_period_end", "collection_method", "days_until_due", "default_payment_method", "description")


# -- the beginning -----------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/subscriptions")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    check_played(given)
    customer = alive(world, given.get("customer", ""), "customer")
    prices = [price_of(world, item) for item in given.get("items") or []]
    check_prices(prices)
    invoices.check_collection(customer, given.get("collection_method", "charge_automatically"), given)
    if identity := given.get("default_payment_method"):
        own_method(world, customer, identity)
    trial_end = trial_of(world, given)
    check_can_pay(world, customer, given, trial_end)
    subscription = new_subscription(world, customer, given, prices[0]["currency"], trial_end)
    period = (world.now(), trial_end or first_end(world.now(), prices[0]))
    for item, price in zip(given["items"], prices, strict=True):
        new_subscription_item(world, subscription, price, item, period)
    customer["currency"] = customer["currency"] or subscription["currency"]
    begin(world, subscription, given)
    return subscription


def check_played(given: dict[str, Any]) -> None:
    refuse_unplayed(given)
    for name in UNPLAYED:
        if given.get(name):
            raise refused(f"The double does not play {name}.", param=name)


def price_of(world: World, item: dict[str, Any]) -> Thing:
    price = world.get(item.get("price", ""), "price", "items[price]")
    if not price["active"]:
        message = "The price specified is inactive. This field only accepts active prices."
        raise refused(message, param="items[price]")
    if price["type"] != "recurring":
        message = "The price specified is set to `type=one_time` but this field only accepts prices with `recurring`."
        raise refused(message, param="items[price]")
    return price


def check_prices(prices: list[Thing]) -> None:
    if not prices:
        raise refused("Missing required param: items.", code="parameter_missing", param="items")
    rhythms = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price in prices}
    if len(rhythms) > 1 or len({price["currency"] for price in prices}) > 1:
        raise refused("All prices of a subscription must have the same interval and currency.", param="items")


def trial_of(world: World, given: dict[str, Any]) -> int | None:
    if days := given.get("trial_period_days"):
        return int(world.now() + days * DAY)
    end = given.get("trial_end")
    if isinstance(end, int) and end <= world.now():
        raise refused("trial_end must be a timestamp in the future.", param="trial_end")
    return end if isinstance(end, int) else None


def check_can_pay(world: World, customer: Thing, given: dict[str, Any], trial_end: int | None) -> None:
    """Without a way to pay the first invoice only a trial, a sent bill or an incomplete subscription may begin."""
    free = trial_end or given.get("collection_method") == "send_invoice"
    if free or given.get("payment_behavior") == "default_incomplete" or given.get("default_payment_method"):
        return
    if not customer["invoice_settings"]["default_payment_method"]:
        message = "This customer has no attached payment source or default payment method."
        raise refused(message, code="resource_missing")


def new_subscription(
    world: World, customer: Thing, given: dict[str, Any], currency: str, trial_end: int | None
) -> Thing:
    now = world.now()
    issuer = {"issuer": {"account": None, "type": "self"}}
    blank = {"account_tax_ids": None, "custom_fields": None, "description": None, "footer": None}
    flexible = {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": None}
    values: dict[str, Any] = {
        "billing_cycle_anchor": trial_end or now,
        "billing_mode": flexible,
        "cancel_at": given.get("cancel_at"),
        "cancellation_details": dict.fromkeys(("comment", "feedback", "feedback_option", "reason")),
        "collection_method": "charge_automatically",
        "currency": currency,
        "customer": customer["id"],
        "default_tax_rates": [],
        "invoice_settings": blank | issuer,
        "metadata": given.get("metadata") or {},
        "start_date": now,
        "status": "trialing" if trial_end else "incomplete",
        "trial_end": trial_end,
        "trial_settings": given.get("trial_settings") or {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": now if trial_end else None,
        "_items": [],
        "_warned": False,
    }
    values.update({name: given[name] for name in PLAIN if name in given})
    return world.make("subscription", "sub", **values)


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


def begin(world: World, subscription: Thing, given: dict[str, Any]) -> None:
    """The first invoice, at once: it decides whether the subscription is active."""
    invoice = bill(world, subscription, "subscription_create", trial=subscription["status"] == "trialing")
    emit(world, "customer.subscription.created", subscription)
    invoices.finalize(world, invoice)
    if subscription["collection_method"] == "send_invoice" and subscription["status"] == "incomplete":
        subscription["status"] = "active"
    if invoice["status"] != "open" or given.get("payment_behavior") == "default_incomplete":
        return
    if subscription["collection_method"] == "charge_automatically":
        method = invoices.method_for(world, invoice, subscription["default_payment_method"])
        error = invoices.collect(world, invoice, method, off_session=given.get("off_session", False))
        if error and given.get("payment_behavior") == "error_if_incomplete":
            end(world, subscription, "incomplete_expired")
            raise error


# -- invoices of a period ----------------------------------------------------------------------------------------------


def items_of(world: World, subscription: Thing) -> list[Thing]:
    return [world.things[identity] for identity in subscription["_items"]]


def price_in(world: World, item: Thing) -> Thing:
    return world.things[item["_price"]]


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


invoices.followers.append(after_invoice)


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


# -- what the API does -------------------------------------------------------------------------------------------------


@endpoint("GET", "/v1/subscriptions/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "subscription")


@endpoint("GET", "/v1/subscriptions")
def list_subscriptions(call: Call) -> Thing:
    world, given = call.world, call.given
    found = [each for each in world.newest("subscription") if has_status(each, given.get("status"))]
    if "price" in given:
        found = [each for each in found if any(item["_price"] == given["price"] for item in items_of(world, each))]
    for name in ("current_period_start", "current_period_end"):
        if name in given:
            found = [each for each in found if lists.within(items_of(world, each)[0][name], given[name])]
    return lists.page(call, found, "/v1/subscriptions", "customer", "collection_method")


def has_status(subscription: Thing, wanted: str | None) -> bool:
    """Without a filter canceled ones are left out."""
    status = subscription["status"]
    if wanted == "ended":
        return status in ENDED
    return wanted == "all" or (status != "canceled" if wanted is None else status == wanted)


@shapes.computed("subscription", "items")
def first_items(world: World, subscription: Thing) -> Thing:
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return lists.whole(items_of(world, subscription), url)


@shapes.computed("subscription_item", "price")
def price_shown(world: World, item: Thing) -> Thing:
    return price_in(world, item)


@shapes.computed("subscription_item", "plan")
def plan_shown(world: World, item: Thing) -> Thing:
    price = price_in(world, item)
    same = ("active", "billing_scheme", "created", "currency", "id", "livemode", "metadata", "nickname", "product")
    return {name: price[name] for name in same} | {
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "meter": price["recurring"]["meter"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": price["transform_quantity"],
        "trial_period_days": None,
        "usage_type": price["recurring"]["usage_type"],
    }


@endpoint("GET", "/v1/subscription_items")
def list_items(call: Call) -> Thing:
    subscription = call.world.get(call.given["subscription"], "subscription", "subscription")
    newest = list(reversed(items_of(call.world, subscription)))
    return lists.page(call, newest, "/v1/subscription_items")


@endpoint("GET", "/v1/subscription_items/{}")
def retrieve_item(call: Call) -> Thing:
    return call.world.get(call.id, "subscription_item")


@endpoint("POST", "/v1/subscriptions/{}")
def update(call: Call) -> Thing:
    world, given = call.world, call.given
    check_played(given)
    subscription = running(world, call.id)
    customer = alive(world, subscription["customer"], "customer")
    if identity := given.get("default_payment_method"):
        own_method(world, customer, identity)
    if "collection_method" in given:
        invoices.check_collection(customer, given["collection_method"], given)
    with watching(world, "customer.subscription.updated", subscription):
        subscription.update(call.pick(*PLAIN, "cancel_at", "pause_collection", "trial_settings"))
        if pause := subscription["pause_collection"]:
            pause.setdefault("resumes_at", None)
        merge_metadata(subscription, given)
        mark_cancellation(world, subscription, given)
        if "trial_end" in given:
            move_trial(world, subscription, given)
        change_items(world, subscription, given)
    return subscription


def running(world: World, identity: str) -> Thing:
    subscription = world.get(identity, "subscription")
    if subscription["status"] in ENDED:
        raise missing("subscription", identity)
    return subscription


def mark_cancellation(world: World, subscription: Thing, given: dict[str, Any]) -> None:
    if "cancel_at_period_end" not in given:
        return
    leaving = given["cancel_at_period_end"]
    subscription["canceled_at"] = world.now() if leaving else None
    subscription["cancel_at"] = period_of(world, subscription)[1] if leaving else None


def period_of(world: World, subscription: Thing) -> tuple[int, int]:
    items = items_of(world, subscription)
    return items[0]["current_period_start"], items[0]["current_period_end"]


def move_trial(world: World, subscription: Thing, given: dict[str, Any]) -> None:
    if given["trial_end"] == "now":
        subscription["trial_end"] = world.now()
        renew(world, subscription)
        return
    subscription["trial_end"] = trial_of(world, given)
    subscription["status"] = "trialing"
    for item in items_of(world, subscription):
        item["current_period_end"] = subscription["trial_end"]


# -- changing what is bought -------------------------------------------------------------------------------------------


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
        invoices.collect_by_itself(world, invoice)


# -- the end -----------------------------------------------------------------------------------------------------------


@endpoint("DELETE", "/v1/subscriptions/{}")
def cancel(call: Call) -> Thing:
    world, given = call.world, call.given
    subscription = running(world, call.id)
    details = {"reason": "cancellation_requested", **(given.get("cancellation_details") or {})}
    subscription["cancellation_details"].update(details)
    if given.get("prorate"):
        for item in items_of(world, subscription):
            prorated(world, subscription, item, -1, (world.now(), item["current_period_end"]))
    if given.get("invoice_now"):
        invoice_now(world, subscription)
    end(world, subscription)
    return subscription


@endpoint("POST", "/v1/subscriptions/{}/pause")
def pause(call: Call) -> Thing:
    subscription = running(call.world, call.id)
    if subscription["status"] not in RUNNING:
        raise refused(f"You can only pause a running subscription. This one is {subscription['status']}.")
    with watching(call.world, "customer.subscription.paused", subscription):
        subscription["status"] = "paused"
    return subscription


@endpoint("POST", "/v1/subscriptions/{}/resume")
def resume(call: Call) -> Thing:
    world = call.world
    subscription = running(world, call.id)
    if subscription["status"] != "paused":
        raise refused(f"You can only resume a paused subscription. This one is {subscription['status']}.")
    with watching(world, "customer.subscription.resumed", subscription):
        subscription["status"] = "active"
        renew(world, subscription)
    return subscription


# -- what time does ----------------------------------------------------------------------------------------------------


def due_instants(world: World) -> list[int]:
    return [instant for each in world.all("subscription") for instant in instants_of(world, each)]


def instants_of(world: World, subscription: Thing) -> list[int]:
    """When something happens to it by itself."""
    if subscription["status"] == "incomplete":
        return [subscription["created"] + GIVE_UP]
    if subscription["status"] not in RUNNING or not items_of(world, subscription):
        return []
    instants = [period_of(world, subscription)[1]]
    if subscription["cancel_at"]:
        instants.append(subscription["cancel_at"])
    if subscription["status"] == "trialing" and not subscription["_warned"]:
        instants.append(subscription["trial_end"] - 3 * DAY)
    return instants


def advance(world: World) -> None:
    for subscription in world.all("subscription"):
        if any(instant <= world.now() for instant in instants_of(world, subscription)):
            advance_one(world, subscription)


def advance_one(world: World, subscription: Thing) -> None:
    now = world.now()
    if subscription["status"] == "incomplete":
        expire(world, subscription)
        return
    if subscription["cancel_at"] and subscription["cancel_at"] <= now:
        end(world, subscription)
        return
    if subscription["status"] == "trialing" and not subscription["_warned"]:
        subscription["_warned"] = True
        emit(world, "customer.subscription.trial_will_end", subscription)
    if period_of(world, subscription)[1] <= now:
        end_period(world, subscription)


def expire(world: World, subscription: Thing) -> None:
    """The first payment never came."""
    move(world, subscription, "incomplete_expired")
    subscription["ended_at"] = world.now()
    invoice = world.find(subscription["latest_invoice"])
    if invoice and invoice["status"] == "open":
        invoices.void_it(world, invoice)


def end_period(world: World, subscription: Thing) -> None:
    if subscription["status"] == "trialing" and cannot_pay(world, subscription):
        choice = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if choice == "cancel":
            end(world, subscription)
            return
        if choice == "pause":
            with watching(world, "customer.subscription.paused", subscription):
                subscription["status"] = "paused"
            return
    with watching(world, "customer.subscription.updated", subscription):
        renew(world, subscription)


def cannot_pay(world: World, subscription: Thing) -> bool:
    customer = world.things[subscription["customer"]]
    default = customer["invoice_settings"]["default_payment_method"]
    return subscription["collection_method"] == "charge_automatically" and not (
        subscription["default_payment_method"] or default
    )


def renew(world: World, subscription: Thing) -> None:
    """The next period of each item, and its invoice as a draft that advances within the hour."""
    if subscription["status"] == "trialing":
        subscription.update(status="active", billing_cycle_anchor=min(subscription["trial_end"], world.now()))
    for item in items_of(world, subscription):
        rhythm = price_in(world, item)["recurring"]
        start = min(item["current_period_end"], world.now())
        anchor = subscription["billing_cycle_anchor"]
        item["current_period_start"] = start
        item["current_period_end"] = next_boundary(anchor, start, rhythm["interval"], rhythm["interval_count"])
    pause = subscription["pause_collection"]
    invoice = bill(world, subscription, "subscription_cycle", auto=pause is None)
    if pause:
        set_aside(world, invoice, pause["behavior"])


def set_aside(world: World, invoice: Thing, behaviour: str) -> None:
    """Collection is paused: the invoice stays a draft, or is issued and given up."""
    if behaviour == "keep_as_draft":
        return
    invoices.finalize(world, invoice)
    if invoice["status"] == "open":
        (invoices.void_it if behaviour == "void" else invoices.give_up)(world, invoice)


def plant(world: World, customer: Thing, price: Thing, quantity: int, status: str, metadata: dict[str, str]) -> Thing:
    """One that was always there: no invoice, no event."""
    given = {"metadata": metadata}
    subscription = new_subscription(world, customer, given, price["currency"], None)
    subscription["status"] = status
    period = (world.now(), first_end(world.now(), price))
    new_subscription_item(world, subscription, price, {"quantity": quantity}, period)
    return subscription
