"""Stripe slow, away, or a worker killed while it asks: nobody waits, nothing is lost, nothing is done twice."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client

from customers.models import Customer
from invoicing.models import Invoice
from payments import gateway
from payments.models import StripeAccount, StripeCredit, StripeCustomer, StripeInvoice
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import MARCH_1
from tests.payments import fault_world as f
from tests.payments import pages_world as world
from tests.stripe_double.errors import broken
from tests.stripe_double.faults import Fault

if TYPE_CHECKING:
    from tests.stripe_double import Double


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)
    settings.STRIPE_TIMEOUT = 10.0


# A Stripe that is away ------------------------------------------------------------------------------------------------

PAGES = [
    ("index", ""),
    ("customers_customer_change", "customer"),
    ("customer_settings", "customer"),
    ("customers_customer_delete", "customer"),
    ("invoicing_invoice_changelist", ""),
    ("invoicing_invoice_change", "invoice"),
    ("invoice_credit", "invoice"),
    ("invoice_void", "invoice"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "of"), PAGES)
def test_pages_never_ask_stripe(name: str, of: str, double: "Double", client: Client):
    """Also with the doors shut: what they show is what is known."""
    invoice = world.owing(card=world.DECLINES, double=double)
    world.collect(invoice)
    double.fault("*", "**", "down")
    asked = len(double.requests)
    args = [{"customer": invoice.customer_id, "invoice": invoice.pk}[of]] if of else []

    page = CustomerDesk(client).get(name, *args)

    assert page.status == 200
    assert len(double.requests) == asked


@pytest.mark.django_db
def test_the_customers_page_of_an_invoice_never_asks_stripe(double: "Double", client: Client):
    invoice = world.owing()
    world.collect(invoice)
    double.fault("*", "**", "down")
    asked = len(double.requests)

    assert client.get(f"/i/{invoice.token}/", follow=True).status_code == 200
    assert len(double.requests) == asked


# A Stripe that is slow ------------------------------------------------------------------------------------------------


@dataclass
class Held(Fault):
    """Every request is held while `meanwhile` looks around."""

    method: str = "*"
    path: str = "**"
    kind: str = "delay"
    times: int | None = None
    meanwhile: Callable[[], None] = lambda: None
    found: list[str] = field(default_factory=list)

    def wait(self) -> None:
        try:
            self.meanwhile()
        finally:
            connection.close()  # this thread's own


def every_row_is_free() -> None:
    with transaction.atomic():
        for model in (Customer, Invoice, StripeAccount, StripeCustomer, StripeInvoice, StripeCredit):
            list(model.objects.select_for_update(nowait=True, of=("self",)))


@pytest.mark.django_db(transaction=True)
def test_nobody_holds_a_row_while_stripe_is_slow(double: "Double"):
    invoice = f.bill(a.customer())
    held = Held(meanwhile=every_row_is_free)
    double.server.faults.plan(held)

    story = f.refunded(double, invoice)
    for _ in story:
        f.until_done(double)

    assert [charge["refunded"] for charge in double.ledger()] == [2000]
    assert len(double.requests) > 12  # each of them was held while all rows were taken


# A worker that is killed ----------------------------------------------------------------------------------------------


@dataclass
class Deadly(Fault):
    """Kills whoever sends the n-th request; its effect comes true all the same, or never does."""

    method: str = "*"
    path: str = "**"
    kind: str = "delay"
    times: int | None = None
    left: int = 0
    pid: int = 0
    has_effect: bool = True
    struck: bool = False

    def wait(self) -> None:
        while not self.pid:
            time.sleep(0.001)
        self.left -= 1
        if self.left == 0:
            os.kill(self.pid, signal.SIGKILL)
            self.struck = True
            if not self.has_effect:
                raise broken()


def start_worker() -> int:
    """A process of its own that makes one pass. Returns its id."""
    connection.close()
    cache.close()
    if pid := os.fork():
        return pid
    try:
        gateway._gateway.cache_clear()  # connections cannot be shared between two processes
        f.one_pass(MARCH_1)
    finally:
        os._exit(0)


def kill_at(double: "Double", call: int, *, has_effect: bool) -> bool:
    """Let a worker make one pass and kill it at its n-th call; False when it made fewer."""
    deadly = Deadly(left=call, has_effect=has_effect)
    double.server.faults.plan(deadly)
    deadly.pid = start_worker()
    os.waitpid(deadly.pid, 0)
    double.lift()
    if deadly.struck:
        while double.requests[-1].status is None:
            time.sleep(0.001)
    return deadly.struck


def lives(double: "Double", *, has_effect: bool) -> Iterator[dict[str, Any]]:
    """What is left of one bill after another, each with a worker killed one call later than the last."""
    call, struck = 1, True
    while struck:
        invoice = f.bill(a.customer(f"Customer {call} {has_effect}"))
        story = f.refunded(double, invoice)
        next(story)
        struck = kill_at(double, call, has_effect=has_effect)
        f.until_done(double, MARCH_1)
        invoice.refresh_from_db()
        next(story)
        struck = kill_at(double, call, has_effect=has_effect) or struck
        f.until_done(double, MARCH_1)
        invoice.refresh_from_db()
        left = f.what_is_left(double, invoice)
        left.pop("customers there")
        yield left
        call += 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_effect", [True, False], ids=["with its effect", "without"])
def test_a_worker_killed_at_any_call_leaves_nothing_that_the_next_does_not_finish(double: "Double", has_effect: bool):
    """Each call of charging and of giving back, the process dead between the question and the answer."""
    found = list(lives(double, has_effect=has_effect))

    assert len(found) > 8
    for left in found:
        assert left == found[-1]  # the last was not disturbed
    assert found[-1]["ledger"] == [(5000, 2000)]
    assert len(double.ledger()) == len(found)
