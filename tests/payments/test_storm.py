"""Two hundred webhooks in any order, some twice, some never, and one fetch: the books end as if all had gone well."""

import copy
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Model, QuerySet

from billing_admin import stripe_runs
from billing_admin.flows import stripe_fetch
from customers.models import Operation, Phase, Subscription
from invoicing.models import CreditEntry, Invoice, Payment, Refund
from payments.gateway import Declined, Refused, gateway
from payments.models import StripeCredit, StripeCustomer, StripeEvent, StripeInvoice
from tests.instants import MARCH_1
from tests.payments import pages_world as world
from tests.payments.inbox_world import door, use
from tests.stripe_double import Double

pytestmark = pytest.mark.django_db

NOW = MARCH_1 + timedelta(hours=1)
EVENTS, SEEDS = 200, range(10)
GOOD, DECLINES, ASKS, DEBIT = "4242424242424242", "4000000000000341", "4000002500003155", "AT611904300234573201"
# What only says how the looks came about; of an invoice that is settled it means nothing.
PASSING = ("seen_at", "charge_asked")


def test_a_storm_of_webhooks_ends_as_a_calm(double: Double, settings: Any):
    world.use(settings, double)
    use(settings, double)
    double.hold_webhooks()
    rows = {name: asked_for(name) for name in LIVES}
    begin(double, rows)
    halfway = copy.deepcopy(double.world)
    first = [event["id"] for event in double.pending_events]
    go_on(double, rows)
    make_noise(double, EVENTS - len(double.pending_events))
    whole = copy.deepcopy(double.world)
    rest = [event["id"] for event in double.pending_events][len(first) :]

    with undone():
        deal(double, halfway, first)
        deal(double, whole, rest)
        calm = books_after_a_pass(double)
    storms = []
    for seed in SEEDS:
        with undone():
            chance = random.Random(seed)
            now, late = shuffled(first, chance)
            deal(double, halfway, now)
            deal(double, whole, [*late, *scattered(rest, chance)], chance)
            stripe_fetch.fetch(MARCH_1 - timedelta(days=1), NOW, NOW)
            stripe_runs.events(now=NOW)
            storms.append(books_after_a_pass(double))

    assert len(first) + len(rest) == EVENTS
    assert Counter(calm["states"]) == {
        "paid": 5,
        "partially_refunded": 1,
        "disputed": 1,
        "dispute_lost": 1,
        "requires_action": 1,
        "void": 1,
        "uncollectible": 1,
    }
    for storm in storms:
        assert storm == calm


# The world ------------------------------------------------------------------------------------------------------------


def asked_for(name: str) -> StripeInvoice:
    """An invoice that Stripe asks a customer for who has no card yet."""
    return world.collect(world.owing(name))


def pay(row: StripeInvoice, key: str = "1") -> None:
    """What the customer, or somebody in Stripe's dashboard, does: we hear of it by webhook only."""
    with suppress(Declined, Refused):
        gateway().pay(row.stripe_id, key=f"{row.stripe_id}:{key}")


def intent(row: StripeInvoice) -> str:
    return gateway().invoice(row.stripe_id).payments[-1].intent


def owner(row: StripeInvoice) -> str:
    return StripeCustomer.objects.get(customer=row.invoice.customer_id).stripe_id


def begin(double: Double, rows: dict[str, StripeInvoice]) -> None:
    for name, row in rows.items():
        double.add_card(owner(row), LIVES[name])
        if name != "Waits":
            pay(row)


def go_on(double: Double, rows: dict[str, StripeInvoice]) -> None:
    double.add_card(owner(rows["Declined"]), GOOD)
    pay(rows["Declined"], "2")
    double.authenticate(intent(rows["Confirms"]))
    double.authenticate(intent(rows["Refuses"]), ok=False)
    double.settle_processing(intent(rows["Debit"]))
    gateway().v1.refunds.create({"payment_intent": intent(rows["Refunded"]), "amount": 2000})
    charges = {charge["payment_intent"]: charge["charge"] for charge in double.ledger()}
    double.dispute(charges[intent(rows["Disputes"])])
    lost = double.dispute(charges[intent(rows["Loses"])])
    double.close_dispute(lost["id"], won=False)
    gateway().void(rows["Void"].stripe_id, key="void")
    gateway().mark_uncollectible(rows["Lost"].stripe_id, key="lost")
    gateway().update_customer(owner(rows["Pays"]), name="Pays Ltd", email="new@pays.example", metadata={})


