"""Text into typed values: exactly, or the text itself is handed on for the contract to refuse."""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._tabular_options import FormatOptions

# Spelled out, a number of a thousand digits is text; and a decimal of any exponent would fill the memory.
_LONGEST_NUMBER = 1000
_EXACT_DIGITS = 17  # of a double; more would be rounded
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?", re.ASCII)
_ZONE = re.compile(r"(?:Z|z|([+-])([0-9]{2})(?::?([0-9]{2}))?)$", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_HEX = re.compile(r"\\x((?:[0-9a-fA-F]{2})*)", re.ASCII)
_SPECIAL = {
    word: float(word)
    for word in ("nan", "NaN", "inf", "-inf", "Infinity", "-Infinity", "Inf", "-Inf")
}
_TEXTS = {"string", "json", "interval"}
_NUMBERS = {"int16", "int32", "int64", "float32", "float64", "decimal"}

Parse = Callable[[str], Any]


def parser(kind: ColumnType, options: FormatOptions) -> Parse:
    """Return what reads one text as a value of a type; a text that is none comes back as it is.

    Blanks around a value that is no text do not count, and texts of `null_values` are NULL.
    """
    if kind.name in _TEXTS:
        return str
    nulls = frozenset(options.null_values)
    read = _reader(kind, options)

    def parse(text: str) -> Any:  # noqa: ANN401 - a value of the type, None or the text
        plain = text.strip(" \t")
        if plain in nulls:
            return None
        try:
            value = read(plain)
        except (ValueError, ArithmeticError):
            return text
        return text if value is None else value

    return parse


def _reader(kind: ColumnType, options: FormatOptions) -> Parse:
    if kind.item is not None:
        return partial(_list, kind.item, options)
    if kind.name == "bool":
        words = {word.lower(): False for word in options.false_values}
        words |= {word.lower(): True for word in options.true_values}
        return lambda text: words.get(text.lower())
    if kind.name in {"int16", "int32", "int64"}:
        return lambda text: whole(plain_number(text, options))
    if kind.name in {"float32", "float64"}:
        return lambda text: real(plain_number(text, options))
    if kind.name == "decimal":
        return lambda text: exact(plain_number(text, options))
    return _moment_reader(kind, options)


def _moment_reader(kind: ColumnType, options: FormatOptions) -> Parse:
    stated: Mapping[str, tuple[str | None, Parse]] = {
        "date": (options.date_format, date),
        "time": (options.time_format, time),
        "timestamp": (options.timestamp_format, partial(timestamp, zoned=False)),
        "timestamptz": (options.timestamp_format, partial(timestamp, zoned=True)),
    }
    if kind.name in stated:
        form, iso = stated[kind.name]
        return iso if form is None else partial(_formatted, kind.name, form)
    if kind.name == "uuid":
        return lambda text: str(UUID(text)) if _UUID.fullmatch(text) else None
    return lambda text: bytes.fromhex(found[1]) if (found := _HEX.fullmatch(text)) else None


def plain_number(text: str, options: FormatOptions) -> str:
    """Write a number with a point and without groups; a wrong grouping stays as it is.

    Raises:
        ValueError: Its separators are not where they may be.
    """
    mark, group = options.decimal, options.thousands
    if mark == "." and group is None:
        return text
    before, point, after = text.partition(mark)
    if group is not None and group in before:
        head, *groups = before.lstrip("+-").split(group)
        if not 1 <= len(head) <= 3 or any(len(part) != 3 for part in groups):
            raise ValueError("groups of digits are not of three")
        before = before.replace(group, "")
    if "." in before or "," in before + after or "." in after:
        raise ValueError("a separator that is not stated")
    return f"{before}.{after}" if point else before


def whole(text: str) -> int | None:
    """Read a whole number."""
    return int(text) if len(text) <= _LONGEST_NUMBER and _WHOLE.fullmatch(text) else None


def exact(text: str) -> Decimal | None:
    """Read a decimal number with all its digits."""
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    return value if abs(value.adjusted()) <= _LONGEST_NUMBER else None


def real(text: str) -> float | None:
    """Read a floating-point number; one of more digits than a double keeps is refused."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    value = exact(text)
    return None if value is None else as_float(value)


def as_float(value: Decimal | int) -> float | None:
    """Return the double that a number stands for, or None when digits would be lost."""
    try:
        near = float(value)
    except OverflowError:
        return None
    if near in {float("inf"), float("-inf")} or (near == 0 and value != 0):
        return None
    if Decimal(near) == value:
        return near
    digits = _significant(value)
    # What a program writes of a double with 15 to 17 digits reads back as that double.
    same = digits <= _EXACT_DIGITS and Decimal(f"{near:.{digits - 1}e}") == value
    return near if same else None


def _significant(value: Decimal | int) -> int:
    digits = "".join(map(str, Decimal(value).as_tuple().digits))
    return max(1, len(digits.strip("0")))


def date(text: str) -> dt.date | None:
    """Read an ISO date."""
    found = _DATE.fullmatch(text)
    return dt.date(*map(int, found.groups())) if found else None


def time(text: str) -> dt.time | None:
    """Read an ISO time of day without zone; more than microseconds is refused."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    micros = (fraction or "").rstrip("0")
    if len(micros) > 6:
        return None
    return dt.time(int(hour), int(minute), int(second or 0), int(micros.ljust(6, "0")))


def timestamp(text: str, *, zoned: bool) -> dt.datetime | None:
    """Read an ISO timestamp, with its offset or without any, as the type demands."""
    day, clock = text[:10], text[10:]
    if clock[:1] not in {"T", "t", " "}:
        return None
    found = _ZONE.search(clock, 1)
    if (found is not None) != zoned:
        return None
    read_day, read_time = date(day), time(clock[1 : found.start() if found else None].rstrip(" "))
    if read_day is None or read_time is None:
        return None
    if found is None:
        return dt.datetime.combine(read_day, read_time)
    offset = dt.timedelta(hours=int(found[2] or 0), minutes=int(found[3] or 0))
    if int(found[3] or 0) > 59 or offset >= dt.timedelta(hours=24):
        return None
    zone = dt.timezone(-offset if found[1] == "-" else offset)
    # The contract keeps moments of the years 1 to 9999 in UTC.
    return dt.datetime.combine(read_day, read_time, zone).astimezone(dt.UTC)


def _formatted(name: str, form: str, text: str) -> Any:  # noqa: ANN401 - of the type that is named
    value = dt.datetime.strptime(text, form)  # noqa: DTZ007 - the zone is as the format says
    if name == "date":
        return value.date()
    if name == "time":
        return value.timetz() if value.tzinfo is None else None
    if (value.tzinfo is not None) != (name == "timestamptz"):
        return None
    return value.astimezone(dt.UTC) if value.tzinfo else value


class _Digits(str):
    """A number of a JSON array as it is written."""

    __slots__ = ()


def _list(item: ColumnType, options: FormatOptions, text: str) -> list[Any] | None:
    """Read a JSON array whose items are all of the type."""
    found = json.loads(text, parse_float=_Digits, parse_int=_Digits, parse_constant=_Digits)
    if not isinstance(found, list):
        return None
    parse = parser(item, options)
    values = []
    for value in found:
        if isinstance(value, str) and isinstance(value, _Digits) == (item.name in _NUMBERS):
            read = parse(str(value))
            if isinstance(read, str) and item.name not in {*_TEXTS, "uuid"}:
                return None
            values.append(read)
        elif value is None or (item.name == "bool" and isinstance(value, bool)):
            values.append(value)
        else:
            return None
    return values
