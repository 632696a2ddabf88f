"""The control plane: what a test, or a person, may do to Stripe that no API can."""

import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.stripe_double import clockwork, events, methods, payments, refunds, setups, shapes, subscriptions
from tests.stripe_double.faults import Fault
from tests.stripe_double.postman import Delivery, Receiver
from tests.stripe_double.server import Server, Web
from tests.stripe_double.state import Request, Thing, World

TICK = 5.0  # seconds between two looks at what is due, while the wall clock runs


class Double:
    """A Stripe of one's own on loopback: `StripeClient(double.key, base_addresses={"api": double.url})`.

    Every public method here is also POST /_double/<name> with its arguments as JSON, properties too.
    """

    def __init__(
        self,
        port: int = 0,
        key: str = "sk_test_double",
        webhook_secret: str = "whsec_double",
        file: Path | None = None,
    ) -> None:
        self.key = key
        self.webhook_secret = webhook_secret
        self.port = port
        world = World.load(file, key) if file and file.exists() else World(key)
        self.server = Server(world, webhook_secret, file)
        self.server.control = self
        self.web: Web | None = None
        self.running = False

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> "Double":
        self.web = Web(self.port, self.server)
        self.port = self.web.server_address[1]
        self.world.url = self.url
        self.server.save()  # its account, should nothing else be written before it is killed
        self.running = True
        for work in (lambda: self.web and self.web.serve_forever(0.02), self.deliver_for_ever):
            threading.Thread(target=work, name="stripe-double", daemon=True).start()
        return self

    def stop(self) -> None:
        self.running = False
        self.server.changed.set()
        if self.web:
            self.web.shutdown()
            self.web.server_close()
            self.web = None

    def reset(self) -> None:
        """A new account with nothing in it: no faults, no clock, no receiver."""
        with self.server.lock:
            self.server.world = World(self.key, url=self.url)
            self.server.faults.lift()
            self.server.keys.busy.clear()
            self.server.requests.clear()
            self.server.mistakes.clear()
            self.server.postman.forget()
            self.server.save()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def world(self) -> World:
        return self.server.world

    @property
    def account(self) -> str:
        return self.world.account

    @property
    def publishable_key(self) -> str:
        return self.world.publishable_key

    # -- the clock -----------------------------------------------------------------------------------------------------

    def set_clock(self, now: datetime | str | None) -> None:
        """Stand still at this instant (None: go with the wall clock again). Nothing becomes due by it."""
        if isinstance(now, str):
            now = datetime.fromisoformat(now)
        with self.server.lock:
            self.world.fixed = None if now is None else int(now.timestamp())
            self.world.ahead = 0
            self.server.save()

    def advance(self, to: datetime | str | None = None, **delta: float) -> datetime:
        """Move the clock (`days=1`, `hours=2`, or `to` an instant), doing on the way what is due: renewals, retries."""
        with self.server.lock:
            now = datetime.fromtimestamp(self.world.now(), UTC)
            target = datetime.fromisoformat(to) if isinstance(to, str) else to or now + timedelta(**delta)
            clockwork.advance(self.world, int(target.timestamp()))
            self.server.save()
        self.server.changed.set()
        return target

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def webhooks_to(self, target: str | Receiver | None) -> None:
        """A URL, or a function of (payload, signature) that answers a status; events go there from now on."""
        self.server.postman.to(target)
        self.server.changed.set()

    def hold_webhooks(self, held: bool = True) -> None:
        """Keep events back until `deliver`; with False they flow again."""
        self.server.postman.held = held
        self.server.changed.set()

    def deliver(self, shuffle_seed: int | None = None, duplicate: float = 0.0, drop: float = 0.0) -> Delivery:
        """Hand the waiting events over now; what is refused keeps waiting."""
        return self.server.postman.deliver(self.world, shuffle_seed, duplicate, drop)

    @property
    def pending_events(self) -> list[Thing]:
        """Events no receiver has taken, oldest first."""
        with self.server.lock:
            return [shapes.view(self.world, self.world.things[identity]) for identity in self.world.outbox]

    def signed(self, event: str | Thing) -> tuple[bytes, str]:
        """Payload and Stripe-Signature of an event: by id, or any dict made up by a test. Signed now, by the wall."""
        found = self.world.things[event] if isinstance(event, str) else event
        payload = events.payload_of(self.world, found)
        return payload, events.signature(payload, self.webhook_secret, int(time.time()))

    def deliver_for_ever(self) -> None:
        """The thread that delivers, and while the wall clock runs looks at what is due."""
        last = time.monotonic()
        while self.running:
            try:
                wait = self.server.postman.deliver_next(self.world)
                if self.world.fixed is None and time.monotonic() - last > TICK:
                    last = time.monotonic()
                    with self.server.lock:
                        clockwork.tick(self.world)
            except Exception as mistake:  # a receiver of a test that raised: the fixture raises it again
                self.server.mistakes.append(mistake)
                wait = TICK
            if wait:
                self.server.changed.wait(wait)
                self.server.changed.clear()

    # -- faults and what was seen --------------------------------------------------------------------------------------

    def fault(self, method: str, path: str, kind: str, times: int | None = 1, **more: Any) -> None:
        """Plan one; see `faults.Fault`. `seconds`, `status`, `body` as the kind needs."""
        self.server.faults.plan(Fault(method, path, kind, times, **more))

    def lift(self) -> None:
        """Forget every planned fault; a Stripe that is down comes back."""
        self.server.faults.lift()

    def expire_keys(self) -> None:
        """As if the idempotency keys were older than a day."""
        with self.server.lock:
            self.world.keys.clear()

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    def ledger(self) -> list[dict[str, Any]]:
        """Every successful or pending charge, oldest first: amounts in smallest units, `at` in Unix seconds."""
        with self.server.lock:
            return [
                {
                    "charge": charge["id"],
                    "payment_intent": charge["payment_intent"],
                    "invoice": self.world.things[charge["payment_intent"]].get("_invoice"),
                    "customer": charge["customer"],
                    "amount": charge["amount"],
                    "currency": charge["currency"],
                    "at": charge["created"],
                    "status": charge["status"],
                    "refunded": charge["amount_refunded"],
                }
                for charge in self.world.all("charge")
                if charge["status"] != "failed"
            ]

    def object(self, identity: str, expand: list[str] | None = None) -> Thing:
        """An object as the API would show it."""
        with self.server.lock:
            return shapes.view(self.world, self.world.things[identity], expand)

    def objects(self, kind: str) -> list[Thing]:
        """All of a kind ("invoice", "charge", …), oldest first."""
        with self.server.lock:
            return [shapes.view(self.world, thing) for thing in self.world.all(kind)]

    # -- what people and banks do --------------------------------------------------------------------------------------

    def add_card(self, customer: str, number: str = "4242424242424242", *, default: bool = True) -> str:
        """Attach a test card (or an IBAN, or a test account's number) without any check; the method's id."""
        with self.server.lock:
            owner = self.world.get(customer, "customer")
            method = methods.create_method(self.world, number)
            methods.attach(self.world, method, owner, check=False)
            if default:
                with events.watching(self.world, "customer.updated", owner):
                    owner["invoice_settings"]["default_payment_method"] = method["id"]
            return str(method["id"])

    def authenticate(self, intent: str, *, ok: bool = True) -> Thing:
        """The card's owner answers 3-D Secure for a payment intent or a setup intent."""
        with self.server.lock:
            found = self.world.things[intent]
            if found["status"] != "requires_action":
                raise ValueError(f"{intent} is {found['status']}: nobody asked its owner")
            (setups if found["object"] == "setup_intent" else payments).finish(self.world, found, ok=ok)
            return shapes.view(self.world, found)

    def settle_processing(self, intent: str, *, ok: bool = True) -> Thing:
        """A bank debit arrives or bounces."""
        with self.server.lock:
            payments.settle(self.world, self.world.get(intent, "payment_intent"), ok=ok)
            return self.object(intent)

    def settle_refund(self, refund: str, *, ok: bool = True) -> Thing:
        with self.server.lock:
            refunds.settle_refund(self.world, self.world.get(refund, "refund"), ok=ok)
            return self.object(refund)

    def dispute(self, charge: str, reason: str = "fraudulent", amount: int | None = None) -> Thing:
        with self.server.lock:
            made = refunds.open_dispute(self.world, self.world.get(charge, "charge"), reason, amount)
            return self.object(made["id"])

    def close_dispute(self, dispute: str, *, won: bool) -> Thing:
        with self.server.lock:
            refunds.close_dispute(self.world, self.world.get(dispute, "dispute"), won=won)
            return self.object(dispute)

    def edit(self, identity: str, **fields: Any) -> Thing:
        """Change an object behind everybody's back: no check, no event. `deleted=True` removes it altogether."""
        with self.server.lock:
            thing = self.world.things[identity]
            if fields.pop("deleted", False):
                self.world.forget(thing)
                return {"id": identity, "deleted": True}
            thing.update(fields)
            return self.object(identity)

    def plant(self, kind: str, prefix: str, **fields: Any) -> Thing:
        """An object made up by a test, with nulls where nothing is said; no event."""
        with self.server.lock:
            return self.object(self.world.make(kind, prefix, **fields)["id"])

    def plant_subscription(
        self,
        customer: str,
        price: str,
        quantity: int = 1,
        status: str = "active",
        metadata: dict[str, str] | None = None,
    ) -> Thing:
        """A subscription that was always there: many of them in no time, without invoices or events."""
        with self.server.lock:
            owner, bought = self.world.get(customer, "customer"), self.world.get(price, "price")
            made = subscriptions.plant(self.world, owner, bought, quantity, status, metadata or {})
            return self.object(made["id"])

    def emit(self, kind: str, identity: str) -> Thing:
        """An event of any type about an object."""
        with self.server.lock:
            event = events.emit(self.world, kind, self.world.things[identity])
        self.server.changed.set()
        return event

    # -- over HTTP -----------------------------------------------------------------------------------------------------

    def do(self, name: str, given: dict[str, Any]) -> Any:
        """Answers POST /_double/<name>."""
        if name.startswith("_") or name in {"start", "stop", "do", "world", "deliver_for_ever"}:
            raise LookupError(name)
        if not hasattr(self, name):
            raise LookupError(name)
        found = getattr(self, name)
        result = found(**given) if callable(found) else found
        if isinstance(result, datetime):
            return result.isoformat()
        if isinstance(result, bytes):
            return result.decode()
        if name == "requests":
            return [asdict(each) for each in result]
        return result
