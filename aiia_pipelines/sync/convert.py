"""Rows of Python values into Arrow columns of the contract's types, exactly or not at all."""

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.faults import ContractBroken

# What Arrow and Python raise for a value that has no exact place in a column.
MISFITS = (pa.ArrowException, OverflowError, ValueError, TypeError, ArithmeticError)

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
_TEXTS = {"string", "json", "interval"}
_MAX_DIGITS = 76  # of Arrow's widest decimal
MAX_CELL = 16 * 2**20  # bytes of one text or binary value
_CANONICAL = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
# PostgreSQL's widest number; a short text such as 1E+999999999 must not become a gigabyte of digits.
_WHOLE_DIGITS, _DECIMALS = 131_072, 16_383
_EXACT = Context(prec=2000, traps=[Inexact, InvalidOperation])


def arrow_type(column: ColumnType) -> pa.DataType:
    """Give the Arrow type that carries a column type; unbounded decimals travel as text."""
    if column.item is not None:
        return pa.list_(arrow_type(column.item))
    if column.name == "decimal":
        if travels_as_text(column):
            return pa.string()
        precision = column.precision or _MAX_DIGITS
        kind = pa.decimal128 if precision <= 38 else pa.decimal256
        return kind(precision, column.scale or 0)
    return _SIMPLE[column.name]


def travels_as_text(column: ColumnType) -> bool:
    """Tell whether a column holds decimals that no decimal type of Arrow holds."""
    return column.name == "decimal" and (column.precision is None or column.precision > _MAX_DIGITS)


def from_python(kind: ColumnType, values: Sequence[Any]) -> pa.Array:
    """Convert Python values.

    Raises:
        MISFITS: A value does not fit exactly.
    """
    _check_classes(kind, values)
    return pa.array(_prepared(kind, values), type=arrow_type(kind))


def to_arrow(name: str, kind: ColumnType, values: Sequence[Any], first_row: int) -> pa.Array:
    """Convert one column of a batch.

    Raises:
        ContractBroken: A value does not fit exactly; the sentence names column and row (from 1).
    """
    try:
        return from_python(kind, values)
    except MISFITS as fault:
        place = _offender(kind, values)
        row = f"row {first_row + place:,}"
        raise misfit(name, kind, values[place], row) from fault


def misfit(name: str, kind: ColumnType, value: object, row: str) -> ContractBroken:
    """Make the fault of a value that does not fit; `row` names it for people."""
    why = f"that is no exact {kind}"
    if isinstance(value, str | bytes) and len(value) > MAX_CELL // 4:
        size = len(value.encode(errors="replace")) if isinstance(value, str) else len(value)
        why = f"of more than {MAX_CELL >> 20} MiB" if size > MAX_CELL else why
    return ContractBroken(
        f"Value does not fit. Column '{name}', {row}: a {type(value).__name__} {why}.",
        "contract:value",
        report=(f"column {name}, {row}: {masked(value)}",),
    )


def masked(value: object) -> str:
    """Show what a value looks like without showing it: digits and letters are replaced, at most 40 characters."""
    shown = text_of(value)
    # A `#` is never taken for a digit of the data.
    text = "".join("#" if c.isdigit() else "x" if c.isalpha() else c for c in shown[:40])
    return text + ("…" if len(shown) > 40 else "")


def text_of(value: object) -> str:
    """Write a value for people; Python refuses to write whole numbers of thousands of digits."""
    try:
        return str(value)
    except ValueError:
        return f"a {type(value).__name__} of very many digits"


def plain_decimal(kind: ColumnType, value: Decimal | int) -> str:
    """Write a decimal that travels as text: digits without exponent, with all decimals of a bounded type.

    Raises:
        MISFITS: It has more digits than the type.
    """
    number = Decimal(value)
    if not number.is_finite():
        if kind.precision is None and str(number) in {"NaN", "Infinity", "-Infinity"}:
            return str(number)
        raise ValueError("no number")
    exponent = int(number.as_tuple().exponent)
    if number.adjusted() >= _WHOLE_DIGITS or exponent < -_DECIMALS:
        raise ValueError("more digits than a number may have")
    if kind.precision is not None:
        number = number.quantize(_unit(kind), context=_EXACT)
        if number.adjusted() >= kind.precision - (kind.scale or 0):
            raise ValueError("more digits than the column has")
    # Decimals have no negative zero: no database and no decimal of Arrow keeps its sign.
    return format(number or abs(number), "f")


def _unit(kind: ColumnType) -> Decimal:
    """Give the smallest step of a bounded type: quantized by it, a number loses nothing or is refused."""
    return Decimal((0, (1,), -(kind.scale or 0)))


def canonical_uuid(text: str) -> str:
    """Write a UUID in lower case with its hyphens.

    Raises:
        ValueError: It is none.
    """
    if _CANONICAL.fullmatch(text):
        return text
    if not _UUID.fullmatch(text):
        raise ValueError("no UUID")
    return str(UUID(text))


def is_float32(value: float, near: float) -> bool:
    """Tell whether a number is the 32-bit one near it, written with the digits of one."""
    if near == value or value != value:  # noqa: PLR0124 - NaN alone differs from itself
        return True
    return value in {float(str(np.float32(near))), float(f"{near:.9g}")}


def _check_classes(kind: ColumnType, values: Sequence[Any]) -> None:
    plain = kind.item is None and kind.name not in _ZONED
    if plain and set(map(type, values)) <= {*_CLASSES[kind.name], type(None)}:
        return
    if not all(_has_class(kind, value) for value in values):
        raise TypeError("a value of another class")


def _has_class(kind: ColumnType, value: Any) -> bool:  # noqa: ANN401 - a value of any type
    if value is None:
        return True
    if type(value) not in _CLASSES[kind.name]:
        return False
    if kind.item is not None:
        return all(_has_class(kind.item, item) for item in value)
    return kind.name not in _ZONED or (value.tzinfo is not None) == (kind.name == "timestamptz")


def _prepared(kind: ColumnType, values: Sequence[Any]) -> Sequence[Any]:
    if travels_as_text(kind):
        return [None if value is None else plain_decimal(kind, value) for value in values]
    if kind.item is not None:
        return [None if value is None else _prepared(kind.item, value) for value in values]
    if kind.name == "decimal":
        # Of numbers with very many digits Arrow drops some, and says nothing.
        unit = _unit(kind)
        return [v if v is None else Decimal(v).quantize(unit, context=_EXACT) for v in values]
    if kind.name == "timestamptz":
        # Arrow would drop the offset when PYARROW_IGNORE_TIMEZONE is set, which importing pandera does.
        return [None if value is None else value.astimezone(dt.UTC) for value in values]
    if kind.name == "uuid":
        return [None if value is None else canonical_uuid(str(value)) for value in values]
    if kind.name in _TEXTS and any(value is not None and "\0" in value for value in values):
        raise ValueError("NUL character")
    if kind.name == "float32" and not _all_float32(values):
        raise ValueError("more digits than 32 bits hold")
    return values


def _all_float32(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    with np.errstate(over="ignore"):
        near = [float(np.float32(value)) for value in known]
    return all(map(is_float32, known, near))


def _offender(kind: ColumnType, values: Sequence[Any]) -> int:
    """Find the value that does not fit; columns are converted whole, so it is looked for afterwards."""
    for place, value in enumerate(values):
        try:
            from_python(kind, [value])
        except MISFITS:
            return place
    raise AssertionError("every value fits alone")
