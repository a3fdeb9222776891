"""One column of a batch: converted whole, and value by value only where something does not fit."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.sync._cast import cast
from aiia_pipelines.sync._lossy import rounded, written
from aiia_pipelines.sync.contract import ContractColumn
from aiia_pipelines.sync.convert import MAX_CELL, MISFITS, arrow_type, from_python

Values: TypeAlias = pa.Array | Sequence[Any]
_PIECE = 256  # values that are tried together when not all fit
# The forms of PostgreSQL, standard SQL and ISO 8601; nothing that matched is tried in another way.
_INTERVAL = re.compile(
    r"(?>[+-]?(?:[0-9]++(?:\.[0-9]++)?\s*+(?:microsec|millisec|s|m|min|h|hr|hour|d|day|w|week|mon|month|y|yr|year"
    r"|sec|second|minute|decade|century|centurie|millennium)s?(?![a-z])|[0-9]++(?::[0-9]{2}){1,2}(?:\.[0-9]++)?"
    r"|[0-9]++-[0-9]++|[0-9]++(?=\s++[+-]?[0-9]++:))\s*+)++(?:ago)?"
    r"|[+-]?P(?=[0-9+T-])[0-9YMWDTHS:.+-]++|[+-]?infinity",
    re.ASCII | re.IGNORECASE,
)


@dataclass
class Converted:
    """A column of a batch; `misfits` are the places (from 0) of values that became null for now."""

    values: pa.Array
    misfits: list[int] = field(default_factory=list)
    changed: int = 0


def convert(column: ContractColumn, values: Values) -> Converted:
    """Convert a column; what does not fit is changed as `on_lossy` says, or told."""
    if column.declared is not None:
        strict = replace(column, type=column.declared, declared=None, on_lossy=None)
        kept = _convert(column, values)
        kept.changed = len(convert(strict, values).misfits)
        return kept
    return _convert(column, values)


def value_at(values: Values, place: int) -> object:
    """Give a value as the source gave it."""
    if not isinstance(values, pa.Array):
        return values[place]
    try:
        return values[place].as_py()
    except (OverflowError, ValueError):
        # A date or time beyond Python's; its number tells as much.
        return getattr(values[place], "value", None)


def _convert(column: ContractColumn, values: Values) -> Converted:
    try:
        return Converted(_exact(column, values))
    except MISFITS:
        pass
    found = Converted(pa.nulls(0))
    pieces = [
        _piece(column, values[start : start + _PIECE], start, found)
        for start in range(0, len(values), _PIECE)
    ]
    found.values = pa.concat_arrays(pieces)
    return found


def _piece(column: ContractColumn, values: Values, start: int, found: Converted) -> pa.Array:
    try:
        return _exact(column, values)
    except MISFITS:
        pass
    return pa.concat_arrays(
        [_one(column, values[n : n + 1], start + n, found) for n in range(len(values))]
    )


def _one(column: ContractColumn, one: Values, place: int, found: Converted) -> pa.Array:
    try:
        return _exact(column, one)
    except MISFITS:
        pass
    if column.on_lossy == "round":
        try:
            near = rounded(column.type, one)
        except MISFITS:
            pass
        else:
            found.changed += 1
            return near
    if column.on_lossy == "null" and column.nullable:
        found.changed += 1
    else:
        found.misfits.append(place)
    return pa.nulls(1, arrow_type(column.type))


def _exact(column: ContractColumn, values: Values) -> pa.Array:
    exact = _checked(column, values)
    _check_size(exact)
    return exact


def _check_size(exact: pa.Array) -> None:
    while pa.types.is_list(exact.type):
        exact = exact.flatten()
    lengthy = pa.types.is_string(exact.type) or pa.types.is_binary(exact.type)
    # Only a column that is larger as a whole can have such a value.
    if lengthy and exact.nbytes > MAX_CELL:
        longest = pc.max(pc.binary_length(exact)).as_py()
        if longest is not None and longest > MAX_CELL:
            raise ValueError("larger than a value may be")


def _checked(column: ContractColumn, values: Values) -> pa.Array:
    if column.declared is not None:
        return written(values)
    if isinstance(values, pa.Array):
        exact = cast(column.type, values)
    else:
        exact = from_python(column.type, values)
    check = _CHECKS.get(column.type.name)
    if check is not None and column.given != column.type:
        for text in exact.to_pylist():
            if text is not None:
                check(text)
    return exact


def _check_interval(text: str) -> None:
    if not _INTERVAL.fullmatch(text):
        raise ValueError("no interval")


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse, parse_int=len, parse_float=len)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


# Types that travel as text, which a destination could find to be none.
_CHECKS: dict[str, Callable[[str], None]] = {"json": _check_json, "interval": _check_interval}
