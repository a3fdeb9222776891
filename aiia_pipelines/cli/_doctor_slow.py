"""`aiia doctor`, third guide: where the time goes, and what will soon be too little."""

import os
from collections.abc import Iterator
from statistics import median
from typing import Any

from aiia_pipelines.cli._doctor_finding import Finding, Scene, ago, size, some, warning
from aiia_pipelines.config.settings import destination_urls
from aiia_pipelines.jobs.history import connect, rows

_EARLIER = 20  # completed runs that the last one is compared with
_FEWEST = 3  # of them, lest chance be taken for a rule
_LEAST_SECONDS = 30.0
_TIMES = 2.0
_NEAR = 0.8  # of a limit
_DEAD_SHARE = 0.2
_FEWEST_DEAD = 10_000
_LARGE_BYTES = 5 << 30

_REMEDIES = {
    "waiting": "Look who holds the slot with `aiia doctor --guide not-starting`, or spread the schedules.",
    "prepare": "Look at the machine of this worker: CPU, memory, and the network to both databases.",
    "connect": "Look at the network to the source, and at its name server: `aiia test {connector}`.",
    "extract": "Run the query at the source with EXPLAIN; an index on the cursor, fewer columns or a"
    " partition help.",
    "parse": "Look at the CPU of this worker, and for columns that became larger.",
    "validate": "Look at the CPU of this worker, and for checks that were added.",
    "match": "Look for locks and missing statistics at the destination; analyze the table.",
    "reconcile": "Take a lower level of `reconcile`, or look at the load of the destination.",
    "commit": "Look for locks and indexes on the destination's table: readers may hold it.",
    "clean_up": "Look for locks at the destination.",
}

_STEP_TIMES = """
with runs as (
  select r.number, r.connector, extract(epoch from r.started_at - r.created_at)::float8 as waited,
    row_number() over (partition by r.connector order by r.number desc) as place
  from aiia.job_runs r
  where r.type = 'sync' and r.state = 'Completed' and r.started_at is not null
    and (%s::text[] is null or r.connector = any(%s))
)
select number, connector, place, 'waiting' as step, waited as seconds from runs where place <= %s
union all
select r.number, r.connector, r.place, s.step, sum(s.busy_seconds)::float8 from runs r
  join aiia.steps s using (number) where r.place <= %s group by 1, 2, 3, 4
order by connector, place, step
"""


def examine(scene: Scene) -> Iterator[Finding]:
    """Compare the last runs with those before, and look at what fills up."""
    yield from _steps(scene)
    yield _memory(scene)
    yield from _connections(scene)
    yield _dead_rows(scene)
    yield _sizes(scene)


def _steps(scene: Scene) -> Iterator[Finding]:
    names = sorted(scene.names) if scene.names is not None else None
    most = _EARLIER + 1
    times: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows(scene.db, _STEP_TIMES, [names, names, most, most]):
        times.setdefault(row["connector"], {}).setdefault(row["step"], []).append(row)
    compared, slow = 0, []
    for connector, steps in times.items():
        if len(steps["waiting"]) <= _FEWEST:
            continue
        compared += 1
        slow += [
            found for step, runs in steps.items() if (found := _slow_step(connector, step, runs))
        ]
    if slow:
        yield from slow
    elif compared:
        yield Finding("steps", note=f"none took twice its usual time ({compared} connectors)")
    else:
        yield Finding("steps", note=f"nothing to compare before {_FEWEST + 1} completed syncs")


def _slow_step(connector: str, step: str, runs: list[dict[str, Any]]) -> Finding | None:
    last, *earlier = runs
    usual = median(row["seconds"] for row in earlier) if earlier else last["seconds"]
    if last["seconds"] <= max(_LEAST_SECONDS, _TIMES * usual):
        return None
    note = f"{step} took {ago(last['seconds'])} in #{last['number']}, usually {ago(usual)}"
    remedy = _REMEDIES.get(step, "Look at its log: `aiia jobs logs NUMBER`.")
    return warning(f"steps of {connector}", note, remedy.format(connector=connector))


