"""What follows when an invoice is not paid in time: reminders on set days, then the end of its contract.

The contract is past due from the due date on and gives access until it ends. The days are the account's
(`BillingSettings.retry_days`), counted from the due date, or from the end of a pause of collection if that came later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.template.loader import render_to_string

from billing_admin.flows.renew import catch_up, end_contract
from catalog.money import format_minor
from customers.journal import CLOCKWORK, record
from customers.models import Customer, CustomerQuerySet, Subscription, SubscriptionQuerySet
from customers.states import SubscriptionState
from invoicing.mail import document_link
from invoicing.models import BillingSettings, Invoice, Reminder, default_retry_days
from invoicing.states import InvoiceState
from payments.under_way import at_rest


@dataclass(frozen=True, slots=True)
class Collected:
    """What one step of dunning did for one customer."""

    invoices: tuple[Invoice, ...] = ()
    reminders: int = 0
    given_up: int = 0


def to_collect(now: datetime) -> CustomerQuerySet:
    """Customers with an invoice whose next step has come, or with a contract that has nothing overdue any more."""
    invoices = at_rest(Invoice.objects.to_remind(now)).filter(customer=OuterRef("pk"))
    return Customer.objects.filter(Q(Exists(invoices)) | Q(subscriptions__in=_recovered(now))).distinct()


def _recovered(now: datetime) -> SubscriptionQuerySet:
    """Past due without an overdue invoice: it was paid, voided or credited."""
    overdue = Invoice.objects.overdue(now).filter(subscription=OuterRef("pk"))
    return Subscription.objects.filter(~Exists(overdue), state=SubscriptionState.PAST_DUE)


@transaction.atomic
def collect_overdue(customer: Customer, *, now: datetime) -> Collected:
    """Take every step that has come for one customer; running it again at the same instant does nothing."""
    customer = Customer.objects.select_for_update().get(pk=customer.pk)
    issued = catch_up(customer, now=now)
    reminders = given_up = 0
    for invoice in at_rest(Invoice.objects.to_remind(now)).filter(customer=customer).order_by("due_at", "id"):
        sent, closing = _next_steps(customer, invoice, now)
        reminders += sent
        given_up += invoice.state == InvoiceState.UNCOLLECTIBLE
        issued += closing
    for subscription in _recovered(now).filter(customer=customer):
        subscription.recover(now)
    return Collected(tuple(issued), reminders, given_up)


def _next_steps(customer: Customer, invoice: Invoice, now: datetime) -> tuple[int, list[Invoice]]:
    """The steps of one invoice that have come, in order. Returns how many reminders, and closing documents."""
    subscription = invoice.subscription
    if subscription is not None and subscription.state in (SubscriptionState.ACTIVE, SubscriptionState.TRIALING):
        subscription.move_to(SubscriptionState.PAST_DUE)
        subscription.save(update_fields=["state"])
    steps = steps_of(invoice, BillingSettings.present())
    come = [number for number, at in enumerate(steps) if number >= invoice.reminders and at <= now]
    reminded = [number for number in come if number < len(steps) - 1]
    Reminder.objects.bulk_create(
        Reminder(invoice=invoice, number=number + 1, sent_to=customer.email, at=now) for number in reminded
    )
    if len(steps) - 1 in come:
        return len(reminded), _give_up(customer, invoice, now)
    invoice.reminders += len(reminded)
    invoice.next_reminder_at = steps[invoice.reminders]
    invoice.save(update_fields=["reminders", "next_reminder_at"])
    if reminded:
        _remind(customer, invoice, invoice.reminders, now, given_up_at=steps[-1])
    return len(reminded), []


def steps_of(invoice: Invoice, account: BillingSettings) -> Sequence[datetime]:
    """When payment is asked for again; at the last of them it is given up."""
    assert invoice.due_at is not None, "only issued invoices are collected"
    since = invoice.due_at
    contract = invoice.subscription
    if contract is not None and contract.collection_paused_at and contract.collection_resumes_at:
        since = max(since, contract.collection_resumes_at)
    return [since + timedelta(days=days) for days in sorted(account.retry_days or default_retry_days())]


def _remind(customer: Customer, invoice: Invoice, number: int, now: datetime, *, given_up_at: datetime) -> None:
    record(
        customer,
        "invoice.reminded",
        f"Reminder {number} for {invoice}: {format_minor(invoice.due, invoice.currency)} due",
        actor=CLOCKWORK,
        now=now,
        inputs={"invoice": invoice.public_id},
        effects={"number": number, "sentTo": customer.email, "next": invoice.next_reminder_at},
    )
    send(customer, invoice, f"Reminder: {invoice} is overdue", "mail/reminder.txt", given_up_at=given_up_at)


def _give_up(customer: Customer, invoice: Invoice, now: datetime) -> list[Invoice]:
    """Nobody paid until the last day: the invoice is uncollectible, its contract ends."""
    invoice.move_to(InvoiceState.UNCOLLECTIBLE)
    invoice.reminders += 1
    invoice.next_reminder_at = None
    invoice.save(update_fields=["state", "reminders", "next_reminder_at"])
    record(
        customer,
        "invoice.uncollectible",
        f"Gave up {invoice}: {format_minor(invoice.due, invoice.currency)} was not paid",
        actor=CLOCKWORK,
        now=now,
        inputs={"invoice": invoice.public_id},
        effects={"due": invoice.due},
    )
    send(customer, invoice, f"{invoice} was not paid", "mail/given_up.txt")
    contract = Subscription.objects.live().select_for_update().filter(pk=invoice.subscription_id).first()
    if contract is None:
        return []
    return end_contract(customer, contract, at=now.replace(microsecond=0), reason="unpaid", now=now)


def send(customer: Customer, invoice: Invoice, subject: str, template: str, **facts: object) -> None:
    """Mail about an invoice, with its link, once everything is written; nothing for whoever has no address."""
    if not customer.email:
        return
    text = render_to_string(
        template, {"customer": customer, "invoice": invoice, "link": document_link(invoice), **facts}
    )
    transaction.on_commit(lambda: send_mail(subject, text, None, [customer.email]), robust=True)
