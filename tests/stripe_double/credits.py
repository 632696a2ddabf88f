"""Credit notes: less to pay on an open invoice, money or credit back on a paid one. The sums must add up."""

from decimal import Decimal
from typing import Any

from tests.stripe_double import catalog, lists, money, settling, shapes
from tests.stripe_double.customers import merge_metadata, move_balance
from tests.stripe_double.errors import refused
from tests.stripe_double.events import emit, watching
from tests.stripe_double.lines import refuse_unplayed
from tests.stripe_double.refunds import refund
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World, letters


@endpoint("POST", "/v1/credit_notes")
def create(call: Call) -> Thing:
    world, given = call.world, call.given
    refuse_unplayed(given)
    invoice = world.get(given["invoice"], "invoice", "invoice")
    if invoice["status"] not in {"open", "paid", "uncollectible"}:
        raise refused(f"You can't create a credit note for an invoice that is {invoice['status']}.", param="invoice")
    credited = credited_lines(world, invoice, given)
    total = total_of(given, credited)
    before = min(total, invoice["amount_remaining"])
    after = total - before
    check_room(world, invoice, total)
    check_sum(invoice, given, after)
    linked = linked_refunds(world, invoice, given)
    if given.get("refund_amount"):
        linked.append(refund_part(world, invoice, given["refund_amount"], given.get("metadata") or {}))
    note = new_note(world, invoice, given, credited, total, before, after, linked)
    reduce(world, invoice, before, after)
    credit_balance(world, invoice, note, given.get("credit_amount", 0))
    emit(world, "credit_note.created", note)
    return note


# -- what is credited --------------------------------------------------------------------------------------------------


def credited_lines(world: World, invoice: Thing, given: dict[str, Any]) -> list[Thing]:
    if "lines" in given:
        return [credited_line(world, invoice, line) for line in given["lines"]]
    if "amount" not in given:
        message = "One of `amount`, `lines`, or `shipping_cost` must be provided."
        raise refused(message, code="parameter_missing", param="amount")
    return [note_line(world, given["amount"], "custom_line_item", {"quantity": 1, "unit_amount": given["amount"]})]


def credited_line(world: World, invoice: Thing, given: dict[str, Any]) -> Thing:
    refuse_unplayed(given)
    if given["type"] == "custom_line_item":
        return custom_line(world, given)
    line = world.get(given.get("invoice_line_item", ""), "line_item", "lines[invoice_line_item]")
    if line["invoice"] != invoice["id"]:
        raise refused("The line item does not belong to this invoice.", param="lines[invoice_line_item]")
    amount = given.get("amount")
    if amount is None:
        units = given.get("quantity", line["quantity"])
        amount = catalog.whole(Decimal(line["amount"]) * units / (line["quantity"] or 1))
    already = sum(each["amount"] for each in note_lines(world, invoice) if each["invoice_line_item"] == line["id"])
    if abs(amount + already) > abs(line["amount"]):
        message = f"The line item has only {money.shown(line['amount'] - already, line['currency'])} left to credit."
        raise refused(message, param="lines[amount]")
    return note_line(world, amount, "invoice_line_item", {"description": line["description"], **given})


def custom_line(world: World, given: dict[str, Any]) -> Thing:
    unit = given.get("unit_amount", given.get("unit_amount_decimal"))
    if unit is None or "quantity" not in given or not given.get("description"):
        message = "A custom_line_item needs `description`, `quantity` and `unit_amount`."
        raise refused(message, code="parameter_missing", param="lines")
    return note_line(world, catalog.whole(Decimal(unit) * given["quantity"]), "custom_line_item", given)


