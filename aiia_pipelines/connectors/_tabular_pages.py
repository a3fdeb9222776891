"""The pages of a Parquet file, looked at before they are unpacked: the footer may announce smaller ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow.parquet as pq

_HEADER = 4096  # bytes in which nearly every header ends
_LARGEST_HEADER = 1 << 20
_DEPTH = 8
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
_UNPACKED, _PACKED = 2, 3  # fields of a page's header


class Unreadable(Exception):
    """These bytes are no header of a page."""


@dataclass(slots=True)
class _Header:
    """The bytes of one header, in Thrift's compact form, and how far they are read."""

    data: bytes
    place: int = 0

    def byte(self) -> int:
        if self.place >= len(self.data):
            raise EOFError
        self.place += 1
        return self.data[self.place - 1]

    def varint(self) -> int:
        found = shift = 0
        while True:
            part = self.byte()
            found |= (part & 0x7F) << shift
            if part < 0x80:
                return found
            shift += 7
            if shift > 63:
                raise Unreadable

    def number(self) -> int:
        found = self.varint()
        return (found >> 1) ^ -(found & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        """Leave out a value."""
        if depth > _DEPTH:
            raise Unreadable
        if kind in _INTEGERS:
            self.varint()
        elif kind in {_BYTE, _DOUBLE}:
            self._pass(1 if kind == _BYTE else 8)
        elif kind == _BINARY:
            self._pass(self.varint())
        elif kind in {_LIST, _SET}:
            self._skip_items(depth)
        elif kind == _STRUCT:
            for inner, _ in self.fields():
                self.skip(inner, depth + 1)
        elif kind not in {_TRUE, _FALSE}:
            raise Unreadable

    def _skip_items(self, depth: int) -> None:
        head = self.byte()
        count = head >> 4 if head >> 4 != 15 else self.varint()
        if count > _LARGEST_HEADER:
            raise Unreadable
        for _ in range(count):
            # Truth in a list takes a byte, as a field it has none.
            kind = head & 0x0F
            self.skip(_BYTE if kind in {_TRUE, _FALSE} else kind, depth + 1)

    def _pass(self, count: int) -> None:
        self.place += count
        if self.place > len(self.data):
            raise EOFError

    def fields(self) -> Iterator[tuple[int, int]]:
        """Give kind and number of each field of a struct; whoever asks has to read or skip its value."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.number()
            yield head & 0x0F, number


def page_sizes(stream: BinaryIO, chunk: pq.ColumnChunkMetaData) -> Iterator[int]:
    """Tell the unpacked size in bytes of each page of a column in a row group.

    Raises:
        Unreadable: There are no pages where the footer says that they are.
    """
    # A column without values may have a dictionary and no page of data, whose place is then 0.
    places = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
    first = min((place for place in places if place > 0), default=0)
    place, end = first, first + chunk.total_compressed_size
    while place < end:
        length, packed, unpacked = _read(stream, place)
        if packed < 0 or unpacked < 0:
            raise Unreadable
        yield unpacked
        place += length + packed


def _read(stream: BinaryIO, place: int) -> tuple[int, int, int]:
    size = _HEADER
    while size <= _LARGEST_HEADER:
        stream.seek(place)
        header = _Header(stream.read(size))
        sizes = {_UNPACKED: -1, _PACKED: -1}
        try:
            for kind, number in header.fields():
                if number in sizes and kind in _INTEGERS:
                    sizes[number] = header.number()
                else:
                    header.skip(kind)
        except EOFError:
            size *= 16
            continue
        return header.place, sizes[_PACKED], sizes[_UNPACKED]
    raise Unreadable
