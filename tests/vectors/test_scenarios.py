import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.scenarios import play

VECTORS = json.loads((Path(__file__).parent / "scenarios.json").read_text())["vectors"]


@pytest.mark.django_db
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_the_product_reproduces_the_facts(vector: dict[str, Any]) -> None:
    outcome = play(vector)

    assert outcome.verdict == "PASS" or outcome.reason.startswith("later"), outcome


def test_most_facts_need_nothing_that_is_still_missing(db: None) -> None:
    skipped = [outcome.id for outcome in map(play, VECTORS) if outcome.verdict == "SKIP"]

    assert len(skipped) <= 12, skipped
