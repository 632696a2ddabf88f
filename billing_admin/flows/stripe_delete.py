"""Delete a customer in Stripe as well.

Stripe comes first and outside of any transaction: what it refuses is not done here either. The link stays, marked as
deleted, so whoever is reopened and owes something again gets a new customer there.
"""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.customers import Blocker, DeletionBlocked, close_customer, ready_to_close
from billing_admin.flows.stripe_account import failing, reached
from billing_admin.flows.stripe_customers import write_customer
from catalog.money import format_minor
from customers.journal import Actor, record
from customers.models import Customer
from payments.facts import CustomerFacts
from payments.gateway import Gateway, Missing, NotAllowed, StripeTrouble, Unreachable, enabled, gateway
from payments.models import StripeCustomer
from payments.steps import MONEY_MOVES

OVER = ("canceled", "incomplete_expired")


class StripeKeepsThem(ValidationError):
    """Stripe did not delete the customer, so nothing changed here."""

    def __init__(self, trouble: StripeTrouble):
        code = "stripe_unreachable" if isinstance(trouble, Unreachable) else "stripe_refused"
        super().__init__(f"Stripe did not delete the customer: {trouble.sentence} Nothing was changed here.", code=code)


class NotInStripe(ValidationError):
    def __init__(self) -> None:
        super().__init__("This customer is not in Stripe, so nothing can be deleted there.", code="not_in_stripe")


def in_stripe(customer: Customer) -> StripeCustomer | None:
    """The customer there who would be deleted; None without keys."""
    linked = StripeCustomer.objects.linked().filter(customer=customer) if enabled() else None
    found: StripeCustomer | None = linked.first() if linked is not None else None
    return found


def delete_everywhere(customer: Customer, *, confirm_name: str, reason: str, actor: Actor, now: datetime) -> Customer:
    """Delete a customer in Stripe, then close them here. Never called inside a transaction.

    Raises what `close_customer` raises, `DeletionBlocked` also with what Stripe still has to settle, `NotInStripe`,
    and `StripeKeepsThem`.
    """
    if in_stripe(customer) is None:
        raise NotInStripe
    ready_to_close(customer, confirm_name=confirm_name, reason=reason, now=now)
    # Before anything is gone there: the same guard in `close_customer` would come too late.
    asked = {"who": customer, "confirm_name": confirm_name, "in_stripe": True}
    guard_as("customer.closed", actor=actor, now=now, reason=reason, **asked)
    delete_there(customer, confirm_name=confirm_name, reason=reason, actor=actor, now=now)
    return close_customer(customer, confirm_name=confirm_name, reason=reason, actor=actor, now=now)


def delete_there(customer: Customer, *, confirm_name: str, reason: str, actor: Actor, now: datetime) -> None:
    """The half of it that is Stripe's. Nothing happens where it was done before."""
    row = in_stripe(customer)
    if row is None:
        return
    ready_to_close(customer, confirm_name=confirm_name, reason=reason, now=now)
    try:
        door = gateway()
        if blockers := blockers_there(row, door):
            raise DeletionBlocked(blockers)
        _delete_there(row, door)
        reached(now)
    except StripeTrouble as trouble:
        if isinstance(trouble, Unreachable | NotAllowed):
            failing(trouble, now)
        raise StripeKeepsThem(trouble) from trouble
    _write_deleted(row, actor=actor, now=now)


def blockers_there(row: StripeCustomer, door: Gateway) -> list[Blocker]:
    """What Stripe would cut off: subscriptions that run, invoices that are open, money that moves."""
    running = [found for found in door.subscriptions(customer=row.stripe_id).rows if found.status not in OVER]
    found = [
        Blocker("stripe_subscription", f"A subscription runs in Stripe ({each.id}). Cancel it there first.", each.id)
        for each in running
    ]
    for invoice in door.invoices(customer=row.stripe_id, status="open").rows:
        due = format_minor(invoice.remaining, invoice.currency)
        sentence = f"Invoice {invoice.number or invoice.id} is open in Stripe: {due}. Settle or void it there first."
        found.append(Blocker("stripe_invoice", sentence, invoice.id))
    for payment in door.intents(customer=row.stripe_id).rows:
        if payment.status in MONEY_MOVES:
            sentence = f"A payment is under way in Stripe ({payment.intent}). Wait until it came or failed."
            found.append(Blocker("stripe_payment", sentence, payment.intent))
    return found


def _delete_there(row: StripeCustomer, door: Gateway) -> None:
    try:
        door.delete_customer(row.stripe_id)
    except Missing:
        pass  # by an earlier try whose answer was lost, or by somebody there


@transaction.atomic
def _write_deleted(row: StripeCustomer, *, actor: Actor, now: datetime) -> None:
    assert row.customer_id is not None, "only linked customers are deleted"
    customer = Customer.objects.select_for_update().get(pk=row.customer_id)
    write_customer(CustomerFacts(row.stripe_id, deleted=True), (), now)
    record(
        customer,
        "customer.deleted_in_stripe",
        f"Deleted {row.stripe_id} in Stripe; what was paid there stays on record",
        actor=actor,
        now=now,
        inputs={"stripeCustomer": row.stripe_id},
    )
