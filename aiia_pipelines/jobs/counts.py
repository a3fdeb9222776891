"""The counts of a running job on their way into the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs import effort
from aiia_pipelines.jobs.effort import Piece
from aiia_pipelines.jobs.state import StepState, TaskState
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, STEPS, TASKS

_NOW = sa.func.clock_timestamp()


@dataclass
class Step:
    """One phase of a task as its process knows it."""

    busy: float = 0.0  # seconds
    cpu: float = 0.0  # seconds
    peak: int = 0  # bytes
    read: int = 0  # bytes
    written: int = 0  # bytes
    records: int = 0
    began: float | None = None  # on the monotonic clock
    ended: float | None = None

    @property
    def state(self) -> StepState:
        """Tell what the store has to show."""
        if self.began is None:
            return StepState.PENDING
        return StepState.RUNNING if self.ended is None else StepState.COMPLETED

    def add(self, piece: Piece, sharing: int) -> None:
        """Account for a piece of work that so many streams share."""
        self.busy += piece.busy
        self.cpu += piece.cpu / sharing
        self.peak = max(self.peak, piece.peak)

    def facts(self, now: float) -> dict[str, Any]:
        """Give the values for `write_counts`; the server's clock counts back from when they arrive."""
        return {
            "records": self.records,
            "busy_seconds": self.busy,
            "cpu_seconds": round(self.cpu, 6),
            "peak_memory": self.peak,
            "bytes_read": self.read,
            "bytes_written": self.written,
            "b_state": self.state,
            "b_began": None if self.began is None else now - self.began,
            "b_ended": None if self.ended is None else now - self.ended,
        }


@dataclass
class Task:
    """One stream as its process knows it."""

    records: int = 0
    step: str = ""
    sent: int = 0  # bytes that its landing has told of so far
    steps: dict[str, Step] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)  # steps of which the store does not know all

    def touched(self, name: str) -> Step:
        """Give a step that is about to change."""
        self.changed.add(name)
        return self.steps.setdefault(name, Step())

    def news(self) -> list[str]:
        """List the steps that have changed since it was asked last."""
        found = sorted(self.changed & self.steps.keys())
        self.changed.clear()
        return found

    def facts(self) -> dict[str, Any]:
        """Give the values of its row."""
        steps = self.steps.values()
        return {
            "records": self.records,
            "step": self.step,
            "cpu_seconds": round(sum(step.cpu for step in steps), 6),
            "bytes_read": sum(step.read for step in steps),
            "bytes_written": sum(step.written for step in steps),
        }


@dataclass(frozen=True)
class Used:
    """What a job run and its attempt had used when this process took them over."""

    cpu: float = 0.0
    peak: int = 0
    read: int = 0
    written: int = 0
    attempt_cpu: float = 0.0
    attempt_peak: int = 0
    records: int = 0  # of the streams that are done
    attempt: int | None = None  # the one that this process works on
    steps: Mapping[tuple[str, str], Step] = field(default_factory=dict)

    def task(self, stream: str) -> Task:
        """Begin a task with what earlier attempts used for it."""
        mine = {key[1]: replace(step) for key, step in self.steps.items() if key[0] == stream}
        return Task(steps=mine)

    def of_run(
        self, records: int, cpu: float, peak: int, read: int, written: int
    ) -> dict[str, Any]:
        """Give the values of the job run, now that this process has added so much."""
        return {
            "records": self.records + records,
            "bytes": self.read + read,
            "bytes_written": self.written + written,
            "cpu_seconds": round(self.cpu + cpu, 6),
            "peak_memory": max(self.peak, peak),
        }

    def of_attempt(self, cpu: float, peak: int) -> dict[str, Any]:
        """Give the values of the attempt."""
        return {
            "cpu_seconds": round(self.attempt_cpu + cpu, 6),
            "peak_memory": max(self.attempt_peak, peak),
        }