def note_line(world: World, amount: int, kind: str, given: dict[str, Any]) -> Thing:
    """Not stored before the whole note is known to be right."""
    unit = given.get("unit_amount", given.get("unit_amount_decimal"))
    return shapes.make(
        "credit_note_line_item",
        id=f"cnli_{letters(24)}",
        amount=amount,
        description=given.get("description"),
        invoice_line_item=given.get("invoice_line_item"),
        livemode=world.livemode,
        metadata=given.get("metadata") or {},
        quantity=given.get("quantity"),
        taxes=[],
        type=kind,
        unit_amount=int(unit) if unit is not None else None,
        unit_amount_decimal=None if unit is None else catalog.plain(Decimal(unit)),
    )


def note_lines(world: World, invoice: Thing) -> list[Thing]:
    notes = world.all("credit_note", invoice=invoice["id"], status="issued")
    return [world.things[identity] for note in notes for identity in note["_lines"]]


def total_of(given: dict[str, Any], credited: list[Thing]) -> int:
    total = sum(line["amount"] for line in credited)
    if "lines" in given and given.get("amount", total) != total:
        raise refused("The amount must equal the sum of the lines.", param="amount")
    if total < 1:
        raise refused("The credit note's amount must be greater than zero.", param="amount")
    return total


def check_room(world: World, invoice: Thing, total: int) -> None:
    issued = sum(note["total"] for note in world.all("credit_note", invoice=invoice["id"], status="issued"))
    if issued + total > invoice["total"]:
        left = money.shown(invoice["total"] - issued, invoice["currency"])
        message = f"The sum of credit notes must not exceed the invoice's total; at most {left} can be credited."
        raise refused(message, code="amount_too_large", param="amount")


