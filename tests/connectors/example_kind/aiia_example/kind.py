"""The kind `example`: small tables that stand in the connector file itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import (
    Batch,
    Position,
    Reading,
    Source,
    SourceColumn,
    SourceFault,
)


class Options(BaseModel):
    """The `source:` part of a connector file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["example"]
    columns: dict[str, str] = Field(description="Name and type of each column")
    tables: dict[str, list[list[Any]]] = Field(description="The rows of each table")
    open: bool = True


class ExampleSource:
    """Tables that are there already."""

    def __init__(self, options: Options) -> None:
        """Keep the options."""
        self._options = options

    def describe(self) -> str:
        """Name the source for people."""
        return "example tables"

    def place(self) -> str:
        """Tell what has to be reachable."""
        return "the connector file"

    def connect(self) -> None:
        """Refuse when the file says so."""
        if not self._options.open:
            raise SourceFault("The example is closed.", "sqlstate:28000", place=self.place())

    def columns(self, stream: Stream) -> list[SourceColumn]:
        """Describe the columns, which all tables share."""
        self._rows(stream)
        return [
            SourceColumn(name, ColumnType.parse(kind), nullable=True, declared=kind)
            for name, kind in self._options.columns.items()
        ]

    def position(self, stream: Stream, reading: Reading) -> Position | None:
        """Have none: tables are always read whole."""

    def rows_until(self, stream: Stream, reading: Reading) -> int | None:
        """Have nothing that could hide."""

    def batches(self, stream: Stream, reading: Reading) -> Iterator[Batch]:
        """Read the rows of a table."""
        places = [list(self._options.columns).index(name) for name in reading.names]
        rows = [tuple(row[place] for place in places) for row in self._rows(stream)]
        for start in range(0, len(rows), stream.batch_rows):
            yield Batch(rows[start : start + stream.batch_rows])

    def stages(self, streams: Sequence[Stream]) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the stages of a Connection Test."""
        yield "login", self._stage_login
        yield "query", lambda: f"{sum(len(self._rows(stream)) for stream in streams)} rows"

    def _stage_login(self) -> str:
        self.connect()
        return ""

    def _rows(self, stream: Stream) -> list[list[Any]]:
        if stream.table not in self._options.tables:
            raise SourceFault(f"There is no table {stream.table}.", "sqlstate:42P01")
        return self._options.tables[stream.table]

    def cancel(self) -> None:
        """Have nothing to stop."""

    def close(self) -> None:
        """Have nothing to close."""


def open(options: Options) -> Source:  # noqa: A001 - the kinds' common entry is called open
    """Open the tables."""
    return ExampleSource(options)
