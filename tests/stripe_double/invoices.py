"""Invoices: draft → open → paid, void or uncollectible, and nothing else."""

from collections.abc import Callable
from typing import Any

from tests.stripe_double import lists, money, payments, shapes
from tests.stripe_double.customers import alive, merge_metadata, move_balance, own_method
from tests.stripe_double.errors import StripeError, declined, refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import add_line, drop_line, lines_of, pending_items, refresh, refuse_unplayed
from tests.stripe_double.methods import usable
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World, letters

DAY = 24 * 3600
DRAFT_REST = 3600  # seconds a draft waits before it advances by itself
RETRY = 3 * DAY
ATTEMPTS = 4

# Called with (world, invoice, "paid" or "failed"): subscriptions listen here.
Follower = Callable[[World, Thing, str], None]
followers: list[Follower] = []

FREELY = ("description", "footer", "default_payment_method", "custom_fields", "statement_descriptor")
LATER = {"auto_advance", "default_payment_method", "expand", "metadata", "payment_settings"}


# -- drafts ------------------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/invoices")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    refuse_unplayed(given)
    if "customer" not in given:
        raise refused("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = alive(world, given["customer"], "customer")
    check_collection(customer, given.get("collection_method", "charge_automatically"), given)
    if identity := given.get("default_payment_method"):
        own_method(world, customer, identity)
    currency = money.check_currency(given.get("currency") or customer["currency"] or "usd")
    items = items_to_include(call, customer, currency)
    invoice = new_invoice(world, customer, currency, "manual", given)
    for item in items:
        add_line(world, invoice, item)
    refresh(world, invoice, quiet=True)
    emit(world, "invoice.created", invoice)
    return invoice


def items_to_include(call: Call, customer: Thing, currency: str) -> list[Thing]:
    if call.given.get("pending_invoice_items_behavior", "exclude") == "exclude":
        return []
    items = list(pending_items(call.world, customer["id"], currency))
    if not items:
        raise refused("Nothing to invoice for customer", code="invoice_no_customer_line_items")
    return items


def check_collection(customer: Thing, method: str, given: dict[str, Any]) -> None:
    """When and how: a bill that is sent needs an e-mail address and a due date, a charge has none."""
    terms = [name for name in ("days_until_due", "due_date") if given.get(name) is not None]
    if method == "charge_automatically":
        if terms:
            message = f"You can only set {terms[0]} when `collection_method` is `send_invoice`."
            raise refused(message, param=terms[0])
        return
    if len(terms) == 2:
        message = "You may only specify one of these parameters: days_until_due, due_date."
        raise refused(message, code="parameters_exclusive")
    if not terms:
        message = "If invoice collection method is 'send_invoice', you must specify 'due_date' or 'days_until_due'."
        raise refused(message, code="parameter_missing", param="days_until_due")
    if given.get("days_until_due", 0) < 0:
        raise refused("This value must be greater than or equal to 0.", code="parameter_invalid_integer")
    if not customer.get("email"):
        raise refused(
            "Missing email. In order to create invoices that are sent to the customer, the customer must have a valid "
            "email.",
            param="customer",
        )


def new_invoice(world: World, customer: Thing, currency: str, reason: str, given: dict[str, Any], **more: Any) -> Thing:
    now = world.now()
    advances = bool(given.get("auto_advance", False))
    values: dict[str, Any] = {
        "account_country": "US",
        "account_name": "Double",
        "auto_advance": advances,
        "automatic_tax": dict.fromkeys(("disabled_reason", "liability", "provider", "status")) | {"enabled": False},
        "automatically_finalizes_at": given.get("automatically_finalizes_at", now + DRAFT_REST) if advances else None,
        "billing_reason": reason,
        "collection_method": given.get("collection_method", "charge_automatically"),
        "currency": currency,
        "customer": customer["id"],
        "customer_tax_ids": [],
        "due_date": due(now, given),
        "issuer": {"account": None, "type": "self"},
        "metadata": given.get("metadata") or {},
        "next_payment_attempt": None,
        "number": given.get("number"),
        "payment_settings": shapes.nested(shapes.CLASSES["invoice"].PaymentSettings)
        | (given.get("payment_settings") or {}),
        "period_end": now,
        "period_start": now,
        "status": "draft",
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "_days": given.get("days_until_due"),
        "_lines": [],
        "_payments": [],
        "_paid_elsewhere": 0,
    }
    values.update({name: given[name] or None for name in FREELY if name in given}, **more)
    invoice = world.make("invoice", "in", **values)
    copy_customer(invoice, customer)
    return invoice


def due(now: int, given: dict[str, Any]) -> int | None:
    if given.get("days_until_due") is not None:
        return int(now + given["days_until_due"] * DAY)
    return given.get("due_date")


def copy_customer(invoice: Thing, customer: Thing) -> None:
    for name in ("address", "email", "name", "phone", "shipping", "tax_exempt"):
        invoice[f"customer_{name}"] = customer[name]


@endpoint("POST", "/v1/invoices/{}")
def update(call: Call) -> Thing:
    world, given = call.world, call.given
    refuse_unplayed(given)
    invoice = world.get(call.id, "invoice")
    if invoice["status"] != "draft" and (wrong := given.keys() - LATER):
        message = f"Finalized invoices can't be updated in this way: {', '.join(sorted(wrong))}."
        raise refused(message, code="invoice_not_editable")
    if invoice["status"] in {"paid", "void"} and given.keys() - {"metadata", "expand"}:
        raise refused(f"This invoice is {invoice['status']} and can't be changed.", code="invoice_not_editable")
    customer = alive(world, invoice["customer"], "customer")
    if {"collection_method", "days_until_due", "due_date"} & given.keys():
        check_collection(customer, given.get("collection_method", invoice["collection_method"]), given)
    if identity := given.get("default_payment_method"):
        own_method(world, customer, identity)
    with watching(world, "invoice.updated", invoice):
        apply_update(call, invoice)
    return invoice


def apply_update(call: Call, invoice: Thing) -> None:
    given, now = call.given, call.world.now()
    invoice.update(call.pick(*FREELY, "auto_advance", "collection_method", "number"))
    invoice["payment_settings"].update(given.get("payment_settings") or {})
    merge_metadata(invoice, given)
    if {"days_until_due", "due_date"} & given.keys():
        invoice["due_date"], invoice["_days"] = due(now, given), given.get("days_until_due")
    if invoice["collection_method"] == "charge_automatically":
        invoice["due_date"] = None
    if invoice["status"] == "draft":
        planned = given.get("automatically_finalizes_at", now + DRAFT_REST)
        invoice["automatically_finalizes_at"] = planned if invoice["auto_advance"] else None


@endpoint("DELETE", "/v1/invoices/{}")
def delete(call: Call) -> Thing:
    world = call.world
    invoice = world.get(call.id, "invoice")
    if invoice["status"] != "draft":
        message = f"You can only delete draft invoices. This invoice is {invoice['status']}; void it instead."
        raise refused(message, code="invoice_not_editable")
    if invoice["parent"]:
        raise refused("You can't delete invoices created by subscriptions.", code="invoice_not_editable")
    for line in lines_of(world, invoice):
        item = world.find(line.get("_item"))
        drop_line(world, invoice, line)
        if item:
            world.forget(item)
    emit(world, "invoice.deleted", invoice)
    return world.forget(invoice)


@endpoint("GET", "/v1/invoices/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "invoice")


@endpoint("GET", "/v1/invoices")
def list_invoices(call: Call) -> Thing:
    invoices = call.world.newest("invoice")
    if wanted := call.given.get("subscription"):
        invoices = (invoice for invoice in invoices if subscription_of(invoice) == wanted)
    return lists.page(
        call, invoices, "/v1/invoices", "customer", "status", "collection_method", spans=("created", "due_date")
    )


def subscription_of(invoice: Thing) -> str | None:
    parent = invoice["parent"]
    return parent["subscription_details"]["subscription"] if parent else None


# -- finalising --------------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/invoices/{}/finalize")
def finalize_invoice(call: Call) -> Thing:
    invoice = call.world.get(call.id, "invoice")
    if "auto_advance" in call.given:
        invoice["auto_advance"] = call.given["auto_advance"]
    return finalize(call.world, invoice)


def finalize(world: World, invoice: Thing) -> Thing:
    """Number it, apply the balance, ask for the rest; nothing to pay means paid."""
    if invoice["status"] != "draft":
        message = "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        raise refused(message, code="invoice_not_editable")
    if not invoice["_lines"]:
        raise refused(
            "This invoice has no line items, so it can't be finalized.", code="invoice_no_customer_line_items"
        )
    customer = alive(world, invoice["customer"], "customer")
    if invoice["total"] > money.greatest(invoice["currency"]):
        raise refused("The invoice's total is above the greatest amount allowed.", code="amount_too_large")
    refresh(world, invoice, quiet=True)
    copy_customer(invoice, customer)
    with watching(world, "customer.updated", customer, always=False):
        number(invoice, customer)
        open_it(world, invoice, apply_balance(world, invoice, customer))
    emit(world, "invoice.finalized", invoice)
    if invoice["amount_remaining"] == 0:
        settle(world, invoice)
    else:
        ask_for_payment(world, invoice)
    return invoice


def number(invoice: Thing, customer: Thing) -> None:
    customer["currency"] = customer["currency"] or invoice["currency"]
    if not invoice["number"]:
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
        customer["next_invoice_sequence"] += 1


def apply_balance(world: World, invoice: Thing, customer: Thing) -> int:
    """What remains to be paid. Too little to be charged goes on the balance, to be paid with the next invoice."""
    starting, currency = customer["balance"], invoice["currency"]
    owed = invoice["total"] + starting
    invoice["starting_balance"] = starting
    move_balance(world, customer, min(owed, 0) - starting, currency, "applied_to_invoice", invoice=invoice["id"])
    rest = max(owed, 0)
    if 0 < rest < money.least(currency):
        move_balance(world, customer, rest, currency, "invoice_too_small", invoice=invoice["id"])
        rest = 0
    invoice["ending_balance"] = customer["balance"]
    return rest


def open_it(world: World, invoice: Thing, due_now: int) -> None:
    now = world.now()
    token = f"{world.account}/{letters(40)}"
    world.tokens[token] = invoice["id"]
    invoice["status_transitions"]["finalized_at"] = now
    invoice.update(
        status="open",
        amount_due=due_now,
        amount_remaining=due_now,
        automatically_finalizes_at=None,
        effective_at=invoice["effective_at"] or now,
        hosted_invoice_url=f"{world.url}/i/{token}",
        invoice_pdf=f"{world.url}/i/{token}/pdf",
        _collect_at=now + DRAFT_REST if invoice["auto_advance"] else None,
    )
    if invoice["_days"] is not None:
        invoice["due_date"] = now + invoice["_days"] * DAY
    if invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = invoice["_collect_at"]


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


# -- paying ------------------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/invoices/{}/pay")
def pay(call: Call) -> Thing:
    world, given = call.world, call.given
    invoice = payable(world, world.get(call.id, "invoice"))
    if given.get("paid_out_of_band"):
        return pay_outside(world, invoice)
    method = method_for(world, invoice, given.get("payment_method"))
    error = collect(world, invoice, method, off_session=given.get("off_session", True))
    if error:
        raise error
    return invoice


def payable(world: World, invoice: Thing) -> Thing:
    status = invoice["status"]
    if status == "paid":
        raise refused("Invoice is already paid")
    if status == "draft":
        raise refused("This invoice is a draft: finalize it before it is paid.", code="invoice_not_editable")
    if status == "void":
        raise refused("This invoice can no longer be paid: it was voided.", code="invoice_not_editable")
    refuse_while_processing(world, invoice)
    return invoice


def refuse_while_processing(world: World, invoice: Thing) -> None:
    intent = intent_of(world, invoice)
    if intent and intent["status"] == "processing":
        message = "This invoice has a payment that is still processing."
        raise refused(message, code="payment_intent_unexpected_state", payment_intent=shapes.view(world, intent))


def method_for(world: World, invoice: Thing, identity: str | None) -> Thing:
    """The given method, else the invoice's, else the customer's default."""
    customer = alive(world, invoice["customer"], "customer")
    if identity:
        method = usable(world, identity)
        if method["customer"]:
            own_method(world, customer, method["id"])
        return method
    chosen = invoice["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    if not chosen:
        message = "There is no `default_payment_method` set on this Customer or Invoice."
        raise refused(message, code="resource_missing", param="payment_method")
    return world.get(chosen, "payment_method", "payment_method")


def collect(world: World, invoice: Thing, method: Thing, *, off_session: bool) -> StripeError | None:
    """Try to charge; the decline or the wish for the owner as an error to raise."""
    intent = intent_of(world, invoice)
    assert intent
    error = payments.attempt(world, intent, method, off_session=off_session)
    if error is None and intent["status"] == "requires_action":
        return declined(
            "This payment requires additional user action before it can be completed successfully. Payment can be "
            "completed using the PaymentIntent associated with the invoice.",
            code="invoice_payment_intent_requires_action",
            payment_intent=shapes.view(world, intent),
        )
    return error


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


def pay_outside(world: World, invoice: Thing) -> Thing:
    drop_intent(world, invoice, "abandoned")
    invoice["_paid_elsewhere"] = invoice["amount_paid"] = invoice["amount_remaining"]
    settle(world, invoice, by_attempt=False)
    return invoice


def drop_intent(world: World, invoice: Thing, reason: str) -> None:
    """The invoice wants no payment any more."""
    intent = intent_of(world, invoice)
    if intent and intent["status"] in payments.PAYABLE:
        payments.cancel_intent(world, intent, reason)
    close_payment(world, invoice, "canceled")


# -- the other ends ----------------------------------------------------------------------------------------------------


@endpoint("POST", "/v1/invoices/{}/send")
def send(call: Call) -> Thing:
    world = call.world
    invoice = world.get(call.id, "invoice")
    if invoice["collection_method"] != "send_invoice":
        raise refused("You can only send invoices whose collection method is `send_invoice`.")
    if invoice["status"] == "draft":
        finalize(world, invoice)
    if invoice["status"] in {"void", "uncollectible"}:
        raise refused(f"This invoice is {invoice['status']} and can't be sent.", code="invoice_not_editable")
    emit(world, "invoice.sent", invoice)
    return invoice


@endpoint("POST", "/v1/invoices/{}/void")
def void(call: Call) -> Thing:
    world = call.world
    invoice = world.get(call.id, "invoice")
    if invoice["status"] not in {"open", "uncollectible"}:
        message = f"You can only void an open or uncollectible invoice. This invoice is {invoice['status']}."
        raise refused(message, code="status_transition_invalid")
    refuse_while_processing(world, invoice)
    if invoice["pre_payment_credit_notes_amount"]:
        raise refused("You can't void an invoice with credit notes.", code="status_transition_invalid")
    return void_it(world, invoice)


def void_it(world: World, invoice: Thing) -> Thing:
    drop_intent(world, invoice, "void_invoice")
    give_balance_back(world, invoice)
    invoice["status_transitions"]["voided_at"] = world.now()
    leave(world, invoice, "void", "invoice.voided")
    return invoice


def leave(world: World, invoice: Thing, status: str, event: str) -> None:
    before = invoice["status"]
    invoice.update(status=status, next_payment_attempt=None, _collect_at=None)
    emit(world, event, invoice)
    emit(world, "invoice.updated", invoice, {"status": before})


def give_balance_back(world: World, invoice: Thing) -> None:
    customer = world.things[invoice["customer"]]
    applied = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    if applied and not customer.get("deleted"):
        with watching(world, "customer.updated", customer):
            kind = "unapplied_from_invoice"
            move_balance(world, customer, applied, invoice["currency"], kind, invoice=invoice["id"])


@endpoint("POST", "/v1/invoices/{}/mark_uncollectible")
def mark_uncollectible(call: Call) -> Thing:
    invoice = call.world.get(call.id, "invoice")
    if invoice["status"] != "open":
        message = f"You can only mark an open invoice uncollectible. This invoice is {invoice['status']}."
        raise refused(message, code="status_transition_invalid")
    return give_up(call.world, invoice)


def give_up(world: World, invoice: Thing) -> Thing:
    invoice["status_transitions"]["marked_uncollectible_at"] = world.now()
    invoice["status_details"] = {"uncollectible": {"reason": "user_forgiven"}}
    leave(world, invoice, "uncollectible", "invoice.marked_uncollectible")
    return invoice


# -- what Stripe does by itself ----------------------------------------------------------------------------------------


def advance(world: World) -> None:
    """Drafts and open invoices with `auto_advance` whose hour has come."""
    for invoice in world.all("invoice"):
        if finalizes_at(invoice) and finalizes_at(invoice) <= world.now():
            finalize(world, invoice)
            invoice["_collect_at"] = world.now() if invoice["status"] == "open" else None
        if collects_at(invoice) and collects_at(invoice) <= world.now():
            collect_by_itself(world, invoice)


def finalizes_at(invoice: Thing) -> int:
    """When a draft becomes an invoice by itself; 0 for never."""
    ready = invoice["status"] == "draft" and invoice["_lines"]
    return invoice["automatically_finalizes_at"] or 0 if ready else 0


def collects_at(invoice: Thing) -> int:
    return invoice.get("_collect_at") or 0 if invoice["status"] == "open" else 0


def due_instants(world: World) -> list[int]:
    """When drafts and open invoices advance by themselves."""
    return [instant for each in world.all("invoice") for instant in (finalizes_at(each), collects_at(each)) if instant]


def collect_by_itself(world: World, invoice: Thing) -> None:
    invoice["_collect_at"] = None
    if invoice["collection_method"] == "send_invoice":
        emit(world, "invoice.sent", invoice)
        return
    intent = intent_of(world, invoice)
    if intent and intent["status"] == "processing":
        return
    try:
        method = method_for(world, invoice, None)
    except StripeError:
        invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
        failed(world, invoice)
        return
    again = invoice["attempt_count"]
    collect(world, invoice, method, off_session=True)
    invoice["attempt_count"] = again + 1
