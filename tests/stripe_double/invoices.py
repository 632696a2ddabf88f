"""Invoices: draft → open → paid, void or uncollectible, and nothing else."""

from typing import Any

from tests.stripe_double import lists, money, shapes
from tests.stripe_double.customers import alive, merge_metadata, move_balance, own_method
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import add_line, drop_line, lines_of, pending_items, refresh, refuse_unplayed
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.settling import ask_for_payment, drop_intent, refuse_while_processing, settle
from tests.stripe_double.state import Thing, World, letters

DAY = 24 * 3600
DRAFT_REST = 3600  # seconds a draft waits before it advances by itself


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
