"""How far a JSON API was read, by the values of its cursor."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors._rest_columns import Record, reader
from aiia_pipelines.connectors._rest_json import Json
from aiia_pipelines.connectors.base import Position, Reading, SourceFault

_CLASSES: dict[str, tuple[type, ...]] = {
    "int16": (int,), "int32": (int,), "int64": (int,), "decimal": (int, Decimal),
    "date": (dt.date,), "timestamp": (dt.datetime,), "timestamptz": (dt.datetime,),
}  # fmt: skip


@dataclass(frozen=True)
class Cursor:
    """The cursor column of a stream, and the values that a reading lies between."""

    stream: Stream
    name: str
    kind: ColumnType
    low: Any = None
    high: Any = None
    bounded: bool = False  # whether `high` bounds the reading, also when it is None
    followed: bool = False  # whether an earlier sync has read what lies before `low`

    @classmethod
    def of(cls, stream: Stream, reading: Reading, kind: ColumnType | None) -> "Cursor | None":
        """Take the cursor of a reading, None for one without.

        Raises:
            SourceFault: The cursor has no type whose values can be put in order, or another column was it.
        """
        if reading.cursor is None:
            return None
        if kind is None or kind.name not in _CLASSES:
            raise _wrong(
                f"The cursor '{reading.cursor}' of {stream.name} is of type {kind or 'unknown'}; declare it"
                " under columns as a date, timestamp, timestamptz, whole number or decimal."
            )
        plain = cls(stream, reading.cursor, kind)
        since, until = reading.since, reading.until
        if since is not None and since.get("column") != reading.cursor:
            if not stream.key:
                raise _wrong(
                    f"Stream {stream.name} cannot go on where it stopped: another column was its cursor then."
                    " Empty its table at the destination and sync with --full, or give it a key."
                )
            since = None
        low = plain.parsed(since)
        return cls(
            stream, reading.cursor, kind,
            low=_earlier(low, stream.lookback, stream.name),
            high=plain.parsed(until), bounded=until is not None, followed=low is not None,
        )  # fmt: skip

    def parsed(self, position: Position | None) -> Any:  # noqa: ANN401 - of the cursor's class
        """Read the value of a position."""
        text = position["cursor"] if position else None
        return None if text is None else self._convert(text)

    @property
    def _convert(self) -> Callable[[Json], Any]:
        return reader(self.kind)

    def value(self, record: Record, place: str) -> Any:  # noqa: ANN401 - of the cursor's class
        """Give the cursor of a record, None if it has none.

        Raises:
            SourceFault: It is no value of the cursor's type.
        """
        found = self._convert(record.get(self.name))
        if found is None:
            return None
        zoned = isinstance(found, dt.datetime) and found.tzinfo is not None
        wanted = _CLASSES[self.kind.name]
        if (
            isinstance(found, bool)
            or not isinstance(found, wanted)
            or zoned != (self.kind.name == "timestamptz")
        ):
            raise SourceFault(
                f"Value does not fit. The cursor '{self.name}' in {place} of {self.stream.name} is no"
                f" {self.kind}.",
                "contract:value",
            )
        return found

    def wants(self, value: Any) -> bool:  # noqa: ANN401 - of the cursor's class
        """Tell whether a record with this cursor is part of the reading.

        Rows that are read again are matched on their key; without one, a row may not be read twice.
        """
        again = bool(self.stream.key)
        if value is None:
            return again or not self.followed
        if self.bounded and (self.high is None or value > self.high):
            return False
        return self.low is None or (value >= self.low if again else value > self.low)

    def reached(self, greatest: Any, since: Position | None) -> Position:  # noqa: ANN401 - of the cursor's class
        """Write down the greatest value so far; a position never moves back."""
        before = self.parsed(since) if since and since.get("column") == self.name else None
        if before is not None and (greatest is None or greatest < before):
            greatest = before
        return {"column": self.name, "cursor": None if greatest is None else written(greatest)}

    def sent(self, form: str) -> str | int | None:
        """Write the value from which records are wanted, as the API wants it."""
        low = self.low
        if low is None:
            return None
        if form == "iso" or not isinstance(low, dt.date):
            return low if isinstance(low, int) else written(low)
        moment = low if isinstance(low, dt.datetime) else dt.datetime(low.year, low.month, low.day)  # noqa: DTZ001 - a day
        if form == "date":
            return moment.date().isoformat()
        if form in {"unix", "unix_ms"}:
            stamp = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            seconds = (stamp - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(
                microseconds=1
            )
            return int(seconds // (1_000_000 if form == "unix" else 1000))
        return moment.strftime(form)


def written(value: Any) -> str:  # noqa: ANN401 - of the cursor's class
    """Write a cursor so that reading it gives the same value."""
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            return value.isoformat()
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _earlier(value: Any, lookback: Lookback | None, stream: str) -> Any:  # noqa: ANN401 - of the cursor's class
    if value is None or lookback is None:
        return value
    if isinstance(value, dt.date) == (lookback.seconds is None):
        raise _wrong(
            f"The lookback {lookback} of {stream} does not go with the type of its cursor."
        )
    if lookback.seconds is None:
        return value - (lookback.steps or 0)
    try:
        if isinstance(value, dt.datetime):
            return value - dt.timedelta(seconds=lookback.seconds)
        return value - dt.timedelta(days=-(-lookback.seconds // 86_400))
    except OverflowError:
        return None


def _wrong(sentence: str) -> SourceFault:
    return SourceFault(sentence, "config:invalid")
