"""The rows of one stream from the source into staging: read, checked and staged at the same time."""

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aiia_pipelines.config.connector import Stream
from aiia_pipelines.connectors.base import Batch, Position, Reading, Source, Wired
from aiia_pipelines.jobs.recorder import Recorder
from aiia_pipelines.sync import profiles
from aiia_pipelines.sync.destinations.base import Landing
from aiia_pipelines.sync.faults import ContractBroken, Held, Stopped
from aiia_pipelines.sync.flow import Abandoned, Channel
from aiia_pipelines.sync.sieve import Sieve
from aiia_pipelines.sync.totals import Totals

# Bytes that may wait between two threads; with what the threads hold, a worker stays far below 400 MiB.
WAITING = 32 * 1024 * 1024
_PATIENCE = 5.0  # seconds for a thread to notice that nobody wants its batches


@dataclass(frozen=True)
class _Piece:
    """What is staged in one step."""

    rows: pa.RecordBatch
    rejected: pa.RecordBatch | None
    checkpoint: Mapping[str, Any] | None
    wired: Wired | None  # the same rows as they came
    blank: bool  # columns of `rows` tell of nothing but their NULLs

    @property
    def size(self) -> int:
        """Count the bytes that are held."""
        return int(self.rows.nbytes) + (self.wired.nbytes if self.wired else 0)


@dataclass(kw_only=True)
class Pump:
    """Three threads: one reads, one converts and checks, and the caller's stages."""

    stream: Stream
    source: Source
    landing: Landing
    recorder: Recorder
    sieve: Sieve
    totals: Totals
    first: pa.RecordBatch | None = None
    read: int = 0  # rows that came from the source, counted before anything is done with them

    def run(self, reading: Reading) -> None:
        """Stage every valid row of a reading.

        Raises:
            SourceFault, ContractBroken, DestinationFault, Stopped: The stream broke off.
        """
        raw: Channel[Batch] = Channel(WAITING)
        ready: Channel[_Piece] = Channel(WAITING)
        with ThreadPoolExecutor(2, thread_name_prefix=f"sync-{self.stream.name}") as threads:
            reader = threads.submit(self._read, reading, raw)
            checker = threads.submit(self._check, reading, raw, ready)
            try:
                self._stage(ready)
            except Abandoned:
                pass  # the fault of the thread that gave up is raised below
            except BaseException as fault:
                if not isinstance(fault, Exception):
                    # A process that is asked to end may soon be killed: its query must not outlive it.
                    self.source.cancel()
                raise
            finally:
                raw.abandon()
                ready.abandon()
                self._release(reader)
        # A reader that fails after the checker did fails because nobody wanted its rows any more.
        _raise_first([checker, reader])

    def _release(self, reader: Future[None]) -> None:
        """Wake up a reader that waits for a source while nobody wants its rows any more."""
        if wait([reader], timeout=_PATIENCE).not_done:
            self.source.cancel()

    def _read(self, reading: Reading, out: Channel[Batch]) -> None:
        name, recorder = self.stream.name, self.recorder
        with out.filling():
            batches = self.source.batches(self.stream, reading)
            try:
                while True:
                    with recorder.step(name, "extract", last=False):
                        batch = next(batches, None)
                    if batch is None:
                        return
                    stop_if_asked(recorder)
                    self.read += len(batch)
                    recorder.count(name, "extract", len(batch))
                    out.put(batch, batch.nbytes)
            finally:
                # A reading that nobody wants any more must not wait for the garbage collection, nor go on beside
                # that of the next stream.
                if close := getattr(batches, "close", None):
                    close()

    def _check(self, reading: Reading, raw: Channel[Batch], out: Channel[_Piece]) -> None:
        name, recorder = self.stream.name, self.recorder
        with out.filling():
            for batch in raw:
                unseen = self._unseen(batch)
                with recorder.step(name, "parse", last=False):
                    parsed = self.sieve.parse(batch, unseen)
                recorder.count(name, "parse", len(batch))
                # The one size that rows of every kind have: drivers hand over anything from text to Arrow.
                recorder.count(name, "extract", read=parsed.size)
                with recorder.step(name, "validate", last=False):
                    sifted = self.sieve.sift(parsed)
                    self.totals.add(sifted.rows)
                # A copy: a slice would hold on to the whole batch.
                if not self._has_seen_rows:
                    self.first = _copy(sifted.rows)
                recorder.count(name, "validate", sifted.rows.num_rows)
                if self.sieve.rows > self.stream.max_rows:
                    raise ContractBroken(
                        f"Too many records in {name}: more than max_rows ({self.stream.max_rows:,}).",
                        "contract:max-rows",
                    )
                if sifted.rows.num_rows or sifted.rejected is not None:
                    mark = self._mark(reading, batch)
                    piece = _Piece(sifted.rows, sifted.rejected, mark, sifted.wired, bool(unseen))
                    out.put(piece, piece.size)

    def _mark(self, reading: Reading, batch: Batch) -> Position | None:
        """Write down what another attempt needs to go on after this batch."""
        if batch.checkpoint is None or self.sieve.violations:
            return None
        return {
            "after": dict(batch.checkpoint),
            "since": reading.since,
            "until": reading.until,
            "read": self.sieve.rows,
            "sieve": self.sieve.dump(),
            "totals": self.totals.dump(),
        }

    def _stage(self, ready: Channel[_Piece]) -> None:
        name, recorder, landing = self.stream.name, self.recorder, self.landing
        for piece in ready:
            stop_if_asked(recorder)
            # Writing is a part of the commit, though the commit itself only begins later.
            with recorder.work([name], "commit"):
                if piece.rejected is not None:
                    landing.reject(piece.rejected)
                if piece.rows.num_rows:
                    self._put(piece)
            recorder.sent(name, "commit", landing.sent)

    def _put(self, piece: _Piece) -> None:
        wired = piece.wired
        if wired is not None and self.landing.forward(wired, piece.checkpoint):
            return
        rows = piece.rows
        if piece.blank:
            if wired is None:
                raise AssertionError("rows of which columns are blank can only go on as they came")
            rows = self.sieve.converted(wired)
        self.landing.stage(rows, piece.checkpoint)

    @property
    def _has_seen_rows(self) -> bool:
        return self.first is not None and self.first.num_rows > 0

    def _unseen(self, batch: Batch) -> Collection[str]:
        """Tell the columns whose values nobody looks at on their way, because they go on as they came."""
        if not isinstance(batch.rows, Wired) or not self.landing.takes(batch.rows.kinds):
            return ()
        if not self._has_seen_rows:
            return ()  # pandera wants to see these rows, and so does what is learned of a stream
        return self.sieve.unruled & self.totals.uncounted


def stop_if_asked(recorder: Recorder) -> None:
    """Stop when somebody asked the job run to.

    Raises:
        Stopped: Somebody did.
        Held: Somebody asked it to pause, or its window closed.
    """
    if recorder.cancelled:
        raise Stopped("Somebody asked this job run to stop.")
    if recorder.held:
        raise Held("This job run is to pause.")


def _copy(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.take(pa.array(range(min(rows.num_rows, profiles.ROWS)), pa.int64()))


def _raise_first(done: list[Future[None]]) -> None:
    """Raise the fault that made the others give up."""
    faults = [fault for future in done if (fault := future.exception()) is not None]
    for fault in faults:
        if not isinstance(fault, Abandoned):
            raise fault
    if faults:
        raise faults[0]
