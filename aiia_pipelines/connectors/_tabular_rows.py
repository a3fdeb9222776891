"""The rows of all files of a stream, which have the same columns, in batches of the contract's types."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors._tabular_bytes import Part
from aiia_pipelines.connectors._tabular_csv import Chunk, Lines
from aiia_pipelines.connectors._tabular_excel import ExcelReader, cell_value
from aiia_pipelines.connectors._tabular_json_values import json_value
from aiia_pipelines.connectors._tabular_options import FormatOptions, LimitOptions
from aiia_pipelines.connectors._tabular_parts import STRING, Columns, format_of
from aiia_pipelines.connectors._text_columns import converter
from aiia_pipelines.connectors.base import Batch, Reading, Row, SourceColumn, SourceFault

_TARGET = 16 << 20


class Rows:
    """The rows of a stream, part by part."""

    def __init__(
        self,
        stream: Stream,
        reading: Reading,
        options: FormatOptions,
        limits: LimitOptions,
        columns: Sequence[SourceColumn],
    ) -> None:
        """Keep what is wanted; `columns` are those that the stream was found to have."""
        self._columns = Columns(stream, options, limits)
        self._names = reading.names
        self._options = options
        self._batch_rows = stream.batch_rows
        self._known = frozenset(column.name for column in columns)
        self._kinds = [
            next((column.type for column in columns if column.name == name), None) or STRING
            for name in reading.names
        ]

    def batches(self, part: Part) -> Iterator[Batch]:
        """Read the rows of a part."""
        form = format_of(part.name, self._options)
        if form == "csv":
            return self._csv_batches(part)
        if form == "parquet":
            return self._parquet_batches(part)
        if form == "excel":
            return self._excel_batches(part)
        return self._json_batches(part)

    def _check_names(self, place: str, names: Sequence[str]) -> None:
        found = set(names)
        for verb, differing in (("lacks", self._known - found), ("has", found - self._known)):
            if differing:
                raise _mismatch(
                    place, f"{verb} the column '{min(differing)}', unlike the first file."
                )

    def _csv_batches(self, part: Part) -> Iterator[Batch]:
        reader = self._columns.csv(part)
        if not reader.names:
            return
        self._check_names(part.name, reader.names)
        converts = [converter(kind, self._options) for kind in self._kinds]
        for chunk in reader.chunks(self._names):
            yield from self._text_batches(part.name, chunk, converts)

    def _text_batches(
        self, name: str, chunk: Chunk, converts: Sequence[Callable[[pa.Array], Any]]
    ) -> Iterator[Batch]:
        table, lines = chunk
        texts = [column.combine_chunks() for column in table.columns]
        columns = [convert(text) for convert, text in zip(converts, texts, strict=True)]
        rows: Sequence[Row] | pa.RecordBatch
        if all(isinstance(column, pa.Array) for column in columns):
            rows = pa.RecordBatch.from_arrays(columns, names=list(map(str, range(len(columns)))))
        else:
            plain = [c.to_pylist() if isinstance(c, pa.Array) else c for c in columns]
            rows = list(zip(*plain, strict=True))
        step = max(1, min(self._batch_rows, table.num_rows * _TARGET // max(1, table.nbytes)))
        for first in range(0, table.num_rows, step):
            piece = rows[first : first + step]
            yield Batch(piece, where=_place_of(name, lines, first))

    def _parquet_batches(self, part: Part) -> Iterator[Batch]:
        with ExitStack() as opened:
            reader = self._columns.parquet(part, opened)
            self._check_names(part.name, [column.name for column in reader.columns()])
            before = 0
            for rows in reader.batches(self._names, self._batch_rows):
                yield Batch(rows, where=_counted(part.name, before + 1))
                before += rows.num_rows

    def _excel_batches(self, part: Part) -> Iterator[Batch]:
        with ExitStack() as opened:
            reader = self._columns.excel(part, opened)
            if not reader.names:
                return
            self._check_names(part.name, reader.names)
            places = [reader.names.index(name) for name in self._names]
            converts = [cell_value(kind, self._options) for kind in self._kinds]
            rows: list[Row] = []
            numbers: list[int] = []
            for number, values in reader.rows():
                rows.append(
                    tuple(
                        None if values[place] is None else convert(values[place])
                        for place, convert in zip(places, converts, strict=True)
                    )
                )
                numbers.append(number)
                if len(rows) == self._batch_rows:
                    yield Batch(rows, where=_rows_of(reader, numbers))
                    rows, numbers = [], []
            if rows:
                yield Batch(rows, where=_rows_of(reader, numbers))

    def _json_batches(self, part: Part) -> Iterator[Batch]:
        reader = self._columns.json(part)
        converts = [json_value(kind, self._options) for kind in self._kinds]
        fields = list(zip(self._names, converts, strict=True))
        rows: list[Row] = []
        places: list[int] = []
        read = 0
        for record, line in reader.rows():
            if not self._known.issuperset(record):
                raise _mismatch(
                    f"{part.name}, {reader.unit} {line:,}",
                    f"has a new key '{min(set(record) - self._known)[:60]}'; declare it under `columns:`.",
                )
            rows.append(tuple(convert(record.get(name)) for name, convert in fields))
            places.append(line)
            if len(rows) == self._batch_rows or reader.read - read > _TARGET:
                yield Batch(rows, where=_lines_of(part.name, reader.unit, places))
                rows, places, read = [], [], reader.read
        if rows:
            yield Batch(rows, where=_lines_of(part.name, reader.unit, places))


def _place_of(name: str, lines: Lines, first: int) -> Callable[[int], str]:
    return lambda n: f"{name}, line {lines(first + n):,}"


def _counted(name: str, first: int) -> Callable[[int], str]:
    return lambda n: f"{name}, row {first + n:,}"


def _rows_of(reader: ExcelReader, numbers: Sequence[int]) -> Callable[[int], str]:
    return lambda n: reader.where(numbers[n])


def _lines_of(name: str, unit: str, lines: Sequence[int]) -> Callable[[int], str]:
    return lambda n: f"{name}, {unit} {lines[n]:,}"


def _mismatch(place: str, sentence: str) -> SourceFault:
    return SourceFault(f"{place}: {sentence}", "contract:column", place=place)