def make_noise(double: Double, number: int) -> None:
    """Events about others: the account serves more than our books."""
    thing = double.plant("product", "prod", id="prod_other", name="Other", active=True, type="service")
    stranger = gateway().create_customer(name="Stranger", email="", metadata={}, key="stranger")
    for n in range(number - 1):
        double.emit(*[("product.updated", thing["id"]), ("customer.updated", stranger.id)][n % 2])


LIVES = {
    "Pays": GOOD,
    "Declined": DECLINES,
    "Confirms": ASKS,
    "Refuses": ASKS,
    "Debit": DEBIT,
    "Refunded": GOOD,
    "Disputes": GOOD,
    "Loses": GOOD,
    "Void": DECLINES,
    "Lost": DECLINES,
    "Waits": GOOD,
}


# The storm ------------------------------------------------------------------------------------------------------------


def shuffled(events: list[str], chance: random.Random) -> tuple[list[str], list[str]]:
    """Some of them now, the others much later."""
    dealt = scattered(events, chance)
    return dealt[: len(dealt) * 3 // 4], dealt[len(dealt) * 3 // 4 :]


def scattered(events: list[str], chance: random.Random) -> list[str]:
    """In any order, a tenth of them twice, a twentieth never."""
    dealt = [event for event in events if chance.random() >= 0.05]
    dealt += [event for event in dealt if chance.random() < 0.1]
    chance.shuffle(dealt)
    return dealt


def deal(double: Double, stripe: Any, events: list[str], chance: random.Random | None = None) -> None:
    """Bring events to our door while Stripe is as it was then; the workers come by now and then. They only look."""
    double.server.world = stripe
    receive = door(NOW)
    for event in events:
        assert receive(*double.signed(event)) == 200
        if chance is not None and chance.random() < 0.01:
            stripe_runs.events(now=NOW)
    stripe_runs.events(now=NOW)


@contextmanager
def undone() -> Iterator[None]:
    """A transaction around a test is none of ours: the network may be used in it."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]
    with block:
        yield
        transaction.set_rollback(True)


def books_after_a_pass(double: Double) -> dict[str, list[Any]]:
    """A card that came to be known lets what waited for one be charged, whichever of the two was looked at first."""
    double.server.world = copy.deepcopy(double.world)
    stripe_runs.work(stripe_runs.COLLECT, now=NOW)
    return books()


def books() -> dict[str, list[Any]]:
    """Everything here that has to do with payments. Rows keep their keys, since each storm is undone."""
    return {
        "states": sorted(StripeInvoice.objects.values_list("state", flat=True)),
        "invoices": sorted(Invoice.objects.values_list("pk", "state")),
        "collection": rows_of(StripeInvoice.objects.all()),
        "customers": rows_of(StripeCustomer.objects.all()),
        "credits": rows_of(StripeCredit.objects.all(), Refund.objects.all(), CreditEntry.objects.all()),
        "payments": sorted(Payment.objects.values_list("invoice", "amount", "provider", "reference")),
        "contracts": rows_of(Subscription.objects.all(), Phase.objects.all()),
        "acts": sorted(Counter(Operation.objects.values_list("customer", "verb")).items()),
        "events": sorted(StripeEvent.objects.values_list("stripe_id", "state", "customer")),
    }


def rows_of(*queries: "QuerySet[Any]") -> list[dict[str, Any]]:
    return [values(row) for query in queries for row in query.order_by("pk")]


def values(row: Model) -> dict[str, Any]:
    return {field.name: getattr(row, field.attname) for field in row._meta.concrete_fields if field.name not in PASSING}
