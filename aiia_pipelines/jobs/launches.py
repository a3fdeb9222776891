"""Who launches a Dagster run: one of all who would, and one decision at a time."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS

_DECISION = "aiia: which run is launched next"
# One thread of a process waits for the others in the database: many would take all its connections.
_TURN = threading.Lock()


def claim(store: JobStore, run_id: str) -> bool:
    """Take the launch of a run; False when another process has it, True for runs that are no job runs."""
    mine = (
        sa.update(ATTEMPTS)
        .where(ATTEMPTS.c.run_id == run_id, ATTEMPTS.c.launched_at.is_(None))
        .values(launched_at=sa.func.clock_timestamp())
    )
    known = sa.select(sa.func.count()).where(ATTEMPTS.c.run_id == run_id)
    return store.transact(
        lambda db: db.execute(mine).rowcount > 0 or not db.execute(known).scalar_one()
    )


def launched(store: JobStore, run_ids: Collection[str]) -> set[str]:
    """Tell which of these runs somebody has launched."""
    query = sa.select(ATTEMPTS.c.run_id).where(
        ATTEMPTS.c.run_id.in_(run_ids), ATTEMPTS.c.launched_at.is_not(None)
    )
    with store.engine.connect() as db:
        return set(db.execute(query).scalars())


def is_sealed(store: JobStore, run_id: str) -> bool:
    """Tell whether a job run of a Dagster run is just committing, and is not to be stopped any more."""
    query = (
        sa.select(sa.func.count())
        .select_from(JOB_RUNS.join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number))
        .where(
            ATTEMPTS.c.run_id == run_id,
            ATTEMPTS.c.ended_at.is_(None),
            JOB_RUNS.c.sealed_at.is_not(None),
            JOB_RUNS.c.cancel_by.is_(None),
        )
    )
    with store.engine.connect() as db:
        return bool(db.execute(query).scalar_one())


@contextmanager
def deciding(store: JobStore) -> Iterator[None]:
    """Let one process of the installation at a time decide which run is launched."""
    with _TURN, store.engine.begin() as db:
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(_DECISION))))
        yield
