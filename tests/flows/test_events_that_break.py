"""A call with several events that breaks in between says which of them were counted."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from django.db import connection, transaction

from catalog.models import Feature, Meter
from customers.models import Customer
from tests import builders as a
from tests.api.conftest import caller_with

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def is_busy() -> Iterator[Customer]:
    """A customer whose row somebody else does not let go."""
    meter = Meter.objects.create(slug="calls", name="Calls", event_name="call", aggregation="count")
    plan = a.pro()
    Feature.objects.filter(slug="credits").update(meter=meter)
    a.on(plan, name="Acme")
    globex = a.on(plan, name="Globex")
    held, done = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=globex.pk)
            held.set()
            done.wait(30)
        connection.close()

    holder = Thread(target=hold)
    holder.start()
    held.wait(30)
    yield globex
    done.set()
    holder.join()


def test_events_before_one_that_breaks_are_told_as_counted(is_busy: Customer):
    """P-35"""
    acme = Customer.objects.get(name="Acme")
    events = [{"customerId": who.customer_id, "eventName": "call"} for who in (acme, is_busy, acme)]
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        try:
            answer = caller_with("Application").post("events", {"events": events})
        finally:
            cursor.execute("RESET lock_timeout")

    assert answer.status == 200
    assert [(result["applied"], (result["error"] or {}).get("code")) for result in answer["data"]] == [
        (True, None),
        (False, "unavailable"),
        (True, None),
    ]
