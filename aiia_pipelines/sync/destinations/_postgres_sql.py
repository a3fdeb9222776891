"""Names and types of PostgreSQL, as contracts need them."""

import hashlib
import re
from collections.abc import Iterable

from psycopg import sql

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract

_MAX_NAME = 63  # bytes of a PostgreSQL identifier
MOMENT = "timestamp with time zone"
# As `format_type` says them, so that they can be compared with what a table has.
_TYPES = {
    "bool": "boolean", "int16": "smallint", "int32": "integer", "int64": "bigint", "float32": "real",
    "float64": "double precision", "decimal": "numeric", "string": "text", "binary": "bytea",
    "date": "date", "time": "time without time zone", "timestamp": "timestamp without time zone",
    "timestamptz": MOMENT, "interval": "interval", "uuid": "uuid", "json": "json",
}  # fmt: skip


def short(name: str) -> str:
    """Keep a name within PostgreSQL's limit, still unique."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    return f"{name[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def staging_prefix(connector: str, stream: str) -> str:
    """Name the staging tables of a stream; the epoch follows after two underscores."""
    name = f"{connector}__{stream}"
    # `a__b` of `c` and `b__c` of `a` must not share a table.
    if len(name) > 40 or not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*__[a-z0-9]+(_[a-z0-9]+)*", name):
        mark = hashlib.sha256(f"{connector}/{stream}".encode()).hexdigest()[:12]
        return f"{name[:24]}_{mark}"
    return name


def type_of(kind: ColumnType) -> str:
    """Give the PostgreSQL type of a column type."""
    if kind.item is not None:
        return f"{type_of(kind.item)}[]"
    if kind.name == "decimal" and kind.precision is not None:
        return f"numeric({kind.precision},{kind.scale})"
    return _TYPES[kind.name]


def column_list(contract: Contract, only: Iterable[str] | None = None) -> sql.Composed:
    """List the columns of a staging table, which takes everything."""
    wanted = {column.name for column in contract.columns} if only is None else set(only)
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(type_of(column.type)))
        for column in contract.columns
        if column.name in wanted
    )


def names_of(columns: Iterable[str]) -> sql.Composed:
    """List columns by their names."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))
