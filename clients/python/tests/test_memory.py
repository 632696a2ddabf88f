"""Remembered checks: how old they may be, what makes them forgotten, and how many there are."""

import threading
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from back_office import Unavailable
from back_office.access import Access
from back_office.cache import AccessCache
from conftest import QUICK, Make
from misbehaving import ACCESS, TRACKED, Behaviour, Misbehaving, drops, says

CREDITS = ("acme", "credits")
ONE = Decimal(1)
REMEMBERING = replace(QUICK, max_age=60)


def access(remaining: int = 97) -> Access:
    return Access.of(ACCESS | {"remaining": remaining})


def filled(cache: AccessCache, place: tuple[str, str] = CREDITS, *, required: Decimal = ONE, now: float = 0) -> None:
    question = cache.ask(place, required)
    cache.keep(question, access(), now=now)
    cache.forget(question)


def test_nothing_is_remembered_unless_asked_for(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS)) as server:
        billing = connect(server.url)
        billing.check("acme", "credits")
        billing.check("acme", "credits")

    assert len(server.heard) == 2


def test_a_remembered_answer_says_how_old_it_is(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS)) as server:
        billing = connect(server.url, REMEMBERING)
        fresh = billing.check("acme", "credits")
        time.sleep(0.1)
        remembered = billing.check("acme", "credits")

    assert fresh.age == 0
    assert 0.1 <= remembered.age < 5
    assert replace(remembered, age=0.0) == fresh
    assert len(server.heard) == 1


def test_an_answer_too_old_is_asked_for_again() -> None:
    cache = AccessCache(10)
    filled(cache, now=100)

    assert cache.find(CREDITS, ONE, max_age=5, now=104.9) == access().aged(pytest.approx(4.9))
    assert cache.find(CREDITS, ONE, max_age=5, now=105) is None


def test_one_call_may_ask_for_the_present(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS)) as server:
        billing = connect(server.url, REMEMBERING)
        billing.check("acme", "credits")
        billing.check("acme", "credits", max_age=0)

    assert len(server.heard) == 2


def test_another_number_of_units_is_another_question(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS)) as server:
        billing = connect(server.url, REMEMBERING)
        billing.check("acme", "credits", required=1)
        billing.check("acme", "credits", required=50)
        billing.check("acme", "credits", required=Decimal("1.0"))

    assert len(server.heard) == 2


def test_a_track_of_ours_makes_its_feature_forgotten_and_no_other(connect: Make) -> None:
    with Misbehaving(answers_by_path) as server:
        billing = connect(server.url, REMEMBERING)
        billing.check("acme", "credits")
        billing.check("acme", "credits", required=5)
        billing.check("acme", "calls")
        billing.track("acme", "credits")
        before = len(server.heard)
        billing.check("acme", "calls")
        assert len(server.heard) == before
        billing.check("acme", "credits")
        billing.check("acme", "credits", required=5)

    assert len(server.heard) == before + 2


def test_a_track_without_an_answer_makes_it_forgotten_too(connect: Make) -> None:
    with Misbehaving(says(200, ACCESS), drops, drops, drops, says(200, ACCESS)) as server:
        billing = connect(server.url, REMEMBERING)
        billing.check("acme", "credits")
        with pytest.raises(Unavailable):
            billing.track("acme", "credits")
        billing.check("acme", "credits")

    assert len(server.heard) == 5


def test_an_answer_that_a_track_overtook_is_given_but_not_remembered(connect_blocking: Make) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answers_late(connection: object, heard: object) -> None:
        asked.set()
        go_on.wait(5)
        says(200, ACCESS)(connection, heard)

    with Misbehaving(answers_late, says(200, TRACKED), says(200, ACCESS | {"remaining": 94})) as server:
        billing = connect_blocking(server.url, replace(REMEMBERING, timeout=5))
        early: list[Access] = []
        checking = threading.Thread(target=lambda: early.append(billing.check("acme", "credits")))
        checking.start()
        asked.wait(5)
        billing.track("acme", "credits", 3)
        go_on.set()
        checking.join(5)
        later = billing.check("acme", "credits")

    assert (early[0].remaining, later.remaining) == (97, 94)


def test_of_many_features_only_the_unknown_are_asked_for(connect: Make) -> None:
    """L-44"""
    with Misbehaving(answers_by_path) as server:
        billing = connect(server.url, REMEMBERING)
        billing.check("acme", "credits")
        answers = billing.check_many("acme", ["sso", "credits", "calls", "sso"])

    assert list(answers) == ["sso", "credits", "calls"]
    assert server.heard[1].body["featureSlugs"] == ["sso", "calls"]
    assert answers["credits"].age > 0


def test_only_so_many_answers_are_kept_the_oldest_goes_first() -> None:
    cache = AccessCache(2)
    filled(cache, ("acme", "a"))
    filled(cache, ("acme", "b"))
    cache.find(("acme", "a"), ONE, max_age=9, now=1)
    filled(cache, ("acme", "c"))

    assert len(cache) == 2
    assert cache.find(("acme", "b"), ONE, max_age=9, now=1) is None
    assert cache.find(("acme", "a"), ONE, max_age=9, now=1) is not None
    cache.drop(("acme", "a"))
    cache.drop(("acme", "b"))
    assert len(cache) == 1


def test_forgetting_everything_forgets_what_is_on_its_way() -> None:
    cache = AccessCache(2)
    filled(cache)
    question = cache.ask(CREDITS, ONE)
    cache.drop_all()
    cache.keep(question, access(), now=0)
    cache.forget(question)

    assert len(cache) == 0
    assert not cache._asking


def answers_by_path(connection: object, heard: object) -> None:
    behaviour: Behaviour = says(200, TRACKED)
    if heard.path.endswith("/check"):
        features = heard.body.get("featureSlugs")
        one = ACCESS | {"featureSlug": heard.body.get("featureSlug")}
        behaviour = says(200, {"data": [ACCESS | {"featureSlug": f} for f in features]} if features else one)
    behaviour(connection, heard)
