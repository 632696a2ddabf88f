"""Keys, faults, pages of a list, events and their webhooks."""

import threading
from typing import Any

import pytest
import stripe

from tests.stripe_double.conftest import Shop

VISA = "4242424242424242"


# -- idempotency keys --------------------------------------------------------------------------------------------------


def test_the_same_key_and_parameters_give_the_first_answer_again(shop: Shop) -> None:
    given = {"name": "Acme"}, {"idempotency_key": "acme-1"}

    first, again = shop.api.customers.create(*given), shop.api.customers.create(*given)

    assert first.id == again.id
    assert [request.replayed for request in shop.double.requests] == [False, True]
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


def test_the_same_key_with_other_parameters_is_an_error(shop: Shop) -> None:
    shop.api.customers.create({"name": "Acme"}, {"idempotency_key": "acme-1"})

    with pytest.raises(stripe.IdempotencyError):
        shop.api.customers.create({"name": "Bravo"}, {"idempotency_key": "acme-1"})


def test_a_decline_is_remembered_too(shop: Shop) -> None:
    customer = shop.customer("4000000000000341")
    invoice = shop.open(customer, 5000)
    key = {"idempotency_key": "pay-1"}
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            shop.api.invoices.pay(invoice.id, {}, key)
        shop.double.add_card(customer.id)  # the key still answers for the first attempt

    shop.double.expire_keys()

    assert shop.api.invoices.pay(invoice.id, {}, key).status == "paid"


def test_a_request_that_was_never_understood_is_not_remembered(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.customers.create({"nam": "Acme"}, {"idempotency_key": "acme-1"})

    assert shop.api.customers.create({"name": "Acme"}, {"idempotency_key": "acme-1"}).name == "Acme"


def test_a_key_in_use_is_a_conflict(shop: Shop) -> None:
    shop.double.fault("POST", "/v1/customers", "delay", seconds=0.3)
    slow = threading.Thread(target=shop.api.customers.create, args=({}, {"idempotency_key": "acme-1"}))
    slow.start()
    while not shop.double.server.keys.busy:
        pass

    with pytest.raises(stripe.StripeError) as conflict:
        shop.api.customers.create({}, {"idempotency_key": "acme-1"})

    assert (conflict.value.http_status, conflict.value.error.code) == (409, "idempotency_key_in_use")
    slow.join()


def test_a_key_lives_for_a_day(shop: Shop) -> None:
    first = shop.api.customers.create({"name": "Acme"}, {"idempotency_key": "acme-1"})
    shop.double.advance(days=1)

    assert shop.api.customers.create({"name": "Bravo"}, {"idempotency_key": "acme-1"}).id != first.id


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error", "charges"),
    [
        ("error", stripe.APIError, 0),
        ("fail_after", stripe.APIError, 1),
        ("drop_before", stripe.APIConnectionError, 0),
        ("drop_after", stripe.APIConnectionError, 1),
        ("rate_limit", stripe.RateLimitError, 0),
        ("down", stripe.APIConnectionError, 0),
    ],
)
def test_a_fault_strikes_before_or_after_the_effect(
    shop: Shop, kind: str, error: type[Exception], charges: int
) -> None:
    invoice = shop.open(shop.customer(VISA), 5000)
    shop.double.fault("POST", "/v1/invoices/*/pay", kind)

    with pytest.raises(error):
        shop.api.invoices.pay(invoice.id, {}, {"idempotency_key": "pay-1"})
    shop.double.lift()

    assert len(shop.double.ledger()) == charges


@pytest.mark.parametrize("kind", ["error", "drop_before", "drop_after", "rate_limit"])
def test_a_retry_with_the_key_after_a_fault_charges_once(shop: Shop, kind: str) -> None:
    invoice = shop.open(shop.customer(VISA), 5000)
    shop.double.fault("POST", "/v1/invoices/*/pay", kind)
    with pytest.raises(stripe.StripeError):
        shop.api.invoices.pay(invoice.id, {}, {"idempotency_key": "pay-1"})

    assert shop.api.invoices.pay(invoice.id, {}, {"idempotency_key": "pay-1"}).status == "paid"
    assert len(shop.double.ledger()) == 1


def test_a_failure_after_the_effect_is_all_the_key_will_ever_say(shop: Shop) -> None:
    invoice = shop.open(shop.customer(VISA), 5000)
    shop.double.fault("POST", "/v1/invoices/*/pay", "fail_after")

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            shop.api.invoices.pay(invoice.id, {}, {"idempotency_key": "pay-1"})

    assert shop.api.invoices.retrieve(invoice.id).status == "paid"


def test_a_double_that_is_down_comes_back(shop: Shop) -> None:
    shop.double.fault("*", "/v1/**", "down")
    for _ in range(2):
        with pytest.raises(stripe.APIConnectionError):
            shop.api.customers.list()

    shop.double.lift()

    assert shop.api.customers.list().data == []


