"""Job runs whose process is gone: nobody but an onlooker can end them, and say why from what is left."""

import os
import signal
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aiia_pipelines.jobs import traces
from aiia_pipelines.jobs.failures import Failure, classify
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.tables import ATTEMPTS, JOB_RUNS
from aiia_pipelines.jobs.traces import Traces

# A process writes every second; this long without a word, it is not slow but gone.
SILENCE = 30.0  # seconds
_GRACE = 3.0  # seconds: the process may just be writing its last words
_WORKING = (JobState.PREPARING, JobState.RUNNING)


class WorkerLost(Exception):
    """The process of a job run is gone, and nothing says that the kernel wanted its memory."""

    signals = ("worker:lost",)


class OutOfMemory(Exception):
    """The kernel ended the process of a job run for want of memory."""

    signals = ("memory:oom-kill",)


Death = WorkerLost | OutOfMemory


@dataclass(frozen=True, slots=True)
class Lost:
    """A job run that its process left behind."""

    number: int
    run_id: str | None
    death: Death
    attempt: int | None = None

    @property
    def reason(self) -> str:
        """What became of the process, as one sentence."""
        return str(self.death)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the store knows of a process; `age` is how long ago it gave a sign of life, in seconds."""

    number: int
    run_id: str | None
    host: str
    pid: int
    age: float
    oom_kills: int | None
    peak_memory: int
    traces: Traces
    attempt: int

    @property
    def who(self) -> str:
        """The process as people look for it."""
        return f"process {self.pid} on {self.host}"

    @property
    def is_of_this_kernel(self) -> bool:
        """Whether what the kernel tells here is about the machine of the process, in this start of it."""
        boot = self.traces.boot_id
        return self.host == socket.gethostname() and boot in (None, traces.boot_id())

    @property
    def is_visible(self) -> bool:
        """Whether the number of the process means the same here as there."""
        namespace = self.traces.pid_namespace
        return self.is_of_this_kernel and namespace in (None, traces.pid_namespace())


def find_lost(store: JobStore, silence: float = SILENCE) -> list[Lost]:
    """List running job runs whose process on this machine is gone, or that said nothing for `silence` seconds."""
    working = (JOB_RUNS.c.state.in_(_WORKING), ATTEMPTS.c.heartbeat_at.is_not(None))
    found = ((each, _fate(each, silence)) for each in _attempts(store, *working))
    return [
        Lost(each.number, each.run_id, death, each.attempt)
        for each, death in found
        if death is not None
    ]


def end_lost(store: JobStore, lost: Lost) -> bool:
    """End a lost job run as Failed; False when it ended by itself meanwhile."""
    failure: Failure = classify(lost.death)
    return (
        store.finish(lost.number, JobState.FAILED, failure=failure, attempt=lost.attempt)
        is not None
    )


def unheard(store: JobStore, run_ids: Collection[str]) -> set[str]:
    """Tell which of these Dagster runs have work before them and never gave a sign of life."""
    query = (
        sa.select(ATTEMPTS.c.run_id)
        .where(ATTEMPTS.c.run_id.in_(run_ids))
        .group_by(ATTEMPTS.c.run_id)
        # A run of several connectors comes to one after the other: a sign from any of them is its own.
        .having(sa.func.count(ATTEMPTS.c.heartbeat_at) == 0)
        .having(sa.func.bool_or(ATTEMPTS.c.ended_at.is_(None)))
    )
    with store.engine.connect() as db:
        return set(db.execute(query).scalars())


def seconds_up(store: JobStore) -> float:
    """Give the seconds since the database of the job history was started."""
    up = sa.func.clock_timestamp() - sa.func.pg_postmaster_start_time()
    with store.engine.connect() as db:
        return float(db.execute(sa.select(sa.func.extract("epoch", up))).scalar_one())


def death_of(store: JobStore, number: int, how: str = "") -> Death:
    """Explain the death of a process that somebody else has seen to be gone; `how` is what they saw."""
    for each in _attempts(store, JOB_RUNS.c.number == number, ATTEMPTS.c.pid.is_not(None)):
        return _death(each, how or f"ended without a word{_last_signal(each)}")
    # It ended before it could say that it works on this job run.
    return WorkerLost(f"Worker lost. The process of this run {how or 'ended without a word'}.")


def _attempts(store: JobStore, *wanted: sa.ColumnElement[bool]) -> list[_Attempt]:
    # While the database was away nobody could write: silence counts from its start at the earliest.
    heard = sa.func.greatest(ATTEMPTS.c.heartbeat_at, sa.func.pg_postmaster_start_time())
    age = sa.func.extract("epoch", sa.func.clock_timestamp() - heard).label("age")
    query = (
        sa.select(ATTEMPTS, age)
        .select_from(JOB_RUNS.join(ATTEMPTS, ATTEMPTS.c.number == JOB_RUNS.c.number))
        .where(ATTEMPTS.c.ended_at.is_(None), *wanted)
    )
    with store.engine.connect() as db:
        return [_attempt(row) for row in db.execute(query)]


def _attempt(row: sa.Row[Any]) -> _Attempt:
    return _Attempt(
        row.number, row.run_id, row.host, row.pid, float(row.age), row.oom_kills, row.peak_memory,
        Traces.load(row.traces), row.attempt,
    )  # fmt: skip


def _fate(attempt: _Attempt, silence: float) -> Death | None:
    """Say what became of a process; None while it may be at work."""
    if attempt.is_visible and attempt.age > _GRACE and not _alive(attempt):
        return _death(attempt, f"ended without a word{_last_signal(attempt)}")
    if attempt.age > silence:
        return _death(attempt, f"has been silent for {attempt.age:.0f} seconds")
    return None


def _alive(attempt: _Attempt) -> bool:
    if _is_another(attempt):
        return False
    try:
        os.kill(attempt.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed process whose parent has not looked yet is still listed, as a zombie.
    return traces.state(attempt.pid) != "Z"


def _last_signal(attempt: _Attempt) -> str:
    number = traces.signal_of_zombie(attempt.pid) if attempt.is_visible else 0
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _death(attempt: _Attempt, how: str) -> Death:
    killed = _killed_for_memory(attempt)
    if killed:
        return OutOfMemory(f"Out of memory. {killed}")
    circumstance = _circumstance(attempt)
    return WorkerLost(f"Worker lost. P{attempt.who[1:]} {how}{circumstance}.")


def _killed_for_memory(attempt: _Attempt) -> str:
    """Say that the kernel ended a process, if its control group counted one since the last sign of life."""
    if not attempt.is_of_this_kernel or (attempt.is_visible and _alive(attempt)):
        return ""
    group = _own_group(attempt.traces)
    now = traces.oom_kills(group) if group is not None else None
    if now is None or attempt.oom_kills is None or now <= attempt.oom_kills:
        return ""
    limit = attempt.traces.memory_limit
    whose = f"its control group may hold {_size(limit)}" if limit else "the machine had no more"
    return f"The kernel killed {attempt.who}: {whose}, it last held {_size(attempt.peak_memory)}."


def _own_group(known: Traces) -> Path | None:
    """Give the control group of a process while it is the same that it was."""
    group = Path(known.cgroup) if known.cgroup else None
    return group if group is not None and traces.inode(group) == known.cgroup_inode else None


def _circumstance(attempt: _Attempt) -> str:
    """Say what else is known about a process that was lost."""
    if attempt.host != socket.gethostname():
        return ""
    if not attempt.is_of_this_kernel:
        return "; the machine was started anew"
    if attempt.traces.cgroup and _own_group(attempt.traces) is None:
        return "; its control group is gone, as after a restart of the container"
    if attempt.is_visible and _is_another(attempt):
        return "; its number belongs to another process now"
    stopped = attempt.is_visible and traces.state(attempt.pid) in {"T", "t"}
    return "; it is stopped, as by SIGSTOP" if stopped else ""


def _is_another(attempt: _Attempt) -> bool:
    """Tell whether the process that bears the number now began at another time."""
    began, now = attempt.traces.started_at, traces.started_at(attempt.pid)
    return None not in (began, now) and began != now


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
