"""track: one short transaction for all that count at the same time, in two round trips.

The first locks and reads, the second writes and commits. Between them the pure code of the ordinary endpoint decides
about each event in turn. Answers leave after the commit. What is not of the plain kind is left to the ordinary
endpoint, which finds everything as if it had never been here.

Order of locks, the same for everybody who writes balances: the customers by id (shared with others that count, never
waited for: who changes a plan holds the customer alone, and that customer's events go another way), then the balances
by id, then the keys.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import structlog
from django.core.exceptions import SynchronousOnlyOperation

from billing_admin.hot import rows
from billing_admin.hot.answers import access_body, as_json, event_body, new_event_id, number
from billing_admin.hot.asks import BatchAsk, TrackAsk
from billing_admin.hot.deciding import Situation, situation
from billing_admin.hot.replies import Instead, Reply
from billing_admin.hot.rows import Values
from billing_admin.hot.wire import Away, Parameters, Refused, Wire
from entitlements.balances import Bucket, burn
from entitlements.track import SMALLEST

log = structlog.get_logger("billing_admin.hot")

HOLD = """
SELECT c.id FROM customers_customer c
WHERE c.id = ANY($1::bigint[]) AND c.closed_at IS NULL
ORDER BY c.id FOR KEY SHARE SKIP LOCKED
"""
LOCK = f"""
SELECT {rows.COLUMNS}
FROM entitlements_balance b
LEFT JOIN entitlements_grant g ON g.id = b.grant_id
WHERE (b.customer_id, b.feature_id) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])) AND b.closed_at IS NULL
ORDER BY b.id FOR NO KEY UPDATE OF b
"""  # noqa: S608  columns from a constant
# Read after the balances are locked: whoever counted the same key on them, gave the customer something or took it away
# has committed by then.
TRUE = """
SELECT c.id, c.revision, w.version, w.keys
FROM customers_customer c
CROSS JOIN (SELECT (SELECT current_version_id FROM catalog_plan WHERE is_default) AS version,
  (SELECT count(*) FROM billing_admin_apikey WHERE id = ANY($2::bigint[]) AND revoked_at IS NULL) AS keys) w
