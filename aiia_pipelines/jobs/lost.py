"""Job runs whose process is gone: nobody but an onlooker can end them."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS

# A process writes every second; this long without a word, it is not slow but gone.
SILENCE = 30.0  # seconds
_WORKING = (JobState.PREPARING, JobState.RUNNING)


class WorkerLost(Exception):
    """The process of a job run is gone."""

    signals = ("worker:lost",)


@dataclass(frozen=True, slots=True)
class Lost:
    """A job run that its process left behind."""

    number: int
    run_id: str | None
    reason: str


def find_lost(store: JobStore, silence: float = SILENCE) -> list[Lost]:
    """List running job runs whose process on this machine is gone, or that said nothing for `silence` seconds."""
    # While the database was away nobody could write: silence counts from its start at the earliest.
    heard = sa.func.greatest(ATTEMPTS.c.heartbeat_at, sa.func.pg_postmaster_start_time())
    age = sa.func.extract("epoch", sa.func.clock_timestamp() - heard)
    query = (
        sa.select(
            JOB_RUNS.c.number, ATTEMPTS.c.run_id, ATTEMPTS.c.host, ATTEMPTS.c.pid, age.label("age")
        )
        .join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number)
        .where(
            JOB_RUNS.c.state.in_(_WORKING),
            ATTEMPTS.c.ended_at.is_(None),
            ATTEMPTS.c.heartbeat_at.is_not(None),
        )
    )
    with store.engine.connect() as db:
        rows = db.execute(query).all()
    return [
        Lost(row.number, row.run_id, reason)
        for row in rows
        if (reason := _reason(row.host, row.pid, float(row.age), silence))
    ]


def end_lost(store: JobStore, lost: Lost) -> bool:
    """End a lost job run as Failed; False when it ended by itself meanwhile."""
    failure: Failure = classify(WorkerLost(f"Worker lost. {lost.reason}"))
    return store.finish(lost.number, JobState.FAILED, failure=failure) is not None


def _reason(host: str, pid: int, age: float, silence: float) -> str:
    # A short grace: the process may just be writing its last words.
    if host == socket.gethostname() and age > 3 and not _alive(pid):
        return f"Process {pid} on {host} ended without a word."
    if age > silence:
        return f"Process {pid} on {host} has been silent for {age:.0f} seconds."
    return ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        # Gone meanwhile, or a system without /proc: the next look, or its silence, decides.
        return True
    # A killed process whose parent has not looked yet is still listed, as a zombie.
    return stat.rpartition(")")[2].split()[0] != "Z"
