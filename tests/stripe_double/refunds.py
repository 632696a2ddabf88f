"""Money going back: refunds by us, disputes by the card's owner."""

from typing import Any

from tests.stripe_double import lists, money
from tests.stripe_double.customers import merge_metadata
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.methods import behaviour
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World, letters


@endpoint("POST", "/v1/refunds")
def create(call: Call) -> Thing:
    given = call.given
    charge = charge_of(call)
    amount = given.get("amount", charge["amount"] - charge["amount_refunded"])
    return refund(call.world, charge, amount, given.get("reason"), given.get("metadata") or {})


def charge_of(call: Call) -> Thing:
    world, given = call.world, call.given
    if "charge" in given and "payment_intent" in given:
        return by_intent(world, given["payment_intent"], given["charge"])
    if "payment_intent" in given:
        return by_intent(world, given["payment_intent"])
    if "charge" not in given:
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise refused(message, code="parameter_missing")
    return world.get(given["charge"], "charge", "charge")


def by_intent(world: World, identity: str, charge: str | None = None) -> Thing:
    intent = world.get(identity, "payment_intent", "payment_intent")
    latest = world.find(intent["latest_charge"])
    if latest is None or latest["status"] == "failed" or charge not in (None, latest["id"]):
        message = f"This PaymentIntent ({identity}) does not have a successful charge to refund."
        raise refused(message, code="payment_intent_unexpected_state", param="payment_intent")
    return latest


def refund(world: World, charge: Thing, amount: int, reason: str | None, metadata: dict[str, Any]) -> Thing:
    check(charge, amount)
    method = world.get(charge["payment_method"], "payment_method")
    slow = behaviour(method).refund == "pending" or method["type"] != "card"
    made = world.make(
        "refund",
        "re",
        amount=amount,
        balance_transaction=f"txn_{letters(24)}",
        charge=charge["id"],
        currency=charge["currency"],
        customer=charge["customer"],
        destination_details={"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number",
                                      "type": "refund"}, "type": "card"},
        metadata=metadata,
        payment_intent=charge["payment_intent"],
        payment_method=method["id"],
        reason=reason,
        status="pending" if slow else "succeeded",
    )  # fmt: skip
    charge["_refunds"].append(made["id"])
    with watching(world, "charge.refunded", charge):
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    emit(world, "refund.created", made)
    if behaviour(method).refund == "fails":
        settle_refund(world, made, ok=False)
    return made


def check(charge: Thing, amount: int) -> None:
    left = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded":
        raise refused(f"Charge {charge['id']} is {charge['status']}; it cannot be refunded.", param="charge")
    if charge["disputed"]:
        raise refused(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    if left == 0:
        raise refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if amount < 1:
        message = "This value must be greater than or equal to 1."
        raise refused(message, code="parameter_invalid_integer", param="amount")
    if amount > left:
        currency = charge["currency"]
        raise refused(
            f"Refund amount ({money.shown(amount, currency)}) is greater than unrefunded amount on charge "
            f"({money.shown(left, currency)})",
            code="amount_too_large",
            param="amount",
        )


def settle_refund(world: World, made: Thing, *, ok: bool) -> None:
    """A refund that was on its way arrives, or comes back to us."""
    charge = world.get(made["charge"], "charge")
    with watching(world, "refund.updated", made):
        made["status"] = "succeeded" if ok else "failed"
        made["failure_reason"] = None if ok else "expired_or_canceled_card"
    if not ok:
        charge["amount_refunded"] -= made["amount"]
        charge["refunded"] = False
        emit(world, "refund.failed", made)
    emit(world, "charge.refund.updated", made)


@endpoint("GET", "/v1/refunds/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "refund")


@endpoint("POST", "/v1/refunds/{}")
def update(call: Call) -> Thing:
    made = call.world.get(call.id, "refund")
    with watching(call.world, "refund.updated", made):
        merge_metadata(made, call.given)
    return made


@endpoint("GET", "/v1/refunds")
def list_refunds(call: Call) -> Thing:
    return lists.page(call, call.world.newest("refund"), "/v1/refunds", "charge", "payment_intent")


# -- disputes ----------------------------------------------------------------------------------------------------------


def open_dispute(world: World, charge: Thing, reason: str = "fraudulent", amount: int | None = None) -> Thing:
    """The card's owner wants the money back."""
    dispute = world.make(
        "dispute",
        "du",
        amount=amount if amount is not None else charge["amount"],
        charge=charge["id"],
        currency=charge["currency"],
        evidence_details={"due_by": world.now() + 7 * 24 * 3600, "has_evidence": False, "past_due": False,
                          "submission_count": 0, "submission_method": "not_submitted", "enhanced_eligibility": {}},
        is_charge_refundable=False,
        payment_intent=charge["payment_intent"],
        reason=reason,
        status="needs_response",
    )  # fmt: skip
    charge["disputed"] = True
    emit(world, "charge.dispute.created", dispute)
    emit(world, "charge.dispute.funds_withdrawn", dispute)
    return dispute


def close_dispute(world: World, dispute: Thing, *, won: bool) -> Thing:
    dispute["status"] = "won" if won else "lost"
    if won:
        emit(world, "charge.dispute.funds_reinstated", dispute)
    emit(world, "charge.dispute.closed", dispute)
    return dispute


@endpoint("GET", "/v1/disputes/{}")
def retrieve_dispute(call: Call) -> Thing:
    return call.world.get(call.id, "dispute")


@endpoint("POST", "/v1/disputes/{}/close")
def give_up(call: Call) -> Thing:
    dispute = call.world.get(call.id, "dispute")
    if dispute["status"] != "needs_response":
        raise refused(f"This dispute is already {dispute['status']}.")
    return close_dispute(call.world, dispute, won=False)


@endpoint("GET", "/v1/disputes")
def list_disputes(call: Call) -> Thing:
    return lists.page(call, call.world.newest("dispute"), "/v1/disputes", "charge", "payment_intent")
