"""SQLite: a file that is no server, whose values have the types they were written with."""

import datetime as dt
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors import _sql_sqlite_types as types
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_dialects import Dialect
from aiia_pipelines.connectors._sql_texts import read_texts
from aiia_pipelines.connectors._sql_wanted import Described, Limits, Told, Wanted
from aiia_pipelines.connectors.base import Batch, Position, Row, SourceColumn, SourceFault

_INSTRUCTIONS = 100_000  # of SQLite's machine, between two looks at the clock
_MEANINGS = {
    sqlite3.SQLITE_BUSY: "sqlstate:40001", sqlite3.SQLITE_LOCKED: "sqlstate:40001",
    sqlite3.SQLITE_CORRUPT: "sqlstate:XX001", sqlite3.SQLITE_NOTADB: "sqlstate:XX001",
    sqlite3.SQLITE_FORMAT: "sqlstate:XX001", sqlite3.SQLITE_CANTOPEN: "errno:EACCES",
    sqlite3.SQLITE_PERM: "errno:EACCES", sqlite3.SQLITE_AUTH: "errno:EACCES",
    sqlite3.SQLITE_INTERRUPT: "query:timeout", sqlite3.SQLITE_NOMEM: "sqlstate:53200",
    sqlite3.SQLITE_IOERR: "sqlstate:58030", sqlite3.SQLITE_FULL: "sqlstate:53100",
    sqlite3.SQLITE_TOOBIG: "sqlstate:54000", sqlite3.SQLITE_SCHEMA: "sqlstate:40001",
    # The session is read-only: it is the query that writes.
    sqlite3.SQLITE_READONLY: "query:invalid",
}  # fmt: skip
_WORDS = (
    (re.compile("no such table"), "sqlstate:42P01"),
    (re.compile("unknown database"), "sqlstate:3F000"),
    (re.compile("no such column"), "sqlstate:42703"),
    (re.compile("no such function|wrong number of arguments"), "sqlstate:42883"),
    (re.compile("integer overflow|malformed JSON|JSON path"), "sqlstate:22000"),
)
_MOMENT = re.compile(r"'(\d{4}-\d\d-\d\d)(?:([ T])(\d\d:\d\d)(:\d\d)?(\.\d+)?)?(.*)'", re.ASCII)


class Database(Dialect):
    """An SQLite file."""

    # A column may hold values of every class, whose text does not tell their order.
    ordered_kinds: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the driver of Python itself."""
        super().__init__(url.set(drivername="sqlite"), limits)
        self._until = 0.0

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse a file that is not there, of which SQLite would make an empty one, or is not for us."""
        path = str(self.url.database)
        if not Path(path).is_file():
            raise SourceFault(f"There is no file {path}.", "source:not-found", place=path)
        if not os.access(path, os.R_OK):
            raise SourceFault(f"The file {path} may not be read.", "errno:EACCES", place=path)

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver."""
        del reached
        return {"timeout": max(seconds, 0.1)}

    def after_login(self, connection: sa.Connection) -> None:
        """Refuse to write, and begin the snapshot that all streams are read in."""
        driver: Any = connection.connection.driver_connection
        driver.text_factory = types.read_text
        driver.set_progress_handler(lambda: time.monotonic() > self._until, _INSTRUCTIONS)
        self._grant()
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")
        # The snapshot is taken by the first read, not by BEGIN.
        connection.exec_driver_sql("SELECT COUNT(*) FROM sqlite_schema")

    def _grant(self) -> None:
        """Give what follows the time that a statement may take."""
        self._until = time.monotonic() + self.limits.statement

    def cancel(self, driver: Any) -> None:  # noqa: ANN401 - the driver's own connection
        """Stop the statement in progress."""
        driver.interrupt()

    @contextmanager
    def undone(self, connection: sa.Connection) -> Iterator[None]:
        """Begin the time limit anew for every reading; a fault leaves the snapshot as it is."""
        del connection
        self._grant()
        yield

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream, in order."""
        return types.describe(connection, relation, stream)

    def read(self, wanted: Wanted, statement: str) -> Iterator[Batch]:
        """Read the rows of a SELECT, `batch_rows` at a time."""
        for batch in super().read(wanted, statement):
            yield batch
            # What the destination takes its time for is no fault of the query.
            self._grant()

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Read what SQLite keeps as text or number."""
        return read_texts(wanted, rows, types.READERS)

    # -- the cursor -------------------------------------------------------------------------

    def position(self, wanted: Wanted) -> Position | None:
        """Tell where the stream is now.

        Raises:
            SourceFault: The greatest value is none of the column's type, so the order means nothing.
        """
        name = wanted.reading.cursor
        if name is None:
            return None
        column = wanted.column(name)
        statement = f"SELECT MAX({wanted.quote(name)}) FROM {wanted.relation}"
        found = wanted.ask(statement)[0][0]
        number = column.type is not None and column.type.name in cursor.NUMBERS
        if found is not None and not isinstance(found, (int, float) if number else str):
            raise SourceFault(
                f"The cursor '{name}' of {wanted.stream.name} is {column.type or column.declared}, but its"
                f" greatest value is of the storage class {_CLASSES.get(type(found), 'blob')}.",
                "contract:value",
            )
        return {"column": name, "cursor": None if found is None else str(found)}

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Leave a value to Python, which writes all digits of a number."""
        del column
        return expression

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another; times are text here, and stay of one form.

        Raises:
            SourceFault: The text is no time.
        """
        if lookback.seconds is None:
            return super().earlier(literal, lookback, column)
        parts = _MOMENT.fullmatch(literal)
        if parts is None:
            raise SourceFault(
                f"The cursor '{column.name}' is no time that can be looked back from.",
                "config:invalid",
            )
        day, separator, minute, second, fraction, rest = parts.groups()
        try:
            moment = dt.datetime.fromisoformat(f"{day} {minute or '00:00'}{second or ':00'}")
            moment -= dt.timedelta(seconds=lookback.seconds)
        except (ValueError, OverflowError):
            return "''"  # before every time
        if minute is None:
            # Cut to a day, it lies even earlier.
            return f"'{moment.date().isoformat()}{rest}'"
        text = moment.isoformat(separator, "minutes" if second is None else "seconds")
        return f"'{text}{fraction or ''}{rest}'"

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        del login
        code = getattr(driver, "sqlite_errorcode", None)
        words = str(driver)
        if code is None:
            return Told(words, ("query:invalid",))
        for hint, signal in _WORDS:
            if hint.search(words):
                return Told(words, (signal,))
        # The lower byte is the cause, the rest its circumstances.
        return Told(words, (_MEANINGS.get(code & 0xFF, "query:invalid"),))


_CLASSES: dict[type, str] = {int: "integer", float: "real", str: "text"}
