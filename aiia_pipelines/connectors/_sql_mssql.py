"""SQL Server through pymssql; never tried here against a real server."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_deadline import within
from aiia_pipelines.connectors._sql_dialects import Dialect, needs
from aiia_pipelines.connectors._sql_far_faults import mssql_meaning
from aiia_pipelines.connectors._sql_keyset import EXACT
from aiia_pipelines.connectors._sql_texts import TIMES, read_texts
from aiia_pipelines.connectors._sql_wanted import AS_IT_IS, Described, Limits, Told, Wanted
from aiia_pipelines.connectors.base import Row, SourceColumn

_LOG = logging.getLogger(__name__)
_LOCK = 50_000  # milliseconds
# The driver cuts the seventh digit of a second off: times are read as text.
_TEXT_OF_TIME = "CONVERT(varchar(34), {}, 121)"
_TYPES = {
    "bit": ("bool", AS_IT_IS), "tinyint": ("int16", AS_IT_IS), "smallint": ("int16", AS_IT_IS),
    "int": ("int32", AS_IT_IS), "bigint": ("int64", AS_IT_IS), "real": ("float32", AS_IT_IS),
    "float": ("float64", AS_IT_IS), "money": ("decimal(19,4)", "CAST({} AS decimal(19,4))"),
    "smallmoney": ("decimal(10,4)", "CAST({} AS decimal(10,4))"),
    "char": ("string", AS_IT_IS), "varchar": ("string", AS_IT_IS), "text": ("string", AS_IT_IS),
    "nchar": ("string", AS_IT_IS), "nvarchar": ("string", AS_IT_IS), "ntext": ("string", AS_IT_IS),
    "sysname": ("string", AS_IT_IS), "xml": ("string", "CAST({} AS nvarchar(max))"),
    "uniqueidentifier": ("uuid", "LOWER(CONVERT(char(36), {}))"),
    "binary": ("binary", AS_IT_IS), "varbinary": ("binary", AS_IT_IS),
    "image": ("binary", AS_IT_IS), "timestamp": ("binary", "CAST({} AS binary(8))"),
    "rowversion": ("binary", "CAST({} AS binary(8))"),
    "geometry": ("binary", "CAST({} AS varbinary(max))"),
    "geography": ("binary", "CAST({} AS varbinary(max))"),
    "hierarchyid": ("string", "{}.ToString()"),
    "date": ("date", "CONVERT(varchar(10), {}, 23)"), "time": ("time", _TEXT_OF_TIME),
    "smalldatetime": ("timestamp", _TEXT_OF_TIME), "datetime": ("timestamp", _TEXT_OF_TIME),
    "datetime2": ("timestamp", _TEXT_OF_TIME), "datetimeoffset": ("timestamptz", _TEXT_OF_TIME),
}  # fmt: skip


class Database(Dialect):
    """A Microsoft SQL Server."""

    # The collation of a literal need not be the one of the column.
    ordered_kinds: ClassVar[frozenset[str]] = EXACT - {"string"}

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the one driver whose types this file knows."""
        super().__init__(url.set(drivername="mssql+pymssql"), limits)
        self._left = float(limits.connect)

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on without the driver."""
        needs("pymssql", "SQL Server", "mssql")

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver."""
        del reached
        self._left = seconds
        return {
            "login_timeout": max(1, round(seconds)),
            "timeout": self.limits.statement,
            "appname": "aiia_pipelines",
            # Without a version the driver tries one after the other, one timeout each.
            "tds_version": "7.4",
            "charset": "UTF-8",
        }

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in; the driver may take its login timeout several times over."""
        return within(self._left, engine.connect)

    def after_login(self, connection: sa.Connection) -> None:
        """Begin the snapshot where the database allows one."""
        connection.exec_driver_sql(f"SET LOCK_TIMEOUT {_LOCK}")
        allowed = connection.exec_driver_sql(
            "SELECT snapshot_isolation_state FROM sys.databases WHERE name = DB_NAME()"
        ).scalar()
        # The level may not change inside of a transaction.
        connection.rollback()
        if allowed == 1:
            connection.execution_options(isolation_level="SNAPSHOT")
            return
        _LOG.warning(
            "%s allows no snapshot isolation, so rows that change while they are read may be read twice"
            " or not at all; ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON helps",
            self.url.database or self.url.host,
        )

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream as the server describes a result, without running it."""
        found = connection.exec_driver_sql(
            "SELECT name, system_type_name, is_nullable, error_number, error_message"
            f" FROM sys.dm_exec_describe_first_result_set({_text(f'SELECT * FROM {relation}')}, NULL, 0)"
            " WHERE is_hidden = 0 OR is_hidden IS NULL ORDER BY column_ordinal",
            execution_options={"no_parameters": True},
        ).fetchall()
        if not found or found[0][3] is not None:
            # The statement itself tells its mistake with a number.
            connection.exec_driver_sql(
                f"SELECT TOP 0 * FROM {relation}", execution_options={"no_parameters": True}
            )
        return [described(row, table=stream.query is None) for row in found]

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Read times from their text."""
        return read_texts(wanted, rows, TIMES)

    # -- the cursor -------------------------------------------------------------------------

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value as text with all its digits."""
        kind = column.type.name if column.type is not None else "string"
        if kind == "binary":
            return f"CONVERT(varchar(200), {expression}, 1)"
        if kind.startswith("float"):
            return f"CONVERT(varchar(50), {expression}, 3)"
        style = ", 121" if kind in TIMES else ""
        return f"CONVERT(nvarchar(200), {expression}{style})"

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        kind = column.type.name if column.type is not None else "string"
        if kind in cursor.NUMBERS:
            return cursor.number(text)
        if kind in TIMES:
            return f"CONVERT({column.declared}, {_text(text)}, 121)"
        return f"CONVERT({column.declared}, {_text(text)}, 1)" if kind == "binary" else _text(text)

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        if lookback.seconds is None:
            return super().earlier(literal, lookback, column)
        days, seconds = divmod(lookback.seconds, 86_400)
        moment = literal
        if column.declared == "date":
            moment, days, seconds = literal, days + bool(seconds), 0
        if seconds:
            moment = f"DATEADD(second, -{seconds}, {moment})"
        return f"DATEADD(day, -{days}, {moment})"

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        return mssql_meaning(driver, login=login)


def described(row: Sequence[Any], *, table: bool) -> tuple[SourceColumn, str]:
    """Describe a column of a result."""
    name, declared, nullable = str(row[0]), str(row[1] or "unknown"), bool(row[2])
    word = declared.partition("(")[0]
    if word in {"decimal", "numeric"}:
        text, form = declared.replace("numeric", "decimal"), AS_IT_IS
    else:
        text, form = _TYPES.get(word, ("", AS_IT_IS))
    kind = ColumnType.parse(text) if text else None
    return SourceColumn(name, kind, nullable or not table, declared), form


def _text(value: str) -> str:
    return "N" + cursor.text(value)
