"""The contract of a stream: its columns, types, nulls and rules, agreed with the source before a row is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from aiia_pipelines.config.connector import Column, Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors.base import Row, SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn
from aiia_pipelines.sync.convert import arrow_type, to_arrow
from aiia_pipelines.sync.drift import Policy, Sample, Settled, settle
from aiia_pipelines.sync.faults import ContractBroken


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractColumn:
    """A column as it is stored: `source` is its name at the source."""

    name: str
    source: str
    type: ColumnType
    nullable: bool
    checks: Mapping[str, Any]
    description: str = ""
    absent: bool = False  # at the source: all values are NULL
    on_lossy: str | None = None  # null, round or text: what becomes of a value that does not fit
    declared: ColumnType | None = None  # what a column would be that `on_lossy: text` keeps as text
    given: ColumnType | None = None  # the type that the source holds all values to


@dataclass(frozen=True)
class Contract:
    """What every row of a stream must be.

    `changes` tell what of the source's drift it took up, `learned` what is to be remembered when it holds.
    """

    columns: tuple[ContractColumn, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]
    min_rows: int | None
    max_rows: int | None
    changes: tuple[str, ...] = field(default=(), repr=False)
    learned: list[LearnedColumn] | None = field(default=None, repr=False)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch."""
        return pa.schema(
            [pa.field(column.name, arrow_type(column.type)) for column in self.columns]
        )

    @cached_property
    def read_columns(self) -> tuple[ContractColumn, ...]:
        """The columns that are asked of the source, in order."""
        return tuple(column for column in self.columns if not column.absent)

    def complete(self, arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
        """Make a batch of the columns that were read; those that the source has no longer are NULL."""
        read = iter(arrays)
        every = [
            pa.nulls(rows, arrow_type(column.type)) if column.absent else next(read)
            for column in self.columns
        ]
        return pa.RecordBatch.from_arrays(every, schema=self.schema)

    def only(self, names: Sequence[str]) -> "Contract":
        """Give the contract of these columns alone, without rules over all rows."""
        kept = tuple(column for column in self.columns if column.name in names)
        return Contract(kept, tuple(name for name in self.key if name in names), (), None, None)

    def parse(self, rows: Sequence[Row], first_row: int) -> pa.RecordBatch:
        """Convert rows, in the order of the columns that are read, to one Arrow batch.

        Raises:
            ContractBroken: A value does not fit its column exactly.
        """
        values = list(zip(*rows, strict=True)) or [()] * len(self.read_columns)
        arrays = [
            to_arrow(column.name, column.type, values[place], first_row)
            for place, column in enumerate(self.read_columns)
        ]
        return self.complete(arrays, len(rows))


def agree(
    stream: Stream,
    found: Sequence[SourceColumn],
    learned: Sequence[LearnedColumn] | None,
    *,
    drift: Policy = "freeze",
    sample: Sample | None = None,
) -> Contract:
    """Make the contract of a stream from its file, what was learned, and what the source has now.

    Raises:
        ContractBroken: A column is missing, renamed, retyped or new, and the policy does not take it up;
            the report lists every difference.
    """
    settled = settle(stream, found, learned, drift=drift, sample=sample)
    if settled.refused:
        report = tuple(map(str, settled.refused))
        more = f" (and {len(report) - 1} more)" if len(report) > 1 else ""
        raise ContractBroken(
            f"Column mismatch in {stream.name}: {report[0]}{more}.",
            "contract:column",
            report=report,
        )
    declared = {column.from_ or name: (name, column) for name, column in stream.columns.items()}
    columns = tuple(
        replace(
            _column(stream, column, declared.get(column.name)),
            absent=column.name in settled.absent,
        )
        for column in settled.columns
    )
    fresh = learned is None or settled.changes
    return Contract(
        columns,
        tuple(stream.key),
        _unique(stream),
        stream.checks.row_count.min,
        stream.checks.row_count.max,
        settled.changes,
        _relearned(settled, found, learned) if fresh else None,
    )


def _relearned(
    settled: Settled, found: Sequence[SourceColumn], learned: Sequence[LearnedColumn] | None
) -> list[LearnedColumn]:
    """Write down what was agreed now, with the columns that have no values at the source any more."""
    agreed = {column.name: column for column in settled.columns}
    now = as_learned([agreed.get(column.name, column) for column in found])
    for column in learned or ():
        if column["name"] in settled.absent:
            kept = column.copy()
            kept["nullable"] = kept["absent"] = True
            now.append(kept)
    return now


def as_learned(found: Sequence[SourceColumn]) -> list[LearnedColumn]:
    """Write down what the source has now."""
    return [
        {"name": column.name, "type": str(column.type or "string"), "nullable": column.nullable}
        for column in found
    ]


def _column(
    stream: Stream, source: SourceColumn, declaration: tuple[str, Column] | None
) -> ContractColumn:
    name, column = declaration or (source.name, Column())
    kind = column.type or source.type
    if kind is None:
        raise ContractBroken(
            f"Column '{source.name}' of {stream.name} has no known type ({source.declared});"
            " declare it under `columns:`.",
            "contract:column",
        )
    nullable = source.nullable if column.nullable is None else column.nullable
    as_text = column.on_lossy == "text"
    return ContractColumn(
        name=name,
        source=source.name,
        type=ColumnType("string") if as_text else kind,
        nullable=nullable and name not in stream.key,
        checks=column.checks,
        description=column.description or "",
        on_lossy=column.on_lossy,
        declared=kind if as_text else None,
        given=source.type if source.enforced else None,
    )


def _unique(stream: Stream) -> tuple[tuple[str, ...], ...]:
    single = [(name,) for name, column in stream.columns.items() if column.checks.get("unique")]
    sets = [tuple(stream.key), tuple(stream.checks.unique), *single]
    return tuple(dict.fromkeys(entry for entry in sets if entry))
