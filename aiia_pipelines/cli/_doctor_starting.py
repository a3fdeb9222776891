"""`aiia doctor`, first guide: why job runs do not start."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from aiia_pipelines.cli import _doctor_dagster as dagster
from aiia_pipelines.cli._doctor_finding import Finding, Ground, Scene, ago, problem, some, warning
from aiia_pipelines.cli.exits import Exit
from aiia_pipelines.jobs.history import (
    HEARTBEAT_SECONDS,
    STATUSES,
    Filter,
    RunRow,
    daemon_seconds,
    list_runs,
    rows,
)
from aiia_pipelines.jobs.state import JobState
from aiia_pipelines.local.web import NoAnswer

_LATE = (
    120.0  # seconds after which a tick counts as missed: the daemon looks at least once a minute
)
_LONG = 600.0  # seconds that a job run may wait without a warning
_AT_ONCE = 5.0  # seconds in which a free worker takes a job run up
_AFTERMATH = 60.0  # seconds in which a run gives its slot back after its job run has ended
_BACKSTOP = "job_history"  # the sensor that ends what ended without a word
_UP = "Start it with `aiia up`: schedules and queued job runs wait for it."


def examine(scene: Scene) -> Iterator[Finding]:
    """Go through everything that must hold for a job run to start."""
    yield files(scene)
    yield _daemon(scene)
    yield _web_server(scene)
    if scene.url is not None:
        yield _code_location(scene, scene.url)
    yield _schedules(scene)
    yield _ticks(scene)
    yield _backstop(scene)
    yield _queue(scene)
    yield _stuck(scene)
    yield _paused(scene)


def files(ground: Ground) -> Finding:
    """Look for connector files that cannot be used."""
    check, folder = "connector files", ground.folder
    broken = [each for each in folder.broken if ground.wants(each.name)]
    if broken:
        remedy = "Run `aiia connectors validate` and correct the lines it names."
        return problem(check, str(broken[0].problems[0]), remedy, Exit.CONFIG)
    if not folder.names:
        remedy = "Make one: `aiia connectors new sql`."
        return warning(check, f"none in {ground.settings.connectors}", remedy)
    return Finding(check, note=f"{len(folder.connectors)} can be used")


def _daemon(scene: Scene) -> Finding:
    seconds = daemon_seconds(scene.db)
    if seconds is not None and seconds <= HEARTBEAT_SECONDS:
        return Finding("daemon", note=f"seen {seconds:.0f} s ago")
    note = "never seen" if seconds is None else f"not seen for {ago(seconds)}"
    return problem("daemon", note, _UP)


def _web_server(scene: Scene) -> Finding:
    check = "web server"
    if scene.url is not None:
        return Finding(check, note=f"answers at {scene.url}")
    note = f"none that `aiia up` started for {scene.settings.home} answers"
    remedy = "Run `aiia up`; where other services serve this database, ask there what is loaded."
    return warning(check, note, remedy)


def _code_location(scene: Scene, url: str) -> Finding:
    check = "code location"
    try:
        found = dagster.location(url)
    except NoAnswer as fault:
        return warning(check, f"not known: {fault}", "Look at the logs below the data folder.")
    logs = scene.settings.home / "logs" / "code.log"
    if found.error:
        return problem(check, f"it does not load: {found.error}", f"Read {logs}, mend it, restart.")
    there = {name for name in scene.folder.connectors if scene.wants(name)}
    new = sorted(there - found.connectors)
    if new:
        note = f"loaded before {some(new)} came"
        return problem(check, note, f"Reload it on {url}/locations, or restart `aiia up`.")
    return Finding(check, note=f"{len(found.connectors)} connectors are loaded")


def _scheduled(scene: Scene) -> dict[str, str]:
    """Give the connectors that have a schedule, with what it says."""
    return {
        name: f"{each.schedule} ({each.timezone})"
        for name, each in scene.folder.connectors.items()
        if each.schedule and scene.wants(name)
    }


def _schedules(scene: Scene) -> Finding:
    check, planned = "schedules", _scheduled(scene)
    off = [name for name in dagster.stopped(scene.db) if name in planned]
    if off:
        where = f"on {scene.url}/automation" if scene.url else "in Dagster"
        return warning(check, f"switched off: {some(off)}", f"Switch it on {where}.")
    if not planned:
        return Finding(check, note="none: syncs are started by hand")
    return Finding(check, note=f"{len(planned)} are on{_next(scene, planned)}")


def _next(scene: Scene, planned: dict[str, str]) -> str:
    """Say what is due next, as far as a web server tells."""
    if scene.url is None:
        return ""
    try:
        due = dagster.due_after(scene.url, dict.fromkeys(planned, time.time()))
    except NoAnswer:
        return ""
    if not due:
        return ""
    name = min(due, key=lambda each: due[each])
    at = datetime.fromtimestamp(due[name], UTC)
    return f"; next is {name} at {at:%Y-%m-%d %H:%M} UTC"


def _ticks(scene: Scene) -> Finding:
    check, planned = "ticks", _scheduled(scene)
    ticks = {tick.connector: tick for tick in dagster.last_ticks(scene.db)}
    failed = [each for name, each in ticks.items() if name in planned and each.status == "FAILURE"]
    if failed:
        note = f"the last one of {failed[0].connector} failed: {failed[0].error}"
        return problem(check, note, "Mend that, then restart `aiia up`.", Exit.FAILED)
    off = set(dagster.stopped(scene.db))
    moments = {name: ticks[name].at + 1 for name in planned if name in ticks and name not in off}
    if scene.url is None or not moments:
        return Finding(check, note="none failed")
    try:
        due = dagster.due_after(scene.url, moments)
    except NoAnswer as fault:
        return warning(check, f"not known: {fault}", "Look at the logs below the data folder.")
    late = {name: time.time() - at for name, at in due.items() if time.time() - at > _LATE}
    if late:
        name = max(late, key=lambda each: late[each])
        note = f"{name} was due {ago(late[name])} ago and did not tick"
        return problem(check, note, "Restart `aiia up`: the daemon does not look at schedules.")
    return Finding(check, note="none is missing")


def _backstop(scene: Scene) -> Finding:
    check = f"sensor {_BACKSTOP}"
    if _BACKSTOP in dagster.stopped(scene.db):
        remedy = "Switch it on in Dagster: it ends job runs whose worker is gone."
        return problem(check, "switched off", remedy)
    return Finding(check, note="not switched off")


def _queue(scene: Scene) -> Finding:
    check = "queue"
    for look in (_ghosts, _closed_pools, _crowd):
        found = look(scene, check)
        if found is not None:
            return found
    waiting = [run for run in _runs(scene, STATUSES["pending"]) if run.state is JobState.PENDING]
    if not waiting:
        return Finding(check, note="nobody waits")
    # The list has the newest first.
    eldest = waiting[-1]
    age = _age(eldest)
    reason = eldest.waits or "it has only just come"
    note = f"{len(waiting)} wait, #{eldest.number} for {ago(age)}: {reason}"
    if age <= _LONG:
        return Finding(check, note=note)
    return warning(check, note, f"Look at what it waits for: `aiia jobs show {eldest.number}`.")


def _ghosts(scene: Scene, check: str) -> Finding | None:
    """Find a Dagster run that still holds a slot although its job run has ended."""
    query = (
        "select r.run_id, max(j.number) as number, min(j.connector) as connector"
        " from public.runs r join aiia.attempts a on a.run_id = r.run_id"
        " join aiia.job_runs j on j.number = a.number"
        " where r.status in ('STARTING', 'STARTED', 'CANCELING')"
        " group by r.run_id having bool_and(j.ended_at < clock_timestamp() - make_interval(secs => %s))"
    )
    for row in _of_dagster(scene, "runs", query, [_AFTERMATH]):
        if scene.wants(row["connector"]):
            note = f"#{row['number']} has ended, but its Dagster run still holds {row['connector']}"
            remedy = (
                f"Terminate run {row['run_id']} in Dagster; the sensor {_BACKSTOP} should have."
            )
            return problem(check, note, remedy)
    return None


def _closed_pools(scene: Scene, check: str) -> Finding | None:
    query = (
        'select concurrency_key as pool from public.concurrency_limits where "limit" = 0 order by 1'
    )
    pools = [row["pool"] for row in _of_dagster(scene, "concurrency_limits", query)]
    closed = [pool for pool in pools if scene.wants(pool.removeprefix("connector_"))]
    if not closed:
        return None
    remedy = "Set its limit to 1 in Dagster, under Deployment, Concurrency."
    return problem(check, f"the pool {closed[0]} lets no run in", remedy)


def _crowd(scene: Scene, check: str) -> Finding | None:
    """Find that as many runs are at work as may be, while others wait."""
    query = (
        "select count(*) filter (where status = 'QUEUED') as queued,"
        " count(*) filter (where status in ('STARTING', 'STARTED', 'CANCELING')) as busy"
        " from public.runs where status in ('QUEUED', 'STARTING', 'STARTED', 'CANCELING')"
    )
    most = _most_runs(scene)
    for row in _of_dagster(scene, "runs", query):
        if most is not None and row["queued"] and row["busy"] >= most:
            note = f"{row['busy']} of {most} runs are at work, {row['queued']} wait for one to end"
            remedy = "Raise concurrency.runs.max_concurrent_runs in dagster.yaml, or wait."
            return warning(check, note, remedy)
    return None


def _most_runs(scene: Scene) -> int | None:
    """Read how many runs may be at work at once."""
    import yaml

    try:
        text = (scene.settings.project / "dagster.yaml").read_text(encoding="utf-8")
        found = yaml.safe_load(text)["concurrency"]["runs"]["max_concurrent_runs"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def _of_dagster(
    scene: Scene, table: str, query: str, values: list[object] | None = None
) -> list[dict[str, Any]]:
    return list(rows(scene.db, query, values or ())) if dagster.there(scene.db, table) else []


def _runs(scene: Scene, states: frozenset[JobState]) -> list[RunRow]:
    names = tuple(sorted(scene.names or ()))
    wanted = Filter(states=states, connectors=names, system=True, limit=1000)
    return list_runs(scene.db, wanted, limits_file=scene.settings.project / "dagster.yaml")


def _age(run: RunRow) -> float:
    return (datetime.now(UTC) - run.created_at).total_seconds()


def _stuck(scene: Scene) -> Finding:
    check = "stuck job runs"
    silent = [
        run
        for run in _runs(scene, STATUSES["running"] | STATUSES["preparing"])
        if run.heartbeat_seconds is not None and run.heartbeat_seconds > HEARTBEAT_SECONDS
    ]
    if not silent:
        return Finding(check, note="none")
    numbers = some([f"#{run.number}" for run in silent])
    note = f"{numbers} gave no sign of life for over {HEARTBEAT_SECONDS:.0f} s"
    remedy = f"Cancel it with `aiia jobs cancel {silent[0].number}`, then retry it."
    return problem(check, note, remedy)


def _paused(scene: Scene) -> Finding:
    check = "paused"
    held = _runs(scene, STATUSES["paused"])
    if not held:
        return Finding(check, note="none")
    numbers = some([f"#{run.number} {run.connector}" for run in held])
    remedy = f"Wait until its window opens, or stop it: `aiia jobs cancel {held[0].number}`."
    return warning(check, numbers, remedy)
