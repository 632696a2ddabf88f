"""What the door reads it reads as Django does; of what Django would refuse it reads nothing."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from billing_admin.api.parser import exact
from billing_admin.api.shapes import as_number
from billing_admin.api.usage import CheckIn, TrackIn
from billing_admin.hot.answers import number
from billing_admin.hot.asks import read_check, read_check_address, read_track

NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20),
    st.decimals(-(10**19), 10**19, places=6).map(float),
    st.sampled_from([0, -0.0, 0.1, 1e-7, 1.0000001, 12345678901234567, True, None, "3", []]),
)
TEXTS = st.one_of(
    st.sampled_from(["acme", "cus_1", "a b", "", "ä", "x" * 121, "a\u0000", "credits", "Credits"]), st.text(max_size=8)
)
PROPERTIES = st.dictionaries(st.text(max_size=4), st.one_of(TEXTS, NUMBERS), max_size=3)
TRACKS = st.fixed_dictionaries(
    {"customerId": TEXTS, "featureSlug": TEXTS},
    optional={
        "value": NUMBERS,
        "eventKey": TEXTS,
        "idempotency_key": TEXTS,
        "mode": st.sampled_from(["reject", "cap", "overflow", "other", 1]),
        "properties": PROPERTIES,
        "autoCreate": st.booleans(),
        "at": st.just("2026-03-01T00:00:00Z"),
        "nonsense": st.just(1),
    },
)
CHECKS = st.fixed_dictionaries({"customerId": TEXTS, "featureSlug": TEXTS}, optional={"required": NUMBERS})


@given(TRACKS)
def test_an_event_is_read_as_django_reads_it_or_not_at_all(body: dict[str, Any]):
    """L-39"""
    read = read_track(json.dumps(body).encode())
    if read is None:
        return

    meant = TrackIn.model_validate(exactly(body))
    assert (read.customer, read.feature, read.amount, read.key) == (
        meant.customer_id,
        meant.feature_slug,
        meant.value,
        meant.event_key,
    )
    assert (str(read.mode), read.properties) == (meant.mode, meant.properties)


@given(CHECKS)
def test_a_check_is_read_as_django_reads_it_or_not_at_all(body: dict[str, Any]):
    read = read_check(json.dumps(body).encode())
    if read is None:
        return

    meant = CheckIn.model_validate(exactly(body))
    assert (read.customer, read.feature, read.required) == (meant.customer_id, meant.feature_slug, meant.required)


@given(st.text(max_size=20), st.text(max_size=20))
def test_texts_that_are_no_events_are_left_to_django(customer: str, feature: str):
    body = {"customerId": customer, "featureSlug": feature}
    read = read_track(json.dumps(body).encode())
    if read is None:
        return

    assert TrackIn.model_validate(body).customer_id == customer


def test_an_address_names_everything_once():
    assert read_check_address(b"customerId=acme&featureSlug=credits&required=2.5").required == Decimal("2.5")
    assert read_check_address(b"customerId=acme&featureSlug=credits&featureSlug=sso") is None
    assert read_check_address(b"customerId=acme") is None
    assert read_check_address(b"customerId=acme&featureSlug=credits&required=-1") is None
    assert read_check_address(b"customerId=acme&featureSlug=credits&explain=1") is None


def test_the_header_may_carry_the_key():
    body = json.dumps({"customerId": "acme", "featureSlug": "credits"}).encode()

    assert read_track(body, "from the header").key == "from the header"


def test_broken_bodies_are_left_to_django():
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"customerId": NaN}',
        b"\xff",
        b'{"customerId":"a","featureSlug":"b","x":1}',
    ):
        assert read_check(body) is None
        assert read_track(body) is None


@given(st.decimals(-(10**24), 10**24, places=6, allow_nan=False, allow_infinity=False))
def test_numbers_are_shown_as_django_shows_them(value: Decimal):
    shown, expected = number(value), as_number(value)

    assert (type(shown), shown) == (type(expected), expected)


def exactly(body: dict[str, Any]) -> Any:
    try:
        return json.loads(json.dumps(body), parse_float=exact)
    except (ValueError, ValidationError) as error:
        raise AssertionError(f"read, but not JSON: {body}") from error
