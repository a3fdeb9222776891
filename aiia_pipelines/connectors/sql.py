"""The kind `sql`: tables and queries of any database that SQLAlchemy speaks to."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._reach import Reached, reach, resolve, timed_out
from aiia_pipelines.connectors._sample import counted, sampled
from aiia_pipelines.connectors._sql_dialects import dialect_of, table_of
from aiia_pipelines.connectors._sql_sentences import first_sentence, sentence
from aiia_pipelines.connectors._sql_wanted import (
    DriverFault,
    Limits,
    Told,
    Wanted,
    quoted,
)
from aiia_pipelines.connectors._tls import Peer
from aiia_pipelines.connectors.base import (
    Batch,
    Position,
    Reading,
    Source,
    SourceColumn,
    SourceFault,
)

_LOGIN = "login"


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
        limits = Limits(options.connect_timeout, options.statement_timeout)
        self._dialect = dialect_of(sa.make_url(options.url), limits)
        self._url = self._dialect.url
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._columns: dict[str, dict[str, tuple[SourceColumn, str]]] = {}

    def describe(self) -> str:
        """Name the database for people, without password or driver."""
        url = self._url
        return sa.URL.create(
            url.get_backend_name(),
            username=url.username,
            host=url.host,
            port=url.port,
            database=url.database,
        ).render_as_string()

    def place(self) -> str:
        """Tell the `host:port` that has to be reachable, or the file of a database without a server."""
        if self._url.host is None:
            return str(self._url.database)
        return f"{self._url.host}:{self._dialect.port}"

    # -- connecting -------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach the server, log in, and begin the one snapshot that all streams are read in."""
        began = time.monotonic()
        self._dialect.check()
        reached = self._reach() if self._url.host else None
        self._login(reached, self._options.connect_timeout - (time.monotonic() - began))

    def _reach(self) -> Reached:
        return reach(str(self._url.host), self._dialect.port, self._options.connect_timeout)

    def _login(self, reached: Reached | None, seconds: float) -> None:
        secret = self._options.password
        url = self._url.set(password=secret.get_secret_value()) if secret else self._url
        with self._translated(_LOGIN):
            self._engine = sa.create_engine(
                url,
                poolclass=sa.NullPool,
                hide_parameters=True,
                connect_args=self._dialect.connect_args(reached, seconds),
            )
            opened = self._dialect.open(self._engine)
            self._connection = opened.execution_options(**self._dialect.execution_options)
            self._dialect.after_login(self._connection)

    # -- reading ----------------------------------------------------------------------------

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns of a table or a query, in order."""
        with self._reading("describe"):
            found = self._dialect.describe(self._open, self._relation(stream), stream)
        self._columns[stream.name] = {column.name: (column, form) for column, form in found}
        return [column for column, _ in found]

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Tell where the stream is now."""
        with self._reading("read"):
            return self._dialect.position(self._wanted(stream, reading))

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:
        """Count the rows up to a position."""
        with self._reading("read"):
            return self._dialect.rows_until(self._wanted(stream, reading))

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the columns of the wanted rows, `batch_rows` at a time."""
        with self._reading("read"):
            yield from self._dialect.batches(self._wanted(stream, reading))

    def _wanted(self, stream: Stream, reading: Reading) -> Wanted:
        return Wanted(
            connection=self._open,
            stream=stream,
            reading=reading,
            relation=self._relation(stream),
            columns=self._columns.get(stream.name, {}),
        )

    @contextmanager
    def _reading(self, stage: str) -> Iterator[None]:
        """Translate what goes wrong, and leave the snapshot usable for the other streams."""
        with self._translated(stage), self._dialect.undone(self._open):
            yield

    def _relation(self, stream: Stream) -> str:
        if stream.query is not None:
            return self._dialect.relation_of_query(stream.query.strip().rstrip(";"))
        return ".".join(quoted(self._open, part) for part in table_of(stream) if part)

    @property
    def _open(self) -> sa.Connection:
        if self._connection is None:
            raise AssertionError("connect() comes first")
        return self._connection

    # -- Connection Test --------------------------------------------------------------------

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages: name, port, encryption, login, then columns and a row of each stream."""
        if self._url.host is not None:
            yield "dns", lambda: ", ".join(resolve(str(self._url.host), self._dialect.port))
            yield "tcp", self._stage_tcp
            if (agree := self._dialect.tls()) is not None:
                yield "tls", partial(self._stage_tls, agree)
        yield "login", self._stage_login
        yield from ((f"permission {s.name}", partial(self._stage_permission, s)) for s in streams)
        yield from ((f"query {s.name}", partial(self._stage_query, s)) for s in streams)

    def _stage_tcp(self) -> str:
        reached = self._reach()
        return f"{reached.address}:{self._dialect.port} from {reached.outbound}"

    def _stage_tls(self, agree: Callable[[Peer], str]) -> str:
        seconds, host = self._options.connect_timeout, str(self._url.host)
        self._dialect.check()
        address = self._reach().address
        with self._translated(_LOGIN):
            return agree(Peer(host=host, address=address, port=self._dialect.port, seconds=seconds))

    def _stage_login(self) -> str:
        self.connect()
        return f"as {self._url.username}" if self._url.username else ""

    def _stage_permission(self, stream: Stream) -> str:
        return counted(len(self.columns(stream)), "column")

    def _stage_query(self, stream: Stream) -> str:
        return sampled(self, stream, list(self._columns[stream.name]))

    # -- ending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the server to stop the statement in progress."""
        connection = self._connection
        if connection is None:
            return
        # A connection that is just ending has nothing left to stop.
        with suppress(SQLAlchemyError, connection.dialect.loaded_dbapi.Error):
            self._dialect.cancel(connection.connection.driver_connection)

    def close(self) -> None:
        """Roll back the snapshot and disconnect."""
        silent = self._dialect.silent
        self._dialect.close()
        connection, self._connection = self._connection, None
        if connection is not None and silent:
            connection.invalidate()
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
            raise self._fault(fault.orig or fault, stage) from fault
        except DriverFault as fault:
            raise self._fault(fault.orig, stage) from fault
        except SQLAlchemyError as fault:
            raise SourceFault(
                first_sentence(str(fault)), *_class_names(fault), place=self.place()
            ) from fault

    def _fault(self, driver: BaseException, stage: str) -> SourceFault:
        place, login = self.place(), stage == _LOGIN
        told = self._dialect.fault(driver, login=login) or Told(str(driver))
        if login and "errno:ETIMEDOUT" in told.signals:
            return timed_out(place, self._options.connect_timeout)
        return SourceFault(sentence(told, place, self._url.username), *told.signals, place=place)


def open(options: Options) -> Source:  # noqa: A001 - the kinds' common entry is called open
    """Open a database; nothing is connected yet."""
    return SqlSource(options)


def _class_names(fault: BaseException) -> tuple[str, ...]:
    return (f"class:{type(fault).__name__}",)