def _memory(scene: Scene) -> Finding:
    """Compare the most that the last runs held with what their control groups may hold."""
    check = "memory"
    query = (
        "select distinct on (r.connector) r.number, r.connector, r.peak_memory as peak,"
        " (a.traces ->> 'memory_limit')::bigint as most"
        " from aiia.job_runs r join aiia.attempts a using (number)"
        " where r.type = 'sync' and r.ended_at is not null and r.peak_memory > 0"
        " order by r.connector, r.number desc, a.attempt desc"
    )
    found = [row for row in rows(scene.db, query) if scene.wants(row["connector"])]
    near = [row for row in found if row["most"] and row["peak"] >= _NEAR * row["most"]]
    if near:
        row = near[0]
        note = (
            f"#{row['number']} {row['connector']} held {size(row['peak'])}"
            f" of {size(row['most'])} that its worker may hold"
        )
        remedy = "Set a lower batch_rows, narrow the query, or give the worker more memory."
        return warning(check, note, remedy)
    if not found:
        return Finding(check, note="nothing has run yet")
    largest = max(found, key=lambda row: row["peak"])
    return Finding(check, note=f"at most {size(largest['peak'])}, by {largest['connector']}")


def _connections(scene: Scene) -> Iterator[Finding]:
    """Count the sessions of the database of the history, and of each PostgreSQL that rows go to."""
    from psycopg2 import Error

    yield _sessions("connections of the job history", scene.db)
    for name, url in sorted(destination_urls(os.environ).items()):
        if not url.startswith("postgresql"):
            continue
        check = f"connections of {name}"
        try:
            db = connect(url)
        except Error:
            continue  # the guide before this one tells why
        try:
            yield _sessions(check, db)
        finally:
            db.close()


def _sessions(check: str, db: Any) -> Finding:  # noqa: ANN401 - psycopg2 is not imported here
    query = (
        "select (select count(*) from pg_stat_activity where backend_type = 'client backend') as used,"
        " current_setting('max_connections')::int as most"
    )
    found = next(rows(db, query))
    note = f"{found['used']} of {found['most']}"
    if found["used"] < _NEAR * found["most"]:
        return Finding(check, note=note)
    remedy = "End sessions that nobody uses, or raise max_connections there."
    return warning(check, note, remedy)


def _dead_rows(scene: Scene) -> Finding:
    check = "dead rows"
    query = (
        "select schemaname || '.' || relname as name, n_dead_tup as dead, n_live_tup as live"
        " from pg_stat_user_tables where schemaname in ('aiia', 'public')"
        " and n_dead_tup >= %s and n_dead_tup > %s * (n_live_tup + n_dead_tup)"
        " order by n_dead_tup desc"
    )
    found = list(rows(scene.db, query, [_FEWEST_DEAD, _DEAD_SHARE]))
    if not found:
        return Finding(check, note="few in the tables of the job history")
    names = some(
        [f"{row['name']} ({row['dead']:,} of {row['dead'] + row['live']:,})" for row in found]
    )
    return warning(check, names, f"Run `vacuum (analyze) {found[0]['name']}` in the database.")


def _sizes(scene: Scene) -> Finding:
    check = "size of the logs"
    query = (
        "select name, pg_total_relation_size(to_regclass(name)) as size"
        " from unnest(array['aiia.log_lines', 'public.event_logs']) as name"
        " where to_regclass(name) is not null order by size desc"
    )
    found = list(rows(scene.db, query))
    note = ", ".join(f"{row['name']} {size(row['size'])}" for row in found)
    if all(row["size"] < _LARGE_BYTES for row in found):
        return Finding(check, note=note)
    remedy = "Delete old job runs, and old runs in Dagster: pages and queries read these tables."
    return warning(check, note, remedy)
