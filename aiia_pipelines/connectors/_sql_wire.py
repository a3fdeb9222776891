"""Rows as PostgreSQL's binary COPY writes them, taken apart into Arrow columns.

A row is the number of its fields (two bytes), then each field as its length (four bytes, -1 for NULL) and its bytes,
most significant first: "COPY", section "Binary Format", of PostgreSQL's documentation. All rows of a batch are looked
at together, field by field: a look reads a number at one place of every row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_wire_numeric as numeric
from aiia_pipelines.connectors._sql_wire_bytes import Bytes, Numbers, Places
from aiia_pipelines.connectors.base import Wired

_TRAILER = b"\xff\xff"  # in place of a row
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, and no extension
_FROM_1970 = 10_957  # days from 1970 to 2000, the epoch of PostgreSQL
_DAY = 86_400_000_000  # microseconds
_HALF = np.uint64(32)
_HUGE = 1024 * 1024  # bytes of a value that nobody takes on trust
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Garbled(Exception):
    """Bytes are not what PostgreSQL sends: they were changed on their way, or somebody else sends them."""


@dataclass(frozen=True, slots=True)
class Field:
    """The bytes of one column: where each begins, how long it is, and which are NULL."""

    data: Bytes
    begins: Places
    sizes: Places
    nulls: Numbers | None
    first: Numbers  # the first four bytes, in the lower half of a word

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.begins)

    @property
    def nbytes(self) -> int:
        """Count the bytes of memory that it takes."""
        whole = self.begins.nbytes + self.sizes.nbytes + self.first.nbytes
        return int(whole + (0 if self.nulls is None else self.nulls.nbytes))

    def validity(self) -> pa.Buffer | None:
        """Give the bits that say which values there are; None when all are."""
        if self.nulls is None:
            return None
        return pa.py_buffer(np.packbits(~self.nulls, bitorder="little"))

    def array(self, kind: pa.DataType, values: Numbers) -> pa.Array:
        """Make a column of numbers of a fixed width."""
        return pa.Array.from_buffers(kind, len(self), [self.validity(), pa.py_buffer(values)])


class Rows(Wired):
    """Rows n of which lie in a buffer from `begins[n]` to `ends[n]`."""

    def __init__(
        self, data: Bytes, begins: Places, ends: Places, kinds: Sequence[ColumnType]
    ) -> None:
        """Look at nothing yet."""
        self._data, self._begins, self._ends = data, begins, ends
        self.kinds = kinds
        self._fields: list[Field] = []
        self._columns: dict[int, pa.Array] = {}

    @property
    def num_rows(self) -> int:
        """Count the rows."""
        return len(self._begins)

    @property
    def nbytes(self) -> int:
        """Count the bytes of memory that they take, with what was found out about them."""
        columns = sum(column.nbytes for column in self._columns.values())
        return self.wire_bytes + int(columns) + sum(field.nbytes for field in self._fields)

    @property
    def wire_bytes(self) -> int:
        """Count their bytes."""
        return int((self._ends - self._begins).sum())

    @property
    def arrow_bytes(self) -> int:
        """Count the bytes that their values take as Arrow columns, whether those are made or not."""
        every = ((kind, self._field(place)) for place, kind in enumerate(self.kinds))
        return sum(
            int(field.sizes.sum()) + _OFFSET * self.num_rows
            if kind.name in _OF_ANY_LENGTH
            else _WIDTHS.get(kind.name, 8) * self.num_rows
            for kind, field in every
        )

    def _field(self, place: int) -> Field:
        return self.looked_through()._fields[place]

    def looked_through(self) -> Self:
        """Find the fields of all rows.

        Raises:
            Garbled: The bytes are no rows of these columns.
        """
        if not self._fields:
            try:
                self._fields = list(self._walk())
            except IndexError:
                raise Garbled("a value is longer than its row") from None
        return self

    def _walk(self) -> Iterator[Field]:
        places = self._begins + 2
        for kind in self.kinds:
            heads = self._data.words(places)
            sizes = (heads >> _HALF).astype(np.int32)
            nulls, places = None, places + 4
            if int(sizes.min(initial=0)) < 0:
                nulls, sizes = sizes < 0, np.maximum(sizes, 0)
            if (width := _WIRE_WIDTHS.get(kind.name)) is not None:
                wrong = sizes != width if nulls is None else (sizes != width) & ~nulls
                if wrong.any():
                    raise Garbled(f"a value of {width} bytes has another length")
            yield Field(self._data, places, sizes, nulls, heads)
            places = places + sizes
        if not np.array_equal(places, self._ends):
            raise Garbled("the rows have other columns than they should")

    def column(self, place: int) -> pa.Array:
        """Give the values of a column; dates and times beyond Arrow's numbers wrap around."""
        if place not in self._columns:
            kind = self.kinds[place]
            self._columns[place] = _READERS[kind.name](self._field(place), kind)
        return self._columns[place]

    def blank(self, place: int) -> pa.Array | None:
        """Give a column that tells which values are NULL, and nothing true of the others; None if one is huge."""
        field, kind = self._field(place), self.kinds[place]
        if int(field.sizes.max(initial=0)) > _HUGE:
            return None
        if kind.name == "decimal" and numeric.plain(
            field.data, field.begins, field.nulls, kind.precision or 38, kind.scale or 0
        ):
            arrow: pa.DataType = pa.decimal128(kind.precision or 38, kind.scale or 0)
            width = 16
        elif kind.name in _BLANKS:
            arrow, width = _BLANKS[kind.name]
        else:
            return None
        content = pa.py_buffer(bytes(width * (len(field) + 1)))
        more = [content] if pa.types.is_string(arrow) or pa.types.is_binary(arrow) else []
        return pa.Array.from_buffers(arrow, len(field), [field.validity(), content, *more])

    def arrow(self) -> pa.RecordBatch:
        """Give all columns, named by their places."""
        names = list(map(str, range(len(self.kinds))))
        return pa.RecordBatch.from_arrays(self.columns, names)

    def bare(self) -> "Rows":
        """Give the same rows without what was found out about their values so far, which takes memory."""
        return Rows(self._data, self._begins, self._ends, self.kinds)

    def tail(self) -> "Rows":
        """Give the last row."""
        return Rows(self._data, self._begins[-1:], self._ends[-1:], self.kinds)

    def only(self, places: Numbers) -> "Rows":
        """Give the rows at these places, which ascend; what was found out about the fields is forgotten."""
        return Rows(self._data, self._begins[places], self._ends[places], self.kinds)

    def copied(self) -> Iterator[bytes | memoryview]:
        """Give a binary COPY of these rows, in as few pieces as they lie apart."""
        yield HEADER
        yield from self._pieces()
        yield _TRAILER

    def _pieces(self) -> Iterator[memoryview]:
        if not self.num_rows:
            return
        apart = self._begins[1:] != self._ends[:-1]
        begins = [self._begins[0], *self._begins[1:][apart]]
        ends = [*self._ends[:-1][apart], self._ends[-1]]
        for begin, end in zip(begins, ends, strict=True):
            yield self._data.stretch(int(begin), int(end))


