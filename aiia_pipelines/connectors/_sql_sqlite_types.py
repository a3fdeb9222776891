"""What the columns of SQLite are declared as, and which of their values are exactly that."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._sql_dialects import table_of
from aiia_pipelines.connectors._sql_texts import TIMES, Reader
from aiia_pipelines.connectors._sql_wanted import AS_IT_IS, AS_WRITTEN, Described
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

_NAMES = {
    "BOOL": "bool", "BOOLEAN": "bool",
    "TINYINT": "int16", "SMALLINT": "int16", "INT2": "int16",
    "DATE": "date", "TIME": "time", "DATETIME": "timestamp", "TIMESTAMP": "timestamp",
    "TIMESTAMPTZ": "timestamptz", "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "DATETIMEOFFSET": "timestamptz", "JSON": "json", "UUID": "uuid", "INTERVAL": "interval",
    "BINARY": "binary", "VARBINARY": "binary", "BYTEA": "binary",
}  # fmt: skip
# What SQLite itself makes of a declaration, in its order (https://sqlite.org/datatype3.html).
_AFFINITIES = (
    ("INT", "int64"), ("CHAR", "string"), ("CLOB", "string"), ("TEXT", "string"),
    ("BLOB", "binary"), ("REAL", "float64"), ("FLOA", "float64"), ("DOUB", "float64"),
)  # fmt: skip
_ARGUMENTS = re.compile(r"\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", re.ASCII)
_EXPRESSIONS = {"", "ANY", "NUM", "BLOB"}  # what a column of a query without a declaration may be
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_SURE_DIGITS = 15  # of a decimal that a double gives back as it was written


def describe(connection: sa.Connection, relation: str, stream: Stream) -> Described:
    """Describe the columns of a relation by their declarations; the file's types come first.

    Raises:
        SourceFault: There is no such table.
    """
    if stream.query is None:
        found = _columns(connection, *table_of(stream))
        if not found:
            # The server's own words for it.
            connection.exec_driver_sql(f"SELECT 1 FROM {relation} LIMIT 0")
            raise SourceFault(f"Table {stream.table} has no columns.", "sqlstate:42P01")
    else:
        found = _columns_of_query(connection, relation)
    wanted = {column.from_ or name: column.type for name, column in stream.columns.items()}
    return [
        (
            SourceColumn(
                name,
                # What is declared binds no value: the file may know better.
                wanted.get(name) or type_of(declared, query=stream.query is not None),
                nullable=nullable,
                declared=declared or "unknown",
            ),
            AS_IT_IS,
        )
        for name, declared, nullable in found
    ]


def _columns(
    connection: sa.Connection, schema: str | None, table: str
) -> list[tuple[str, str, bool]]:
    rows = connection.exec_driver_sql(
        'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1',
        (table, schema or "main"),
    ).fetchall()
    keys = sum(bool(row[3]) for row in rows)
    # Of all primary keys only the row's number cannot be null.
    return [
        (
            str(name),
            str(declared),
            not (filled or (pk and keys == 1 and declared.upper() == "INTEGER")),
        )
        for name, declared, filled, pk in rows
    ]


def _columns_of_query(connection: sa.Connection, relation: str) -> list[tuple[str, str, bool]]:
    """Ask through a view of this session, because Python's driver does not tell the declarations."""
    connection.exec_driver_sql("PRAGMA query_only = OFF")
    try:
        statement = f"CREATE TEMP VIEW _aiia_query AS SELECT * FROM {relation}"
        connection.exec_driver_sql(statement, execution_options=AS_WRITTEN)
        try:
            found = _columns(connection, "temp", "_aiia_query")
        finally:
            connection.exec_driver_sql("DROP VIEW temp._aiia_query")
    finally:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    return [(name, declared, True) for name, declared, _ in found]


def type_of(declared: str, *, query: bool) -> ColumnType | None:
    """Give the type that a declaration names; None when it names none."""
    words = " ".join(declared.upper().split())
    arguments = _ARGUMENTS.search(words)
    name = _ARGUMENTS.sub("", words).strip()
    if not name or name == "ANY" or (query and name in _EXPRESSIONS):
        return None
    if name in _NAMES:
        return ColumnType.parse(_NAMES[name])
    for part, kind in _AFFINITIES:
        if part in name:
            return ColumnType.parse(kind)
    if arguments is not None:
        precision, scale = int(arguments[1]), int(arguments[2] or 0)
        if precision >= 1 and scale <= precision:
            return ColumnType("decimal", precision, scale)
    return ColumnType("decimal")


# -- values ------------------------------------------------------------------------------------


def read_text(raw: bytes) -> str | bytes:
    """Read text; what is no UTF-8 stays bytes, for the contract to refuse."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _bool(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    return bool(value) if type(value) is int and value in (0, 1) else value


def _decimal(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else value
    if isinstance(value, float):
        # SQLite turns a decimal into a double; up to so many digits it can be told which one it was.
        shortest = Decimal(repr(value))
        digits = shortest.normalize().as_tuple().digits if shortest.is_finite() else ()
        return shortest if 0 < len(digits) <= _SURE_DIGITS else value
    return value


READERS: Mapping[str, Reader] = {**TIMES, "bool": _bool, "decimal": _decimal}
