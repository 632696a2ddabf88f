"""One connection to PostgreSQL as the event loop uses it: prepared statements, several at a time, raw results.

A cursor of psycopg costs more than the statements that are sent here, so this speaks to the library below it
(`psycopg.pq`), which psycopg opens and configures as usual.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

Parameters = Sequence[bytes | None]
Row = tuple[Any, ...]

GOOD = {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}
# A generic plan is made once; the planner would rather make one for each call, which costs more than the call.
OPTIONS = "-c plan_cache_mode=force_generic_plan -c jit=off"


class Away(Exception):
    """The connection broke, or cannot be opened. What was sent may or may not have been carried out."""


class Refused(Exception):
    """The server refused a statement; nothing of the batch was kept. `code` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class Wire:
    """A connection with its prepared statements, for one batch at a time.

    Statements that are sent together are one transaction unless they say BEGIN themselves.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[list[pq.abc.PGresult]] | None = None
        self._results: list[pq.abc.PGresult] = []
        self._values = Transformer(connection)
        self._wants_to_write = False
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._loop.add_reader(self._pg.socket, self._readable)

    @classmethod
    async def open(cls, conninfo: str, statements: Mapping[str, str], *, timeout: float) -> "Wire":
        """Connect and prepare. Raises `Away`; every wait for the server ends after `timeout` seconds."""
        milliseconds = int(timeout * 1000)
        limits = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 4}"
        limits += f" -c idle_in_transaction_session_timeout={milliseconds}"
        options = f"{OPTIONS} {limits} -c timezone=UTC"
        try:
            connection = await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True, options=options, connect_timeout=max(2, round(timeout))
            )
            wire = cls(connection)
        except (psycopg.Error, OSError) as error:
            raise Away(str(error)) from error
        try:
            async with asyncio.timeout(timeout):
                await wire._prepare(statements)
        except (Refused, TimeoutError) as error:
            wire.close()
            raise Away(str(error)) from error
        return wire

    async def _prepare(self, statements: Mapping[str, str]) -> None:
        for name, text in statements.items():
            self._pg.send_prepare(name.encode(), text.encode())
        await self._sent()

    async def run(self, *batch: tuple[str, Parameters]) -> list[pq.abc.PGresult]:
        """The result of each statement. Raises `Refused` when one failed, `Away` when the connection did."""
        try:
            for name, parameters in batch:
                self._pg.send_query_prepared(name.encode(), parameters, result_format=pq.Format.BINARY)
        except psycopg.Error as error:
            self.close()
            raise Away(str(error)) from error
        return await self._sent()

    def rows(self, result: pq.abc.PGresult, first: int = 0, last: int | None = None) -> list[Row]:
        """The rows of a result, or those from `first` to before `last`, as Python values."""
        self._values.set_pgresult(result)
        found: list[Row] = self._values.load_rows(first, result.ntuples if last is None else last, tuple)
        return found

    @property
    def is_open(self) -> bool:
        return self._pg.status == pq.ConnStatus.OK

    @property
    def is_in_transaction(self) -> bool:
        return self._pg.transaction_status != pq.TransactionStatus.IDLE

    def close(self) -> None:
        if self._pg.status == pq.ConnStatus.OK or self._pg.socket >= 0:
            self._forget_socket()
        self._pg.finish()
        self._give_up("the connection was closed")

    def _forget_socket(self) -> None:
        socket = self._pg.socket
        self._loop.remove_reader(socket)
        if self._wants_to_write:
            self._loop.remove_writer(socket)

    async def _sent(self) -> list[pq.abc.PGresult]:
        self._results = []
        waiting = self._waiting = self._loop.create_future()
        try:
            self._pg.pipeline_sync()
            self._flush()
            results: list[pq.abc.PGresult] = await waiting
        except psycopg.Error as error:
            self.close()
            raise Away(str(error)) from error
        except asyncio.CancelledError:
            self.close()  # answers to what nobody waits for any more would be taken for the next ones
            raise
        finally:
            self._waiting = None
        for result in results:
            if result.status not in GOOD:
                raise self._refusal(results)
        return results

    def _refusal(self, results: list[pq.abc.PGresult]) -> Refused:
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
                return Refused(code, result.get_error_message())
        return Refused("", "the batch was aborted")

    def _flush(self) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        unsent = bool(self._pg.flush())
        if unsent and not self._wants_to_write:
            self._loop.add_writer(self._pg.socket, self._flush)
        elif self._wants_to_write and not unsent:
            self._loop.remove_writer(self._pg.socket)
        self._wants_to_write = unsent

    def _readable(self) -> None:
        try:
            self._pg.consume_input()
            self._collect()
        except psycopg.Error as error:
            self._forget_socket()
            self._pg.finish()
            self._give_up(str(error))

    def _collect(self) -> None:
        """Take the results that have arrived; None stands between those of two statements."""
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                if self._waiting is None or self._waiting.done():
                    return
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                if self._waiting is not None and not self._waiting.done():
                    self._waiting.set_result(self._results)
                return
            self._results.append(result)

    def _give_up(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Away(why))
