"""Pause and resume collection: dialogs on the customer page, and calls of the API."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client

from billing_admin.flows.collection import pauses
from customers.models import Customer
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1, day

pytestmark = pytest.mark.django_db
NOON = MARCH_1 + timedelta(hours=12)


@pytest.fixture
def acme() -> Customer:
    return a.on(a.pro())


def pause_url(who: Customer, act: str = "pause") -> str:
    return f"/subscriptions/{a.the_subscription(who).public_id}/collection/{act}/"


def post(client: Client, url: str, **values: str) -> str:
    with time_machine.travel(NOON, tick=False):
        return client.post(url, values, follow=True).content.decode()


def page_of(client: Client, who: Customer) -> str:
    with time_machine.travel(NOON, tick=False):
        return client.get(f"/customers/customer/{who.pk}/", follow=True).content.decode()


def test_collection_is_paused_until_a_day_and_the_customer_page_says_so(acme: Customer) -> None:
    """Pause of collection, with a reason."""
    post(staff("Finance"), pause_url(acme), behavior="void", resumes_on="2026-03-20", reason="dispute")

    contract = a.the_subscription(acme)
    assert (contract.collection_behavior, contract.collection_resumes_at) == ("void", day("2026-03-20"))
    assert pauses(contract, NOON)
    assert "Collection is paused until 20 Mar 2026: void them" in page_of(staff("Read-only"), acme)


def test_a_pause_without_a_reason_or_into_the_past_is_refused_at_its_field(acme: Customer) -> None:
    """A-51: reasons"""
    client = staff("Finance")

    assert "Give a reason" in post(client, pause_url(acme), behavior="void")
    late = post(client, pause_url(acme), behavior="void", resumes_on="2026-02-01", reason="dispute")
    assert "Collection resumes at an instant to come." in late
    assert a.the_subscription(acme).collection_paused_at is None


def test_it_is_resumed_from_the_customer_page(acme: Customer) -> None:
    client = staff("Finance")
    post(client, pause_url(acme), behavior="keep_as_draft", reason="dispute")
    assert pause_url(acme, "resume") in page_of(client, acme)

    post(client, pause_url(acme, "resume"))

    assert not pauses(a.the_subscription(acme), NOON)


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_only_finance_and_admins_may_pause(acme: Customer, role: str) -> None:
    """A-53"""
    client = staff(role)

    assert "Pause collection" not in page_of(client, acme)
    assert client.get(pause_url(acme)).status_code == 403
    assert client.post(pause_url(acme), {"behavior": "void", "reason": "x"}).status_code == 403
    assert client.post(pause_url(acme, "resume")).status_code == 403