# -- pages of a list ---------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_paged_by_cursor(shop: Shop) -> None:
    ids = [shop.customer().id for _ in range(5)]

    first = shop.api.customers.list({"limit": 2})
    second = shop.api.customers.list({"limit": 2, "starting_after": first.data[-1].id})
    back = shop.api.customers.list({"limit": 2, "ending_before": second.data[0].id})

    assert [each.id for each in first.data + second.data] == ids[:0:-1]
    assert (first.has_more, back.data[0].id, back.has_more) == (True, ids[4], False)
    assert [each.id for each in shop.api.customers.list({"limit": 2}).auto_paging_iter()] == ids[::-1]


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_has_one_to_a_hundred(shop: Shop, limit: int) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.customers.list({"limit": limit})


def test_lists_are_filtered_by_time_and_email(shop: Shop) -> None:
    early = shop.customer(email="early@acme.test")
    shop.double.advance(days=1)
    late = shop.customer(email="late@acme.test")

    since = shop.api.customers.list({"created": {"gt": early.created}})
    by_mail = shop.api.customers.list({"email": "early@acme.test"})

    assert ([each.id for each in since.data], [each.id for each in by_mail.data]) == ([late.id], [early.id])


# -- events and webhooks -----------------------------------------------------------------------------------------------


class Inbox:
    """A receiver that verifies as our own endpoint would; it refuses the first `failures` deliveries."""

    def __init__(self, secret: str, failures: int = 0) -> None:
        self.secret, self.failures = secret, failures
        self.got: list[Any] = []

    def __call__(self, payload: bytes, signature: str) -> int:
        event = stripe.Webhook.construct_event(payload, signature, self.secret)
        if self.failures:
            self.failures -= 1
            return 500
        self.got.append(event)
        return 200


def test_a_webhook_carries_a_signature_that_the_sdk_verifies(shop: Shop) -> None:
    inbox = Inbox(shop.double.webhook_secret)
    shop.double.hold_webhooks()
    shop.double.webhooks_to(inbox)
    customer = shop.customer()

    shop.double.deliver()

    assert [(event.type, event.data.object.id) for event in inbox.got] == [("customer.created", customer.id)]
    payload, signature = shop.double.signed(inbox.got[0].id)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(payload, signature, "whsec_other")


def test_an_update_tells_what_was_before(shop: Shop) -> None:
    customer = shop.customer()
    shop.api.customers.update(customer.id, {"name": "Bravo"})

    event = shop.api.events.list({"type": "customer.updated"}).data[0]

    assert (event.data.object["name"], event.data.previous_attributes["name"]) == ("Bravo", "Acme")


def test_a_webhook_that_was_refused_comes_again(shop: Shop) -> None:
    inbox = Inbox(shop.double.webhook_secret, failures=1)
    shop.double.hold_webhooks()
    shop.double.webhooks_to(inbox)
    shop.customer()

    refused = shop.double.deliver()
    assert (len(refused.refused), len(shop.double.pending_events)) == (1, 1)
    shop.double.deliver()

    assert (len(inbox.got), shop.double.pending_events) == (1, [])


def test_webhooks_flow_by_themselves_and_again_until_they_are_taken(shop: Shop) -> None:
    inbox = Inbox(shop.double.webhook_secret, failures=1)
    shop.double.webhooks_to(inbox)
    shop.customer()

    wait_until(lambda: inbox.got)

    assert [event.type for event in inbox.got] == ["customer.created"]


def wait_until(condition: Any) -> None:
    patience = threading.Event()
    for _ in range(300):
        if condition():
            return
        patience.wait(0.01)


def test_held_webhooks_are_dealt_out_shuffled_doubled_and_dropped(shop: Shop) -> None:
    inbox = Inbox(shop.double.webhook_secret)
    shop.double.hold_webhooks()
    shop.double.webhooks_to(inbox)
    ids = [shop.customer().id for _ in range(40)]

    delivery = shop.double.deliver(shuffle_seed=7, duplicate=0.2, drop=0.1)

    got = [event.data.object.id for event in inbox.got]
    assert got != sorted(got, key=ids.index)
    assert len(set(got)) + len(delivery.dropped) == 40
    assert len(got) > len(set(got))
    assert len(shop.api.events.list({"limit": 100}).data) == 40


def test_events_are_kept_for_thirty_days(shop: Shop) -> None:
    shop.customer()
    event = shop.api.events.list().data[0]
    shop.double.advance(days=31)

    assert shop.api.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.events.retrieve(event.id)


def test_events_are_listed_by_types_and_range(shop: Shop) -> None:
    shop.paid(shop.customer(VISA), 5000)

    found = shop.api.events.list({"types": ["invoice.paid", "charge.succeeded"], "created": {"gte": 0}})

    assert [event.type for event in found.data] == ["invoice.paid", "charge.succeeded"]
