"""One file, or member of an archive, of a stream: its reader by its format, and its columns."""

from contextlib import ExitStack
from typing import Any

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import Part, malformed, seekable
from aiia_pipelines.connectors._tabular_csv import CsvReader
from aiia_pipelines.connectors._tabular_excel import ExcelReader, kind_of
from aiia_pipelines.connectors._tabular_json import JsonReader
from aiia_pipelines.connectors._tabular_options import Format, FormatOptions, LimitOptions
from aiia_pipelines.connectors._tabular_parquet import ParquetReader
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

STRING = ColumnType("string")
_FORMATS: dict[str, Format] = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "psv": "csv", "tab": "csv", "parquet": "parquet",
    "pq": "parquet", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "xlsx": "excel",
    "xlsm": "excel",
}  # fmt: skip
_COMPRESSED = {"gz", "zst", "bz2"}


def format_of(name: str, options: FormatOptions) -> Format:
    """Tell the format of a file: as stated, else by its name.

    Raises:
        SourceFault: The name does not tell.
    """
    if options.format is not None:
        return options.format
    endings = name.lower().rpartition("/")[2].split(".")[1:]
    ending = next((e for e in reversed(endings) if e not in _COMPRESSED), "")
    if ending not in _FORMATS:
        raise SourceFault(
            f"{name}: the name does not tell the format; state `format`, one of"
            " csv, parquet, jsonl, json, excel.",
            "config:invalid",
            place=name,
        )
    return _FORMATS[ending]


def is_json(part: Part, options: FormatOptions) -> bool:
    """Tell whether the rows of a part may each have other keys."""
    return format_of(part.name, options) in {"json", "jsonl"}


class Columns:
    """The columns of the parts of a stream, and the readers of their formats."""

    def __init__(self, stream: Stream, options: FormatOptions, limits: LimitOptions) -> None:
        """Keep what is declared."""
        self._options = options
        self._limits = limits
        self.declared = {
            column.from_ or name: column.type or STRING for name, column in stream.columns.items()
        }
        self._stated = {
            column.from_ or name
            for name, column in stream.columns.items()
            if column.type is not None
        }

    def columns(self, part: Part) -> list[SourceColumn]:
        """Describe the columns of a part; none when it is empty and may be."""
        form = format_of(part.name, self._options)
        if form == "parquet":
            with ExitStack() as opened:
                return self.parquet(part, opened).columns()
        if form == "csv":
            names = self.csv(part).names
            return [self._column(name, STRING, "text") for name in names]
        if form == "excel":
            return self._excel_columns(part)
        kinds = self.json(part).kinds()
        return [self._column(name, kind, str(kind)) for name, kind in kinds.items()]

    def _column(self, name: str, kind: ColumnType | None, declared: str) -> SourceColumn:
        # What stands in a text is of the declared type, or no value of it at all.
        known = self.declared[name] if name in self._stated else kind
        return SourceColumn(name, known, nullable=True, declared=declared)

    def _excel_columns(self, part: Part) -> list[SourceColumn]:
        with ExitStack() as opened:
            reader = self.excel(part, opened)
            values: list[list[Any]] = [[] for _ in reader.names]
            for _, row in reader.rows():
                for column, value in zip(values, row, strict=True):
                    if value is not None:
                        column.append(value)
        kinds = [kind_of(column) for column in values]
        return [
            self._column(name, kind, "cells of several types" if kind is None else "cells")
            for name, kind in zip(reader.names, kinds, strict=True)
        ]

    def csv(self, part: Part) -> CsvReader:
        """Open a CSV file."""
        reader = CsvReader(part.name, part.stream, self._options)
        if not reader.names:
            self._allow_empty(part)
        return reader

    def parquet(self, part: Part, opened: ExitStack) -> ParquetReader:
        """Open a Parquet file."""
        raw = seekable(part.stream, part.name, self._limits, opened)
        return ParquetReader(part.name, raw, self._limits)

    def json(self, part: Part) -> JsonReader:
        """Open a file of JSON records."""
        lines = format_of(part.name, self._options) == "jsonl"
        reader = JsonReader(part.name, part.stream, self._options, lines=lines)
        if not reader.kinds():
            self._allow_empty(part)
        return reader

    def excel(self, part: Part, opened: ExitStack) -> ExcelReader:
        """Open a worksheet."""
        raw = seekable(part.stream, part.name, self._limits, opened)
        reader = ExcelReader(part.name, raw, self._options, self._limits)
        if not reader.names:
            self._allow_empty(part)
        return reader

    def _allow_empty(self, part: Part) -> None:
        if not self._options.empty_ok:
            raise malformed(
                part.name, "is empty; state `empty_ok: true` if that may be.", "source:empty"
            )
