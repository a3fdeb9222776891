"""Data files as plain bytes: opened, unpacked within bounds, and never larger than allowed."""

import bz2
import errno
import fnmatch
import gzip
import io
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from aiia_pipelines.connectors._tabular_options import Compression, FormatOptions, LimitOptions
from aiia_pipelines.connectors.base import SourceFault

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ENDINGS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".zip": "zip"}
# A small file of one repeated byte is no bomb, whatever its ratio.
HARMLESS = 32 << 20
_SPOOL = 1 << 20
_MOST_MEMBERS = 10_000
# The directory of an archive is read whole; an entry takes at least 46 bytes of it.
_LARGEST_DIRECTORY = 32 << 20
_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP_SIZE = 22 + 0xFFFF


def _nothing() -> None:
    """Find every file unchanged."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One stored file; `open` gives a new stream of its bytes that the reader closes.

    `unchanged` is asked after the last byte and raises when the file is not the one that was opened.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    unchanged: Callable[[], None] = _nothing


def malformed(place: str, sentence: str, *more: str) -> SourceFault:
    """Return the fault of a file that is not what it should be; `place` may name a line."""
    return SourceFault(f"{place}: {sentence}", *more, "data:malformed", place=place)


def too_large(name: str, sentence: str) -> SourceFault:
    """Return the fault of a file that unfolds beyond a limit."""
    return malformed(name, sentence, "limit:size")


def compression_of(name: str, options: FormatOptions) -> Compression:
    """Tell how a file is compressed: as stated, else by its name."""
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), None)
    return options.compression or (_ENDINGS[ending] if ending else "none")


class Bounded(io.RawIOBase):
    """The bytes of a file, unpacked, as long as they are neither damaged nor too many."""

    def __init__(
        self, inner: IO[bytes], name: str, stored: int | None, limits: LimitOptions
    ) -> None:
        """Read from `inner`; `stored` is its compressed size, None for a file that is not compressed."""
        super().__init__()
        self._inner = inner
        self._name = name
        self._most = limits.max_bytes
        self._ratio = limits.max_ratio
        self._stored = stored
        self._read = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, target: "Buffer") -> int:
        """Fill a buffer.

        Raises:
            SourceFault: The file is damaged or unfolds beyond the limits.
        """
        view = memoryview(target)
        with damage(self._name):
            found = self._inner.read(len(view))
        view[: len(found)] = found
        self._read += len(found)
        self._check()
        return len(found)

    def _check(self) -> None:
        if self._read > self._most:
            raise too_large(
                self._name,
                f"more than {self._most:,} bytes uncompressed; raise max_bytes of the source if that is right.",
            )
        if self._stored is None or self._read < HARMLESS:
            return
        if self._read > self._ratio * max(self._stored, 1):
            raise too_large(
                self._name,
                f"unfolds to more than {self._ratio} times its size, like a compression bomb;"
                " raise max_ratio of the source if that is right.",
            )

    def close(self) -> None:
        """Close the file below as well."""
        if not self.closed:
            self._inner.close()
        super().close()


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn what the unpackers raise into a fault of the file; errors of the storage pass.

    Raises:
        SourceFault: The compressed data is damaged or cut off.
    """
    try:
        yield
    except EOFError as fault:
        raise malformed(name, "the compressed data ends too early; the file is cut off.") from fault
    except (zlib.error, zipfile.BadZipFile, struct.error, UnicodeError, ValueError) as fault:
        raise malformed(name, "the compressed data is damaged.") from fault
    except NotImplementedError as fault:
        raise malformed(name, "is compressed in a way that cannot be read.") from fault
    except OSError as fault:
        # A damaged archive leads to places that no file has.
        if fault.errno not in {None, errno.EINVAL}:
            raise
        early = "end" in str(fault).lower() or "truncated" in str(fault).lower()
        raise malformed(
            name,
            "the compressed data ends too early; the file is cut off."
            if early
            else "the compressed data is damaged or in another format than its name says.",
        ) from fault


@dataclass(frozen=True, slots=True)
class Part:
    """Plain bytes that hold one table: a file, or a member of an archive."""

    name: str
    stream: BinaryIO


