"""Setup intents: a card is kept for later charges, with its owner's consent where the bank wants it."""

from typing import Any

from tests.stripe_double import lists
from tests.stripe_double.customers import alive, merge_metadata, own_method
from tests.stripe_double.errors import StripeError, declined, refused
from tests.stripe_double.events import emit
from tests.stripe_double.methods import attach, behaviour, usable
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.shapes import view
from tests.stripe_double.state import Thing, World, secret_of

OPEN = {"requires_payment_method", "requires_confirmation", "requires_action"}


@endpoint("POST", "/v1/setup_intents")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    if "customer" in given:
        alive(world, given["customer"], "customer")
    if "return_url" in given and not given.get("confirm"):
        raise refused("return_url can only be set when confirm is true.", param="return_url")
    method = usable(world, given["payment_method"]) if given.get("payment_method") else None
    types = given.get("payment_method_types")
    intent = world.make(
        "setup_intent",
        "seti",
        automatic_payment_methods=None if types else {"allow_redirects": "always", "enabled": True},
        customer=given.get("customer"),
        description=given.get("description"),
        metadata=given.get("metadata") or {},
        payment_method=method and method["id"],
        payment_method_types=types or ["card", "sepa_debit", "us_bank_account"],
        status="requires_confirmation" if method else "requires_payment_method",
        usage=given.get("usage", "off_session"),
    )
    intent["client_secret"] = secret_of(intent)
    emit(world, "setup_intent.created", intent)
    return confirm_intent(call, intent) if given.get("confirm") else intent


@endpoint("GET", "/v1/setup_intents/{}", public=True)
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "setup_intent")


@endpoint("POST", "/v1/setup_intents/{}")
def update(call: Call) -> Thing:
    world = call.world
    intent = world.get(call.id, "setup_intent")
    if intent["status"] not in OPEN:
        raise unexpected(intent, "updated")
    if "customer" in call.given:
        alive(world, call.given["customer"], "customer")
    if "payment_method" in call.given:
        intent["payment_method"] = usable(world, call.given["payment_method"])["id"]
        intent["status"] = "requires_confirmation"
    intent.update(call.pick("customer", "description"))
    merge_metadata(intent, call.given)
    return intent


@endpoint("GET", "/v1/setup_intents")
def list_intents(call: Call) -> Thing:
    return lists.page(call, call.world.newest("setup_intent"), "/v1/setup_intents", "customer", "payment_method")


@endpoint("POST", "/v1/setup_intents/{}/confirm", public=True)
def confirm(call: Call) -> Thing:
    intent = call.world.get(call.id, "setup_intent")
    if intent["status"] not in OPEN:
        raise unexpected(intent, "confirmed")
    if call.given.get("payment_method"):
        intent["payment_method"] = usable(call.world, call.given["payment_method"])["id"]
    if not intent["payment_method"]:
        raise refused(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
            setup_intent=intent,
        )
    return confirm_intent(call, intent)


def confirm_intent(call: Call, intent: Thing) -> Thing:
    world = call.world
    method = world.get(intent["payment_method"], "payment_method")
    if intent["customer"] and method["customer"]:
        own_method(world, world.get(intent["customer"], "customer"), method["id"])
    card = behaviour(method)
    if card.decline and not card.attaches:
        raise fail(world, intent, declined_error(card))
    if card.asks:
        return ask(world, intent, call.given.get("return_url"))
    return succeed(world, intent)


def declined_error(card: Any) -> StripeError:
    decline = card.decline
    return declined(decline.message, code=decline.code, decline_code=decline.decline_code)


def ask(world: World, intent: Thing, return_url: str | None) -> Thing:
    intent["status"] = "requires_action"
    intent["_return"] = return_url
    intent["next_action"] = next_action(world, intent, return_url)
    emit(world, "setup_intent.requires_action", intent)
    return intent


def next_action(world: World, intent: Thing, return_url: str | None) -> dict[str, Any]:
    """Where the card's owner proves to be there: the double's own 3-D Secure page."""
    page = f"{world.url}/3ds/{intent['id']}"
    if return_url is None:
        sdk = {"type": "three_d_secure_redirect", "stripe_js": page}
        return {"type": "use_stripe_sdk", "use_stripe_sdk": sdk}
    return {"type": "redirect_to_url", "redirect_to_url": {"url": page, "return_url": return_url}}


def finish(world: World, intent: Thing, *, ok: bool) -> None:
    """The owner answered on the 3-D Secure page."""
    if ok:
        succeed(world, intent)
        return
    fail(
        world,
        intent,
        refused(
            "We are unable to authenticate your payment method. Please choose a different payment method and try "
            "again.",
            code="setup_intent_authentication_failure",
        ),
    )


def succeed(world: World, intent: Thing) -> Thing:
    method = world.get(intent["payment_method"], "payment_method")
    method["_asked"] = True
    if intent["customer"]:
        attach(world, method, world.get(intent["customer"], "customer"))
    intent.update(status="succeeded", next_action=None, last_setup_error=None)
    emit(world, "setup_intent.succeeded", intent)
    return intent


def fail(world: World, intent: Thing, error: StripeError) -> StripeError:
    method = world.find(intent["payment_method"])
    intent.update(
        status="requires_payment_method",
        next_action=None,
        payment_method=None,
        last_setup_error={**error.body["error"], "payment_method": method and view(world, method)},
    )
    emit(world, "setup_intent.setup_failed", intent)
    error.body["error"]["setup_intent"] = view(world, intent)
    return error


@endpoint("POST", "/v1/setup_intents/{}/cancel")
def cancel(call: Call) -> Thing:
    intent = call.world.get(call.id, "setup_intent")
    if intent["status"] not in OPEN:
        raise unexpected(intent, "canceled")
    intent.update(
        status="canceled",
        next_action=None,
        cancellation_reason=call.given.get("cancellation_reason"),
        payment_method=None,
    )
    emit(call.world, "setup_intent.canceled", intent)
    return intent


def unexpected(intent: Thing, act: str) -> StripeError:
    return refused(
        f"This SetupIntent's status is {intent['status']}; it could not be {act}.",
        code="setup_intent_unexpected_state",
        setup_intent={name: value for name, value in intent.items() if not name.startswith("_")},
    )
