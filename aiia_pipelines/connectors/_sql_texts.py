"""Times that a database hands over as text, read without losing a digit; what does not fit stays text."""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiia_pipelines.connectors._sql_wanted import Wanted
from aiia_pipelines.connectors.base import Row

Reader = Callable[[Any], Any]

_CLOCK = r"(\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?"
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_MOMENT = re.compile(rf"(\d{{4}}-\d\d-\d\d)[ T]{_CLOCK}(?: ?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_MICROSECONDS = 6  # digits of a second that Python keeps; it would cut the others off


def read_texts(wanted: Wanted, rows: Sequence[Row], readers: Mapping[str, Reader]) -> Sequence[Row]:
    """Read the values of rows by the types of their columns."""
    kinds = [
        wanted.column(name).type if name in wanted.columns else None
        for name in wanted.reading.names
    ]
    chosen = [readers.get(kind.name) if kind is not None else None for kind in kinds]
    if not any(chosen):
        return rows
    return [
        [
            value if value is None or read is None else read(value)
            for read, value in zip(chosen, row, strict=True)
        ]
        for row in rows
    ]


def _date(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    if isinstance(value, str) and _DATE.fullmatch(value):
        return _made(dt.date.fromisoformat, value, value)
    return value


def _time(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    parts = _TIME.fullmatch(value) if isinstance(value, str) else None
    if parts is None or _cut(parts[2]):
        return value
    return _made(dt.time.fromisoformat, parts[1] + _fraction(parts[2]), value)


def _moment(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    parts = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if parts is None or _cut(parts[3]):
        return value
    text = f"{parts[1]} {parts[2]}{_fraction(parts[3])}{parts[4] or ''}"
    return _made(dt.datetime.fromisoformat, text, value)


def _cut(fraction: str | None) -> bool:
    return bool(fraction) and bool(str(fraction)[_MICROSECONDS:].strip("0"))


def _fraction(fraction: str | None) -> str:
    return f".{fraction[:_MICROSECONDS].ljust(_MICROSECONDS, '0')}" if fraction else ""


def _made(make: Callable[[str], object], text: str, value: object) -> object:
    try:
        return make(text)
    except ValueError:
        return value


TIMES: Mapping[str, Reader] = {
    "date": _date, "time": _time, "timestamp": _moment, "timestamptz": _moment,
}  # fmt: skip
