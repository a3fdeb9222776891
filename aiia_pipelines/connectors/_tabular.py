"""Streams of data files: their columns, and their rows batch by batch, whatever the format."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import DataFile, parts
from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions
from aiia_pipelines.connectors._tabular_parts import Columns, is_json
from aiia_pipelines.connectors._tabular_rows import Rows
from aiia_pipelines.connectors.base import Batch, Position, Reading, SourceColumn, SourceFault

__all__ = ["DataFile", "read_batches", "read_columns"]

_SAMPLED_FILES = 10

Checkpoint = Callable[[DataFile], Position | None]


def read_columns(
    files: Sequence[DataFile], stream: Stream, options: FormatOptions, limits: LimitOptions
) -> list[SourceColumn]:
    """Describe the columns of a stream by its first file that has any.

    Raises:
        SourceFault: There is no file, or it cannot be read.
    """
    table = Columns(stream, options, limits)
    found: list[SourceColumn] = []
    for file in files[:_SAMPLED_FILES]:
        for part in parts(file, options, limits):
            columns = table.columns(part)
            # Records of JSON need not all have every key: some more files are looked at.
            found = _united(found, columns) if is_json(part, options) else found or columns
        if found and not is_json(part, options):
            break
    if not found and not (options.empty_ok or files):
        raise SourceFault("There is no file to read.", "source:not-found")
    return found or [
        SourceColumn(name, kind, nullable=True, declared="text")
        for name, kind in table.declared.items()
    ]


def read_batches(
    files: Sequence[DataFile],
    stream: Stream,
    reading: Reading,
    options: FormatOptions,
    limits: LimitOptions,
    *,
    checkpoint: Checkpoint | None = None,
) -> Generator[Batch, None, None]:
    """Read files one after the other; the last batch of each gets its checkpoint.

    Raises:
        SourceFault: A file is damaged, has other columns than the first, or changed while it was read.
    """
    columns = read_columns(files, stream, options, limits) if files else []
    table = Rows(stream, reading, options, limits, columns)
    for file in files:
        held: Batch | None = None
        for part in parts(file, options, limits):
            for batch in table.batches(part):
                if held is not None:
                    yield held
                held = batch
        file.unchanged()
        if held is not None:
            yield replace(held, checkpoint=checkpoint(file) if checkpoint else None)


def _united(found: list[SourceColumn], more: list[SourceColumn]) -> list[SourceColumn]:
    """Put the columns of two samples of JSON together; a type that differs becomes JSON."""
    other = {column.name: column for column in more}
    names = {column.name for column in found}
    both = [
        column
        if column.name not in other or other[column.name].type == column.type
        else replace(column, type=_wider(column.type, other[column.name].type))
        for column in found
    ]
    return [*both, *(column for column in more if column.name not in names)]


def _wider(one: ColumnType | None, other: ColumnType | None) -> ColumnType:
    numbers = {ColumnType("int64"), ColumnType("decimal")}
    return ColumnType("decimal" if {one, other} == numbers else "json")
