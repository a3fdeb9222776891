"""Arrow columns of text into typed columns, at once where every text is beyond doubt."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_options import FormatOptions
from aiia_pipelines.connectors._text_values import parser

# As Arrow's own casts also read hexadecimal digits and half dates, the text is looked at first.
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?"
_MONTH_DAY = "-[0-9]{2}-[0-9]{2}"
_DAY = f"(?:[1-9][0-9]{{3}}|0[1-9][0-9]{{2}}|00[1-9][0-9]|000[1-9]){_MONTH_DAY}"
# At the edges an offset may lead out of the years that there are.
_INNER_DAY = f"[1-8][0-9]{{3}}{_MONTH_DAY}"
_SAFE: dict[str, tuple[str, pa.DataType]] = {
    "int16": ("-?[0-9]{1,18}", pa.int16()),
    "int32": ("-?[0-9]{1,18}", pa.int32()),
    "int64": ("-?[0-9]{1,18}", pa.int64()),
    "float64": ("-?[0-9]{1,15}([.][0-9]+)?", pa.float64()),
    "date": (_DAY, pa.date32()),
    "timestamp": (f"{_DAY}[ T]{_TIME}", pa.timestamp("us")),
    "timestamptz": (
        f"{_INNER_DAY}[ T]{_TIME}(Z|[+-][0-9]{{2}}:[0-9]{{2}})",
        pa.timestamp("us", "UTC"),
    ),
}
_DECIMAL = "-?[0-9]+([.][0-9]+)?"
_UNBOUNDED = "-?(0|[1-9][0-9]*)([.][0-9]+)?"
_TEXTS = {"string", "json", "interval"}
_SHORT = 16  # characters; so many digits at most, with a point, that a double keeps them all
_FORMATS = {
    "date": "date_format",
    "timestamp": "timestamp_format",
    "timestamptz": "timestamp_format",
}

_TARGETS = {
    "bool": pa.bool_(), "int16": pa.int64(), "int32": pa.int64(), "int64": pa.int64(),
    "float32": pa.float64(), "float64": pa.float64(), "date": pa.date32(),
    "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "binary": pa.binary(), "uuid": pa.string(),
}  # fmt: skip

# An Arrow array of the type, or Python values.
Convert = Callable[[pa.Array], Any]


def converter(kind: ColumnType, options: FormatOptions) -> Convert:
    """Return what turns a column of text into one of a type.

    The result is an Arrow array, or Python values when some text is no value of the type.
    """
    if kind.name in _TEXTS:
        return lambda texts: texts
    parse = parser(kind, options)

    def convert(texts: pa.Array) -> Any:  # noqa: ANN401 - an array or values
        found = _at_once(kind, options, texts)
        return found if found is not None else _one_by_one(kind, parse, texts)

    return convert


def _one_by_one(kind: ColumnType, parse: Callable[[str], Any], texts: pa.Array) -> Any:  # noqa: ANN401 - an array or values
    """Parse every distinct text once."""
    coded = texts.dictionary_encode()
    values = [parse(text) for text in coded.dictionary.to_pylist()]
    target = _target(kind)
    plain = kind.name == "uuid" or not any(isinstance(value, str) for value in values)
    if target is not None and plain:
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return pa.array(values, target).take(coded.indices)
    return [None if place is None else values[place] for place in coded.indices.to_pylist()]


def _target(kind: ColumnType) -> pa.DataType | None:
    if kind.name == "decimal" and kind.precision is not None and kind.precision <= 76:
        return _wide(kind)
    return _TARGETS.get(kind.name)


def _wide(kind: ColumnType) -> pa.DataType:
    wide = pa.decimal128 if (kind.precision or 0) <= 38 else pa.decimal256
    return wide(kind.precision, kind.scale or 0)


def _at_once(kind: ColumnType, options: FormatOptions, texts: pa.Array) -> pa.Array | None:
    if kind.item is not None or kind.name in {"uuid", "binary", "float32"}:
        return None
    nulls = pa.array(options.null_values, pa.string())
    # A quoted text that means NULL is NULL in a column of any other type than text.
    if pc.any(pc.is_in(texts, nulls)).as_py():
        texts = pc.if_else(pc.is_in(texts, nulls), pa.scalar(None, pa.string()), texts)
    if kind.name in _SAFE:
        return _safe(kind, options, texts)
    return {"bool": _bools, "time": _times, "decimal": _decimals}[kind.name](kind, options, texts)


def _safe(kind: ColumnType, options: FormatOptions, texts: pa.Array) -> pa.Array | None:
    stated = kind.name in _FORMATS and getattr(options, _FORMATS[kind.name]) is not None
    pattern, target = _SAFE[kind.name]
    numeric = kind.name not in _FORMATS
    if stated or (numeric and _is_local(options)) or not _all_match(texts, pattern):
        return None
    if kind.name == "float64" and (pc.max(pc.utf8_length(texts)).as_py() or 0) > _SHORT:
        return None
    return _cast(texts, target)


def _is_local(options: FormatOptions) -> bool:
    return options.decimal != "." or options.thousands is not None


def _all_match(texts: pa.Array, pattern: str) -> bool:
    # Nulls do not count; a column of nothing else matches.
    return pc.all(pc.match_substring_regex(texts, f"^(?:{pattern})$")).as_py() is not False


def _cast(texts: pa.Array, target: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(texts, target)
    except pa.ArrowInvalid:
        return None  # some value is out of range: they are looked at one by one


def _bools(_: ColumnType, options: FormatOptions, texts: pa.Array) -> pa.Array | None:
    lowered = pc.utf8_lower(texts)
    yes, no = (
        pc.is_in(lowered, pa.array([word.lower() for word in words], pa.string()))
        for words in (options.true_values, options.false_values)
    )
    if not pc.all(pc.or_(pc.or_(yes, no), pc.is_null(texts))).as_py():
        return None
    return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), yes)


def _times(_: ColumnType, options: FormatOptions, texts: pa.Array) -> pa.Array | None:
    if options.time_format is not None or not _all_match(texts, _TIME):
        return None
    moments = _cast(pc.binary_join_element_wise("1970-01-01", texts, "T"), pa.timestamp("us"))
    return None if moments is None else pc.cast(moments, pa.time64("us"))


def _decimals(kind: ColumnType, options: FormatOptions, texts: pa.Array) -> pa.Array | None:
    if _is_local(options):
        return None
    if kind.precision is None or kind.precision > 76:
        # Decimals that Arrow cannot hold travel as their plain text.
        return texts if _all_match(texts, _UNBOUNDED) else None
    if not _all_match(texts, _DECIMAL):
        return None
    return _cast(texts, _wide(kind))
