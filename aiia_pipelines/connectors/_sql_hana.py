"""SAP HANA through hdbcli; never tried here against a real server."""

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
from aiia_pipelines.connectors._sql_far_faults import hana_meaning
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

_DECIMAL = 5
_FLOATING = 32767  # the scale of a DECIMAL that was declared without
_MOMENT = "TO_VARCHAR({}, 'YYYY-MM-DD HH24:MI:SS.FF7')"
_SECOND = "TO_VARCHAR({}, 'YYYY-MM-DD HH24:MI:SS')"
_DAY = "TO_VARCHAR({}, 'YYYY-MM-DD')"
_CLOCK = "TO_VARCHAR({}, 'HH24:MI:SS')"
# The numbers of types in HANA's SQL command network protocol.
_TYPES = {
    1: ("tinyint", "int16", AS_IT_IS), 2: ("smallint", "int16", AS_IT_IS),
    3: ("integer", "int32", AS_IT_IS), 4: ("bigint", "int64", AS_IT_IS),
    6: ("real", "float32", AS_IT_IS), 7: ("double", "float64", AS_IT_IS),
    8: ("char", "string", AS_IT_IS), 9: ("varchar", "string", AS_IT_IS),
    10: ("nchar", "string", AS_IT_IS), 11: ("nvarchar", "string", AS_IT_IS),
    12: ("binary", "binary", AS_IT_IS), 13: ("varbinary", "binary", AS_IT_IS),
    14: ("date", "date", _DAY), 15: ("time", "time", _CLOCK), 16: ("timestamp", "timestamp", _MOMENT),
    25: ("clob", "string", "TO_NCLOB({})"), 26: ("nclob", "string", AS_IT_IS),
    27: ("blob", "binary", AS_IT_IS), 28: ("boolean", "bool", AS_IT_IS),
    29: ("string", "string", AS_IT_IS), 30: ("nstring", "string", AS_IT_IS),
    51: ("text", "string", AS_IT_IS), 52: ("shorttext", "string", AS_IT_IS),
    53: ("bintext", "string", AS_IT_IS), 55: ("alphanum", "string", AS_IT_IS),
    61: ("timestamp", "timestamp", _MOMENT), 62: ("seconddate", "timestamp", _SECOND),
    63: ("date", "date", _DAY), 64: ("time", "time", _CLOCK),
}  # fmt: skip


class Database(Dialect):
    """An SAP HANA server."""

    # The collation of a literal need not be the one of the column.
    ordered_kinds: ClassVar[frozenset[str]] = EXACT - {"string"}

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the one driver that there is."""
        super().__init__(url.set(drivername="hana+hdbcli"), limits)
        self._left = float(limits.connect)

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on without the driver and its SQLAlchemy dialect."""
        needs("hdbcli", "SAP HANA", "hana")
        needs("sqlalchemy_hana", "SAP HANA", "hana")

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver, in milliseconds."""
        del reached
        self._left = seconds
        return {
            # Without a port in the URL the dialect would look for an entry of a key store.
            "port": self.port,
            "connectTimeout": max(500, round(seconds * 1000)),
            "communicationTimeout": self.limits.statement * 1000,
            "reconnect": "false",
            "sessionVariable:APPLICATION": "aiia_pipelines",
        }

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in within the connect timeout."""
        return within(self._left, engine.connect)

    def after_login(self, connection: sa.Connection) -> None:
        """Begin the snapshot that all streams are read in."""
        # The level may not change inside of a transaction.
        connection.rollback()
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream from what the server says of an empty result."""
        result = connection.exec_driver_sql(
            f"SELECT * FROM {relation} WHERE 1 = 0", execution_options=AS_WRITTEN
        )
        fields: list[Any] = list(getattr(result.cursor, "description", ()))
        result.close()
        return [described(field, table=stream.query is None) for field in fields]

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Read times from their text."""
        return read_texts(wanted, rows, TIMES)

    # -- the cursor -------------------------------------------------------------------------

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value as text with all its digits."""
        kind = column.type.name if column.type is not None else "string"
        forms = {"timestamp": _MOMENT, "date": _DAY, "time": _CLOCK, "binary": "BINTOHEX({})"}
        return forms.get(kind, "TO_NVARCHAR({})").format(expression)

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        kind = column.type.name if column.type is not None else "string"
        if kind == "timestamp":
            return f"TO_TIMESTAMP({cursor.text(text)}, 'YYYY-MM-DD HH24:MI:SS.FF7')"
        if kind == "binary":
            return f"HEXTOBIN({cursor.text(text)})"
        return super().literal(text, column)

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        if lookback.seconds is None:
            return super().earlier(literal, lookback, column)
        return f"ADD_SECONDS(TO_TIMESTAMP({literal}), -{lookback.seconds})"

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        return hana_meaning(driver, login=login)


def described(field: Sequence[Any], *, table: bool) -> tuple[SourceColumn, str]:
    """Describe a column of a result."""
    name, code, _, _, precision, scale, nullable = field[:7]
    may_be_null = bool(nullable) or not table
    if code == _DECIMAL:
        bounded = bool(precision) and scale is not None and 0 <= scale <= precision
        kind = ColumnType("decimal", precision, scale) if bounded else ColumnType("decimal")
        return SourceColumn(name, kind, may_be_null, "decimal"), AS_IT_IS
    declared, text, form = _TYPES.get(code, (f"type {code}", "", AS_IT_IS))
    return SourceColumn(name, ColumnType.parse(text) if text else None, may_be_null, declared), form
