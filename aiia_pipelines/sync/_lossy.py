"""What `on_lossy` makes of a value that does not fit its column: the nearest one that does, or its text."""

import datetime as dt
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync._cast import cast, decoded, text_of_decimals
from aiia_pipelines.sync.convert import from_python, plain_decimal, travels_as_text

_WIDE = Context(prec=2000, rounding=ROUND_HALF_EVEN)
_UNBOUNDED = ColumnType("decimal")
_FRACTION = re.compile(r"(.*:[0-9]{2}\.[0-9]{6})([0-9]+)(.*)", re.ASCII)
_HALF = Decimal("0.5")
_NANOSECONDS = 1000  # of a microsecond
_INTEGERS = {"int16", "int32", "int64"}
_FLOATS = {"float32", "float64"}
_MOMENTS = {"time", "timestamp", "timestamptz"}


def rounded(kind: ColumnType, one: pa.Array | Sequence[Any]) -> pa.Array:
    """Give the value of a column type that is nearest to one value, halves to the even neighbour.

    Raises:
        MISFITS: The type has no value near it.
    """
    if isinstance(one, pa.Array):
        one = decoded(one)
        if kind.name in _MOMENTS and getattr(one.type, "unit", "") == "ns":
            return _nearest(kind, *_microseconds(one))
        one = one.to_pylist()
    value = one[0]
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    if kind.name in _MOMENTS and isinstance(value, str):
        return _moment(kind, value)
    return from_python(kind, [_number(kind, value)])


def written(values: pa.Array | Sequence[Any]) -> pa.Array:
    """Give the exact text of every value.

    Raises:
        MISFITS: A value has none.
    """
    kind = ColumnType("string")
    if not isinstance(values, pa.Array):
        return from_python(kind, [_text(value) for value in values])
    values = decoded(values)
    if pa.types.is_decimal(values.type):
        return text_of_decimals(values)
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        raise TypeError("no text")
    return cast(kind, values.cast(pa.string()))


def _number(kind: ColumnType, value: Any) -> Any:  # noqa: ANN401 - a value of any type
    if kind.name in _FLOATS:
        return _float(kind, value)
    if kind.name == "decimal" and not travels_as_text(kind):
        return _quantized(value, kind.scale or 0)
    if kind.name in _INTEGERS:
        return int(_quantized(value, 0))
    raise TypeError("no number")


def _quantized(value: Any, scale: int) -> Decimal:  # noqa: ANN401
    number = Decimal(repr(value) if isinstance(value, float) else value)
    return number.quantize(Decimal(1).scaleb(-scale), context=_WIDE)


def _float(kind: ColumnType, value: Any) -> float:  # noqa: ANN401
    near = float(value)
    if kind.name == "float32":
        with np.errstate(over="ignore"):
            near = float(np.float32(near))
    if np.isinf(near) and Decimal(value).is_finite():
        raise OverflowError("beyond the largest number")
    return near


def _moment(kind: ColumnType, text: str) -> pa.Array:
    match = _FRACTION.fullmatch(text)
    if match is None:
        raise ValueError("no moment")
    whole = cast(kind, pa.array([match[1] + match[3]]))
    return _nearest(kind, whole, Decimal(f"0.{match[2]}"))


def _microseconds(one: pa.Array) -> tuple[pa.Array, Decimal]:
    whole, rest = divmod(one.view(pa.int64())[0].as_py(), _NANOSECONDS)
    unit = pa.time64("us") if pa.types.is_time(one.type) else pa.timestamp("us", one.type.tz)
    return pa.array([whole]).view(unit), Decimal(rest) / _NANOSECONDS


def _nearest(kind: ColumnType, whole: pa.Array, rest: Decimal) -> pa.Array:
    """Round microseconds of which a part is left over."""
    count = whole.view(pa.int64())[0].as_py()
    up = rest > _HALF or (rest == _HALF and count % 2 == 1)
    return cast(kind, pa.array([count + up]).view(whole.type))


def _text(value: Any) -> str | None:  # noqa: ANN401
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return plain_decimal(_UNBOUNDED, value)
    if isinstance(value, int | float | UUID):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise TypeError("no text")
