"""Parquet files as they are written: types of the contract, bounded row groups, parts of bounded size."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.convert import arrow_type

_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 * 2**20
_PART_BYTES = 256 * 2**20


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """Give the Arrow schema of columns whose types are written as in connector files.

    JSON is text to Parquet as well: readers that know its JSON type refuse some that others write.
    """
    return pa.schema([_field(name, kind) for name, kind in columns.items()])


def _field(name: str, kind: str) -> pa.Field:
    stored = arrow_type(ColumnType.parse(kind))
    return pa.field(name, stored, metadata={"aiia:type": kind})


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema; those it lacks are NULL."""
    columns = [
        table.column(entry.name).cast(entry.type)
        if entry.name in table.schema.names
        else pa.nulls(table.num_rows, entry.type)
        for entry in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


@dataclass
class Parts:
    """Files of one schema that grow until they are large enough."""

    folder: Path
    name: str
    schema: pa.Schema
    done: list[tuple[Path, int]] = field(default_factory=list)
    _waiting: list[pa.RecordBatch] = field(default_factory=list)
    _writer: Any = None
    _file: BinaryIO | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; they reach the disk a row group at a time."""
        self._waiting.append(batch)
        rows = sum(waiting.num_rows for waiting in self._waiting)
        if rows >= _GROUP_ROWS or sum(waiting.nbytes for waiting in self._waiting) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = aligned(pa.Table.from_batches(self._waiting), self.schema)
        self._waiting.clear()
        if self._writer is None:
            path = self.folder / f"{self.name}-{len(self.done)}.parquet"
            self._file = path.open("xb")
            self._writer = pq.ParquetWriter(self._file, self.schema, compression="zstd")
            self.done.append((path, 0))
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        path, rows = self.done[-1]
        self.done[-1] = (path, rows + table.num_rows)
        if path.stat().st_size >= _PART_BYTES:
            self._close()

    def _close(self) -> None:
        writer, file = self._writer, self._file
        self._writer = self._file = None
        try:
            if writer is not None:
                writer.close()
        finally:
            if file is not None:
                file.close()

    def finish(self) -> list[tuple[Path, int]]:
        """End the last file and give all with their numbers of rows."""
        self._flush()
        self._close()
        return self.done

    def abandon(self) -> None:
        """Let go of the file that is open, whatever its state."""
        self._waiting.clear()
        with suppress(OSError, pa.ArrowException):
            self._close()

    @property
    def rows(self) -> int:
        """The number of rows in finished files and on their way."""
        waiting = sum(int(batch.num_rows) for batch in self._waiting)
        return sum(rows for _, rows in self.done) + waiting
