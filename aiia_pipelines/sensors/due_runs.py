"""Starts what waited for its time: the next attempt of a job run, one whose window opens, one that goes on after a pause."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import read_connector
from aiia_pipelines.jobs import attempts
from aiia_pipelines.jobs.attempts import Due
from aiia_pipelines.jobs.run import PRIORITIES, JobType
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.job_board import settings
from aiia_pipelines.resources.requests import JOB_PREFIX

INTERVAL = 10  # seconds: each look costs an idle installation a tenth of a second of CPU


def build(
    jobs: Mapping[str, UnresolvedAssetJobDefinition], streams: Mapping[str, frozenset[str]]
) -> dg.SensorDefinition:
    """Make the sensor that may start these jobs; both are by connector."""

    @dg.sensor(
        name="due_runs",
        jobs=list(jobs.values()),
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the next attempt of job runs that wait for their time.",
    )
    def due_runs() -> Iterator[dg.RunRequest | dg.SkipReason]:
        with closing(JobStore.open(str(settings().database_url))) as store:
            yield from launches(store, streams, datetime.now(UTC))

    return due_runs


def launches(
    store: JobStore, known: Mapping[str, frozenset[str]], now: datetime
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for a run of each job run that is due; one that is asked for twice is started once."""
    expired = attempts.expire(store)
    asked = [
        request for due in attempts.due(store) if (request := _request(store, due, known, now))
    ]
    yield from asked
    if not asked:
        yield dg.SkipReason(_told(expired, [due.number for due in attempts.due(store)]))


def _told(expired: Sequence[int], waiting: Sequence[int]) -> str:
    if expired:
        return f"Expired: {expired}"
    if waiting:
        # Its file cannot be read, or has streams that Dagster does not know yet.
        return f"Waiting for their files, or until these are loaded again: {waiting}"
    return "Nothing is due."


def _request(
    store: JobStore, due: Due, known: Mapping[str, frozenset[str]], now: datetime
) -> dg.RunRequest | None:
    try:
        connector = read_connector(settings().connectors, due.connector)
    except ConfigInvalid:
        return None  # it waits until the file is mended
    except UnknownConnector:
        attempts.give_up(store, due.number, f"There is no connector {due.connector} any more.")
        return None
    if not connector.opening.is_open(now):
        opens = connector.opening.next_opening(now)
        if opens is not None:
            attempts.postpone(store, due.number, opens)
        else:
            attempts.give_up(store, due.number, "The window of the connector does not open again.")
        return None
    left = [stream for stream in due.streams if stream in {s.name for s in connector.streams}]
    if due.streams and not left:
        attempts.give_up(store, due.number, "Its file names none of the streams that were left.")
        return None
    if not set(left) <= known.get(due.connector, frozenset()):
        return None  # Dagster knows these assets once the code location is loaded again
    return dg.RunRequest(
        # The same request, seen again after a crash of the daemon, is the same run.
        run_key=f"{due.number}:{due.attempt}",
        job_name=f"{JOB_PREFIX}{due.connector}",
        asset_selection=[dg.AssetKey([due.connector, stream]) for stream in left] or None,
        tags=_tags(due),
    )


def _tags(due: Due) -> dict[str, str]:
    wish = {tags.FULL: due.row.full_read, tags.DRY_RUN: due.row.type == JobType.DRY_RUN}
    return {
        tags.ATTEMPT_OF: str(due.number),
        "dagster/priority": str(PRIORITIES.get(due.row.priority, 0)),
        **{tag: tags.YES for tag, wanted in wish.items() if wanted},
    }
