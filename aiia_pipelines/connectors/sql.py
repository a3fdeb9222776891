"""The kind `sql`: tables and queries of any database that SQLAlchemy speaks to."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_types as types
from aiia_pipelines.connectors._reach import Reached, reach, resolve, timed_out
from aiia_pipelines.connectors.base import Row, Source, SourceColumn, SourceFault

_PORTS = {
    "postgresql": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "oracle": 1521,
    "mssql": 1433,
    "hana": 30015,
}
_LOGIN = "login"
_POSTGRESQL = "postgresql"
_SQLITE = "sqlite"
# libpq gives no SQLSTATE before login; these words of the server's English messages decide.
_REFUSED = tuple(
    (re.compile(words), signal)
    for words, signal in (
        (r"password authentication failed|no password supplied", "sqlstate:28P01"),
        (r"is not permitted to log in|no pg_hba\.conf entry", "sqlstate:28000"),
        (r"role \".*\" does not exist", "sqlstate:28000"),
    )
)
_FORBIDDEN = re.compile("permission denied for database")
# What a query that writes ends with: it stands where only a SELECT may, or the snapshot is read-only.
_WRITES = {"0A000", "25006"}
_SERVER_WORDS = re.compile(r"^.*\b(?:FATAL|ERROR):\s*")


class Options(BaseModel):
    """The `source:` part of a connector file of kind sql."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["sql"]
    url: str = Field(
        description="SQLAlchemy URL without a password: dialect://user@host:port/database"
    )
    password: SecretStr | None = Field(None, description="A reference such as ${env:SAP_PASSWORD}")
    connect_timeout: int = Field(20, ge=1, le=600, description="Seconds")
    statement_timeout: int = Field(3600, ge=1, description="Seconds")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if "${" not in url:
            try:
                sa.make_url(url)
            except (sa.exc.ArgumentError, ValueError) as wrong:
                raise ValueError(
                    "not a database URL; write dialect://user@host:port/database"
                ) from wrong
        return url


