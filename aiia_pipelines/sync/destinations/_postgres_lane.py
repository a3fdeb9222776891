"""The two ways of Arrow batches into a staging table.

The Arrow driver's binary COPY, on a connection of its own, takes the types whose binary form was seen to arrive
exactly; streams with any other type go as CSV, which PostgreSQL parses itself. Rows that came from PostgreSQL and
keep their types are handed on byte by byte.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import adbc_driver_manager as adbc
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Wired
from aiia_pipelines.sync.contract import ContractColumn
from aiia_pipelines.sync.convert import arrow_type, masked
from aiia_pipelines.sync.destinations._postgres_control import SAVE_CHECKPOINT, STAGING, Db
from aiia_pipelines.sync.destinations._postgres_csv import as_csv
from aiia_pipelines.sync.destinations._postgres_session import BETWEEN_BATCHES
from aiia_pipelines.sync.destinations._postgres_sql import names_of, type_of
from aiia_pipelines.sync.faults import DestinationFault

Kinds = Mapping[str, ColumnType]
Values = tuple[str, str, str, int, int, str]  # of SAVE_CHECKPOINT
_PARSED = ("json", "string")  # the binary form of json is its text, which PostgreSQL parses
_GROUPS = "(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}"
# What a crash of the server takes from the staging table, it takes before a commit of the rows.
_BEGIN = (
    "begin; set local synchronous_commit = off;"
    f" set local idle_in_transaction_session_timeout = '{BETWEEN_BATCHES}'"
)
# A source may take its time while a table is filled in one transaction.
_UNTIL_FILLED = "1h"
_LIMITS = """select current_setting('transaction_timeout', true),
  set_config('idle_in_transaction_session_timeout', %s, true)"""
_NO_LIMIT = {None, "0"}  # servers before 17 do not know the first one
_UUID = rf"^(?:{_GROUPS}|\{{{_GROUPS}\}})$"  # the forms that PostgreSQL reads


class Lane(Protocol):
    """A way into staging tables; what is written is kept by `commit` only.

    `fresh` tells that tables are filled in the transaction that made them: the fewer its parts, the better.
    """

    @property
    def fresh(self) -> bool:
        """Whether a commit now would end such a transaction."""
        ...

    def making(self, table: str) -> AbstractContextManager[None]:
        """Prepare for a staging table, which the landing makes in the block."""
        ...

    def write(self, table: str, batch: pa.RecordBatch, kinds: Kinds) -> int:
        """Add a batch to a staging table, and tell how many bytes that took."""
        ...

    def save(self, values: Values) -> None:
        """Write a checkpoint, in the transaction of the rows before it."""
        ...

    def commit(self) -> None:
        """Keep what was written."""
        ...

    def rollback(self) -> None:
        """Forget what was written since the last commit."""
        ...


def goes_in_binary(kind: ColumnType) -> bool:
    """Tell whether the Arrow driver sends values of a type exactly."""
    if kind.item is not None:
        return kind.item.item is None and kind.item.name != "uuid" and goes_in_binary(kind.item)
    if kind.name == "decimal":
        return bool(pa.types.is_decimal(arrow_type(kind)))
    return kind.name != "interval"


class ArrowLane:
    """Binary COPY by the Arrow driver; autocommit is off."""

    fresh = False  # its tables are made by the other connection

    def __init__(self, connection: adbc.AdbcConnection) -> None:
        """Write on a connection that nobody else uses meanwhile."""
        self._connection = connection

    def making(self, table: str) -> AbstractContextManager[None]:
        """Prepare for nothing: what is made is committed at once."""
        del table
        return nullcontext()

    def write(self, table: str, batch: pa.RecordBatch, kinds: Kinds) -> int:
        """Add a batch to a staging table; how many bytes its COPY takes the driver keeps to itself."""
        sendable = _sendable(batch, kinds)
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_options(
                **{
                    adbc.INGEST_OPTION_MODE: adbc.INGEST_OPTION_MODE_APPEND,
                    adbc.INGEST_OPTION_TARGET_TABLE: table,
                    "adbc.ingest.target_db_schema": STAGING,
                }
            )
            statement.bind(sendable)
            statement.execute_update()
        return int(sendable.nbytes)

    def save(self, values: Values) -> None:
        """Write a checkpoint, in the transaction of the rows before it."""
        names = [str(place) for place in range(len(values))]
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_sql_query(SAVE_CHECKPOINT)
            statement.bind(pa.RecordBatch.from_arrays([pa.array([v]) for v in values], names))
            statement.execute_update()

    def commit(self) -> None:
        """Keep what was written."""
        self._connection.commit()

    def rollback(self) -> None:
        """Forget what was written since the last commit."""
        self._connection.rollback()


class CopyLane:
    """COPY on the connection of the landing, which has to be sealed before it does anything else."""

    def __init__(self, db: Db) -> None:
        """Write on a connection in autocommit."""
        self._db = db
        self._fresh: set[str] = set()
        self._statements: dict[tuple[str, tuple[str, ...], str], bytes] = {}

    @property
    def fresh(self) -> bool:
        """Whether a commit now would end the transaction that made a table."""
        return bool(self._fresh)

    @contextmanager
    def making(self, table: str) -> Iterator[None]:
        """Make a table in the transaction of its first rows, which may then be frozen.

        Whoever reads rows that are not writes their pages anew, to say that they were committed: here the
        reconciliation would.
        """
        self._begin()
        found = self._db.execute(_LIMITS, (_UNTIL_FILLED,)).fetchone()
        yield
        # Where transactions are to be short, each batch is kept by one of its own.
        if found is not None and found[0] in _NO_LIMIT:
            self._fresh.add(table)

    def _begin(self) -> None:
        if self._db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._db.execute(_BEGIN)

    def write(self, table: str, batch: pa.RecordBatch, kinds: Kinds) -> int:
        """Add a batch to a staging table, and tell how many bytes that took."""
        self._begin()
        content = as_csv(batch, kinds)
        with self._copy(table, batch.schema.names, "csv") as copy:
            copy.write(content)
        return len(content)

    def forward(self, table: str, rows: Wired, names: Sequence[str]) -> int:
        """Add rows to some columns of a staging table as they came, and tell how many bytes that took."""
        self._begin()
        with self._copy(table, names, "binary") as copy:
            for piece in rows.copied():
                copy.write(piece)
        return rows.wire_bytes

    @contextmanager
    def _copy(self, table: str, names: Sequence[str], form: str) -> Iterator[psycopg.Copy]:
        how = f"format {form}, freeze {'true' if table in self._fresh else 'false'}"
        asked = (table, tuple(names), how)
        if asked not in self._statements:
            # To put one together takes longer than to send it.
            statement = sql.SQL("copy {} ({}) from stdin ({})").format(
                sql.Identifier(STAGING, table), names_of(names), sql.SQL(how)
            )
            self._statements[asked] = statement.as_bytes(self._db)
        with self._db.cursor() as cursor, cursor.copy(self._statements[asked]) as copy:
            yield copy

    def save(self, values: Values) -> None:
        """Write a checkpoint, in the transaction of the rows before it."""
        self._begin()
        with psycopg.RawCursor(self._db) as cursor:
            cursor.execute(SAVE_CHECKPOINT, values)

    def commit(self) -> None:
        """Keep what was written."""
        self._fresh.clear()
        if self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._db.execute("commit")

    def rollback(self) -> None:
        """Forget what was written since the last commit."""
        self._fresh.clear()
        if self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._db.execute("rollback")


def fit(columns: Sequence[ContractColumn], kinds: Sequence[ColumnType]) -> bool:
    """Tell whether rows can go on as they came: every field is of the type of its column."""
    return len(columns) == len(kinds) and all(
        type_of(column.type) == type_of(kind) or (column.type.name, kind.name) == _PARSED
        for column, kind in zip(columns, kinds, strict=True)
    )


def _sendable(batch: pa.RecordBatch, kinds: Kinds) -> pa.RecordBatch:
    columns = [
        _uuids(values, name) if kinds[name].name == "uuid" else values
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _uuids(values: pa.Array, name: str) -> pa.Array:
    """Turn texts into the 16 bytes that PostgreSQL stores."""
    fits = pc.match_substring_regex(values, _UUID)
    if not pc.all(fits).as_py() and fits.null_count < len(fits):
        wrong = values.filter(pc.invert(fits))[0].as_py()
        raise DestinationFault(
            f"A value of column '{name}' is no uuid: {masked(wrong)}.", "sqlstate:22P02"
        )
    digits = pc.replace_substring_regex(pc.fill_null(values, "0" * 32), "[-{}]", "")
    half = _DIGITS[np.frombuffer(digits.buffers()[2], np.uint8)[: 32 * len(digits)]]
    data = (half[0::2] << 4) | half[1::2]
    made = pa.Array.from_buffers(pa.binary(16), len(digits), [None, pa.py_buffer(data.tobytes())])
    return made if not values.null_count else pc.if_else(pc.is_valid(values), made, None)


def _digit_values() -> "np.ndarray[Any, np.dtype[np.uint8]]":
    found = np.zeros(256, np.uint8)
    for value, character in enumerate("0123456789abcdef"):
        found[[ord(character), ord(character.upper())]] = value
    return found


_DIGITS = _digit_values()


def lane_of(
    kinds: Sequence[ColumnType], arrow: "Callable[[], adbc.AdbcConnection | None]", db: Db
) -> Lane:
    """Choose the way of a stream."""
    if all(map(goes_in_binary, kinds)) and (connection := arrow()) is not None:
        return ArrowLane(connection)
    return CopyLane(db)
