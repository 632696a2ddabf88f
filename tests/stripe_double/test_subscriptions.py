"""Subscriptions begin, renew, fall behind and end as the clock moves."""

from datetime import UTC, datetime

import pytest
import stripe

from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1
from tests.stripe_double.conftest import Shop

VISA = "4242424242424242"


def subscribe(shop: Shop, customer: stripe.Customer, price: stripe.Price, **more: object) -> stripe.Subscription:
    return shop.api.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id, "quantity": 2}], **more}
    )


def period_end(subscription: stripe.Subscription) -> datetime:
    return datetime.fromtimestamp(subscription["items"].data[0].current_period_end, UTC)


def test_a_subscription_is_active_once_its_first_invoice_is_paid(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(VISA), shop.price())

    assert (subscription.status, period_end(subscription)) == ("active", APRIL_1)
    invoice = shop.api.invoices.retrieve(subscription.latest_invoice)
    assert (invoice.status, invoice.total, invoice.billing_reason) == ("paid", 10_000, "subscription_create")
    assert invoice.parent.subscription_details.subscription == subscription.id


def test_it_renews_when_its_period_ends(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(VISA), shop.price())

    shop.double.advance(to=datetime(2026, 4, 1, 2, tzinfo=UTC))

    assert period_end(shop.api.subscriptions.retrieve(subscription.id)) == MAY_1
    assert [entry["amount"] for entry in shop.double.ledger()] == [10_000, 10_000]
    found = shop.api.invoices.list({"subscription": subscription.id})
    assert [invoice.billing_reason for invoice in found.data] == ["subscription_cycle", "subscription_create"]


def test_a_renewal_that_fails_puts_it_behind_and_a_payment_brings_it_back(shop: Shop) -> None:
    customer = shop.customer(VISA)
    subscription = subscribe(shop, customer, shop.price())
    shop.double.add_card(customer.id, "4000000000000341")

    shop.double.advance(to=datetime(2026, 4, 1, 2, tzinfo=UTC))
    behind = shop.api.subscriptions.retrieve(subscription.id)
    assert behind.status == "past_due"
    shop.api.invoices.pay(behind.latest_invoice, {"payment_method": shop.double.add_card(customer.id)})

    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"


def test_a_trial_costs_nothing_and_ends_in_a_paid_period(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(VISA), shop.price(), trial_period_days=14)
    assert (subscription.status, shop.double.ledger()) == ("trialing", [])

    shop.double.advance(to=MARCH_16)

    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    assert "customer.subscription.trial_will_end" in shop.types()
    assert len(shop.double.ledger()) == 1


def test_a_trial_without_a_card_may_pause(shop: Shop) -> None:
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    customer = shop.customer()
    subscription = subscribe(shop, customer, shop.price(), trial_period_days=14, trial_settings=settings)
    shop.double.advance(to=MARCH_16)
    assert shop.api.subscriptions.retrieve(subscription.id).status == "paused"
    shop.double.add_card(customer.id)

    assert shop.api.subscriptions.resume(subscription.id).status == "active"


def test_a_paused_subscription_does_not_renew(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(VISA), shop.price())

    assert shop.api.subscriptions.pause(subscription.id).status == "paused"
    shop.double.advance(days=40)
    assert len(shop.double.ledger()) == 1
    resumed = shop.api.subscriptions.resume(subscription.id)

    assert period_end(resumed) == datetime(2026, 5, 10, tzinfo=UTC)  # a month from the tenth of April
    shop.double.advance(hours=2)
    assert len(shop.double.ledger()) == 2


def test_a_first_payment_that_never_comes_ends_it_within_a_day(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(), shop.price(), payment_behavior="default_incomplete")
    assert subscription.status == "incomplete"

    shop.double.advance(days=1)

    assert shop.api.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert shop.api.invoices.retrieve(subscription.latest_invoice).status == "void"


def test_more_seats_in_the_middle_are_charged_by_the_second(shop: Shop) -> None:
    subscription = subscribe(shop, shop.customer(VISA), shop.price())
    shop.double.advance(to=datetime(2026, 3, 16, 12, tzinfo=UTC))  # half of March

    changed = shop.api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": subscription["items"].data[0].id, "quantity": 4}],
            "proration_behavior": "always_invoice",
            "expand": ["latest_invoice"],
        },
    )

    # 4 × 50 - 2 × 50 for half a month
    assert (changed.latest_invoice.total, changed.latest_invoice.status) == (5000, "paid")


def test_it_ends_now_or_with_its_period(shop: Shop) -> None:
    customer, price = shop.customer(VISA), shop.price()
    now, later = subscribe(shop, customer, price), subscribe(shop, customer, price)

    assert shop.api.subscriptions.cancel(now.id).status == "canceled"
    shop.api.subscriptions.update(later.id, {"cancel_at_period_end": True})
    shop.double.advance(to=APRIL_1)

    assert shop.api.subscriptions.retrieve(later.id).status == "canceled"
    assert shop.types().count("customer.subscription.deleted") == 2
    assert shop.api.subscriptions.list().data == []
    assert len(shop.api.subscriptions.list({"status": "all", "customer": customer.id}).data) == 2


def test_without_a_way_to_pay_it_does_not_begin(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        subscribe(shop, shop.customer(), shop.price())


def test_an_inactive_price_is_refused(shop: Shop) -> None:
    price = shop.price(active=False)

    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        subscribe(shop, shop.customer(VISA), price)


@pytest.mark.parametrize(("mode", "total"), [("graduated", 1100), ("volume", 600)])
def test_tiers_are_graduated_or_by_volume(shop: Shop, mode: str, total: int) -> None:
    product = shop.api.products.create({"name": "Calls"})
    price = shop.api.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "recurring": {"interval": "month"},
            "billing_scheme": "tiered",
            "tiers_mode": mode,
            "tiers": [{"up_to": 10, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}],
            "expand": ["tiers"],
        }
    )
    assert [tier.up_to for tier in price.tiers] == [10, None]

    subscription = shop.api.subscriptions.create(
        {
            "customer": shop.customer(VISA).id,
            "items": [{"price": price.id, "quantity": 12}],
            "expand": ["latest_invoice"],
        }
    )

    # graduated: 10 × 1.00 + 2 × 0.50; by volume: 12 × 0.50
    assert subscription.latest_invoice.total == total


def test_the_31st_comes_back_after_a_short_month(shop: Shop) -> None:
    shop.double.set_clock(datetime(2026, 1, 31, tzinfo=UTC))
    subscription = subscribe(shop, shop.customer(VISA), shop.price())
    ends = [period_end(subscription)]
    for _ in range(2):
        shop.double.advance(to=ends[-1])
        ends.append(period_end(shop.api.subscriptions.retrieve(subscription.id)))

    assert [(end.month, end.day) for end in ends] == [(2, 28), (3, 31), (4, 30)]


def test_products_and_prices_are_listed_and_retired(shop: Shop) -> None:
    price = shop.price()
    shop.api.prices.update(price.id, {"active": False})

    assert shop.api.prices.list({"product": price.product, "active": True}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="has one or more"):
        shop.api.products.delete(price.product)
    assert shop.api.products.retrieve(price.product).created == int(MARCH_1.timestamp())
