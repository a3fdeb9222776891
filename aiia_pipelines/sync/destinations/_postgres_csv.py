"""Arrow batches as the CSV that COPY reads, for types whose binary form only PostgreSQL makes."""

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from aiia_pipelines.config.types import ColumnType


def as_csv(batch: pa.RecordBatch, kinds: Mapping[str, ColumnType]) -> bytes:
    """Write a batch as CSV in which NULL is nothing and an empty text is two quotes."""
    columns = [
        _plain(values, kinds[name])
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    table = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    buffer = io.BytesIO()
    options = csv.WriteOptions(include_header=False, quoting_style="all_valid")
    csv.write_csv(table, buffer, options)
    return buffer.getvalue()


def _plain(values: pa.Array, kind: ColumnType) -> pa.Array:
    if kind.name == "binary":
        texts = [None if value is None else f"\\x{value.hex()}" for value in values.to_pylist()]
        return pa.array(texts, pa.string())
    if kind.item is not None:
        texts = [None if value is None else _array(value) for value in values.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_decimal(values.type):
        return pc.cast(values, pa.string())
    return values


def _array(items: list[Any]) -> str:
    """Write a list as PostgreSQL's array text."""
    return "{" + ",".join("NULL" if item is None else _quoted(_item(item)) for item in items) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _item(item: Any) -> str:  # noqa: ANN401 - an item of any column type
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, bytes):
        return f"\\x{item.hex()}"
    return repr(item) if isinstance(item, float) else str(item)
