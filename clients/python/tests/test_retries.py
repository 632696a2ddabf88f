"""Attempts, pauses and what is raised in the end, at a server that misbehaves."""

import time
from dataclasses import replace
from decimal import Decimal

import pytest

from back_office import (
    BadRequest,
    Conflict,
    Forbidden,
    InsufficientFunds,
    KeyUsedOtherwise,
    LimitReached,
    NotFound,
    RateLimited,
    Retries,
    Unauthorized,
    Unavailable,
    Use,
)
from conftest import QUICK, Make
from misbehaving import ACCESS, EVENT, TRACKED, Misbehaving, dribbles, drops, hangs, says

UNAVAILABLE = {"code": "unavailable", "message": "The database did not answer. Try again."}

# Seconds. A busy machine needs less than that, and whoever did not give up would need more: a server that hangs or
# dribbles does so for ten.
A_WHILE = 8


def test_a_503_is_tried_again(connect: Make) -> None:
    with Misbehaving(says(503, UNAVAILABLE), says(200, ACCESS)) as server:
        access = connect(server.url).check("acme", "credits")

    assert access.remaining == 97
    assert len(server.heard) == 2


def test_a_dropped_connection_is_tried_again_under_the_same_key(connect: Make) -> None:
    """P-33"""
    with Misbehaving(drops, drops, says(200, TRACKED)) as server:
        connect(server.url).track("acme", "credits", 3)

    keys = [heard.body["eventKey"] for heard in server.heard]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_tracks_without_keys_are_two_events(connect: Make) -> None:
    with Misbehaving(says(200, TRACKED)) as server:
        billing = connect(server.url)
        billing.track("acme", "credits")
        billing.track("acme", "credits")

    assert len({heard.body["eventKey"] for heard in server.heard}) == 2


def test_an_answer_that_never_comes_ends_with_the_timeout(connect: Make) -> None:
    impatient = replace(QUICK, timeout=0.2, deadline=60, retries=Retries(attempts=2, base=0.01))
    with Misbehaving(hangs) as server:
        began = time.monotonic()
        with pytest.raises(Unavailable) as refused:
            connect(server.url, impatient).track("acme", "credits", key="job-1")

    assert 0.4 <= time.monotonic() - began < A_WHILE
    assert refused.value.key == "job-1"
    assert len(server.heard) == 2


def test_an_answer_that_trickles_in_ends_with_the_timeout(connect: Make) -> None:
    impatient = replace(QUICK, timeout=0.3, check_deadline=60, retries=Retries(attempts=1))
    with Misbehaving(dribbles) as server:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            connect(server.url, impatient).check("acme", "credits")

    assert time.monotonic() - began < A_WHILE


def test_no_attempt_begins_after_the_deadline(connect: Make) -> None:
    brief = replace(QUICK, timeout=0.5, check_deadline=1.2, retries=Retries(attempts=50, base=0.01))
    with Misbehaving(hangs) as server:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            connect(server.url, brief).check("acme", "credits")

    assert time.monotonic() - began < A_WHILE
    assert 2 <= len(server.heard) <= 3


def test_nobody_at_the_address_is_unavailable(connect: Make) -> None:
    with Misbehaving() as server:
        url = server.url

    with pytest.raises(Unavailable) as refused:
        connect(url).track("acme", "credits")

    assert refused.value.status == 0
    assert len(refused.value.key) == 32


def test_a_429_waits_as_long_as_it_says(connect: Make) -> None:
    limited = {"code": "rate_limited", "message": "Wait."}
    with Misbehaving(says(429, limited, Retry_After="1"), says(200, ACCESS)) as server:
        began = time.monotonic()
        connect(server.url, replace(QUICK, check_deadline=60)).check("acme", "credits")

    assert 1 <= time.monotonic() - began < A_WHILE
    assert len(server.heard) == 2


def test_a_429_that_takes_longer_than_the_call_is_raised_at_once(connect: Make) -> None:
    limited = {"code": "rate_limited", "message": "Wait 40 seconds."}
    with Misbehaving(says(429, limited, Retry_After="40")) as server:
        began = time.monotonic()
        with pytest.raises(RateLimited) as refused:
            connect(server.url).track("acme", "credits")

    assert time.monotonic() - began < A_WHILE
    assert refused.value.retry_after == 40
    assert len(server.heard) == 1


def test_writes_that_met_are_tried_again(connect: Make) -> None:
    met = {"code": "conflict", "message": "Something else was written at the same moment. Try again."}
    with Misbehaving(says(409, met), says(200, TRACKED)) as server:
        connect(server.url).track("acme", "credits")

    assert len(server.heard) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "unknown_field", BadRequest),
        (401, "unauthorized", Unauthorized),
        (403, "forbidden", Forbidden),
        (404, "customer_not_found", NotFound),
        (409, "window_billed", Conflict),
        (409, "limit_reached", LimitReached),
        (409, "insufficient_funds", InsufficientFunds),
        (409, "idempotency_conflict", KeyUsedOtherwise),
    ],
)
def test_a_refusal_is_raised_by_its_code_and_not_repeated(
    connect_blocking: Make, status: int, code: str, kind: type[Exception]
) -> None:
    said = {"code": code, "message": "No.", "field": "featureSlug", "errors": [{"code": code, "message": "No."}]}
    with Misbehaving(says(status, said)) as server:
        with pytest.raises(kind) as refused:
            connect_blocking(server.url).track("acme", "credits")

    assert type(refused.value) is kind
    assert (refused.value.code, refused.value.status, refused.value.field) == (code, status, "featureSlug")
    assert len(server.heard) == 1


