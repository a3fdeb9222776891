"""Everything recorded about one job run: its attempts, tasks, steps and reconciled figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiia_pipelines.jobs.badge import BADGES
from aiia_pipelines.jobs.failures import CATALOGUE, Failure
from aiia_pipelines.jobs.families import concerned
from aiia_pipelines.jobs.history import RunRow, rows, run
from aiia_pipelines.jobs.slowest import Slow, slowest
from aiia_pipelines.jobs.state import FINAL

if TYPE_CHECKING:
    from psycopg2.extensions import connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A phase of a task; steps overlap in time, `busy_seconds` is the work."""

    step: str
    state: str
    records: int
    busy_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    bytes_read: int
    bytes_written: int
    started_at: datetime | None
    skipped_at: datetime | None
    completed_at: datetime | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """How many figures of a stream were compared, and those that differ."""

    figures: int
    agree: int
    differences: tuple[dict[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The part of a job run that deals with one stream."""

    stream: str
    state: str
    step: str
    records: int
    inserted: int | None
    updated: int | None
    unchanged: int | None
    deleted: int | None
    rejected: int | None
    adjusted: int | None
    cpu_seconds: float
    peak_memory_bytes: int
    bytes_read: int
    bytes_written: int
    failure_code: str | None
    message: str
    started_at: datetime | None
    ended_at: datetime | None
    steps: tuple[Step, ...]
    reconciliation: Reconciled


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One Dagster run, or one process, that worked on a job run."""

    attempt: int
    run_id: str | None
    host: str | None
    pid: int | None
    heartbeat_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What a badge and a failure ask of the reader."""

    meaning: str
    cause: str
    remedy: str
    verify: str
    docs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The failure of a job run, and the family of the server that it concerns."""

    failure: Failure
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A job run with all its parts; `retried_as` are the job runs that repeat it, `slowest` what took its time."""

    run: RunRow
    guidance: Guidance
    tasks: tuple[Task, ...]
    attempts: tuple[Attempt, ...]
    retried_as: tuple[int, ...]
    slowest: tuple[Slow, ...]


def show(
    db: "connection",
    number: int,
    destinations: Mapping[str, str] | None = None,
    *,
    limits_file: Path | None = None,
    zone: str = "UTC",
) -> Details:
    """Read one job run with its parts; `destinations` are the URLs known here, by name.

    One that waits says why, by the limits of `limits_file` and with times of `zone`.

    Raises:
        UnknownJob: There is none of this number.
    """
    found = run(db, number, limits_file=limits_file, zone=zone)
    attempts = rows(
        db,
        "select attempt, run_id, host, pid, heartbeat_at, started_at, ended_at, outcome,"
        " cpu_seconds, peak_memory as peak_memory_bytes from aiia.attempts where number = %s order by attempt",
        [number],
    )
    later = rows(db, "select number from aiia.job_runs where retry_of = %s order by 1", [number])
    tasks = _tasks(db, number)
    busy = ((task.stream, step.step, step.busy_seconds) for task in tasks for step in task.steps)
    return Details(
        run=found,
        guidance=guide(found, explained(db, found, destinations or {})),
        tasks=tasks,
        attempts=tuple(Attempt(**row) for row in attempts),
        retried_as=tuple(row["number"] for row in later),
        slowest=slowest(busy, found.duration_seconds),
    )


def explained(db: "connection", found: RunRow, destinations: Mapping[str, str]) -> Explained | None:
    """Return the failure of a job run; None when it has none that the catalogue knows."""
    kind = CATALOGUE.get(found.failure_code or "")
    if kind is None:
        return None
    query = "select config from aiia.job_runs where number = %s"
    config = next(rows(db, query, [found.number]))["config"]
    failure = Failure(kind, found.message, found.failure_place)
    return Explained(failure=failure, family=concerned(kind.origin, config, destinations))


def guide(found: RunRow, known: Explained | None) -> Guidance:
    """Say what a job run's state means and what to do about it."""
    facts = BADGES[found.badge]
    if known is None:
        action = facts.action if found.state in FINAL else found.waits or facts.action
        return Guidance(meaning=facts.meaning, cause=found.waits, remedy=action, verify="")
    failure = known.failure
    texts = failure.texts()
    return Guidance(
        meaning=facts.meaning,
        cause=texts.cause,
        remedy=texts.remedy,
        verify=failure.verify(family=known.family),
        docs=failure.kind.docs,
    )


def _tasks(db: "connection", number: int) -> tuple[Task, ...]:
    steps: dict[str, list[Step]] = {}
    query = (
        "select stream, step, state, records, busy_seconds, cpu_seconds,"
        " peak_memory as peak_memory_bytes, bytes_read, bytes_written,"
        " started_at, skipped_at, completed_at, note from aiia.steps where number = %s order by stream, position"
    )
    for row in rows(db, query, [number]):
        steps.setdefault(row.pop("stream"), []).append(Step(**row))
    figures = _figures(db, number)
    # The streams in the order of the connector's file.
    query = (
        "select t.stream, t.state, t.step, t.records, t.inserted, t.updated, t.unchanged,"
        " t.deleted, t.rejected, t.adjusted, t.cpu_seconds, t.bytes_read, t.bytes_written, t.failure_code, t.message, t.started_at, t.ended_at from aiia.tasks t"
        " join aiia.job_runs r using (number) where number = %s"
        " order by array_position(r.streams, t.stream), t.stream"
    )
    return tuple(
        Task(
            **row,
            peak_memory_bytes=max(
                (step.peak_memory_bytes for step in steps.get(row["stream"], ())), default=0
            ),
            steps=tuple(steps.get(row["stream"], ())),
            reconciliation=figures.get(row["stream"], _NOTHING),
        )
        for row in rows(db, query, [number])
    )


def _figures(db: "connection", number: int) -> dict[str, Reconciled]:
    query = (
        'select stream, "column", figure, source, destination, agrees from aiia.reconciliations'
        ' where number = %s order by stream, "column", figure'
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(db, query, [number]):
        found.setdefault(row.pop("stream"), []).append(row)
    return {
        stream: Reconciled(
            figures=len(figures),
            agree=sum(figure["agrees"] for figure in figures),
            differences=tuple(
                {key: value for key, value in figure.items() if key != "agrees"}
                for figure in figures
                if not figure["agrees"]
            ),
        )
        for stream, figures in found.items()
    }


_NOTHING = Reconciled(figures=0, agree=0, differences=())
