"""The gate: a first invoice that costs something is paid before its plan gives access.

Paying, approving, activating without payment, giving up: each takes the customer's row first and does nothing when it
was done before, so that a payment that is reported three times activates once.
"""

from collections.abc import Sequence
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.flows.approvals import guard_as
from billing_admin.flows.change import moves_to
from billing_admin.flows.collection import recover
from billing_admin.flows.plan_change import Proposal
from billing_admin.flows.position import read_position
from billing_admin.flows.renew import catch_up
from customers import switch
from customers.holdings import contract_of, contracts_at
from customers.journal import CLOCKWORK, Actor, record, require_reason
from customers.models import Customer, Operation, Phase, Subscription
from customers.states import SubscriptionState
from entitlements.override import put_under_overrides
from entitlements.provision import apply_moves, open_missing
from invoicing.issue import annul, receive_payment, settle_issued
from invoicing.models import Invoice, Payment
from invoicing.providers import MANUAL
from invoicing.states import InvoiceState
from payments.under_way import at_rest


class NothingToApprove(ValidationError):
    def __init__(self, invoice: Invoice):
        super().__init__(f"{invoice} does not wait for an approval.", code="nothing_to_approve")


class NothingToActivate(ValidationError):
    def __init__(self) -> None:
        super().__init__("This plan does not wait for a payment.", code="nothing_to_activate")


@transaction.atomic
def collect(
    invoice: Invoice, *, amount: int, reference: str, provider: str = MANUAL, actor: Actor, now: datetime
) -> Payment:
    """Record money that arrived for an invoice, in minor units, and give what its payment sets free."""
    payment = receive_payment(invoice, amount=amount, reference=reference, provider=provider, actor=actor, now=now)
    settled(Invoice.objects.get(pk=invoice.pk), actor=actor, now=now)
    return payment


def settled(invoice: Invoice, *, actor: Actor, now: datetime) -> None:
    """What follows from an invoice that is paid: its gate opens, its contract is no longer past due."""
    if invoice.state != InvoiceState.PAID:
        return
    if invoice.gates_id is not None:
        _activate(invoice, actor=actor, now=now)
    recover(invoice, now=now)


@transaction.atomic
def approve(invoice: Invoice, *, actor: Actor, now: datetime) -> Invoice:
    """Issue a first invoice that waited for somebody's approval; its payment window begins."""
    Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update(of=("self",)).select_related("customer").get(pk=invoice.pk)
    if invoice.state != InvoiceState.DRAFT or not invoice.awaits_approval:
        raise NothingToApprove(invoice)
    if invoice.expires_at is not None and invoice.operation is not None:
        invoice.expires_at = now + (invoice.expires_at - invoice.operation.at)
    settle_issued(invoice, now=now)
    record(
        invoice.customer,
        "invoice.approved",
        f"Approved {invoice}",
        actor=actor,
        now=now,
        inputs={"invoice": invoice.public_id},
        effects={"total": invoice.total},
    )
    settled(invoice, actor=actor, now=now)
    return invoice


@transaction.atomic
def activate_now(invoice: Invoice, *, reason: str, actor: Actor, now: datetime) -> Operation:
    """Give access before the first invoice is paid; it stays open and no longer expires. Raises `ReasonRequired`,
    `NothingToActivate`, `ApprovalNeeded`.
    """
    reason = require_reason(reason, "access before the first payment")
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    invoice = Invoice.objects.select_for_update(of=("self",)).select_related("customer").get(pk=invoice.pk)
    if invoice.state not in (InvoiceState.DRAFT, InvoiceState.OPEN) or not waits(invoice):
        raise NothingToActivate
    guard_as("plan.activated", actor=actor, now=now, reason=reason, invoice=invoice)
    if invoice.state == InvoiceState.DRAFT:
        settle_issued(invoice, now=now)
    invoice.expires_at = None
    invoice.save(update_fields=["expires_at"])
    _activate(invoice, actor=actor, now=now, reason=reason)
    operation: Operation = customer.operations.order_by("-id")[0]
    return operation


def waits(invoice: Invoice) -> bool:
    """Whether somebody's access still waits for this invoice."""
    phase = invoice.gates
    if phase is None or phase.withdrawn_at is not None:
        return False
    return phase.pending_since is not None or phase.subscription.state == SubscriptionState.PENDING_PAYMENT


