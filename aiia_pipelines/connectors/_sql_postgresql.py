"""PostgreSQL: all streams, and all connections that read them, see one snapshot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors import _sql_keyset as keyset
from aiia_pipelines.connectors import _sql_partition as partition
from aiia_pipelines.connectors import _sql_postgresql_faults as faults
from aiia_pipelines.connectors import _sql_postgresql_types as types
from aiia_pipelines.connectors import _sql_xmin as xmin
from aiia_pipelines.connectors._reach import Reached
from aiia_pipelines.connectors._sql_dialects import Dialect
from aiia_pipelines.connectors._sql_lanes import Lanes
from aiia_pipelines.connectors._sql_postgresql_tls import Encryption
from aiia_pipelines.connectors._sql_wanted import Described, Limits, Told, Wanted
from aiia_pipelines.connectors._tls import Peer
from aiia_pipelines.connectors.base import Batch, Position, SourceColumn

_AT_ONCE = 4  # parts of the calendar that are read at the same time


class Database(Dialect):
    """A PostgreSQL server, or what speaks like one."""

    execution_options: ClassVar[Mapping[str, Any]] = {
        "isolation_level": "REPEATABLE READ",
        "postgresql_readonly": True,
    }

    def __init__(self, url: sa.URL, limits: Limits) -> None:
        """Take the one driver whose timeouts, snapshot and types this file knows."""
        super().__init__(url.set(drivername="postgresql+psycopg"), limits)
        self._lanes: Lanes | None = None
        self._version = 0
        self._snapshot: xmin.Snapshot | None = None
        self._tables: dict[tuple[str, str | None], xmin.Followed | None] = {}

    @property
    def port(self) -> int:
        """The port of the server."""
        return self.url.port or 5432

    # -- connecting -------------------------------------------------------------------------

    def connect_args(self, reached: Reached | None, seconds: float) -> dict[str, Any]:
        """Give the arguments of the driver."""
        # The address that answered, so that the driver does not try the others one timeout each.
        address = {"hostaddr": reached.address} if reached else {}
        return address | {
            # libpq takes whole seconds, two at least.
            "connect_timeout": max(2, round(seconds)),
            "application_name": "aiia_pipelines",
            "client_encoding": "UTF8",
            "options": (
                f"-c statement_timeout={self.limits.statement}s"
                " -c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO"
                " -c IntervalStyle=postgres -c extra_float_digits=3 -c idle_in_transaction_session_timeout=0"
            ),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        }

    def tls(self) -> Callable[[Peer], str] | None:
        """Give what agrees on encryption with the server, where the driver asks for any."""
        encryption = Encryption(self.url)
        return encryption.look if encryption.wanted else None

    def open(self, engine: sa.Engine) -> sa.Connection:
        """Log in; a refusal in any language keeps the SQLSTATE that came with it."""
        # Loading definitions must not import a driver.
        from aiia_pipelines.connectors import _libpq_refusal as refusal  # noqa: PLC0415

        sa.event.listen(engine, "do_connect", refusal.connect)
        return engine.connect()

    def after_login(self, connection: sa.Connection) -> None:
        """Begin the snapshot, and let other connections share it."""
        # Loading definitions must not import a driver.
        from aiia_pipelines.connectors._sql_psycopg import keep_unusual_values  # noqa: PLC0415

        keep_unusual_values(connection)
        told: Any = connection.connection.driver_connection
        self._version = told.info.server_version
        self._snapshot, self._tables = None, {}
        try:
            snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar()
        except DBAPIError as fault:
            if told.broken:
                raise
            # What only speaks like PostgreSQL is read by this connection alone.
            del fault
            connection.rollback()
            # The snapshot is taken by the first statement, not by BEGIN.
            connection.exec_driver_sql("SELECT 1")
            return
        self._lanes = Lanes(told.info, str(snapshot), self.limits.statement)

    def cancel(self, driver: Any) -> None:  # noqa: ANN401 - the driver's own connection
        """Stop the statements in progress."""
        if self._lanes is not None:
            self._lanes.cancel()
        driver.cancel_safe(timeout=5)

    @property
    def silent(self) -> bool:
        """Whether the server stopped answering."""
        return self._lanes is not None and self._lanes.silent

    def close(self) -> None:
        """Disconnect the further connections."""
        lanes, self._lanes = self._lanes, None
        if lanes is not None:
            lanes.close()

    @contextmanager
    def undone(self, connection: sa.Connection) -> Iterator[None]:
        """Leave the snapshot usable for the other streams when the block fails."""
        with connection.begin_nested():
            yield

    # -- reading ----------------------------------------------------------------------------

    def describe(self, connection: sa.Connection, relation: str, stream: Stream) -> Described:
        """Describe the columns of a stream, in order."""
        if self._lanes is not None:
            self._lanes.ready()
        return types.describe(connection, relation, stream)

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """Read the wanted rows, as columns where that is exact."""
        base = self._parts(wanted)
        cuts = partition.conditions(self, wanted)
        parts = [
            xmin.Part(cursor.both(part.where, cut), part.order) for part in base for cut in cuts
        ]
        if self._lanes is not None and types.columnar(wanted):
            cut = wanted.stream.partition
            at_once = min(len(cuts), (cut and cut.ranges) or _AT_ONCE)
            read = self._lanes.read(wanted, parts, at_once=at_once)
            if read is not None:
                yield from read
                return
        for part in parts:
            statement = types.select(wanted, part.where, part.order)
            batches = self.read(wanted, statement)
            width = len(wanted.reading.names)
            yield from keyset.marked(batches, width, part.order) if part.order else batches

    def _parts(self, wanted: Wanted) -> list[xmin.Part]:
        table = self._followed(wanted)
        if table is None:
            if wanted.reading.after is not None:
                cursor.refuse_doubling(wanted, "its table is another one since the broken attempt")
            return [xmin.Part(cursor.condition(self, wanted))]
        return xmin.parts(self, wanted, table, self._seen(wanted))

    def _followed(self, wanted: Wanted) -> xmin.Followed | None:
        """Look whether the rows of the stream tell of their changes, and did at the last sync."""
        table = self._table(wanted)
        last = wanted.reading.since
        if table is not None and last is not None and "snapshot" not in last:
            # A view or query became a table: only a stream whose rows have keys can begin anew.
            return None
        return table

    def _table(self, wanted: Wanted) -> xmin.Followed | None:
        about = wanted.stream.name, wanted.reading.cursor
        if about not in self._tables:
            self._tables[about] = xmin.followed(wanted, self._version)
        return self._tables[about]

    def _seen(self, wanted: Wanted) -> xmin.Snapshot:
        if self._snapshot is None:
            self._snapshot = xmin.snapshot(wanted)
        return self._snapshot

    # -- the cursor -------------------------------------------------------------------------

    def position(self, wanted: Wanted) -> Position | None:
        """Tell where the stream is now; None when it has to be read whole."""
        if wanted.reading.cursor is None:
            return None
        name = wanted.quote(wanted.reading.cursor)
        # Also for types that have an order and no max().
        latest = wanted.ask(
            f"SELECT (SELECT {name} FROM {wanted.relation} WHERE {name} IS NOT NULL"
            f" ORDER BY {name} DESC LIMIT 1)::text"
        )[0][0]
        table = self._table(wanted)
        if table is None:
            return {"column": wanted.reading.cursor, "cursor": latest}
        return xmin.position(wanted, table, self._seen(wanted), latest)

    def rows_until(self, wanted: Wanted) -> int | None:
        """Count the rows up to `reading.until`; behind a snapshot none can hide."""
        return None if self._followed(wanted) else cursor.rows_until(self, wanted)

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value as text; the session's settings make it exact."""
        del column
        return f"({expression})::text"

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write such a text as a value of the column's type."""
        return f"{cursor.text(text)}::{types.castable(column.declared)}"

    def earlier(self, literal: str, lookback: Lookback, column: SourceColumn) -> str:
        """Write a value that lies so much before another."""
        del column
        if lookback.seconds is not None:
            return f"({literal} - interval '{lookback.seconds} seconds')"
        return f"({literal} - {lookback.steps or 0})"

    def edges(self, wanted: Wanted, name: str) -> Sequence[str]:
        """Cut where the statistics of a table do, else evenly, else at the quantiles themselves."""
        cut = wanted.stream.partition
        kind = wanted.column(name).type
        if cut is None or cut.ranges is None or kind is None:
            finite = f"isfinite({wanted.quote(name)})" if kind and kind.name in cursor.TIMES else ""
            return partition.edges(self, wanted, name, finite)
        bounds = types.histogram(wanted, name)
        if len(bounds) > cut.ranges:
            return [
                bounds[place * (len(bounds) - 1) // cut.ranges] for place in range(1, cut.ranges)
            ]
        if kind.name in cursor.TIMES | cursor.NUMBERS and (
            even := partition.edges(self, wanted, name)
        ):
            return even
        return types.quantiles(wanted, name, cut.ranges)

    # -- faults -----------------------------------------------------------------------------

    def fault(self, driver: BaseException, *, login: bool) -> Told | None:
        """Tell what an exception of the driver means."""
        return faults.at_login(driver, self.url) if login else faults.in_use(driver)
