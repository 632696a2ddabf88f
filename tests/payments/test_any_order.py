"""People, banks and faults in any order: what is recorded here is what Stripe took and gave back, and no more."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_admin.flows import stripe_collect, stripe_customers
from billing_admin.flows.corrections import void_invoice
from billing_admin.flows.customers import close_customer
from billing_admin.flows.gate import collect as pay_by_hand
from customers.models import Customer
from invoicing.models import CreditEntry, Invoice, Payment, Refund
from payments.gateway import StripeTrouble
from payments.models import StripeCustomer, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1
from tests.payments import fault_world as f
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
DEBIT = "DE89370400440532013000"
PATHS = [
    ("POST", "/v1/customers"),
    ("POST", "/v1/invoices"),
    ("POST", "/v1/invoiceitems"),
    ("POST", "/v1/invoices/*/finalize"),
    ("POST", "/v1/invoices/*/pay"),
    ("POST", "/v1/invoices/*/void"),
    ("POST", "/v1/credit_notes"),
    ("GET", "/v1/invoices/*"),
]
KINDS = ["error", "fail_after", "drop_before", "drop_after", "rate_limit"]


class World:
    """One bill, Stripe, and the clock."""

    def __init__(self, double: "Double") -> None:
        self.double, self.now = double, MARCH_1
        self.invoice = f.bill(a.customer())
        self.who: Customer = self.invoice.customer

    @property
    def there(self) -> str:
        known = StripeCustomer.objects.filter(customer=self.who).first()
        return known.stripe_id if known else ""

    @property
    def intents(self) -> list[dict[str, Any]]:
        return [found for found in self.double.objects("payment_intent") if found["customer"] == self.there]

    @property
    def charges(self) -> list[dict[str, Any]]:
        mine = [charge for charge in self.double.ledger() if charge["customer"] == self.there]
        return [charge for charge in mine if charge["status"] == "succeeded"]


def passes(world: World) -> None:
    f.one_pass(world.now)
    world.now += timedelta(minutes=20)


def looks(world: World) -> None:
    with suppress(StripeTrouble):
        for row in StripeInvoice.objects.select_related("invoice__customer").filter(invoice=world.invoice):
            stripe_collect.refresh(row, world.now)


def voids(world: World) -> None:
    void_invoice(world.invoice, reason="wrong plan", actor=a.STAFF, now=world.now)


def pays_by_hand(world: World) -> None:
    pay_by_hand(world.invoice, amount=1500, reference="bank 7", actor=a.STAFF, now=world.now)


def pays_on_the_page(world: World) -> None:
    for row in StripeInvoice.objects.filter(invoice=world.invoice).exclude(hosted_url=""):
        httpx.post(row.hosted_url, data=f.CARD, follow_redirects=True)


def saves(number: str) -> Callable[[World], None]:
    def save(w: World) -> None:
        with suppress(StripeTrouble):
            known = stripe_customers.ensure(w.who, w.now)
            w.double.add_card(known.stripe_id, number)
            stripe_customers.refresh_customer(known.stripe_id, w.now)

    return save


def credits_it(settlement: str) -> Callable[[World], None]:
    def credit(world: World) -> None:
        f.credit(world.invoice, 1000, settlement)

    return credit


def closes(world: World) -> None:
    close_customer(world.who, confirm_name=world.who.name, reason="asked to", actor=a.STAFF, now=world.now)


def bank_answers(*, ok: bool) -> Callable[[World], None]:
    def answer(world: World) -> None:
        for intent in world.intents:
            if intent["status"] == "processing":
                world.double.settle_processing(intent["id"], ok=ok)

    return answer


def forgets(world: World) -> None:
    world.double.expire_keys()
    world.now += timedelta(days=1)


def breaks(method: str, path: str, kind: str) -> Callable[[World], None]:
    def fault(world: World) -> None:
        world.double.fault(method, path, kind)

    return fault


PEOPLE: list[Callable[[World], None]] = [
    passes,
    looks,
    voids,
    pays_by_hand,
    pays_on_the_page,
    saves(world.GOOD),
    saves(world.DECLINES),
    saves(DEBIT),
    credits_it("offset"),
    credits_it("refund"),
    credits_it("account_credit"),
    closes,
    bank_answers(ok=True),
    bank_answers(ok=False),
    forgets,
]
acts = st.one_of(
    st.sampled_from(PEOPLE),
    st.just(passes),
    st.builds(lambda where, kind: breaks(*where, kind), st.sampled_from(PATHS), st.sampled_from(KINDS)),
)


SLOW_BUT_SURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)
    settings.STRIPE_TIMEOUT = 10.0


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(story=st.lists(acts, min_size=4, max_size=10))
def test_what_is_recorded_is_what_stripe_took_and_gave_back(story: list[Callable[[World], None]], double: "Double"):
    w = World(double)
    for act in story:
        with suppress(ValidationError, StripeTrouble):
            act(w)

    settle_down(w)

    assert sum_of(Payment, invoice=w.invoice, provider="stripe") == sum(charge["amount"] for charge in w.charges)
    gone = Refund.objects.filter(of=w.invoice, provider="stripe").exclude(reference="")
    assert sum(gone.values_list("amount", flat=True)) == sum(charge["refunded"] for charge in w.charges)
    assert len(w.charges) <= 1
    assert kept_for_the_customer(w.invoice) == sum_of(Payment, invoice=w.invoice)


def settle_down(w: World) -> None:
    """Nothing fails any more, banks have answered, and a day has passed for what waits that long."""
    w.double.lift()
    w.now = f.until_done(w.double, until_retries_end(w.now))
    bank_answers(ok=True)(w)
    looks(w)
    w.now = f.until_done(w.double, w.now)
    looks(w)


def until_retries_end(now: datetime) -> datetime:
    return now + timedelta(days=22)


def sum_of(model: Any, **where: Any) -> int:
    found: int = model.objects.filter(**where).aggregate(sum=Sum("amount"))["sum"] or 0
    return found


def kept_for_the_customer(invoice: Invoice) -> int:
    """What payments counted for: the invoice itself, or account credit with a line of its own."""
    invoice.refresh_from_db()
    late = CreditEntry.objects.filter(invoice=invoice, kind__in=["late", "overpaid"])
    told = invoice.customer.operations.filter(verb="payment.late").count()
    assert told == late.filter(kind="late").count()
    return invoice.paid + sum(late.values_list("amount", flat=True))