WHERE c.id = ANY($1::bigint[])
"""
KNOWN = """
SELECT k.customer_id, k.digest FROM entitlements_usagekey k
WHERE (k.customer_id, k.digest) IN (SELECT * FROM unnest($1::bigint[], $2::uuid[]))
"""
WRITE = """
WITH burnt AS (
  UPDATE entitlements_balance b SET used = b.used + t.part
  FROM unnest($1::bigint[], $2::numeric[]) AS t(id, part) WHERE b.id = t.id
), kept AS (
  INSERT INTO entitlements_usageevent (public_id, customer_id, feature_id, name, amount, taken, at, recorded_at, key,
    mode, properties, balance_ids, amounts)
  SELECT e.public_id, e.customer, e.feature, '', e.amount, e.taken, $12::timestamptz, $12::timestamptz, e.key, e.mode,
    e.properties::jsonb, e.balances::bigint[], e.parts::numeric[]
  FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::numeric[], $7::numeric[], $8::text[], $9::text[],
    $10::text[], $11::text[], $13::text[]) AS e(public_id, customer, feature, amount, taken, key, mode, properties,
    balances, parts)
  RETURNING id, public_id, customer_id, recorded_at
)
INSERT INTO entitlements_usagekey (customer_id, digest, event_id, recorded_at)
SELECT kept.customer_id, k.digest, kept.id, kept.recorded_at
FROM unnest($14::text[], $15::uuid[]) AS k(public_id, digest) JOIN kept USING (public_id)
ORDER BY kept.customer_id, k.digest
"""
STATEMENTS = {
    "begin": "BEGIN",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "hold": HOLD,
    "lock": LOCK,
    "true": TRUE,
    "known": KNOWN,
    "write": WRITE,
}
DEADLOCK, SERIALIZATION = "40P01", "40001"
TRIES = 2
TURN = 50  # events between two looks at what else the loop has to do

Place = tuple[int, int]  # customer, feature
KeyOf = tuple[int, Any]  # customer, digest


@dataclass(slots=True)
class Counted:
    """One event that will be kept, and what to answer once it is."""

    ask: TrackAsk
    event_id: str
    amount: Decimal
    taken: Decimal
    parts: tuple[tuple[int, Decimal], ...]
    body: Any


@dataclass(slots=True)
class Counting:
    """One feature of one customer while a batch counts on it: its buckets as the events before left them."""

    situation: Situation
    buckets: list[Bucket]
    tell: "Tell"

    def count(self, ask: TrackAsk, now: datetime) -> Counted | None:
        """The event, burnt; None when it does not fit, which the ordinary endpoint explains."""
        amount = ask.body.amount.quantize(SMALLEST)
        burnt = burn(self.buckets, amount, ask.body.mode)
        if burnt.refused or not self.buckets or (burnt.taken == 0 and amount != 0):
            return None
        parts = []
        for place, part in burnt.parts:
            bucket = self.buckets[place]
            assert bucket.id is not None, "windows that have to be opened are not counted on here"
            self.buckets[place] = replace(bucket, used=bucket.used + part)
            parts.append((bucket.id, part))
        event_id = new_event_id()
        event = event_body(event_id, ask.feature.terms.slug, amount, burnt.taken, now, ask.body)
        return Counted(ask, event_id, amount, burnt.taken, tuple(parts), self.tell(self, event))


Tell = Callable[[Counting, dict[str, Any]], Any]


def tell_alone(counting: Counting, event: dict[str, Any]) -> bytes:
    """The answer to an event that came alone."""
    access = counting.situation.access(counting.buckets, Decimal(1))
    return as_json({"applied": True, "event": event, "access": access_body(access)})


def tell_in_batch(counting: Counting, event: dict[str, Any]) -> dict[str, Any]:
    """The item of an event that came with others."""
    remaining = remaining_of(counting.buckets)
    return {
        "applied": True,
        "event": event,
        "error": None,
        "remaining": number(remaining),
        "hasReachedLimit": remaining is not None and remaining <= 0,
        "acceptedId": None,
    }


def remaining_of(buckets: Sequence[Bucket]) -> Decimal | None:
    """As `Access.remaining`; None without a limit."""
    left = [bucket.remaining for bucket in buckets]
    return None if None in left else sum((part for part in left if part is not None), Decimal(0))


class Batch:
    """One batch between its two round trips: what is held, and what was counted so far."""

    def __init__(self, asks: Sequence[TrackAsk], tell: Tell = tell_alone) -> None:
        self.asks = asks
        self.tell = tell
        # Everything of a batch happens at one instant, as it is written by one transaction.
        self.now = max(ask.now for ask in asks)
        self.replies: list[Any] = []
        self.counted: list[Counted] = []
        self._counting: dict[Place, Counting | None] = {}

    def take(self, held: set[int], found: Sequence[Values], true: Sequence[Values], known: Sequence[Values]) -> None:
        """What the first trip brought."""
        self._revisions = {values[0]: values for values in true if values[0] in held}
        self._balances: dict[Place, list[Values]] = {}
        for values in found:
            self._balances.setdefault((values[rows.CUSTOMER], values[rows.FEATURE]), []).append(values)
        self._keys: set[KeyOf] = {(values[0], values[1]) for values in known}

    def decide(self, asks: Iterable[TrackAsk]) -> None:
        """Count what is of the plain kind, in the order of arrival; say what becomes of the rest."""
        for ask in asks:
            of_customer = self._revisions.get(ask.holding.pk)
            if of_customer is None:
                self.replies.append(Instead.DJANGO)
            elif not ask.holding.is_true(of_customer[1], of_customer[2], self.now):
                self.replies.append(Instead.AGAIN)
            else:
                self.replies.append(self._count(ask))

    def _count(self, ask: TrackAsk) -> Any:
        key = (ask.holding.pk, ask.digest)
        if ask.digest is not None and key in self._keys:
            return Instead.DJANGO
        counting = self._begun(ask)
        counted = None if counting is None else counting.count(ask, self.now)
        if counted is None:
            return Instead.DJANGO
        if ask.digest is not None:
            self._keys.add(key)
        self.counted.append(counted)
        return counted.body

    def _begun(self, ask: TrackAsk) -> Counting | None:
        """The buckets to count on; None where something has to be written or paid beside the use."""
        place = (ask.holding.pk, ask.feature.id)
        if place not in self._counting:
            self._counting[place] = begin(ask, self._balances.get(place, []), self.now, self.tell)
        return self._counting[place]

    def parameters(self) -> list[bytes | None]:
        """Those of `WRITE`."""
        used: dict[int, Decimal] = {}
        for event in self.counted:
            for balance_id, part in event.parts:
                used[balance_id] = used.get(balance_id, Decimal(0)) + part
        keyed = [event for event in self.counted if event.ask.digest is not None]
        return [
            array(str(balance_id) for balance_id in used),
            array(str(part) for part in used.values()),
            array(event.event_id for event in self.counted),
            array(str(event.ask.holding.pk) for event in self.counted),
            array(str(event.ask.feature.id) for event in self.counted),
            array(str(event.amount) for event in self.counted),
            array(str(event.taken) for event in self.counted),
            array(event.ask.body.key for event in self.counted),
            array(event.ask.body.mode for event in self.counted),
            array(json_of(event.ask.body.properties) for event in self.counted),
            array(f"{{{','.join([str(balance_id) for balance_id, _ in event.parts])}}}" for event in self.counted),
            self.now.isoformat().encode(),
            array(f"{{{','.join([str(part) for _, part in event.parts])}}}" for event in self.counted),
            array(event.event_id for event in keyed),
            array(str(event.ask.digest) for event in keyed),
        ]


def begin(ask: TrackAsk, found: list[Values], now: datetime, tell: Tell) -> Counting | None:
    try:
        present = situation(ask.holding, ask.feature, found, now)
    except SynchronousOnlyOperation:
        return None
    if present.pool.needs_writing or not present.is_plain:
        return None
    return Counting(present, list(present.buckets), tell)


def json_of(properties: dict[str, Any]) -> str:
    return orjson.dumps(properties).decode() if properties else "{}"


def array(texts: Iterable[str | None]) -> bytes:
    """A literal of PostgreSQL."""
    return f"{{{','.join([quoted(text) for text in texts])}}}".encode()


def quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Tracks:
    """Counts use in batches. `revoked` is told when one of the keys is no longer valid."""

    def __init__(self, revoked: Callable[[], None]) -> None:
        self._revoked = revoked

    async def carry_out(self, wire: Wire, asks: list[TrackAsk]) -> None:
        """Count and answer each of them. Raises `Away` after telling them so."""
        try:
            batch = Batch(asks)
            replies = await self._tried(wire, batch, {ask.key_id for ask in asks})
        except Lost as lost:
            settle(asks, [lost.reply_to([ask]) for ask in asks])
            raise
        settle(asks, replies)

    async def carry_out_whole(self, wire: Wire, batches: list[BatchAsk]) -> None:
        """The same of batches that callers made, each in a transaction of its own that keeps all of it or nothing."""
        for place, whole in enumerate(batches):
            try:
                batch = Batch(whole.events, tell_in_batch)
                replies = await self._tried(wire, batch, {whole.key_id}, keeps_a_part=False)
            except Lost as lost:
                answer_whole(whole, lost.reply_to(whole.events))
                for waiting in batches[place + 1 :]:
                    answer_whole(waiting, Instead.DJANGO)
                raise
            instead = {reply for reply in replies if isinstance(reply, Instead)}
            if instead:
                answer_whole(whole, Instead.AGAIN if instead == {Instead.AGAIN} else Instead.DJANGO)
            else:
                answer_whole(whole, as_json({"data": replies}))

    async def _tried(self, wire: Wire, batch: Batch, keys: set[int], *, keeps_a_part: bool = True) -> Sequence[Any]:
        """The replies, once what was counted is committed. Raises `Lost` when the database went away."""
        for turn in range(TRIES):
            try:
                return await self._once(wire, batch, keys, keeps_a_part=keeps_a_part)
            except Refused as refusal:
                await self._roll_back(wire)
                log.warning("track was refused", cause=str(refusal), code=refusal.code)
                if refusal.code not in (DEADLOCK, SERIALIZATION) or turn + 1 == TRIES:
                    break
                batch = Batch(batch.asks, batch.tell)
        return [Instead.DJANGO] * len(batch.asks)

    async def _once(self, wire: Wire, batch: Batch, keys: set[int], *, keeps_a_part: bool) -> Sequence[Any]:
        try:
            _, held, found, true, known = await wire.run(*first_trip(batch.asks, keys))
        except Away as away:
            raise Lost(str(away), is_counted=False) from away
        facts = wire.rows(true)
        if facts and facts[0][3] < len(keys):
            self._revoked()
            facts = []
        batch.take({values[0] for values in wire.rows(held)}, wire.rows(found), facts, wire.rows(known))
        for first in range(0, len(batch.asks), TURN):
            if first:
                await asyncio.sleep(0)  # whoever asks meanwhile is not held up by a long batch
            batch.decide(batch.asks[first : first + TURN])
        if not batch.counted or not (keeps_a_part or len(batch.counted) == len(batch.asks)):
            await self._roll_back(wire)
            return batch.replies
        try:
            await wire.run(("write", batch.parameters()), ("commit", []))
        except Away as away:
            raise Lost(str(away), is_counted=None) from away
        return batch.replies

    async def _roll_back(self, wire: Wire) -> None:
        try:
            await wire.run(("rollback", []))
        except (Refused, Away) as error:
            raise Lost(str(error), is_counted=False) from error


class Lost(Away):
    """The connection is gone. `is_counted` is None when nobody knows: the commit was sent, and not answered."""

    def __init__(self, why: str, *, is_counted: bool | None) -> None:
        self.is_counted = is_counted
        super().__init__(why)

    def reply_to(self, events: Sequence[TrackAsk]) -> Instead:
        """A key tells the ordinary endpoint what was counted; without one nobody can tell it."""
        is_told = all(event.digest is not None for event in events)
        return Instead.DJANGO if self.is_counted is False or is_told else Instead.AWAY


def first_trip(asks: Sequence[TrackAsk], keys: set[int]) -> list[tuple[str, Parameters]]:
    """Lock and read. Each place is named once, however many events it has."""
    places = sorted({(ask.holding.pk, ask.feature.id) for ask in asks})
    customers = sorted({customer for customer, _ in places})
    digests = [(ask.holding.pk, ask.digest) for ask in asks if ask.digest is not None]
    return [
        ("begin", []),
        ("hold", [numbers(customers)]),
        ("lock", [numbers(customer for customer, _ in places), numbers(feature for _, feature in places)]),
        ("true", [numbers(customers), numbers(keys)]),
        ("known", [numbers(customer for customer, _ in digests), array(str(digest) for _, digest in digests)]),
    ]


def numbers(values: Iterable[int]) -> bytes:
    return f"{{{','.join(map(str, values))}}}".encode()


def answer_whole(whole: BatchAsk, reply: Reply) -> None:
    if not whole.answer.done():
        whole.answer.set_result(reply)


def settle(asks: Sequence[TrackAsk], replies: Sequence[Reply]) -> None:
    for ask, reply in zip(asks, replies, strict=True):
        if not ask.answer.done():
            ask.answer.set_result(reply)
