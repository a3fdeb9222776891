"""What the columns of MySQL and MariaDB hold, and how their text is read without loss."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._sql_dialects import table_of
from aiia_pipelines.connectors._sql_wanted import AS_IT_IS, AS_WRITTEN, Described
from aiia_pipelines.connectors.base import SourceColumn

# The protocol's numbers of types (include/mysql.h.pp of the servers).
_TINY, _SHORT, _LONG, _FLOAT, _DOUBLE, _NULL, _TIMESTAMP = 1, 2, 3, 4, 5, 6, 7
_LONGLONG, _INT24, _DATE, _TIME, _DATETIME, _YEAR, _BIT, _JSON = 8, 9, 10, 11, 12, 13, 16, 245
_DECIMALS = {0, 246}
_BLOB, _STRING, _GEOMETRY = 252, 254, 255
_BINARY = 63  # the character set of bytes
_NOT_NULL, _UNSIGNED = 1, 32
_NO_SCALE = 31  # FLOAT and DOUBLE as they are
# FLOAT is written with six digits, and both with fewer when declared so; as an expression they have all.
_ALL_DIGITS = "{} * 1e0"
_AS_TEXT = "CAST({} AS CHAR)"
# A span of time is written without the zeros behind its digits.
_AS_SPAN = f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {_AS_TEXT}))"

_SIGNED = {
    _TINY: "int16", _SHORT: "int16", _INT24: "int32", _LONG: "int32", _LONGLONG: "int64",
    _YEAR: "int16",
}  # fmt: skip
_UNSIGNED_TYPES = {
    _TINY: "int16", _SHORT: "int32", _INT24: "int32", _LONG: "int64", _LONGLONG: "decimal(20,0)",
    _YEAR: "int16",
}  # fmt: skip
_OTHERS = {
    _DATE: "date", _TIME: "time", _DATETIME: "timestamp", _TIMESTAMP: "timestamptz", _JSON: "json",
    _GEOMETRY: "binary",
}  # fmt: skip
_WORDS = {
    _TINY: "tinyint", _SHORT: "smallint", _INT24: "mediumint", _LONG: "int", _LONGLONG: "bigint",
    _YEAR: "year", _FLOAT: "float", _DOUBLE: "double", _BIT: "bit", _DATE: "date", _TIME: "time",
    _DATETIME: "datetime", _TIMESTAMP: "timestamp", _JSON: "json", _GEOMETRY: "geometry",
    _NULL: "null", 0: "decimal", 246: "decimal",
}  # fmt: skip
_BITS: Mapping[object, bool] = {b"\0": False, b"\1": True, 0: False, 1: True}


def describe(connection: sa.Connection, relation: str, stream: Any) -> Described:  # noqa: ANN401
    """Describe the columns of a relation from what the server says of an empty result."""
    result = connection.exec_driver_sql(
        f"SELECT * FROM {relation} LIMIT 0", execution_options=AS_WRITTEN
    )
    cursor: Any = result.cursor
    fields = list(cursor._result.fields)  # noqa: SLF001 - the description leaves out sign and charset
    result.close()
    words = {} if stream.query is not None else _declared(connection, *table_of(stream))
    wanted = {column.from_ or name: column.type for name, column in stream.columns.items()}
    return [
        _described(field, words.get(field.name), wanted.get(field.name), query=stream.query)
        for field in fields
    ]


def _declared(connection: sa.Connection, schema: str | None, table: str) -> dict[str, str]:
    """List what the table's columns were declared as."""
    found = connection.exec_driver_sql(
        "SELECT column_name, column_type FROM information_schema.columns"
        " WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s",
        (schema, table),
    )
    return {str(row[0]): str(row[1]) for row in found}


def _described(
    field: Any,  # noqa: ANN401 - PyMySQL has no types
    word: str | None,
    wanted: ColumnType | None,
    *,
    query: str | None,
) -> tuple[SourceColumn, str]:
    kind, form = _learned(field, word)
    if wanted is not None and kind is not None:
        kind, form = _otherwise(field, kind, form, wanted)
    nullable = query is not None or not field.flags & _NOT_NULL
    declared = word or _WORDS.get(field.type_code, "text")
    return SourceColumn(field.name, kind, nullable, declared), form


def _learned(field: Any, word: str | None) -> tuple[ColumnType | None, str]:  # noqa: ANN401
    """Tell the type that holds all values of a column, and the expression that reads them exactly."""
    code, unsigned = field.type_code, bool(field.flags & _UNSIGNED)
    form = AS_IT_IS
    if code == _NULL or (code == _STRING and not field.length):
        # NULL without a type, and what a query makes of it.
        return None, form
    if code in _DECIMALS:
        # The length counts sign and point.
        digits = field.length - (not unsigned) - (field.scale > 0)
        text = f"decimal({max(digits, field.scale, 1)},{field.scale})"
    elif code in _SIGNED:
        text = (_UNSIGNED_TYPES if unsigned else _SIGNED)[code]
    elif code in {_FLOAT, _DOUBLE}:
        text = "float32" if code == _FLOAT else "float64"
        form = _ALL_DIGITS if code == _FLOAT or field.scale != _NO_SCALE else form
    elif code == _BIT:
        text = "bool" if field.length == 1 else "binary"
    elif code in _OTHERS:
        text = _OTHERS[code]
    elif word == "uuid":
        text = "uuid"
    else:
        text = "binary" if field.charsetnr == _BINARY else "string"
    return ColumnType.parse(text), form


def _otherwise(
    field: Any,  # noqa: ANN401 - PyMySQL has no types
    kind: ColumnType,
    form: str,
    wanted: ColumnType,
) -> tuple[ColumnType, str]:
    """Read a column as the type that the file gives it, where the server can write it so exactly."""
    name, code = wanted.name, field.type_code
    if name == "string" and kind.name not in {"string", "binary", "bool"}:
        return wanted, f"CAST({form} AS CHAR)"
    if code == _BIT and name in {"int16", "int32", "int64", "decimal"}:
        return wanted, "{} + 0"
    if code == _TIME and name == "interval":
        return wanted, _AS_SPAN if field.scale else _AS_TEXT
    # The last is how MariaDB keeps JSON.
    as_it_is = {("bool", _TINY), ("int64", _LONGLONG), ("json", _BLOB)}
    return (wanted, form) if (name, code) in as_it_is else (kind, form)


def as_bool(value: object) -> object:
    """Read 0 and 1 as bool; another number stays, for the contract to refuse."""
    return _BITS.get(value, value) if isinstance(value, bytes | int) else value


def _reader(read: Callable[[str], object]) -> Callable[[str], object]:
    def from_text(text: str) -> object:
        try:
            return read(text)
        except ValueError:
            # What Python has no value for, such as 0000-00-00 and 25:00:00, stays text.
            return text

    return from_text


def _instant(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"{text}+00:00")


READERS: Mapping[int, Callable[[str], object]] = {
    _DATE: _reader(dt.date.fromisoformat),
    _TIME: _reader(dt.time.fromisoformat),
    _DATETIME: _reader(dt.datetime.fromisoformat),
    _TIMESTAMP: _reader(_instant),
}
