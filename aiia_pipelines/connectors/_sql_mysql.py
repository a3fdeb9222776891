"""MySQL and MariaDB through PyMySQL: one consistent snapshot, rows streamed by the server."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors import _sql_mysql_tls as tls
from aiia_pipelines.connectors import _sql_mysql_types as types
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_cursor import NUMBERS, number
from aiia_pipelines.connectors._sql_dialects import Dialect, needs, portions
from aiia_pipelines.connectors._sql_keyset import EXACT
from aiia_pipelines.connectors._sql_mysql_faults import meaning
from aiia_pipelines.connectors._sql_wanted import (
    AS_WRITTEN,
    Described,
    DriverFault,
    Limits,
    Told,
    Wanted,
)
from aiia_pipelines.connectors._tls import Peer
from aiia_pipelines.connectors.base import Batch, Row, SourceColumn

# What PyMySQL lets out when the other side speaks another protocol, or a TLS file is missing.
_CONFUSED = (AssertionError, IndexError, OSError, UnicodeError, ValueError, struct.error)
_LONGEST_WAIT_FOR_A_LOCK = 50  # seconds, as InnoDB has it; the server's own for tables is a day
_KILL = 5  # seconds
_ASCII = 127


class Database(Dialect):
    """A MySQL or MariaDB server."""

    # A literal may be compared by another collation than the one that orders the column.
    ordered_kinds: ClassVar[frozenset[str]] = EXACT - {"string"}

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the one driver whose timeouts and types this file knows; it speaks to both servers."""
        super().__init__(url.set(drivername="mysql+pymysql"), limits)
        self._driver: Any = None

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on without the driver."""
        needs("pymysql", "MySQL and MariaDB", "mysql")

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver."""
        # A certificate is checked against the host's name.
        verified = any(key.startswith("ssl") for key in self.url.query)
        address = {"host": reached.address} if reached and not verified else {}
        left = max(seconds, 0.5)
        return address | {
            "connect_timeout": left,
            # The connect timeout does not cover the handshake.
            "read_timeout": left,
            "write_timeout": left,
            "charset": "utf8mb4",
            "program_name": "aiia_pipelines",
            "conv": import_module("pymysql.converters").conversions | types.READERS,
        }

    def tls(self) -> Callable[[Peer], str] | None:
        """Give what agrees on encryption with the server, unless the URL forbids it."""
        return partial(tls.agree, self.url) if tls.wanted(self.url) else None

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in."""
        sa.event.listen(engine, "do_connect", _with_any_password)
        try:
            return engine.connect()
        except _CONFUSED as confused:
            raise DriverFault(confused) from confused

    def after_login(self, connection: sa.Connection) -> None:
        """Make the session read-only and begin the snapshot that all streams are read in."""
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        statement = self.limits.statement
        # From here on a read may take as long as a statement; the server ends it first.
        driver._read_timeout = driver._write_timeout = statement + 30.0  # noqa: SLF001 - no setter
        limit = (
            f"max_statement_time = {statement}"
            if connection.dialect.is_mariadb  # type: ignore[attr-defined] # only MySQL's has it
            else f"max_execution_time = {min(statement * 1000, 2**32 - 1)}"
        )
        # The server must not end a session that waits for the destination.
        for setting in (
            "time_zone = '+00:00'",
            limit,
            f"lock_wait_timeout = {min(statement, _LONGEST_WAIT_FOR_A_LOCK)}",
            f"net_write_timeout = {min(max(statement, 60), 31_536_000)}",
            "wait_timeout = 28800",
            "TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ):
            connection.exec_driver_sql(f"SET SESSION {setting}")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def cancel(self, driver: Any) -> None:  # noqa: ANN401 - the driver's own connection
        """Stop the statement in progress, from a connection beside it."""
        pymysql: Any = import_module("pymysql")
        with suppress(pymysql.err.MySQLError, OSError):
            beside = pymysql.connect(
                host=driver.host,
                port=driver.port,
                unix_socket=driver.unix_socket,
                user=driver.user,
                password=driver.password,
                ssl=driver.ctx if driver.ssl and driver._ssl_required else None,  # noqa: SLF001
                connect_timeout=_KILL,
                read_timeout=_KILL,
                write_timeout=_KILL,
            )
            with closing(beside), beside.cursor() as cursor:
                cursor.execute(f"KILL QUERY {driver.thread_id()}")

    def close(self) -> None:
        """Give up a read in progress, so that the connection can end."""
        self._give_up()
        self._driver = None

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream, in order."""
        return types.describe(connection, relation, stream)

    def read(self, wanted: Wanted, statement: str) -> Iterator[Batch]:
        """Read the rows of a SELECT, `batch_rows` at a time."""
        result = wanted.connection.exec_driver_sql(
            statement, execution_options=AS_WRITTEN | {"stream_results": True}
        )
        try:
            for rows in portions(result.fetchmany, wanted.stream.batch_rows):
                yield Batch(self.values(wanted, rows))
        finally:
            # When the reader gives up half-way, the driver would read all that is left.
            self._give_up()
            result.close()

    def _give_up(self) -> None:
        driver = self._driver
        if driver is None:
            return
        result = driver._result  # noqa: SLF001 - nothing else tells of a read in progress
        if result is None or not result.unbuffered_active:
            return
        if driver.open:
            self.cancel(driver)
            driver._read_timeout = _KILL  # noqa: SLF001 - no setter
            with suppress(import_module("pymysql.err").MySQLError):
                # It ends with the server's word of the kill.
                result._finish_unbuffered_query()  # noqa: SLF001
            driver._read_timeout = self.limits.statement + 30.0  # noqa: SLF001 - no setter
        result.unbuffered_active, result.connection = False, None

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Read numbers and bits as bool where that is the column's type."""
        flags = [
            name in wanted.columns and str(wanted.column(name).type) == "bool"
            for name in wanted.reading.names
        ]
        if not any(flags):
            return rows
        return [
            [
                types.as_bool(value) if flag else value
                for flag, value in zip(flags, row, strict=True)
            ]
            for row in rows
        ]

    # -- the cursor -------------------------------------------------------------------------

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value as text."""
        if column.type is not None and column.type.name.startswith("float"):
            # FLOAT is written with six digits, its double with all.
            expression = f"{expression} * 1e0"
        return f"CAST({expression} AS CHAR)"

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value; the server compares it as the type of the column."""
        kind = column.type.name if column.type is not None else "string"
        if kind in NUMBERS:
            return number(text)
        # Neither the server's SQL mode nor its character set changes the meaning of these digits.
        plain = all(" " <= letter <= "~" and letter not in "'\\" for letter in text)
        return f"'{text}'" if plain else f"_utf8mb4 X'{text.encode().hex()}'"

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another; itself where none does."""
        if lookback.seconds is None:
            return super().earlier(literal, lookback, column)
        moment = f"CAST({literal} AS DATETIME(6)) - INTERVAL {lookback.seconds} SECOND"
        return f"COALESCE({moment}, {literal})"

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        return meaning(driver, login=login)


def _with_any_password(
    dialect: object,
    record: object,
    arguments: list[Any],
    named: dict[str, Any],
) -> None:
    """Send the password as the server stores it: PyMySQL alone knows only Latin-1."""
    del dialect, record, arguments
    if isinstance(named.get("password"), str):
        named["password"] = named["password"].encode()
