"""PostgreSQL read by binary COPY, on a connection of its own that sees the same snapshot."""

import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import psycopg
from psycopg import pq
from psycopg.errors import QueryCanceled

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_wire as wire
from aiia_pipelines.connectors._sql_wanted import DriverFault
from aiia_pipelines.connectors._sql_wire_bytes import PADDING, Bytes

_BATCH_BYTES = 8 * 1024 * 1024
_PATIENCE, _PAUSE = 2.0, 0.05  # seconds that a server may take to stop, and between two requests
_NONE = 2  # bytes of the message that ends the rows
_FAULTS = (psycopg.Error, OSError)


class Silent(Exception):
    """The server neither sends nor stops: the wire to it is dead."""


class Lane:
    """One connection in one transaction, which ends with the first fault."""

    def __init__(self, conninfo: str, snapshot: str, patience: int) -> None:
        """Log in and enter an exported snapshot; an answer may take `patience` seconds.

        Raises:
            DriverFault: The server refuses.
        """
        self._patience = patience
        self._busy = self._stopped = self._overdue = self.silent = False
        self._held = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._poll = select.poll()
        with _translated():
            self._connection = psycopg.connect(conninfo, autocommit=True)
        try:
            self._poll.register(self._wire.socket, select.POLLIN)
            self._tell("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._tell(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            # The server would count the time that the rest of the sync takes; see `_await`.
            self._tell("SET LOCAL statement_timeout = 0")
        except BaseException:
            self.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether it can read a further statement."""
        connection = self._connection
        idle = pq.TransactionStatus.INTRANS
        return connection is not None and connection.pgconn.transaction_status == idle

    @property
    def _wire(self) -> pq.abc.PGconn:
        if self._connection is None:
            raise AssertionError("closed while it was read")
        return self._connection.pgconn

    def _tell(self, statement: str) -> None:
        with _translated():
            found = self._wire.exec_(statement.encode())
            if found.status != pq.ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(found)

    def read(self, statement: str, kinds: Sequence[ColumnType]) -> Iterator[wire.Rows]:
        """Read the rows of a SELECT; given up half-way, the lane is closed.

        Raises:
            DriverFault: The server broke off.
        """
        done = False
        self._busy = True
        try:
            with _translated():
                self._begin(statement)
                for data, begins, ends in self._stretches():
                    self._busy = False
                    yield wire.Rows(Bytes(data), begins, ends, kinds).looked_through()
                    self._busy = True
            done = True
        finally:
            self._busy = False
            if not done:
                self.close()

    def _begin(self, statement: str) -> None:
        self._refuse_if_stopped()
        self._send(f"COPY ({statement}) TO STDOUT (FORMAT binary)")
        found = self._result()
        if found is None or found.status != pq.ExecStatus.COPY_OUT:
            raise self._told(found)

    def _send(self, statement: str) -> None:
        connection, end = self._wire, time.monotonic() + self._patience
        connection.send_query(statement.encode())
        ready = select.poll()
        ready.register(connection.socket, select.POLLIN | select.POLLOUT)
        # A long statement does not fit into what the system buffers at once.
        while connection.flush():
            if not ready.poll(_PATIENCE * 500) and (self._stopped or time.monotonic() > end):
                self.silent = True
                raise Silent(f"it took nothing for {self._patience:,} seconds")
            connection.consume_input()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise QueryCanceled("canceling statement due to user request")

    def _stretches(self) -> Iterator[tuple[bytearray, np.ndarray, np.ndarray]]:
        """Gather the messages of the server, each a row, until they fill a batch."""
        begin = len(wire.HEADER)
        while True:
            data, ends, more = self._gather()
            if begin and ends and ends[0] == begin + _NONE:
                # Without rows, what opens them and what ends them are one message.
                ends.pop(0)
            if ends:
                until = np.array(ends, np.int64)
                data += bytes(PADDING)
                yield data, np.concatenate(([begin], until[:-1])), until
            if not more:
                return
            begin = 0

    def _gather(self) -> tuple[bytearray, list[int], bool]:
        self._refuse_if_stopped()
        # A loop that sees every row: what it asks of Python it asks millions of times.
        connection = self._wire
        get, data = connection.get_copy_data, bytearray()
        ends: list[int] = []
        ended = ends.append
        while True:
            size, row = get(1)
            if size > _NONE:
                data += row
                ended(len(data))
                if len(data) >= _BATCH_BYTES:
                    return data, ends, True
            elif size == 0:
                self._await(connection)
            elif size < 0:
                self._end()
                return data, ends, False

    def _await(self, connection: pq.abc.PGconn) -> None:
        """Wait for more, and stop a server that takes too long for it."""
        end = time.monotonic() + self._patience
        while not self._poll.poll(_PATIENCE * 500):
            now = time.monotonic()
            if self._stopped:
                end = min(end, now + _PATIENCE)
            if now < end:
                continue
            if self._overdue or self._stopped:
                self.silent = True
                raise Silent(f"it sent nothing for {self._patience:,} seconds")
            self._overdue = True
            # The request to stop goes over a wire of its own, and may be lost as well.
            threading.Thread(target=self._interrupt, daemon=True).start()
            end = now + _PATIENCE
        connection.consume_input()

    def _result(self) -> pq.abc.PGresult | None:
        connection = self._wire
        while connection.is_busy():
            self._await(connection)
        return connection.get_result()

    def _end(self) -> None:
        """See how the server says that the rows are over."""
        found = self._result()
        while (more := self._result()) is not None:
            found = more
        if found is None or found.status != pq.ExecStatus.COMMAND_OK:
            raise self._told(found)

    def _told(self, found: pq.abc.PGresult | None) -> psycopg.Error:
        if found is None or not found.error_message:
            return psycopg.OperationalError(self._wire.get_error_message())
        fault = psycopg.errors.error_from_result(found)
        if self._overdue and isinstance(fault, QueryCanceled):
            # The server says the same of a stop that an administrator wished for.
            return QueryCanceled("canceling statement due to statement timeout")
        return fault

    def ready(self) -> None:
        """Forget an earlier cancel."""
        self._stopped = False

    def cancel(self) -> None:
        """Make a read in progress, or one that is just beginning, stop; for another thread to call."""
        self._stopped = True
        until = time.monotonic() + _PATIENCE
        # The server drops a request that comes before the statement does.
        while self._busy and time.monotonic() < until:
            self._interrupt()
            time.sleep(_PAUSE)

    def _interrupt(self) -> None:
        # A connection must not be freed while it is told to stop.
        with self._held, suppress(*_FAULTS):
            if self._connection is not None:
                self._connection.cancel_safe(timeout=_PATIENCE)

    def close(self) -> None:
        """Stop what is in progress and disconnect; may be called twice."""
        with self._held:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(*_FAULTS):
            if connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                # A server that still sends would notice the end of the connection only late.
                connection.cancel_safe(timeout=_PATIENCE)
        connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (*_FAULTS, Silent, wire.Garbled) as fault:
        raise DriverFault(fault) from fault
