"""Parquet files: row group by row group, with every value as it is stored."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_bytes import malformed, too_large
from aiia_pipelines.connectors._tabular_options import LimitOptions
from aiia_pipelines.connectors.base import SourceColumn

_TARGET = 16 << 20
_LARGEST_GROUP = 4 << 30
_LARGEST_FOOTER = 64 << 20
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
        self._check_footer(stream)
        with self._damage():
            self._file = pq.ParquetFile(
                stream,
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_string_size_limit=_LARGEST_FOOTER,
                thrift_container_size_limit=1_000_000,
                page_checksum_verification=True,
            )
            self._schema: pa.Schema = self._file.schema_arrow
        self._check_sizes(limits)

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
        for group in range(self._file.metadata.num_row_groups):
            for batch in self._group(group, names, batch_rows):
                by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
                arrays = [
                    self._converted(convert, by_name[name])
                    for name, convert in zip(names, converts, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=list(map(str, places)))

    def _group(self, group: int, names: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        about = self._file.metadata.row_group(group)
        row_bytes = max(1, about.total_byte_size // max(1, about.num_rows))
        rows = max(1, min(batch_rows, _TARGET // row_bytes))
        found = self._file.iter_batches(rows, row_groups=[group], columns=list(names))
        while True:
            with self._damage():
                batch = next(found, None)
            if batch is None:
                return
            yield batch

    def _converted(self, convert: Convert, array: pa.Array) -> pa.Array:
        try:
            return convert(array)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # Not exact in the type of the contract, which names column and row when it refuses.
            return array

    # -- checks -----------------------------------------------------------------------------

    def _check_footer(self, stream: BinaryIO) -> None:
        size = stream.seek(0, 2)
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

    def _check_sizes(self, limits: LimitOptions) -> None:
        about = self._file.metadata
        sizes = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        if any(size < 0 for size in sizes) or about.num_rows < 0:
            raise malformed(self._name, "the footer is damaged.")
        if sum(sizes) > limits.max_bytes:
            raise too_large(
                self._name,
                f"unfolds to {sum(sizes):,} bytes; max_bytes is {limits.max_bytes:,}.",
            )
        if max(sizes, default=0) > _LARGEST_GROUP:
            raise too_large(
                self._name,
                f"has a row group of more than {_LARGEST_GROUP >> 30} GiB; write smaller ones.",
            )
        names = self._schema.names
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise malformed(self._name, f"has two columns named '{twice}'.")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowNotImplementedError as fault:
            raise malformed(self._name, "holds a column that cannot be read.") from fault
        except (pa.ArrowInvalid, pa.ArrowTypeError, EOFError, UnicodeDecodeError) as fault:
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
    if _is_list(kind):
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


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


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
    special = {"json": _as_json, "interval": _as_interval, "decimal": _as_decimal}
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
    offsets = pc.cast(array.offsets, pa.int32())
    return pa.ListArray.from_arrays(offsets, item(array.values), mask=pc.is_null(array))


def _as_interval(array: pa.Array) -> pa.Array:
    ticks = pc.cast(pc.cast(array, pa.duration("us")), pa.int64())
    return pa.array([None if t is None else _span(t) for t in ticks.to_pylist()], pa.string())


def _span(micros: int) -> str:
    seconds, fraction = divmod(abs(micros), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{'-' if micros < 0 else ''}{hours:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _as_json(array: pa.Array) -> pa.Array:
    return pa.array([_document(value) for value in array], pa.string())  # a null stays null


def _document(value: pa.Scalar) -> str | None:
    return None if not value.is_valid else _json(value)


def _json(value: pa.Scalar) -> str:
    if not value.is_valid:
        return "null"
    kind = value.type
    if isinstance(kind, pa.BaseExtensionType):
        return _json(value.value)
    if pa.types.is_struct(kind):
        inner = ", ".join(f"{_quoted(name)}: {_json(item)}" for name, item in value.items())
        return f"{{{inner}}}"
    if pa.types.is_map(kind):
        pairs = [(pair["key"], pair["value"]) for pair in value.values]
        keys = [key.as_py() if pa.types.is_string(key.type) else _json(key) for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise pa.ArrowInvalid("a key stands twice in a map")
        inner = ", ".join(
            f"{_quoted(str(key))}: {_json(item)}"
            for key, (_, item) in zip(keys, pairs, strict=True)
        )
        return f"{{{inner}}}"
    if _is_list(kind):
        return f"[{', '.join(_json(item) for item in value.values)}]"
    return _leaf(value)


def _leaf(value: pa.Scalar) -> str:
    kind = value.type
    found: Any = (
        value.as_py() if not pa.types.is_temporal(kind) else value.cast(pa.string()).as_py()
    )
    if isinstance(found, Decimal):
        return format(found, "f")
    if isinstance(found, bytes):
        return _quoted(found.hex())
    if isinstance(found, float) and not np.isfinite(found):
        raise pa.ArrowInvalid("JSON has no such number")
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        return str(np.float32(found))
    return _quoted(found)


def _quoted(value: Any) -> str:  # noqa: ANN401 - a scalar of JSON
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
