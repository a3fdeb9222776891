"""What a running job tells the store: log lines at once, counts at most once a second, a heartbeat while it lives."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from aiia_pipelines.jobs import effort
from aiia_pipelines.jobs.counts import (
    Step,
    Task,
    Used,
    is_open,
    peak_memory,
    task_begins,
    task_ends,
    task_waits,
    used_before,
    wishes,
    write_counts,
)
from aiia_pipelines.jobs.effort import Piece
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.run import Changes, Figure
from aiia_pipelines.jobs.state import TaskState
from aiia_pipelines.jobs.store import PATIENCE, JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS
from aiia_pipelines.jobs.traces import Traces, oom_kills
from aiia_pipelines.jobs.unwritten import Unwritten, Work

PULSE = 1.0  # seconds between two writes of the live counts, which are the heartbeat as well
HASTE = 0.1  # seconds between two writes because steps began
_NOW = sa.func.clock_timestamp()


class Recorder:
    """One job run while it runs; threads of the run may share it."""

    def __init__(
        self, store: JobStore, number: int, *, sinks: Sequence[Callable[[LogLine], None]] = ()
    ) -> None:
        """Record job run `number`; each log line also goes to the sinks, already escaped and redacted."""
        self.store = store
        self.number = number
        self._sinks = tuple(sinks)
        self._tasks: dict[str, Task] = {}
        self._before = Used()
        self._claimed = effort.claimed()
        self._read = self._written = 0  # bytes
        self._pieces: set[Piece] = set()  # that are being worked on
        self._begun = 0  # pieces so far
        self._beating = 0.0  # CPU seconds of the pulse
        self._activity = ""
        self._telling = threading.Lock()
        self._unwritten = Unwritten()
        self._last = float("-inf")  # when something was told, on the monotonic clock
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._stop = threading.Event()
        self._overtaken = threading.Event()
        self._cancelled = threading.Event()
        self._held = threading.Event()
        # When the window of the connector closes; then the run pauses.
        self.closes_at: datetime | None = None
        self._cgroup: Path | None = None
        # Called once, on the pulse's thread, when somebody asks the run to stop.
        self.on_cancel: Callable[[], None] = lambda: None
        self._pulse = threading.Thread(target=self._beat, name=f"job-{number}-pulse", daemon=True)

    def __enter__(self) -> Self:
        """Keep how this process is recognised, and start the heartbeat."""
        traces = Traces.of_this_process()
        self._cgroup = Path(traces.cgroup) if traces.cgroup else None
        self._before = self.store.transact(lambda db: used_before(db, self.number))
        self._write(
            sa.update(ATTEMPTS)
            .where(ATTEMPTS.c.number == self.number, ATTEMPTS.c.ended_at.is_(None))
            .values(traces=traces.facts(), oom_kills=self._oom_kills())
        )
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the last counts and stop the heartbeat."""
        self._stop.set()
        self._pulse.join()
        self._open.clear()
        self.flush()
        effort.claim()

    # -- log --------------------------------------------------------------------------------

    def log(self, level: Level, message: str, *, detail: Sequence[str] = ()) -> None:
        """Write one event of the log."""
        self.log_line(LogLine.of(level, message, detail=tuple(detail)))

    def note(self, message: str) -> None:
        """Tell of good progress: the sinks at once, the store with the next write, a pulse later at most."""
        line = LogLine.of(Level.INFO, message)
        self._unwritten.add([line])
        self.tell_sinks(line)

    def log_line(self, line: LogLine) -> None:
        """Write a finished line to the store and to the sinks."""
        # Nothing comes after the closing line of a log.
        if not self._overtaken.is_set():
            # Lines keep their order, whoever writes them.
            with self._telling, self._unwritten.taken() as found:
                mine = self.number, self.attempt
                self.store.transact(lambda db: found.write_before(line, db, mine))
        self.tell_sinks(line)

    def tell_sinks(self, line: LogLine) -> None:
        """Hand a line that is already in the store to the sinks."""
        for sink in self._sinks:
            sink(line)

    # -- tasks and steps --------------------------------------------------------------------

    def start_task(self, *streams: str) -> None:
        """Mark the tasks of streams as running."""
        for stream in streams:
            self._tasks.setdefault(stream, self._before.task(stream))
        self._open.update(streams)
        self._write(task_begins(self.number, streams))

    def end_task(
        self,
        stream: str,
        state: TaskState,
        *,
        changes: Changes | None = None,
        failure: Failure | None = None,
        rejected: int = 0,
        adjusted: int = 0,
    ) -> None:
        """Close a task with what its commit changed or with why it failed.

        `rejected` counts the rows that were set aside as invalid, `adjusted` the values that `on_lossy` changed.
        """
        values: dict[str, Any] = {
            "state": state,
            "failure_code": failure.code if failure else None,
            "message": failure.headline if failure else "",
            "rejected": rejected,
            "adjusted": adjusted,
        }
        statements = task_ends(self.number, stream, values | (asdict(changes) if changes else {}))
        if failure:
            statements.append(
                sa.update(JOB_RUNS)
                .where(JOB_RUNS.c.number == self.number, JOB_RUNS.c.failure_place == "")
                .values(failure_place=failure.place)
            )
        self.flush(then=statements)
        self._open.discard(stream)

    def also(self, work: Work) -> None:
        """Do some work on the store in one step with what is written next."""
        self._unwritten.add(works=[work])

    def put_back(self, stream: str) -> None:
        """Leave a task to a later attempt."""
        self.flush()
        self._open.discard(stream)
        self._write(task_waits(self.number, stream))

    @contextmanager
    def step(self, stream: str, name: str, *, last: bool = True) -> Iterator[None]:
        """Time one piece of a step; the step completes with its last piece."""
        with self.shared([stream], name, last=last):
            yield

    @contextmanager
    def shared(self, streams: Sequence[str], name: str, *, last: bool = True) -> Iterator[None]:
        """Time one piece of a step that streams share: each has its part of the CPU seconds."""
        self._begin(streams, name)
        with self.work(streams, name, alone=last):
            yield
        if last:
            for stream in streams:
                self.complete(stream, name)

    @contextmanager
    def work(self, streams: Sequence[str], name: str, *, alone: bool = False) -> Iterator[None]:
        """Add what some work takes to a step, which neither begins nor ends with it.

        `alone` says that threads which nobody accounts for work for this step, unless another one is at work.
        """
        piece = Piece()
        with self._lock:
            alone = alone and not self._pieces
            self._pieces.add(piece)
            self._begun += 1
            begun, beating = self._begun, self._beating
        try:
            yield
        finally:
            alone = alone and begun == self._begun
            piece.end(alone=alone, besides=self._beating - beating)
            with self._lock:
                self._pieces.discard(piece)
                for stream in streams:
                    self._step(stream, name).add(piece, len(streams))

    def count(
        self, stream: str, name: str, records: int = 0, *, read: int = 0, written: int = 0
    ) -> None:
        """Add records and bytes to a step; the records of `validate` are the live count of the run."""
        with self._lock:
            step = self._step(stream, name)
            step.records += records
            step.read += read
            step.written += written
            self._read += read
            self._written += written
            if name == "validate":
                self._tasks[stream].records += records

    def sent(self, stream: str, name: str, size: int) -> None:
        """Take over how many bytes a landing has sent in all: what is new of them belongs to this step."""
        task = self._tasks[stream]
        self.count(stream, name, written=size - task.sent)
        task.sent = size

    def committed(self, stream: str, records: int) -> None:
        """Take over the records that an earlier attempt of this job run committed."""
        with self._lock:
            self._tasks[stream].records = records
            self._tasks[stream].changed.add("validate")

    def complete(self, stream: str, name: str) -> None:
        """Mark a step as completed, which the next pulse or the end of the task writes."""
        with self._lock:
            self._tasks[stream].touched(name).ended = time.monotonic()

    def reconciled(self, stream: str, figures: Sequence[Figure]) -> None:
        """Keep the figures of both sides, with the next write."""
        rows = [asdict(f) | {"agrees": f.agrees, "stream": stream} for f in figures]
        self._unwritten.add(figures=rows)

    @property
    def attempt(self) -> int | None:
        """The attempt that this process works on; whatever it decides holds for that one only."""
        return self._before.attempt

    # -- cancellation -----------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Tell, as of the last pulse, whether somebody asked this job run to stop."""
        return self._cancelled.is_set()

    @property
    def held(self) -> bool:
        """Tell, as of the last pulse, whether this job run is to pause, and to keep what it has staged."""
        return self._held.is_set()

    def seal(self) -> bool:
        """Decide, right before the last commit, between it and a cancel; False when a cancel came first."""
        return self.store.seal(self.number, self.attempt)

    def unseal(self) -> None:
        """Let the job run be cancelled again, after a commit that failed."""
        self.store.unseal(self.number)

    # -- pulse ------------------------------------------------------------------------------

    def flush(self, patience: float = PATIENCE, then: Sequence[sa.Executable] = ()) -> None:
        """Write the live counts, the heartbeat and what waits, and do some more in the same step."""
        with self._telling, self._unwritten.taken() as found:

            def more(db: sa.Connection) -> None:
                found.write(db, self.number)
                for statement in then:
                    db.execute(statement)

            row = self._tell(patience, more)
        self._heed(row)

    def ask(self) -> None:
        """Look whether somebody asked the run to stop, without telling anything."""
        self._heed(self.store.transact(lambda db: wishes(db, self.number, self.attempt)))

    def _heed(self, row: sa.Row[Any] | None) -> None:
        if row and row.cancel_by:
            self._cancel()
        elif row and (row.held_by or self._is_late()):
            self._hold()
        elif row is None and self._open:
            # Somebody took this process for lost and ended the job run: what it still does is in vain.
            self._overtaken.set()
            self._cancel()

    def _tell(self, patience: float, more: Callable[[sa.Connection], None]) -> sa.Row[Any] | None:
        """Write what has changed since the last time: of hundreds of streams that is one or two."""
        with self._lock:
            now = time.monotonic()
            for piece in self._pieces:
                piece.look()
            records = sum(task.records for task in self._tasks.values())
            changed = {name: task.news() for name, task in self._tasks.items() if task.changed}
            tasks = [{"b_stream": name, **self._tasks[name].facts()} for name in changed]
            steps = [
                {"b_stream": name, "b_step": step, **self._tasks[name].steps[step].facts(now)}
                for name, names in changed.items()
                for step in names
            ]
            read, written, activity = self._read, self._written, self._activity
        cpu, peak, before = effort.of_process() - self._claimed, peak_memory(), self._before
        values = before.of_run(records, cpu, peak, read, written) | {"activity": activity}
        attempt = before.of_attempt(cpu, peak) | {"oom_kills": self._oom_kills()}
        done = False

        def work(db: sa.Connection) -> sa.Row[Any] | None:
            found = write_counts(db, (self.number, self.attempt), values, attempt, tasks, steps)
            if found is not None:
                more(db)
            return found

        try:
            row = self.store.transact(work, patience)
            done = True
        finally:
            if not done:
                with self._lock:
                    for name, names in changed.items():
                        self._tasks[name].changed.update(names)
        self._last = time.monotonic()
        return row

    def _oom_kills(self) -> int | None:
        return oom_kills(self._cgroup) if self._cgroup else None

    def _cancel(self) -> None:
        self._ask(self._cancelled)

    def _hold(self) -> None:
        self._ask(self._held)

    def _ask(self, event: threading.Event) -> None:
        with self._lock:
            first = not (self._cancelled.is_set() or self._held.is_set())
            event.set()
        if first:
            self.on_cancel()

    def _is_late(self) -> bool:
        return self.closes_at is not None and datetime.now(UTC) >= self.closes_at

    def _beat(self) -> None:
        while not self._stop.wait(PULSE):
            try:
                self.flush(patience=0)
            except sa.exc.SQLAlchemyError:
                # The database may come back before the run needs it; the run itself reports a lasting fault.
                continue
            finally:
                self._beating = time.thread_time()

    def _step(self, stream: str, name: str) -> Step:
        if stream not in self._tasks:
            self._tasks[stream] = self._before.task(stream)
        return self._tasks[stream].touched(name)

    def _begin(self, streams: Sequence[str], name: str) -> None:
        fresh = False
        with self._lock:
            for stream in streams:
                step = self._step(stream, name)
                fresh = fresh or step.began is None
                step.began = step.began or time.monotonic()
                self._tasks[stream].step = name
                self._activity = f"{stream}: {name}"
        # Steps of a small stream follow each other within milliseconds: those are told together.
        if fresh and time.monotonic() - self._last > HASTE:
            self.flush()

    def _write(self, *statements: sa.Executable) -> None:
        def work(db: sa.Connection) -> None:
            # The job run's row comes first, as everywhere: two orders would deadlock. What has ended stays so.
            job = sa.select(JOB_RUNS.c.ended_at).where(JOB_RUNS.c.number == self.number)
            if db.execute(job.with_for_update()).scalar() is not None:
                return
            if not db.execute(sa.select(is_open(self.number, self.attempt))).scalar():
                return
            for statement in statements:
                db.execute(statement)

        self.store.transact(work)
