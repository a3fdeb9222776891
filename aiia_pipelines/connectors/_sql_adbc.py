"""PostgreSQL read as Arrow columns, by a connection of its own that sees the same snapshot."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import pyarrow as pa

# The one reader that keeps the SQLSTATE of what breaks off in the middle.
from adbc_driver_manager._reader import AdbcRecordBatchReader

from aiia_pipelines.connectors._sql_wanted import DriverFault
from aiia_pipelines.jobs import effort

_BATCH_BYTES = 16 * 1024 * 1024
_PATIENCE, _PAUSE = 2.0, 0.05  # seconds that a server may take to stop, and between two requests
Answer = TypeVar("Answer")


class _Cancelled(Exception):
    """A cancel came before the statement it was meant for."""

    sqlstate = "57014"


class _TooLong(Exception):
    """The server took longer than it may, and was told to stop."""

    sqlstate = "57014"


class Silent(Exception):
    """The server neither sends nor stops: the wire to it is dead."""


_FAULTS = (adbc.Error, pa.ArrowException, OSError, _Cancelled, _TooLong, Silent)
# What hangs in the driver's own code cannot be freed without a crash; the end of the process frees it.
_left_behind: list[object] = []


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
        self._connection: adbc.AdbcConnection | None = None
        self._statement: adbc.AdbcStatement | None = None
        self._reader: AdbcRecordBatchReader | None = None
        self._database: adbc.AdbcDatabase | None = None
        try:
            with _translated():
                self._database = adbc_driver_postgresql.connect(conninfo)
                self._connection = adbc.AdbcConnection(self._database)
                self._connection.set_autocommit(False)
                self._tell("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                self._tell(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                # The server would count the time that the rest of the sync takes; see `_timely`.
                self._tell("SET LOCAL statement_timeout = 0")
        except BaseException:
            self.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether it can read a further statement."""
        return self._connection is not None

    def _tell(self, statement: str) -> None:
        with adbc.AdbcStatement(self._connection) as told:
            told.set_sql_query(statement)
            told.execute_update()

    def read(self, statement: str) -> Iterator[pa.RecordBatch]:
        """Read the rows of a SELECT; given up half-way, the lane is closed.

        Raises:
            DriverFault: The server broke off.
        """
        done = False
        try:
            with _translated():
                self._timely(lambda: self._begin(statement))
                while (batch := self._timely(self._next)) is not None:
                    yield batch
            self._end()
            done = True
        finally:
            if not done:
                self.close()

    def _begin(self, statement: str) -> None:
        asked = self._statement = adbc.AdbcStatement(self._connection)
        size = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value
        asked.set_options(**{size: str(_BATCH_BYTES)})
        asked.set_sql_query(statement)
        stream, _ = asked.execute_query()
        self._reader = AdbcRecordBatchReader._import_from_c(stream.address)  # noqa: SLF001 - its name in pyarrow

    def _next(self) -> pa.RecordBatch | None:
        if self._reader is None:
            raise AssertionError("closed while it was read")
        try:
            return self._reader.read_next_batch()
        except StopIteration:
            return None

    def _timely(self, action: Callable[[], Answer]) -> Answer:
        """Stop an action that the server takes too long for, and leave it behind if it does not stop."""
        answers: SimpleQueue[tuple[Answer, float] | BaseException] = SimpleQueue()
        self._busy = True
        try:
            if self._stopped:
                raise _Cancelled("canceling statement due to user request")
            threading.Thread(target=_answer, args=(action, answers), daemon=True).start()
            answer = self._awaited(answers, self._patience)
            if answer is None:
                self._overdue = True
                # The request to stop goes over a wire of its own, and may be lost as well.
                threading.Thread(target=self._interrupt, daemon=True).start()
                answer = self._awaited(answers, _PATIENCE)
            if answer is None:
                self._leave()
                raise Silent(f"it sent nothing for {self._patience:,} seconds")
            if not isinstance(answer, BaseException):
                effort.lend(answer[1])
                return answer[0]
            if self._overdue and "57014" in (getattr(answer, "sqlstate", None) or ""):
                # The server says the same of a stop that an administrator wished for.
                raise _TooLong("canceling statement due to statement timeout") from answer
            raise answer
        finally:
            self._busy = False

    def _awaited(
        self, answers: SimpleQueue[tuple[Answer, float] | BaseException], seconds: float
    ) -> tuple[Answer, float] | BaseException | None:
        """Wait so long for an answer, and not much longer than a stop takes once one is asked for."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                return answers.get(timeout=min(left, _PATIENCE / 2))
            if self._stopped:
                until = min(until, time.monotonic() + _PATIENCE)
        return None

    def _leave(self) -> None:
        _left_behind.append((self._connection, self._statement, self._reader, self._database))
        self._connection = self._statement = self._reader = self._database = None
        self.silent = True

    def _end(self) -> None:
        reader, self._reader = self._reader, None
        statement, self._statement = self._statement, None
        if reader is not None:
            reader.close()
        if statement is not None:
            statement.close()

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
        with self._held, suppress(adbc.Error):
            if self._connection is not None:
                self._connection.cancel()

    def close(self) -> None:
        """Stop what is in progress, roll back and disconnect; may be called twice."""
        if self.silent:
            return
        if self._reader is not None and self._connection is not None:
            self._interrupt()
            # A server that still sends would notice the end of the connection only late.
            until = time.monotonic() + _PATIENCE
            with suppress(*_FAULTS, StopIteration):
                while time.monotonic() < until:
                    self._reader.read_next_batch()
        with self._held:
            connection, self._connection = self._connection, None
        database, self._database = self._database, None
        self._end()
        if connection is not None:
            with suppress(adbc.Error):
                connection.rollback()
            connection.close()
        if database is not None:
            database.close()


def _answer(
    action: Callable[[], Answer], answers: SimpleQueue[tuple[Answer, float] | BaseException]
) -> None:
    try:
        found = action()
        answers.put((found, effort.spent()))
    except (*_FAULTS, AssertionError, MemoryError) as fault:
        answers.put(fault)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _FAULTS as fault:
        raise DriverFault(fault) from fault
