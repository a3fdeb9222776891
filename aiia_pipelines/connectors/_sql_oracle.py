"""Oracle through oracledb, without its client libraries; never tried here against a real server."""

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import Any, ClassVar

import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_deadline import within
from aiia_pipelines.connectors._sql_dialects import Dialect, needs
from aiia_pipelines.connectors._sql_far_faults import oracle_meaning
from aiia_pipelines.connectors._sql_keyset import EXACT
from aiia_pipelines.connectors._sql_texts import TIMES, read_texts
from aiia_pipelines.connectors._sql_wanted import (
    AS_IT_IS,
    AS_WRITTEN,
    Described,
    Limits,
    Told,
    Wanted,
)
from aiia_pipelines.connectors.base import Row, SourceColumn

_DAY = "YYYY-MM-DD HH24:MI:SS"
_SESSION = (
    "ALTER SESSION SET TIME_ZONE = '+00:00'",
    f"ALTER SESSION SET NLS_DATE_FORMAT = '{_DAY}'",
    f"ALTER SESSION SET NLS_TIMESTAMP_FORMAT = '{_DAY}.FF9'",
    f"ALTER SESSION SET NLS_TIMESTAMP_TZ_FORMAT = '{_DAY}.FF9 TZH:TZM'",
    "ALTER SESSION SET NLS_NUMERIC_CHARACTERS = '.,'",
)
_UNBOUNDED = -127  # the scale of a NUMBER that was declared without
_LONGEST_NUMBER = 200
_CHARS = {"DB_TYPE_CHAR", "DB_TYPE_NCHAR", "DB_TYPE_VARCHAR", "DB_TYPE_NVARCHAR"}
# Oracle's times have nine digits of a second, and years before Christ: they are read as text.
_ZONED = "TO_CHAR(SYS_EXTRACT_UTC({}), '" + _DAY + ".FF9') || '+00:00'"
_OTHERS = {
    "DB_TYPE_DATE": ("timestamp", f"TO_CHAR({{}}, 'S{_DAY}')"),
    "DB_TYPE_TIMESTAMP": ("timestamp", f"TO_CHAR({{}}, 'S{_DAY}.FF9')"),
    "DB_TYPE_TIMESTAMP_TZ": ("timestamptz", _ZONED),
    "DB_TYPE_TIMESTAMP_LTZ": ("timestamptz", _ZONED),
    "DB_TYPE_INTERVAL_DS": ("interval", "TO_CHAR({})"),
    "DB_TYPE_INTERVAL_YM": ("interval", "TO_CHAR({})"),
    "DB_TYPE_BINARY_FLOAT": ("float32", AS_IT_IS),
    "DB_TYPE_BINARY_DOUBLE": ("float64", AS_IT_IS),
    "DB_TYPE_RAW": ("binary", AS_IT_IS),
    "DB_TYPE_LONG_RAW": ("binary", AS_IT_IS),
    "DB_TYPE_BLOB": ("binary", AS_IT_IS),
    "DB_TYPE_CLOB": ("string", AS_IT_IS),
    "DB_TYPE_NCLOB": ("string", AS_IT_IS),
    "DB_TYPE_LONG": ("string", AS_IT_IS),
    "DB_TYPE_ROWID": ("string", "ROWIDTOCHAR({})"),
    "DB_TYPE_BOOLEAN": ("bool", AS_IT_IS),
    "DB_TYPE_JSON": ("json", "JSON_SERIALIZE({} RETURNING CLOB)"),
    "DB_TYPE_XMLTYPE": ("string", "XMLSERIALIZE(CONTENT {} AS CLOB)"),
} | dict.fromkeys(_CHARS, ("string", AS_IT_IS))


