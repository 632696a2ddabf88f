"""Payment intents and their charges: one attempt, its outcome, and what follows from it."""

from collections.abc import Callable
from typing import Any

from tests.stripe_double import cards, lists, money, shapes
from tests.stripe_double.customers import alive, merge_metadata, own_method
from tests.stripe_double.errors import StripeError, declined, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.methods import behaviour, usable
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.setups import next_action
from tests.stripe_double.state import Thing, World, letters, secret_of

PAYABLE = {"requires_payment_method", "requires_confirmation", "requires_action"}
TYPES = ["card", "sepa_debit", "us_bank_account"]

# Called after each outcome with "succeeded", "failed", "requires_action" or "processing": invoices listen here.
Listener = Callable[[World, Thing, str], None]
listeners: list[Listener] = []


def tell(world: World, intent: Thing, outcome: str) -> None:
    for listener in listeners:
        listener(world, intent, outcome)


def new_intent(world: World, amount: int, currency: str, customer: str | None, **more: Any) -> Thing:
    intent = world.make(
        "payment_intent",
        "pi",
        amount=amount,
        capture_method="automatic",
        confirmation_method="automatic",
        currency=currency,
        customer=customer,
        payment_method_types=TYPES,
        status="requires_payment_method",
        **more,
    )
    intent["client_secret"] = secret_of(intent)
    emit(world, "payment_intent.created", intent)
    return intent


# -- one attempt -------------------------------------------------------------------------------------------------------


def attempt(
    world: World, intent: Thing, method: Thing, *, off_session: bool, return_url: str | None = None
) -> StripeError | None:
    """Charge the method. None when the money came, is on its way or the owner must act; else the decline."""
    intent["payment_method"] = method["id"]
    intent["_return"] = return_url
    if method["type"] != "card":
        return process(world, intent, method)
    card = behaviour(method)
    if card.asks == "always" or (card.asks and not (method["_asked"] and off_session)):
        return ask(world, intent, return_url)
    if card.decline:
        return fail(world, intent, method, card.decline)
    succeed(world, intent, method)
    return None


def ask(world: World, intent: Thing, return_url: str | None) -> None:
    intent.update(status="requires_action", next_action=next_action(world, intent, return_url))
    emit(world, "payment_intent.requires_action", intent)
    tell(world, intent, "requires_action")


def process(world: World, intent: Thing, method: Thing) -> None:
    charge = new_charge(world, intent, method, status="pending", paid=False)
    intent.update(status="processing", latest_charge=charge["id"], next_action=None)
    intent["processing"] = {"type": method["type"]}
    emit(world, "charge.pending", charge)
    emit(world, "payment_intent.processing", intent)
    tell(world, intent, "processing")


def succeed(world: World, intent: Thing, method: Thing, charge: Thing | None = None) -> None:
    """The money came, with a new charge or the pending one."""
    charge = charge or new_charge(world, intent, method, status="succeeded", paid=True)
    charge.update(status="succeeded", paid=True, captured=True, amount_captured=charge["amount"], outcome=GOOD)
    intent.update(
        status="succeeded",
        amount_received=intent["amount"],
        latest_charge=charge["id"],
        last_payment_error=None,
        next_action=None,
        processing=None,
    )
    emit(world, "charge.succeeded", charge)
    emit(world, "payment_intent.succeeded", intent)
    tell(world, intent, "succeeded")
    if reason := behaviour(method).dispute:
        from tests.stripe_double.refunds import open_dispute

        open_dispute(world, charge, reason)


GOOD = {
    "advice_code": None, "network_advice_code": None, "network_decline_code": None,
    "network_status": "approved_by_network", "reason": None, "risk_level": "normal", "risk_score": 12,
    "seller_message": "Payment complete.", "type": "authorized",
}  # fmt: skip


