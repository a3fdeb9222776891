"""Arrow columns as a source gives them into Arrow columns of the contract's types, exactly or not at all."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.sync.convert import (
    arrow_type,
    canonical_uuid,
    is_float32,
    plain_decimal,
    travels_as_text,
)

_DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31
_MICROSECONDS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_DAY = (0, 86_400_000_000 - 1)
_TRUE, _FALSE = ["true", "t", "1"], ["false", "f", "0"]
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
# Python's Decimal would read 1_000 and digits of any script as well.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|(?i:^([+-]?inf(inity)?|nan)$)"
_PLAIN_DECIMAL = (
    r"^(0|[1-9][0-9]*)(\.[0-9]+)?$|^-[1-9][0-9]*(\.[0-9]+)?$|^-0\.[0-9]*[1-9][0-9]*$"
    r"|^NaN$|^-?Infinity$"
)
# Databases with seven decimals of a second write zeros behind those that count.
_SPARE_ZEROS = r"(\.[0-9]{6})0+"
_DIGITS = 17  # that a 64-bit number is written with at most
_SHORT = 15  # characters, so also digits: so many always survive as a 64-bit number


def cast(kind: ColumnType, values: pa.Array) -> pa.Array:
    """Convert a column.

    Raises:
        MISFITS: A value does not fit exactly.
    """
    values = decoded(values)
    if values.null_count == len(values):
        return pa.nulls(len(values), arrow_type(kind))
    return _CASTS[kind.name](kind, values)


def text_of_decimals(values: pa.Array) -> pa.Array:
    """Write decimals with all digits of their scale; Arrow itself would write 1E-7."""
    scale = values.type.scale
    whole = pa.decimal128 if pa.types.is_decimal128(values.type) else pa.decimal256
    units = values.view(whole(values.type.precision, 0)).cast(pa.string())
    if scale == 0:
        return units
    sign = pc.if_else(pc.starts_with(units, "-"), "-", "")
    digits = pc.utf8_lpad(pc.utf8_ltrim(units, "-"), scale + 1, "0")
    before = pc.utf8_slice_codeunits(digits, 0, -scale)
    after = pc.utf8_slice_codeunits(digits, -scale)
    return pc.binary_join_element_wise(pc.binary_join_element_wise(sign, before, ""), after, ".")


def decoded(values: pa.Array) -> pa.Array:
    """Take off what only says how values are stored."""
    kind = values.type
    if isinstance(kind, pa.UuidType):
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())
    if isinstance(kind, pa.BaseExtensionType):
        return decoded(values.storage)
    if pa.types.is_dictionary(kind):
        return decoded(values.dictionary_decode())
    plain = _plain(kind)
    return values if plain is None else values.cast(plain)


def _plain(kind: pa.DataType) -> pa.DataType | None:
    """Give the type to which one of the same values is brought first."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if any(test(kind) for test in _BINARIES):
        return pa.binary()
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return None


_BINARIES = (pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)