def peak_memory() -> int:
    """Give the most bytes of memory that this process has held.

    Linux keeps `ru_maxrss` across fork and exec: a small process that a large one started would report the
    size of its parent. The high-water mark of /proc begins anew with every program.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return effort.most_held()


def used_before(db: sa.Connection, number: int) -> Used:
    """Read what the attempts of a job run have used so far: the figures of the run are their sums."""
    done = sa.select(sa.func.coalesce(sa.func.sum(TASKS.c.records), 0)).where(
        TASKS.c.number == number, TASKS.c.state == TaskState.SUCCEEDED
    )
    run = db.execute(
        sa.select(
            JOB_RUNS.c.cpu_seconds,
            JOB_RUNS.c.peak_memory,
            JOB_RUNS.c.bytes,
            JOB_RUNS.c.bytes_written,
            sa.func.coalesce(ATTEMPTS.c.cpu_seconds, 0.0),
            sa.func.coalesce(ATTEMPTS.c.peak_memory, 0),
            done.scalar_subquery(),
            ATTEMPTS.c.attempt,
        )
        .outerjoin(
            ATTEMPTS, sa.and_(ATTEMPTS.c.number == JOB_RUNS.c.number, ATTEMPTS.c.ended_at.is_(None))
        )
        .where(JOB_RUNS.c.number == number)
        .order_by(ATTEMPTS.c.attempt.desc())
    ).first()
    if run is None:
        return Used()
    steps = db.execute(
        sa.select(STEPS).where(STEPS.c.number == number, STEPS.c.busy_seconds > 0)
    ).all()
    return Used(*run, steps={(row.stream, row.step): _step_of(row) for row in steps})


def _step_of(row: sa.Row[Any]) -> Step:
    return Step(
        busy=row.busy_seconds,
        cpu=row.cpu_seconds,
        peak=row.peak_memory,
        read=row.bytes_read,
        written=row.bytes_written,
    )


def write_counts(
    db: sa.Connection,
    mine: tuple[int, int | None],
    values: dict[str, Any],
    attempt: dict[str, Any],
    tasks: list[dict[str, Any]],
    steps: list[dict[str, Any]],
) -> sa.Row[Any] | None:
    """Write what has changed and a sign of life; give who asked for a stop, None once this attempt has ended.

    `mine` is the job run and the attempt that this process works on.
    """
    number, attempt_number = mine
    job = JOB_RUNS.c.number == number
    row = db.execute(
        sa.update(JOB_RUNS)
        .where(job, JOB_RUNS.c.ended_at.is_(None), is_open(number, attempt_number))
        .values(**values)
        .returning(JOB_RUNS.c.cancel_by, JOB_RUNS.c.held_by)
    ).first()
    if row is None:
        return None
    db.execute(
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
        .values(heartbeat_at=_NOW, **attempt)
    )
    if tasks:
        each = (TASKS.c.number == number, TASKS.c.stream == sa.bindparam("b_stream"))
        db.execute(sa.update(TASKS).where(*each, TASKS.c.ended_at.is_(None)), tasks)
    if steps:
        db.execute(_steps_of(number), steps)
    return row


def wishes(db: sa.Connection, number: int, attempt: int | None) -> sa.Row[Any] | None:
    """Read who asked for a stop; None once this attempt has ended."""
    asked: sa.Select[Any] = sa.select(JOB_RUNS.c.cancel_by, JOB_RUNS.c.held_by).where(
        JOB_RUNS.c.number == number, JOB_RUNS.c.ended_at.is_(None), is_open(number, attempt)
    )
    return db.execute(asked).first()


def task_begins(number: int, streams: Sequence[str]) -> sa.Update:
    """Write that tasks are at work."""
    mine = (TASKS.c.number == number, TASKS.c.stream.in_(streams))
    return sa.update(TASKS).where(*mine).values(state=TaskState.RUNNING, started_at=_NOW)


def task_waits(number: int, stream: str) -> sa.Update:
    """Write that a task is left to a later attempt."""
    mine = (TASKS.c.number == number, TASKS.c.stream == stream, TASKS.c.ended_at.is_(None))
    return sa.update(TASKS).where(*mine).values(state=TaskState.RESCHEDULED)


def task_ends(number: int, stream: str, values: dict[str, Any]) -> list[sa.Executable]:
    """Write what a task came to: steps that were at work have failed, those that never began are skipped."""
    steps = sa.update(STEPS).where(STEPS.c.number == number, STEPS.c.stream == stream)
    task = sa.update(TASKS).where(TASKS.c.number == number, TASKS.c.stream == stream)
    failed: dict[str, Any] = {"state": StepState.FAILED, "completed_at": _NOW}
    skipped: dict[str, Any] = {"state": StepState.SKIPPED, "skipped_at": _NOW}
    return [
        steps.where(STEPS.c.state == StepState.RUNNING).values(failed),
        steps.where(STEPS.c.state == StepState.PENDING).values(skipped),
        task.values(ended_at=_NOW, **values),
    ]


def is_open(number: int, attempt: int | None) -> sa.ColumnElement[bool]:
    """Ask whether an attempt goes on: a process that was taken for lost does not get the next one."""
    goes_on = sa.exists().where(ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
    # Whoever began to record before there was any attempt has none of its own.
    return goes_on if attempt is None else goes_on.where(ATTEMPTS.c.attempt == attempt)


def _steps_of(number: int) -> sa.Update:
    """Write what steps have come to; one that was ended as failed or skipped stays so."""
    open_step = sa.or_(STEPS.c.state == StepState.PENDING, STEPS.c.state == StepState.RUNNING)
    state = sa.bindparam("b_state", type_=sa.Text)
    return (
        sa.update(STEPS)
        .where(
            STEPS.c.number == number,
            STEPS.c.stream == sa.bindparam("b_stream"),
            STEPS.c.step == sa.bindparam("b_step"),
        )
        .values(
            state=sa.case((open_step, state), else_=STEPS.c.state),
            started_at=sa.func.coalesce(STEPS.c.started_at, _ago("b_began")),
            completed_at=sa.func.coalesce(STEPS.c.completed_at, _ago("b_ended")),
        )
    )


def _ago(seconds: str) -> sa.ColumnElement[Any]:
    return _NOW - sa.cast(sa.bindparam(seconds, type_=sa.Float), sa.Float) * sa.text(
        "interval '1 second'"
    )
