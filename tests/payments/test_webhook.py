"""Stripe's webhooks at our door: who may come in, what is kept, and how fast."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from billing_admin.celery import app
from payments.masking import HIDDEN, masked
from payments.models import StripeAccount, StripeEvent, StripeRefusal
from tests.instants import MARCH_1
from tests.payments.inbox_world import ADDRESS, SECRET, made_up, post

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def keys(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test_door", SECRET


@pytest.fixture
def away_queue() -> Iterator[None]:
    """Nobody listens at the queue's address. Its pools are others than those of the queue that all tests share: these
    must not be closed, for kombu remembers a pool by its address and would hand out the closed one."""
    former = app.conf.broker_url, app._pool, app.amqp._producer_pool
    app.conf.broker_url, app._pool, app.amqp._producer_pool = "redis://127.0.0.1:1/0", None, None
    yield
    app.conf.broker_url, app._pool, app.amqp._producer_pool = former


@pytest.fixture
def account() -> StripeAccount:
    return StripeAccount.objects.create(pk=1, stripe_id="acct_ours", livemode=False, connected_at=MARCH_1)


def test_an_event_is_kept_and_answered(client: Client):
    answer = post(client, made_up("invoice.paid", "in_7"))

    assert answer.status_code == 200
    row = StripeEvent.objects.get()
    assert (row.type, row.object_id, row.state) == ("invoice.paid", "in_7", "waiting")
    assert row.happened_at == datetime.fromtimestamp(1_772_323_200, UTC)
    assert row.next_attempt_at == row.received_at


def test_an_event_that_comes_twice_is_kept_once(client: Client):
    codes = [post(client, made_up()).status_code for _ in range(2)]

    assert codes == [200, 200]
    assert StripeEvent.objects.count() == 1


def test_the_answer_takes_one_query(client: Client, django_assert_num_queries: Any):
    """In milliseconds: nothing is asked of Stripe, and nothing of what depends on the event is read."""
    with django_assert_num_queries(1):
        post(client, made_up())


def test_while_the_queue_is_away_an_event_is_kept_and_answered_without_waiting(
    client: Client, django_capture_on_commit_callbacks: Any, away_queue: None
):
    before = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True) as sent:
        answer = post(client, made_up())

    assert (answer.status_code, len(sent)) == (200, 1)
    assert time.monotonic() - before < 1
    assert StripeEvent.objects.get().state == "waiting"


def test_whom_an_event_is_about_is_known_at_once(client: Client):
    about = made_up("invoice.paid", data={"object": {"id": "in_1", "object": "invoice", "customer": "cus_9"}})
    taken_off = {"id": "pm_1", "object": "payment_method", "customer": None}
    post(client, about)
    post(
        client,
        made_up(
            "payment_method.detached", data={"object": taken_off, "previous_attributes": {"customer": {"id": "cus_8"}}}
        ),
    )

    assert set(StripeEvent.objects.values_list("type", "customer")) == {
        ("invoice.paid", "cus_9"),
        ("payment_method.detached", "cus_8"),
    }


# Who may not come in --------------------------------------------------------------------------------------------------


def test_a_wrong_signature_is_refused_and_nothing_is_kept(client: Client):
    answer = post(client, made_up(), secret="whsec_other")

    assert (answer.status_code, answer.content.decode()) == (400, "The signature is not right, or too old.")
    assert not StripeEvent.objects.exists()


@pytest.mark.parametrize("header", ["", "t=1", "v1=abc", "t=now,v1=é", "t=99999999999999999999,v1=00"])
def test_a_signature_that_is_none_is_refused(client: Client, header: str):
    answer = post(client, made_up(), **{"Stripe-Signature": header})

    assert answer.status_code == 400


def test_an_old_signature_is_refused(client: Client):
    """Somebody recorded it."""
    answer = post(client, made_up(), at=time.time() - 600)

    assert answer.status_code == 400


def test_a_signed_body_that_is_no_event_is_refused(client: Client):
    answers = [post(client, body) for body in (b"", b"[]", b"{", b"\xff", b'{"object": "event"}', b'{"id": 3}')]

    assert [answer.status_code for answer in answers] == [400] * 6


def test_an_event_of_the_other_mode_is_refused_and_counted(client: Client):
    answers = [post(client, made_up(livemode=True)) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {400}
    assert not StripeEvent.objects.exists()
    assert StripeRefusal.objects.get(pk="mode").number == 3


def test_an_event_of_another_account_is_refused_and_counted(client: Client, account: StripeAccount):
    answer = post(client, made_up(account="acct_other"))

    assert (answer.status_code, answer.content.decode()) == (400, "This event is of another account.")
    assert not StripeEvent.objects.exists()
    assert StripeRefusal.objects.get().kind == "account"


def test_an_event_that_names_our_own_account_is_kept(client: Client, account: StripeAccount):
    assert post(client, made_up(account="acct_ours")).status_code == 200


def test_refusals_that_nobody_repeated_for_a_month_are_counted_anew(client: Client):
    post(client, made_up(livemode=True))
    StripeRefusal.objects.update(number=70, last_at=datetime.now(UTC) - timedelta(days=31))

    post(client, made_up(livemode=True))

    row = StripeRefusal.objects.get()
    assert (row.number, row.since) == (1, row.last_at)


def test_it_is_posted_to(client: Client):
    assert (client.get(ADDRESS).status_code, client.put(ADDRESS).status_code) == (405, 405)


def test_a_large_body_is_refused(client: Client):
    answer = post(client, made_up(padding="x" * 1_000_001))

    assert answer.status_code == 413
    assert not StripeEvent.objects.exists()


@pytest.mark.parametrize("missing", ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"])
def test_without_keys_there_is_no_such_address(client: Client, settings: Any, missing: str):
    """Without a webhook secret anybody could sign."""
    setattr(settings, missing, "")

    answer = post(client, made_up(), secret="")

    assert (answer.status_code, client.get(ADDRESS).status_code) == (404, 404)


# What is kept of it ---------------------------------------------------------------------------------------------------


def test_secrets_are_not_kept(client: Client):
    thing = {"id": "pi_1", "object": "payment_intent", "client_secret": "pi_1_secret_x", "next": {"secret": "y"}}
    post(client, made_up("payment_intent.succeeded", data={"object": thing}))

    kept = StripeEvent.objects.get().payload["data"]["object"]
    assert (kept["client_secret"], kept["next"], kept["id"]) == (HIDDEN, {"secret": HIDDEN}, "pi_1")


def test_of_a_card_number_the_last_digits_are_kept():
    said = {"note": "card 4242 4242 4242 4242 please", "number": "ACME-0001", "ids": ["4000000000000002", "17"]}

    assert masked(said) == {"note": "card ·· 4242 please", "number": "ACME-0001", "ids": ["·· 0002", "17"]}


def test_numbers_that_are_no_cards_stay():
    said = ["order 1234567890123456", "in_4242424242424242", "2026-03-01 12:00:00 1772323200", 4242424242424242]

    assert masked(said) == said


def test_a_text_that_the_database_cannot_store_is_kept_without_it(client: Client):
    post(client, made_up(note="a\0b"))

    assert StripeEvent.objects.get().payload["note"] == "ab"
