import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.scenarios import is_parallel, play

VECTORS = json.loads((Path(__file__).parent / "scenarios.json").read_text())["vectors"]


ALONE = [vector for vector in VECTORS if not is_parallel(vector)]


@pytest.mark.django_db
@pytest.mark.parametrize("vector", ALONE, ids=lambda vector: vector["id"])
def test_the_product_reproduces_the_facts(vector: dict[str, Any]) -> None:
    outcome = play(vector)

    assert outcome.verdict == "PASS" or outcome.reason.startswith("later"), outcome


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("vector", list(filter(is_parallel, VECTORS)), ids=lambda vector: vector["id"])
def test_the_product_reproduces_what_several_do_at_once(vector: dict[str, Any]) -> None:
    """A-36"""
    outcome = play(vector)

    assert outcome.verdict == "PASS", outcome


def test_most_facts_need_nothing_that_is_still_missing(db: None) -> None:
    skipped = [outcome.id for outcome in map(play, ALONE) if outcome.verdict == "SKIP"]

    assert len(skipped) <= 4, skipped
