"""The demo's life in Stripe, played by a double: who pays by card, and what comes of it.

What we do goes through the product's own flows. What customers, banks and colleagues do in Stripe without us goes
through the double's doors: its API, and the control that only a double has.
"""

import base64
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.utils.text import slugify

from billing_admin.flows import stripe_collect, stripe_compare, stripe_events, stripe_fetch, stripe_import
from billing_admin.flows.customers import create_customer
from billing_admin.flows.enable_plan import enable_plan, propose
from billing_admin.flows.stripe_customers import ensure, refresh_customer
from catalog.models import Plan
from customers.journal import Actor
from customers.models import Customer
from invoicing.models import Invoice
from payments.models import StripeAccount, StripeCustomer, StripeInvoice, StripeSubscription

VISA, MASTERCARD, AMEX = "4242424242424242", "5555555555554444", "378282246310005"
DECLINED, ASKS, DISPUTED, DEBIT = "4000000000000341", "4000000000003220", "4000000000000259", "DE89370400440532013000"


@dataclass(frozen=True)
class Payer:
    """Somebody who enables a plan and pays through Stripe; without a number nothing is saved there yet."""

    name: str
    number: str = ""
    plan: str = "pro"


# A new customer for each state that a collection can be in.
PAID = Payer("Bluebell Bakery", VISA)
CARDLESS = Payer("Harbor Hostels")
REFUNDED = Payer("Glimmer Games", MASTERCARD, "team")
NEWCOMERS = (
    PAID,
    REFUNDED,
    Payer("Cinder Fitness", DECLINED),
    Payer("Dapple Design", ASKS),
    Payer("Ember Freight", DEBIT, "team"),
    Payer("Fennel Foods", DISPUTED),
    CARDLESS,
)
# Of the year before: they have saved a card, so their renewals are charged by themselves.
SAVED = {
    "acme_robotics": VISA,
    "globex_logistics": MASTERCARD,
    "initech_systems": AMEX,
    "xenon_video": VISA,
    "yarrow_finance": DEBIT,
    "willow_clinics": VISA,
    "redwood_insurance": DECLINED,
}
# What they owe from before goes to Stripe; the other open invoices wait for somebody to ask for it.
HANDED_OVER = ("willow_clinics", "redwood_insurance", "tidewater_shipping")


# Nobody is called so outside of the demo.
KNOWN_BY = "acme_robotics"


def is_played() -> bool:
    """Whether the demo has its share in Stripe."""
    return StripeCustomer.objects.exists()


def play(clock: Callable[[], datetime]) -> None:
    """Needs the demo's year, and a double of Stripe at STRIPE_API_URL, which has a clock of its own."""
    double = Double(settings.STRIPE_API_URL)
    double.control("hold_webhooks", held=True)
    finance = Actor.of(User.objects.get(username="finance"))
    save_cards(double, clock())
    for payer in NEWCOMERS:
        join(payer, double, finance, clock())
    collect(finance, clock())
    refund_a_part(double, clock())
    sell_in_stripe(double)
    mirror(finance, clock())
    hear_of_it(double, clock())
    part_ways(double)
    compare(finance, clock())
    double.control("hold_webhooks", held=False)


def save_cards(double: "Double", now: datetime) -> None:
    for customer in Customer.objects.filter(customer_id__in=SAVED).order_by("pk"):
        save(customer, SAVED[customer.customer_id], double, now)


def save(customer: Customer, number: str, double: "Double", now: datetime) -> None:
    there = ensure(customer, now)
    if number:
        double.control("add_card", customer=there.stripe_id, number=number)
    refresh_customer(there.stripe_id, now)


def join(payer: Payer, double: "Double", finance: Actor, now: datetime) -> None:
    slug = slugify(payer.name).replace("-", "_")
    mail = f"billing@{slug.partition('_')[0]}.example"
    customer = create_customer(customer_id=slug, name=payer.name, email=mail, actor=finance, now=now)
    save(customer, payer.number, double, now)
    plan = Plan.objects.select_related("product", "current_version").get(key=payer.plan)
    enable_plan(customer, propose(customer, plan), reason="", actor=finance, now=now)


def collect(finance: Actor, now: datetime) -> None:
    for invoice in Invoice.objects.unpaid().filter(customer__customer_id__in=HANDED_OVER).order_by("issued_at"):
        stripe_collect.start(invoice, actor=finance, now=now)
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)


