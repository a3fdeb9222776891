"""Which job runs a Dagster run stands for: one for each connector whose streams it refreshes."""

from collections import defaultdict
from collections.abc import Mapping

from dagster import DagsterRun

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.folder import read_folder
from aiia_pipelines.jobs.run import NewJobRun, Trigger
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.job_board import settings

JOB_PREFIX = "sync__"

# The first tag that a run bears tells what made it.
_TRIGGERS = (
    ("dagster/backfill", Trigger.BACKFILL),
    ("dagster/schedule_name", Trigger.SCHEDULE),
    ("dagster/sensor_name", Trigger.SENSOR),
    ("dagster/from_automation_condition", Trigger.SENSOR),
)


def requests_of(run: DagsterRun, parents: Mapping[str, int]) -> list[NewJobRun]:
    """List the job runs of a new Dagster run; `parents` are those of the run it repeats.

    Runs of assets that belong to no connector of this installation have none.
    """
    wanted = _selected(run)
    if not wanted:
        return []
    known = read_folder(settings().connectors).connectors
    return [
        _request(run, known[name], streams, parents.get(name))
        for name, streams in wanted.items()
        if name in known and _are_streams(known[name], streams)
    ]


def _selected(run: DagsterRun) -> dict[str, list[str]]:
    """Give connector → streams; no stream stands for all of them."""
    if run.asset_selection:
        found: dict[str, list[str]] = defaultdict(list)
        for key in sorted(run.asset_selection):
            if len(key.path) == 2:
                found[key.path[0]].append(key.path[1])
        return found
    if run.job_name.startswith(JOB_PREFIX):
        return {run.job_name.removeprefix(JOB_PREFIX): []}
    return {}


def _are_streams(connector: Connector, streams: list[str]) -> bool:
    return set(streams) <= {stream.name for stream in connector.streams}


def _request(
    run: DagsterRun, connector: Connector, streams: list[str], parent: int | None
) -> NewJobRun:
    trigger, by = _trigger(run)
    retry_of = run.tags.get(tags.RETRY_OF) if run.parent_run_id is None else None
    return NewJobRun(
        connector=connector.name,
        title=connector.title,
        streams=tuple(s.name for s in connector.streams if not streams or s.name in streams),
        trigger=Trigger.RETRY if parent else trigger,
        triggered_by=by,
        retry_of=parent or (int(retry_of) if retry_of else None),
        priority=connector.priority,
        config=connector.public(),
    )


def _trigger(run: DagsterRun) -> tuple[Trigger, str]:
    if run.parent_run_id is None and tags.TRIGGER in run.tags:
        return Trigger(run.tags[tags.TRIGGER]), run.tags.get(tags.TRIGGERED_BY, "")
    for tag, trigger in _TRIGGERS:
        if tag in run.tags:
            return trigger, run.tags[tag]
    return Trigger.MANUAL, run.tags.get("user", "Dagster")
