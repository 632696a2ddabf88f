"""Customers and the balance Stripe keeps for them."""

import re
from typing import Any

from tests.stripe_double import lists, shapes
from tests.stripe_double.errors import missing, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World, letters

PLAIN = ("address", "description", "email", "name", "phone", "preferred_locales", "shipping", "tax_exempt")


@endpoint("GET", "/v1/account")
def account(call: Call) -> Thing:
    world = call.world
    return shapes.make(
        "account",
        id=world.account,
        charges_enabled=True,
        country="US",
        created=world.now(),
        default_currency="usd",
        details_submitted=True,
        email="billing@example.com",
        payouts_enabled=True,
        settings={"dashboard": {"display_name": "Double", "timezone": "Etc/UTC"}},
        type="standard",
    )


@endpoint("POST", "/v1/customers")
def create(call: Call) -> Thing:
    check_texts(call)
    from tests.stripe_double.methods import attach, usable

    world, given = call.world, call.given
    customer = world.make(
        "customer",
        "cus",
        balance=given.get("balance", 0),
        delinquent=False,
        invoice_prefix=given.get("invoice_prefix") or letters(8).upper(),
        invoice_settings=empty_settings(),
        livemode=world.livemode,
        metadata=given.get("metadata") or {},
        next_invoice_sequence=given.get("next_invoice_sequence", 1),
        preferred_locales=[],
        tax_exempt="none",
    )
    customer.update(call.pick(*PLAIN))
    if identity := given.get("payment_method"):
        attach(world, usable(world, identity), customer)
    set_invoice_settings(world, customer, given.get("invoice_settings") or {})
    emit(world, "customer.created", customer)
    return customer


def empty_settings() -> dict[str, Any]:
    return {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None}


def check_texts(call: Call) -> None:
    prefix = call.given.get("invoice_prefix")
    if prefix and not re.fullmatch(r"[A-Z0-9]{1,12}", prefix):
        message = "The invoice prefix must be 1 to 12 uppercase letters or numbers."
        raise refused(message, param="invoice_prefix")
    email = call.given.get("email")
    if email and len(email) > 512:
        raise refused("The email address must be at most 512 characters.", code="email_invalid", param="email")
    if email and ("@" not in email.strip("@") or " " in email or "." not in email.rsplit("@", 1)[1]):
        raise refused(f"Invalid email address: {email}", code="email_invalid", param="email")


@endpoint("POST", "/v1/customers/{}")
def update(call: Call) -> Thing:
    world, given = call.world, call.given
    customer = alive(world, call.id)
    check_texts(call)
    set_invoice_settings(world, customer, given.get("invoice_settings") or {}, only_check=True)
    with watching(world, "customer.updated", customer):
        customer.update(call.pick(*PLAIN, "invoice_prefix", "next_invoice_sequence"))
        merge_metadata(customer, given)
        set_invoice_settings(world, customer, given.get("invoice_settings") or {})
        if "balance" in given:
            move_balance(world, customer, given["balance"] - customer["balance"], customer["currency"] or "usd")
    return customer


def set_invoice_settings(world: World, customer: Thing, settings: dict[str, Any], *, only_check: bool = False) -> None:
    if identity := settings.get("default_payment_method"):
        own_method(world, customer, identity)
    if not only_check:
        customer["invoice_settings"].update({name: value or None for name, value in settings.items()})


def own_method(world: World, customer: Thing, identity: str) -> Thing:
    """The customer's method by id; another's or nobody's is refused."""
    method = world.get(identity, "payment_method", "payment_method")
    if method["customer"] != customer["id"]:
        raise refused(
            f"The customer does not have a payment method with the ID {identity}. The payment method must be attached "
            "to the customer.",
            code="resource_missing",
            param="payment_method",
        )
    return method


def merge_metadata(thing: Thing, given: dict[str, Any]) -> None:
    """Given names are set, empty ones removed; an empty `metadata` removes all."""
    if given.get("metadata") == "":
        thing["metadata"] = {}
    elif "metadata" in given:
        merged = {**thing["metadata"], **given["metadata"]}
        thing["metadata"] = {name: value for name, value in merged.items() if value != ""}


@endpoint("GET", "/v1/customers/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "customer")


@endpoint("GET", "/v1/customers")
def list_customers(call: Call) -> Thing:
    living = (customer for customer in call.world.newest("customer") if not customer.get("deleted"))
    return lists.page(call, living, "/v1/customers", "email")


@endpoint("GET", "/v1/customers/search")
def search(call: Call) -> Thing:
    raise refused("Search is not available: its index lags behind. List with filters instead.")


@endpoint("DELETE", "/v1/customers/{}")
def delete(call: Call) -> Thing:
    from tests.stripe_double.recurring import end

    world = call.world
    customer = alive(world, call.id)
    for subscription in world.all("subscription", customer=customer["id"]):
        if subscription["status"] not in {"canceled", "incomplete_expired"}:
            end(world, subscription)
    for method in world.all("payment_method", customer=customer["id"]):
        method["customer"] = None
        method["_spent"] = True
    emit(world, "customer.deleted", customer)
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    customer.clear()
    customer.update(stub)
    return stub


def alive(world: World, identity: str, param: str = "id") -> Thing:
    """The customer, unless it is deleted."""
    customer = world.get(identity, "customer", param)
    if customer.get("deleted"):
        raise missing("customer", identity, param)
    return customer


# -- the balance: negative is credit, positive is owed with the next invoice -------------------------------------------


def move_balance(
    world: World, customer: Thing, amount: int, currency: str, kind: str = "adjustment", **about: Any
) -> Thing | None:
    """Add `amount` to the balance and write the line of its ledger; None when nothing moved."""
    if amount == 0:
        return None
    customer["balance"] += amount
    customer["currency"] = customer["currency"] or currency
    return world.make(
        "customer_balance_transaction",
        "cbtxn",
        amount=amount,
        currency=currency,
        customer=customer["id"],
        ending_balance=customer["balance"],
        type=kind,
        **about,
    )


@endpoint("POST", "/v1/customers/{}/balance_transactions")
def create_balance_transaction(call: Call) -> Thing:
    world, given = call.world, call.given
    customer = alive(world, call.id)
    with watching(world, "customer.updated", customer):
        moved = move_balance(world, customer, given["amount"], given["currency"].lower(), **call.pick("description"))
    if moved is None:
        raise refused("Amount must not be zero.", code="parameter_invalid_integer", param="amount")
    moved["metadata"] = given.get("metadata") or {}
    return moved


@endpoint("GET", "/v1/customers/{}/balance_transactions")
def list_balance_transactions(call: Call) -> Thing:
    lines = [each for each in call.world.newest("customer_balance_transaction") if each["customer"] == call.id]
    return lists.page(call, lines, f"/v1/customers/{call.id}/balance_transactions", "invoice")


@shapes.computed("customer", "subscriptions")
def subscriptions_of(world: World, customer: Thing) -> Thing:
    found = [each for each in world.newest("subscription") if each["customer"] == customer["id"]]
    living = [each for each in found if each["status"] not in {"canceled", "incomplete_expired"}]
    return lists.whole(living, f"/v1/customers/{customer['id']}/subscriptions")
