"""What the column types of databases are called here, and how a value of each is read without loss."""

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

# A described column and the expression that reads it; `{}` stands for the quoted name.
Described = list[tuple[SourceColumn, str]]

# A percent sign in somebody's query is no parameter.
AS_WRITTEN = {"no_parameters": True}

_AS_IT_IS = "{}"
_AS_TEXT = "{}::text"
_NUMERIC = 1700

# PostgreSQL's type OIDs are fixed (src/include/catalog/pg_type.dat); arrays of them follow.
_OIDS = {
    16: "bool", 21: "int16", 23: "int32", 20: "int64", 700: "float32", 701: "float64",
    25: "string", 1043: "string", 1042: "string", 19: "string", 17: "binary",
    1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz",
    1000: "list<bool>", 1005: "list<int16>", 1007: "list<int32>", 1016: "list<int64>",
    1021: "list<float32>", 1022: "list<float64>", 1009: "list<string>", 1015: "list<string>",
    1182: "list<date>", 1115: "list<timestamp>", 1185: "list<timestamptz>",
}  # fmt: skip
# Python's own values would lose months, number digits or the difference of null and SQL NULL.
_OIDS_AS_TEXT = {1186: "interval", 2950: "uuid", 114: "json", 3802: "json"}

# Types of which PostgreSQL knows values that Python's classes cannot hold.
UNUSUAL_OIDS = tuple(
    oid
    for oid, name in _OIDS.items()
    if name in {"date", "time", "timestamp", "timestamptz"} or name.startswith("list")
)

_GENERIC = (
    (sa.Boolean, "bool"), (sa.SmallInteger, "int16"), (sa.BigInteger, "int64"), (sa.Integer, "int32"),
    (sa.Double, "float64"), (sa.Float, "float64"), (sa.Uuid, "uuid"), (sa.JSON, "json"),
    (sa.LargeBinary, "binary"), (sa.Interval, "interval"), (sa.Date, "date"), (sa.Time, "time"),
    (sa.String, "string"),
)  # fmt: skip


def describe_postgresql(connection: sa.Connection, relation: str, *, table: bool) -> Described:
    """Describe the columns of a relation from what the server says of an empty result."""
    result = connection.exec_driver_sql(
        f"SELECT * FROM {relation} LIMIT 0", execution_options=AS_WRITTEN
    )
    cursor = result.cursor
    if cursor is None:
        raise AssertionError("a SELECT has a cursor")
    described: list[Any] = list(cursor.description)
    origins = [
        (cursor.pgresult.ftable(place), cursor.pgresult.ftablecol(place))
        for place in range(len(described))
    ]
    result.close()
    names: dict[int, str] = dict(
        connection.exec_driver_sql(
            "select oid::int8, format_type(oid, null) from pg_type where oid = any(%(oids)s)",
            {"oids": [column.type_code for column in described]},
        ).fetchall()
    )
    filled = _not_null(connection, origins) if table else set()
    return [
        _described(column, names.get(column.type_code, "unknown"), nullable=origin not in filled)
        for column, origin in zip(described, origins, strict=True)
    ]


def _not_null(connection: sa.Connection, origins: list[tuple[int, int]]) -> set[tuple[int, int]]:
    rows = connection.exec_driver_sql(
        "select attrelid::int8, attnum::int8 from pg_attribute where attrelid = any(%(tables)s) and attnotnull",
        {"tables": sorted({table for table, _ in origins})},
    )
    return {(row[0], row[1]) for row in rows}


def _described(column: object, declared: str, *, nullable: bool) -> tuple[SourceColumn, str]:
    oid = int(getattr(column, "type_code", 0))
    name = str(getattr(column, "name", ""))
    precision, scale = getattr(column, "precision", None), getattr(column, "scale", None)
    if oid == _NUMERIC:
        # PostgreSQL also knows scales below zero and above the precision.
        bounded = precision is not None and 0 <= (scale or 0) <= precision
        text = f"decimal({precision},{scale or 0})" if bounded else "decimal"
        form = _AS_IT_IS
    elif oid in _OIDS:
        text, form = _OIDS[oid], _AS_IT_IS
    else:
        text, form = _OIDS_AS_TEXT.get(oid, "string"), _AS_TEXT
    return SourceColumn(name, ColumnType.parse(text), nullable, declared), form


def describe_table(connection: sa.Connection, schema: str | None, table: str) -> Described:
    """Describe the columns of a table through SQLAlchemy's reflection."""
    try:
        found = sa.inspect(connection).get_columns(table, schema=schema)
    except sa.exc.NoSuchTableError as missing:
        raise SourceFault(
            f"Table {table} does not exist in the source.", "sqlstate:42P01"
        ) from missing
    return [
        (
            SourceColumn(
                column["name"],
                _generic(column["type"]),
                bool(column["nullable"]),
                str(column["type"]),
            ),
            _AS_IT_IS,
        )
        for column in found
    ]


def describe_query(connection: sa.Connection, relation: str) -> Described:
    """List the columns of a query; only the connector file can say their types."""
    result = connection.exec_driver_sql(
        f"SELECT * FROM {relation} WHERE 1 = 0", execution_options=AS_WRITTEN
    )
    names = list(result.keys())
    result.close()
    return [
        (SourceColumn(name, None, nullable=True, declared="unknown"), _AS_IT_IS) for name in names
    ]


def _generic(kind: sa.types.TypeEngine[object]) -> ColumnType | None:
    if isinstance(kind, sa.DateTime):
        return ColumnType.parse("timestamptz" if kind.timezone else "timestamp")
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        if kind.precision is None:
            return ColumnType.parse("decimal")
        return ColumnType.parse(f"decimal({kind.precision},{kind.scale or 0})")
    for generic, name in _GENERIC:
        if isinstance(kind, generic):
            return ColumnType.parse(name)
    return None


_FROM_TEXT: dict[str, Callable[[str], object]] = {
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
}


def from_sqlite(kinds: Sequence[ColumnType | None], row: Sequence[Any]) -> Sequence[Any]:
    """Read what SQLite keeps as text or number; what does not fit stays, for the contract to refuse."""
    return [_from_sqlite(kind, value) for kind, value in zip(kinds, row, strict=True)]


def _from_sqlite(kind: ColumnType | None, value: Any) -> Any:  # noqa: ANN401 - a value of any type
    if kind is None:
        return value
    if kind.name == "bool" and type(value) is int and value in (0, 1):
        return bool(value)
    if kind.name in _FROM_TEXT and isinstance(value, str):
        with suppress(ValueError):
            return _FROM_TEXT[kind.name](value)
    return value