class SqlSource:
    """A database read in one read-only snapshot."""

    def __init__(self, options: Options) -> None:
        """Keep the options; nothing is opened yet."""
        self._options = options
        self._url = sa.make_url(options.url)
        self._dialect = self._url.get_backend_name()
        if self._dialect == _POSTGRESQL:
            # The one driver whose timeouts, snapshot and types this file knows.
            self._url = self._url.set(drivername=f"{_POSTGRESQL}+psycopg")
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._expressions: dict[tuple[str, str], str] = {}
        self._kinds: dict[tuple[str, str], ColumnType | None] = {}

    def describe(self) -> str:
        """Name the database for people, without password or driver."""
        url = self._url
        return sa.URL.create(
            self._dialect,
            username=url.username,
            host=url.host,
            port=url.port,
            database=url.database,
        ).render_as_string()

    def place(self) -> str:
        """Tell the `host:port` that has to be reachable, or the file of a database without a server."""
        if self._url.host is None:
            return str(self._url.database)
        return f"{self._url.host}:{self._port}"

    @property
    def _port(self) -> int:
        return self._url.port or _PORTS.get(self._dialect, 0)

    # -- connecting -------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the server, log in, and begin the one snapshot that all streams are read in."""
        began = time.monotonic()
        if self._dialect == _SQLITE and not Path(str(self._url.database)).is_file():
            # SQLite would make an empty one.
            raise SourceFault(
                f"There is no file {self.place()}.", "source:not-found", place=self.place()
            )
        reached = self._reach() if self._url.host else None
        self._login(reached, self._options.connect_timeout - (time.monotonic() - began))

    def _reach(self) -> Reached:
        return reach(str(self._url.host), self._port, self._options.connect_timeout)

    def _login(self, reached: Reached | None, seconds: float) -> None:
        secret = self._options.password
        url = self._url.set(password=secret.get_secret_value()) if secret else self._url
        self._engine = sa.create_engine(
            url,
            poolclass=sa.NullPool,
            hide_parameters=True,
            connect_args=self._connect_args(reached, seconds),
        )
        with self._translated(_LOGIN):
            options: dict[str, Any] = {}
            if self._dialect == _POSTGRESQL:
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            self._connection = self._engine.connect().execution_options(**options)
            if self._dialect == _POSTGRESQL:
                # Loading definitions must not import a driver.
                from aiia_pipelines.connectors._sql_psycopg import keep_unusual_values  # noqa: PLC0415

                keep_unusual_values(self._connection)
                # The snapshot is taken by the first statement, not by BEGIN.
                self._connection.exec_driver_sql("SELECT 1")
            elif self._dialect == _SQLITE:
                self._connection.exec_driver_sql("PRAGMA query_only = ON")

    def _connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        if self._dialect != _POSTGRESQL:
            return {}
        # The address that answered, so that the driver does not try the others one timeout each.
        address = {"hostaddr": reached.address} if reached else {}
        return address | {
            # libpq takes whole seconds, two at least.
            "connect_timeout": max(2, round(seconds)),
            "application_name": "aiia_pipelines",
            "options": (
                f"-c statement_timeout={self._options.statement_timeout}s"
                " -c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO"
                " -c IntervalStyle=postgres -c extra_float_digits=3 -c idle_in_transaction_session_timeout=0"
            ),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        }

    # -- reading ----------------------------------------------------------------------------

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a table or a query, in order."""
        with self._translated("describe"), self._undone():
            if self._dialect == _POSTGRESQL:
                found = types.describe_postgresql(
                    self._open, self._relation(stream), table=stream.query is None
                )
            elif stream.query is None:
                found = types.describe_table(self._open, *self._table(stream))
            else:
                found = types.describe_query(self._open, self._relation(stream))
        self._expressions |= {(stream.name, column.name): form for column, form in found}
        self._kinds |= {
            (stream.name, column.name): self._kind(stream, column) for column, _ in found
        }
        return [column for column, _ in found]

    @staticmethod
    def _kind(stream: Stream, column: SourceColumn) -> ColumnType | None:
        """Tell the type of a column; that of a query of a source without types stands in the file."""
        origins = {entry.from_ or name: entry.type for name, entry in stream.columns.items()}
        return column.type or origins.get(column.name)

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Leave the snapshot usable for the other streams when this one fails."""
        if self._dialect != _POSTGRESQL:
            yield
            return
        with self._open.begin_nested():
            yield

    def batches(self, stream: Stream, names: Sequence[str]) -> Iterator[Sequence[Row]]:
        """Read the named columns of all rows, `batch_rows` at a time."""
        columns = ", ".join(
            self._expressions.get((stream.name, name), "{}").format(self._quote(name))
            for name in names
        )
        statement = f"SELECT {columns} FROM {self._relation(stream)}"
        with self._translated("read"), self._undone():
            streamed = {"stream_results": True, "max_row_buffer": stream.batch_rows}
            result = self._open.exec_driver_sql(
                statement, execution_options=types.AS_WRITTEN | streamed
            )
            with closing(result):
                for rows in result.partitions(stream.batch_rows):
                    yield self._values(stream, names, cast("Sequence[Row]", rows))

    def _values(self, stream: Stream, names: Sequence[str], rows: Sequence[Row]) -> Sequence[Row]:
        if self._dialect != _SQLITE:
            return rows
        kinds = [self._kinds.get((stream.name, name)) for name in names]
        return [types.from_sqlite(kinds, row) for row in rows]

    def _relation(self, stream: Stream) -> str:
        if stream.query is not None:
            return f"({stream.query.strip().rstrip(';')}\n) AS stream_query"
        schema, table = self._table(stream)
        return ".".join(self._quote(part) for part in (schema, table) if part)

    def _quote(self, name: str) -> str:
        dialect = self._open.dialect
        quoted = dialect.identifier_preparer.quote_identifier(name)
        # SQLAlchemy doubles percent signs for statements with parameters; these have none.
        doubled = dialect.paramstyle in {"format", "pyformat"}
        return quoted.replace("%%", "%") if doubled else quoted

    def _table(self, stream: Stream) -> tuple[str | None, str]:
        schema, _, table = str(stream.table).rpartition(".")
        return schema or None, table

    @property
    def _open(self) -> sa.Connection:
        if self._connection is None:
            raise AssertionError("connect() comes first")
        return self._connection

    # -- Connection Test --------------------------------------------------------------------

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages: name, port, login, then each stream's permission and a sample row."""
        if self._url.host is not None:
            yield "dns", lambda: ", ".join(resolve(str(self._url.host), self._port))
            yield "tcp", self._stage_tcp
        yield "login", self._stage_login
        yield "permission", lambda: self._stage_permission(streams)
        yield "query", lambda: self._stage_query(streams)

    def _stage_tcp(self) -> str:
        reached = self._reach()
        return f"{reached.address}:{self._port} from {reached.outbound}"

    def _stage_login(self) -> str:
        self.connect()
        return f"as {self._url.username}" if self._url.username else ""

    def _stage_permission(self, streams: Sequence[Stream]) -> str:
        for stream in streams:
            self.columns(stream)
        return f"{len(streams)} of {len(streams)} streams can be read"

    def _stage_query(self, streams: Sequence[Stream]) -> str:
        with self._translated("read"):
            for stream in streams:
                statement = f"SELECT * FROM {self._relation(stream)}"
                result = self._open.exec_driver_sql(
                    statement, execution_options=types.AS_WRITTEN | {"stream_results": True}
                )
                with closing(result):
                    result.fetchmany(1)
        return "a sample row of each stream"

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the server to stop the statement in progress."""
        connection = self._connection
        if connection is None:
            return
        # A connection that is just ending has nothing left to stop.
        with suppress(SQLAlchemyError, connection.dialect.loaded_dbapi.Error):
            driver: Any = connection.connection.driver_connection
            if hasattr(driver, "cancel_safe"):
                driver.cancel_safe(timeout=5)
            elif hasattr(driver, "interrupt"):
                driver.interrupt()

    def close(self) -> None:
        """Roll back the snapshot and disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A connection that broke cannot be rolled back; closing it is all that is left to do.
            with suppress(SQLAlchemyError):
                connection.close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    # -- faults -----------------------------------------------------------------------------

    @contextmanager
    def _translated(self, stage: str) -> Iterator[None]:
        """Turn what the driver raises into a SourceFault, once, here."""
        try:
            yield
        except DBAPIError as fault:
            raise self._fault(fault, stage) from fault
        except SQLAlchemyError as fault:
            raise SourceFault(
                _sentence(str(fault)), *_class_names(fault), place=self.place()
            ) from fault

    def _fault(self, fault: DBAPIError, stage: str) -> SourceFault:
        driver = fault.orig
        words = str(driver)
        if stage == _LOGIN:
            if type(driver).__name__ == "ConnectionTimeout" or "timeout expired" in words:
                return timed_out(self.place(), self._options.connect_timeout)
            for hint, signal in _REFUSED:
                if hint.search(words):
                    return SourceFault(
                        f"Invalid credentials for user {self._url.username} at {self.place()}.",
                        signal,
                        place=self.place(),
                    )
        state = getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None)
        if stage == _LOGIN and _FORBIDDEN.search(words):
            state = "42501"
        signals = (f"sqlstate:{state}",) if state else ()
        if state in _WRITES:
            signals = ("query:invalid",)
        diagnosis = getattr(getattr(driver, "diag", None), "message_primary", None)
        return SourceFault(
            f"{_sentence(diagnosis or words)} At {self.place()}.", *signals, place=self.place()
        )


def open(options: Options) -> Source:  # noqa: A001 - the kinds' common entry is called open
    """Open a database; nothing is connected yet."""
    return SqlSource(options)


def _sentence(words: str) -> str:
    first = _SERVER_WORDS.sub("", (words.strip().splitlines() or ["no message"])[0])
    first = first.strip().rstrip(".")
    return f"{first[:1].upper()}{first[1:]}."


def _class_names(fault: BaseException) -> tuple[str, ...]:
    return (f"class:{type(fault).__name__}",)