def lengths_to_offsets(lengths: Any) -> pa.Array:  # noqa: ANN401 - a numpy array
    """Tell where the parts of these lengths begin, and where the last one ends."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _bool(_: ColumnType, values: pa.Array) -> pa.Array:
    if pa.types.is_boolean(values.type):
        return values
    lower = pc.ascii_lower(_text(values))
    yes, no = (pc.is_in(lower, value_set=pa.array(words)) for words in (_TRUE, _FALSE))
    if not _all(pc.or_(pc.or_(yes, no), pc.is_null(values))):
        raise ValueError("no truth value")
    return pc.if_else(pc.is_null(values), None, yes)


def _integer(kind: ColumnType, values: pa.Array) -> pa.Array:
    if not pa.types.is_integer(values.type) and (_bytes(_text(values)) | 0x20 == ord("x")).any():
        raise ValueError("hexadecimal")
    return values.cast(arrow_type(kind))


def _float(kind: ColumnType, values: pa.Array) -> pa.Array:
    given = values.type
    if pa.types.is_integer(given):
        return values.cast(arrow_type(kind))
    wide = values.cast(pa.float64()) if pa.types.is_floating(given) else _float_of(_text(values))
    if kind.name == "float64":
        return wide
    narrow = wide.cast(pa.float32())
    if not pa.types.is_float32(given):
        _check_float32(wide, narrow)
    return narrow


def _check_float32(wide: pa.Array, narrow: pa.Array) -> None:
    same = pc.or_(pc.equal(narrow.cast(pa.float64()), wide), pc.is_nan(wide))
    rest = pc.invert(pc.fill_null(same, fill_value=True))
    left, right = wide.filter(rest), narrow.filter(rest)
    if not all(map(is_float32, left.to_pylist(), right.to_pylist())):
        raise ValueError("more digits than 32 bits hold")


def _float_of(values: pa.Array) -> pa.Array:
    found = values.cast(pa.float64())
    doubtful = pc.or_(
        pc.greater(pc.binary_length(values), _SHORT),
        pc.or_(pc.is_inf(found), pc.match_substring(values, "e", ignore_case=True)),
    )
    doubtful = pc.fill_null(doubtful, fill_value=False)
    texts, numbers = values.filter(doubtful), found.filter(doubtful)
    differ = pc.not_equal(numbers.cast(pa.string()), texts)
    pairs = zip(texts.filter(differ).to_pylist(), numbers.filter(differ).to_pylist(), strict=True)
    if not all(_is_same_number(text, number) for text, number in pairs):
        raise ValueError("more digits than 64 bits hold")
    return found


def _is_same_number(text: str, number: float) -> bool:
    if number - number != 0:  # infinite, or not a number
        return text.lstrip("+-").lower() in {"inf", "infinity", "nan"}
    exact = Decimal(text)
    digits = len(exact.as_tuple().digits)
    # As many digits as 64 bits hold are what the number is written with.
    shown = digits <= _DIGITS and Decimal(format(number, f".{digits}g")) == exact
    return shown or exact in {Decimal(number), Decimal(repr(number))}


def _decimal(kind: ColumnType, values: pa.Array) -> pa.Array:
    if travels_as_text(kind):
        return _long_decimal(kind, values)
    target = arrow_type(kind)
    if pa.types.is_integer(values.type):
        room = pa.decimal128(38, target.scale) if target.scale <= 18 else None
        values = values.cast(room or pa.decimal256(76, min(target.scale, 56)))
    elif not pa.types.is_decimal(values.type):
        values = _text(values)
    if _may_be_beyond(values, target):
        values = _as_plain(kind, values)
    return values.cast(target)


def _may_be_beyond(values: pa.Array, target: pa.DataType) -> bool:
    """Tell whether a number may have more digits than Arrow casts safely.

    It notices digits too many only as long as those before the point and those of the scale fit its type
    together; else it may give another number.
    """
    room = (38 if target.precision <= 38 else 76) - target.scale
    if pa.types.is_decimal(values.type):
        return bool(values.type.precision - values.type.scale > room)
    if (pc.max(pc.binary_length(values)).as_py() or 0) > room:
        return True
    # A small number with an exponent, such as 5.6E-20, Arrow takes for zero. Neighbours of a slice do no harm.
    written = values.buffers()[2]
    text = b"" if written is None else written.to_pybytes()
    return b"e" in text or b"E" in text


def _as_plain(kind: ColumnType, values: pa.Array) -> pa.Array:
    """Write numbers with exactly the digits of a decimal, one by one."""
    if pa.types.is_string(values.type) and not _all(pc.match_substring_regex(values, _NUMBER)):
        raise ValueError("no number")
    texts = [None if v is None else plain_decimal(kind, Decimal(v)) for v in values.to_pylist()]
    return pa.array(texts, pa.string())


def _long_decimal(kind: ColumnType, values: pa.Array) -> pa.Array:
    if pa.types.is_decimal(values.type):
        values = text_of_decimals(values)
    elif pa.types.is_integer(values.type):
        values = values.cast(pa.string())
    else:
        values = _text(values)
    if kind.precision is None and _all(pc.match_substring_regex(values, _PLAIN_DECIMAL)):
        return values
    return _as_plain(kind, values)


def _date(_: ColumnType, values: pa.Array) -> pa.Array:
    given = values if pa.types.is_date(values.type) else _text(values)
    return _within(given.cast(pa.date32()), _DAYS, pa.int32())


def _time(_: ColumnType, values: pa.Array) -> pa.Array:
    if pa.types.is_time(values.type):
        return _within(values.cast(pa.time64("us")), _DAY, pa.int64())
    if not _all(pc.greater_equal(pc.binary_length(_text(values)), 5)):
        raise ValueError("no time")
    moments = pc.binary_join_element_wise("1970-01-01", values, " ")
    found = _moments(moments, pa.timestamp("us")).view(pa.int64())
    return _within(found.view(pa.time64("us")), _DAY, pa.int64())


def _timestamp(kind: ColumnType, values: pa.Array) -> pa.Array:
    target = arrow_type(kind)
    if pa.types.is_timestamp(values.type):
        if (values.type.tz is None) != (target.tz is None):
            raise TypeError("a time with a zone is none without")
        found = values.cast(target)
    else:
        # Arrow also reads a date, or an hour, as a moment.
        colon = pc.equal(pc.utf8_slice_codeunits(_text(values), 13, 14), ":")
        if not _all(colon):
            raise ValueError("no moment")
        found = _moments(values, target)
    return _within(found, _MICROSECONDS, pa.int64())


def _moments(values: pa.Array, target: pa.DataType) -> pa.Array:
    try:
        return values.cast(target)
    except pa.ArrowInvalid:
        return pc.replace_substring_regex(values, _SPARE_ZEROS, r"\1").cast(target)


def _string(_: ColumnType, values: pa.Array) -> pa.Array:
    _text(values).validate(full=True)
    # Bytes under a null are nobody's.
    if not _bytes(values).all() and pc.any(pc.match_substring(values, "\0")).as_py():
        raise ValueError("NUL character")
    return values


def _binary(_: ColumnType, values: pa.Array) -> pa.Array:
    if not pa.types.is_binary(values.type):
        raise TypeError("no bytes")
    return values


def _uuid(_: ColumnType, values: pa.Array) -> pa.Array:
    if _all(pc.match_substring_regex(_text(values), _UUID)):
        return values
    texts = [None if text is None else canonical_uuid(text) for text in values.to_pylist()]
    return pa.array(texts, pa.string())


def _list(kind: ColumnType, values: pa.Array) -> pa.Array:
    if kind.item is None or not any(test(values.type) for test in _LISTS):
        raise TypeError("no list")
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    items = cast(kind.item, values.flatten())
    return pa.ListArray.from_arrays(
        lengths_to_offsets(lengths), items, type=arrow_type(kind), mask=values.is_null()
    )


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _text(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        raise TypeError("neither of the type nor text")
    return values


def _bytes(values: pa.Array) -> Any:  # noqa: ANN401 - numpy's types would not say more
    """Give the bytes of a text column as they lie in memory."""
    _, places, data = values.buffers()
    offsets = np.frombuffer(places, np.int32)
    first, last = offsets[values.offset], offsets[values.offset + len(values)]
    return np.frombuffer(data, np.uint8)[first:last]


def _all(holds: pa.Array) -> bool:
    """Tell whether something holds for every value that is not null."""
    return bool(pc.all(holds, skip_nulls=True, min_count=0).as_py())


def _within(values: pa.Array, bounds: tuple[int, int], number: pa.DataType) -> pa.Array:
    found = pc.min_max(values.view(number))
    least, most = found["min"].as_py(), found["max"].as_py()
    if least is not None and (least < bounds[0] or most > bounds[1]):
        raise ValueError("outside of the years 1 to 9999")
    return values


_CASTS: dict[str, Callable[[ColumnType, pa.Array], pa.Array]] = {
    "bool": _bool, "int16": _integer, "int32": _integer, "int64": _integer, "float32": _float,
    "float64": _float, "decimal": _decimal, "string": _string, "binary": _binary, "date": _date,
    "time": _time, "timestamp": _timestamp, "timestamptz": _timestamp, "interval": _string,
    "uuid": _uuid, "json": _string, "list": _list,
}  # fmt: skip
