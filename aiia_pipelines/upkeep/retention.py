"""What is kept of job runs for how long; the rest is removed in small steps, eldest first.

An installation keeps three things: what Dagster noted of each run (events, ticks), what job runs wrote to their log,
and the job runs themselves. Nothing of a run that has not ended is touched, however old it is.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import sqlalchemy as sa

from aiia_pipelines.config.settings import Settings
from aiia_pipelines.jobs.state import FINAL

MOST = 100_000  # runs that one stage removes; the next day goes on
_WITHIN = 300.0  # seconds
_AT_ONCE = 200  # runs whose rows one transaction removes
# What has become of assets is asked for by their pages and their freshness, long after the run.
_KEPT_EVENTS = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION")
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_GOING_ON = (
    "exists (select 1 from aiia.attempts a join aiia.job_runs j using (number)"
    " where a.run_id = r.run_id and j.state <> all(:final))"
)
_DISPENSABLE = "(e.dagster_event_type is null or e.dagster_event_type <> all(:kept))"
_OLD_EVENTS = f"""
select r.run_id from public.runs r
where r.status = any(:ended) and r.update_timestamp < now() - make_interval(days => :days) and not {_GOING_ON}
and exists (select 1 from public.event_logs e where e.run_id = r.run_id and {_DISPENSABLE})
order by r.id limit :most
"""
_OLD_TICKS = """
delete from public.job_ticks where id in (
  select t.id from public.job_ticks t
  where t.create_timestamp < now() - make_interval(days => :days)
  -- The last one of each schedule and sensor says up to when it was looked at.
  and exists (select 1 from public.job_ticks n where n.selector_id = t.selector_id and n.timestamp > t.timestamp)
  order by t.id limit :most
)
"""
_OLD_RUNS = """
select number from aiia.job_runs j
where j.state = any(:final) and j.ended_at < now() - make_interval(days => :days) {more}
order by number limit :most
"""
_HAS_LOG = "and exists (select 1 from aiia.log_lines l where l.number = j.number)"
# In this order, as the rows refer to each other.
_PARTS = ("reconciliations", "steps", "tasks", "log_lines", "attempts", "job_runs")
_PARTS_OF_DAGSTER = ("event_logs", "asset_check_executions", "run_tags", "runs")


def stages(
    engine: sa.Engine, settings: Settings, most: int = MOST
) -> Mapping[str, Callable[[], int]]:
    """List what there is to remove; each gives the number of runs or rows that it was removed from."""
    found: dict[str, tuple[int, Callable[[sa.Engine, int, int], int]]] = {
        "events of runs": (settings.keep_events_days, _events),
        "ticks": (settings.keep_events_days, _ticks),
        "logs of job runs": (settings.keep_logs_days, _logs),
        "job runs": (settings.keep_runs_days, _job_runs),
    }
    return {
        name: partial(remove, engine, days, most) for name, (days, remove) in found.items() if days
    }


def _events(engine: sa.Engine, days: int, most: int) -> int:
    query = sa.text(_OLD_EVENTS)
    values = {"days": days, "most": most, "ended": list(_ENDED), "kept": list(_KEPT_EVENTS)}
    remove = sa.text(f"delete from public.event_logs e where run_id = any(:ids) and {_DISPENSABLE}")
    return _in_steps(
        engine,
        query,
        values,
        lambda db, ids: _execute(db, remove, ids=ids, kept=list(_KEPT_EVENTS)),
    )


def _ticks(engine: sa.Engine, days: int, most: int) -> int:
    with engine.begin() as db:
        return int(db.execute(sa.text(_OLD_TICKS), {"days": days, "most": most}).rowcount)


def _logs(engine: sa.Engine, days: int, most: int) -> int:
    query = sa.text(_OLD_RUNS.format(more=_HAS_LOG))
    remove = sa.text("delete from aiia.log_lines where number = any(:ids)")
    values = {"days": days, "most": most}
    return _in_steps(engine, query, values, lambda db, ids: _execute(db, remove, ids=ids))


def _job_runs(engine: sa.Engine, days: int, most: int) -> int:
    query = sa.text(_OLD_RUNS.format(more=""))
    return _in_steps(engine, query, {"days": days, "most": most}, _forget)


def _forget(db: sa.Connection, numbers: Sequence[object]) -> None:
    """Remove job runs, and the Dagster runs that were their attempts."""
    runs = sa.text(
        "select run_id from public.runs r where status = any(:ended) and run_id in"
        f" (select run_id from aiia.attempts where number = any(:ids)) and not {_GOING_ON}"
    )
    values = {"ids": numbers, "ended": list(_ENDED), "final": _final()}
    run_ids = list(db.execute(runs, values).scalars())
    for part in _PARTS:
        _execute(db, sa.text(f"delete from aiia.{part} where number = any(:ids)"), ids=numbers)
    for part in _PARTS_OF_DAGSTER:
        _execute(db, sa.text(f"delete from public.{part} where run_id = any(:ids)"), ids=run_ids)


def _in_steps(
    engine: sa.Engine,
    query: sa.TextClause,
    values: Mapping[str, object],
    remove: Callable[[sa.Connection, Sequence[object]], None],
) -> int:
    with engine.connect() as db:
        found = list(db.execute(query, {**values, "final": _final()}).scalars())
    end, count = time.monotonic() + _WITHIN, 0
    for some in _portions(found):
        with engine.begin() as db:
            remove(db, some)
        count += len(some)
        if time.monotonic() > end:
            break
    return count


def _portions(found: Sequence[object]) -> Iterator[Sequence[object]]:
    for start in range(0, len(found), _AT_ONCE):
        yield found[start : start + _AT_ONCE]


def _execute(db: sa.Connection, statement: sa.TextClause, **values: object) -> None:
    db.execute(statement, values)


def _final() -> list[str]:
    return [state.value for state in FINAL]
