"""The row of a job run while its state changes: locked, moved only where the table of moves allows, and logged."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs.log import LogLine
from aiia_pipelines.jobs.state import JobState, path
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, LOG_LINES

NOW = sa.func.clock_timestamp()


def lock(db: sa.Connection, number: int) -> sa.Row[Any] | None:
    """Read the row of a job run and keep others from changing it until the transaction ends."""
    query = sa.select(JOB_RUNS).where(JOB_RUNS.c.number == number).with_for_update()
    return db.execute(query).one_or_none()


def move(
    db: sa.Connection, number: int, wanted: JobState, run_id: str | None = None
) -> JobState | None:
    """Bring a job run to a state; a late event, or one of a Dagster run that is done with it, changes nothing: None."""
    row = lock(db, number)
    if run_id is not None and not _works(db, number, run_id):
        return None
    passed = path(JobState(row.state), wanted) if row else ()
    if row is None or not passed:
        return None
    values: dict[str, Any] = {"state": passed[-1]}
    if JobState.RUNNING in passed and row.started_at is None:
        values["started_at"] = NOW
    update(db, number, **values)
    return passed[-1]


def update(db: sa.Connection, number: int, **values: object) -> None:
    """Write facts to the row of a job run; its state is moved instead."""
    db.execute(sa.update(JOB_RUNS).where(JOB_RUNS.c.number == number).values(**values))


def _works(db: sa.Connection, number: int, run_id: str) -> bool:
    query = sa.select(ATTEMPTS.c.attempt).where(
        ATTEMPTS.c.number == number, ATTEMPTS.c.run_id == run_id, ATTEMPTS.c.ended_at.is_(None)
    )
    return db.execute(query).first() is not None


def write_lines(db: sa.Connection, number: int, lines: Sequence[LogLine]) -> None:
    """Append lines to the log of a job run."""
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
