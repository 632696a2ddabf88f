"""Delivers events as signed webhooks, in order and again until they are taken; or held back, to be dealt out."""

import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.stripe_double.events import payload_of, signature
from tests.stripe_double.state import Thing, World

PATIENCE = 8  # tries
FIRST_WAIT = 0.2  # seconds, doubled after each try

# Takes the payload and its Stripe-Signature, answers an HTTP status.
Receiver = Callable[[bytes, str], int]


@dataclass
class Delivery:
    """What `deliver` did: ids of events, `taken` in the order they went out, duplicates included."""

    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


class Postman:
    def __init__(self, lock: threading.RLock, secret: str) -> None:
        self.lock = lock
        self.secret = secret
        self.receiver: Receiver | None = None
        self.held = False
        self.tries: dict[str, int] = {}
        self.later: dict[str, float] = {}  # event → when it may be tried again, on the monotonic clock

    def to(self, target: str | Receiver | None) -> None:
        self.receiver = http_receiver(target) if isinstance(target, str) else target

    # -- by itself -----------------------------------------------------------------------------------------------------

    def next(self, world: World) -> tuple[Thing, Receiver] | None:
        """The oldest waiting event whose next try is due; one that is refused does not hold up the others."""
        with self.lock:
            if self.held or self.receiver is None:
                return None
            now = time.monotonic()
            due = (identity for identity in world.outbox if self.later.get(identity, 0) <= now)
            identity = next(due, None)
            return (world.things[identity], self.receiver) if identity else None

    def deliver_next(self, world: World) -> float:
        """Try one event; seconds to wait before looking again (0: go on at once)."""
        found = self.next(world)
        if found is None:
            return FIRST_WAIT
        event, receiver = found
        if not self.hand_over(world, event, receiver):
            self.try_later(world, event)
        return 0.0

    def try_later(self, world: World, event: Thing) -> None:
        tries = self.tries[event["id"]] = self.tries.get(event["id"], 0) + 1
        self.later[event["id"]] = time.monotonic() + FIRST_WAIT * 2 ** (tries - 1)
        if tries >= PATIENCE:
            self.took(world, event, delivered=False)

    def hand_over(self, world: World, event: Thing, receiver: Receiver) -> bool:
        """Post it; True when the receiver answered with a 2xx."""
        with self.lock:
            payload = payload_of(world, event)
            header = signature(payload, self.secret, int(time.time()))  # the SDK compares with the wall clock
        taken = 200 <= receiver(payload, header) < 300
        if taken:
            self.took(world, event)
        return taken

    def took(self, world: World, event: Thing, *, delivered: bool = True) -> None:
        with self.lock:
            if event["id"] in world.outbox:
                world.outbox.remove(event["id"])
            if delivered:
                event["pending_webhooks"] = 0

    def forget(self) -> None:
        """As new: no receiver, nothing held, nothing tried."""
        self.receiver, self.held = None, False
        self.tries.clear()
        self.later.clear()

    # -- dealt out -----------------------------------------------------------------------------------------------------

    def deliver(self, world: World, shuffle_seed: int | None, duplicate: float, drop: float) -> Delivery:
        """Hand over what waits, once each; shuffled by the seed, some twice, some never (shares between 0 and 1)."""
        chance = random.Random(shuffle_seed or 0)
        with self.lock:
            waiting = [world.things[identity] for identity in world.outbox]
        delivery, receiver = Delivery(), self.receiver
        if receiver is None:
            raise ValueError("Nobody receives webhooks: say webhooks_to(…) first.")
        batch: list[Thing] = []
        for event in waiting:
            if chance.random() < drop:
                self.took(world, event, delivered=False)
                delivery.dropped.append(event["id"])
                continue
            batch += [event, event] if chance.random() < duplicate else [event]
        if shuffle_seed is not None:
            chance.shuffle(batch)
        for event in batch:
            taken = self.hand_over(world, event, receiver)
            (delivery.taken if taken else delivery.refused).append(event["id"])
        return delivery


def http_receiver(url: str) -> Receiver:
    def post(payload: bytes, header: str) -> int:
        request = urllib.request.Request(  # noqa: S310 - the address comes from who runs the double
            url,
            payload,
            {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": header, "User-Agent": "Stripe/1.0"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            return refusal.code
        except OSError:
            return 0

    return post
