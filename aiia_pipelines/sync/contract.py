"""The contract of a stream: its columns, types, nulls and rules, agreed with the source before a row is read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from aiia_pipelines.config.connector import Column, Stream
from aiia_pipelines.config.types import ColumnType, widens
from aiia_pipelines.connectors.base import Row, SourceColumn
from aiia_pipelines.jobs.contracts import LearnedColumn
from aiia_pipelines.sync.convert import arrow_type, to_arrow
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


@dataclass(frozen=True)
class Contract:
    """What every row of a stream must be."""

    columns: tuple[ContractColumn, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]
    min_rows: int | None
    max_rows: int | None

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch."""
        return pa.schema(
            [pa.field(column.name, arrow_type(column.type)) for column in self.columns]
        )

    def parse(self, rows: Sequence[Row], first_row: int) -> pa.RecordBatch:
        """Convert rows, in the order of the contract's columns, to one Arrow batch.

        Raises:
            ContractBroken: A value does not fit its column exactly.
        """
        values = list(zip(*rows, strict=True))
        arrays = [
            to_arrow(column.name, column.type, values[place], first_row)
            for place, column in enumerate(self.columns)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def agree(
    stream: Stream, found: Sequence[SourceColumn], learned: Sequence[LearnedColumn] | None
) -> Contract:
    """Make the contract of a stream from its file, what was learned, and what the source has now.

    Raises:
        ContractBroken: A column is missing, renamed, retyped or new; the report lists every difference.
    """
    present = {column.name: column for column in found}
    frozen = {column["name"]: column for column in learned or ()}
    declared = {column.from_ or name: (name, column) for name, column in stream.columns.items()}
    # A frozen column that is gone is replaced by the one that the file maps to its name.
    renamed = {name for name, _ in declared.values()} - {*present, *declared}
    wanted = [
        name for name in dict.fromkeys([*(frozen or present), *declared]) if name not in renamed
    ]
    differences = [
        *_missing(wanted, found, frozen, declared),
        *_retyped(present, frozen, declared),
        *(_added(present, wanted) if frozen else ()),
    ]
    differences += _misnamed(stream, [declared[n][0] if n in declared else n for n in wanted])
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise ContractBroken(
            f"Column mismatch in {stream.name}: {differences[0]}{more}.",
            "contract:column",
            report=tuple(differences),
        )
    columns = tuple(_column(stream, present[name], declared.get(name)) for name in wanted)
    return Contract(
        columns,
        tuple(stream.key),
        _unique(stream),
        stream.checks.row_count.min,
        stream.checks.row_count.max,
    )


def as_learned(found: Sequence[SourceColumn]) -> list[LearnedColumn]:
    """Write down what the source has now."""
    return [
        {"name": column.name, "type": str(column.type or "string"), "nullable": column.nullable}
        for column in found
    ]


_Declared = Mapping[str, tuple[str, Column]]


def _missing(
    wanted: Sequence[str],
    found: Sequence[SourceColumn],
    frozen: Mapping[str, LearnedColumn],
    declared: _Declared,
) -> list[str]:
    present = {column.name for column in found}
    new = [column for column in found if column.name not in wanted]
    lines = []
    for name in wanted:
        if name in present:
            continue
        expected = _expected(name, frozen, declared)
        renamed = [column for column in new if expected is not None and column.type == expected]
        hint = ""
        if len(renamed) == 1:
            target = declared[name][0] if name in declared else name
            other = renamed[0].name
            hint = f"; the source has a new column '{other}' of that type: map it with `{target}: {{from: {other}}}`"
        lines.append(f"column '{name}'{f' ({expected})' if expected else ''} is missing{hint}")
    return lines


def _expected(
    name: str, frozen: Mapping[str, LearnedColumn], declared: _Declared
) -> ColumnType | None:
    if name in declared and (kind := declared[name][1].type) is not None:
        return kind
    known = frozen.get(name) or (frozen.get(declared[name][0]) if name in declared else None)
    return ColumnType.parse(known["type"]) if known else None


def _retyped(
    present: Mapping[str, SourceColumn], frozen: Mapping[str, LearnedColumn], declared: _Declared
) -> list[str]:
    lines = []
    for name, column in present.items():
        expected = _expected(name, frozen, declared)
        if expected is None or column.type is None:
            continue
        fits = widens(column.type, expected) if name in declared else column.type == expected
        if not fits:
            lines.append(
                f"column '{name}' expected {expected} but the source has {column.type} ({column.declared})"
            )
    return lines


def _added(present: Mapping[str, SourceColumn], wanted: Sequence[str]) -> list[str]:
    return [
        f"column '{name}' ({column.type or column.declared}) is new at the source"
        for name, column in present.items()
        if name not in wanted
    ]


def _misnamed(stream: Stream, targets: Sequence[str]) -> list[str]:
    """List names that the stream's own columns do not bear, or bear twice."""
    return [
        *(
            f"two columns of the source would be named '{name}'"
            for name, times in Counter(targets).items()
            if times > 1
        ),
        *(
            f"key column '{name}' is not a column of the stream"
            for name in stream.key
            if name not in targets
        ),
        *(
            f"column '{name}' that must be unique is not a column of the stream"
            for name in stream.checks.unique
            if name not in targets
        ),
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
    return ContractColumn(
        name=name,
        source=source.name,
        type=kind,
        nullable=nullable and name not in stream.key,
        checks=column.checks,
        description=column.description or "",
    )


def _unique(stream: Stream) -> tuple[tuple[str, ...], ...]:
    single = [(name,) for name, column in stream.columns.items() if column.checks.get("unique")]
    sets = [tuple(stream.key), tuple(stream.checks.unique), *single]
    return tuple(dict.fromkeys(entry for entry in sets if entry))
