"""Text files as valid UTF-8, block by block, whatever they are encoded in."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from aiia_pipelines.connectors._tabular_bytes import damage, malformed
from aiia_pipelines.connectors.base import SourceFault

BLOCK = 4 << 20
_UTF8 = "utf-8"
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, _UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_OTHERS = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"BZh", "compressed with bzip2"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"SQLite format 3\0", "a SQLite database"),
)


def count_lines(data: bytes) -> int:
    """Count the line ends: of Unix, Windows and old Macs."""
    if b"\r" not in data:
        return data.count(b"\n")
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def last_line_end(data: bytes, end: int, quote: bytes) -> int:
    """Find the last line end up to `end` that is outside quotes; -1 when there is none."""
    feed = data.rfind(b"\n", 0, end + 1)
    # A carriage return at the very end may be half a line end.
    lone = data.rfind(b"\r", 0, end)
    inside = bool(quote) and data.count(quote, 0, max(feed, lone, 0)) % 2
    while inside and max(feed, lone) >= 0:
        # No line end up to the quote that opened is one of a record.
        opened = data.rfind(quote, 0, max(feed, lone))
        feed = data.rfind(b"\n", 0, opened) if feed > opened else feed
        lone = data.rfind(b"\r", 0, opened) if lone > opened else lone
        inside = data.count(quote, max(feed, lone, 0), opened) % 2
    return max(feed, lone)


def utf8_blocks(stream: BinaryIO, name: str, stated: str | None) -> Iterator[bytes]:
    """Read text in blocks that end between characters, without its byte order mark.

    Raises:
        SourceFault: The text is not in the encoding that is stated or detected.
    """
    first = _read(stream, name)
    encoding, skipped = _encoding(first, name, stated)
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    lines, block = 1, first[skipped:]
    while True:
        final = not block
        text, lines = _decoded(decoder, block, final=final, name=name, encoding=encoding, at=lines)
        if text:
            yield text
        if final:
            return
        block = _read(stream, name)


def _read(stream: BinaryIO, name: str) -> bytes:
    with damage(name):
        return stream.read(BLOCK)


def _decoded(
    decoder: codecs.IncrementalDecoder,
    block: bytes,
    *,
    final: bool,
    name: str,
    encoding: str,
    at: int,
) -> tuple[bytes, int]:
    try:
        text = decoder.decode(block, final)
    except UnicodeDecodeError as fault:
        # What was read of a line before stands in the decoder; its line ends are counted already.
        good = fault.object[: fault.start].decode(encoding, "ignore").encode()
        line = at + count_lines(good)
        raise _undecodable(name, line, fault, encoding) from fault
    data = text.encode("utf-8", "surrogatepass")
    return data, at + count_lines(data)


def _undecodable(name: str, line: int, fault: UnicodeDecodeError, encoding: str) -> SourceFault:
    byte = fault.object[fault.start]
    advice = "state the encoding, for example `encoding: cp1252`, or have the file repaired"
    return SourceFault(
        f"{name}, line {line:,}: byte 0x{byte:02x} is no text in {encoding}; {advice}.",
        "contract:encoding",
        place=f"{name}, line {line:,}",
    )


def _encoding(first: bytes, name: str, stated: str | None) -> tuple[str, int]:
    """Tell the encoding, and how many bytes of mark come before the text."""
    for mark, encoding in _BOMS:
        if first.startswith(mark):
            if stated is not None and not _agrees(stated, encoding):
                raise SourceFault(
                    f"{name}: begins with the mark of {encoding}, but `encoding: {stated}` is stated.",
                    "contract:encoding",
                    place=name,
                )
            return encoding, len(mark)
    for magic, what in _OTHERS:
        if first.startswith(magic):
            raise malformed(name, f"is {what}, not text; correct format or compression.")
    if stated is not None:
        return {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(stated, stated), 0
    return _by_zeros(first[:4096]), 0


def _agrees(stated: str, found: str) -> bool:
    return found == stated or found.startswith(f"{stated}-") or stated == "utf-8-sig"


def _by_zeros(head: bytes) -> str:
    """Recognise UTF-16 without a mark: Latin text has a zero in every other byte."""
    even, odd = head[::2], head[1::2]
    if len(head) >= 8:
        if not even.count(0) and odd.count(0) * 10 >= len(odd) * 6:
            return "utf-16-le"
        if not odd.count(0) and even.count(0) * 10 >= len(even) * 6:
            return "utf-16-be"
    return _UTF8
