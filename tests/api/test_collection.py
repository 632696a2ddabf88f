"""Pause and resume the collection of a subscription by API."""

import pytest

from tests import builders as a

pytestmark = pytest.mark.django_db


def test_collection_is_paused_and_resumed(api) -> None:
    """Pause of collection: keep_as_draft, void, mark_uncollectible."""
    contract = a.the_subscription(a.on(a.pro()))
    where = f"subscriptions/{contract.public_id}/collection"

    paused = api.post(f"{where}/pause", {"behavior": "void", "resumesAt": "2099-01-01T00:00:00Z", "reason": "dispute"})
    contract.refresh_from_db()

    assert (paused.status, paused["operation"]["verb"]) == (200, "collection.paused")
    assert contract.collection_behavior == "void"
    assert api.post(f"{where}/resume", {}).status == 200
    again = api.post(f"{where}/resume", {})
    assert (again.status, again["code"]) == (409, "not_paused")


def test_a_pause_says_how_and_why(api) -> None:
    where = f"subscriptions/{a.the_subscription(a.on(a.pro())).public_id}/collection/pause"

    how = api.post(where, {"behavior": "forget", "reason": "dispute"})
    why = api.post(where, {"behavior": "void"})

    assert (how.status, how["code"]) == (400, "bad_behavior")
    assert (why.status, why["code"]) == (400, "reason_required")
