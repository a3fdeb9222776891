"""Bytes in which many places are read at once."""

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Places: TypeAlias = Numbers  # whole numbers that are places in the buffer, or sizes
# A look at the last place, at what would be there if it were not NULL, still reads bytes of ours.
PADDING = 64
_WORD = 8


class Bytes:
    """A buffer that ends in `PADDING`, read at any places as numbers with the most significant byte first."""

    def __init__(self, data: bytearray) -> None:
        """Look at bytes that nobody changes any more."""
        self._data = data
        self._words = np.frombuffer(data, "<u8", count=len(data) // _WORD)
        self._bytes = np.frombuffer(data, np.uint8)

    def stretch(self, begin: int, end: int) -> memoryview:
        """Give the bytes of a stretch."""
        return memoryview(self._data)[begin:end]

    def words(self, places: Places) -> Numbers:
        """Read eight bytes at each place, as an unsigned number."""
        # Two words that lie where words do, put together: several times as fast as one that lies across.
        index, shift = places >> 3, ((places & 7) << 3).astype(np.uint64)
        low: Numbers = self._words[index]
        high = self._words[index + 1]
        low >>= shift
        high <<= np.uint64(1)
        high <<= np.uint64(63) - shift
        low |= high
        low.byteswap(inplace=True)
        return low

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
