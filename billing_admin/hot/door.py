"""The door in front of Django: plain checks and tracks are answered here, everything else goes through.

The door reads a request only far enough to see that it is of the plain kind. Whatever it is not sure of it hands to
Django with the same bytes, so that errors and rare cases have one implementation. Nothing of what it hands over was
counted before.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.http.request import validate_host
from psycopg.conninfo import make_conninfo

from billing_admin.api.usage import CHECK, TRACK
from billing_admin.hot.asgi import App, Message, Receive, Scope, Send
from billing_admin.hot.asks import (
    BatchAsk,
    CheckAsk,
    CheckBody,
    TrackAsk,
    TrackBody,
    read_batch,
    read_check,
    read_check_address,
    read_track,
)
from billing_admin.hot.callers import LASTS as CALLERS_LAST
from billing_admin.hot.callers import KnownCaller, read_caller
from billing_admin.hot.checks import STATEMENT, Checks
from billing_admin.hot.features import LASTS as FEATURES_LAST
from billing_admin.hot.features import KnownFeature, read_feature
from billing_admin.hot.holdings import STATEMENTS as HELD_STATEMENTS
from billing_admin.hot.holdings import Holding, HoldingAsk, Holdings
from billing_admin.hot.kept import Kept
from billing_admin.hot.limits import Limits
from billing_admin.hot.lines import Line
from billing_admin.hot.replies import Instead, Reply
from billing_admin.hot.tracks import STATEMENTS, Tracks
from billing_admin.hot.wire import Wire
from catalog.terms import METERED

log = structlog.get_logger("billing_admin.hot")

CHECK_PATH, TRACK_PATH, BATCH_PATH = "/api/v1/check", "/api/v1/track", "/api/v1/track/batch"
PATHS = {CHECK_PATH, TRACK_PATH, BATCH_PATH}
LARGEST_BODY = 1024 * 1024
Headers = dict[bytes, bytes]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Door:
    """An ASGI application in front of another."""

    def __init__(self, django: App, clock: Callable[[], datetime] = utc_now) -> None:
        self._django = django
        self._clock = clock
        self._desk: Desk | None = None
        self._if_secure = strict_transport()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"] in PATHS:
            await self._answer(scope, receive, send)
        else:
            await self._django(with_one_cookie(scope), again([], receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._desk = Desk(self._clock)
                await self._desk.open()
            elif self._desk is not None:
                await self._desk.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        desk, method, path = self._desk, scope["method"], scope["path"]
        if desk is None or not may_enter(scope, headers):
            await self._django(with_one_cookie(scope), again([], receive), send)
            return
        if method == "GET" and path == CHECK_PATH:
            reply = await desk.check(headers, read_check_address(scope["query_string"]))
            read: list[Message] = []
        elif method == "POST" and not scope["query_string"]:
            body, read = await read_body(receive)
            if body is None:
                reply = None
            elif path == CHECK_PATH:
                reply = await desk.check(headers, read_check(body))
            elif path == TRACK_PATH:
                reply = await desk.track(headers, read_track(body, idempotency_key(headers)))
            else:
                reply = await desk.track_all(headers, read_batch(body, idempotency_key(headers)))
        else:
            reply, read = None, []
        if reply is None:
            await self._django(with_one_cookie(scope), again(read, receive), send)
            return
        secure = self._if_secure if self._if_secure and is_secure(scope, headers) else []
        await send({"type": "http.response.start", "status": reply[0], "headers": reply[1] + secure})
        await send({"type": "http.response.body", "body": reply[2]})


Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
UNAVAILABLE = b'{"code": "unavailable", "message": "The database did not answer. Try again."}'


class Desk:
    """What one process keeps to answer checks and tracks. None for an answer means: ask Django."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        # Readings that are not of the hot path: holdings, keys, features, the common counters.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="hot")
        self._callers: Kept[bytes, KnownCaller] = Kept(self._executor, read_caller, lasts=CALLERS_LAST)
        self._features: Kept[str, KnownFeature] = Kept(self._executor, read_feature, lasts=FEATURES_LAST)
        self._holdings = Holdings(self._executor)
        self._limits = Limits(self._executor)
        self._headers = standing_headers()
        checks, tracks = Checks(self._callers.clear), Tracks(self._callers.clear)
        self._checks: Line[CheckAsk] = Line(
            checks.carry_out,
            opener({"check": STATEMENT}),
            refuse,
            wires=settings.HOT_CHECK_CONNECTIONS,
            most=settings.HOT_BATCH,
        )
        self._tracks: Line[TrackAsk] = Line(
            tracks.carry_out, opener(STATEMENTS), refuse, wires=settings.HOT_TRACK_CONNECTIONS, most=settings.HOT_BATCH
        )

        self._batches: Line[BatchAsk] = Line(
            tracks.carry_out_whole, opener(STATEMENTS), refuse, wires=settings.HOT_BATCH_CONNECTIONS, most=1
        )
        self._readings: Line[HoldingAsk] = Line(
            self._holdings.carry_out, opener(HELD_STATEMENTS), refuse, wires=1, most=settings.HOT_BATCH
        )

    async def open(self) -> None:
        """Connect, and let the collector of garbage forget what lives as long as the process."""
        gc.collect()
        gc.freeze()
        self._watching = asyncio.get_running_loop().create_task(self._holdings.watch_names())
        await self._readings.warm()
        await self._checks.warm()
        await self._tracks.warm()

    async def close(self) -> None:
        self._watching.cancel()
        await self._checks.close()
        await self._tracks.close()
        await self._batches.close()
        await self._readings.close()
        self._executor.shutdown(wait=False)

    async def check(self, headers: Headers, body: CheckBody | None) -> Answer | None:
        """May they? None for what is not of the plain kind."""
        if body is None:
            return None

        def put(
            caller: KnownCaller, holding: Holding, feature: KnownFeature, now: datetime
        ) -> "asyncio.Future[Reply] | None":
            if feature.moves_in_time:
                return None
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._checks.put(CheckAsk(caller.key_id, holding, feature, body.required, now, answer))
            return answer

        return await self._asked(headers, CHECK, body, put)

    async def track(self, headers: Headers, body: TrackBody | None) -> Answer | None:
        """They did. None for what is not of the plain kind; then nothing was counted."""
        if body is None:
            return None

        def put(
            caller: KnownCaller, holding: Holding, feature: KnownFeature, now: datetime
        ) -> "asyncio.Future[Reply] | None":
            if not is_counted_plainly(feature):
                return None
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._tracks.put(TrackAsk(caller.key_id, holding, feature, body, now, answer))
            return answer

        return await self._asked(headers, TRACK, body, put)

    async def track_all(self, headers: Headers, bodies: list[TrackBody] | None) -> Answer | None:
        """Many events of one call: all of them, or None and nothing counted."""
        if bodies is None:
            return None
        now = self._clock()
        try:
            caller = await self._caller(headers)
            if caller is None or TRACK not in caller.permissions or not self._limits.would_pass(caller.public_id, now):
                return None
            for _ in range(2):
                answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
                events = await self._events(caller, bodies, now, answer)
                if events is None:
                    return None
                self._batches.put(BatchAsk(caller.key_id, events, answer))
                reply = await answer
                if reply is not Instead.AGAIN:
                    return self._answer(caller, reply, now)
                for event in events:
                    self._holdings.forget(event.body.customer, event.holding)
        except DatabaseError as error:
            log.warning("readings failed", cause=str(error))
        return None

    async def _events(
        self, caller: KnownCaller, bodies: list[TrackBody], now: datetime, answer: "asyncio.Future[Reply]"
    ) -> list[TrackAsk] | None:
        """With what is known of each; None when any of them is not of the plain kind."""
        features: dict[str, KnownFeature] = {}
        for slug in {body.feature for body in bodies}:
            feature = self._features.get(slug) or await self._features.fetch(slug)
            if feature is None or not is_counted_plainly(feature):
                return None
            features[slug] = feature
        held = {name: self._holdings.get(name) for name in {body.customer for body in bodies}}
        unmet = [name for name, holding in held.items() if holding is None]
        held.update(zip(unmet, await asyncio.gather(*(self._held(name, now) for name in unmet)), strict=True))
        events = []
        for body in bodies:
            holding = held[body.customer]
            if holding is None:
                return None
            events.append(TrackAsk(caller.key_id, holding, features[body.feature], body, now, answer))
        return events

    async def _asked(
        self,
        headers: Headers,
        needs: str,
        body: CheckBody | TrackBody,
        put: Callable[[KnownCaller, Holding, KnownFeature, datetime], "asyncio.Future[Reply] | None"],
    ) -> Answer | None:
        now = self._clock()
        try:
            caller = await self._caller(headers)
            if caller is None or needs not in caller.permissions or not self._limits.would_pass(caller.public_id, now):
                return None
            feature = self._features.get(body.feature) or await self._features.fetch(body.feature)
            if feature is None:
                return None
            for _ in range(2):  # what was kept of a customer may be out of date, what was just read hardly
                holding = self._holdings.get(body.customer) or await self._held(body.customer, now)
                answer = None if holding is None else put(caller, holding, feature, now)
                if holding is None or answer is None:
                    return None
                reply = await answer
                if reply is Instead.AGAIN:
                    self._holdings.forget(body.customer, holding)
                    continue
                return self._answer(caller, reply, now)
        except DatabaseError as error:
            log.warning("readings failed", cause=str(error))
        return None

    async def _held(self, name: str, now: datetime) -> Holding | None:
        answer: asyncio.Future[Holding | Instead | None] = asyncio.get_running_loop().create_future()
        self._readings.put(HoldingAsk(name, now, answer))
        found = await answer
        return found if isinstance(found, Holding) else None  # without a database Django says so

    async def _caller(self, headers: Headers) -> KnownCaller | None:
        authorization = headers.get(b"authorization")
        if authorization is None:
            return None
        return self._callers.get(authorization) or await self._callers.fetch(authorization)

    def _answer(self, caller: KnownCaller, reply: Reply, now: datetime) -> Answer | None:
        if isinstance(reply, bytes):
            status, body = 200, reply
        elif reply is Instead.AWAY:
            status, body = 503, UNAVAILABLE
        else:
            return None
        counted = self._limits.count(caller.public_id, now)
        return status, [*self._headers, (b"content-length", b"%d" % len(body)), *counted], body


