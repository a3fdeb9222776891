"""The source's side of the reconciliation: figures computed from what was extracted, batch by batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.contract import Contract

ROWS = "rows"
NULLS, SUM, MIN, MAX = "nulls", "sum", "min", "max"

_INTEGERS = {"int16", "int32", "int64"}
_FLOATS = {"float32", "float64"}
_ORDERED = _INTEGERS | {"decimal", "date", "time", "timestamp", "timestamptz", "string"}
_WIDE = pa.decimal128(38, 0)
_EXACT = Context(prec=200)  # the default context would round a sum to 28 digits


def figures_of(kind: ColumnType, level: str) -> tuple[str, ...]:
    """Tell which figures a column has; floats have no sum, since adding them in another order gives another."""
    if level == "count":
        return ()
    if kind.name in _INTEGERS or _is_bounded(kind):
        return (NULLS, SUM, MIN, MAX)
    if kind.name in _FLOATS:
        return (NULLS, MIN, MAX)
    if kind.name in _ORDERED and kind.name != "decimal":
        return (NULLS, MIN, MAX)
    return (NULLS,)


def _is_bounded(kind: ColumnType) -> bool:
    return kind.name == "decimal" and kind.precision is not None and kind.precision <= 38


@dataclass
class _Column:
    kind: ColumnType
    figures: tuple[str, ...]
    nulls: int = 0
    total: Decimal | None = None
    least: Any = None
    most: Any = None

    def add(self, values: pa.Array) -> None:
        self.nulls += values.null_count
        if SUM in self.figures and values.null_count < len(values):
            self.total = _EXACT.add(self.total or Decimal(0), _sum(values))
        if MIN in self.figures:
            known = (
                values.filter(pc.invert(pc.is_nan(values))) if self.kind.name in _FLOATS else values
            )
            found = pc.min_max(known)
            least, most = found["min"].as_py(), found["max"].as_py()
            if least is not None:
                self.least = least if self.least is None else min(self.least, least)
                self.most = most if self.most is None else max(self.most, most)


def _sum(values: pa.Array) -> Decimal:
    # Arrow adds 64-bit integers modulo 2^64; as decimals they keep every digit.
    wide = (
        values.cast(_WIDE)
        if pa.types.is_integer(values.type)
        else values.cast(pa.decimal256(76, values.type.scale))
    )
    return Decimal(pc.sum(wide).as_py())


@dataclass
class Totals:
    """Figures of one stream at a level: `count` or `totals`."""

    contract: Contract
    level: str
    rows: int = 0
    _columns: dict[str, _Column] = field(init=False)

    def __post_init__(self) -> None:
        """Begin every figure at nothing."""
        self._columns = {
            column.name: _Column(column.type, figures_of(column.type, self.level))
            for column in self.contract.columns
        }

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in what was read from the source."""
        self.rows += batch.num_rows
        if self.level == "count":
            return
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            self._columns[name].add(values)

    def figures(self) -> Mapping[tuple[str, str], Any]:
        """Give every figure as (column, figure) → value; the row count has the column ""."""
        found: dict[tuple[str, str], Any] = {("", ROWS): self.rows}
        for name, column in self._columns.items():
            values = {NULLS: column.nulls, SUM: column.total, MIN: column.least, MAX: column.most}
            found |= {(name, figure): values[figure] for figure in column.figures}
        return found
