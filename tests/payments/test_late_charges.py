"""An invoice that comes to Stripe long after it was due is charged like one whose days have passed: once."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings as Given

from billing_admin.flows import stripe_collect, stripe_customers
from customers.journal import Actor
from invoicing.account import change_settings
from payments.models import StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
FINANCE = Actor("finance")
SAVED_AND_DECLINED = "4000000000000341"


@pytest.fixture
def overdue(settings: Given, double: "Double") -> StripeInvoice:
    """Due on the first of March, handed to Stripe ten days later; retries on days 3, 7 and 14."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_URL = double.key, double.url
    change_settings(actor=FINANCE, now=MARCH_1, retry_days=[3, 7, 14, 21])
    who = a.customer()
    a.enable(who, a.pro())
    late = MARCH_1 + timedelta(days=10)
    double.set_clock(late)
    row = stripe_collect.start(who.invoices.get(), actor=FINANCE, now=late)
    there = stripe_customers.ensure(who, late)
    double.add_card(there.stripe_id, SAVED_AND_DECLINED)
    stripe_customers.refresh_customer(there.stripe_id, late)
    return row


def tries(double: "Double") -> int:
    return sum(charge["status"] == "failed" for charge in double.objects("charge"))


def test_days_that_passed_are_not_made_up_for(double: "Double", overdue: StripeInvoice):
    late = MARCH_1 + timedelta(days=10)

    row = stripe_collect.collect_one(overdue, late)

    assert tries(double) == 1
    assert row.next_attempt_at == MARCH_1 + timedelta(days=14)


def test_the_next_day_for_retries_is_kept(double: "Double", overdue: StripeInvoice):
    row = stripe_collect.collect_one(overdue, MARCH_1 + timedelta(days=10))

    row = stripe_collect.collect_one(row, MARCH_1 + timedelta(days=14))

    assert (tries(double), row.next_attempt_at) == (2, None)