def fail(
    world: World, intent: Thing, method: Thing, decline: cards.Decline, charge: Thing | None = None
) -> StripeError:
    """The attempt failed: a failed charge, and the intent wants another method."""
    charge = charge or new_charge(world, intent, method, status="failed", paid=False)
    charge.update(
        status="failed",
        paid=False,
        captured=False,
        failure_code=decline.code,
        failure_message=decline.message,
        outcome={
            **GOOD, "network_status": "declined_by_network", "reason": decline.decline_code or decline.code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        },
    )  # fmt: skip
    error = declined(decline.message, code=decline.code, decline_code=decline.decline_code, charge=charge["id"])
    refuse_intent(world, intent, method, error)
    intent["latest_charge"] = charge["id"]
    emit(world, "charge.failed", charge)
    emit(world, "payment_intent.payment_failed", intent)
    tell(world, intent, "failed")
    error.body["error"]["payment_intent"] = shapes.view(world, intent)
    error.body["error"]["payment_method"] = shapes.view(world, method)
    return error


def refuse_intent(world: World, intent: Thing, method: Thing, error: StripeError) -> None:
    intent.update(
        status="requires_payment_method",
        next_action=None,
        payment_method=None,
        processing=None,
        last_payment_error={**error.body["error"], "payment_method": shapes.view(world, method)},
    )


def new_charge(world: World, intent: Thing, method: Thing, *, status: str, paid: bool) -> Thing:
    details = charged_with(method)
    charge = world.make(
        "charge",
        "ch",
        amount=intent["amount"],
        billing_details=method["billing_details"],
        calculated_statement_descriptor="DOUBLE",
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        metadata=dict(intent["metadata"]),
        paid=paid,
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details=details,
        status=status,
        balance_transaction=f"txn_{letters(24)}" if paid else None,
        _refunds=[],
    )
    charge["receipt_url"] = f"{world.url}/receipts/{charge['id']}"
    return charge


def charged_with(method: Thing) -> Thing:
    """What a charge tells of its method: the fields both have, null for what only a charge has."""
    kind = method["type"]
    whole = shapes.CLASSES["charge"].PaymentMethodDetails
    shape = shapes.fields_of(whole).inner[kind]
    known = {name: value for name, value in method[kind].items() if name in shape.__annotations__}
    return {kind: shapes.nested(shape, **known), "type": kind}


def finish(world: World, intent: Thing, *, ok: bool) -> None:
    """The owner answered on the 3-D Secure page; the card may still decline."""
    method = world.get(intent["payment_method"], "payment_method")
    if not ok:
        refuse_intent(world, intent, method, not_proven())
        emit(world, "payment_intent.payment_failed", intent)
        tell(world, intent, "failed")
        return
    decline = behaviour(method).decline
    if decline:
        fail(world, intent, method, decline)
    else:
        succeed(world, intent, method)


def not_proven() -> StripeError:
    return refused(
        "We are unable to authenticate your payment method. Please choose a different payment method and try again.",
        code="payment_intent_authentication_failure",
    )


def settle(world: World, intent: Thing, *, ok: bool) -> None:
    """A bank debit that was processing arrives or bounces."""
    if intent["status"] != "processing":
        raise refused(f"{intent['id']} is {intent['status']}, not processing.")
    charge = world.get(intent["latest_charge"], "charge")
    method = world.get(intent["payment_method"], "payment_method")
    if ok:
        succeed(world, intent, method, charge)
    else:
        fail(world, intent, method, cards.Decline(BOUNCED, "payment_intent_payment_attempt_failed", None), charge)


BOUNCED = "The customer's bank account has insufficient funds to complete this payment."


def cancel_intent(world: World, intent: Thing, reason: str | None) -> None:
    intent.update(status="canceled", canceled_at=world.now(), cancellation_reason=reason, next_action=None)
    emit(world, "payment_intent.canceled", intent)


# -- endpoints ---------------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/payment_intents")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    currency = money.check_currency(given["currency"])
    money.check_charge(given["amount"], currency)
    if "customer" in given:
        alive(world, given["customer"], "customer")
    intent = new_intent(
        world,
        given["amount"],
        currency,
        given.get("customer"),
        description=given.get("description"),
        metadata=given.get("metadata") or {},
        setup_future_usage=given.get("setup_future_usage"),
    )
    if given.get("payment_method"):
        intent.update(payment_method=usable(world, given["payment_method"])["id"], status="requires_confirmation")
    return confirm_intent(call, intent) if given.get("confirm") else intent


