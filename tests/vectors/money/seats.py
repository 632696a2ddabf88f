"""Levels that are paid ahead: what is held now, and what is held from the next period."""

from typing import Any

from tests.vectors.money.values import Unplayed, Vector


def licences(vector: Vector) -> dict[str, Any]:
    raise Unplayed("written later")


PLAYERS: dict[str, Any] = {}
