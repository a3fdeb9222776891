"""Which job runs a Dagster run stands for: one for each connector whose streams it refreshes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from dagster import DagsterRun

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import read_connector
from aiia_pipelines.jobs.retry import LIFETIME
from aiia_pipelines.jobs.run import PRIORITIES, SYSTEM, JobType, NewJobRun, Trigger
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.job_board import settings

_WORDS = {str(number): word for word, number in PRIORITIES.items()}
JOB_PREFIX = "sync__"
TEST_JOB = "connection_test"
# The jobs of the system itself bear the names of their types.
SYSTEM_JOBS = frozenset(kind.value for kind in SYSTEM)

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
    if run.job_name == TEST_JOB:
        return [_test(run, str(run.run_config.get("connector", "")))]
    if run.job_name in SYSTEM_JOBS:
        return [_system(run)]
    found = []
    for name, streams in _selected(run).items():
        request = _request(run, name, streams, parents.get(name))
        if request is not None:
            found.append(request)
    return found


def _test(run: DagsterRun, name: str) -> NewJobRun:
    """Ask for a Connection Test; that there is no such connector, the run itself tells."""
    trigger, by = _trigger(run)
    request = NewJobRun(
        connector=name,
        title=name,
        streams=(),
        type=JobType.CONNECTION_TEST,
        trigger=trigger,
        triggered_by=by,
    )
    try:
        connector = read_connector(settings().connectors, name)
    except (ConfigInvalid, UnknownConnector):
        return request
    return replace(
        request, title=connector.title, priority=connector.priority, config=connector.public()
    )


def _system(run: DagsterRun) -> NewJobRun:
    """Ask for a job of the system itself, which concerns no connector."""
    trigger, by = _trigger(run)
    return NewJobRun(
        connector="",
        title="this installation",
        streams=(),
        type=JobType(run.job_name),
        trigger=trigger,
        triggered_by=by,
        priority="low",
    )


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


def _request(
    run: DagsterRun, name: str, streams: list[str], parent: int | None
) -> NewJobRun | None:
    trigger, by = _trigger(run)
    retry_of = run.tags.get(tags.RETRY_OF) if run.parent_run_id is None else None
    request = NewJobRun(
        connector=name,
        title=name,
        streams=tuple(streams),
        type=tags.type_of(run.tags),
        full_read=tags.is_full(run.tags),
        trigger=Trigger.RETRY if parent else trigger,
        triggered_by=by,
        retry_of=parent or (int(retry_of) if retry_of else None),
        tick=tags.tick_of(run.tags) if run.parent_run_id is None else None,
    )
    try:
        connector = read_connector(settings().connectors, name)
    except UnknownConnector:
        return None  # somebody else's asset
    except ConfigInvalid:
        return request  # broken since it was loaded: the run itself tells what is wrong
    known = [stream.name for stream in connector.streams]
    if not set(streams) <= set(known):
        return None
    due_at, expires_at = _when(connector, request.type, datetime.now(UTC))
    return replace(
        request,
        title=connector.title,
        streams=tuple(stream for stream in known if not streams or stream in streams),
        priority=_WORDS.get(run.tags.get("dagster/priority", ""), connector.priority),
        config=connector.public(),
        due_at=due_at,
        expires_at=expires_at,
    )


def _when(
    connector: Connector, kind: JobType, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Say when a run may begin, if not at once, and until when it is tried."""
    opening = connector.opening
    if kind is not JobType.SYNC:
        return None, None
    if connector.retry.policy == "fire_and_forget":
        return None, now + LIFETIME
    due_at = None if opening.is_open(now) else opening.next_opening(now) or now
    return due_at, opening.ends_at


def _trigger(run: DagsterRun) -> tuple[Trigger, str]:
    if run.parent_run_id is None and tags.TRIGGER in run.tags:
        return Trigger(run.tags[tags.TRIGGER]), run.tags.get(tags.TRIGGERED_BY, "")
    for tag, trigger in _TRIGGERS:
        if tag in run.tags:
            return trigger, run.tags[tag]
    return Trigger.MANUAL, run.tags.get("user", "Dagster")
