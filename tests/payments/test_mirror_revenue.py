"""Recurring revenue of subscriptions that follow Stripe's."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django.fixtures import Settings as Given

from billing_admin.flows.revenue import Kind, Present, by_currency, held, months, present
from customers.models import Customer, Phase
from payments.gateway import gateway
from tests import builders as a
from tests.instants import APRIL_1, APRIL_16, MARCH_1, MARCH_16, MAY_1
from tests.payments.mirror_world import bring, look, price, product, stripe_customer, subscribe, subscriber, use

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(settings: Given, double: "Double") -> "Double":
    use(settings, double)
    return double


def in_tiers(of: str) -> str:
    tiers = [{"up_to": 10, "unit_amount": 500}, {"up_to": "inf", "unit_amount": 300}]
    recurring = {"interval": "month", "interval_count": 1}
    params = {"product": of, "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    return str(gateway().v1.prices.create({**params, "recurring": recurring}).id)


def moved(now: datetime) -> dict[str, dict[str, int]]:
    return {f"{month.first:%Y-%m}": dict(month.moved) for month in months("USD", now=now, most=6) if month.moved}


def on(made: str, **more: Any) -> Customer:
    who = a.customer()
    subscribe(stripe_customer(who), made, **more)
    bring()
    return who


def test_a_mirrored_subscription_brings_its_price_for_the_quantity():
    who, _ = subscriber(a.allowance(5), quantity=3)

    assert dict(held("USD", MARCH_16)) == {who.pk: 6000}


def test_a_yearly_price_in_stripe_is_a_twelfth_of_it_in_a_month():
    on(price(product(), 24_000, "year"))

    assert by_currency(MARCH_16) == {"USD": 2000}


def test_nothing_of_it_is_asked_for_here():
    on(price(product()))

    assert [(phase.monthly, phase.fees, phase.fees_between) for phase in Phase.objects.all()] == [(2000, 0, 0)]


def test_another_quantity_in_stripe_is_expansion_and_its_end_is_churn(stripe: "Double"):
    _, subscription = subscriber(a.allowance(5), quantity=3)
    item = stripe.object(subscription)["items"]["data"][0]["id"]
    gateway().v1.subscriptions.update(subscription, {"items": [{"id": item, "quantity": 5}]})
    look(subscription, APRIL_16)
    stripe.edit(subscription, status="canceled", ended_at=int(MAY_1.timestamp()))
    look(subscription, MAY_1)

    assert moved(MAY_1) == {
        "2026-03": {Kind.NEW: 6000},
        "2026-04": {Kind.EXPANSION: 4000},
        "2026-05": {Kind.CHURN: -10_000},
    }


def test_it_stands_beside_what_is_billed_here():
    who, _ = subscriber(a.allowance(5))
    a.enable(who, a.pro(50))

    assert dict(held("USD", MARCH_16)) == {who.pk: 7000}


def test_a_trial_in_stripe_brings_nothing_until_it_is_over():
    on(price(product()), trial_end=int(APRIL_1.timestamp()))

    assert (by_currency(MARCH_16), by_currency(APRIL_1)) == ({}, {"USD": 2000})


def test_a_first_payment_that_stripe_waits_for_brings_nothing(stripe: "Double"):
    _, subscription = subscriber(a.allowance(5))
    stripe.edit(subscription, status="incomplete")
    look(subscription, MARCH_1)

    assert by_currency(MARCH_16) == {}


def test_prices_in_tiers_are_not_known_here_so_their_contracts_are_counted_instead():
    on(in_tiers(product()), quantity=12)

    assert (by_currency(MARCH_16), present(MARCH_16)) == ({}, {"USD": Present(0, left_out=1)})


def test_a_price_of_nothing_in_stripe_is_a_known_one():
    on(price(product(), 0))

    assert present(MARCH_16) == {}


def test_contracts_whose_price_is_known_are_not_left_out():
    on(price(product()))
    a.on(a.plan("calls", a.allowance(0, price="0.10")), name="Globex")

    assert present(MARCH_16) == {"USD": Present(2000, left_out=0)}
