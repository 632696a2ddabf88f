"""Books here and in the double that agree, and one way to spoil them for each difference there is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import F

from billing_admin.flows import stripe_collect, stripe_compare
from billing_admin.flows.corrections import mark_uncollectible, void_invoice
from billing_admin.flows.gate import collect as pay_by_hand
from customers.models import Customer, Subscription
from invoicing.models import Invoice, Payment
from payments.gateway import REFERENCE, gateway
from payments.models import Difference, StripeCustomer, StripeInvoice, StripeRun, StripeSubscription
from tests import builders as a
from tests.instants import MARCH_1, MARCH_16, day
from tests.payments import mirror_world as mirror
from tests.payments.pages_world import DECLINES, GOOD, collect, owing, row_of, save_card, use

if TYPE_CHECKING:
    from tests.stripe_double import Double

__all__ = ["DECLINES", "GOOD", "collect", "compare", "found", "open_invoice", "owing", "row_of", "save_card", "use"]

LATER = day("2026-03-02")
Found = tuple[str, str, str]


def compare(now: datetime = LATER) -> StripeRun:
    """A whole comparison."""
    return stripe_compare.carry_on(stripe_compare.begin(actor=a.STAFF, now=now), now, pages=1000)


def found() -> list[Found]:
    """What is open: subject, kind and repair."""
    rows = Difference.objects.filter(settled_at=None)
    return sorted(rows.values_list("subject", "kind", "repair"))


def paid_invoice(double: "Double", name: str = "Acme Robotics") -> Invoice:
    """One that Stripe took in, and that both books know to be paid."""
    invoice = owing(name, card=GOOD, double=double)
    collect(invoice)
    invoice.refresh_from_db()
    assert invoice.state == "paid"
    return invoice


def open_invoice(double: "Double", name: str = "Acme Robotics") -> Invoice:
    """One that waits on Stripe's page, without a card."""
    invoice = owing(name)
    collect(invoice)
    invoice.refresh_from_db()
    return invoice


def sent(invoice: Invoice) -> str:
    return row_of(invoice).stripe_id or ""


def customer_in_step(double: "Double") -> StripeCustomer:
    invoice = open_invoice(double)
    return StripeCustomer.objects.select_related("customer").get(customer=invoice.customer)


def intent_of(invoice: Invoice) -> str:
    return row_of(invoice).payment_intent


def charge_of(double: "Double", invoice: Invoice) -> str:
    return str(double.object(intent_of(invoice))["latest_charge"])


def forget_payment(invoice: Invoice) -> None:
    """As if a backup from before the payment had been put back."""
    Payment.objects.filter(invoice=invoice).delete()
    Invoice.objects.filter(pk=invoice.pk).update(paid=0, state="open", paid_at=None)
    StripeInvoice.objects.filter(invoice=invoice).update(status="open", state="needs_method", collected=0)


def still(invoice: Invoice) -> None:
    """No worker gets to it."""
    StripeInvoice.objects.filter(invoice=invoice).update(next_attempt_at=None)


# Each spoils one thing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plant:
    """What is done to books that agree, and what has to be found then, no more and no less."""

    name: str
    do: "Callable[[Double], object]"
    expected: tuple[Found, ...]

    def __str__(self) -> str:
        return self.name


def _customer_renamed_there(double: "Double") -> None:
    double.edit(customer_in_step(double).stripe_id, name="Somebody else")


def _customer_mailed_elsewhere(double: "Double") -> None:
    double.edit(customer_in_step(double).stripe_id, email="other@acme.example")


def _customer_without_our_id(double: "Double") -> None:
    double.edit(customer_in_step(double).stripe_id, metadata={})


def _customer_with_the_id_of_another(double: "Double") -> None:
    row, other = customer_in_step(double), a.customer("Globex")
    double.edit(row.stripe_id, metadata={REFERENCE: other.public_id, "customer_id": other.customer_id})


def _customer_deleted_there(double: "Double") -> None:
    invoice = paid_invoice(double)
    double.edit(StripeCustomer.objects.get(customer=invoice.customer).stripe_id, deleted=True)


def _customer_with_our_id_unlinked(double: "Double") -> None:
    who = a.customer("Globex")
    gateway().create_customer(name=who.name, email=who.email, metadata={REFERENCE: who.public_id}, key="by hand")


def _customer_of_nobody(double: "Double") -> None:
    gateway().create_customer(name="Gone", email="", metadata={REFERENCE: "cus_unknown"}, key="by hand")


def _two_customers_with_our_id(double: "Double") -> None:
    row = customer_in_step(double)
    assert row.customer is not None
    metadata = {REFERENCE: row.customer.public_id}
    gateway().create_customer(name="Twin", email="", metadata=metadata, key="by hand")


def _invoice_of_no_document(double: "Double") -> None:
    owner = customer_in_step(double)
    gateway().v1.invoices.create({"customer": owner.stripe_id, "metadata": {REFERENCE: "in_unknown"}})


