"""Rows of Python values into Arrow columns of the contract's types, exactly or not at all."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.faults import ContractBroken

_SIMPLE = {
    "bool": pa.bool_(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "float32": pa.float32(), "float64": pa.float64(), "string": pa.string(), "binary": pa.binary(),
    "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "interval": pa.string(), "uuid": pa.string(),
    "json": pa.string(),
}  # fmt: skip
# Arrow would take a datetime as a date, drop a zone, or read a bool as 1: only these classes pass.
_CLASSES: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int16": (int,), "int32": (int,), "int64": (int,), "float32": (float, int),
    "float64": (float, int), "decimal": (Decimal, int), "string": (str,),
    "binary": (bytes, bytearray, memoryview), "date": (dt.date,), "time": (dt.time,),
    "timestamp": (dt.datetime,), "timestamptz": (dt.datetime,), "interval": (str,), "json": (str,),
    "uuid": (str, UUID), "list": (list, tuple),
}  # fmt: skip
_ZONED = {"time", "timestamp", "timestamptz"}
_MAX_DIGITS = 76  # of Arrow's widest decimal


def arrow_type(column: ColumnType) -> pa.DataType:
    """Give the Arrow type that carries a column type; unbounded decimals travel as text."""
    if column.item is not None:
        return pa.list_(arrow_type(column.item))
    if column.name == "decimal":
        if column.precision is None or column.precision > _MAX_DIGITS:
            return pa.string()
        kind = pa.decimal128 if column.precision <= 38 else pa.decimal256
        return kind(column.precision, column.scale or 0)
    return _SIMPLE[column.name]


def to_arrow(name: str, kind: ColumnType, values: Sequence[Any], first_row: int) -> pa.Array:
    """Convert one column of a batch.

    Raises:
        ContractBroken: A value does not fit exactly; the sentence names column and row (from 1).
    """
    _check_classes(name, kind, values, first_row)
    try:
        return pa.array(_prepared(kind, values), type=arrow_type(kind))
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as fault:
        place = _offender(kind, values)
        raise _misfit(name, kind, values[place], first_row + place) from fault


def _check_classes(name: str, kind: ColumnType, values: Sequence[Any], first_row: int) -> None:
    plain = kind.item is None and kind.name not in _ZONED
    if plain and set(map(type, values)) <= {*_CLASSES[kind.name], type(None)}:
        return
    for place, value in enumerate(values):
        if not _has_class(kind, value):
            raise _misfit(name, kind, value, first_row + place)


def _has_class(kind: ColumnType, value: Any) -> bool:  # noqa: ANN401 - a value of any type
    if value is None:
        return True
    if type(value) not in _CLASSES[kind.name]:
        return False
    if kind.item is not None:
        return all(_has_class(kind.item, item) for item in value)
    return kind.name not in _ZONED or (value.tzinfo is not None) == (kind.name == "timestamptz")


def _prepared(kind: ColumnType, values: Sequence[Any]) -> Sequence[Any]:
    if kind.name == "decimal" and pa.types.is_string(arrow_type(kind)):
        return [None if value is None else format(Decimal(value), "f") for value in values]
    if kind.item is not None:
        return [None if value is None else _prepared(kind.item, value) for value in values]
    if kind.name == "timestamptz":
        # Arrow would drop the offset when PYARROW_IGNORE_TIMEZONE is set, which importing pandera does.
        return [None if value is None else value.astimezone(dt.UTC) for value in values]
    if kind.name == "uuid":
        return [None if value is None else str(value) for value in values]
    if kind.name == "string" and any(value is not None and "\0" in value for value in values):
        raise ValueError("NUL character")
    if kind.name == "float32" and not all(map(_is_float32, values)):
        raise ValueError("more digits than 32 bits hold")
    return values


def _is_float32(value: float | None) -> bool:
    """Tell whether a number is one of 32 bits, or the shortest decimal of one."""
    if value is None or value != value:  # noqa: PLR0124 - NaN alone differs from itself
        return True
    try:
        with np.errstate(over="ignore"):
            near = np.float32(value)
    except OverflowError:
        return False
    return float(near) == value or float(str(near)) == value


def _offender(kind: ColumnType, values: Sequence[Any]) -> int:
    """Find the value that does not fit; columns are converted whole, so it is looked for afterwards."""
    for place, value in enumerate(values):
        try:
            pa.array(_prepared(kind, [value]), type=arrow_type(kind))
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            return place
    raise AssertionError("every value fits alone")


def _misfit(name: str, kind: ColumnType, value: object, row: int) -> ContractBroken:
    return ContractBroken(
        f"Value does not fit. Column '{name}', row {row:,}: a {type(value).__name__} that is no exact {kind}.",
        "contract:value",
        report=(f"column {name}, row {row:,}: {masked(value)}",),
    )


def masked(value: object) -> str:
    """Show what a value looks like without showing it: digits and letters are replaced, at most 40 characters."""
    # A `#` is never taken for a digit of the data.
    text = "".join("#" if c.isdigit() else "x" if c.isalpha() else c for c in str(value)[:40])
    return text + ("…" if len(str(value)) > 40 else "")
