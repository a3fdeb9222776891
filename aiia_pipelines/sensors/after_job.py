"""Starts a connector when those that it comes after have been synced."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from aiia_pipelines.config.folder import Folder
from aiia_pipelines.config.triggers import link_mistakes
from aiia_pipelines.jobs.completions import Completion, last_completions
from aiia_pipelines.jobs.run import Trigger
from aiia_pipelines.resources import tags
from aiia_pipelines.resources.requests import JOB_PREFIX
from aiia_pipelines.sensors.history import history

# Each look costs the daemon and the code server some 70 ms of CPU together, whatever it finds.
INTERVAL = 10  # seconds

# By connector, then by the one it comes after: the last sync that it was started for.
Used = dict[str, dict[str, Completion]]


def build(
    folder: Folder, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """Make the sensor; none when no connector comes after another."""
    links = {name: one.triggers.after for name, one in folder.connectors.items()}
    links = {name: before for name, before in links.items() if before}
    if not links:
        return []
    wrong = link_mistakes(links, folder.names)
    sound = {name: before for name, before in links.items() if name not in wrong}
    told = [f"{name} is not started: {mistakes[0][1]}" for name, mistakes in wrong.items()]
    # What ended before these connectors were loaded is history, and starts nothing.
    loaded_at = Completion(datetime.now(UTC).timestamp(), 0)

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with history() as engine:
            last = last_completions(engine, sorted({b for each in sound.values() for b in each}))
        before = read(context.cursor)
        used = {
            name: {other: before.get(name, {}).get(other, loaded_at) for other in others}
            for name, others in sound.items()
        }
        requests = due(used, last)
        reason = "; ".join(told) or "No sync has ended that another connector waits for."
        return dg.SensorResult(
            run_requests=requests, skip_reason=None if requests else reason, cursor=written(used)
        )

    return [
        dg.SensorDefinition(
            name="after_job",
            evaluation_fn=evaluate,
            jobs=[jobs[name] for name in links],
            minimum_interval_seconds=INTERVAL,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Starts connectors after those that their files name under triggers.after.",
        )
    ]


def due(used: Used, last: Mapping[str, Completion]) -> list[dg.RunRequest]:
    """Ask for the connectors of whose predecessors each has completed since, and note it in `used`.

    Syncs of one predecessor that end between two looks start one run: it reads what all of them left.
    """
    requests = []
    for name, before in used.items():
        if all(other in last and last[other] > than for other, than in before.items()):
            used[name] = {other: last[other] for other in before}
            requests.append(_request(name, used[name]))
    return requests


def _request(name: str, after: Mapping[str, Completion]) -> dg.RunRequest:
    numbers = [f"#{one.number}" for one in after.values()]
    by = ", ".join(f"#{one.number} ({other})" for other, one in after.items())
    return dg.RunRequest(
        run_key=f"{name} after {' '.join(numbers)}",
        job_name=f"{JOB_PREFIX}{name}",
        tags={tags.TRIGGER: Trigger.AFTER_JOB.value, tags.TRIGGERED_BY: by},
    )


def read(cursor: str | None) -> Used:
    """Read the sensor's cursor."""
    given: dict[str, dict[str, Sequence[float]]] = json.loads(cursor or "{}")
    return {
        name: {other: Completion(at, int(number)) for other, (at, number) in before.items()}
        for name, before in given.items()
    }


def written(used: Used) -> str:
    """Write the sensor's cursor."""
    return json.dumps(
        {
            name: {other: (one.at, one.number) for other, one in before.items()}
            for name, before in used.items()
        }
    )