def _bool(field: Field, _: ColumnType) -> pa.Array:
    values = field.first & np.uint64(0xFF000000)
    return field.array(pa.bool_(), np.packbits(values != 0, bitorder="little"))


def _short(field: Field, _: ColumnType) -> pa.Array:
    return field.array(pa.int16(), (field.first >> np.uint64(16)).astype(np.int16))


def _word(kind: pa.DataType, more: int = 0) -> Callable[[Field, ColumnType], pa.Array]:
    def read(field: Field, _: ColumnType) -> pa.Array:
        return field.array(kind, field.first.astype(np.int32) + np.int32(more))

    return read


def _long(kind: pa.DataType, more: int = 0) -> Callable[[Field, ColumnType], pa.Array]:
    def read(field: Field, _: ColumnType) -> pa.Array:
        values = field.data.words(field.begins).view(np.int64)
        return field.array(kind, values + np.int64(more) if more else values)

    return read


def _text(kind: pa.DataType) -> Callable[[Field, ColumnType], pa.Array]:
    def read(field: Field, _: ColumnType) -> pa.Array:
        packed = field.data.packed(field.begins, field.sizes)
        _, offsets, content = packed.buffers()
        return pa.Array.from_buffers(kind, len(field), [field.validity(), offsets, content])

    return read


def _uuid(field: Field, _: ColumnType) -> pa.Array:
    """Write 16 bytes as 8-4-4-4-12 digits."""
    raw = field.data.block(field.begins, 16)
    text = np.full((len(field), 36), ord("-"), np.uint8)
    place = 0
    for start, stop in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 16)):
        digits = 2 * (stop - start)
        text[:, place : place + digits : 2] = _HEX[raw[:, start:stop] >> 4]
        text[:, place + 1 : place + digits : 2] = _HEX[raw[:, start:stop] & 15]
        place += digits + 1
    offsets = np.arange(0, 36 * len(field) + 1, 36, dtype=np.int32)
    buffers = [field.validity(), pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(field), buffers)


def _decimal(field: Field, kind: ColumnType) -> pa.Array:
    precision, scale = kind.precision or 38, kind.scale or 0
    found = numeric.scaled(field.data, field.begins, field.nulls, precision, scale)
    if found is not None:
        return field.array(pa.decimal128(precision, scale), found)
    # NaN and infinity are told by their texts.
    nulls = np.zeros(len(field), bool) if field.nulls is None else field.nulls
    pairs = zip(field.begins.tolist(), nulls.tolist(), strict=True)
    texts = [None if null else numeric.text(field.data, place) for place, null in pairs]
    return pa.array(texts, pa.string())


_SINCE_1970 = _FROM_1970 * _DAY
_READERS: dict[str, Callable[[Field, ColumnType], pa.Array]] = {
    "bool": _bool, "int16": _short, "int32": _word(pa.int32()), "int64": _long(pa.int64()),
    "float32": _word(pa.float32()), "float64": _long(pa.float64()), "decimal": _decimal,
    "string": _text(pa.string()), "json": _text(pa.string()),
    "binary": _text(pa.binary()), "date": _word(pa.date32(), _FROM_1970),
    "time": _long(pa.time64("us")), "timestamp": _long(pa.timestamp("us"), _SINCE_1970),
    "timestamptz": _long(pa.timestamp("us", "UTC"), _SINCE_1970), "uuid": _uuid,
}  # fmt: skip
# Types of which any value fits, by the bytes that one, or the place of one, takes in Arrow.
_OFFSET = 4
_WIRE_WIDTHS = {
    "bool": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "float64": 8, "date": 4, "time": 8, "timestamp": 8,
    "timestamptz": 8, "uuid": 16,
}  # fmt: skip
_OF_ANY_LENGTH = {"string", "json", "binary"}
_WIDTHS = {"int16": 2, "int32": 4, "float32": 4, "date": 4, "decimal": 16, "uuid": 40, "bool": 0}
_BLANKS = {
    "bool": (pa.bool_(), 1), "int16": (pa.int16(), 2), "int32": (pa.int32(), 4),
    "int64": (pa.int64(), 8), "float32": (pa.float32(), 4), "float64": (pa.float64(), 8),
    "string": (pa.string(), _OFFSET), "json": (pa.string(), _OFFSET), "uuid": (pa.string(), _OFFSET),
    "binary": (pa.binary(), _OFFSET),
}  # fmt: skip