def is_counted_plainly(feature: KnownFeature) -> bool:
    """Units as they are reported: no level, which is billed, and nothing that a meter makes of them."""
    return feature.terms.type == METERED and not feature.terms.is_allocated and not feature.has_rule


def refuse(asks: list[Any], instead: Instead) -> None:
    """Nothing was counted of these."""
    for ask in asks:
        if not ask.answer.done():
            ask.answer.set_result(instead)


def opener(statements: dict[str, str]) -> Callable[[], Awaitable[Wire]]:
    async def open_wire() -> Wire:
        return await Wire.open(conninfo(), statements, timeout=settings.HOT_TIMEOUT)

    return open_wire


def conninfo() -> str:
    """Where Django's own connections go; what is only for Django is left out."""
    database = settings.DATABASES["default"]
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    given = {name: database.get(key) or None for name, key in names.items()}
    options = {name: value for name, value in database["OPTIONS"].items() if name.startswith(("ssl", "keepalives"))}
    return make_conninfo("", **given, **options)


def standing_headers() -> list[tuple[bytes, bytes]]:
    """What Django's middleware says of every answer, by the same settings."""
    found = {
        "content-type": "application/json; charset=utf-8",
        "x-frame-options": settings.X_FRAME_OPTIONS,
        "x-content-type-options": "nosniff" if settings.SECURE_CONTENT_TYPE_NOSNIFF else None,
        "referrer-policy": settings.SECURE_REFERRER_POLICY,
        "cross-origin-opener-policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
    }
    return [(name.encode(), value.encode()) for name, value in found.items() if value]


