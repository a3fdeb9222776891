"""The job-run store: what every process writes about job runs, and the only place where their state changes."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs import migrations
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.log import Level, LogLine, closing
from aiia_pipelines.jobs.reader import JobReader
from aiia_pipelines.jobs.run import JobType, NewJobRun
from aiia_pipelines.jobs.state import (
    FINAL,
    STEPS,
    IllegalTransition,
    JobState,
    TaskState,
    job_state_of,
    path,
)
from aiia_pipelines.jobs.tables import (
    ATTEMPTS,
    JOB_RUNS,
    LOG_LINES,
    NUMBER,
    TASKS,
)
from aiia_pipelines.jobs.tables import (
    STEPS as STEP_ROWS,
)

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a write waits for a database that is away
_PAUSE = 0.5
_NOW = sa.func.clock_timestamp()
_OPEN_TASKS = (TaskState.SCHEDULED, TaskState.RUNNING, TaskState.RESCHEDULED)
_TASK_OF_JOB = {
    JobState.CANCELLED: TaskState.CANCELLED,
    JobState.REPLACED: TaskState.CANCELLED,
    JobState.ERROR: TaskState.ERROR,
}


class JobStore(JobReader):
    """Job runs in the schema `aiia` of one PostgreSQL database."""

    @classmethod
    def open(cls, url: str) -> "JobStore":
        """Connect and create the tables where there are none.

        Raises:
            StoreOutdated: The tables are of another version.
            sqlalchemy.exc.OperationalError: The database cannot be reached.
        """
        engine = sa.create_engine(
            url, hide_parameters=True, pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
        migrations.ensure(engine)
        return cls(engine)

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

    def transact(self, work: Callable[[sa.Connection], T], patience: float = PATIENCE) -> T:
        """Do work in one transaction, again while the database is away for at most `patience` seconds.

        What a run has committed at its destination must reach the job history even if the database of
        the history restarts at that moment.
        """
        end = time.monotonic() + patience
        while True:
            try:
                with self.engine.begin() as db:
                    return work(db)
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as fault:
                # A full disk does not empty itself.
                full = str(getattr(fault.orig, "pgcode", None) or "").startswith("53")
                if full or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)

    # -- a job run begins -------------------------------------------------------------------

    def reserve(self) -> int:
        """Take the next number."""
        return self.transact(
            lambda db: int(db.execute(sa.select(NUMBER.next_value())).scalar_one())
        )

    def create(
        self, new: NewJobRun, *, number: int | None = None, run_id: str | None = None
    ) -> int:
        """Record a Pending job run with its first attempt; the same number twice changes nothing."""
        number = number or self.reserve()
        self.transact(lambda db: _create(db, new, number, run_id))
        return number

    def take(self, number: int, new: NewJobRun) -> bool:
        """Say that this process now works on the job run, and how; False when it has ended."""
        return self.transact(lambda db: _take(db, number, new))

    # -- its state --------------------------------------------------------------------------

    def move(self, number: int, wanted: JobState) -> JobState | None:
        """Bring a job run to a state that is not final; a late event changes nothing: None.

        Raises:
            IllegalTransition: The state is final; `finish` leads there.
        """
        if wanted in FINAL:
            raise IllegalTransition(f"Job run #{number} becomes {wanted} by finish, not by move.")
        return self.transact(lambda db: _move(db, number, wanted))

    def finish(
        self,
        number: int,
        wanted: JobState | None = None,
        *,
        failure: Failure | None = None,
    ) -> LogLine | None:
        """End a job run, once: by its tasks, or as `wanted` when it ended without a word.

        A cancellation that was accepted always ends as Cancelled. Tasks still open end with the run.

        Returns:
            The closing log line, which is already in the store; None when the run had ended before.
        """
        return self.transact(lambda db: _finish(db, number, wanted, failure))

    def request_cancel(self, number: int, *, by: str, reason: str = "") -> bool:
        """Ask a job run to stop; False when it has already ended, or its last commit is just ending."""
        return self.transact(lambda db: _request_cancel(db, number, by, reason))

    def seal(self, number: int) -> bool:
        """Decide that a job run is not cancelled any more; False when somebody asked it to stop before.

        Either the cancel is accepted and nothing more is committed, or the commit is, and the cancel is not.
        """
        return self.transact(lambda db: _seal(db, number))

    def unseal(self, number: int) -> None:
        """Let a job run be cancelled again, after a commit that failed."""
        self.transact(
            lambda db: db.execute(
                sa.update(JOB_RUNS).where(JOB_RUNS.c.number == number).values(sealed_at=None)
            )
        )

    # -- its log ----------------------------------------------------------------------------

    def write_log(self, number: int, lines: Sequence[LogLine]) -> None:
        """Append lines to the log of a job run."""
        self.transact(lambda db: _write_lines(db, number, lines))


def _create(db: sa.Connection, new: NewJobRun, number: int, run_id: str | None) -> None:
    facts = asdict(new) | {"streams": list(new.streams), "number": number}
    made = db.execute(
        insert(JOB_RUNS)
        .values(**facts, state=JobState.PENDING)
        .on_conflict_do_nothing(index_elements=["number"])
    )
    if made.rowcount:
        db.execute(sa.insert(ATTEMPTS).values(number=number, attempt=1, run_id=run_id))
        _add_tasks(db, number, new.streams)


def _take(db: sa.Connection, number: int, new: NewJobRun) -> bool:
    row = _lock(db, number)
    if row is None or JobState(row.state) in FINAL:
        return False
    db.execute(
        sa.update(JOB_RUNS)
        .where(JOB_RUNS.c.number == number)
        .values(
            title=new.title,
            streams=list(new.streams),
            config=new.config,
            records_total=_records_before(new),
        )
    )
    db.execute(
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
        .values(host=socket.gethostname(), pid=os.getpid(), heartbeat_at=_NOW, started_at=_NOW)
    )
    _add_tasks(db, number, new.streams)
    return True


def _finish(
    db: sa.Connection, number: int, wanted: JobState | None, failure: Failure | None
) -> LogLine | None:
    row = _lock(db, number)
    if row is None or JobState(row.state) in FINAL:
        return None
    state = _outcome(db, row, wanted)
    if state is JobState.CANCELLED and failure is not None and failure.badge is not Badge.CANCELLED:
        # How a process ended that was asked to end is no failure.
        failure = None
    _close_tasks(db, number, state, failure)
    committed = sa.select(sa.func.coalesce(sa.func.sum(TASKS.c.records), 0)).where(
        TASKS.c.number == number, TASKS.c.state == TaskState.SUCCEEDED
    )
    records = int(db.execute(committed).scalar_one())
    _move(db, number, state)
    level, sentence = closing(state, records if row.type == JobType.SYNC else None)
    line = LogLine.of(level, sentence)
    _write_lines(db, number, [*_failure_lines(db, number, failure), line])
    db.execute(
        sa.update(JOB_RUNS)
        .where(JOB_RUNS.c.number == number)
        .values(
            **_ending(db, number, failure, sentence), records=records, activity="", ended_at=_NOW
        )
    )
    db.execute(
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None))
        .values(ended_at=_NOW, outcome=state)
    )
    return line


def _request_cancel(db: sa.Connection, number: int, by: str, reason: str) -> bool:
    row = _lock(db, number)
    if row is None or JobState(row.state) in FINAL or row.sealed_at is not None:
        return False
    db.execute(
        sa.update(JOB_RUNS)
        .where(JOB_RUNS.c.number == number, JOB_RUNS.c.cancel_by.is_(None))
        .values(cancel_by=by, cancel_reason=reason)
    )
    return True


def _seal(db: sa.Connection, number: int) -> bool:
    row = _lock(db, number)
    if row is None or JobState(row.state) in FINAL or row.cancel_by is not None:
        return False
    db.execute(sa.update(JOB_RUNS).where(JOB_RUNS.c.number == number).values(sealed_at=_NOW))
    return True


def _add_tasks(db: sa.Connection, number: int, streams: Iterable[str]) -> None:
    for stream in streams:
        made = db.execute(
            insert(TASKS)
            .values(number=number, stream=stream, state=TaskState.SCHEDULED)
            .on_conflict_do_nothing()
        )
        if made.rowcount:
            db.execute(
                sa.insert(STEP_ROWS),
                [
                    {
                        "number": number,
                        "stream": stream,
                        "step": step,
                        "position": place,
                        "state": "Pending",
                    }
                    for place, step in enumerate(STEPS)
                ],
            )


def _records_before(new: NewJobRun) -> sa.ScalarSelect[Any]:
    """Take the records of the last completed run of the same streams as what is to be expected."""
    before = JOB_RUNS.alias("before")
    return (
        sa.select(before.c.records)
        .where(
            before.c.connector == new.connector,
            before.c.type == new.type,
            before.c.state == JobState.COMPLETED,
            before.c.streams == list(new.streams),
        )
        .order_by(before.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )


def _lock(db: sa.Connection, number: int) -> sa.Row[Any] | None:
    query = sa.select(JOB_RUNS).where(JOB_RUNS.c.number == number).with_for_update()
    return db.execute(query).one_or_none()


def _move(db: sa.Connection, number: int, wanted: JobState) -> JobState | None:
    row = _lock(db, number)
    passed = path(JobState(row.state), wanted) if row else ()
    if row is None or not passed:
        return None
    values: dict[str, Any] = {"state": passed[-1]}
    if JobState.RUNNING in passed and row.started_at is None:
        values["started_at"] = _NOW
    db.execute(sa.update(JOB_RUNS).where(JOB_RUNS.c.number == number).values(values))
    return passed[-1]


def _outcome(db: sa.Connection, row: sa.Row[Any], wanted: JobState | None) -> JobState:
    if row.cancel_by is not None:
        return JobState.CANCELLED
    if row.sealed_at is not None and wanted is JobState.CANCELLED:
        wanted = None  # the signal came too late: the tasks tell what became of the commit
    states = [
        TaskState(state)
        for state in db.execute(
            sa.select(TASKS.c.state).where(TASKS.c.number == row.number)
        ).scalars()
    ]
    worst = wanted or JobState.FAILED
    ended = [_TASK_OF_JOB.get(worst, TaskState.FAILED) if s in _OPEN_TASKS else s for s in states]
    by_tasks = ended and worst not in (JobState.CANCELLED, JobState.REPLACED)
    return job_state_of(ended) if by_tasks else worst


def _close_tasks(db: sa.Connection, number: int, state: JobState, failure: Failure | None) -> None:
    # An open task of a run that ended Partially Succeeded did not get its data.
    ended = _TASK_OF_JOB.get(state, TaskState.FAILED)
    db.execute(
        sa.update(STEP_ROWS)
        .where(STEP_ROWS.c.number == number, STEP_ROWS.c.state == "Running")
        .values(state="Failed", completed_at=_NOW)
    )
    db.execute(
        sa.update(STEP_ROWS)
        .where(STEP_ROWS.c.number == number, STEP_ROWS.c.state == "Pending")
        .values(state="Skipped", skipped_at=_NOW)
    )
    db.execute(
        sa.update(TASKS)
        .where(TASKS.c.number == number, TASKS.c.state.in_(_OPEN_TASKS))
        .values(
            state=ended,
            ended_at=_NOW,
            failure_code=failure.code if failure else None,
            message=failure.headline if failure else "",
        )
    )


def _failure_lines(db: sa.Connection, number: int, failure: Failure | None) -> list[LogLine]:
    """Name the cause in the log unless the run did so itself before it ended."""
    if failure is None:
        return []
    last = db.execute(
        sa.select(LOG_LINES.c.message)
        .where(LOG_LINES.c.number == number, LOG_LINES.c.level >= Level.ERROR)
        .limit(1)
    ).first()
    return [] if last else [LogLine.of(Level.ERROR, failure.headline)]


def _ending(
    db: sa.Connection, number: int, failure: Failure | None, sentence: str
) -> dict[str, str | None]:
    if failure is not None:
        return {
            "message": failure.headline,
            "failure_code": failure.code,
            "failure_place": failure.place,
        }
    first = db.execute(
        sa.select(TASKS.c.failure_code, TASKS.c.message)
        .where(TASKS.c.number == number, TASKS.c.failure_code.is_not(None))
        .order_by(TASKS.c.ended_at)
        .limit(1)
    ).first()
    if first:
        return {"message": first.message, "failure_code": first.failure_code}
    return {"message": sentence}


def _write_lines(db: sa.Connection, number: int, lines: Sequence[LogLine]) -> None:
    if lines:
        db.execute(
            sa.insert(LOG_LINES),
            [
                {
                    "number": number,
                    "at": line.at,
                    "level": int(line.level),
                    "message": line.message,
                    "detail": list(line.detail),
                }
                for line in lines
            ],
        )