@endpoint("GET", "/v1/payment_intents/{}", public=True)
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "payment_intent")


@endpoint("GET", "/v1/payment_intents")
def list_intents(call: Call) -> Thing:
    return lists.page(call, call.world.newest("payment_intent"), "/v1/payment_intents", "customer")


@endpoint("POST", "/v1/payment_intents/{}")
def update(call: Call) -> Thing:
    intent = call.world.get(call.id, "payment_intent")
    if intent.get("_invoice") and {"amount", "currency", "customer"} & call.given.keys():
        raise refused("This PaymentIntent belongs to an invoice and cannot be changed this way.")
    merge_metadata(intent, call.given)
    intent.update(call.pick("description", "amount"))
    return intent


@endpoint("POST", "/v1/payment_intents/{}/confirm", public=True)
def confirm(call: Call) -> Thing:
    intent = call.world.get(call.id, "payment_intent")
    if intent["status"] not in PAYABLE:
        raise unexpected(intent, "confirmed")
    return confirm_intent(call, intent)


def confirm_intent(call: Call, intent: Thing) -> Thing:
    world = call.world
    identity = call.given.get("payment_method") or intent["payment_method"]
    if not identity:
        raise refused(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
            payment_intent=shapes.view(world, intent),
        )
    method = usable(world, identity)
    if intent["customer"] and method["customer"]:
        own_method(world, world.get(intent["customer"], "customer"), method["id"])
    off_session = bool(call.given.get("off_session", False))
    error = attempt(world, intent, method, off_session=off_session, return_url=call.given.get("return_url"))
    if error is None and off_session and intent["status"] == "requires_action":
        error = wants_owner(world, intent, method)
    if error:
        raise error
    return intent


def wants_owner(world: World, intent: Thing, method: Thing) -> StripeError:
    """Off session nobody can act: the attempt is over."""
    message = "Your card was declined. This transaction requires authentication."
    error = declined(message, code="authentication_required", decline_code="authentication_required")
    refuse_intent(world, intent, method, error)
    emit(world, "payment_intent.payment_failed", intent)
    error.body["error"]["payment_intent"] = shapes.view(world, intent)
    return error


@endpoint("POST", "/v1/payment_intents/{}/cancel")
def cancel(call: Call) -> Thing:
    intent = call.world.get(call.id, "payment_intent")
    if intent.get("_invoice"):
        raise refused(
            "You cannot cancel this PaymentIntent because it was created by an invoice. Void the invoice instead.",
            code="payment_intent_unexpected_state",
        )
    if intent["status"] not in PAYABLE:
        raise unexpected(intent, "canceled")
    cancel_intent(call.world, intent, call.given.get("cancellation_reason"))
    return intent


def unexpected(intent: Thing, act: str) -> StripeError:
    return refused(
        f"This PaymentIntent's status is {intent['status']}; it could not be {act}.",
        code="payment_intent_unexpected_state",
        payment_intent={name: value for name, value in intent.items() if not name.startswith("_")},
    )


@endpoint("GET", "/v1/charges/{}")
def retrieve_charge(call: Call) -> Thing:
    return call.world.get(call.id, "charge")


@endpoint("POST", "/v1/charges/{}")
def update_charge(call: Call) -> Thing:
    charge = call.world.get(call.id, "charge")
    with watching(call.world, "charge.updated", charge):
        charge.update(call.pick("description"))
        merge_metadata(charge, call.given)
    return charge


@endpoint("GET", "/v1/charges")
def list_charges(call: Call) -> Thing:
    return lists.page(call, call.world.newest("charge"), "/v1/charges", "customer", "payment_intent")


@shapes.computed("charge", "refunds")
def refunds_of(world: World, charge: Thing) -> Thing:
    refunds = [world.things[identity] for identity in reversed(charge["_refunds"])]
    return lists.whole(refunds, f"/v1/charges/{charge['id']}/refunds")