def _activate(invoice: Invoice, *, actor: Actor, now: datetime, reason: str = "") -> None:
    """Begin what the invoice gates, once: whoever comes later finds nothing that waits."""
    customer = Customer.objects.select_for_update().get(pk=invoice.customer_id)
    assert invoice.gates_id is not None
    phase = Phase.objects.select_related("subscription", "version__plan").get(pk=invoice.gates_id)
    subscription = Subscription.objects.select_for_update().get(pk=phase.subscription_id)
    phase.subscription = subscription
    if not waits(Invoice(gates=phase)):
        return
    at = now.replace(microsecond=0)
    operation = record(
        customer,
        "plan.activated",
        f"Activated {phase.version.plan.name}{' (custom)' if phase.version.tailored else ''}",
        actor=actor,
        now=now,
        reason=reason,
        inputs={"invoice": invoice.public_id},
        effects={"subscription": subscription.public_id, "paid": invoice.state == InvoiceState.PAID},
    )
    if phase.pending_since is None:
        switch.activate(subscription, phase)
        own = [c for c in contracts_at(customer, at) if c.subscription_id == subscription.pk]
        open_missing(customer, own, now=now)
        put_under_overrides(customer, now=now, operation=operation)
        catch_up(customer, now=now)  # a period may have ended while the contract waited
        return
    _begin_pending(customer, subscription, phase, at=at, now=now, operation=operation)


def _begin_pending(
    customer: Customer, subscription: Subscription, phase: Phase, *, at: datetime, now: datetime, operation: Operation
) -> None:
    """Leave the free plan that served meanwhile: its balances go over as the change was confirmed."""
    plan = phase.version.plan
    position = read_position(customer, plan, at=at, subscription=subscription)
    terms = phase.terms()
    proposal = Proposal(
        plan_id=plan.pk,
        plan_name=plan.name,
        kind=plan.kind,
        add_on=plan.add_on,
        terms=terms,
        standard=terms,
        version_id=phase.version_id,
        is_custom=phase.version.tailored,
        quantity=phase.quantity,
        bought=tuple(sorted(phase.bought_units().items())),
    )
    moves = moves_to(position, proposal, contract_of(phase, customer))
    apply_moves(customer, moves, used_later={}, now=now, operation=operation)
    switch.switch_now(
        subscription,
        phase.version,
        anchor=phase.anchor,
        at=at,
        now=now,
        quantity=phase.quantity,
        keep_schedule=False,
        bought=phase.bought_units(),
        pending=phase,
    )
    switch.begin_pending_after(subscription, phase, at=at)
    put_under_overrides(customer, now=now, operation=operation)


def give_up_gate(invoice: Invoice, *, reason: str, end_reason: str, actor: Actor, now: datetime) -> None:
    """Void a first invoice that was not paid, and end what it would have started. The caller holds the customer."""
    invoice = Invoice.objects.select_for_update(of=("self",)).select_related("customer", "gates").get(pk=invoice.pk)
    if invoice.state not in (InvoiceState.DRAFT, InvoiceState.OPEN) or not waits(invoice):
        return
    assert invoice.gates is not None
    returned = annul(invoice, reason=reason, now=now)
    subscription = Subscription.objects.select_for_update().get(pk=invoice.gates.subscription_id)
    if subscription.state == SubscriptionState.PENDING_PAYMENT:
        switch.end(subscription, at=now, reason=end_reason, now=now)
    else:
        switch.drop_pending(subscription, now=now)
    record(
        invoice.customer,
        "payment.expired" if end_reason == "payment_expired" else "invoice.voided",
        f"Voided {invoice}: {reason}",
        actor=actor,
        now=now,
        inputs={"invoice": invoice.public_id},
        effects={"subscription": subscription.public_id, "returnedToAccountCredit": returned},
    )


@transaction.atomic
def expire(invoice: Invoice, *, now: datetime) -> bool:
    """Give up a first invoice whose window is over; False when it was settled meanwhile, or its money is on its way."""
    Customer.objects.select_for_update().get(pk=invoice.customer_id)
    present = at_rest(Invoice.objects.expired(now)).filter(pk=invoice.pk).first()
    if present is None:
        return False
    give_up_gate(
        present,
        reason="It was not paid within its window.",
        end_reason="payment_expired",
        actor=CLOCKWORK,
        now=now,
    )
    return True


def gated_invoices(customer: Customer) -> Sequence[Invoice]:
    """First invoices that a customer's access waits for, oldest first."""
    return list(customer.invoices.gating().select_related("gates__version__plan", "subscription").order_by("id"))
