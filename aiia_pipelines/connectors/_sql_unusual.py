"""Dates and times of PostgreSQL that Python has no value for, found in Arrow columns and read as text.

Arrow counts from 1970, PostgreSQL from 2000: infinity and the last years wrap around when the distance is added,
each to a number that no other value has.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aiia_pipelines.connectors.base import Batch, Wired

_EPOCH = dt.date(1970, 1, 1).toordinal()
_FIRST = dt.datetime.combine(dt.date.min, dt.time.min)
_EPOCHS_APART = 10_957  # days from 1970 to 2000
_DAY = 86_400_000_000  # microseconds
_CYCLE = 146_097  # days after which the Gregorian calendar repeats itself, 400 years
_TIMES = {"date", "time", "timestamp", "timestamptz"}
_MOST_ROWS = 50_000
_DATES = (1 - _EPOCH, dt.date.max.toordinal() - _EPOCH)
_MOMENTS = (_DATES[0] * _DAY, (_DATES[1] + 1) * _DAY - 1)
_FIRST_MOMENT = -211_000_000_000_000_000  # a little before PostgreSQL's first timestamp


def batches(found: Wired, decimals: Sequence[bool], size: int) -> Iterator[Batch]:
    """Hand over rows as they came, or as Python rows where Arrow's readers would misread one.

    `decimals` tells the columns of numbers, which may be texts; `size` is the most rows of a batch.
    """
    odd = [_is_odd(found, place) for place in range(len(found.kinds))]
    size = min(size, _MOST_ROWS) if any(odd) else size
    for start in range(0, found.num_rows, size):
        whole = start == 0 and size >= found.num_rows
        part = found if whole else found.only(np.arange(start, min(start + size, found.num_rows)))
        yield Batch(_rows(part, odd, decimals) if any(odd) else part)


def _is_odd(rows: Wired, place: int) -> bool:
    """Tell whether a column holds a date or time outside of what Python knows."""
    if rows.kinds[place].name not in _TIMES:
        return False
    column = rows.column(place)
    kind = column.type
    if pa.types.is_date32(kind):
        (low, high), plain = _DATES, pa.int32()
    elif pa.types.is_timestamp(kind):
        (low, high), plain = _MOMENTS, pa.int64()
    else:
        (low, high), plain = (0, _DAY - 1), pa.int64()
    ends = pc.min_max(column.view(plain)).as_py()
    return ends["min"] is not None and (ends["min"] < low or ends["max"] > high)


def _rows(rows: Wired, odd: Sequence[bool], decimals: Sequence[bool]) -> list[tuple[Any, ...]]:
    columns = []
    for place, (is_odd, is_decimal) in enumerate(zip(odd, decimals, strict=True)):
        column = rows.column(place)
        if is_odd:
            columns.append(_unusual(column))
        elif is_decimal:
            columns.append([None if v is None else Decimal(v) for v in column.to_pylist()])
        else:
            columns.append(column.to_pylist())
    return list(zip(*columns, strict=True))


def _unusual(column: pa.Array) -> list[Any]:
    kind = column.type
    read: Callable[[int], object]
    if pa.types.is_date32(kind):
        plain, read = pa.int32(), _date
    elif pa.types.is_time64(kind):
        plain, read = pa.int64(), _time
    else:
        plain, zoned = pa.int64(), kind.tz is not None

        def read(raw: int) -> object:
            return _moment(raw, zoned=zoned)

    return [None if raw is None else read(raw) for raw in column.view(plain).to_pylist()]


def _date(days: int) -> dt.date | str:
    if _DATES[0] <= days <= _DATES[1]:
        return dt.date.fromordinal(days + _EPOCH)
    if days == 2**31 - 1 + _EPOCHS_APART - 2**32:
        return "infinity"
    if days == -(2**31) + _EPOCHS_APART:
        return "-infinity"
    return _written(days, "", zone="")


def _time(raw: int) -> dt.time | str:
    return "24:00:00" if raw == _DAY else (_FIRST + dt.timedelta(microseconds=raw)).time()


def _moment(raw: int, *, zoned: bool) -> dt.datetime | str:
    if _MOMENTS[0] <= raw <= _MOMENTS[1]:
        moment = _FIRST + dt.timedelta(microseconds=raw - _MOMENTS[0])
        return moment.replace(tzinfo=dt.UTC) if zoned else moment
    apart = _EPOCHS_APART * _DAY
    if raw == -(2**63) + apart:
        return "-infinity"
    if raw == 2**63 - 1 + apart - 2**64:
        return "infinity"
    days, rest = divmod(raw if raw > _FIRST_MOMENT else raw + 2**64, _DAY)
    clock = str((_FIRST + dt.timedelta(microseconds=rest)).time())
    fraction = clock.rstrip("0") if "." in clock else clock
    return _written(days, f" {fraction}", zone="+00" if zoned else "")


def _written(days: int, clock: str, *, zone: str) -> str:
    """Write a day outside of Python's calendar as PostgreSQL does."""
    cycles, place = divmod(days - _DATES[0], _CYCLE)
    day = dt.date.fromordinal(place + 1)
    year = day.year + cycles * 400
    written = f"{year if year > 0 else 1 - year:04d}-{day:%m-%d}{clock}{zone}"
    return written if year > 0 else f"{written} BC"
