"""Bytes in which many places are read at once."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Places: TypeAlias = Numbers  # whole numbers that are places in the buffer, or sizes
# A look at the last place, at what would be there if it were not NULL, still reads bytes of ours.
PADDING = 64


class Bytes:
    """A buffer that ends in `PADDING`, read at any places with the most significant byte first."""

    def __init__(self, data: bytearray) -> None:
        """Look at bytes that nobody changes any more."""
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)

    def stretch(self, begin: int, end: int) -> memoryview:
        """Give the bytes of a stretch."""
        return memoryview(self._data)[begin:end]

    def windows(self, places: Places, width: int) -> "Windows":
        """Copy `width` bytes, at most `PADDING`, from each place on.

        Raises:
            IndexError: A place lies outside of the buffer.
        """
        # Copying whole stretches takes numpy as long as reading one number of each.
        every = np.ndarray(
            (len(self._data) - width + 1,), f"V{width}", buffer=self._data, strides=(1,)
        )
        return Windows(every[places].view(np.uint8), len(places), width)

    def pairs(self, places: Places) -> Numbers:
        """Read two bytes at each place, as an unsigned number."""
        found = self._bytes[places].astype(np.uint64)
        found <<= np.uint64(8)
        found |= self._bytes[places + 1]
        return found

    def block(self, places: Places, size: int) -> Numbers:
        """Read `size` bytes at each place: one row of bytes a place."""
        return self._bytes[places[:, None] + np.arange(size)]

    def packed(self, begins: Places, sizes: Places) -> pa.Array:
        """Copy stretches of bytes into one binary column."""
        count = len(begins)
        # Every second stretch is a gap between two that are wanted; Arrow copies faster than numpy.
        offsets = np.zeros(2 * count + 1, np.int32)
        offsets[0 : 2 * count : 2] = begins
        offsets[1 : 2 * count : 2] = begins + sizes
        offsets[2 * count] = offsets[2 * count - 1] if count else 0
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._data)]
        both = pa.Array.from_buffers(pa.binary(), 2 * count, buffers)
        return both.take(pa.array(np.arange(0, 2 * count, 2)))


@dataclass(frozen=True, slots=True)
class Windows:
    """The same number of bytes of every row, side by side."""

    bytes: Numbers
    count: int
    width: int

    def read(self, kind: str, at: int) -> Numbers:
        """Read a number of every row, `at` bytes behind the begin of its window."""
        if not self.count:
            return np.zeros(0, kind)
        return np.ndarray(
            (self.count,), kind, buffer=self.bytes.data, offset=at, strides=(self.width,)
        )


@dataclass(frozen=True, slots=True)
class Field:
    """The bytes of one column: where each begins, how long it is, and which are NULL.

    Each begins `at` bytes behind a place, where its window begins as well.
    """

    data: Bytes
    windows: Windows
    places: Places
    at: int
    sizes: Places
    nulls: Numbers | None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.places)

    @property
    def begins(self) -> Places:
        """Give the place of every first byte."""
        return self.places + self.at

    def read(self, kind: str, at: int = 0) -> Numbers:
        """Read a number of every value, `at` bytes behind its begin; it is without meaning where there is NULL."""
        return self.windows.read(kind, self.at + at)

    def validity(self) -> pa.Buffer | None:
        """Give the bits that say which values there are; None when all are."""
        if self.nulls is None:
            return None
        return pa.py_buffer(np.packbits(~self.nulls, bitorder="little"))

    def array(self, kind: pa.DataType, values: Numbers) -> pa.Array:
        """Make a column of numbers of a fixed width."""
        return pa.Array.from_buffers(kind, len(self), [self.validity(), pa.py_buffer(values)])
