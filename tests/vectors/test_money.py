import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.money import PLAYERS, play, play_file

FILE = Path(__file__).parent / "money.json"
VECTORS = json.loads(FILE.read_text())["vectors"]
PLAYED = [vector for vector in VECTORS if not vector["id"].startswith("skip.")]


@pytest.mark.django_db
@pytest.mark.parametrize("vector", PLAYED, ids=lambda vector: vector["id"])
def test_the_product_reproduces_the_facts(vector: dict[str, Any]) -> None:
    outcome = play(vector)

    assert outcome.verdict == "PASS", outcome


@pytest.mark.django_db
@pytest.mark.parametrize("vector", PLAYED, ids=lambda vector: vector["id"])
def test_each_expected_value_is_compared(vector: dict[str, Any]) -> None:
    ours = [name for name in vector["expected"] if name != "half_even"]  # of another mode: only that it is not ours
    for name in ours:
        altered = deepcopy(vector)
        altered["expected"][name] = another(vector["expected"][name])

        assert play(altered).verdict == "FAIL", name


def another(value: Any) -> Any:
    """The same kind of value, but not this one."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str() if value.lstrip("-.").replace(".", "").isdigit():
            return f"{value}1" if "." in value else f"{value}.01"
        case str():
            return f"{value}+1/7" if "/" in value else f"not {value}"
        case list():
            return [another(value[0]), *value[1:]]
        case dict():
            first, *_ = value
            return value | {first: another(value[first])}
    return "something"


def test_what_is_not_ours_is_skipped_with_its_reason() -> None:
    told = {vector["id"]: play(vector) for vector in VECTORS if vector["id"].startswith("skip.")}

    assert {outcome.reason for outcome in told.values()} == {"other policy", "not ours", "not playable"}
    assert {outcome.verdict for outcome in told.values()} == {"SKIP"}


def test_a_value_that_nothing_found_fails() -> None:
    vector = {
        "id": "rounding",
        "category": "round.line",
        "policy": {},
        "currency": {"code": "USD", "exponent": 2},
        "setup": {"amount": "1"},
        "action": {"op": "round"},
        "expected": {"amount": "1.00", "weather": "fine"},
    }

    assert str(play(vector)) == "FAIL rounding weather: not found, expected fine"


def test_an_operation_that_nobody_plays_fails() -> None:
    vector = VECTORS[0] | {"action": {"op": "juggle"}}

    assert str(play(vector)) == f"FAIL {vector['id']} nothing plays juggle"


def test_every_operation_has_a_fact_of_our_own() -> None:
    rules_only = {"consume_order"}  # an order in words; ours is none of the others

    assert {vector["action"]["op"] for vector in PLAYED} == set(PLAYERS) - rules_only


@pytest.mark.django_db
def test_areas_are_beginnings_of_categories() -> None:
    told = [outcome.id for outcome in play_file(FILE, area="round,tax.inclusive")]

    assert {id.split(".")[0] for id in told} == {"round", "document"}
