"""The HTTP door: one request in, one answer out, or none when a fault says so."""

import base64
import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.stripe_double import pages, params, plays, routes, shapes
from tests.stripe_double.errors import StripeError, broken, rate_limited, unauthorised
from tests.stripe_double.faults import Fault, Faults
from tests.stripe_double.idempotency import Keys, asked_of
from tests.stripe_double.pages import Reply
from tests.stripe_double.postman import Postman
from tests.stripe_double.state import Request, World, letters

assert plays.MODULES  # imported for the endpoints they bring

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Stripe-Version",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
}


@dataclass
class Incoming:
    method: str
    path: str
    form: dict[str, Any]
    headers: dict[str, str]
    raw: bytes = b""

    @property
    def key(self) -> str:
        """The API key, from a bearer token or as the name of basic authentication."""
        way, _, value = self.headers.get("authorization", "").partition(" ")
        if way.lower() == "basic":
            return base64.b64decode(value).decode().partition(":")[0]
        return value.strip()

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get("idempotency-key") if self.method == "POST" else None


@dataclass
class Server:
    """The state, its one lock, and everything that stands between it and the network."""

    world: World
    secret: str
    file: Path | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    faults: Faults = field(default_factory=Faults)
    keys: Keys = field(default_factory=Keys)
    requests: list[Request] = field(default_factory=list)
    mistakes: list[Exception] = field(default_factory=list)
    postman: Postman = field(init=False)
    control: Any = None  # answers /_double/…
    changed: threading.Event = field(default_factory=threading.Event)  # set after each request: there may be post

    def __post_init__(self) -> None:
        self.postman = Postman(self.lock, self.secret)

    def answer(self, incoming: Incoming) -> Reply | None:
        """None: close the connection without a word."""
        if incoming.method == "OPTIONS":
            return Reply(204, b"", CORS)
        if incoming.path.startswith("/_double/"):
            return self.answer_control(incoming)
        if incoming.path.startswith("/v1/"):
            return self.answer_api(incoming)
        with self.lock:
            reply = pages.answer(self.world, incoming.method, incoming.path, incoming.form)
            self.save()
        return reply

    # -- the API -------------------------------------------------------------------------------------------------------

    def answer_api(self, incoming: Incoming) -> Reply | None:
        shown = {name: value for name, value in incoming.form.items() if name != "card"}
        noted = Request(incoming.method, incoming.path, shown, incoming.idempotency_key)
        with self.lock:
            self.requests.append(noted)
            fault = self.faults.take(incoming.method, incoming.path)
        if fault and fault.kind in {"down", "drop_before"}:
            return None
        identity = f"req_{letters(14)}"
        headers = {"Request-Id": identity, "Stripe-Version": shapes.stripe.api_version, **CORS}
        try:
            status, body = self.execute(incoming, fault, noted, identity, headers)
        except StripeError as error:
            status, body = error.status, error.body
        except Exception as mistake:  # of ours: it must not look like a network that failed
            self.mistakes.append(mistake)
            status, body = 500, {"error": {"type": "api_error", "message": f"The double broke: {mistake!r}"}}
            headers["Stripe-Should-Retry"] = "false"
        if fault and fault.kind == "drop_after":
            return None
        if status == 409:
            headers["Stripe-Should-Retry"] = "true"
        if status == 429 and fault and fault.seconds:
            headers["Retry-After"] = str(int(fault.seconds))
        noted.status = status
        return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})

    def execute(
        self, incoming: Incoming, fault: Fault | None, noted: Request, identity: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status and body, remembered under the idempotency key once the endpoint ran."""
        public = self.authenticate(incoming.key)
        key, asked = incoming.idempotency_key, asked_of(incoming.method, incoming.path, incoming.form)
        if key:
            headers["Idempotency-Key"] = key
            with self.lock:
                remembered = self.keys.begin(self.world, key, asked)
            if remembered:
                noted.replayed = True
                headers["Idempotent-Replayed"] = "true"
                if remembered.status >= 500:
                    headers["Stripe-Should-Retry"] = "false"
                return remembered.status, remembered.body
        try:
            refuse_before(fault)
            with self.lock:
                status, body = self.run(incoming, public, fault, identity)
                if key:
                    self.keys.remember(self.world, key, asked, status, body)
                if incoming.method != "GET":
                    self.save()
        finally:
            if key:
                with self.lock:
                    self.keys.end(key)
        if status >= 500:
            headers["Stripe-Should-Retry"] = "false"
        return status, body

    def authenticate(self, key: str) -> bool:
        """True for the publishable key."""
        if key not in (self.world.key, self.world.publishable_key):
            raise unauthorised(key)
        return key == self.world.publishable_key

    def run(self, incoming: Incoming, public: bool, fault: Fault | None, identity: str) -> tuple[int, dict[str, Any]]:
        """Let the endpoint answer; its refusals are answers too."""
        route, ids = routes.find(incoming.method, incoming.path)
        if public and not route.public:
            message = "This API call cannot be made with a publishable API key. Please use a secret API key."
            raise StripeError(403, "invalid_request_error", message, keep=False)
        call = routes.call_for(self.world, route, ids, dict(incoming.form), public=public)
        self.world.request = (identity, incoming.idempotency_key)
        try:
            body = shapes.view(self.world, route.answer(call), call.given.get("expand"))
            status = 200
        except StripeError as error:
            if not error.keep:
                raise
            status, body = error.status, error.body
        finally:
            self.world.request = (None, None)
        if fault and fault.kind == "fail_after":
            return 500, broken().body
        return status, body

    def save(self) -> None:
        self.changed.set()
        if self.file:
            self.world.save(self.file)

    # -- the control plane ---------------------------------------------------------------------------------------------

    def answer_control(self, incoming: Incoming) -> Reply:
        name = incoming.path.removeprefix("/_double/").strip("/")
        given = json.loads(incoming.raw) if incoming.raw else {}
        try:
            result = self.control.do(name, given)
            status = 200
            self.save()
        except (LookupError, TypeError, ValueError, StripeError) as error:
            result, status = {"error": f"{type(error).__name__}: {error}"}, 400
        return Reply(status, json.dumps(result, default=vars).encode(), {"Content-Type": "application/json", **CORS})


def refuse_before(fault: Fault | None) -> None:
    """Faults that strike before the endpoint runs."""
    if fault is None:
        return
    if fault.kind == "delay":
        fault.wait()
    if fault.kind == "rate_limit":
        raise rate_limited()
    if fault.kind == "error":
        error = broken(fault.status)
        error.body = fault.body or error.body
        raise error


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together
    disable_nagle_algorithm = True
    server: "Web"

    def respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        url = urlsplit(self.path)
        as_json = "json" in (self.headers.get("Content-Type") or "")
        text = "" if as_json else raw.decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            form = params.read_form("&".join(part for part in (url.query, text) if part))
        except StripeError as error:
            self.write(Reply(error.status, json.dumps(error.body).encode(), {"Content-Type": "application/json"}))
            return
        reply = self.server.double.answer(Incoming(self.command, url.path, form, headers, raw if as_json else b""))
        if reply is None:
            self.close_connection = True
            return
        self.write(reply)

    def write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_POST = do_DELETE = do_OPTIONS = do_HEAD = respond  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `requests` keeps what came."""


class Web(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, double: Server) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.double = double

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business; a mistake of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
