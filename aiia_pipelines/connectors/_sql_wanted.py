"""What is asked of a database, and what its driver's faults mean: the words `sql` and its dialects share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Reading, SourceColumn

# A described column and the expression that reads it; `{}` stands for the quoted name.
Described = list[tuple[SourceColumn, str]]

# A percent sign in somebody's query is no parameter.
AS_WRITTEN = {"no_parameters": True}
AS_IT_IS = "{}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a database may take, in seconds."""

    connect: int
    statement: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver's fault means: one sentence without secrets, and signals of the failure catalogue."""

    sentence: str
    signals: tuple[str, ...] = ()


class DriverFault(Exception):
    """A driver that SQLAlchemy knows nothing of has raised `orig`."""

    def __init__(self, orig: BaseException) -> None:
        """Keep what the driver raised."""
        super().__init__(type(orig).__name__)
        self.orig = orig


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A stream as it is asked for; `relation` is what stands after FROM."""

    connection: sa.Connection
    stream: Stream
    reading: Reading
    relation: str
    columns: Mapping[str, tuple[SourceColumn, str]]

    def quote(self, name: str) -> str:
        """Write a name so that the database takes it as it is."""
        return quoted(self.connection, name)

    def selected(self) -> str:
        """List the wanted columns as a SELECT reads them."""
        return ", ".join(self.read(name) for name in self.reading.names)

    def read(self, name: str) -> str:
        """Give the expression that reads a column."""
        return self.form(name).format(self.quote(name))

    def form(self, name: str) -> str:
        """Give the form of that expression; `{}` stands for the quoted name."""
        return self.columns[name][1] if name in self.columns else AS_IT_IS

    def column(self, name: str) -> SourceColumn:
        """Give what the source says of a column, and the file where the source is silent."""
        found = self.columns[name][0]
        if found.type is not None:
            return found
        origins = {entry.from_ or own: entry.type for own, entry in self.stream.columns.items()}
        return replace(found, type=origins.get(name))

    def origin(self, name: str) -> str:
        """Give the name at the source of a column that the file knows by another name."""
        entry = self.stream.columns.get(name)
        return (entry.from_ if entry else None) or name

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database something that has few rows for an answer."""
        result = self.connection.exec_driver_sql(statement, execution_options=AS_WRITTEN)
        return [tuple(row) for row in result]


def quoted(connection: sa.Connection, name: str) -> str:
    """Write a name so that the database takes it as it is."""
    dialect = connection.dialect
    text = dialect.identifier_preparer.quote_identifier(name)
    # SQLAlchemy doubles percent signs for statements with parameters; these have none.
    doubled = dialect.paramstyle in {"format", "pyformat"}
    return text.replace("%%", "%") if doubled else text
