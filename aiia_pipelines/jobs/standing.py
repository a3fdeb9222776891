"""Where runs stand in Dagster's queue, read from its own tables by plain SQL in one query.

Dagster's rows, not ours, decide what starts next: they also hold runs that are no job runs, and end later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiia_pipelines.jobs.waiting import (
    CONNECTOR_TAG,
    DESTINATION_TAG,
    SOURCE_TAG,
    Line,
    Standing,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection

# Whether Dagster ever ran a daemon here, and how many seconds ago one gave its last sign of life. The column
# `timestamp` has no zone and follows the session's; the body holds seconds since 1970.
DAEMON_IS_KNOWN = "select to_regclass('public.daemon_heartbeats') is not null as there"
DAEMON_HEARD = (
    "select (extract(epoch from clock_timestamp())"
    " - max((body::json ->> 'timestamp')::float8))::float8 as daemon from public.daemon_heartbeats"
)
# The order is that of Dagster's queue: by priority, a word that is no number being 0, then as they came.
_QUEUE = f"""
with alive as materialized (
    select r.id, r.run_id, r.status = 'QUEUED' as waits, tags.*
    from public.runs r, lateral (
        select max(t.value) filter (where t.key = %s) as source,
            max(t.value) filter (where t.key = %s) as destination,
            max(t.value) filter (where t.key = %s) as connector,
            coalesce(max(t.value) filter (where t.key = 'dagster/priority'
                and t.value ~ '^[+-]?[0-9]{{1,9}}$')::int, 0) as priority
        from public.run_tags t where t.run_id = r.run_id) tags
    where r.status in ('QUEUED', 'STARTING', 'STARTED', 'CANCELING')
), placed as (
    select *,
        count(*) filter (where not waits) over () as active,
        count(*) filter (where not waits) over (partition by source) as source_active,
        count(*) filter (where not waits) over (partition by destination) as destination_active,
        row_number() over (order by waits desc, priority desc, id) as place,
        row_number() over (partition by source order by waits desc, priority desc, id) as source_place,
        row_number() over (partition by destination order by waits desc, priority desc, id)
            as destination_place
    from alive
)
select d.daemon, p.*, exists (select from public.concurrency_limits c
    where c.concurrency_key = 'connector_' || p.connector and c."limit" = 0) as held
from ({DAEMON_HEARD}) d left join placed p on p.waits and p.run_id = any(%s)
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """What Dagster's tables tell: seconds since the daemon's last sign of life, and standings by run id."""

    daemon: float | None = None
    standings: dict[str, Standing] = field(default_factory=dict)


def daemon_seconds(db: "connection") -> float | None:
    """Tell how long ago, in seconds, Dagster's daemon gave its last sign of life; None without one."""
    if not next(iter(_rows(db, DAEMON_IS_KNOWN, ())))["there"]:
        return None
    found: float | None = next(iter(_rows(db, DAEMON_HEARD, ())))["daemon"]
    return found


def queue_of(db: "connection", run_ids: Sequence[str]) -> Queue:
    """Read where the queued ones of these runs stand; Dagster's tables must be there."""
    keys = (SOURCE_TAG, DESTINATION_TAG, CONNECTOR_TAG)
    found = list(_rows(db, _QUEUE, (*keys, list(run_ids))))
    standings = {row["run_id"]: _standing(row) for row in found if row["run_id"] is not None}
    return Queue(found[0]["daemon"], standings)


def _rows(db: "connection", query: str, values: Sequence[object]) -> list[dict[str, Any]]:
    with db.cursor() as cursor:
        cursor.execute(query, tuple(values))
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _standing(row: dict[str, Any]) -> Standing:
    def line(name: str) -> Line | None:
        if row[name] is None:
            return None
        return Line(value=row[name], active=row[f"{name}_active"], place=row[f"{name}_place"])

    whole = Line(value="", active=row["active"], place=row["place"])
    return Standing(
        all=whole, source=line("source"), destination=line("destination"), held=row["held"]
    )
