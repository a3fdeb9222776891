"""What was recorded about job runs, read by plain SQL: importing SQLAlchemy would cost a second of CPU."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.log import Level, LogLine
from aiia_pipelines.jobs.retry import RetryPolicy, most_attempts
from aiia_pipelines.jobs.run import REFRESHES, JobType
from aiia_pipelines.jobs.standing import Queue, daemon_seconds, queue_of
from aiia_pipelines.jobs.state import FINAL, JobState, family
from aiia_pipelines.jobs.waiting import (
    DAEMON_SECONDS,
    WAITING,
    Limits,
    Waiting,
    limits_once,
    reason_of,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection

__all__ = [
    "HEARTBEAT_SECONDS", "STATUSES", "USER_TYPES", "Filter", "RunRow", "UnknownJob", "connect",
    "daemon_seconds", "list_runs", "log_lines", "rows", "run",
]  # fmt: skip

HEARTBEAT_SECONDS = DAEMON_SECONDS
# What people start; any other type is the system's own and left out of lists unless asked for.
USER_TYPES = (
    JobType.SYNC.value,
    JobType.DRY_RUN.value,
    JobType.CONNECTION_TEST.value,
    "schema_discovery",
    "freshness_check",
    "metric_capture",
    "tag_generation",
    "lineage_extraction",
    "intelligence_analysis",
    "index",
)
_BROKEN = frozenset({JobState.FAILED, JobState.ERROR, JobState.PARTIALLY_SUCCEEDED})
_WAITING = frozenset({JobState.SCHEDULED, JobState.PENDING, JobState.PREPARING, JobState.PAUSED})

# The words that lists are filtered by; Failed as a filter holds everything that went wrong.
STATUSES: dict[str, frozenset[JobState]] = {
    "active": _WAITING | {JobState.RUNNING},
    "pending": _WAITING,
    "running": frozenset({JobState.RUNNING}),
    "completed": frozenset({JobState.COMPLETED}),
    "failed": _BROKEN,
    "error": frozenset({JobState.ERROR, JobState.PARTIALLY_SUCCEEDED}),
    "cancelled": frozenset({JobState.CANCELLED, JobState.REPLACED}),
    "scheduled": frozenset({JobState.SCHEDULED}),
    "preparing": frozenset({JobState.PREPARING}),
    "paused": frozenset({JobState.PAUSED}),
    "partially_succeeded": frozenset({JobState.PARTIALLY_SUCCEEDED}),
    "replaced": frozenset({JobState.REPLACED}),
}


class UnknownJob(LookupError):
    """No job run bears this number."""

    def __init__(self, number: int) -> None:
        """Name the number."""
        super().__init__(f"There is no job run #{number}.")
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which job runs to list; what is left empty does not restrict."""

    states: frozenset[JobState] = frozenset()
    connectors: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    since: datetime | None = None
    text: str = ""
    needs_attention: bool = False
    system: bool = False
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A job run as lists show it."""

    number: int
    type: str
    connector: str
    title: str
    streams: tuple[str, ...]
    state: JobState
    trigger: str
    triggered_by: str
    retry_of: int | None
    priority: str
    activity: str
    step: str
    records: int
    records_total: int | None
    bytes: int
    bytes_written: int
    cpu_seconds: float
    peak_memory_bytes: int
    message: str
    failure_code: str | None
    failure_place: str
    cancel_by: str | None
    cancel_reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    heartbeat_seconds: float | None
    due_at: datetime | None = None
    expires_at: datetime | None = None
    held_by: str | None = None
    # How many there were, this one included, and how many there may be; None when only time limits them.
    attempt: int = 0
    attempts_most: int | None = None
    full_read: bool = False
    # Why it waits, and its place among those that wait for the same, from 1.
    waits: str = ""
    place: int | None = None

    @property
    def badge(self) -> Badge:
        """The badge family of the state."""
        return family(self.state)

    @property
    def progress(self) -> float | None:
        """The part that is done, from 0 to 1; None when it cannot be told."""
        if self.state is JobState.COMPLETED:
            return 1.0
        if not self.records_total or self.state in FINAL:
            return None
        return min(1.0, self.records / self.records_total)


_BUSY = (
    "(select o.number from aiia.job_runs o where o.connector = r.connector and o.number <> r.number"
    " and o.state in ('Preparing', 'Running') and o.type in ('sync', 'dry_run') order by o.number limit 1)"
)
# `--needs-attention`: what went wrong and was not made good by a later run of the same kind; what a dry run
# tried is made good by a sync as well.
# Asked as `not exists`, PostgreSQL reads the whole history; so it takes what went wrong, and looks for each.
_ATTENTION = (
    "r.number = any(array(select b.number from aiia.job_runs b where b.state in ('Failed', 'Error', 'Partially Succeeded')"
    " and coalesce((select false from aiia.job_runs o where o.connector = b.connector"
    " and (o.type = b.type or (b.type = 'dry_run' and o.type = 'sync'))"
    " and o.number > b.number and o.state = 'Completed' limit 1), true)))"
)
# One that was paused, or was over before it began because it was not due, used nothing up.
_TRIED = "a.failure_code is not null or coalesce(a.outcome, '') not in ('Scheduled', 'Paused')"
_RUN = f"""
select r.number, r.type, r.full_read, r.connector, r.title, r.streams, r.state, r.trigger, r.triggered_by,
    r.retry_of, r.priority, r.activity,
    coalesce((select t.step from aiia.tasks t where t.number = r.number and t.step <> ''
        order by t.failure_code is null, t.ended_at limit 1), '') as step,
    r.records, r.records_total, r.bytes, r.bytes_written, r.cpu_seconds, r.peak_memory as peak_memory_bytes,
    r.message, r.failure_code, r.failure_place, r.cancel_by, r.cancel_reason,
    r.created_at, r.started_at, r.ended_at,
    extract(epoch from coalesce(r.ended_at, clock_timestamp()) - r.started_at)::float8
        as duration_seconds,
    extract(epoch from clock_timestamp() - tried.heartbeat_at)::float8 as heartbeat_seconds,
    r.due_at, r.expires_at, r.held_by, r.held_reason, tried.attempt, tried.run_id, tried.last_failure,
    r.config -> 'retry' as retry, coalesce(r.config -> 'window', 'null') <> 'null' as has_window,
    coalesce(r.config ->> 'timezone', 'UTC') as timezone,
    case when r.state = 'Pending' then {_BUSY} end as busy,
    extract(epoch from clock_timestamp() - coalesce(tried.created_at, r.created_at))::float8 as age,
    to_regclass('public.daemon_heartbeats') is not null as has_daemon,
    to_regclass('public.runs') is not null as has_queue
