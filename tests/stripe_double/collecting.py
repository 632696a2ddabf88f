"""Collecting an invoice: because we ask, or by itself when its hour has come."""

from tests.stripe_double import payments, shapes
from tests.stripe_double.customers import alive, own_method
from tests.stripe_double.errors import StripeError, declined, refused
from tests.stripe_double.events import emit
from tests.stripe_double.invoices import finalize
from tests.stripe_double.methods import usable
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.settling import drop_intent, failed, intent_of, refuse_while_processing, settle
from tests.stripe_double.state import Thing, World


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


def pay_outside(world: World, invoice: Thing) -> Thing:
    drop_intent(world, invoice, "abandoned")
    invoice["_paid_elsewhere"] = invoice["amount_paid"] = invoice["amount_remaining"]
    settle(world, invoice, by_attempt=False)
    return invoice


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
