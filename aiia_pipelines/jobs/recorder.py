"""What a running job tells the store: log lines at once, counts at most once a second, a heartbeat while it lives."""

import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs.counts import Step, peak_memory, write_counts
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.run import Changes, Figure
from aiia_pipelines.jobs.state import StepState, TaskState
from aiia_pipelines.jobs.store import PATIENCE, JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, RECONCILIATIONS, STEPS, TASKS
from aiia_pipelines.jobs.traces import Traces, oom_kills

PULSE = 1.0  # seconds between two writes of the live counts, which are the heartbeat as well
HASTE = 0.1  # seconds between two writes because steps began
_NOW = sa.func.clock_timestamp()


@dataclass
class _Task:
    records: int = 0
    step: str = ""
    steps: dict[str, Step] = field(default_factory=dict)


class Recorder:
    """One job run while it runs; threads of the run may share it."""

    def __init__(
        self, store: JobStore, number: int, *, sinks: Sequence[Callable[[LogLine], None]] = ()
    ) -> None:
        """Record job run `number`; each log line also goes to the sinks, already escaped and redacted."""
        self.store = store
        self.number = number
        self._sinks = tuple(sinks)
        self._tasks: dict[str, _Task] = {}
        self._bytes = 0
        self._activity = ""
        self._told_tasks: dict[str, dict[str, Any]] = {}  # what the store has of them
        self._told_steps: dict[tuple[str, str], Step] = {}
        self._telling = threading.Lock()
        self._last = float("-inf")  # when something was told, on the monotonic clock
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._stop = threading.Event()
        self._overtaken = threading.Event()
        self._cancelled = threading.Event()
        self._cgroup: Path | None = None
        # Called once, on the pulse's thread, when somebody asks the run to stop.
        self.on_cancel: Callable[[], None] = _nothing
        self._pulse = threading.Thread(target=self._beat, name=f"job-{number}-pulse", daemon=True)

    def __enter__(self) -> Self:
        """Keep how this process is recognised, and start the heartbeat."""
        traces = Traces.of_this_process()
        self._cgroup = Path(traces.cgroup) if traces.cgroup else None
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

    # -- log --------------------------------------------------------------------------------

    def log(self, level: Level, message: str, *, detail: Sequence[str] = ()) -> None:
        """Write one event of the log."""
        self.log_line(LogLine.of(level, message, detail=tuple(detail)))

    def log_line(self, line: LogLine) -> None:
        """Write a finished line to the store and to the sinks."""
        # Nothing comes after the closing line of a log.
        if not self._overtaken.is_set():
            self.store.write_log(self.number, [line])
        self.tell_sinks(line)

    def tell_sinks(self, line: LogLine) -> None:
        """Hand a line that is already in the store to the sinks."""
        for sink in self._sinks:
            sink(line)

    # -- tasks and steps --------------------------------------------------------------------

    def start_task(self, stream: str) -> None:
        """Mark a stream's task as running."""
        self._tasks.setdefault(stream, _Task())
        self._open.add(stream)
        self._write(
            sa.update(TASKS)
            .where(TASKS.c.number == self.number, TASKS.c.stream == stream)
            .values(state=TaskState.RUNNING, started_at=_NOW)
        )

    def end_task(
        self,
        stream: str,
        state: TaskState,
        *,
        changes: Changes | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Close a task with what its commit changed or with why it failed."""
        self.flush()
        self._open.discard(stream)
        step_ends: dict[str, Any] = {"state": StepState.FAILED, "completed_at": _NOW}
        running = [STEPS.c.number == self.number, STEPS.c.stream == stream]
        self._write(
            sa.update(JOB_RUNS)
            .where(JOB_RUNS.c.number == self.number, JOB_RUNS.c.failure_place == "")
            .values(failure_place=failure.place if failure else ""),
            sa.update(STEPS).where(*running, STEPS.c.state == StepState.RUNNING).values(step_ends),
            sa.update(STEPS)
            .where(*running, STEPS.c.state == StepState.PENDING)
            .values(state=StepState.SKIPPED, skipped_at=_NOW),
            sa.update(TASKS)
            .where(TASKS.c.number == self.number, TASKS.c.stream == stream)
            .values(
                state=state,
                ended_at=_NOW,
                failure_code=failure.code if failure else None,
                message=failure.headline if failure else "",
                **(asdict(changes) if changes else {}),
            ),
        )

    def set_aside(self, stream: str, *, rejected: int, adjusted: int) -> None:
        """Keep how many rows were set aside as invalid, and how many values `on_lossy` changed."""
        self._write(
            sa.update(TASKS)
            .where(TASKS.c.number == self.number, TASKS.c.stream == stream)
            .values(rejected=rejected, adjusted=adjusted)
        )

    @contextmanager
    def step(self, stream: str, name: str, *, last: bool = True) -> Iterator[None]:
        """Time one piece of a step; the step completes with its last piece."""
        step = self._begin(stream, name)
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                step.busy += time.monotonic() - began
        if last:
            self.complete(stream, name)

    def count(self, stream: str, name: str, records: int, size: int = 0) -> None:
        """Add records to a step; those of `validate` are the live record count of the run."""
        with self._lock:
            task = self._tasks[stream]
            task.steps.setdefault(name, Step()).records += records
            self._bytes += size
            if name == "validate":
                task.records += records

    def committed(self, stream: str, records: int) -> None:
        """Take over the records that an earlier attempt of this job run committed."""
        with self._lock:
            self._tasks[stream].records = records

    def complete(self, stream: str, name: str) -> None:
        """Mark a step as completed, which the next pulse or the end of the task writes."""
        with self._lock:
            self._tasks[stream].steps[name].ended = time.monotonic()

    def reconciled(self, stream: str, figures: Sequence[Figure]) -> None:
        """Keep the figures of both sides."""
        rows = [asdict(figure) | {"agrees": figure.agrees} for figure in figures]
        self._write(
            *(
                insert(RECONCILIATIONS)
                .values(**row, number=self.number, stream=stream)
                .on_conflict_do_update(
                    constraint=RECONCILIATIONS.primary_key,
                    set_={key: row[key] for key in ("source", "destination", "agrees")},
                )
                for row in rows
            )
        )

    # -- cancellation -----------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Tell, as of the last pulse, whether somebody asked this job run to stop."""
        return self._cancelled.is_set()

    def seal(self) -> bool:
        """Decide, right before the last commit, between it and a cancel; False when a cancel came first."""
        return self.store.seal(self.number)

    def unseal(self) -> None:
        """Let the job run be cancelled again, after a commit that failed."""
        self.store.unseal(self.number)

    # -- pulse ------------------------------------------------------------------------------

    def flush(self, patience: float = PATIENCE) -> None:
        """Write the live counts and the heartbeat."""
        with self._telling:
            row = self._tell(patience)
        if row and row.cancel_by:
            self._cancel()
        elif row is None and self._open:
            # Somebody took this process for lost and ended the job run: what it still does is in vain.
            self._overtaken.set()
            self._cancel()

    def _tell(self, patience: float) -> sa.Row[Any] | None:
        """Write what has changed since the last time: of hundreds of streams that is one or two."""
        with self._lock:
            now = time.monotonic()
            tasks: dict[str, dict[str, Any]] = {
                name: {"records": task.records, "step": task.step}
                for name, task in self._tasks.items()
            }
            steps = {
                (stream, name): replace(step)
                for stream, task in self._tasks.items()
                for name, step in task.steps.items()
            }
            size, activity = self._bytes, self._activity
        usage = resource.getrusage(resource.RUSAGE_SELF)
        values = {
            "records": sum(task["records"] for task in tasks.values()),
            "bytes": size,
            "activity": activity,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_memory": peak_memory(),
        }
        new_tasks = [
            {"b_stream": name, **task}
            for name, task in tasks.items()
            if self._told_tasks.get(name) != task
        ]
        new_steps = [
            {"b_stream": key[0], "b_step": key[1], **step.facts(now)}
            for key, step in steps.items()
            if self._told_steps.get(key) != step
        ]
        kills = self._oom_kills()
        row = self.store.transact(
            lambda db: write_counts(db, self.number, values, kills, new_tasks, new_steps), patience
        )
        self._told_tasks, self._told_steps, self._last = tasks, steps, time.monotonic()
        return row

    def _oom_kills(self) -> int | None:
        return oom_kills(self._cgroup) if self._cgroup else None

    def _cancel(self) -> None:
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
        self.on_cancel()

    def _beat(self) -> None:
        while not self._stop.wait(PULSE):
            try:
                self.flush(patience=0)
            except sa.exc.SQLAlchemyError:
                # The database may come back before the run needs it; the run itself reports a lasting fault.
                continue

    def _begin(self, stream: str, name: str) -> Step:
        with self._lock:
            task = self._tasks.setdefault(stream, _Task())
            step = task.steps.setdefault(name, Step())
            fresh = step.began is None
            step.began = step.began or time.monotonic()
            task.step = name
            self._activity = f"{stream}: {name}"
        # Steps of a small stream follow each other within milliseconds: those are told together.
        if fresh and time.monotonic() - self._last > HASTE:
            self.flush()
        return step

    def _write(self, *statements: sa.Executable) -> None:
        def work(db: sa.Connection) -> None:
            # The job run's row comes first, as everywhere: two orders would deadlock. What has ended stays so.
            job = sa.select(JOB_RUNS.c.ended_at).where(JOB_RUNS.c.number == self.number)
            if db.execute(job.with_for_update()).scalar() is not None:
                return
            for statement in statements:
                db.execute(statement)

        self.store.transact(work)


def _nothing() -> None:
    pass
