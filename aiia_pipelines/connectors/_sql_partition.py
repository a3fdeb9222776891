"""How a stream is cut into parts of a column's values: every row is in exactly one of them."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Protocol

from aiia_pipelines.config.connector import Partition
from aiia_pipelines.connectors import _sql_cursor as cursor
from aiia_pipelines.connectors._sql_wanted import Wanted
from aiia_pipelines.connectors.base import SourceColumn, SourceFault

_MOST_PARTS = 4096
_DAYS = {"hour": 1 / 24, "day": 1.0, "month": 30.0, "year": 365.0}


class Words(Protocol):
    """What a dialect writes in its own way."""

    def literal(self, text: str, column: SourceColumn) -> str:
        """Write a text as a value of the column's type."""
        ...

    def edges(self, wanted: Wanted, name: str) -> Sequence[str]:
        """Give the values, as text and in ascending order, at which a stream is cut."""
        ...


class Extremes(Protocol):
    """What a dialect writes in its own way to find the least and the greatest value."""

    def as_text(self, expression: str, column: SourceColumn) -> str:
        """Write a value of a column as text."""
        ...


def conditions(words: Words, wanted: Wanted) -> list[str]:
    """Give the conditions of the parts; one empty condition when the stream is not cut.

    Raises:
        SourceFault: The stream cannot be cut by that column.
    """
    if wanted.stream.partition is None:
        return [""]
    name = wanted.origin(wanted.stream.partition.column)
    if name not in wanted.columns:
        raise SourceFault(
            f"The partition column '{name}' is not a column of {wanted.stream.name}.",
            "contract:column",
        )
    column, quoted = wanted.column(name), wanted.quote(name)
    edges = [words.literal(edge, column) for edge in dict.fromkeys(words.edges(wanted, name))]
    if not edges:
        return [""]
    between = [f"{quoted} >= {low} AND {quoted} < {high}" for low, high in pairwise(edges)]
    return [f"{quoted} < {edges[0]}", *between, f"{quoted} >= {edges[-1]}", f"{quoted} IS NULL"]


def edges(words: Extremes, wanted: Wanted, name: str, usual: str = "") -> list[str]:
    """Cut evenly between the least and the greatest value; `usual` is an SQL filter of values to look at.

    Raises:
        SourceFault: The values are neither numbers nor times.
    """
    column, partition = wanted.column(name), wanted.stream.partition
    kind = column.type.name if column.type else "unknown"
    wrong = _mistake(kind, by=partition is not None and partition.by is not None)
    if partition is None or wrong:
        raise SourceFault(
            f"Stream {wanted.stream.name} cannot be cut by column '{name}', which is {kind}: {wrong}.",
            "config:invalid",
        )
    ends = [words.as_text(f"{end}({wanted.quote(name)})", column) for end in ("MIN", "MAX")]
    ((low, high),) = wanted.ask(
        f"SELECT {', '.join(ends)} FROM {wanted.relation}{cursor.where(usual)}"
    )
    if low is None:
        return []
    try:
        return _cuts(kind, (str(low), str(high)), partition)
    except (ValueError, OverflowError, InvalidOperation):
        # Values outside of what Python computes with: the stream is read in one part.
        return []


def _cuts(kind: str, ends: tuple[str, str], partition: Partition) -> list[str]:
    ranges = partition.ranges or 2
    if kind in cursor.NUMBERS:
        return _numbers(Decimal(ends[0]), Decimal(ends[1]), ranges, whole="int" in kind)
    first, last = dt.datetime.fromisoformat(ends[0]), dt.datetime.fromisoformat(ends[1])
    if partition.by is None:
        cuts = [first + (last - first) * place / ranges for place in range(1, ranges)]
    else:
        cuts = _calendar(first, last, partition.by)
    # An hour of a date is the date again: the same cut twice is one.
    return [_written(cut, kind) for cut in cuts]


def _mistake(kind: str, *, by: bool) -> str:
    if by and kind not in cursor.TIMES:
        return "`by` takes a date or timestamp"
    if kind not in cursor.NUMBERS | cursor.TIMES:
        return "take a number, date or timestamp"
    return ""


def _numbers(low: Decimal, high: Decimal, ranges: int, *, whole: bool) -> list[str]:
    if not (low.is_finite() and high.is_finite()):
        return []
    cuts = [low + (high - low) * place / ranges for place in range(1, ranges)]
    rounded = [Decimal(int(cut)) for cut in cuts] if whole else cuts
    return [format(cut, "f") for cut in sorted(set(rounded))]


def _calendar(first: dt.datetime, last: dt.datetime, by: str) -> list[dt.datetime]:
    """Cut at every beginning of a day, month or year, of a longer time when those are too many."""
    days = (last - first).days
    while by != "year" and days / _DAYS[by] > _MOST_PARTS:
        by = list(_DAYS)[list(_DAYS).index(by) + 1]
    cuts = []
    at = _next(_begin(first, by), by)
    while at <= last:
        cuts.append(at)
        at = _next(at, by)
    return cuts


def _begin(at: dt.datetime, by: str) -> dt.datetime:
    at = at.replace(minute=0, second=0, microsecond=0)
    if by != "hour":
        at = at.replace(hour=0)
    if by in {"month", "year"}:
        at = at.replace(day=1)
    return at.replace(month=1) if by == "year" else at


def _next(at: dt.datetime, by: str) -> dt.datetime:
    if by in {"hour", "day"}:
        return at + dt.timedelta(**{f"{by}s": 1})
    if by == "year" or at.month == 12:
        return at.replace(year=at.year + 1, month=1)
    return at.replace(month=at.month + 1)


def _written(at: dt.datetime, kind: str) -> str:
    return at.date().isoformat() if kind == "date" else at.isoformat(sep=" ")
