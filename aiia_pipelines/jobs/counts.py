"""The counts of a running job on their way into the store."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs.state import StepState
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, STEPS, TASKS

_NOW = sa.func.clock_timestamp()


@dataclass
class Step:
    """One phase of a task as its process knows it."""

    busy: float = 0.0  # seconds
    records: int = 0
    began: float | None = None  # on the monotonic clock
    ended: float | None = None

    @property
    def state(self) -> StepState:
        """Tell what the store has to show."""
        if self.began is None:
            return StepState.PENDING
        return StepState.RUNNING if self.ended is None else StepState.COMPLETED

    def facts(self, now: float) -> dict[str, Any]:
        """Give the values for `write_counts`; the server's clock counts back from when they arrive."""
        return {
            "records": self.records,
            "busy_seconds": self.busy,
            "b_state": self.state,
            "b_began": None if self.began is None else now - self.began,
            "b_ended": None if self.ended is None else now - self.ended,
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
        in_kib = sys.platform != "darwin"
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if in_kib else 1)


def write_counts(
    db: sa.Connection,
    number: int,
    values: dict[str, Any],
    kills: int | None,
    tasks: list[dict[str, Any]],
    steps: list[dict[str, Any]],
) -> sa.Row[Any] | None:
    """Write what has changed and a sign of life; give who asked for a cancel, None once the job run has ended."""
    row = db.execute(
        sa.update(JOB_RUNS)
        .where(JOB_RUNS.c.number == number, JOB_RUNS.c.ended_at.is_(None))
        .values(**values)
        .returning(JOB_RUNS.c.cancel_by)
    ).first()
    db.execute(
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
        .values(heartbeat_at=_NOW, oom_kills=kills)
    )
    if tasks:
        mine = (TASKS.c.number == number, TASKS.c.stream == sa.bindparam("b_stream"))
        db.execute(sa.update(TASKS).where(*mine, TASKS.c.ended_at.is_(None)), tasks)
    if steps and row:
        db.execute(_steps_of(number), steps)
    return row


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