from aiia.job_runs r, lateral (
    select count(*) filter (where {_TRIED}) as attempt, max(a.created_at) as created_at,
        (array_agg(a.run_id order by a.attempt desc))[1] as run_id,
        (array_agg(a.failure_code order by a.attempt desc))[1] as last_failure,
        max(a.heartbeat_at) filter (where a.ended_at is null) as heartbeat_at
    from aiia.attempts a where a.number = r.number) tried
"""
# What of a row is no part of what lists show, but tells why a job run waits.
_ASIDE = (
    "held_reason", "run_id", "last_failure", "retry", "has_window", "timezone", "busy", "age",
    "has_daemon", "has_queue",
)  # fmt: skip


def connect(url: str) -> "connection":
    """Open a session that only reads; a password stands in PGPASSFILE.

    Raises:
        psycopg2.OperationalError: The database cannot be reached.
    """
    import psycopg2  # noqa: PLC0415 - whoever only needs the words of this module does without it

    db = psycopg2.connect(
        url.replace("postgresql+psycopg2://", "postgresql://", 1),
        connect_timeout=10,
        application_name="aiia",
    )
    db.set_session(readonly=True, autocommit=True)
    return db


def rows(db: "connection", query: str, values: Sequence[object] = ()) -> Iterator[dict[str, Any]]:
    """Run a query and give its rows by column name."""
    with db.cursor() as cursor:
        cursor.execute(query, tuple(values))
        names = [column.name for column in cursor.description or ()]
        for row in cursor.fetchall():
            yield dict(zip(names, row, strict=True))


def list_runs(
    db: "connection", wanted: Filter, *, limits_file: Path | None = None, zone: str = "UTC"
) -> list[RunRow]:
    """List job runs, newest first; the next page begins `before` the last number of this one.

    What waits says why: by the limits of `limits_file`, which is dagster.yaml, and with times of `zone`.
    """
    conditions, values = _conditions(wanted)
    where = f"where {' and '.join(conditions)} " if conditions else ""
    query = f"{_RUN}{where}order by r.number desc limit %s"
    return _runs(db, list(rows(db, query, [*values, wanted.limit])), limits_file, zone)


def run(
    db: "connection", number: int, *, limits_file: Path | None = None, zone: str = "UTC"
) -> RunRow:
    """Read one job run.

    Raises:
        UnknownJob: There is none of this number.
    """
    found = list(rows(db, f"{_RUN} where r.number = %s", [number]))
    if not found:
        raise UnknownJob(number)
    return _runs(db, found, limits_file, zone)[0]


def log_lines(
    db: "connection",
    number: int,
    *,
    after_id: int = 0,
    min_level: Level = Level.DEBUG,
    grep: str = "",
    tail: int | None = None,
) -> list[tuple[int, LogLine]]:
    """Read log lines in order, with their ids; `tail` keeps the last ones only.

    Raises:
        psycopg2.errors.InvalidRegularExpression: `grep` is none.
    """
    condition = "number = %s and id > %s and level >= %s"
    values: list[object] = [number, after_id, int(min_level)]
    if grep:
        condition += " and concat_ws(E'\\n', message, array_to_string(detail, E'\\n')) ~ %s"
        values.append(grep)
    query = f"select id, at, level, message, detail from aiia.log_lines where {condition}"
    query += " order by id desc"
    if tail is not None:
        query += " limit %s"
        values.append(tail)
    found = [
        (row["id"], LogLine(row["at"], Level(row["level"]), row["message"], tuple(row["detail"])))
        for row in rows(db, query, values)
    ]
    return found[::-1]


def _conditions(wanted: Filter) -> tuple[list[str], list[object]]:
    found: list[tuple[str, object]] = []
    if wanted.states:
        found.append(("r.state = any(%s)", sorted(wanted.states)))
    for column, names in _named(wanted):
        found.append((f"r.{column} = any(%s)", list(names)))
    if not wanted.system and not wanted.types:
        found.append(("r.type = any(%s)", list(USER_TYPES)))
    if wanted.since:
        found.append(("r.created_at >= %s", wanted.since))
    if wanted.before:
        found.append(("r.number < %s", wanted.before))
    if wanted.text:
        likeness = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        columns = "concat_ws(' ', '#' || r.number, r.connector, r.title, r.message)"
        found.append((f"{columns} ilike %s", f"%{likeness}%"))
    conditions = [condition for condition, _ in found]
    return conditions + [_ATTENTION] * wanted.needs_attention, [value for _, value in found]


def _named(wanted: Filter) -> Iterable[tuple[str, tuple[str, ...]]]:
    pairs = (
        ("connector", wanted.connectors),
        ("type", wanted.types),
        ("trigger", wanted.triggers),
    )
    return ((column, names) for column, names in pairs if names)


def _runs(
    db: "connection", found: list[dict[str, Any]], limits_file: Path | None, zone: str
) -> list[RunRow]:
    queue = _queue(db, [row for row in found if row["state"] in WAITING])
    limits = limits_once(limits_file, os.environ)
    return [_run(row, queue, limits, zone) for row in found]


def _queue(db: "connection", waiting: Sequence[dict[str, Any]]) -> Queue:
    """Read what only Dagster's tables tell, with one query, and only when somebody waits."""
    if not waiting or not waiting[0]["has_daemon"]:
        return Queue()
    if not waiting[0]["has_queue"]:
        return Queue(daemon_seconds(db))
    pending = (row["run_id"] for row in waiting if row["state"] == JobState.PENDING)
    return queue_of(db, [run_id for run_id in pending if run_id])


