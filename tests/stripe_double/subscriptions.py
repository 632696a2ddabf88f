"""Subscriptions: they begin, renew, change and end, and their invoices go the way of all invoices."""

from typing import Any

from tests.stripe_double import collecting, invoices, lists, shapes
from tests.stripe_double.changes import change_items, invoice_now, prorated
from tests.stripe_double.customers import alive, merge_metadata, own_method
from tests.stripe_double.errors import missing, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import refuse_unplayed
from tests.stripe_double.recurring import (
    ENDED,
    RUNNING,
    bill,
    end,
    first_end,
    items_of,
    new_subscription_item,
    period_of,
    price_in,
    price_of,
)
from tests.stripe_double.renewals import renew
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

DAY = 24 * 3600
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
        method = collecting.method_for(world, invoice, subscription["default_payment_method"])
        error = collecting.collect(world, invoice, method, off_session=given.get("off_session", False))
        if error and given.get("payment_behavior") == "error_if_incomplete":
            end(world, subscription, "incomplete_expired")
            raise error


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


def move_trial(world: World, subscription: Thing, given: dict[str, Any]) -> None:
    if given["trial_end"] == "now":
        subscription["trial_end"] = world.now()
        renew(world, subscription)
        return
    subscription["trial_end"] = trial_of(world, given)
    subscription["status"] = "trialing"
    for item in items_of(world, subscription):
        item["current_period_end"] = subscription["trial_end"]


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
        subscription.update(status="active", billing_cycle_anchor=world.now())
        for item in items_of(world, subscription):  # what lay between is not charged
            item["current_period_end"] = world.now()
        renew(world, subscription)
    return subscription


def plant(world: World, customer: Thing, price: Thing, quantity: int, status: str, metadata: dict[str, str]) -> Thing:
    """One that was always there: no invoice, no event."""
    given = {"metadata": metadata}
    subscription = new_subscription(world, customer, given, price["currency"], None)
    subscription["status"] = status
    period = (world.now(), first_end(world.now(), price))
    new_subscription_item(world, subscription, price, {"quantity": quantity}, period)
    return subscription
