"""Parquet files: row group by row group, with every value as it is stored."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import HARMLESS, malformed, too_large
from aiia_pipelines.connectors._tabular_documents import as_json, is_list
from aiia_pipelines.connectors._tabular_options import MAX_COLUMNS, LimitOptions
from aiia_pipelines.connectors._tabular_pages import Unreadable, page_sizes
from aiia_pipelines.connectors._tabular_records import MAX_CELL
from aiia_pipelines.connectors._tabular_unfold import pieces
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

_TARGET = 16 << 20
_LARGEST_GROUP = 4 << 30
_LARGEST_FOOTER = 64 << 20
# A page is unpacked whole, however few of its rows are wanted.
_LARGEST_PAGE = 256 << 20
_MEASURED = 16  # rows at a time, of columns whose values begin like the one before
_REPEATING = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}
_TEXTS = {"NONE", "STRING", "JSON", "BSON", "ENUM"}
_MAGIC = b"PAR1"
_SIMPLE = {
    pa.bool_(): "bool", pa.int8(): "int16", pa.int16(): "int16", pa.int32(): "int32",
    pa.int64(): "int64", pa.uint8(): "int16", pa.uint16(): "int32", pa.uint32(): "int64",
    pa.float16(): "float32", pa.float32(): "float32", pa.float64(): "float64",
    pa.string(): "string", pa.large_string(): "string", pa.string_view(): "string",
    pa.binary(): "binary", pa.large_binary(): "binary", pa.binary_view(): "binary",
    pa.date32(): "date", pa.date64(): "date", pa.null(): "string",
}  # fmt: skip
_ARROW = {
    "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(),
    "string": pa.string(), "binary": pa.binary(), "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
}  # fmt: skip

Convert = Callable[[pa.Array], pa.Array]


class ParquetReader:
    """One Parquet file whose footer is read."""

    def __init__(self, name: str, stream: BinaryIO, limits: LimitOptions) -> None:
        """Read the footer.

        Raises:
            SourceFault: It is damaged, or announces more than the limits allow.
        """
        self._name = name
        self._stream = stream
        self._limits = limits
        self._check_footer(stream)
        self._file = self._opened()
        self._schema: pa.Schema = self._file.schema_arrow
        self._check_sizes()
        self._unpacked = self._unfolded = 0  # bytes so far

    def _opened(
        self, about: pq.FileMetaData | None = None, repeating: Sequence[str] = ()
    ) -> pq.ParquetFile:
        with self._damage():
            found = pq.ParquetFile(
                self._stream,
                metadata=about,
                pre_buffer=False,
                buffer_size=1 << 20,
                read_dictionary=list(repeating),
                thrift_string_size_limit=_LARGEST_FOOTER,
                thrift_container_size_limit=1_000_000,
                page_checksum_verification=True,
            )
            _ = found.schema_arrow
        return found

    def columns(self) -> list[SourceColumn]:
        """Describe the columns."""
        return [
            SourceColumn(field.name, column_type(field.type), field.nullable, str(field.type))
            for field in self._schema
        ]

    def batches(self, names: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read columns in the order of their names.

        Raises:
            SourceFault: The data is damaged.
        """
        fields = [self._schema.field(name) for name in names]
        converts = [_converter(field.type) for field in fields]
        places = [self._schema.get_field_index(name) for name in names]
        before = 0
        for group in range(self._file.metadata.num_row_groups):
            for batch in self._group(group, names, batch_rows):
                for piece in self._pieces(batch, before):
                    by_name = dict(zip(piece.schema.names, piece.columns, strict=True))
                    arrays = [
                        self._converted(convert, by_name[name])
                        for name, convert in zip(names, converts, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, names=list(map(str, places)))
                before += batch.num_rows

    def _pieces(self, batch: pa.RecordBatch, before: int) -> Iterator[pa.RecordBatch]:
        """Cut a batch to what its repeated texts unfold to."""
        for piece, size in pieces(batch, _TARGET):
            self._unfolded += size
            if piece.num_rows == 1 and size > MAX_CELL:
                place = f"{self._name}, row {before + 1:,}"
                sentence = f"{place}: a value of more than {MAX_CELL >> 20} MiB."
                raise SourceFault(sentence, "contract:value", place=place)
            self._check_total(self._unfolded)
            before += piece.num_rows
            yield piece

    def _group(self, group: int, names: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        about = self._file.metadata.row_group(group)
        chunks = [about.column(place) for place in range(about.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in set(names)]
        for chunk in chunks:
            self._check_pages(chunk)
        # A repeated value is stored once, and a number beside each of its places.
        size = max(about.total_byte_size, 8 * sum(chunk.num_values for chunk in chunks))
        rows = max(1, min(batch_rows, _TARGET // max(1, size // max(1, about.num_rows))))
        repeating = [chunk.path_in_schema for chunk in chunks if self._repeats(chunk)]
        file = self._opened(self._file.metadata, repeating) if repeating else self._file
        growing = {
            chunk.path_in_schema.partition(".")[0]
            for chunk in chunks
            if "DELTA_BYTE_ARRAY" in chunk.encodings
        }
        if growing:
            widest = max(
                (batch.nbytes for batch in self._read(file, group, growing, _MEASURED)), default=0
            )
            rows = max(1, min(rows, _MEASURED * _TARGET // max(1, widest)))
        yield from self._read(file, group, names, rows)

    def _read(
        self, file: pq.ParquetFile, group: int, names: Iterable[str], rows: int
    ) -> Iterator[pa.RecordBatch]:
        found = file.iter_batches(rows, row_groups=[group], columns=list(names))
        while True:
            with self._damage():
                batch = next(found, None)
            if batch is None:
                return
            yield batch

    def _repeats(self, chunk: pq.ColumnChunkMetaData) -> bool:
        """Tell whether a column holds texts that may unfold to far more than is stored."""
        field = self._schema.field(chunk.path_in_schema.partition(".")[0])
        return (
            chunk.physical_type == "BYTE_ARRAY"
            and not _REPEATING.isdisjoint(chunk.encodings)
            and self._logical[chunk.path_in_schema] in _TEXTS
            and not isinstance(field.type, pa.BaseExtensionType)
        )

    @cached_property
    def _logical(self) -> dict[str, str]:
        stored = self._file.schema
        columns = [stored.column(place) for place in range(len(stored))]
        return {column.path: column.logical_type.type for column in columns}

    def _converted(self, convert: Convert, array: pa.Array) -> pa.Array:
        try:
            return convert(array)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # Not exact in the type of the contract, which names column and row when it refuses.
            return array

    # -- checks -----------------------------------------------------------------------------

    def _check_footer(self, stream: BinaryIO) -> None:
        size = self._size = stream.seek(0, 2)
        if size < 12:
            raise malformed(self._name, "is no Parquet file: it is too short.")
        stream.seek(0)
        head = stream.read(4)
        stream.seek(size - 8)
        tail = stream.read(8)
        if head != _MAGIC or tail[4:] != _MAGIC:
            what = "cut off" if head == _MAGIC else "something else"
            raise malformed(self._name, f"is no complete Parquet file; it is {what}.")
        footer = int.from_bytes(tail[:4], "little")
        if footer > size - 12:
            raise malformed(self._name, "the footer is damaged.")
        if footer > _LARGEST_FOOTER:
            raise too_large(self._name, "the footer has more than 64 MiB.")
        stream.seek(0)

    def _check_pages(self, chunk: pq.ColumnChunkMetaData) -> None:
        """Look at the pages themselves: what the footer says of them need not be true."""
        with self._damage():
            for size in page_sizes(self._stream, chunk):
                self._unpacked += size
                if size > _LARGEST_PAGE:
                    raise too_large(
                        self._name,
                        f"has a page of more than {_LARGEST_PAGE >> 20} MiB; write smaller ones.",
                    )
                self._check_total(self._unpacked)
                if self._unpacked > max(HARMLESS, self._limits.max_ratio * self._size):
                    raise too_large(
                        self._name,
                        f"unfolds to more than {self._limits.max_ratio} times its size, like a"
                        " compression bomb; raise max_ratio of the source if that is right.",
                    )

    def _check_total(self, size: int) -> None:
        most = self._limits.max_bytes
        if size > most:
            raise too_large(
                self._name,
                f"unfolds to more than {most:,} bytes; raise max_bytes if that is right.",
            )

    def _check_sizes(self) -> None:
        about = self._file.metadata
        sizes = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        if any(size < 0 for size in sizes) or about.num_rows < 0:
            raise malformed(self._name, "the footer is damaged.")
        if sum(sizes) > self._limits.max_bytes:
            raise too_large(
                self._name,
                f"unfolds to {sum(sizes):,} bytes; max_bytes is {self._limits.max_bytes:,}.",
            )
        if max(sizes, default=0) > _LARGEST_GROUP:
            raise too_large(
                self._name,
                f"has a row group of more than {_LARGEST_GROUP >> 30} GiB; write smaller ones.",
            )
        names = Counter(self._schema.names)
        if names.total() > MAX_COLUMNS:
            raise malformed(self._name, f"has more than {MAX_COLUMNS:,} columns.")
        if twice := next((name for name, times in names.items() if times > 1), None):
            raise malformed(self._name, f"has two columns named '{twice}'.")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowNotImplementedError as fault:
            raise malformed(self._name, "holds a column that cannot be read.") from fault
        except (
            pa.ArrowInvalid, pa.ArrowTypeError, EOFError, UnicodeDecodeError, Unreadable
        ) as fault:  # fmt: skip
            raise malformed(self._name, "is damaged: a part of it cannot be read.") from fault
        except OSError as fault:
            if fault.errno is not None:
                raise
            raise malformed(self._name, "is damaged: a part of it cannot be read.") from fault


def column_type(kind: pa.DataType) -> ColumnType:
    """Name the type of the contract that holds every value of an Arrow type; json for nested ones."""
    if isinstance(kind, pa.BaseExtensionType):
        name = {"arrow.uuid": "uuid", "arrow.json": "json"}.get(kind.extension_name)
        return ColumnType(name) if name else column_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return column_type(kind.value_type)
    if pa.types.is_decimal(kind):
        fits = 0 <= kind.scale <= kind.precision
        return ColumnType("decimal", kind.precision, kind.scale) if fits else ColumnType("decimal")
    if is_list(kind):
        item = column_type(kind.value_type)
        nested = item.item is not None or item.name == "json"
        return ColumnType("json") if nested else ColumnType("list", item=item)
    return ColumnType(_SIMPLE.get(kind) or _by_family(kind))


def _by_family(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    families = (
        (pa.types.is_uint64, "decimal"),
        (pa.types.is_time, "time"),
        (pa.types.is_duration, "interval"),
        (pa.types.is_fixed_size_binary, "binary"),
    )
    return next((name for belongs, name in families if belongs(kind)), "json")


def _converter(kind: pa.DataType) -> Convert:
    """Return what turns an array into one of the contract's type, or fails when that is not exact."""
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return _as_uuid
        inner = _converter(kind.storage_type)
        return lambda array: inner(array.storage)
    if pa.types.is_dictionary(kind):
        inner = _converter(kind.value_type)
        return lambda array: inner(array.dictionary_decode())
    name = column_type(kind).name
    if name == "list":
        item = _converter(kind.value_type)
        return lambda array: _list_of(item, array)
    special = {"json": as_json, "interval": _as_interval, "decimal": _as_decimal}
    target = _ARROW.get(name)
    plain = (lambda array: array) if target is None else (lambda array: pc.cast(array, target))
    return special.get(name, plain)


def _as_uuid(array: pa.Array) -> pa.Array:
    return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())


def _as_decimal(array: pa.Array) -> pa.Array:
    """Write as text what is no decimal of a contract: unsigned numbers, and odd scales."""
    if pa.types.is_uint64(array.type):
        return array.cast(pa.string())
    if 0 <= array.type.scale <= array.type.precision:
        return array
    return pa.array([None if v is None else format(v, "f") for v in array.to_pylist()], pa.string())


def _list_of(item: Convert, array: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    # The values below a slice are those of the whole; only its own are unfolded.
    first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
    offsets = pc.cast(pc.subtract(array.offsets, first), pa.int32())
    values = item(array.values.slice(first, last - first))
    return pa.ListArray.from_arrays(offsets, values, mask=pc.is_null(array))


def _as_interval(array: pa.Array) -> pa.Array:
    ticks = pc.cast(pc.cast(array, pa.duration("us")), pa.int64())
    return pa.array([None if t is None else _span(t) for t in ticks.to_pylist()], pa.string())


def _span(micros: int) -> str:
    seconds, fraction = divmod(abs(micros), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{'-' if micros < 0 else ''}{hours:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text
