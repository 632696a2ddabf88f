"""Bills on their way through a Stripe that fails, and what is left of them when it has recovered."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from django.db import transaction

from billing_admin.flows import stripe_collect, stripe_credits
from billing_admin.flows.corrections import credit_invoice, mark_uncollectible, void_invoice
from billing_admin.flows.gate import collect as pay_by_hand
from customers.models import Customer, Operation
from invoicing.documents import Document
from invoicing.issue import issue
from invoicing.lines import Line
from invoicing.models import CreditEntry, Invoice, InvoiceLine, Payment, Refund
from invoicing.pipeline import draw_up
from payments.models import StripeCredit, StripeCustomer, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

CARD = {"number": world.GOOD, "expiry": "12/34", "cvc": "123"}
LATEST = 60


def bill(who: Customer, *amounts: int, currency: str = "USD", now: datetime = MARCH_1) -> Invoice:
    """An open invoice over these lines, minor units."""
    kind = InvoiceLine.Kind.MANUAL
    lines = [Line(kind, f"line {n}", f"Line {n}", amount, currency) for n, amount in enumerate(amounts or (3000, 2000))]
    with transaction.atomic():
        [invoice] = issue(Customer.objects.select_for_update().get(pk=who.pk), [Document(draw_up(lines))], now=now)
    return invoice


def until_done(double: "Double", now: datetime = MARCH_1) -> datetime:
    """Pass after pass, each when the next step is due, until nothing waits any more but debits that nobody settles."""
    looks = 0
    for _ in range(LATEST):
        one_pass(now)
        while double.server.keys.busy:
            time.sleep(0.02)  # a call that we gave up is still under way there
        due = min(next_steps(), default=None)
        looks = 0 if StripeInvoice.objects.waiting().exclude(state=StripeInvoice.State.PROCESSING) else looks + 1
        if due is None or looks > 2:
            return now
        now = max(now, due)
    raise AssertionError(f"still not done: {list(StripeInvoice.objects.values())}")


def one_pass(now: datetime) -> None:
    stripe_collect.enqueue(now)
    stripe_credits.enqueue_credits(now)
    stripe_collect.collect_due(now)
    stripe_credits.credit_due(now)


def next_steps() -> Iterator[datetime]:
    for row in StripeInvoice.objects.waiting():
        assert row.next_attempt_at is not None
        yield max(row.next_attempt_at, row.claimed_until or row.next_attempt_at)
    yield from (
        StripeCredit.objects.exclude(state="pending")
        .exclude(next_attempt_at=None)
        .values_list("next_attempt_at", flat=True)
    )


def pay_on_the_page(row: StripeInvoice, number: str = world.GOOD) -> None:
    """The customer pays on Stripe's own page."""
    httpx.post(row.hosted_url, data=CARD | {"number": number}, follow_redirects=True).raise_for_status()


# What can happen to a bill: each runs until done where it yields -----------------------------------------------------

Story = Callable[["Double", Invoice], Iterator[None]]


def charged(double: "Double", invoice: Invoice) -> Iterator[None]:
    world.save_card(invoice.customer, double)
    yield


def asked(double: "Double", invoice: Invoice) -> Iterator[None]:
    yield


def voided(double: "Double", invoice: Invoice) -> Iterator[None]:
    yield
    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)
    yield


def given_up(double: "Double", invoice: Invoice) -> Iterator[None]:
    yield
    mark_uncollectible(invoice, reason="closed shop", actor=a.STAFF, now=MARCH_1)
    yield


def paid_by_hand(double: "Double", invoice: Invoice) -> Iterator[None]:
    yield
    pay_by_hand(invoice, amount=invoice.due, reference="bank 7", actor=a.STAFF, now=MARCH_1)
    yield


def thrown_away(double: "Double", invoice: Invoice) -> Iterator[None]:
    """Its draft never became final."""
    known = world.stripe_customers.ensure(invoice.customer, MARCH_1)
    double.edit(known.stripe_id, balance=-300)
    yield
    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1 + timedelta(minutes=1))
    yield


def credited(double: "Double", invoice: Invoice) -> Iterator[None]:
    """Part of it is taken off while it is open."""
    yield
    credit(invoice, 2000, "offset")
    StripeInvoice.objects.filter(invoice=invoice).update(next_attempt_at=MARCH_1)
    yield


def refunded(double: "Double", invoice: Invoice) -> Iterator[None]:
    world.save_card(invoice.customer, double)
    yield
    credit(invoice, 2000, "refund")
    yield


def credit(invoice: Invoice, amount: int, settlement: str) -> Invoice:
    return credit_invoice(invoice, amount=amount, settlement=settlement, reason="downtime", actor=a.STAFF, now=MARCH_1)


@dataclass(frozen=True)
class Fault:
    method: str
    path: str
    kind: str
    more: tuple[tuple[str, Any], ...] = ()


def play(double: "Double", story: Story, faults: Sequence[Fault] = (), *, at: int = 0) -> dict[str, Any]:
    """A story of one bill, with faults before its n-th wait; returns what is left of it."""
    invoice = bill(a.customer())
    for number, _ in enumerate(story(double, invoice)):
        if number == at:
            for fault in faults:
                double.fault(fault.method, fault.path, fault.kind, **dict(fault.more))
        until_done(double)
        invoice.refresh_from_db()
    assert double.server.faults.planned == [], "the fault never struck"
    return what_is_left(double, invoice)


def what_is_left(double: "Double", invoice: Invoice) -> dict[str, Any]:
    """Of one bill, ours and Stripe's, without ids and instants."""
    row = StripeInvoice.objects.get(invoice=invoice)
    there = StripeCustomer.objects.get(customer=invoice.customer).stripe_id
    return {
        "invoice": (invoice.state, invoice.paid, invoice.due, invoice.offset),
        "row": (row.state, row.status, row.code, row.asked, row.collected, row.refunded),
        "payments": list(Payment.objects.filter(invoice=invoice).values_list("provider", "amount")),
        "refunds": [(r.provider, r.amount, bool(r.reference)) for r in Refund.objects.filter(of=invoice)],
        "credits": list(StripeCredit.objects.filter(of=row).values_list("amount", "state")),
        "account credit": list(CreditEntry.objects.filter(customer=invoice.customer).values_list("kind", "amount")),
        "journal": sorted(Operation.objects.filter(customer=invoice.customer).values_list("verb", flat=True)),
    } | in_stripe(double, there)


def in_stripe(double: "Double", customer: str) -> dict[str, Any]:
    invoices = [found for found in double.objects("invoice") if found["customer"] == customer]
    ids = {found["id"] for found in invoices}
    notes = [found for found in double.objects("credit_note") if found["invoice"] in ids]
    facts = ("status", "total", "amount_paid", "amount_remaining")
    return {
        "there": [tuple(found[fact] for fact in facts) for found in invoices],
        "lines there": [len(found["lines"]["data"]) for found in invoices],
        "notes there": [(note["total"], note["post_payment_amount"]) for note in notes],
        "customers there": len(double.objects("customer")),
        "ledger": [(c["amount"], c["refunded"]) for c in double.ledger() if c["customer"] == customer],
    }
