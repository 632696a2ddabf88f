"""Facts about money: amounts, dates and documents, each computed by the product's own functions.

A player per operation turns what a vector gives into the product's values, asks the product, and names what it found
by the words of the file. Here the two are compared: whatever the file expects must have been found.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from tests.vectors.money import (
    calendars,
    changes,
    charges,
    credits,
    discounts,
    documents,
    proration,
    rounding,
    wallets,
)
from tests.vectors.money.values import ERRORS, Unplayed, Vector, difference
from tests.vectors.outcome import Outcome

Player = Callable[[Vector], dict[str, Any]]
PLAYERS: dict[str, Player] = {
    name: player
    for topic in (calendars, changes, charges, credits, discounts, documents, proration, rounding, wallets)
    for name, player in topic.PLAYERS.items()
}


def play_file(path: Path, *, area: str | None = None, only: str | None = None) -> Iterator[Outcome]:
    """Every vector of a file; `area` is the beginning of a category, several with commas."""
    areas = tuple(area.split(",")) if area else ("",)
    for raw in json.loads(path.read_text())["vectors"]:
        if raw["category"].startswith(areas) and only in (None, raw["id"]):
            yield play(raw)


def play(raw: dict[str, Any]) -> Outcome:
    """One vector: PASS when all that it expects was found, SKIP when it is none of ours to reproduce."""
    vector = Vector(raw)
    if reason := _skipped(raw):
        return Outcome("SKIP", vector.id, reason)
    player = PLAYERS.get(vector.op)
    if player is None:
        return Outcome("FAIL", vector.id, f"nothing plays {vector.op.replace('_', ' ')}")
    try:
        found = player(vector)
    except ValidationError as refusal:
        found = {"error": refusal}
    except Unplayed as missing:
        return Outcome("FAIL", vector.id, str(missing))
    except Exception as broken:  # one that breaks is told like one that differs, and the others go on
        return Outcome("FAIL", vector.id, f"{type(broken).__name__}: {broken}")
    differs = [told for told in (_compare(vector, name, found) for name in vector.expected) if told]
    return Outcome("FAIL", vector.id, "; ".join(differs)) if differs else Outcome("PASS", vector.id)


def _skipped(raw: dict[str, Any]) -> str:
    if raw.get("other_policy"):
        return "other policy"
    if not raw.get("ours", True):
        return "not ours"
    return "" if raw.get("playable", True) else "not playable"


def _compare(vector: Vector, name: str, found: dict[str, Any]) -> str:
    """What differs in one expected value, in words; empty when nothing does."""
    wanted = vector.expected[name]
    if "error" in found:
        codes = [error.code for error in found["error"].error_list]
        if name == "error" and wanted not in ERRORS:
            return f"we have no name for the error {wanted}"
        refused = name == "error" and set(codes) == {ERRORS[wanted]}
        return "" if refused else f"{name}: refused with {', '.join(map(str, codes))}, expected {wanted}"
    if name not in found:
        return f"{name}: not found, expected {wanted}"
    return difference(name, found[name], wanted, vector.currency)
