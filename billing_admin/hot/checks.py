"""check: one statement for all that ask at the same time, and the pure code of the ordinary endpoint for each."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial

import structlog
from django.core.exceptions import SynchronousOnlyOperation
from psycopg.pq.abc import PGresult

from billing_admin.hot import rows
from billing_admin.hot.answers import access_body, as_json
from billing_admin.hot.asks import CheckAsk
from billing_admin.hot.deciding import situation
from billing_admin.hot.holdings import Holding
from billing_admin.hot.replies import Instead, Reply
from billing_admin.hot.wire import Away, Refused, Row, Wire

log = structlog.get_logger("billing_admin.hot")

STATEMENT = f"""
SELECT a.ord, c.revision, w.version, w.keys, b.id, b.xmin, {rows.COLUMNS}
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS a(customer, feature, ord)
CROSS JOIN (SELECT (SELECT current_version_id FROM catalog_plan WHERE is_default) AS version,
  (SELECT count(*) FROM billing_admin_apikey WHERE id = ANY($3::bigint[]) AND revoked_at IS NULL) AS keys) w
LEFT JOIN customers_customer c ON c.id = a.customer AND c.closed_at IS NULL
LEFT JOIN entitlements_balance b ON b.customer_id = c.id AND b.feature_id = a.feature AND b.closed_at IS NULL
LEFT JOIN entitlements_grant g ON g.id = b.grant_id
ORDER BY a.ord, b.id
"""  # noqa: S608  columns from a constant
ORD, REVISION, VERSION, KEYS, ID, WRITTEN_BY, BALANCE = 0, 1, 2, 3, 4, 5, 6
# Answers kept for as long as nothing that they were made from has changed.
MOST_KEPT = 8_000


@dataclass(frozen=True, slots=True)
class Made:
    """An answer with all that it was made from: `versions` are its balances with the transactions that wrote them.

    A balance that was written again has another transaction's number, so equal versions are equal rows.
    """

    holding: Holding
    versions: bytes
    since: datetime
    until: datetime | None
    body: bytes

    def is_true(self, holding: Holding, versions: bytes, now: datetime) -> bool:
        dates_stand = self.since <= now and (self.until is None or now < self.until)
        return dates_stand and holding is self.holding and versions == self.versions


@dataclass(slots=True)
class Read:
    """What the statement found for one ask: the rows from `first` to before `last`."""

    first: int
    last: int
    revision: int | None
    version: int | None
    versions: bytes


class Checks:
    """Answers checks in batches. `revoked` is told when one of the keys is no longer valid."""

    def __init__(self, revoked: Callable[[], None]) -> None:
        self._revoked = revoked
        self._made: OrderedDict[tuple[int, int, Decimal], Made] = OrderedDict()

    async def carry_out(self, wire: Wire, asks: list[CheckAsk]) -> None:
        """Answer each of them. Raises `Away` after telling them so."""
        keys = {ask.key_id for ask in asks}
        customers = ",".join([str(ask.holding.pk) for ask in asks])
        features = ",".join([str(ask.feature.id) for ask in asks])
        parameters = [f"{{{text}}}".encode() for text in (customers, features, ",".join(map(str, keys)))]
        try:
            [result] = await wire.run(("check", parameters))
        except Refused as refusal:
            log.warning("check was refused", cause=str(refusal), code=refusal.code)
            settle(asks, Instead.DJANGO)
            return
        except Away:
            settle(asks, Instead.AWAY)
            raise
        if as_int(result.get_value(0, KEYS)) != len(keys):
            self._revoked()
            settle(asks, Instead.DJANGO)
            return
        for ask, read in zip(asks, by_ask(result), strict=True):
            if not ask.answer.done():
                ask.answer.set_result(self._reply(ask, read, partial(wire.rows, result, read.first, read.last)))

    def _reply(self, ask: CheckAsk, read: Read, found: Callable[[], list[Row]]) -> Reply:
        if not ask.holding.is_true(read.revision, read.version, ask.now):
            return Instead.AGAIN
        name = (ask.holding.pk, ask.feature.id, ask.required)
        made = self._made.get(name)
        if made is not None and made.is_true(ask.holding, read.versions, ask.now):
            self._made.move_to_end(name)
            return made.body
        balances = [values[BALANCE:] for values in found()] if read.versions else []
        try:
            present = situation(ask.holding, ask.feature, balances, ask.now)
        except SynchronousOnlyOperation:
            return Instead.DJANGO
        access = present.access(present.buckets, ask.required)
        if not (present.is_plain and access.allowed):
            return Instead.DJANGO
        # A copy of its own size: what the writer gives holds on to all the room that it took to write.
        body = bytes(memoryview(as_json(access_body(access))))
        self._keep(name, Made(ask.holding, read.versions, ask.now, present.next_edge(ask.now), body))
        return body

    def _keep(self, name: tuple[int, int, Decimal], made: Made) -> None:
        self._made[name] = made
        self._made.move_to_end(name)
        if len(self._made) > MOST_KEPT:
            self._made.popitem(last=False)


def by_ask(result: PGresult) -> Iterator[Read]:
    """Rows in the order of the asks, which all have at least one; only the columns that tell whether all is known."""
    value, read, ord_of_read = result.get_value, None, None
    for row in range(result.ntuples):
        ord_of_row = value(row, ORD)
        if read is None or ord_of_row != ord_of_read:
            if read is not None:
                read.last = row
                yield read
            read = Read(row, row, as_int(value(row, REVISION)), as_int(value(row, VERSION)), b"")
            ord_of_read = ord_of_row
        balance, written_by = value(row, ID), value(row, WRITTEN_BY)
        if balance is not None and written_by is not None:
            read.versions += balance + written_by
    if read is not None:
        read.last = result.ntuples
        yield read


def as_int(value: bytes | None) -> int | None:
    """An integer as the server sends it."""
    return None if value is None else int.from_bytes(value, signed=True)


def settle(asks: Sequence[CheckAsk], reply: Reply) -> None:
    for ask in asks:
        if not ask.answer.done():
            ask.answer.set_result(reply)
