"""Rows as PostgreSQL's binary COPY writes them, taken apart into Arrow columns.

A row is the number of its fields (two bytes), then each field as its length (four bytes, -1 for NULL) and its bytes,
most significant first: "COPY", section "Binary Format", of PostgreSQL's documentation. All rows of a batch are looked
at together, field by field: a look reads a number at one place of every row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_wire_numeric as numeric
from aiia_pipelines.connectors._sql_wire_bytes import (
    PADDING,
    Bytes,
    Field,
    Numbers,
    Places,
    Windows,
)
from aiia_pipelines.connectors.base import Wired

_TRAILER = b"\xff\xff"  # in place of a row
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, and no extension
_FROM_1970 = 10_957  # days from 1970 to 2000, the epoch of PostgreSQL
_DAY = 86_400_000_000  # microseconds
_SIZE = 4  # bytes before each value, which say how long it is
_HUGE = 1024 * 1024  # bytes of a value that nobody takes on trust
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Garbled(Exception):
    """Bytes are not what PostgreSQL sends: they were changed on their way, or somebody else sends them."""


class Rows(Wired):
    """Rows n of which lie in a buffer from `begins[n]` to `ends[n]`."""

    def __init__(
        self, data: Bytes, begins: Places, ends: Places, kinds: Sequence[ColumnType]
    ) -> None:
        """Look at nothing yet."""
        self._data, self._begins, self._ends = data, begins, ends
        self.kinds = kinds
        self._fields: list[Field] = []
        self._aside = 0  # bytes of memory that the fields take
        self._columns: dict[int, pa.Array] = {}

    @property
    def num_rows(self) -> int:
        """Count the rows."""
        return len(self._begins)

    @property
    def nbytes(self) -> int:
        """Count the bytes of memory that they take, with what was found out about them."""
        columns = sum(column.nbytes for column in self._columns.values())
        return self.wire_bytes + int(columns) + self._aside

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
        places, at = self._begins + 2, 0
        windows: Windows | None = None
        for place, kind in enumerate(self.kinds):
            if windows is None or at + _SIZE + _seen(kind) > windows.width:
                places, at = places + at, 0
                windows = self._windows(place, places)
            sizes, nulls = windows.read(">i4", at).astype(np.int32), None
            if int(sizes.min(initial=0)) < 0:
                nulls, sizes = sizes < 0, np.maximum(sizes, 0)
            at += _SIZE
            width = _WIRE_WIDTHS.get(kind.name)
            if width is not None:
                wrong = sizes != width if nulls is None else (sizes != width) & ~nulls
                if wrong.any():
                    raise Garbled(f"a value of {width} bytes has another length")
            yield Field(self._data, windows, places, at, sizes, nulls)
            self._aside += sizes.nbytes + (0 if nulls is None else nulls.nbytes)
            if width is not None and nulls is None:
                at += width
            else:
                places, at, windows = places + (sizes + at), 0, None
        if not np.array_equal(places + at, self._ends):
            raise Garbled("the rows have other columns than they should")

    def _windows(self, place: int, places: Places) -> Windows:
        """Look at a column, and at those behind it as far as all begin at the same distance."""
        width = 0
        for kind in self.kinds[place:]:
            seen = width + _SIZE + _seen(kind)
            if seen > PADDING:
                break
            width = seen
            if kind.name not in _WIRE_WIDTHS:
                break
        found = self._data.windows(places, width)
        self._aside += found.bytes.nbytes + places.nbytes
        return found

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
        if kind.name == "decimal" and numeric.plain(field, kind.precision or 38, kind.scale or 0):
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


def _seen(kind: ColumnType) -> int:
    """Tell how many bytes of each value are looked at together with its size."""
    return numeric.SEEN if kind.name == "decimal" else _WIRE_WIDTHS.get(kind.name, 0)


def _bool(field: Field, _: ColumnType) -> pa.Array:
    return field.array(pa.bool_(), np.packbits(field.read("u1") != 0, bitorder="little"))


def _number(form: str, kind: pa.DataType, more: int = 0) -> Callable[[Field, ColumnType], pa.Array]:
    """Make a reader of numbers of a form; those of a float are its bits."""

    def read(field: Field, _: ColumnType) -> pa.Array:
        values = field.read(f">{form}").astype(form)
        return field.array(kind, values + values.dtype.type(more) if more else values)

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
    found = numeric.scaled(field, precision, scale)
    if found is not None:
        return field.array(pa.decimal128(precision, scale), found)
    # NaN and infinity are told by their texts.
    nulls = np.zeros(len(field), bool) if field.nulls is None else field.nulls
    pairs = zip(field.begins.tolist(), nulls.tolist(), strict=True)
    texts = [None if null else numeric.text(field.data, place) for place, null in pairs]
    return pa.array(texts, pa.string())


_SINCE_1970 = _FROM_1970 * _DAY
_READERS: dict[str, Callable[[Field, ColumnType], pa.Array]] = {
    "bool": _bool, "int16": _number("i2", pa.int16()), "int32": _number("i4", pa.int32()),
    "int64": _number("i8", pa.int64()), "float32": _number("i4", pa.float32()),
    "float64": _number("i8", pa.float64()), "decimal": _decimal, "string": _text(pa.string()),
    "json": _text(pa.string()), "binary": _text(pa.binary()), "uuid": _uuid,
    "date": _number("i4", pa.date32(), _FROM_1970), "time": _number("i8", pa.time64("us")),
    "timestamp": _number("i8", pa.timestamp("us"), _SINCE_1970),
    "timestamptz": _number("i8", pa.timestamp("us", "UTC"), _SINCE_1970),
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
