"""What one kind of database does in its own way, and which kind a URL means."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import sqlalchemy as sa

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors import _sql_keyset as keyset
from aiia_pipelines.connectors import _sql_partition as partition
from aiia_pipelines.connectors import _sql_types as types
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_wanted import AS_WRITTEN, Described, Limits, Told, Wanted
from aiia_pipelines.connectors._tls import Peer
from aiia_pipelines.connectors.base import Batch, Position, Row, SourceColumn, SourceFault

# Private modules, imported when a connector of that kind is opened: each has a class `Database`.
_MODULES = {
    "postgresql": "_sql_postgresql",
    "sqlite": "_sql_sqlite",
    "mysql": "_sql_mysql",
    "mariadb": "_sql_mysql",
    "oracle": "_sql_oracle",
    "mssql": "_sql_mssql",
    "hana": "_sql_hana",
}
_PORTION = 16 * 2**20  # bytes
_FIRST, _STEP = 10, 1000  # rows that are fetched before they are weighed
_PORTS = {"mysql": 3306, "mariadb": 3306, "oracle": 1521, "mssql": 1433, "hana": 30015}


class Dialect:
    """One opened database; these are the ways of one that nobody taught us, others override them."""

    execution_options: ClassVar[Mapping[str, Any]] = {}
    # Types by which rows can be put in an order that their text tells exactly.
    ordered_kinds: ClassVar[frozenset[str]] = keyset.EXACT

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Keep the URL, without password, and the limits."""
        self.url = url
        self.limits = limits

    @property
    def port(self) -> int:
        """The port of the server."""
        return self.url.port or _PORTS.get(self.url.get_backend_name(), 0)

    @property
    def silent(self) -> bool:
        """Whether the server stopped answering, so that nothing is to be said to it any more."""
        return False

    # -- connecting -------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse before connecting what the driver would not notice.

        Raises:
            SourceFault: There is no such source, or no driver for it.
        """
        name = self.url.get_backend_name()
        try:
            self.url.get_dialect().import_dbapi()
        except sa.exc.NoSuchModuleError as unknown:
            raise SourceFault(
                f"{name} is no kind of database that is known here.", "config:invalid"
            ) from unknown
        except ImportError as missing:
            raise SourceFault(
                f"The driver {missing.name} of {name} databases is not installed here.",
                "config:invalid",
            ) from missing

    def tls(self) -> Callable[[Peer], str] | None:
        """Give what agrees on encryption with a server; None where that is a part of the login."""
        return None

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in.

        Raises:
            DriverFault: The driver broke off in a way of its own.
        """
        return engine.connect()

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver for one connection within so many seconds."""
        del reached, seconds
        return {}

    def after_login(self, connection: sa.Connection) -> None:
        """Make the session read-only and begin the snapshot that all streams are read in."""

    def cancel(self, driver: Any) -> None:  # noqa: ANN401 - each driver has its own connections
        """Stop the statement in progress; called from another thread, with the driver's connection."""
        if hasattr(driver, "cancel"):
            driver.cancel()

    def close(self) -> None:
        """End what the dialect opened besides the one connection."""

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means; None when only its own words do."""
        del driver, login
        return None

    @contextmanager
    def undone(self, connection: sa.Connection) -> Iterator[None]:
        """Leave the snapshot usable for the other streams when the block fails."""
        del connection
        yield

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream, in order.

        Raises:
            SourceFault: There is no such table.
        """
        if stream.query is not None:
            return types.describe_query(connection, relation)
        return types.describe_table(connection, *table_of(stream))

    def relation_of_query(self, query: str) -> str:
        """Write a query so that it can stand after FROM."""
        return f"({query}\n) AS stream_query"

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """Read the wanted rows."""
        ordered = keyset.order(wanted, *table_of(wanted.stream), self.ordered_kinds)
        for base, in_order in keyset.parts(self, wanted, ordered):
            for part in partition.conditions(self, wanted):
                where = cursor.where(cursor.both(base, part))
                if not in_order:
                    statement = f"SELECT {wanted.selected()} FROM {wanted.relation}{where}"
                    yield from self.read(wanted, statement)
                    continue
                marked = keyset.extended(self, wanted, ordered)
                by = ", ".join(f"{wanted.relation}.{wanted.quote(name)}" for name in ordered)
                statement = (
                    f"SELECT {marked.selected()} FROM {wanted.relation}{where} ORDER BY {by}"
                )
                width = len(wanted.reading.names)
                yield from keyset.marked(self.read(marked, statement), width, ordered)

    def read(self, wanted: Wanted, statement: str) -> Iterator[Batch]:
        """Read the rows of a SELECT, `batch_rows` at a time."""
        size = wanted.stream.batch_rows
        streamed = {"stream_results": True, "max_row_buffer": size}
        result = wanted.connection.exec_driver_sql(
            statement, execution_options=AS_WRITTEN | streamed
        )
        with closing(result):
            for rows in portions(result.fetchmany, size):
                yield Batch(self.values(wanted, rows))

    def values(self, wanted: Wanted, rows: Sequence[Row]) -> Sequence[Row]:
        """Make of what the driver gave the values that the contract reads."""
        del wanted
        return rows

    def edges(self, wanted: Wanted, name: str) -> Sequence[str]:
        """Give the values, as text and in ascending order, at which a partitioned stream is cut."""
        return partition.edges(self, wanted, name)

    # -- the cursor -------------------------------------------------------------------------

    def position(self, wanted: Wanted) -> Position | None:
        """Tell where the stream is now; None when it has to be read whole."""
        return cursor.position(self, wanted)

    def rows_until(self, wanted: Wanted) -> int | None:
        """Count the rows up to `reading.until`; None when none can hide."""
        return cursor.rows_until(self, wanted)

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value of a column as text that `literal` reads back exactly."""
        del column
        return f"CAST({expression} AS VARCHAR(200))"

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        if column.type is not None and column.type.name in cursor.NUMBERS:
            return cursor.number(text)
        return cursor.text(text)

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        del column
        if lookback.seconds is not None:
            return f"({literal} - INTERVAL '{lookback.seconds}' SECOND)"
        return f"({literal} - {lookback.steps or 0})"


def dialect_of(url: sa.URL, limits: Limits) -> Dialect:
    """Give the ways of the database that a URL leads to."""
    name = _MODULES.get(url.get_backend_name())
    if name is None:
        return Dialect(url, limits)
    module = import_module(f"aiia_pipelines.connectors.{name}")
    found: Dialect = module.Database(url, limits)
    return found


def portions(fetch: Callable[[int], Sequence[Any]], most: int) -> Iterator[Sequence[Row]]:
    """Fetch rows in portions of at most so many, and of not much more than 16 MiB."""
    rows: list[Row] = []
    step, weight = _FIRST, 0
    while found := fetch(max(1, min(step, most - len(rows)))):
        rows.extend(found)
        heavy = sum(_weight(row) for row in found)
        weight += heavy
        if len(rows) >= most or weight >= _PORTION:
            yield rows
            rows, weight = [], 0
        step = min(_STEP, (_PORTION - weight) * len(found) // heavy)
    if rows:
        yield rows


def _weight(row: Row) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 16 for value in row) + 56


def needs(module: str, databases: str, extra: str) -> None:
    """Refuse to go on without a driver.

    Raises:
        SourceFault: It is not installed.
    """
    if find_spec(module) is None:
        raise SourceFault(
            f"The driver of {databases} is not installed here:"
            f" pip install 'aiia-pipelines[{extra}]'.",
            "config:invalid",
        )


def table_of(stream: Stream) -> tuple[str | None, str]:
    """Take the table of a stream apart: schema, if any, and name."""
    schema, _, table = str(stream.table).rpartition(".")
    return schema or None, table