def _second_invoice_for_a_document(double: "Double") -> None:
    invoice = open_invoice(double)
    owner = StripeCustomer.objects.get(customer=invoice.customer)
    gateway().v1.invoices.create({"customer": owner.stripe_id, "metadata": {REFERENCE: invoice.public_id}})


def _invoice_unknown_here(double: "Double") -> None:
    StripeInvoice.objects.filter(invoice=open_invoice(double)).delete()


def _invoice_lost_there(double: "Double") -> None:
    double.edit(sent(open_invoice(double)), deleted=True)


def _paid_invoice_lost_there(double: "Double") -> None:
    double.edit(sent(paid_invoice(double)), deleted=True)


def _invoice_from_before_the_connection(double: "Double") -> None:
    invoice = owing()
    Invoice.objects.filter(pk=invoice.pk).update(issued_at=day("2026-02-20"))


def _other_total_there(double: "Double") -> None:
    double.edit(sent(open_invoice(double)), total=6000, amount_due=6000, amount_remaining=6000)


def _asks_for_less_there(double: "Double") -> None:
    double.edit(sent(open_invoice(double)), amount_due=4000, amount_remaining=4000)


def _partly_paid_here(double: "Double") -> None:
    invoice = open_invoice(double)
    pay_by_hand(invoice, amount=2000, reference="bank", actor=a.STAFF, now=MARCH_1)
    still(invoice)


def _paid_by_hand_here(double: "Double") -> None:
    invoice = open_invoice(double)
    pay_by_hand(invoice, amount=5000, reference="bank", actor=a.STAFF, now=MARCH_1)
    still(invoice)


def _void_here(double: "Double") -> None:
    invoice = open_invoice(double)
    void_invoice(invoice, reason="a mistake", actor=a.STAFF, now=MARCH_1)
    still(invoice)


def _given_up_here(double: "Double") -> None:
    who = a.on(a.pro())
    with_terms = who.invoices.get()
    Invoice.objects.filter(pk=with_terms.pk).update(state="open", paid=0, paid_at=None)
    Payment.objects.all().delete()
    collect(with_terms)
    with_terms.refresh_from_db()
    mark_uncollectible(with_terms, reason="bankrupt", actor=a.STAFF, now=MARCH_1)
    still(with_terms)


def _void_there(double: "Double") -> None:
    double.edit(sent(open_invoice(double)), status="void", amount_remaining=0)


def _given_up_there(double: "Double") -> None:
    double.edit(sent(open_invoice(double)), status="uncollectible")


def _paid_outside_there(double: "Double") -> None:
    gateway().settle_outside(sent(open_invoice(double)), key="by hand")


def _still_a_draft_there(double: "Double") -> None:
    invoice = owing()
    double.fault("POST", "/v1/invoices/*/finalize", "error", status=500)
    collect(invoice)
    still(invoice)


def _state_that_was_not_told(double: "Double") -> None:
    StripeInvoice.objects.filter(invoice=paid_invoice(double)).update(status="open", state="sent")


def _other_owner_there(double: "Double") -> None:
    other = customer_in_step(double)
    double.edit(sent(open_invoice(double, "Globex")), customer=other.stripe_id)


def _payment_not_recorded(double: "Double") -> None:
    forget_payment(paid_invoice(double))


def _payment_not_there(double: "Double") -> None:
    invoice = open_invoice(double)
    row = row_of(invoice)
    pay_by_hand(invoice, amount=5000, reference="pi_never", provider="stripe", actor=a.STAFF, now=MARCH_1)
    double.edit(row.stripe_id or "", status="paid", amount_remaining=0)
    StripeInvoice.objects.filter(pk=row.pk).update(status="paid", state="paid_outside", next_attempt_at=None)


def _payment_of_another_amount(double: "Double") -> None:
    Payment.objects.filter(invoice=paid_invoice(double)).update(amount=4000)


def _payment_of_another_invoice(double: "Double") -> None:
    other = paid_invoice(double, "Globex")
    Payment.objects.filter(invoice=paid_invoice(double)).update(invoice=other)


def _refund_without_a_credit_note(double: "Double") -> None:
    invoice = paid_invoice(double)
    gateway().v1.refunds.create({"payment_intent": intent_of(invoice), "amount": 1500})
    stripe_collect.refresh(row_of(invoice), MARCH_1)


def _dispute_not_told(double: "Double") -> None:
    double.dispute(charge_of(double, paid_invoice(double)))


def _subscription(double: "Double") -> tuple[Customer, str]:
    return mirror.subscriber(a.allowance(100))


def _subscription_unknown_here(double: "Double") -> None:
    who, _ = _subscription(double)
    owner = StripeCustomer.objects.get(customer=who)
    mirror.subscribe(owner.stripe_id, mirror.price(mirror.product(name="Other")))


def _subscription_lost_there(double: "Double") -> None:
    _, subscription = _subscription(double)
    double.edit(subscription, deleted=True)


def _subscription_of_another_status(double: "Double") -> None:
    _, subscription = _subscription(double)
    double.edit(subscription, status="past_due")