def _run(row: dict[str, Any], queue: Queue, limits: Callable[[], Limits], zone: str) -> RunRow:
    aside = {name: row.pop(name) for name in _ASIDE}
    row |= {"state": JobState(row["state"]), "streams": tuple(row["streams"])}
    policy = RetryPolicy.of({"retry": aside["retry"]})
    row["attempts_most"] = most_attempts(policy, rhythm=aside["has_window"])
    if row["state"] in WAITING:
        waiting = _waiting(row, aside, queue)
        known = limits() if waiting.standing else Limits()
        reason = reason_of(waiting, known, datetime.now(UTC), zone)
        row |= {"waits": reason.sentence, "place": reason.place}
    return RunRow(**row)


def _waiting(row: dict[str, Any], aside: dict[str, Any], queue: Queue) -> Waiting:
    return Waiting(
        state=row["state"],
        connector=row["connector"],
        test=row["type"] not in REFRESHES,
        age=aside["age"],
        busy=aside["busy"],
        daemon=queue.daemon,
        standing=queue.standings.get(aside["run_id"]),
        due_at=row["due_at"],
        held_by=row["held_by"],
        held_reason=aside["held_reason"],
        has_window=aside["has_window"],
        timezone=aside["timezone"],
        attempt=row["attempt"],
        attempts_most=row["attempts_most"],
        failure_code=aside["last_failure"],
    )
