"""The connections that read PostgreSQL as columns: opened when one is needed, kept for the next stream."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.config.types import ColumnType
from aiia_pipelines.connectors import _sql_postgresql_types as types
from aiia_pipelines.connectors._sql_keyset import EXACT, last, mark
from aiia_pipelines.connectors._sql_parallel import merged
from aiia_pipelines.connectors._sql_wanted import DriverFault, Wanted
from aiia_pipelines.connectors._sql_xmin import Part
from aiia_pipelines.connectors.base import Batch

if TYPE_CHECKING:
    from aiia_pipelines.connectors._sql_copy import Lane

_MOST_LANES = 8
_ANY_SIZE = 2**31
_TEXT = ColumnType("string")
_EXACT = EXACT | {"uuid"}


class Lanes:
    """All lanes of one snapshot."""

    def __init__(self, info: Any, snapshot: str, patience: int) -> None:  # noqa: ANN401 - psycopg's ConnectionInfo
        """Log in as the connection of `info` did; an answer may take `patience` seconds."""
        self._info = info
        self._snapshot = snapshot
        self._patience = patience
        self._lanes: list[Lane] = []
        self._stopped = False
        self._reading: Generator[Batch, None, None] | None = None
        # Bytes in no encoding at all: Arrow would take them for UTF-8 without a look.
        self._refused = info.parameter_status("server_encoding") == "SQL_ASCII"

    def read(
        self, wanted: Wanted, parts: Sequence[Part], *, at_once: int
    ) -> Iterator[Batch] | None:
        """Read parts of a stream, some of them at the same time; None when no lane can be had."""
        lanes = self._opened(min(at_once, _MOST_LANES))
        if not lanes:
            return None
        for lane in lanes:
            lane.ready()
        if self._stopped:
            self._stop()
        waiting = deque(parts)
        if len(lanes) == 1:
            self._reading = self._drain(lanes[0], wanted, waiting)
        else:
            readers = [self._reader(lane, wanted, waiting) for lane in lanes]
            self._reading = merged(readers, self._stop)
        return self._reading

    def _reader(
        self, lane: "Lane", wanted: Wanted, waiting: deque[Part]
    ) -> Callable[[], Generator[Batch, None, None]]:
        return lambda: self._drain(lane, wanted, waiting)

    def _drain(
        self, lane: "Lane", wanted: Wanted, waiting: deque[Part]
    ) -> Generator[Batch, None, None]:
        """Read parts until nobody waits for one."""
        from aiia_pipelines.connectors import _sql_unusual as unusual  # noqa: PLC0415 - imports Arrow

        names = wanted.reading.names
        own = [types.wire(wanted, name) for name in names]
        while waiting:
            try:
                part = waiting.popleft()
            except IndexError:  # another lane took the last one
                return
            # What orders the rows is mostly among them, and need not be read once more.
            known = _places(names, own, part.order)
            further = part.order if known is None else ()
            kinds = [*own, *(_TEXT for _ in further)]
            decimals = [types.is_decimal(wanted, name) for name in names]
            decimals += [False] * len(further)
            statement = types.select(wanted, part.where, part.order, further=further, wired=True)
            for rows in lane.read(statement, kinds):
                for batch in unusual.batches(rows, decimals, _size(wanted.stream)):
                    if known:
                        yield replace(batch, checkpoint=last(batch, known, part.order))
                    else:
                        yield mark(batch, len(names), further) if further else batch

    def _opened(self, wanted: int) -> list["Lane"]:
        """Give so many lanes, fewer when the server refuses more."""
        self._lanes = [lane for lane in self._lanes if lane.usable]
        while len(self._lanes) < wanted and not self._refused:
            try:
                self._lanes.append(self._open())
            except DriverFault:
                # Most likely no further connection is allowed; the first one reads everything as well.
                self._refused = True
        return self._lanes[:wanted]

    def _open(self) -> "Lane":
        # Loading definitions must import neither Arrow nor a driver.
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415

        from aiia_pipelines.connectors._sql_copy import Lane  # noqa: PLC0415

        info = self._info
        facts = info.get_parameters() | {"password": info.password or None, "port": info.port}
        if info.hostaddr:
            facts["hostaddr"] = info.hostaddr
        return Lane(make_conninfo(**facts), self._snapshot, self._patience)

    def ready(self) -> None:
        """Forget an earlier cancel: another stream begins."""
        self._stopped = False

    def cancel(self) -> None:
        """Stop the statements in progress; may be called from another thread."""
        self._stopped = True
        self._stop()

    def _stop(self) -> None:
        for lane in list(self._lanes):
            lane.cancel()

    @property
    def silent(self) -> bool:
        """Whether the server stopped answering, so that no farewell would arrive either."""
        return any(lane.silent for lane in self._lanes)

    def close(self) -> None:
        """End what is read, and disconnect all lanes."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
        for lane in self._lanes:
            lane.close()
        self._lanes = []


def _places(
    names: Sequence[str], kinds: Sequence[ColumnType], order: Sequence[str]
) -> list[int] | None:
    """Give the places of the columns that order the rows; None when one is not read, or has no exact text."""
    found = [names.index(name) for name in order if name in names]
    if len(found) < len(order) or not all(kinds[place].name in _EXACT for place in found):
        return None
    return found


def _size(stream: Stream) -> int:
    """Give the most rows of a batch; bytes decide unless the file says a number."""
    default = Stream.model_fields["batch_rows"].default
    return _ANY_SIZE if stream.batch_rows == default else stream.batch_rows
