"""What the job-run store knows, read with SQLAlchemy; `history` reads for people, without that import."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.run import JobType
from aiia_pipelines.jobs.state import FINAL, JobState, TaskState
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, LOG_LINES, TASKS


class JobReader:
    """Reads job runs; every call sees what is committed at that moment."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use an engine whose database already has the tables."""
        self.engine = engine

    def numbers_of(self, run_id: str, *, at_work: bool = False) -> dict[str, int]:
        """Find the job runs of a Dagster run: connector → number; `at_work` leaves out those it is done with."""
        query = (
            sa.select(JOB_RUNS.c.connector, JOB_RUNS.c.number)
            .join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number)
            .where(ATTEMPTS.c.run_id == run_id)
        )
        if at_work:
            query = query.where(ATTEMPTS.c.ended_at.is_(None))
        with self.engine.connect() as db:
            return {row.connector: row.number for row in db.execute(query)}

    def run_of_tick(self, connector: str, tick: datetime) -> str | None:
        """Find the Dagster run that was made first for a tick of a connector's schedule."""
        query = (
            sa.select(ATTEMPTS.c.run_id)
            .join(JOB_RUNS, ATTEMPTS.c.number == JOB_RUNS.c.number)
            .where(JOB_RUNS.c.connector == connector, JOB_RUNS.c.tick == tick)
            .order_by(ATTEMPTS.c.attempt)
            .limit(1)
        )
        with self.engine.connect() as db:
            return db.execute(query).scalar()

    def states_of(self, run_id: str) -> list[JobState]:
        """Read the states of the job runs of a Dagster run."""
        query = (
            sa.select(JOB_RUNS.c.state)
            .join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number)
            .where(ATTEMPTS.c.run_id == run_id)
        )
        with self.engine.connect() as db:
            return [JobState(state) for state in db.execute(query).scalars()]

    def open_runs(self) -> list[tuple[int, str]]:
        """List the job runs that have not ended, each with its Dagster run."""
        query = (
            sa.select(JOB_RUNS.c.number, ATTEMPTS.c.run_id)
            .join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number)
            .where(
                JOB_RUNS.c.state.not_in(FINAL),
                ATTEMPTS.c.ended_at.is_(None),
                ATTEMPTS.c.run_id.is_not(None),
            )
        )
        with self.engine.connect() as db:
            return [(row.number, row.run_id) for row in db.execute(query)]

    def busy_with(self, connector: str) -> int | None:
        """Find the oldest sync of a connector that has not ended."""
        query = (
            sa.select(JOB_RUNS.c.number)
            .where(
                JOB_RUNS.c.connector == connector,
                JOB_RUNS.c.type == JobType.SYNC,
                JOB_RUNS.c.state.not_in(FINAL),
            )
            .order_by(JOB_RUNS.c.number)
            .limit(1)
        )
        with self.engine.connect() as db:
            return db.execute(query).scalar()

    def row(self, number: int) -> sa.Row[Any] | None:
        """Read the row of one job run."""
        with self.engine.connect() as db:
            return db.execute(sa.select(JOB_RUNS).where(JOB_RUNS.c.number == number)).one_or_none()

    def ended_for(self, run_id: str, seconds: float) -> bool:
        """Tell whether all that a Dagster run had to do ended so long ago; False when it had nothing."""
        age = sa.func.extract("epoch", sa.func.clock_timestamp() - sa.func.max(ATTEMPTS.c.ended_at))
        over = sa.func.bool_and(ATTEMPTS.c.ended_at.is_not(None))
        query = sa.select(sa.and_(over, age > seconds)).where(ATTEMPTS.c.run_id == run_id)
        with self.engine.connect() as db:
            return bool(db.execute(query).scalar())

    def state_of(self, number: int) -> JobState:
        """Read the state of one job run.

        Raises:
            LookupError: There is no such job run.
        """
        row = self.row(number)
        if row is None:
            raise LookupError(f"There is no job run #{number}.")
        return JobState(row.state)

    def tasks_of(self, number: int) -> list[tuple[str, TaskState]]:
        """Read the streams of a job run and the states of their tasks."""
        query = sa.select(TASKS.c.stream, TASKS.c.state).where(TASKS.c.number == number)
        with self.engine.connect() as db:
            return [(row.stream, TaskState(row.state)) for row in db.execute(query)]

    def failures_of(self, number: int) -> list[tuple[str, TaskState, str, str]]:
        """Read what failed of a job run: stream, state, failure code and message of each."""
        query = (
            sa.select(TASKS.c.stream, TASKS.c.state, TASKS.c.failure_code, TASKS.c.message)
            .where(TASKS.c.number == number, TASKS.c.failure_code.is_not(None))
            .order_by(TASKS.c.ended_at, TASKS.c.stream)
        )
        with self.engine.connect() as db:
            return [
                (row.stream, TaskState(row.state), row.failure_code, row.message)
                for row in db.execute(query)
            ]

    def changes_of(self, number: int) -> list[dict[str, Any]]:
        """Read what each stream of a job run changed, or would, in the order of the connector's file."""
        counts = (TASKS.c.inserted, TASKS.c.updated, TASKS.c.unchanged, TASKS.c.deleted)
        query = (
            sa.select(
                TASKS.c.stream, TASKS.c.state, TASKS.c.records, *counts, TASKS.c.rejected,
                TASKS.c.adjusted, TASKS.c.failure_code, TASKS.c.message,
            )
            .join(JOB_RUNS, JOB_RUNS.c.number == TASKS.c.number)
            .where(TASKS.c.number == number)
            .order_by(sa.func.array_position(JOB_RUNS.c.streams, TASKS.c.stream), TASKS.c.stream)
        )  # fmt: skip
        with self.engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def attempt_of(self, number: int) -> sa.Row[Any] | None:
        """Read the last attempt of a job run."""
        query = (
            sa.select(ATTEMPTS)
            .where(ATTEMPTS.c.number == number)
            .order_by(ATTEMPTS.c.attempt.desc())
            .limit(1)
        )
        with self.engine.connect() as db:
            return db.execute(query).one_or_none()

    def uids_of(self, number: int) -> dict[str, str]:
        """Give each stream of a job run the uid that its commits are known by.

        A retry goes by the uid of the first job run whose task of the stream did not succeed: what that one
        committed before its process was lost must not be committed again.
        """
        with self.engine.connect() as db:
            row = db.execute(_lineage(number)).one_or_none()
            streams = db.execute(
                sa.select(TASKS.c.stream).where(TASKS.c.number == number)
            ).scalars()
            uids = dict.fromkeys(streams, str(row.uid) if row else "")
            going = set(uids)
            while going and row is not None and row.retry_of is not None:
                tasks = sa.select(TASKS.c.stream).where(
                    TASKS.c.number == row.retry_of, TASKS.c.state != TaskState.SUCCEEDED
                )
                going &= set(db.execute(tasks).scalars())
                row = db.execute(_lineage(row.retry_of)).one_or_none()
                uids |= dict.fromkeys(going, str(row.uid)) if row is not None else {}
            return uids

    def log_after(self, number: int, place: int) -> list[tuple[int, LogLine]]:
        """Read the lines that came after a place in the log, each with its own place."""
        query = (
            sa.select(LOG_LINES)
            .where(LOG_LINES.c.number == number, LOG_LINES.c.id > place)
            .order_by(LOG_LINES.c.id)
        )
        with self.engine.connect() as db:
            return [
                (row.id, LogLine(row.at, Level(row.level), row.message, tuple(row.detail)))
                for row in db.execute(query)
            ]


def _lineage(number: int) -> sa.Select[tuple[str, int | None]]:
    return sa.select(JOB_RUNS.c.uid, JOB_RUNS.c.retry_of).where(JOB_RUNS.c.number == number)
