"""Values of PostgreSQL that Python cannot hold, read by psycopg as the text they are written in.

Apart from `sql`, because loading the definitions of connectors must not import a driver.
"""

from typing import cast

import psycopg
import sqlalchemy as sa
from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from aiia_pipelines.connectors._sql_postgresql_types import UNUSUAL_OIDS


class _Unusual(Loader):
    """Reads dates and times, and leaves as text what Python has no value for: infinity, BC, 24:00."""

    inner: type[Loader]

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        """Use the driver's own loader for all that is usual."""
        super().__init__(oid, context)
        self._inner = self.inner(oid, context)

    def load(self, data: Buffer) -> object:
        """Read one value; the contract refuses texts by column and row."""
        if bytes(data[:1]) == b"[":
            # An array that does not begin at 1; a list would lose that.
            return bytes(data).decode()
        try:
            return self._inner.load(data)
        except DataError:
            return bytes(data).decode()


def keep_unusual_values(connection: sa.Connection) -> None:
    """Make a PostgreSQL connection hand over times and arrays of any kind, instead of breaking off."""
    driver = connection.connection.driver_connection
    adapters = cast("psycopg.Connection", driver).adapters
    for oid in UNUSUAL_OIDS:
        usual = adapters.get_loader(oid, Format.TEXT)
        adapters.register_loader(oid, type("Unusual", (_Unusual,), {"inner": usual}))
