"""The checks a column may name, by their pandera names, and what each may be given."""

import math
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NotRequired
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from aiia_pipelines.config.types import ColumnType

Scalar = bool | int | float | str


def refused(sentence: str) -> PydanticCustomError:
    """Return a validation error of this sentence."""
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence})


def _scalar(value: object) -> Scalar:
    """Accept one value to compare with."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise refused("must be a number, a text or true/false")


def _pattern(text: str) -> str:
    """Accept a regular expression."""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        raise refused("must be a regular expression") from None
    return text


Value = Annotated[
    Any, AfterValidator(_scalar), WithJsonSchema({"type": ["number", "string", "boolean"]})
]
Values = Annotated[list[Value], Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Text = Annotated[str, Field(min_length=1)]
Length = Annotated[int, Field(ge=0)]

_CLOSED = ConfigDict(extra="forbid", strict=True)


@with_config(_CLOSED)
class Range(TypedDict):
    """The bounds of `in_range`, both included unless said otherwise."""

    min_value: Value
    max_value: Value
    include_min: NotRequired[bool]
    include_max: NotRequired[bool]


@with_config(_CLOSED)
class Lengths(TypedDict):
    """The bounds of `str_length`, in characters."""

    min_value: NotRequired[Length]
    max_value: NotRequired[Length]


def _range(bounds: Range) -> Range:
    """Accept bounds in order."""
    low, high = bounds["min_value"], bounds["max_value"]
    if _is_number(low) and _is_number(high) and low > high:
        raise refused("min_value must not be greater than max_value")
    return bounds


def _lengths(bounds: Lengths) -> Lengths:
    """Accept at least one bound."""
    if not bounds:
        raise refused("needs min_value, max_value or both")
    if bounds.get("min_value", 0) > bounds.get("max_value", math.inf):
        raise refused("min_value must not be greater than max_value")
    return bounds


@with_config(_CLOSED)
class ColumnChecks(TypedDict, total=False):
    """The checks of one column, by pandera's names."""

    ge: Value
    gt: Value
    le: Value
    lt: Value
    eq: Value
    ne: Value
    in_range: Annotated[Range, AfterValidator(_range)]
    isin: Values
    notin: Values
    str_matches: Pattern
    str_contains: Pattern
    str_startswith: Text
    str_endswith: Text
    str_length: Annotated[Lengths, AfterValidator(_lengths)]
    unique: bool


def argument_mistake(check: str, argument: object, column_type: ColumnType) -> str | None:
    """Say why a check or its argument does not go with a column of this type, or None."""
    if check == "unique":
        return None
    if check.startswith("str_"):
        return None if column_type.name == "string" else "needs a column of type string"
    if column_type.name not in _FITS:
        return f"a column of type {column_type} cannot be compared with a value"
    described, fits = _FITS[column_type.name]
    if all(_holds(fits, value) for value in _values(argument)):
        return None
    return f"must be {described}, because the column's type is {column_type}"


def _values(argument: object) -> Iterable[object]:
    """Return the values to compare with in a check's argument."""
    if isinstance(argument, dict):
        return (argument["min_value"], argument["max_value"])
    return argument if isinstance(argument, list) else (argument,)


def _holds(fits: Callable[[Any], bool], value: object) -> bool:
    """Tell whether a value passes, taking a fault of reading it for no."""
    try:
        return fits(value)
    except (ValueError, TypeError, AttributeError, InvalidOperation):
        return False


def _is_number(value: object) -> bool:
    """Tell whether a value is a number and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_decimal(value: object) -> bool:
    """Tell whether a value is an exact number; quotes keep digits a float would lose."""
    return _is_number(value) or (isinstance(value, str) and Decimal(value).is_finite())


_WHOLE = ("a whole number", _is_whole)
_NUMBER = ("a number", _is_number)
_FITS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int16": _WHOLE,
    "int32": _WHOLE,
    "int64": _WHOLE,
    "float32": _NUMBER,
    "float64": _NUMBER,
    "decimal": ("a number, in quotes where digits matter", _is_decimal),
    "string": ("a text", lambda value: isinstance(value, str)),
    "date": ("a date such as 2026-01-31", lambda value: bool(date.fromisoformat(value))),
    "time": ("a time such as 22:30:00", lambda value: time.fromisoformat(value).tzinfo is None),
    "timestamp": (
        "a time such as 2026-01-31T22:30:00, without a zone",
        lambda value: datetime.fromisoformat(value).tzinfo is None,
    ),
    "timestamptz": (
        "a time with its zone such as 2026-01-31T22:30:00+00:00",
        lambda value: datetime.fromisoformat(value).tzinfo is not None,
    ),
    "uuid": ("a UUID", lambda value: bool(UUID(value))),
}
