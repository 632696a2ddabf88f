"""Payment methods: how they come to be, and whose they are."""

from datetime import UTC, datetime
from typing import Any

from tests.stripe_double import cards, lists, shapes
from tests.stripe_double.cards import Card
from tests.stripe_double.customers import alive, merge_metadata, own_method
from tests.stripe_double.errors import declined, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

SPENT = (
    "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and "
    "may not be used again."
)


def create_method(world: World, number: str, *, exp_month: int = 12, exp_year: int = 2034, **more: Any) -> Thing:
    """A method nobody owns yet, from a test card's number, an IBAN or a test account's number."""
    plain = number.replace(" ", "")
    described = cards.described(plain, exp_month, exp_year)
    details = {**shapes.nested(shapes.CLASSES["payment_method"].BillingDetails), **(more.get("billing_details") or {})}
    details["address"] = details["address"] or dict.fromkeys(
        ("city", "country", "line1", "line2", "postal_code", "state")
    )
    return world.make(
        "payment_method",
        "pm",
        allow_redisplay="unspecified",
        billing_details=details,
        metadata=more.get("metadata") or {},
        _number=plain,
        _asked=False,
        **described,
    )


def usable(world: World, identity: str, param: str = "payment_method") -> Thing:
    """The method by id; a test token as pm_card_visa makes a new one."""
    if identity in cards.TOKENS:
        return create_method(world, cards.TOKENS[identity])
    method = world.get(identity, "payment_method", param)
    if method.get("_spent"):
        raise refused(SPENT, code="payment_method_unexpected_state", param=param)
    return method


def behaviour(method: Thing) -> Card:
    return cards.CARDS[method["_number"]] if method["type"] == "card" else Card()


def attach(world: World, method: Thing, customer: Thing, *, check: bool = True) -> Thing:
    """Give it to the customer. Cards that are always declined are so here too."""
    if method["customer"] == customer["id"]:
        return method
    if method["customer"]:
        raise refused("The payment method you provided has already been attached to a customer.")
    decline = behaviour(method).decline
    if check and decline and not behaviour(method).attaches:
        raise declined(decline.message, code=decline.code, decline_code=decline.decline_code)
    method["customer"] = customer["id"]
    emit(world, "payment_method.attached", method)
    return method


@endpoint("POST", "/v1/payment_methods", public=True)
def create(call: Call) -> Thing:
    given = call.given
    kind = given.get("type")
    if kind == "card":
        return create_card(call, given.get("card") or {})
    if kind == "sepa_debit":
        iban = (given.get("sepa_debit") or {}).get("iban", "")
        return create_method(call.world, iban, **call.pick("billing_details", "metadata"))
    if kind == "us_bank_account":
        number = (given.get("us_bank_account") or {}).get("account_number", "")
        return create_method(call.world, number, **call.pick("billing_details", "metadata"))
    raise refused(f"The payment method type {kind} is not one the double plays.", param="type")


def create_card(call: Call, card: dict[str, Any]) -> Thing:
    if token := card.get("token"):
        return create_method(call.world, cards.TOKENS[token.replace("tok_", "pm_card_")])
    if not call.public:
        raise refused(
            "Sending credit card numbers directly to the Stripe API is generally unsafe. Use a test token such as "
            "pm_card_visa, or Stripe.js."
        )
    check_expiry(call.world, card)
    return create_method(
        call.world,
        card["number"],
        exp_month=card["exp_month"],
        exp_year=card["exp_year"],
        **call.pick("billing_details", "metadata"),
    )


def check_expiry(world: World, card: dict[str, Any]) -> None:
    today = datetime.fromtimestamp(world.now(), UTC)
    if not 1 <= card["exp_month"] <= 12:
        raise declined("Your card's expiration month is invalid.", code="invalid_expiry_month", param="exp_month")
    if (card["exp_year"], card["exp_month"]) < (today.year, today.month):
        raise declined("Your card's expiration year is invalid.", code="invalid_expiry_year", param="exp_year")


@endpoint("GET", "/v1/payment_methods/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "payment_method")


@endpoint("POST", "/v1/payment_methods/{}")
def update(call: Call) -> Thing:
    method = call.world.get(call.id, "payment_method")
    with watching(call.world, "payment_method.updated", method):
        method["billing_details"].update(call.given.get("billing_details") or {})
        if card := call.given.get("card"):
            method["card"].update({name: card[name] for name in ("exp_month", "exp_year") if name in card})
        merge_metadata(method, call.given)
    return method


@endpoint("POST", "/v1/payment_methods/{}/attach")
def attach_method(call: Call) -> Thing:
    if "customer" not in call.given:
        raise refused("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = alive(call.world, call.given["customer"], "customer")
    return attach(call.world, usable(call.world, call.id, "id"), customer)


@endpoint("POST", "/v1/payment_methods/{}/detach")
def detach(call: Call) -> Thing:
    world = call.world
    method = world.get(call.id, "payment_method")
    if not method["customer"]:
        raise refused("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = world.get(method["customer"], "customer")
    owner, method["customer"], method["_spent"] = method["customer"], None, True
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        with watching(world, "customer.updated", customer):
            customer["invoice_settings"]["default_payment_method"] = None
    emit(world, "payment_method.detached", method, {"customer": owner})
    return method


@endpoint("GET", "/v1/payment_methods")
def list_methods(call: Call) -> Thing:
    if "customer" in call.given:
        alive(call.world, call.given["customer"], "customer")
    owned = (method for method in call.world.newest("payment_method") if method["customer"])
    return lists.page(call, owned, "/v1/payment_methods", "customer", "type")


@endpoint("GET", "/v1/customers/{}/payment_methods")
def list_of_customer(call: Call) -> Thing:
    alive(call.world, call.id)
    owned = (method for method in call.world.newest("payment_method") if method["customer"] == call.id)
    return lists.page(call, owned, f"/v1/customers/{call.id}/payment_methods", "type")


@endpoint("GET", "/v1/customers/{}/payment_methods/{}")
def retrieve_of_customer(call: Call) -> Thing:
    return own_method(call.world, alive(call.world, call.ids[0]), call.ids[1])
