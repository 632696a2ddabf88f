"""What Stripe told of somebody who was erased is forgotten, also when it is told again later."""

from datetime import timedelta
from typing import Any

import pytest

from billing_admin import stripe_runs
from billing_admin.flows.customers import close_customer, erase
from customers.models import Customer
from payments.events import subjects
from payments.models import StripeAccount, StripeCustomer, StripeEvent
from tests import builders as a
from tests.instants import MARCH_1
from tests.payments.inbox_world import event, made_up

pytestmark = pytest.mark.django_db

GONE = MARCH_1 + timedelta(days=31)


@pytest.fixture
def acme() -> Customer:
    StripeAccount.objects.create(pk=1, stripe_id="acct_1", livemode=False, connected_at=MARCH_1)
    who = a.customer()
    StripeCustomer.objects.create(stripe_id="cus_acme", customer=who, name="Acme Robotics", email="pay@acme.example")
    return who


def told(type_: str, **thing: Any) -> StripeEvent:
    """An event with everything that Stripe knows of Acme."""
    about = {"email": "pay@acme.example", "phone": "+1 555 0100", "customer": "cus_acme", "object": "charge", **thing}
    outcome = "Acme Robotics: as Stripe has it."
    payload = made_up(type_, data={"object": about})
    return event(type_, about["id"], at=MARCH_1, customer="cus_acme", payload=payload, outcome=outcome, state="done")


def erased(who: Customer) -> None:
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_1)
    assert erase(who.pk, now=GONE)


def test_of_an_erased_customers_events_only_the_objects_are_kept(acme: Customer):
    """A-52"""
    row = told("charge.succeeded", id="ch_1", payment_intent="pi_1", billing_details={"name": "Ada"})

    erased(acme)

    row.refresh_from_db()
    assert row.payload["data"] == {
        "object": {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "customer": "cus_acme"}
    }
    assert "Acme" not in row.outcome and "acme.example" not in str(row.payload)


def test_events_of_others_stay_as_they_are(acme: Customer):
    other = event("customer.updated", "cus_other", at=MARCH_1, customer="cus_other")

    erased(acme)

    before, _ = other.payload, other.refresh_from_db()
    assert other.payload == before


def test_what_stripe_tells_of_them_later_is_forgotten_as_well(acme: Customer, settings: Any):
    """A-52"""
    settings.STRIPE_SECRET_KEY = "sk_test_erased"
    erased(acme)
    row = told("payout.paid", id="po_1")
    StripeEvent.objects.update(state="waiting", next_attempt_at=GONE)

    stripe_runs.events(now=GONE)

    row.refresh_from_db()
    assert row.payload["data"] == {"object": {"id": "po_1", "object": "charge", "customer": "cus_acme"}}


def test_an_event_that_was_forgotten_still_says_what_to_look_at(acme: Customer):
    row = told("customer.updated", id="cus_acme", object="customer")
    erased(acme)
    row.refresh_from_db()

    assert [subject.id for subject in subjects(row.type, row.payload)] == ["cus_acme"]
