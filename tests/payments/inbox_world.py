"""Stripe's double as our Stripe, and the postman's way to our door."""

import hashlib
import hmac
import json
import time
from datetime import datetime
from typing import Any

import time_machine
from django.test import Client

from payments.models import StripeEvent
from tests.stripe_double import Double
from tests.stripe_double.postman import Receiver

ADDRESS = "/stripe/webhook"
SECRET = "whsec_double"


def use(settings: Any, double: Double) -> None:
    """Point our settings at the double."""
    settings.STRIPE_SECRET_KEY = double.key
    settings.STRIPE_API_URL = double.url
    settings.STRIPE_WEBHOOK_SECRET = double.webhook_secret
    settings.STRIPE_TIMEOUT = 2.0


def made_up(type_: str = "invoice.paid", object_id: str = "in_1", **more: Any) -> dict[str, Any]:
    """An event as Stripe words them; `object` replaces what it is about."""
    kind = type_.split(".")[0]
    event = {
        "id": f"evt_{type_}_{object_id}",
        "object": "event",
        "type": type_,
        "created": 1_772_323_200,
        "livemode": False,
        "data": {"object": {"id": object_id, "object": kind}},
    }
    return event | more


def post(
    client: Client, event: dict[str, Any] | bytes, *, secret: str = SECRET, at: float | None = None, **headers: str
) -> Any:
    """What Stripe does."""
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + payload, hashlib.sha256).hexdigest()
    signed = {"Stripe-Signature": f"t={stamp},v1={digest}"} | headers
    return client.post(ADDRESS, payload, content_type="application/json", headers=signed)


def door(at: datetime) -> Receiver:
    """For the double's own postman: whatever it sends comes to our door at this instant."""

    def receive(payload: bytes, _signature: str) -> int:
        with time_machine.travel(at, tick=False):
            return int(post(Client(), payload, at=at.timestamp()).status_code)

    return receive


def event(type_: str = "invoice.paid", object_id: str = "in_1", *, at: datetime, **values: Any) -> StripeEvent:
    """A row of the inbox that waits since the instant."""
    given = {"stripe_id": f"evt_{StripeEvent.objects.count()}", "payload": made_up(type_, object_id)}
    given |= {"happened_at": at, "received_at": at, "next_attempt_at": at} | values
    return StripeEvent.objects.create(type=type_, object_id=object_id, **given)
