"""How a job run ends, or waits for another attempt instead."""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs import retry
from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.catalogue import CATALOGUE
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.log import Level, LogLine, closing
from aiia_pipelines.jobs.moves import NOW, lock, move, update, write_lines
from aiia_pipelines.jobs.run import JobType
from aiia_pipelines.jobs.standing import DAEMON_HEARD, DAEMON_IS_KNOWN
from aiia_pipelines.jobs.state import FINAL, JobState, TaskState, job_state_of
from aiia_pipelines.jobs.tables import ATTEMPTS, LOG_LINES, TASKS
from aiia_pipelines.jobs.tables import STEPS as STEP_ROWS

_OPEN_TASKS = (TaskState.SCHEDULED, TaskState.RUNNING, TaskState.RESCHEDULED)
_UNDONE = (TaskState.FAILED, TaskState.ERROR)
_TASK_OF_JOB = {
    JobState.CANCELLED: TaskState.CANCELLED,
    JobState.REPLACED: TaskState.CANCELLED,
    JobState.ERROR: TaskState.ERROR,
}
_DAEMON_SECONDS = 90.0  # a daemon that was heard of so lately will launch the next attempt
# What a sync is tried again in: a test tells what it found, and a dry run is repeated by hand.
_RETRIED = (JobType.SYNC,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is said about the end of an attempt.

    `wanted` is a state for a run that ended without a word, `paused` that it stopped because it was asked to pause or
    because its window closed, `resume_at` when it goes on by itself then. A run that waits for an attempt is ended by
    what people do or when it `expired`, never by what is still heard of an attempt before.
    """

    # Of a process that knows which attempt is its own; another one it does not end.
    attempt: int | None = None
    wanted: JobState | None = None
    failure: Failure | None = None
    paused: bool = False
    expired: bool = False
    resume_at: datetime | None = None


def finish(db: sa.Connection, number: int, ending: Ending) -> LogLine | None:
    """End a job run, or the attempt if another one follows; None when it had ended before."""
    row = lock(db, number)
    if row is None or JobState(row.state) in FINAL:
        return None
    called_off = ending.expired or ending.wanted in {JobState.CANCELLED, JobState.REPLACED}
    mine = ending.attempt
    if (mine is not None or not called_off) and not has_open_attempt(db, number, mine):
        return None
    if ending.paused and row.cancel_by is None and _has_work_left(db, number):
        return _pause(db, row, ending.resume_at)
    state = _outcome(db, row, ending.wanted)
    failure = ending.failure
    if state is JobState.CANCELLED and failure is not None and failure.badge is not Badge.CANCELLED:
        # How a process ended that was asked to end is no failure.
        failure = None
    _close_tasks(db, number, state, failure)
    facts = _ending(db, number, failure)
    again = _again(db, row, state, facts)
    lines = _failure_lines(db, row, failure)
    _end_attempt(db, row, state, facts)
    if again is not None:
        return _reschedule(db, row, again, facts, lines)
    return _close(db, row, state, facts, lines)


def _close(
    db: sa.Connection,
    row: sa.Row[Any],
    state: JobState,
    facts: dict[str, Any],
    lines: list[LogLine],
) -> LogLine:
    committed = sa.select(sa.func.coalesce(sa.func.sum(TASKS.c.records), 0)).where(
        TASKS.c.number == row.number, TASKS.c.state == TaskState.SUCCEEDED
    )
    records = int(db.execute(committed).scalar_one())
    move(db, row.number, state)
    level, sentence = closing(state, records if row.type == JobType.SYNC else None)
    line = LogLine.of(level, sentence)
    write_lines(db, row.number, [*lines, line])
    told = facts if facts["failure_code"] else {**facts, "message": sentence}
    update(
        db, row.number, **told,
        records=records, activity="", ended_at=NOW, due_at=None, held_by=None, held_reason=None,
    )  # fmt: skip
    return line


# -- another attempt ------------------------------------------------------------------------


def _again(
    db: sa.Connection, row: sa.Row[Any], state: JobState, facts: dict[str, Any]
) -> datetime | None:
    """Decide whether the streams that failed are tried again, and when."""
    if row.type not in _RETRIED or state not in {JobState.FAILED, JobState.PARTIALLY_SUCCEEDED}:
        return None
    streams, kind = _transient(db, row.number), CATALOGUE.get(facts.get("failure_code") or "")
    worth = min((CATALOGUE[code].most_retries for code in streams.values()), default=0)
    if not streams or kind is None or not _somebody_launches(db):
        return None
    window = (row.config or {}).get("window")
    return retry.next_attempt(
        retry.RetryPolicy.of(row.config),
        [*_failed_attempts(db, row.number), retry.Ended(kind.code, _progressed(db, row), worth)],
        now=datetime.now(UTC),
        expires_at=row.expires_at,
        rhythm=bool(window),
        chance=SystemRandom().random(),
    )


def _transient(db: sa.Connection, number: int) -> dict[str, str]:
    """Give the streams whose failure may pass, each with its code."""
    query = sa.select(TASKS.c.stream, TASKS.c.failure_code).where(
        TASKS.c.number == number,
        TASKS.c.state.in_(_UNDONE),
        TASKS.c.failure_code.in_([code for code, kind in CATALOGUE.items() if kind.transient]),
    )
    return {row.stream: row.failure_code for row in db.execute(query)}


def _failed_attempts(db: sa.Connection, number: int) -> list[retry.Ended]:
    query = (
        sa.select(ATTEMPTS.c.failure_code, ATTEMPTS.c.progressed)
        .where(
            ATTEMPTS.c.number == number,
            ATTEMPTS.c.ended_at.is_not(None),
            ATTEMPTS.c.failure_code.is_not(None),
        )
        .order_by(ATTEMPTS.c.attempt)
    )
    return [retry.Ended(row.failure_code, row.progressed, 0) for row in db.execute(query)]


def _progressed(db: sa.Connection, row: sa.Row[Any]) -> bool:
    """Tell whether the open attempt committed a stream."""
    began = sa.select(ATTEMPTS.c.created_at).where(
        ATTEMPTS.c.number == row.number, ATTEMPTS.c.ended_at.is_(None)
    )
    query = sa.select(sa.func.count()).where(
        TASKS.c.number == row.number,
        TASKS.c.state == TaskState.SUCCEEDED,
        TASKS.c.ended_at >= began.scalar_subquery(),
    )
    return bool(db.execute(query).scalar_one())


def _somebody_launches(db: sa.Connection) -> bool:
    """Tell whether a daemon is there: without one, a run that waits would wait for ever."""
    if not db.exec_driver_sql(DAEMON_IS_KNOWN).scalar():
        return False
    seconds = db.exec_driver_sql(DAEMON_HEARD).scalar()
    return seconds is not None and float(seconds) < _DAEMON_SECONDS


def _reschedule(
    db: sa.Connection,
    row: sa.Row[Any],
    at: datetime,
    facts: dict[str, Any],
    lines: list[LogLine],
) -> LogLine:
    """Let the streams whose failure may pass wait for another attempt."""
    streams = _transient(db, row.number)
    db.execute(
        sa.update(TASKS)
        .where(TASKS.c.number == row.number, TASKS.c.stream.in_(list(streams)))
        .values(state=TaskState.RESCHEDULED, ended_at=None)
    )
    attempts = len(_failed_attempts(db, row.number))
    line = LogLine.of(
        Level.WARNING,
        f"Attempt {attempts} ended as {facts['failure_code']}; the next one starts at"
        f" {at:%Y-%m-%d %H:%M:%S} UTC.",
    )
    write_lines(db, row.number, [*lines, line])
    move(db, row.number, JobState.SCHEDULED)
    update(db, row.number, **facts, activity="", due_at=at, sealed_at=None)
    return line


# -- a pause --------------------------------------------------------------------------------


def _pause(db: sa.Connection, row: sa.Row[Any], resume_at: datetime | None) -> LogLine:
    _stop_steps(db, row.number)
    db.execute(
        sa.update(TASKS)
        .where(TASKS.c.number == row.number, TASKS.c.state.in_(_OPEN_TASKS))
        .values(state=TaskState.RESCHEDULED)
    )
    paused = JobState(row.state) is JobState.RUNNING
    state = JobState.PAUSED if paused else JobState.SCHEDULED
    line = LogLine.of(Level.WARNING, _pause_words(row, resume_at))
    write_lines(db, row.number, [line])
    _end_attempt(db, row, JobState.PAUSED, {})
    move(db, row.number, state)
    at = resume_at or (None if row.held_by else NOW)
    update(db, row.number, activity="", due_at=at, message=line.message, sealed_at=None)
    return line


def _pause_words(row: sa.Row[Any], resume_at: datetime | None) -> str:
    if row.held_by:
        why = f": {row.held_reason}" if row.held_reason else "."
        return f"Job paused by {row.held_by}{why}"
    if resume_at is None:
        return "Job paused."
    return f"Job paused: its window closed; it goes on at {resume_at:%Y-%m-%d %H:%M:%S} UTC."


# -- pieces ---------------------------------------------------------------------------------


def _has_work_left(db: sa.Connection, number: int) -> bool:
    """Tell whether a stream is not done; a run that has not read its file yet has all of them before it."""
    query = sa.select(TASKS.c.state).where(TASKS.c.number == number)
    states = list(db.execute(query).scalars())
    return not states or any(state in _OPEN_TASKS for state in states)


def has_open_attempt(db: sa.Connection, number: int, attempt: int | None = None) -> bool:
    """Tell whether somebody is at work on a job run, or on this attempt of it."""
    query = sa.select(ATTEMPTS.c.attempt).where(
        ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None)
    )
    if attempt is not None:
        query = query.where(ATTEMPTS.c.attempt == attempt)
    return db.execute(query).first() is not None


def _end_attempt(
    db: sa.Connection, row: sa.Row[Any], outcome: JobState, facts: dict[str, Any]
) -> None:
    db.execute(
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.number == row.number, ATTEMPTS.c.ended_at.is_(None))
        .values(
            ended_at=NOW,
            outcome=outcome,
            progressed=_progressed(db, row),
            failure_code=facts.get("failure_code"),
            message=facts.get("message") or "",
        )
    )


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


def _stop_steps(db: sa.Connection, number: int) -> None:
    db.execute(
        sa.update(STEP_ROWS)
        .where(STEP_ROWS.c.number == number, STEP_ROWS.c.state == "Running")
        .values(state="Failed", completed_at=NOW)
    )


def _close_tasks(db: sa.Connection, number: int, state: JobState, failure: Failure | None) -> None:
    # An open task of a run that ended Partially Succeeded did not get its data.
    ended = _TASK_OF_JOB.get(state, TaskState.FAILED)
    _stop_steps(db, number)
    db.execute(
        sa.update(STEP_ROWS)
        .where(STEP_ROWS.c.number == number, STEP_ROWS.c.state == "Pending")
        .values(state="Skipped", skipped_at=NOW)
    )
    db.execute(
        sa.update(TASKS)
        .where(TASKS.c.number == number, TASKS.c.state.in_(_OPEN_TASKS))
        .values(
            state=ended,
            ended_at=NOW,
            failure_code=failure.code if failure else None,
            message=failure.headline if failure else "",
        )
    )


def _failure_lines(db: sa.Connection, row: sa.Row[Any], failure: Failure | None) -> list[LogLine]:
    """Name the cause in the log unless the attempt did so itself before it ended."""
    if failure is None:
        return []
    began = sa.select(sa.func.max(ATTEMPTS.c.created_at)).where(ATTEMPTS.c.number == row.number)
    last = db.execute(
        sa.select(LOG_LINES.c.message)
        .where(
            LOG_LINES.c.number == row.number,
            LOG_LINES.c.level >= Level.ERROR,
            LOG_LINES.c.at >= began.scalar_subquery(),
        )
        .limit(1)
    ).first()
    return [] if last else [LogLine.of(Level.ERROR, failure.headline)]


def _ending(db: sa.Connection, number: int, failure: Failure | None) -> dict[str, Any]:
    """Give what went wrong; nothing when nothing did."""
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
    return {"message": "", "failure_code": None, "failure_place": ""}
