"""The source's side of the reconciliation: figures computed from what was extracted, batch by batch."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync._hashes import Hasher
from aiia_pipelines.sync.contract import Contract

ROWS = "rows"
NULLS, SUM, MIN, MAX, HASH = "nulls", "sum", "min", "max", "hash"

_INTEGERS = {"int16", "int32", "int64"}
_FLOATS = {"float32", "float64"}
_ORDERED = _INTEGERS | {"decimal", "date", "time", "timestamp", "timestamptz", "string"}
_WIDE = pa.decimal128(38, 0)
_LARGEST, _MAX_DIGITS = 2**63 - 1, 38  # of 64-bit numbers, of 128-bit decimals
_EXACT = Context(prec=200)  # the default context would round a sum to 28 digits


def figures_of(kind: ColumnType, level: str) -> tuple[str, ...]:
    """Tell which figures a column has; floats have no sum, since adding them in another order gives another."""
    if level == "count":
        return ()
    return (*_plain_figures(kind), *((HASH,) if level == "full" else ()))


def _plain_figures(kind: ColumnType) -> tuple[str, ...]:
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
    hashes: int | None = None

    def add(self, values: pa.Array) -> None:
        self.nulls += values.null_count
        if values.null_count == len(values):
            return
        if MIN not in self.figures:
            return
        known = values.filter(pc.invert(pc.is_nan(values))) if self.kind.name in _FLOATS else values
        found = pc.min_max(known)
        least, most = found["min"].as_py(), found["max"].as_py()
        if least is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)
        if SUM in self.figures:
            largest = max(abs(least), abs(most))
            self.total = _EXACT.add(self.total or Decimal(0), _sum(values, largest))

    def figure(self, name: str) -> Any:  # noqa: ANN401 - a value of the column's type
        known = {NULLS: self.nulls, SUM: self.total, MIN: self.least, MAX: self.most}
        return self.hashes if name == HASH else known[name]


def _sum(values: pa.Array, largest: Decimal | int) -> Decimal:
    """Add numbers of at most this size, widened only where Arrow's own sum might overflow."""
    if pa.types.is_integer(values.type):
        wide = values if largest * len(values) <= _LARGEST else values.cast(_WIDE)
    else:
        digits = Decimal(largest).adjusted() + 1 + values.type.scale + len(str(len(values)))
        fits = digits <= _MAX_DIGITS
        wide = values if fits else values.cast(pa.decimal256(76, values.type.scale))
    return Decimal(pc.sum(wide).as_py())


@dataclass
class Totals:
    """Figures of one stream at a level: `count`, `totals`, or `full` with a hash of every column."""

    contract: Contract
    level: str
    rows: int = 0
    _columns: dict[str, _Column] = field(init=False)
    _hasher: Hasher | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Begin every figure at nothing."""
        self._columns = {
            column.name: _Column(column.type, figures_of(column.type, self.level))
            for column in self.contract.columns
        }

    @property
    def uncounted(self) -> frozenset[str]:
        """Name the columns of which at most the NULLs are counted."""
        known = self._columns.items()
        return frozenset(name for name, column in known if set(column.figures) <= {NULLS})

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in what was read from the source."""
        self.rows += batch.num_rows
        if self.level == "count":
            return
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            self._columns[name].add(values)
        if self.level == "full" and batch.num_rows:
            self._hash(batch)

    def _hash(self, batch: pa.RecordBatch) -> None:
        self._hasher = self._hasher or Hasher()
        columns = [self._columns[name] for name in batch.schema.names]
        kinds = [column.kind for column in columns]
        sums = self._hasher.sums(list(zip(kinds, batch.columns, strict=True)))
        for column, found in zip(columns, sums, strict=True):
            if found is not None:
                column.hashes = (column.hashes or 0) + found

    def figures(self) -> Mapping[tuple[str, str], Any]:
        """Give every figure as (column, figure) → value; the row count has the column ""."""
        found: dict[tuple[str, str], Any] = {("", ROWS): self.rows}
        for name, column in self._columns.items():
            found |= {(name, figure): column.figure(figure) for figure in column.figures}
        return found

    def dump(self) -> dict[str, Any]:
        """Write the figures down, as JSON, for another attempt to go on from."""
        columns = {
            name: {
                "nulls": column.nulls,
                "hash": _written(column.hashes),
                "sum": None if column.total is None else str(column.total),
                "min": _written(column.least),
                "max": _written(column.most),
            }
            for name, column in self._columns.items()
        }
        return {"rows": self.rows, "columns": columns}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Go on from what was written down."""
        self.rows = dumped["rows"]
        for name, known in dumped["columns"].items():
            column = self._columns[name]
            column.nulls = known["nulls"]
            column.hashes = None if known["hash"] is None else int(known["hash"])
            column.total = None if known["sum"] is None else Decimal(known["sum"])
            column.least = _read(column.kind, known["min"])
            column.most = _read(column.kind, known["max"])


def _written(value: Any) -> str | None:  # noqa: ANN401 - a value of any column type
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return None if value is None else str(value)


def _read(kind: ColumnType, text: str | None) -> Any:  # noqa: ANN401
    if text is None:
        return None
    if kind.name in _INTEGERS:
        return int(text)
    if kind.name in _FLOATS:
        return float(text)
    return _READERS[kind.name](text)


_READERS: dict[str, Callable[[str], Any]] = {
    "decimal": Decimal, "string": str, "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat, "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
}  # fmt: skip
