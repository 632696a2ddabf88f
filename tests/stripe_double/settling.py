"""How an invoice and the payment that pays it are tied together, and what each outcome means for the invoice."""

from collections.abc import Callable
from typing import Any

from tests.stripe_double import lists, payments, shapes
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

DAY = 24 * 3600
RETRY = 3 * DAY
ATTEMPTS = 4
# Called with (world, invoice, "paid" or "failed"): subscriptions listen here.
Follower = Callable[[World, Thing, str], None]
followers: list[Follower] = []


def ask_for_payment(world: World, invoice: Thing) -> None:
    """The payment intent that pays it, and the invoice payment that ties both together."""
    intent = payments.new_intent(
        world,
        invoice["amount_remaining"],
        invoice["currency"],
        invoice["customer"],
        description="Payment for Invoice",
        _invoice=invoice["id"],
    )
    customer = world.things[invoice["customer"]]
    if method := invoice["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]:
        # It is known what would be charged; nothing is, until somebody asks.
        intent.update(payment_method=method, status="requires_confirmation")
    payment = world.make(
        "invoice_payment",
        "inpay",
        amount_requested=invoice["amount_remaining"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"], "charge": None, "payment_record": None},
        status="open",
    )
    invoice["_payments"].append(payment["id"])


def default_payment(world: World, invoice: Thing) -> Thing | None:
    return world.things[invoice["_payments"][-1]] if invoice["_payments"] else None


def intent_of(world: World, invoice: Thing) -> Thing | None:
    payment = default_payment(world, invoice)
    return world.find(payment["payment"]["payment_intent"]) if payment else None


@shapes.computed("invoice", "payments")
def payments_of(world: World, invoice: Thing) -> Thing:
    found = [world.things[identity] for identity in reversed(invoice["_payments"])]
    return lists.whole(found, f"/v1/invoice_payments?invoice={invoice['id']}")


@shapes.computed("invoice", "amount_paid_off_stripe")
def paid_elsewhere(world: World, invoice: Thing) -> int:
    return int(invoice["_paid_elsewhere"])


@shapes.computed("invoice", "confirmation_secret")
def confirmation_secret(world: World, invoice: Thing) -> Any:
    intent = intent_of(world, invoice)
    return intent and {"client_secret": intent["client_secret"], "type": "payment_intent"}


@endpoint("GET", "/v1/invoice_payments/{}")
def retrieve_payment(call: Call) -> Thing:
    return call.world.get(call.id, "invoice_payment")


@endpoint("GET", "/v1/invoice_payments")
def list_payments(call: Call) -> Thing:
    found = call.world.newest("invoice_payment")
    if asked := call.given.get("payment"):
        found = (each for each in found if each["payment"]["payment_intent"] == asked.get("payment_intent"))
    return lists.page(call, found, "/v1/invoice_payments", "invoice", "status")


def refuse_while_processing(world: World, invoice: Thing) -> None:
    intent = intent_of(world, invoice)
    if intent and intent["status"] == "processing":
        message = "This invoice has a payment that is still processing."
        raise refused(message, code="payment_intent_unexpected_state", payment_intent=shapes.view(world, intent))


def after_payment(world: World, intent: Thing, outcome: str) -> None:
    """What an attempt means for the invoice it belongs to."""
    invoice = world.find(intent.get("_invoice"))
    if invoice is None:
        return
    with watching(world, "invoice.updated", invoice, always=False):
        invoice.update(attempted=True, attempt_count=max(invoice["attempt_count"], 1))
    if outcome == "succeeded":
        invoice["amount_paid"] += intent["amount_received"]
        close_payment(world, invoice, "paid", intent["amount_received"])
        settle(world, invoice)
    elif outcome == "requires_action":
        emit(world, "invoice.payment_action_required", invoice)
        failed(world, invoice)
    elif outcome == "failed":
        failed(world, invoice)


payments.listeners.append(after_payment)


def failed(world: World, invoice: Thing) -> None:
    retried = invoice["auto_advance"] and invoice["attempt_count"] < ATTEMPTS
    if retried and invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = invoice["_collect_at"] = world.now() + RETRY
    emit(world, "invoice.payment_failed", invoice)
    follow(world, invoice, "failed")


def close_payment(world: World, invoice: Thing, status: str, amount: int | None = None) -> None:
    payment = default_payment(world, invoice)
    if payment is None or payment["status"] != "open":
        return
    payment.update(status=status, amount_paid=amount)
    payment["status_transitions"]["paid_at" if status == "paid" else "canceled_at"] = world.now()
    if status == "paid":
        emit(world, "invoice_payment.paid", payment)


def settle(world: World, invoice: Thing, *, by_attempt: bool = True) -> None:
    """Nothing remains to be paid. `by_attempt` False when that is no payment through Stripe."""
    invoice["status_transitions"]["paid_at"] = world.now()
    invoice.update(status="paid", attempted=True, amount_remaining=0, next_payment_attempt=None, _collect_at=None)
    emit(world, "invoice.updated", invoice, {"status": "open"})
    emit(world, "invoice.paid", invoice)
    if by_attempt:
        emit(world, "invoice.payment_succeeded", invoice)
    follow(world, invoice, "paid")


def follow(world: World, invoice: Thing, outcome: str) -> None:
    for follower in followers:
        follower(world, invoice, outcome)


def drop_intent(world: World, invoice: Thing, reason: str) -> None:
    """The invoice wants no payment any more."""
    intent = intent_of(world, invoice)
    if intent and intent["status"] in payments.PAYABLE:
        payments.cancel_intent(world, intent, reason)
    close_payment(world, invoice, "canceled")
