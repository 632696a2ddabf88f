"""Every change becomes an event with a snapshot, which the postman delivers as a signed webhook."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stripe import api_version

from tests.stripe_double import shapes
from tests.stripe_double.errors import missing
from tests.stripe_double.lists import page
from tests.stripe_double.routes import Call, endpoint
from tests.stripe_double.state import Thing, World

KEPT = 30 * 24 * 3600  # seconds: older events are gone


def emit(world: World, kind: str, thing: Thing, previous: Thing | None = None) -> Thing:
    """Store the event `kind` about the thing as it is now; `previous` holds the old values of an update."""
    data: dict[str, Any] = {"object": shapes.view(world, thing)}
    if previous is not None:
        data["previous_attributes"] = previous
    request, key = world.request
    event = world.make(
        "event",
        "evt",
        api_version=api_version,
        data=data,
        pending_webhooks=1,
        request={"id": request, "idempotency_key": key},
        type=kind,
    )
    world.outbox.append(event["id"])
    return event


@contextmanager
def watching(world: World, kind: str, thing: Thing, *, always: bool = True) -> Iterator[None]:
    """Emit `kind` with what the block changed; with `always` False only if something changed."""
    before = shapes.view(world, thing)
    yield
    after = shapes.view(world, thing)
    previous = {name: before.get(name) for name in after if before.get(name) != after[name]}
    if previous or always:
        emit(world, kind, thing, previous)


def payload_of(world: World, event: Thing) -> bytes:
    return json.dumps(shapes.view(world, event)).encode()


def signature(payload: bytes, secret: str, at: int) -> str:
    """The Stripe-Signature header: an HMAC-SHA256 over "time.payload"."""
    signed = f"{at}.".encode() + payload
    return f"t={at},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


@endpoint("GET", "/v1/events")
def list_events(call: Call) -> Thing:
    oldest = call.world.now() - KEPT
    events = [event for event in call.world.newest("event") if event["created"] >= oldest]
    if wanted := call.given.get("types") or [call.given[name] for name in ("type",) if name in call.given]:
        events = [event for event in events if any(matches(event["type"], each) for each in wanted)]
    if "delivery_success" in call.given:
        events = [event for event in events if (event["pending_webhooks"] == 0) == call.given["delivery_success"]]
    return page(call, events, "/v1/events")


def matches(kind: str, wanted: str) -> bool:
    return kind == wanted or (wanted.endswith("*") and kind.startswith(wanted[:-1]))


@endpoint("GET", "/v1/events/{}")
def retrieve_event(call: Call) -> Thing:
    event = call.world.get(call.id, "event")
    if event["created"] < call.world.now() - KEPT:
        raise missing("event", call.id)
    return event