class Database(Dialect):
    """An Oracle server."""

    # The session's collation need not be the one of the index.
    ordered_kinds: ClassVar[frozenset[str]] = EXACT - {"string"}

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the one driver whose types this file knows."""
        super().__init__(url.set(drivername="oracle+oracledb"), limits)
        self._left = float(limits.connect)

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on without the driver."""
        needs("oracledb", "Oracle", "oracle")

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver."""
        del reached
        self._left = seconds
        return {"tcp_connect_timeout": max(seconds, 0.5), "retry_count": 0, "expire_time": 1}

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in; the driver waits for a silent server without end, so it is left behind."""
        return within(self._left, engine.connect)

    def after_login(self, connection: sa.Connection) -> None:
        """Begin the read-only transaction, which is Oracle's snapshot."""
        driver: Any = connection.connection.driver_connection
        driver.call_timeout = self.limits.statement * 1000
        driver.outputtypehandler = _exactly
        for statement in _SESSION:
            connection.exec_driver_sql(statement)
        # It must be the first statement of its transaction.
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    # -- reading ----------------------------------------------------------------------------

    def relation_of_query(self, query: str) -> str:
        """Write a query after FROM, where Oracle knows no AS."""
        return f"({query}\n) stream_query"

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream from what the server says of an empty result."""
        result = connection.exec_driver_sql(
            f"SELECT * FROM {relation} WHERE 1 = 0", execution_options=AS_WRITTEN
        )
        fields: list[Any] = list(getattr(result.cursor, "description", ()))
        result.close()
        wanted = {column.from_ or name: column.type for name, column in stream.columns.items()}
        return [
            described(field, wanted.get(field[0]), table=stream.query is None) for field in fields
        ]

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Read times from their text, and whole numbers as such."""
        return read_texts(wanted, rows, _READERS)

    # -- the cursor -------------------------------------------------------------------------

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value as text; the session's formats keep all digits."""
        if column.type is not None and column.type.name == "timestamptz":
            return _ZONED.format(expression)
        return f"TO_CHAR({expression})"

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        kind = column.type.name if column.type is not None else "string"
        if column.declared == "date":
            return f"TO_DATE({cursor.text(text[:19])}, '{_DAY}')"
        if kind == "timestamp":
            text = text if "." in text else f"{text}.0"
            return f"TO_TIMESTAMP({cursor.text(text)}, '{_DAY}.FF9')"
        if kind == "timestamptz":
            return f"TO_TIMESTAMP_TZ({cursor.text(text)}, '{_DAY}.FF9TZH:TZM')"
        return super().literal(text, column)

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        if lookback.seconds is None:
            return super().earlier(literal, lookback, column)
        return f"({literal} - NUMTODSINTERVAL({lookback.seconds}, 'SECOND'))"

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        return oracle_meaning(driver, login=login)


def described(field: Any, wanted: ColumnType | None, *, table: bool) -> tuple[SourceColumn, str]:  # noqa: ANN401
    """Describe a column; the file may name another type for a number without bounds."""
    name, code, _, _, precision, scale, nullable = field[:7]
    word = str(getattr(code, "name", code))
    if word == "DB_TYPE_NUMBER":
        kind: ColumnType | None = _number(precision or 0, scale)
        form = AS_IT_IS
        if wanted is not None and wanted.name in {"int16", "int32", "int64", "decimal"}:
            kind = wanted
    else:
        text, form = _OTHERS.get(word, (None, AS_IT_IS))
        kind = ColumnType.parse(text) if text else None
    declared = word.removeprefix("DB_TYPE_").lower()
    return SourceColumn(name, kind, bool(nullable) or not table, declared), form


def _number(precision: int, scale: int | None) -> ColumnType:
    """Give the type of NUMBER(p,s), whose scale may be below zero or above the precision."""
    if scale is None or scale == _UNBOUNDED or not precision:
        return ColumnType("decimal")
    if scale < 0:
        return ColumnType("decimal", precision - scale, 0)
    return ColumnType("decimal", max(precision, scale), scale)


def _exactly(asked: Any, field: Any) -> Any:  # noqa: ANN401 - oracledb calls this
    """Have numbers as decimals and large objects as values, where the driver would give floats and handles."""
    oracledb: Any = import_module("oracledb")
    if field.type_code is oracledb.DB_TYPE_NUMBER:
        return asked.var(
            oracledb.DB_TYPE_VARCHAR,
            _LONGEST_NUMBER,
            arraysize=asked.arraysize,
            outconverter=Decimal,
        )
    whole = {
        oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
        oracledb.DB_TYPE_NCLOB: oracledb.DB_TYPE_LONG_NVARCHAR,
        oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
    }
    if field.type_code in whole:
        return asked.var(whole[field.type_code], arraysize=asked.arraysize)
    return None


def _whole(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    try:
        return int(value) if isinstance(value, Decimal) and value == value.to_integral() else value
    except InvalidOperation:
        return value


def _unsigned(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Read a time whose year has a sign: a blank after Christ."""
    return lambda value: read(value.strip()) if isinstance(value, str) else read(value)


_READERS = {
    **{name: _unsigned(read) for name, read in TIMES.items()},
    **dict.fromkeys(("int16", "int32", "int64"), _whole),
}