def parts(file: DataFile, options: FormatOptions, limits: LimitOptions) -> Iterator[Part]:
    """Open a file and unpack it, member by member; a stream lives until the next one is asked for.

    Raises:
        SourceFault: The file is damaged, or holds more than it may.
    """
    packed = compression_of(file.name, options)
    with ExitStack() as opened:
        raw = file.open()
        opened.callback(raw.close)
        if packed == "zip":
            yield from _members(seekable(raw, file.name, limits, opened), file, options, limits)
        elif packed == "none":
            # Seeking formats take the file itself; nothing is unfolded.
            if file.size > limits.max_bytes:
                raise too_large(
                    file.name, f"has {file.size:,} bytes; max_bytes is {limits.max_bytes:,}."
                )
            yield Part(file.name, raw)
        else:
            stream = _unpacked(raw, packed, file.name)
            bounded = Bounded(stream, file.name, file.size, limits)
            opened.callback(bounded.close)
            yield Part(file.name, io.BufferedReader(bounded, 1 << 18))


def _unpacked(raw: BinaryIO, packed: Compression, name: str) -> IO[bytes]:
    if packed == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb"))
    if packed == "bz2":
        return bz2.BZ2File(raw, "rb")
    # Loading definitions must not import Arrow.
    import pyarrow as pa  # noqa: PLC0415

    with damage(name):
        return cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))


def _members(
    raw: BinaryIO, file: DataFile, options: FormatOptions, limits: LimitOptions
) -> Iterator[Part]:
    check_archive(raw, file.name, limits)
    with damage(file.name), zipfile.ZipFile(raw) as archive:
        wanted = [
            entry
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename)
            if not entry.is_dir() and fnmatch.fnmatch(entry.filename, options.member or "*")
        ]
    if not wanted:
        raise malformed(
            file.name, f"the archive holds no file {options.member or ''}".strip() + "."
        )
    for entry in wanted:
        if entry.flag_bits & 1:
            raise malformed(file.name, f"'{entry.filename}' in it is encrypted.")
        name = f"{file.name}/{entry.filename}"
        with damage(name), zipfile.ZipFile(raw) as archive:
            member = archive.open(entry)
        bounded = Bounded(member, name, entry.compress_size, limits)
        with io.BufferedReader(bounded, 1 << 18) as stream:
            yield Part(name, stream)


def check_archive(raw: BinaryIO, name: str, limits: LimitOptions) -> None:
    """Refuse a zip archive, such as a workbook, that unfolds beyond the limits.

    Raises:
        SourceFault: It is damaged, or too large.
    """
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - _END_OF_ZIP_SIZE))
    tail = raw.read(_END_OF_ZIP_SIZE)
    place = tail.rfind(_END_OF_ZIP)
    if place < 0 or len(tail) < place + 22:
        raise malformed(name, "is no complete zip archive; the file is cut off or something else.")
    if int.from_bytes(tail[place + 12 : place + 16], "little") > _LARGEST_DIRECTORY:
        raise too_large(name, "the archive has too many files.")
    raw.seek(0)
    with damage(name), zipfile.ZipFile(raw) as archive:
        entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        raise too_large(name, f"the archive has {len(entries):,} files; {_MOST_MEMBERS:,} may be.")
    unfolded = sum(entry.file_size for entry in entries)
    if unfolded > limits.max_bytes:
        raise too_large(name, f"unfolds to {unfolded:,} bytes; max_bytes is {limits.max_bytes:,}.")
    if unfolded > HARMLESS and unfolded > limits.max_ratio * max(size, 1):
        raise too_large(
            name,
            f"unfolds to {unfolded // max(size, 1):,} times its size, like a compression bomb;"
            " raise max_ratio of the source if that is right.",
        )
    raw.seek(0)


def seekable(raw: BinaryIO, name: str, limits: LimitOptions, opened: ExitStack) -> BinaryIO:
    """Return a stream that can go back, copied to a temporary file where it cannot.

    Raises:
        SourceFault: There is more of it than allowed.
    """
    if raw.seekable():
        return raw
    copy = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `opened` closes it
    opened.callback(copy.close)
    bounded: Any = Bounded(raw, name, None, limits)
    shutil.copyfileobj(bounded, copy, _SPOOL)
    copy.seek(0)
    return copy