def _subscription_of_another_period(double: "Double") -> None:
    _subscription(double)
    StripeSubscription.objects.update(period_ends_at=MARCH_16)


def _contract_of_another_state(double: "Double") -> None:
    _subscription(double)
    Subscription.objects.update(state="past_due")


def _subscription_of_another_quantity(double: "Double") -> None:
    _, subscription = _subscription(double)
    item = {"id": StripeSubscription.objects.get().item_id, "quantity": 3}
    gateway().v1.subscriptions.update(subscription, {"items": [item], "proration_behavior": "none"})


def _contract_of_another_quantity(double: "Double") -> None:
    _subscription(double)
    Subscription.objects.update(quantity=F("quantity") + 1)


def _subscription_of_another_owner(double: "Double") -> None:
    _, subscription = _subscription(double)
    other = mirror.stripe_customer(key="")
    double.edit(subscription, customer=other)


PLANTS = [
    Plant("customer renamed there", _customer_renamed_there, (("customer", "status", "tell"),)),
    Plant("customer mailed elsewhere", _customer_mailed_elsewhere, (("customer", "status", "tell"),)),
    Plant("customer without our id", _customer_without_our_id, (("customer", "owner", "tell"),)),
    Plant("customer with another's id", _customer_with_the_id_of_another, (("customer", "owner", ""),)),
    Plant("customer deleted there", _customer_deleted_there, (("customer", "missing_there", "unlink"),)),
    Plant("customer not linked", _customer_with_our_id_unlinked, (("customer", "missing_here", ""),)),
    Plant("customer of nobody", _customer_of_nobody, (("customer", "missing_here", ""),)),
    Plant("two customers with our id", _two_customers_with_our_id, (("customer", "owner", ""),)),
    Plant("invoice of no document", _invoice_of_no_document, (("invoice", "missing_here", ""),)),
    Plant("second invoice", _second_invoice_for_a_document, (("invoice", "missing_here", ""),)),
    Plant("invoice unknown here", _invoice_unknown_here, (("invoice", "missing_here", "adopt"),)),
    Plant("invoice lost there", _invoice_lost_there, (("invoice", "missing_there", "anew"),)),
    Plant("paid invoice lost there", _paid_invoice_lost_there, (("invoice", "missing_there", ""),)),
    Plant("invoice never sent", _invoice_from_before_the_connection, (("invoice", "missing_there", "start"),)),
    Plant("other total there", _other_total_there, (("invoice", "amount", ""),)),
    Plant("asks for less there", _asks_for_less_there, (("invoice", "amount", ""),)),
    Plant("partly paid here", _partly_paid_here, (("invoice", "amount", "bring_on"),)),
    Plant("paid by hand here", _paid_by_hand_here, (("invoice", "status", "bring_on"),)),
    Plant("void here", _void_here, (("invoice", "status", "bring_on"),)),
    Plant("given up here", _given_up_here, (("invoice", "status", "bring_on"),)),
    Plant("void there", _void_there, (("invoice", "status", ""),)),
    Plant("given up there", _given_up_there, (("invoice", "status", ""),)),
    Plant("paid outside there", _paid_outside_there, (("invoice", "status", ""),)),
    Plant("still a draft there", _still_a_draft_there, (("invoice", "status", "bring_on"),)),
    Plant("state not told", _state_that_was_not_told, (("invoice", "status", "look"),)),
    Plant("other owner there", _other_owner_there, (("invoice", "owner", ""),)),
    Plant("payment not recorded", _payment_not_recorded, (("payment", "missing_here", "record"),)),
    Plant("payment not there", _payment_not_there, (("payment", "missing_there", ""),)),
    Plant("payment of another amount", _payment_of_another_amount, (("payment", "amount", ""),)),
    Plant(
        "payment of another invoice",
        _payment_of_another_invoice,
        (("payment", "owner", ""), ("payment", "missing_there", "")),
    ),
    Plant("refund without a note", _refund_without_a_credit_note, (("payment", "amount", ""),)),
    Plant("dispute not told", _dispute_not_told, (("payment", "status", "look"),)),
    Plant("subscription unknown here", _subscription_unknown_here, (("subscription", "missing_here", "follow"),)),
    Plant("subscription lost there", _subscription_lost_there, (("subscription", "missing_there", "follow"),)),
    Plant("subscription's status", _subscription_of_another_status, (("subscription", "status", "follow"),)),
    Plant("subscription's period", _subscription_of_another_period, (("subscription", "status", "follow"),)),
    Plant("contract's state", _contract_of_another_state, (("subscription", "status", "follow"),)),
    Plant("subscription's quantity", _subscription_of_another_quantity, (("subscription", "amount", "follow"),)),
    Plant("contract's quantity", _contract_of_another_quantity, (("subscription", "amount", "follow"),)),
    Plant("subscription's owner", _subscription_of_another_owner, (("subscription", "owner", ""),)),
]
REPAIRABLE = [plant for plant in PLANTS if plant.expected[0][2]]
