"""What a check answers while the service is away; and that a track never pretends."""

import pytest

from back_office import NotFound, Settings, Unavailable
from back_office.retries import Retries
from conftest import QUICK, Make
from misbehaving import ACCESS, Misbehaving, drops, says

BRIEF = Retries(attempts=2, base=0.01)
OPEN = Settings(timeout=0.5, retries=BRIEF, on_outage="open")
CLOSED = Settings(timeout=0.5, retries=BRIEF, on_outage="closed")


def test_open_lets_everybody_in_and_says_so(connect: Make) -> None:
    with Misbehaving(drops) as server:
        access = connect(server.url, OPEN).check("acme", "credits", required=3)

    assert (access.allowed, access.has_access, access.source) == (True, True, "fail_open")
    assert (access.reason, access.required, access.remaining) == ("unavailable", 3, None)


def test_closed_lets_nobody_in_and_says_so(connect: Make) -> None:
    with Misbehaving(says(503)) as server:
        access = connect(server.url, CLOSED).check("acme", "credits")

    assert (access.allowed, access.source) == (False, "fail_closed")


def test_otherwise_an_outage_is_raised(connect: Make) -> None:
    with Misbehaving(drops) as server, pytest.raises(Unavailable):
        connect(server.url).check("acme", "credits")


def test_one_call_may_choose_otherwise(connect: Make) -> None:
    with Misbehaving(drops) as server:
        access = connect(server.url, CLOSED).check("acme", "credits", on_outage="open")

    assert access.allowed


def test_a_key_without_calls_left_is_an_outage_for_a_check(connect: Make) -> None:
    with Misbehaving(says(429, Retry_After="40")) as server:
        assert connect(server.url, OPEN).check("acme", "credits").source == "fail_open"


def test_a_mistake_is_no_outage(connect: Make) -> None:
    said = {"code": "customer_not_found", "message": "There is no customer 'acmee'."}
    with Misbehaving(says(404, said)) as server, pytest.raises(NotFound):
        connect(server.url, OPEN).check("acmee", "credits")


def test_many_features_are_let_in_at_once(connect: Make) -> None:
    with Misbehaving(drops) as server:
        answers = connect(server.url, OPEN).check_many("acme", ["credits", "sso"])

    assert {feature: access.source for feature, access in answers.items()} == {
        "credits": "fail_open",
        "sso": "fail_open",
    }


def test_what_the_client_said_itself_is_not_remembered(connect: Make) -> None:
    with Misbehaving(drops, drops, says(200, ACCESS)) as server:
        billing = connect(server.url, Settings(timeout=0.5, retries=BRIEF, on_outage="open", max_age=60))
        billing.check("acme", "credits")
        access = billing.check("acme", "credits")

    assert access.source == "plan"


def test_a_track_is_never_let_through(connect: Make) -> None:
    with Misbehaving(drops) as server, pytest.raises(Unavailable):
        connect(server.url, OPEN).track("acme", "credits")


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"timeout": 0}, {"deadline": -1}, {"max_age": -1}, {"cache_size": 0}):
        with pytest.raises(ValueError, match="seconds"):
            Settings(**wrong)
    assert QUICK.on_outage == "raise"