def check_sum(invoice: Thing, given: dict[str, Any], after: int) -> None:
    linked = sum(each.get("amount_refunded", 0) for each in given.get("refunds") or [])
    given_back = sum(given.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount")) + linked
    if given_back != after:
        currency = invoice["currency"]
        raise refused(
            f"The sum of refunds, credit amount and out of band amount ({money.shown(given_back, currency)}) must "
            f"equal the post payment amount ({money.shown(after, currency)}).",
            param="amount",
        )


# -- what follows ------------------------------------------------------------------------------------------------------


def linked_refunds(world: World, invoice: Thing, given: dict[str, Any]) -> list[Thing]:
    linked = []
    for each in given.get("refunds") or []:
        made = world.get(each.get("refund", ""), "refund", "refunds[refund]")
        if each.get("amount_refunded", made["amount"]) > made["amount"]:
            raise refused("More is linked than was refunded.", param="refunds[amount_refunded]")
        linked.append(refund_entry(made, each.get("amount_refunded", made["amount"])))
    return linked


def refund_part(world: World, invoice: Thing, amount: int, metadata: dict[str, Any]) -> Thing:
    intent = settling.intent_of(world, invoice)
    charge = world.find(intent["latest_charge"]) if intent else None
    if charge is None:
        raise refused("This invoice was not paid with a charge that could be refunded.", param="refund_amount")
    return refund_entry(refund(world, charge, amount, None, metadata), amount)


def refund_entry(made: Thing, amount: int) -> Thing:
    return {"amount_refunded": amount, "payment_record_refund": None, "refund": made["id"], "type": "refund"}


def new_note(
    world: World, invoice: Thing, given: dict[str, Any], credited: list[Thing], total: int, before: int, after: int,
    linked: list[Thing],
) -> Thing:  # fmt: skip
    count = len(world.all("credit_note", invoice=invoice["id"])) + 1
    for line in credited:
        world.keep(line)
    return world.make(
        "credit_note",
        "cn",
        amount=total,
        currency=invoice["currency"],
        customer=invoice["customer"],
        effective_at=given.get("effective_at", world.now()),
        invoice=invoice["id"],
        memo=given.get("memo"),
        metadata=given.get("metadata") or {},
        number=f"{invoice['number']}-CN-{count:02d}",
        out_of_band_amount=given.get("out_of_band_amount"),
        pdf=f"{invoice['invoice_pdf']}/credit-{count}",
        post_payment_amount=after,
        pre_payment_amount=before,
        reason=given.get("reason"),
        refunds=linked,
        status="issued",
        subtotal=total,
        subtotal_excluding_tax=total,
        total=total,
        total_excluding_tax=total,
        total_taxes=[],
        type="mixed" if before and after else "pre_payment" if before else "post_payment",
        _lines=[line["id"] for line in credited],
    )


def reduce(world: World, invoice: Thing, before: int, after: int) -> None:
    """Less to pay; when nothing is left the invoice is paid."""
    with watching(world, "invoice.updated", invoice):
        invoice["pre_payment_credit_notes_amount"] += before
        invoice["post_payment_credit_notes_amount"] += after
        invoice["amount_due"] -= before
        invoice["amount_remaining"] -= before
    if not before:
        return
    intent, payment = settling.intent_of(world, invoice), settling.default_payment(world, invoice)
    if invoice["amount_remaining"] == 0:
        settling.drop_intent(world, invoice, "abandoned")
        settling.settle(world, invoice, by_attempt=False)
    elif intent and payment:
        intent["amount"] = payment["amount_requested"] = invoice["amount_remaining"]


def credit_balance(world: World, invoice: Thing, note: Thing, amount: int) -> None:
    if not amount:
        return
    customer = world.things[invoice["customer"]]
    with watching(world, "customer.updated", customer):
        moved = move_balance(
            world, customer, -amount, invoice["currency"], "credit_note", credit_note=note["id"], invoice=invoice["id"]
        )
    note["customer_balance_transaction"] = moved and moved["id"]


@endpoint("POST", "/v1/credit_notes/{}/void")
def void(call: Call) -> Thing:
    world = call.world
    note = world.get(call.id, "credit_note")
    invoice = world.get(note["invoice"], "invoice")
    if note["status"] == "void":
        raise refused("This credit note is already void.", code="status_transition_invalid")
    if note["post_payment_amount"] or invoice["status"] != "open":
        message = "You can only void a credit note that was issued before payment, while its invoice is open."
        raise refused(message, code="status_transition_invalid")
    note.update(status="void", voided_at=world.now())
    give_back(world, invoice, note["pre_payment_amount"])
    emit(world, "credit_note.voided", note)
    return note


def give_back(world: World, invoice: Thing, amount: int) -> None:
    with watching(world, "invoice.updated", invoice):
        invoice["pre_payment_credit_notes_amount"] -= amount
        invoice["amount_due"] += amount
        invoice["amount_remaining"] += amount
    intent, payment = settling.intent_of(world, invoice), settling.default_payment(world, invoice)
    if intent and payment:
        intent["amount"] = payment["amount_requested"] = invoice["amount_remaining"]


@endpoint("POST", "/v1/credit_notes/{}")
def update(call: Call) -> Thing:
    note = call.world.get(call.id, "credit_note")
    with watching(call.world, "credit_note.updated", note):
        note.update(call.pick("memo"))
        merge_metadata(note, call.given)
    return note


@endpoint("GET", "/v1/credit_notes/{}")
def retrieve(call: Call) -> Thing:
    return call.world.get(call.id, "credit_note")


@endpoint("GET", "/v1/credit_notes")
def list_notes(call: Call) -> Thing:
    return lists.page(call, call.world.newest("credit_note"), "/v1/credit_notes", "customer", "invoice")


@shapes.computed("credit_note", "lines")
def first_lines(world: World, note: Thing) -> Thing:
    lines = [world.things[identity] for identity in note["_lines"]]
    return lists.whole(lines, f"/v1/credit_notes/{note['id']}/lines")


@endpoint("GET", "/v1/credit_notes/{}/lines")
def list_lines(call: Call) -> Thing:
    note = call.world.get(call.id, "credit_note")
    lines = [call.world.things[identity] for identity in note["_lines"]]
    return lists.page(call, lines, f"/v1/credit_notes/{call.id}/lines", spans=())
