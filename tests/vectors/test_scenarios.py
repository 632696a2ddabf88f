import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.scenarios import is_parallel, play

VECTORS = json.loads((Path(__file__).parent / "scenarios.json").read_text())["vectors"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if not is_parallel(vector)], ids=lambda vector: vector["id"]
)
def test_the_product_reproduces_the_facts(vector: dict[str, Any]) -> None:
    """All of them: none waits for something that is still missing."""
    outcome = play(vector)

    assert outcome.verdict == "PASS", outcome


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("vector", list(filter(is_parallel, VECTORS)), ids=lambda vector: vector["id"])
def test_the_product_reproduces_what_several_do_at_once(vector: dict[str, Any]) -> None:
    """A-36"""
    outcome = play(vector)

    assert outcome.verdict == "PASS", outcome
