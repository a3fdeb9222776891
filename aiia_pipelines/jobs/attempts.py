"""Job runs that wait: for their next attempt, for a person who paused them, for a newer run that takes their place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs import moves
from aiia_pipelines.jobs.ending import Ending, finish
from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.run import REFRESHES
from aiia_pipelines.jobs.state import FINAL, JobState, TaskState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS, TASKS

ASIDE = (JobState.SCHEDULED, JobState.PAUSED)
_WAITING = (JobState.SCHEDULED, JobState.PENDING, JobState.PAUSED)
AT_WORK = (JobState.PENDING, JobState.PREPARING, JobState.RUNNING)
_LEFT = (TaskState.SCHEDULED, TaskState.RESCHEDULED)


@dataclass(frozen=True, slots=True)
class Due:
    """A job run whose next attempt is due, with the streams that are left of it."""

    number: int
    connector: str
    attempt: int
    streams: tuple[str, ...]
    row: sa.Row[Any]


def add(store: JobStore, number: int, run_id: str) -> int | None:
    """Let a Dagster run be the next attempt of a job run; None when that does not wait for one."""

    def work(db: sa.Connection) -> int | None:
        row = moves.lock(db, number)
        if row is None:
            return None
        waits = JobState(row.state) in ASIDE and row.held_by is None
        attempt = _next(db, number)
        new = {"number": number, "attempt": attempt, "run_id": run_id}
        if not waits:
            # Counted all the same: the next request must not be taken for this one.
            over = {"ended_at": moves.NOW, "outcome": JobState.CANCELLED}
            db.execute(sa.insert(ATTEMPTS).values(**new, **over))
            return None
        db.execute(sa.insert(ATTEMPTS).values(**new))
        moves.move(db, number, JobState.PENDING)
        moves.update(db, number, due_at=None)
        return attempt

    return store.transact(work)


def due(store: JobStore) -> list[Due]:
    """List the job runs whose next attempt is due, the most urgent first."""
    query = (
        sa.select(JOB_RUNS)
        .where(
            JOB_RUNS.c.state.in_(ASIDE),
            JOB_RUNS.c.held_by.is_(None),
            JOB_RUNS.c.due_at <= moves.NOW,
        )
        .order_by(JOB_RUNS.c.due_at, JOB_RUNS.c.number)
    )
    with store.engine.connect() as db:
        return [_due(db, row) for row in db.execute(query).all()]


def _due(db: sa.Connection, row: sa.Row[Any]) -> Due:
    left = sa.select(TASKS.c.stream).where(TASKS.c.number == row.number, TASKS.c.state.in_(_LEFT))
    streams = set(db.execute(left).scalars())
    ordered = tuple(stream for stream in row.streams if stream in streams)
    return Due(row.number, row.connector, _next(db, row.number), ordered, row)


def _next(db: sa.Connection, number: int) -> int:
    last = sa.select(sa.func.max(ATTEMPTS.c.attempt)).where(ATTEMPTS.c.number == number)
    return int(db.execute(last).scalar() or 0) + 1


def postpone(store: JobStore, number: int, until: datetime) -> None:
    """Let a job run wait on, because its window is closed."""
    store.transact(lambda db: moves.update(db, number, due_at=until))


def take_up(store: JobStore) -> list[int]:
    """Let job runs go on that nobody works on and that do not wait for anything: somebody died in between."""
    working = sa.exists().where(
        ATTEMPTS.c.number == JOB_RUNS.c.number, ATTEMPTS.c.ended_at.is_(None)
    )
    stranded = (JOB_RUNS.c.state.in_(AT_WORK), ~working)
    query = sa.select(JOB_RUNS.c.number).where(*stranded).order_by(JOB_RUNS.c.number)
    with store.engine.connect() as db:
        numbers = list(db.execute(query).scalars())

    def work(db: sa.Connection, number: int) -> bool:
        row = moves.lock(db, number)
        still = db.execute(query.where(JOB_RUNS.c.number == number)).first()
        if row is None or still is None:
            return False
        moves.move(db, number, JobState.SCHEDULED)
        moves.update(db, number, due_at=moves.NOW)
        if row.type not in REFRESHES:
            finish(db, number, Ending(wanted=JobState.FAILED, expired=True))
        return True

    return [number for number in numbers if store.transact(partial(work, number=number))]


def give_up(store: JobStore, number: int, told: str) -> bool:
    """End a job run as Failed that waits for what cannot come any more."""
    return store.transact(lambda db: _fail(db, number, told))


def expire(store: JobStore) -> list[int]:
    """End the job runs that waited until they were not wanted any more, as Failed."""
    query = sa.select(JOB_RUNS.c.number, JOB_RUNS.c.expires_at).where(
        JOB_RUNS.c.state.in_(ASIDE), JOB_RUNS.c.expires_at < moves.NOW
    )
    with store.engine.connect() as db:
        rows = db.execute(query).all()
    told = "Job expired: it was to run until {:%Y-%m-%d %H:%M:%S} UTC."
    return [row.number for row in rows if give_up(store, row.number, told.format(row.expires_at))]


def _fail(db: sa.Connection, number: int, told: str) -> bool:
    row = moves.lock(db, number)
    if row is None or JobState(row.state) not in ASIDE:
        return False
    moves.write_lines(db, number, [LogLine.of(Level.ERROR, told)])
    before = {"failure_code": row.failure_code or "time-limit", "message": row.message or told}
    finish(db, number, Ending(wanted=JobState.FAILED, expired=True))
    moves.update(db, number, **before)
    return True


# -- pausing by hand ------------------------------------------------------------------------


def hold(store: JobStore, number: int, *, by: str, reason: str = "") -> JobState | None:
    """Ask a job run to pause, and give its state; None when it has ended, or its last commit is just ending.

    One that waits is held at once; one that runs stops at its next checkpoint.
    """

    def work(db: sa.Connection) -> JobState | None:
        row = moves.lock(db, number)
        if row is None or JobState(row.state) in FINAL or row.sealed_at is not None:
            return None
        if row.type not in REFRESHES:
            return None
        moves.update(db, number, held_by=by, held_reason=reason)
        if JobState(row.state) is JobState.PENDING:
            finish(db, number, Ending(paused=True))
        after = moves.lock(db, number)
        return JobState(after.state) if after else None

    return store.transact(work)


def release(store: JobStore, number: int) -> bool:
    """Let a held job run go on; False when nobody holds it."""

    def work(db: sa.Connection) -> bool:
        row = moves.lock(db, number)
        if row is None or JobState(row.state) in FINAL or row.held_by is None:
            return False
        aside = JobState(row.state) in ASIDE
        at = sa.func.coalesce(JOB_RUNS.c.due_at, moves.NOW) if aside else None
        moves.update(db, number, held_by=None, held_reason=None, due_at=at)
        return True

    return store.transact(work)


# -- two of one connector -------------------------------------------------------------------


def settle(store: JobStore, number: int, overlap: str) -> list[str]:
    """Decide between a new job run and those of its connector that have not ended; give Dagster runs to be cancelled.

    Under `skip` the new one gives way to one that waits or runs, under `replace` those that wait give way to it.
    """
    if overlap == "queue":
        return []
    decide = {"skip": _skip, "replace": _replace}[overlap]
    return store.transact(lambda db: decide(db, number))


def _others(db: sa.Connection, number: int, states: Sequence[JobState]) -> list[sa.Row[Any]]:
    row = db.execute(sa.select(JOB_RUNS).where(JOB_RUNS.c.number == number)).one_or_none()
    if row is None or row.type not in REFRESHES or JobState(row.state) in FINAL:
        return []
    # Of two that come at the same moment, one has to see the other.
    alone = sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"overlap:{row.connector}"))
    db.execute(sa.select(alone))
    query = (
        sa.select(JOB_RUNS.c.number, JOB_RUNS.c.state)
        .where(
            JOB_RUNS.c.connector == row.connector,
            JOB_RUNS.c.type == row.type,
            JOB_RUNS.c.state.in_(states),
            JOB_RUNS.c.number < number,
        )
        .order_by(JOB_RUNS.c.number)
    )
    return list(db.execute(query))


def _skip(db: sa.Connection, number: int) -> list[str]:
    others = _others(db, number, [state for state in JobState if state not in FINAL])
    if not others:
        return []
    told = f"Skipped: #{others[0].number} of this connector is {others[0].state.lower()} already."
    return _give_way(db, number, JobState.CANCELLED, told, others[0].number)


def _replace(db: sa.Connection, number: int) -> list[str]:
    told = f"Replaced: #{number} of this connector is newer."
    return [
        run_id
        for other in _others(db, number, _WAITING)
        for run_id in _give_way(db, other.number, JobState.REPLACED, told, number)
    ]


def _give_way(db: sa.Connection, number: int, state: JobState, told: str, other: int) -> list[str]:
    open_runs = sa.select(ATTEMPTS.c.run_id).where(
        ATTEMPTS.c.number == number, ATTEMPTS.c.ended_at.is_(None), ATTEMPTS.c.run_id.is_not(None)
    )
    run_ids = list(db.execute(open_runs).scalars())
    moves.write_lines(db, number, [LogLine.of(Level.WARNING, told)])
    if finish(db, number, Ending(wanted=state)) is None:
        return []
    moves.update(db, number, message=told, replaced_by=other)
    return run_ids
