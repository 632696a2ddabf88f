"""What time does to subscriptions."""

from tests.stripe_double import invoices
from tests.stripe_double.events import emit, watching
from tests.stripe_double.periods import next_boundary
from tests.stripe_double.recurring import RUNNING, bill, end, items_of, move, period_of, price_in
from tests.stripe_double.state import Thing, World

DAY = 24 * 3600
GIVE_UP = 23 * 3600  # seconds an incomplete subscription may wait for its first payment


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
