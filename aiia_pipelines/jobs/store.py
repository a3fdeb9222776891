"""The job-run store: what every process writes about job runs, and the only place where their state changes."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from aiia_pipelines.jobs import engines, migrations, moves
from aiia_pipelines.jobs.ending import Ending, finish, has_open_attempt
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.log import LogLine
from aiia_pipelines.jobs.reader import JobReader
from aiia_pipelines.jobs.run import NewJobRun
from aiia_pipelines.jobs.state import FINAL, STEPS, IllegalTransition, JobState, TaskState
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, NUMBER, TASKS
from aiia_pipelines.jobs.tables import (
    STEPS as STEP_ROWS,
)

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a write waits for a database that is away
_PAUSE = 0.5


class JobStore(JobReader):
    """Job runs in the schema `aiia` of one PostgreSQL database."""

    @classmethod
    def open(cls, url: str) -> "JobStore":
        """Connect and create the tables where there are none.

        Raises:
            StoreOutdated: The tables are of another version.
            sqlalchemy.exc.OperationalError: The database cannot be reached.
        """
        return cls(engines.take(url, migrations.ensure))

    def close(self) -> None:
        """Give the connections back; the last one of the process closes them."""
        engines.give_back(self.engine)

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

    def take(self, number: int, new: NewJobRun, run_id: str | None = None) -> bool:
        """Say that this process now works on the job run, and how; False when it, or this attempt, has ended."""
        return self.transact(lambda db: _take(db, number, new, run_id))

    # -- its state --------------------------------------------------------------------------

    def move(self, number: int, wanted: JobState, run_id: str | None = None) -> JobState | None:
        """Bring a job run to a state that is not final; a late event changes nothing: None.

        With `run_id`, an event of a Dagster run is late once that run's attempt has ended.

        Raises:
            IllegalTransition: The state is final; `finish` leads there.
        """
        if wanted in FINAL:
            raise IllegalTransition(f"Job run #{number} becomes {wanted} by finish, not by move.")
        return self.transact(lambda db: moves.move(db, number, wanted, run_id))

    def put_back(self, number: int) -> None:
        """Let a job run that was about to begin wait again; one that waits, works or has ended stays as it is."""

        def work(db: sa.Connection) -> None:
            row = moves.lock(db, number)
            if row is not None and JobState(row.state) is JobState.PREPARING:
                moves.move(db, number, JobState.SCHEDULED)
                moves.move(db, number, JobState.PENDING)

        self.transact(work)

    def finish(
        self,
        number: int,
        wanted: JobState | None = None,
        *,
        failure: Failure | None = None,
        attempt: int | None = None,
    ) -> LogLine | None:
        """End a job run, once: by its tasks, or as `wanted` when it ended without a word.

        A cancellation that was accepted always ends as Cancelled. Tasks still open end with the run. A failure that
        may pass ends the attempt only, while a daemon is there to start the next. With `attempt`, only that one is ended.

        Returns:
            The closing log line, which is already in the store; None when the run had ended before.
        """
        ending = Ending(wanted=wanted, failure=failure, attempt=attempt)
        return self.transact(lambda db: finish(db, number, ending))

    def pause(
        self, number: int, resume_at: datetime | None = None, *, attempt: int | None = None
    ) -> LogLine | None:
        """End an attempt that stopped to go on later; as `finish` when nothing of it is left to do."""
        ending = Ending(paused=True, resume_at=resume_at, attempt=attempt)
        return self.transact(lambda db: finish(db, number, ending))

    def request_cancel(
        self, number: int, *, by: str, reason: str = "", attempt: int | None = None
    ) -> bool:
        """Ask a job run to stop; False when it has already ended, or its last commit is just ending.

        One that waits for an attempt ends here and now. With `attempt`, nothing is asked of another one.
        """

        def work(db: sa.Connection) -> bool:
            if attempt is not None and not has_open_attempt(db, number, attempt):
                return False
            return _request_cancel(db, number, by, reason)

        return self.transact(work)

    def seal(self, number: int, attempt: int | None = None) -> bool:
        """Decide that a job run is not cancelled any more; False when somebody asked it to stop before.

        Either the cancel is accepted and nothing more is committed, or the commit is, and the cancel is not.
        """
        return self.transact(lambda db: _seal(db, number, attempt))

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
        self.transact(lambda db: moves.write_lines(db, number, lines))


def _create(db: sa.Connection, new: NewJobRun, number: int, run_id: str | None) -> None:
    facts = asdict(new) | {"streams": list(new.streams), "number": number}
    state = JobState.PENDING if new.due_at is None else JobState.SCHEDULED
    # Both its number and the tick that it is for have one job run.
    made = db.execute(insert(JOB_RUNS).values(**facts, state=state).on_conflict_do_nothing())
    if made.rowcount:
        # Of a run that is not due yet, the first attempt is over before it began: another one comes.
        over = {"ended_at": moves.NOW, "outcome": state} if new.due_at is not None else {}
        db.execute(sa.insert(ATTEMPTS).values(number=number, attempt=1, run_id=run_id, **over))
        _add_tasks(db, number, new.streams)


def _take(db: sa.Connection, number: int, new: NewJobRun, run_id: str | None) -> bool:
    row = moves.lock(db, number)
    if row is None or JobState(row.state) in FINAL:
        return False
    mine = [ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None)]
    if run_id is not None:
        mine.append(sa.or_(ATTEMPTS.c.run_id == run_id, ATTEMPTS.c.run_id.is_(None)))
    taken = db.execute(
        sa.update(ATTEMPTS)
        .where(*mine)
        .values(
            host=socket.gethostname(), pid=os.getpid(), heartbeat_at=moves.NOW, started_at=moves.NOW
        )
        .returning(ATTEMPTS.c.attempt)
    ).first()
    if taken is None:
        return False
    facts: dict[str, Any] = {"title": new.title, "config": new.config, "sealed_at": None}
    if taken.attempt == 1:
        facts |= {"streams": list(new.streams), "records_total": _records_before(new)}
    moves.update(db, number, **facts)
    _begin_again(db, number, new.streams)
    _add_tasks(db, number, new.streams)
    return True


def _begin_again(db: sa.Connection, number: int, streams: Iterable[str]) -> None:
    """Clear what an earlier attempt left of streams that are done again."""
    again = (TASKS.c.number == number, TASKS.c.stream.in_(list(streams)))
    waits = TASKS.c.state == TaskState.RESCHEDULED
    found = list(db.execute(sa.select(TASKS.c.stream).where(*again, waits)).scalars())
    if not found:
        return
    db.execute(
        sa.update(TASKS)
        .where(TASKS.c.number == number, TASKS.c.stream.in_(found))
        .values(state=TaskState.SCHEDULED, failure_code=None, message="", records=0, step="")
    )
    db.execute(
        sa.update(STEP_ROWS)
        .where(STEP_ROWS.c.number == number, STEP_ROWS.c.stream.in_(found))
        .values(
            state="Pending", records=0, started_at=None, skipped_at=None, completed_at=None, note=""
        )
    )


def _request_cancel(db: sa.Connection, number: int, by: str, reason: str) -> bool:
    row = moves.lock(db, number)
    if row is None or JobState(row.state) in FINAL or row.sealed_at is not None:
        return False
    db.execute(
        sa.update(JOB_RUNS)
        .where(JOB_RUNS.c.number == number, JOB_RUNS.c.cancel_by.is_(None))
        .values(cancel_by=by, cancel_reason=reason)
    )
    if not has_open_attempt(db, number):
        # Nobody is at work on it who could carry it out.
        finish(db, number, Ending(wanted=JobState.CANCELLED))
    return True


def _seal(db: sa.Connection, number: int, attempt: int | None) -> bool:
    row = moves.lock(db, number)
    if attempt is not None and not has_open_attempt(db, number, attempt):
        return False
    if row is None or JobState(row.state) in FINAL or row.cancel_by is not None:
        return False
    moves.update(db, number, sealed_at=moves.NOW)
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
