"""The connections to one PostgreSQL database: psycopg's, and the Arrow driver's for the fast lane."""

from contextlib import suppress
from typing import Any

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import psycopg

from aiia_pipelines.connectors._libpq_refusal import tell_state
from aiia_pipelines.sync.destinations._postgres_control import Db
from aiia_pipelines.sync.faults import DestinationFault

# A worker that stands still in a transaction, as by SIGSTOP, must not keep the next one waiting; where rows are
# waited for, the lanes set another limit.
_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3"
    " -c client_min_messages=warning -c idle_in_transaction_session_timeout=20s -c lock_timeout=60s"
    # The statements here are few and long; to compile them takes longer than it saves.
    " -c jit=off"
)
BETWEEN_BATCHES = "10min"
# Seconds and milliseconds until a connection that answers nothing counts as lost.
_KEEPALIVE = {
    "connect_timeout": "20", "keepalives_idle": "10", "keepalives_interval": "5",
    "keepalives_count": "3", "tcp_user_timeout": "30000", "application_name": "aiia_pipelines",
    "client_encoding": "UTF8",  # whatever the database keeps texts in
}  # fmt: skip


class Session:
    """What is open to one database."""

    def __init__(self, url: str) -> None:
        """Keep a libpq URL; nothing is opened yet."""
        self._url = url.replace("postgresql+psycopg2://", "postgresql://", 1)
        self._connection: Db | None = None
        self._arrow: adbc.AdbcConnection | None = None

    def describe(self) -> str:
        """Name the database for people, without password."""
        parts = self._parts()
        user = f"{parts['user']}@" if "user" in parts else ""
        return f"postgresql://{user}{self.place()}/{parts.get('dbname', '')}"

    def _parts(self) -> dict[str, Any]:
        try:
            return dict(psycopg.conninfo.conninfo_to_dict(self._url))
        except psycopg.ProgrammingError:
            # libpq's message repeats the text, which may hold a password.
            raise DestinationFault(
                "The destination has no URL that PostgreSQL understands;"
                " set AIIA_DESTINATION_<NAME> to postgresql://user@host:port/database.",
                "config:invalid",
            ) from None

    def _conninfo(self, more: str = "") -> str:
        parts = self._parts()
        options = f"{_OPTIONS}{more} {parts.pop('options', '')}".strip()
        return psycopg.conninfo.make_conninfo(**(_KEEPALIVE | parts | {"options": options}))

    def place(self) -> str:
        """Tell the `host:port` of the server."""
        parts = self._parts()
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"

    @property
    def db(self) -> Db:
        """The connection; one that was lost is opened again."""
        if self._connection is None or self._connection.closed:
            return self.reconnect()
        return self._connection

    def reconnect(self) -> Db:
        """Open a connection in place of the one before."""
        self._close_connection()
        # Without prepared statements: tables come and go under the same statement.
        conninfo = self._conninfo()
        try:
            self._connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as fault:
            tell_state(fault, conninfo)
            raise
        return self._connection

    def arrow(self) -> "adbc.AdbcConnection | None":
        """Give the connection of the fast lane; None when the server allows no other connection."""
        if self._arrow is None:
            info = self._conninfo(
                f" -c synchronous_commit=off -c idle_in_transaction_session_timeout={BETWEEN_BATCHES}"
            )
            try:
                self._arrow = adbc.AdbcConnection(adbc_driver_postgresql.connect(info))
            except adbc.Error:
                return None
            self._arrow.set_autocommit(False)
        return self._arrow

    def close_arrow(self) -> None:
        """Close the connection of the fast lane: one that failed would keep its locks."""
        connection, self._arrow = self._arrow, None
        if connection is not None:
            with suppress(adbc.Error):
                connection.rollback()
            with suppress(adbc.Error):
                connection.close()

    def cancel(self) -> None:
        """Ask the server to stop what both connections are doing."""
        connection, arrow = self._connection, self._arrow
        if connection is not None:
            # A connection that is just ending has nothing left to stop.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)
        if arrow is not None:
            with suppress(adbc.Error):
                arrow.cancel()

    def close(self) -> None:
        """Disconnect."""
        self.close_arrow()
        self._close_connection()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