def refund_a_part(double: "Double", now: datetime) -> None:
    """A colleague gives money back in Stripe's own dashboard."""
    row = StripeInvoice.objects.get(invoice__customer__name=REFUNDED.name)
    double.post("/v1/refunds", payment_intent=row.payment_intent, amount=2_500)
    stripe_collect.refresh(row, now)


# What is sold in Stripe --------------------------------------------------------------------------------------------


def sell_in_stripe(double: "Double") -> None:
    """A product of Stripe's with three prices, and who has subscribed; not all of them are known here."""
    desk = double.post("/v1/products", name="Support desk")
    monthly, yearly = (
        double.post(
            "/v1/prices",
            product=desk["id"],
            currency="usd",
            unit_amount=amount,
            nickname=f"Support, {interval}ly",
            recurring={"interval": interval},
        )
        for interval, amount in (("month", 2_900), ("year", 29_000))
    )
    # Whose currency is not one of ours: nothing can mirror it.
    abroad = double.post(
        "/v1/prices", product=desk["id"], currency="chf", unit_amount=3_100, recurring={"interval": "month"}
    )
    key = StripeAccount.objects.get().link_key
    subscribe(double, monthly, quantity=3, name="Orchard Retail", metadata={key: "orchard_retail"})
    subscribe(double, yearly, name="Saffron Foods", email="billing@saffron.example")
    subscribe(double, monthly, name="Walk-in Wines", email="cellar@walkin.example")
    subscribe(double, abroad, name="Kestrel Mobile", metadata={key: "kestrel_mobile"})
    for name in ("Pinecrest Legal", "Pinecrest Legal (old)"):
        double.post("/v1/customers", name=name, metadata={key: "pinecrest_legal"})


def subscribe(double: "Double", price: Mapping[str, Any], *, quantity: int = 1, **customer: Any) -> None:
    buyer = double.post("/v1/customers", **customer)
    double.control("add_card", customer=buyer["id"], number=VISA)
    double.post("/v1/subscriptions", customer=buyer["id"], items=[{"price": price["id"], "quantity": quantity}])


def mirror(finance: Actor, now: datetime) -> None:
    stripe_import.begin(actor=finance, now=now)
    while stripe_import.step(now):
        pass


def hear_of_it(double: "Double", now: datetime) -> None:
    """The web process is not up yet, so what happened in Stripe is fetched instead of sent."""
    stripe_fetch.fetch(now - timedelta(hours=1), now + timedelta(hours=1), now)
    stripe_events.process(now)
    double.control("deliver", drop=1)


def part_ways(double: "Double") -> None:
    """What nobody told us of: for a comparison to find."""
    owner = StripeCustomer.objects.get(customer__name=PAID.name)
    double.post("/v1/invoiceitems", customer=owner.stripe_id, amount=1_900, currency="usd", description="A workshop")
    made = double.post("/v1/invoices", customer=owner.stripe_id, pending_invoice_items_behavior="include")
    double.post(f"/v1/invoices/{made['id']}/finalize")
    double.post(f"/v1/invoices/{made['id']}/pay")
    forgotten = StripeCustomer.objects.get(customer__customer_id="initech_systems")
    double.control("edit", identity=forgotten.stripe_id, metadata={})
    voided = StripeInvoice.objects.get(invoice__customer__name=CARDLESS.name)
    double.control("edit", identity=voided.stripe_id, status="void")
    grown = StripeSubscription.objects.get(subscription__customer__customer_id="orchard_retail")
    double.control("edit", identity=grown.item_id, quantity=5)


def compare(finance: Actor, now: datetime) -> None:
    run = stripe_compare.begin(actor=finance, now=now)
    while run.finished_at is None and not run.problem:
        run = stripe_compare.carry_on(run, now)


class Double:
    """The two doors of a double of Stripe."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc

    def control(self, name: str, **given: Any) -> Any:
        return self._send(f"/_double/{name}", json.dumps(given).encode(), {"Content-Type": "application/json"})

    def post(self, path: str, **params: Any) -> Any:
        """What somebody else does in Stripe."""
        key = base64.b64encode(f"{settings.STRIPE_SECRET_KEY}:".encode()).decode()
        return self._send(path, urlencode(list(fields(params))).encode(), {"Authorization": f"Basic {key}"})

    def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            said = json.load(answer)
        finally:
            connection.close()
        if answer.status >= 400:
            raise CommandError(f"The double of Stripe refuses {path}: {said['error']}")
        return said


def fields(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as a form names them: `items[0][price]`."""
    if isinstance(value, Mapping | list):
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in inner:
            yield from fields(part, f"{name}[{key}]" if name else str(key))
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