def test_a_page_of_a_proxy_in_the_place_of_an_answer_is_an_outage(connect: Make) -> None:
    with Misbehaving(says(502, b"<h1>Bad gateway</h1>", Content_Type="text/html")) as server:
        with pytest.raises(Unavailable) as refused:
            connect(server.url).balances("acme")

    assert refused.value.status == 502
    assert len(server.heard) == 3


@pytest.mark.parametrize("content", [b"<h1>Welcome</h1>", b"[]", b'{"data": 7}', b'{"featureSlug": "credits"}'])
def test_an_answer_of_another_shape_is_an_outage_and_not_repeated(connect_blocking: Make, content: bytes) -> None:
    with Misbehaving(says(200, content)) as server:
        with pytest.raises(Unavailable) as refused:
            connect_blocking(server.url).check("acme", "credits")

    assert refused.value.code == "unreadable_answer"
    assert len(server.heard) == 1


def test_a_redirect_is_not_followed_with_the_key(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS)) as elsewhere:
        with Misbehaving(says(302, {}, Location=elsewhere.url)) as server:
            with pytest.raises(Unavailable):
                connect(server.url).check("acme", "credits")

    assert not elsewhere.heard


def test_a_name_of_dots_does_not_lead_elsewhere(connect: Make) -> None:
    with Misbehaving(says(200, {"data": []})) as server:
        with pytest.raises(ValueError, match="not an id"):
            connect(server.url).balances("..")
        connect(server.url).balances("a/../b c?d")

    assert server.heard[0].path == "/api/v1/customers/a%2F..%2Fb%20c%3Fd/balances"


@pytest.mark.parametrize(("url", "key"), [("billing.example.com", "bk_1"), ("http://", "bk_1"), ("http://a", "bk 1\n")])
def test_an_address_or_a_key_that_cannot_be_right_is_refused_at_once(url: str, key: str, connect: Make) -> None:
    with pytest.raises(ValueError, match="is not"):
        connect(url, QUICK, key)


def test_the_key_is_not_in_what_is_shown(connect_blocking: Make) -> None:
    with Misbehaving(drops) as server:
        billing = connect_blocking(server.url, QUICK, "bk_secret")
        with pytest.raises(Unavailable) as refused:
            billing.check("acme", "credits")

    assert "bk_secret" not in repr(refused.value) + repr(billing) + str(vars(billing))
    assert server.heard[0].headers["authorization"] == "Bearer bk_secret"


def test_pauses_grow_and_are_a_random_part() -> None:
    retries, error = Retries(attempts=6, base=0.1, most=0.5), Unavailable("away")

    longest = [retries.pause(n, error, left=9, dice=1.0) for n in range(1, 7)]

    assert longest == [0.1, 0.2, 0.4, 0.5, 0.5, None]
    assert retries.pause(3, error, left=9, dice=0.25) == pytest.approx(0.1)
    assert retries.pause(3, error, left=0.05, dice=0.25) is None


def test_numbers_go_out_exactly(connect: Make) -> None:
    with Misbehaving(says(200, TRACKED)) as server:
        billing = connect(server.url)
        billing.track("acme", "credits", Decimal("0.000001"))
        billing.track("acme", "credits", Decimal("3.000"))

    assert [heard.body["value"] for heard in server.heard] == ["0.000001", 3]


def test_two_attempts_of_a_grant_bear_one_key(connect: Make) -> None:
    with Misbehaving(drops, says(400, {"code": "x", "message": "x"})) as server:
        with pytest.raises(BadRequest):
            connect(server.url).create_grant("acme", "credits", 50, reason="outage")

    first, second = (heard.body["idempotencyKey"] for heard in server.heard)
    assert first == second


def test_two_attempts_of_a_revocation_bear_one_idempotency_key(connect: Make) -> None:
    with Misbehaving(drops, says(400, {"code": "x", "message": "x"})) as server:
        with pytest.raises(BadRequest):
            connect(server.url).revoke_override("fov_1", reason="done")

    first, second = (heard.headers["idempotency-key"] for heard in server.heard)
    assert first == second


def test_the_keys_of_a_batch_without_an_answer_are_told(connect: Make) -> None:
    with Misbehaving(drops) as server:
        with pytest.raises(Unavailable) as refused:
            connect(server.url).track_batch([Use("acme", "credits", 3, key="job-1"), Use("acme", "credits")])

    sent = [[event["eventKey"] for event in heard.body["events"]] for heard in server.heard]
    assert sent == [list(refused.value.keys)] * 3
    assert refused.value.keys[0] == "job-1"


def test_items_of_a_batch_have_errors_of_their_own(connect: Make) -> None:
    """P-35"""
    denied = {"code": "limit_reached", "message": "0 left."}
    unknown = {"code": "customer_not_found", "message": "Nobody.", "field": "customerId"}
    items = [
        {"applied": True, "event": EVENT, "error": None, "remaining": 97, "hasReachedLimit": False},
        {"applied": False, "event": None, "error": denied, "remaining": 0, "hasReachedLimit": True},
        {"applied": False, "event": None, "error": unknown, "remaining": None, "hasReachedLimit": None},
        {"applied": False, "event": EVENT, "error": None, "remaining": 97, "hasReachedLimit": False},
        {"applied": False, "error": UNAVAILABLE},
    ]
    uses = [
        Use("acme", "credits"),
        Use("acme", "credits"),
        Use("nobody", "credits"),
        Use("acme", "credits", key="job-4"),
        Use("acme", "credits", key="job-5"),
    ]
    with Misbehaving(says(200, {"data": items})) as server:
        told = connect(server.url).track_batch(uses)

    assert [item.applied for item in told] == [True, False, False, False, False]
    assert [type(item.error) for item in told] == [type(None), LimitReached, NotFound, type(None), Unavailable]
    assert [item.remaining for item in told] == [97, 0, None, 97, None]
    assert told[4].error.key == "job-5"