def strict_transport() -> list[tuple[bytes, bytes]]:
    """What it says beside that over HTTPS."""
    if not settings.SECURE_HSTS_SECONDS:
        return []
    subdomains = "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    preload = "; preload" if settings.SECURE_HSTS_PRELOAD else ""
    return [(b"strict-transport-security", f"max-age={settings.SECURE_HSTS_SECONDS}{subdomains}{preload}".encode())]


# Requests ------------------------------------------------------------------------------------------------------------


def may_enter(scope: Scope, headers: Headers) -> bool:
    """Whether Django's own middleware would let it through as it is: a known host, over HTTPS where that is asked."""
    if settings.SECURE_SSL_REDIRECT and not is_secure(scope, headers):
        return False
    host = headers.get(b"host", b"").decode("latin-1")
    name = host if host.startswith("[") and host.endswith("]") else host.rpartition(":")[0] or host
    return validate_host(name.lower(), settings.ALLOWED_HOSTS)


def is_secure(scope: Scope, headers: Headers) -> bool:
    if settings.SECURE_PROXY_SSL_HEADER:
        name, secure = settings.SECURE_PROXY_SSL_HEADER
        given = headers.get(name.removeprefix("HTTP_").lower().replace("_", "-").encode())
        if given is not None:
            return given.decode("latin-1").split(",")[0].strip() == secure
    return bool(scope["scheme"] == "https")


def idempotency_key(headers: Headers) -> str | None:
    key = headers.get(b"idempotency-key")
    return None if key is None else key.decode("latin-1")


async def read_body(receive: Receive) -> tuple[bytes | None, list[Message]]:
    """The whole body, and the messages it came in; None for one that is too large to be of the plain kind."""
    read: list[Message] = []
    size = 0
    while True:
        message = await receive()
        read.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or size > LARGEST_BODY:
            return None, read
        if not message.get("more_body"):
            return b"".join(message["body"] for message in read), read


def again(read: list[Message], receive: Receive) -> Receive:
    """What was read already, once more, and then the rest."""
    waiting = iter(read)

    async def receive_again() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return receive_again


def with_one_cookie(scope: Scope) -> Scope:
    """HTTP/2 may send cookies one by one; Django wants them in one header."""
    cookies = [value for name, value in scope.get("headers", ()) if name == b"cookie"]
    if len(cookies) < 2:
        return scope
    others = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": [*others, (b"cookie", b"; ".join(cookies))]}
